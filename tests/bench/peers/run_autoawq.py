"""Quantizes MODEL into OUT with AutoAWQ: 4 bit, group 128, asymmetric, on the CPU in float32.

    python run_autoawq.py MODEL OUT TOKENS ROWS

Its scale search keeps references to the weights it is about to scale and restores them afterwards.
On a CPU these are the weights themselves, so nothing is restored and the result is worthless. It is
made to keep copies here, which is what it does on a GPU.
"""

import inspect
import sys
import textwrap

import awq.quantize.quantizer as quantizer
import torch
from awq import AutoAWQForCausalLM
from safetensors.numpy import load_file


def keep_copies():
    method = quantizer.AwqQuantizer._compute_best_scale
    source = textwrap.dedent(inspect.getsource(method))
    if "v.cpu() for" not in source:
        sys.exit("run_autoawq.py: _compute_best_scale is not the one that was known to need repair")
    exec(source.replace("v.cpu() for", "v.cpu().clone() for"), quantizer.__dict__)
    quantizer.AwqQuantizer._compute_best_scale = quantizer.__dict__["_compute_best_scale"]


class TokenIds:
    """Stands in a tokenizer's place: the calibration is token ids already."""

    def encode(self, ids):
        return ids

    def save_pretrained(self, *_args, **_kwargs):
        pass


def main():
    model_path, out, tokens, rows = sys.argv[1:]
    torch.set_num_threads(2)
    keep_copies()
    ids = load_file(tokens)["input_ids"][: int(rows)]
    model = AutoAWQForCausalLM.from_pretrained(
        model_path, safetensors=True, device_map="cpu", torch_dtype=torch.float32)
    model.quantize(
        TokenIds(),
        quant_config={"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"},
        calib_data=[[int(token) for token in row] for row in ids],
        max_calib_samples=len(ids),
        max_calib_seq_len=ids.shape[1],
    )
    model.save_quantized(out)


main()
