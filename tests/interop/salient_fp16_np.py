"""Does the study of salient channels once more, in NumPy: rounding to nearest with a few input channels
of each Linear left in float16 (Lin et al., "AWQ", arXiv:2306.00978, section 3.1 and table 1).

A group is Linears that read the same input; weights are [out, in].
"""

import numpy as np

import llama_np
import quantize_np
import statistics_np

CHOICES = ("none", "weight", "random", "activation")
# What makes a Linear's random choice its own: block * 7 + its place here.
LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def salient_channels(choice, weight, mean_abs, share, seed=0, linear=0):
    """Returns the channels that stay, ascending: the largest by mean |x| or by column norm, or those with
    the smallest hash."""
    columns = weight.shape[1]
    count = max(1, int(np.rint(share * columns))) if share > 0 else 0
    if choice == "none":
        count, order = 0, np.arange(columns)
    elif choice == "activation":
        order = np.argsort(-mean_abs, kind="stable")
    elif choice == "weight":
        order = np.argsort(-np.square(weight.astype(np.float64)).sum(0), kind="stable")
    else:
        hashes = [statistics_np.sample_hash(seed, linear, j) for j in range(columns)]
        order = np.array(sorted(range(columns), key=hashes.__getitem__))
    return np.sort(order[:count])


def round_keeping(weight, kept, bits, group_size):
    """W' [out, in]: ranges of what is left of each group, `kept` columns in float16."""
    left = np.ones(weight.shape[1], bool)
    left[kept] = False
    size = weight.shape[1] if group_size == -1 else group_size
    grouped = weight.reshape(len(weight), -1, size)
    mask = left.reshape(1, -1, size)
    low = np.where(mask, grouped, np.inf).min(-1)
    high = np.where(mask, grouped, -np.inf).max(-1)
    scale, zero = quantize_np.fit_range(low.clip(max=0), high.clip(min=0), bits)
    codes = quantize_np.nearest_codes(grouped, scale, zero, bits)
    rounded = (scale[..., None] * (codes - zero[..., None])).reshape(weight.shape)
    exact = weight.astype(np.float16).astype(np.float32)
    return np.where(left, rounded, exact).astype(np.float32)


def study(model, calibration, evaluation, share=0.01, bits=3, group_size=128, seed=0):
    """Returns {"source": score, choice: score with relative_error} with the scores of llama_np.compare.
    Groups whose input the group size does not divide are left alone."""
    replaced = {choice: {} for choice in CHOICES}
    errors = {choice: [] for choice in CHOICES}
    for layer, inputs in llama_np.group_inputs(model, calibration):
        for group, linears in llama_np.GROUPS.items():
            statistics = quantize_np.Statistics.of(inputs[group])
            columns = len(statistics.mean_abs)
            if columns % (columns if group_size == -1 else group_size):
                continue
            lost, energy = dict.fromkeys(CHOICES, 0.0), 0.0
            for linear in linears:
                weight = model.weight(layer, linear)
                energy += quantize_np.quadratic_loss(weight, statistics.gram)
                number = layer * len(LINEARS) + LINEARS.index(linear)
                for choice in CHOICES:
                    kept = salient_channels(choice, weight, statistics.mean_abs, share, seed,
                                            number)
                    rounded = round_keeping(weight, kept, bits, group_size)
                    lost[choice] += quantize_np.quadratic_loss(rounded - weight, statistics.gram)
                    replaced[choice][f"model.layers.{layer}.{linear}.weight"] = rounded
            for choice in CHOICES:
                errors[choice].append(lost[choice] / energy)
    models = [model, *(model.with_tensors(replaced[choice]) for choice in CHOICES)]
    scores = dict(zip(("source", *CHOICES), llama_np.compare(models, evaluation)))
    for choice in CHOICES:
        scores[choice]["relative_error"] = float(np.mean(errors[choice]))
    return scores
