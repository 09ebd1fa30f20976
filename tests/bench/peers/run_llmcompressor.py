"""Quantizes MODEL into OUT with llm-compressor's AWQ: 4 bit, group 128, asymmetric, on the CPU.

    python run_llmcompressor.py MODEL OUT TOKENS ROWS

OUT holds the decoded weights as a plain F32 checkpoint, so that any reader can tell what they are
worth; packing them would not cost a second more.
"""

import json
import pathlib
import shutil
import sys

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from datasets import Dataset
from llmcompressor import oneshot
from safetensors.numpy import load_file
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

try:
    from llmcompressor.modifiers.awq import AWQModifier
except ImportError:
    from llmcompressor.modifiers.transform.awq import AWQModifier


def placeholder_tokenizer():
    """It insists on a tokenizer, although the calibration is token ids already."""
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="</s>")


def main():
    model_path, out, tokens, rows = sys.argv[1:]
    torch.set_num_threads(2)
    torch.Tensor.pin_memory = lambda self, *_args, **_kwargs: self  # It fails without a GPU.
    ids = load_file(tokens)["input_ids"][: int(rows)].astype("int64")
    dataset = Dataset.from_dict(
        {"input_ids": ids.tolist(), "attention_mask": [[1] * ids.shape[1]] * len(ids)})
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    weights = QuantizationArgs(
        num_bits=4, type="int", symmetric=False, group_size=128, strategy="group")
    scheme = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    oneshot(
        model=model,
        dataset=dataset,
        recipe=[AWQModifier(ignore=["lm_head"], config_groups=scheme)],
        max_seq_length=ids.shape[1],
        num_calibration_samples=len(ids),
        processor=placeholder_tokenizer(),
    )

    tied = model.config.tie_word_embeddings
    tensors = {}
    with torch.no_grad():
        for name, module in model.named_modules():
            for parameter, value in module.named_parameters(recurse=False):
                if parameter not in ("weight", "bias") or (tied and name == "lm_head"):
                    continue
                if parameter == "weight" and hasattr(module, "weight_scale"):
                    value = fake_quantize(
                        x=value,
                        scale=module.weight_scale,
                        zero_point=module.weight_zero_point,
                        args=module.quantization_scheme.weights,
                    )
                tensors[f"{name}.{parameter}"] = value.float().contiguous().clone()
    out = pathlib.Path(out)
    out.mkdir(parents=True)
    save_file(tensors, out / "model.safetensors")
    shutil.copy(pathlib.Path(model_path) / "config.json", out)
    config = json.loads((out / "config.json").read_text())
    config["torch_dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


main()
