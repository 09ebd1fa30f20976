#!/usr/bin/env python3
"""Quantizes a Llama through QuantizeTensors, as a program with a framework of its own would.

The framework is NumPy: this program runs the model on calibration tokens block by block, streams
each group's weights and activations to a Salient server, folds the returned scales into the
checkpoint, writes an AWQ gemm directory, reads that back with a reader of its own and prints what
the quantization cost.

    llama.py --model DIR --calibration TOKENS --evaluation TOKENS --server ADDR --output DIR
    llama.py --model DIR --calibration TOKENS --capture ACTIVATIONS    (no server: files for
                                                                        `salient tensors`)
"""

import argparse
import json
import os
import shutil
import sys
import threading
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import checkpoint_np  # noqa: E402
import llama_np  # noqa: E402
import quantize_np  # noqa: E402
import safetensors_np  # noqa: E402

# Arguments of salient_client.options.
METHODS = {
    "rtn": {"scale": "none", "range": "minmax", "rounding": "nearest"},
    "awq": {"range": "minmax", "rounding": "nearest"},
    "awq+clip": {"rounding": "nearest"},
    "block128-rounding": {"block": {"width": 128, "descent_sweeps": 0, "refits": 0}},
    "block128": {"block": {"width": 128}},
    "block256": {"block": {"width": 256}},
}
ROWS_PER_BATCH = 8  # calibration rows that the model runs on at a time
# s of a group goes into the rows of this Linear of the same block.
FOLDED_INTO = {"o": ("qkv", "self_attn.v_proj"), "down": ("gate_up", "mlp.up_proj")}
NORMS = {"qkv": "input_layernorm", "gate_up": "post_attention_layernorm"}


def group_name(layer, group):
    return f"model.layers.{layer}.{group}"


def module(layer, linear):
    return f"model.layers.{layer}.{linear}"


def tied_heads(model):
    """(head_dim, query heads per kv head): s of o_proj must fit the outputs of v_proj."""
    return (model.head_dim, model.heads // model.kv_heads)


def v_proj_rows(model, s):
    """s of o_proj as a factor of each row of v_proj."""
    heads = s.reshape(model.kv_heads, -1, model.head_dim)
    if (heads != heads[:, :1]).any():
        raise ValueError("s of o_proj differs between query heads that read one kv head")
    return heads[:, 0].reshape(-1)


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


def quantizable(model, layer, group, group_size):
    """Whether the AWQ gemm format holds every Linear of a group."""
    shapes = [model.weight(layer, linear).shape for linear in llama_np.GROUPS[group]]
    return all(out % 8 == 0 and columns % group_size == 0 for out, columns in shapes)


def quantizable_groups(model, group_size):
    return [
        (layer, group)
        for layer in range(model.layers)
        for group in llama_np.GROUPS
        if quantizable(model, layer, group, group_size)
    ]


def run_block(model, layer, hidden):
    """(hidden states leaving a block, {group: its input}), a few rows at a time."""
    parts, leaving = {group: [] for group in llama_np.GROUPS}, []
    for start in range(0, len(hidden), ROWS_PER_BATCH):
        part = hidden[start : start + ROWS_PER_BATCH]
        leaving.append(model.block(layer, part, lambda group, x: parts[group].append(x)))
    return np.concatenate(leaving), {g: np.concatenate(x) for g, x in parts.items()}


class Caller:
    """One QuantizeTensors call over a whole model.

    o_proj and down_proj of a block go first: their scales are folded into the rows of v_proj and
    up_proj, which are quantized themselves and must be folded before. The writer has the next
    block's o_proj and down_proj sent by the time it needs those scales.
    """

    def __init__(self, model, source, tokens, group_size, activation_dtype):
        self.model = model
        self.source = source  # tensors in their stored dtype
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
        """{linear: factor of each row} of a block, once its o_proj and down_proj are done."""
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
        """{group name: GroupResult}. Results are read on this thread."""
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


def write_awq(directory, model_dir, model, source, results, group_size):
    """The AWQ gemm directory: packed Linears, folded norms, everything else as it was."""
    tensors = {}
    skipped = []
    packed = {}
    for result in results.values():
        packed.update(result.tensors)
    for name, array in source.items():
        linear = name.removesuffix(".weight")
        if linear + ".qweight" in packed:
            continue
        if ".layers." in name and linear.endswith("_proj"):
            skipped.append(linear)
        tensors[name] = array
    for layer in range(model.layers):
        folds = {}
        for group, (reader, linear) in FOLDED_INTO.items():
            result = results.get(group_name(layer, group))
            # A folded Linear that is quantized was folded before it was sent.
            if result and group_name(layer, reader) not in results:
                s = result.scales
                folds[module(layer, linear)] = v_proj_rows(model, s) if group == "o" else s
        for linear, factor in folds.items():
            weight = source[linear + ".weight"].astype(np.float32)
            tensors[linear + ".weight"] = weight / factor[:, None]
        for group, norm in NORMS.items():
            result = results.get(group_name(layer, group))
            if result:
                name = f"{module(layer, norm)}.weight"
                tensors[name] = source[name].astype(np.float32) / result.scales
    tensors = {name: array.astype(np.float16) for name, array in tensors.items()}

    os.makedirs(directory)
    for file in os.listdir(model_dir):
        replaced = file.endswith((".safetensors", ".safetensors.index.json"))
        if not replaced and file not in ("config.json", "README.md"):
            shutil.copyfile(os.path.join(model_dir, file), os.path.join(directory, file))
    safetensors_np.write(os.path.join(directory, "model.safetensors"), {**tensors, **packed})
    config = llama_np.read_config(model_dir)
    config["torch_dtype"] = "float16"
    config["quantization_config"] = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": group_size,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": sorted(skipped) or None,
    }
    with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
        file.write("\n")


def effective_weights(model, written, results):
    """{(layer, group): [weight]}: the written Linears as they act on the source's activations.

    Undoes every fold as it was stored, so that W' x is comparable with W x.
    """
    effective = {}
    for layer in range(model.layers):
        rows = {}
        for group, (_, linear) in FOLDED_INTO.items():
            result = results.get(group_name(layer, group))
            if result:
                s = result.scales
                rows[linear] = v_proj_rows(model, s) if group == "o" else s
        for group, linears in llama_np.GROUPS.items():
            result = results.get(group_name(layer, group))
            if not result:
                continue
            if group in NORMS:
                name = f"{module(layer, NORMS[group])}.weight"
                before, after = model.tensors[name], written.tensors[name]
                s = np.where(before == 0, 1, before) / np.where(before == 0, 1, after)
            else:
                s = result.scales
            effective[layer, group] = [
                written.weight(layer, linear) / s * rows.get(linear, np.ones(1))[:, None]
                for linear in linears
            ]
    return effective


def group_statistics(model, tokens):
    """{(layer, group): Statistics} of a model's activations."""
    statistics, hidden = {}, model.embed(tokens)
    for layer in range(model.layers):
        hidden, inputs = run_block(model, layer, hidden)
        for group, x in inputs.items():
            statistics[layer, group] = quantize_np.Statistics.of(x)
    return statistics


def relative_error(model, statistics, layer, group, weights):
    """tr(D H D^T) / tr(W H W^T), sums over the Linears of a group."""
    gram = statistics[layer, group].gram
    source = [model.weight(layer, linear) for linear in llama_np.GROUPS[group]]
    error = sum(quantize_np.quadratic_loss(q - w, gram) for q, w in zip(weights, source))
    return error / sum(quantize_np.quadratic_loss(w, gram) for w in source)


def round_to_nearest(model, group_size):
    """{(layer, group): [weight]} of plain RTN, for every group that can be quantized."""
    return {
        (layer, group): [
            quantize_np.round_nearest(w, 4, group_size).decode().astype(np.float32)
            for w in (model.weight(layer, linear) for linear in llama_np.GROUPS[group])
        ]
        for layer, group in quantizable_groups(model, group_size)
    }


def with_weights(model, weights):
    return model.with_tensors(
        {
            module(layer, linear) + ".weight": weight
            for (layer, group), members in weights.items()
            for linear, weight in zip(llama_np.GROUPS[group], members)
        }
    )


def report_row(report):
    candidate = report.candidate
    return {
        "name": report.name,
        "identity": candidate.identity,
        "weight_aware": candidate.weight_aware,
        "ratio": candidate.ratio,
        "loss_rtn": report.loss_rtn,
        "loss": report.loss,
        "relative_output_error": report.relative_output_error,
        "seconds": report.seconds,
        "notes": list(report.notes),
    }


def quantize(model_dir, tokens, address, output, method, *, group_size=128,
             activation_dtype="<f4", progress=lambda result: None):
    """Quantizes a checkpoint into an AWQ directory. ({group: GroupResult}, summary)."""
    from salient_client import connect, options

    model, source = llama_np.Llama.load(model_dir), llama_np.read_tensors(model_dir)
    if not quantizable_groups(model, group_size):
        raise ValueError(f"{model_dir}: no Linear that groups of {group_size} divide")
    start = time.monotonic()
    caller = Caller(model, source, tokens, group_size, activation_dtype)
    with connect(address) as channel:
        results = caller.run(
            channel, options(**METHODS[method], group_size=group_size), progress
        )
    seconds = time.monotonic() - start
    write_awq(output, model_dir, model, source, results, group_size)
    return results, {
        "method": method,
        "seconds": seconds,
        "groups": [report_row(result.report) for result in results.values()],
    }


class Judge:
    """What plain RTN and results are worth, on tokens of one's own."""

    def __init__(self, model_dir, calibration, evaluation, group_size=128, error_rows=16):
        self.model = llama_np.Llama.load(model_dir)
        self.evaluation = evaluation
        self.statistics = {"calibration": group_statistics(self.model, calibration)}
        if evaluation is not None:
            self.statistics["evaluation"] = group_statistics(self.model, evaluation[:error_rows])
        self.rtn = round_to_nearest(self.model, group_size)

    def errors(self, weights):
        """{token file: {group name: relative output error}}."""
        return {
            part: {
                group_name(*key): relative_error(self.model, statistics, *key, members)
                for key, members in weights.items()
            }
            for part, statistics in self.statistics.items()
        }

    def rtn_errors(self):
        return self.errors(self.rtn)

    def result_errors(self, written, results):
        """Of what was written: a Llama as read back, and the results it was made of."""
        return self.errors(effective_weights(self.model, written, results))

    def quality(self, written):
        """{name: perplexity and KL} of the source, plain RTN and {name: Llama}."""
        models = {"source": self.model, "rtn": with_weights(self.model, self.rtn), **written}
        return dict(zip(models, llama_np.compare(list(models.values()), self.evaluation)))


def mean(values):
    return float(np.mean(list(values)))


def capture(model_dir, tokens, path, activation_dtype):
    """Writes every group's activations [rows, tokens, in], and groups.json beside them."""
    model = llama_np.Llama.load(model_dir)
    tensors, groups = {}, []
    hidden = model.embed(tokens)
    for layer in range(model.layers):
        hidden, inputs = run_block(model, layer, hidden)
        for group, linears in llama_np.GROUPS.items():
            name = group_name(layer, group)
            tensors[name] = inputs[group].astype(activation_dtype)
            entry = {
                "name": name,
                "linears": [module(layer, linear) for linear in linears],
                "input": name,
            }
            if group == "o":
                head_dim, shared = tied_heads(model)
                entry["tied_heads"] = {"head_dim": head_dim, "query_heads_per_kv_head": shared}
            groups.append(entry)
    safetensors_np.write(path, tensors)
    description = os.path.join(os.path.dirname(os.path.abspath(path)), "groups.json")
    with open(description, "w", encoding="utf-8") as file:
        json.dump(groups, file, indent=1)
        file.write("\n")
    return description


def read_tokens(path, rows):
    tokens = safetensors_np.read(path)["input_ids"]
    return tokens[:rows] if rows else tokens


def print_result(result):
    row = report_row(result.report)
    ratio = "identity" if row["identity"] else f"{row['ratio']:.2f}{' w' * row['weight_aware']}"
    print(
        f"{row['name']:24} {ratio:>9} {row['loss_rtn']:12.4e} {row['loss']:12.4e} "
        f"{row['relative_output_error']:9.6f} {row['seconds']:7.2f} s",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="Hugging Face checkpoint directory")
    parser.add_argument("--calibration", required=True, help="safetensors with input_ids")
    parser.add_argument("--rows", type=int, default=64, help="calibration rows; 0: all")
    parser.add_argument("--evaluation", help="safetensors with input_ids; none: no perplexity")
    parser.add_argument("--server", help="host:port of a salientd without TLS")
    parser.add_argument("--output", help="directory to write; must not exist")
    parser.add_argument("--method", choices=METHODS, default="block256")
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--activations", choices=("f32", "f16"), help="element type sent")
    parser.add_argument("--capture", metavar="FILE", help="only write the activations of groups")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()

    tokens = read_tokens(arguments.calibration, arguments.rows)
    dtype = "<f4" if arguments.activations == "f32" else "<f2"
    if arguments.capture:
        print(capture(arguments.model, tokens, arguments.capture, dtype))
        return
    if not arguments.server or not arguments.output:
        parser.error("--server and --output are required without --capture")
    if os.path.exists(arguments.output):
        parser.error(f"{arguments.output} exists")

    dtype = "<f2" if arguments.activations == "f16" else "<f4"
    progress = (lambda result: None) if arguments.json else print_result
    results, summary = quantize(
        arguments.model, tokens, arguments.server, arguments.output, arguments.method,
        group_size=arguments.group_size, activation_dtype=dtype, progress=progress,
    )
    evaluation = read_tokens(arguments.evaluation, 0) if arguments.evaluation else None
    judge = Judge(arguments.model, tokens, evaluation, arguments.group_size)
    written = checkpoint_np.read(arguments.output)
    rtn_errors, result_errors = judge.rtn_errors(), judge.result_errors(written, results)
    summary["relative_output_error"] = {
        part: {"rtn": mean(rtn_errors[part].values()), "result": mean(errors.values())}
        for part, errors in result_errors.items()
    }
    quality = judge.quality({"result": written}) if arguments.evaluation else {}
    summary.update(quality)
    if arguments.json:
        print(json.dumps(summary))
        return
    for part, errors in summary["relative_output_error"].items():
        print(f"relative output error on {part:11}: rtn {errors['rtn']:.5f}, "
              f"result {errors['result']:.5f}")
    for name, value in quality.items():
        print(f"perplexity {name:6}: {value['perplexity']:8.4f}   KL {value['kl']:.5f}")
    print(f"{len(results)} groups in {summary['seconds']:.1f} s -> {arguments.output}")


if __name__ == "__main__":
    main()
