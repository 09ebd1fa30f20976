"""Tells what plain RTN and results are worth, from the weights that were written."""

import numpy as np

import llama_np
import quantize_np
from llama_groups import (FOLDED_INTO, NORMS, group_name, module, quantizable_groups, run_block,
                          v_proj_rows)


def mean(values):
    return float(np.mean(list(values)))


def effective_weights(model, written, results):
    """Returns {(layer, group): [weight]}: the written Linears as they act on the source's activations.

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
    """Returns {(layer, group): Statistics} of a model's activations."""
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
    """Returns {(layer, group): [weight]} of plain RTN, for every group that can be quantized."""
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


class Judge:
    """Tells what plain RTN and results are worth, on tokens of one's own."""

    def __init__(self, model_dir, calibration, evaluation, group_size=128, error_rows=16):
        self.model = llama_np.Llama.load(model_dir)
        self.evaluation = evaluation
        self.statistics = {"calibration": group_statistics(self.model, calibration)}
        if evaluation is not None:
            self.statistics["evaluation"] = group_statistics(self.model, evaluation[:error_rows])
        self.rtn = round_to_nearest(self.model, group_size)

    def errors(self, weights):
        """Returns {token file: {group name: relative output error}}."""
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
        """Returns the errors of what was written: a Llama as read back, and the results it was made of."""
        return self.errors(effective_weights(self.model, written, results))

    def quality(self, written):
        """Returns {name: perplexity and KL} of the source, plain RTN and {name: Llama}."""
        models = {"source": self.model, "rtn": with_weights(self.model, self.rtn), **written}
        return dict(zip(models, llama_np.compare(list(models.values()), self.evaluation)))
