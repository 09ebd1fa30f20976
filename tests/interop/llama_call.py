"""Makes one QuantizeTensors call over a whole Llama."""

import threading

import numpy as np

import llama_np
from llama_groups import (FOLDED_INTO, group_name, module, quantizable, run_block, tied_heads,
                          v_proj_rows)


class Scales:
    """Scales of finished groups: written by the reader of results, awaited by the writer."""

    def __init__(self):
        self._changed = threading.Condition()
        self._scales = {}
        self._closed = False

    def put(self, name, scale):
        with self._changed:
            self._scales[name] = scale
            self._changed.notify_all()

    def close(self):
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, name):
        with self._changed:
            self._changed.wait_for(lambda: self._closed or name in self._scales)
            if name not in self._scales:
                raise RuntimeError(f"the call ended before the result of {name}")
            return self._scales[name]


class Caller:
    """Makes one QuantizeTensors call over a whole model.

    o_proj and down_proj of a block go first: their scales are folded into the rows of v_proj and
    up_proj, which are quantized themselves and must be folded before. The writer has the next
    block's o_proj and down_proj sent by the time it needs those scales.
    """

    def __init__(self, model, source, tokens, group_size, activation_dtype):
        self.model = model
        self.source = source  # It has tensors in their stored dtype.
        self.tokens = tokens
        self.group_size = group_size
        self.activation_dtype = np.dtype(activation_dtype)
        self.scales = Scales()

    def _group(self, layer, group, activations, folds):
        from salient_client import Group

        linears = []
        for linear in llama_np.GROUPS[group]:
            weight = self.source[module(layer, linear) + ".weight"]
            if linear in folds:
                weight = weight.astype(np.float32) / folds[linear][:, None]
            linears.append((module(layer, linear), weight))
        return Group(
            name=group_name(layer, group),
            linears=linears,
            batches=((row, 0, values) for row, values in enumerate(activations)),
            activation_dtype=self.activation_dtype,
            tied_heads=tied_heads(self.model) if group == "o" else None,
        )

    def _folds(self, layer):
        """Returns {linear: factor of each row} of a block, once its o_proj and down_proj are done."""
        folds = {}
        for group, (_, linear) in FOLDED_INTO.items():
            if quantizable(self.model, layer, group, self.group_size):
                s = self.scales.wait(group_name(layer, group))
                folds[linear] = v_proj_rows(self.model, s) if group == "o" else s
        return folds

    def _second_half(self, layer, inputs):
        folds = self._folds(layer)
        for group in ("qkv", "gate_up"):
            if quantizable(self.model, layer, group, self.group_size):
                yield self._group(layer, group, inputs[group], folds)

    def groups(self):
        """Runs the model and yields its groups; advanced on the writer's thread."""
        hidden, waiting = self.model.embed(self.tokens), None
        for layer in range(self.model.layers):
            hidden, inputs = run_block(self.model, layer, hidden)
            for group in ("o", "down"):
                if quantizable(self.model, layer, group, self.group_size):
                    yield self._group(layer, group, inputs.pop(group), {})
            if waiting:
                yield from self._second_half(*waiting)
            waiting = (layer, {group: inputs[group] for group in ("qkv", "gate_up")})
        yield from self._second_half(*waiting)

    def run(self, channel, options, on_result=lambda result: None):
        """Returns {group name: GroupResult}. Results are read on this thread."""
        from salient_client import quantize_tensors

        results = {}
        try:
            for result in quantize_tensors(channel, options, self.groups()):
                results[result.report.name] = result
                self.scales.put(result.report.name, result.scales)
                on_result(result)
        finally:
            self.scales.close()
        return results
