"""Tells the perplexity of checkpoint directories in the real transformers on a CPU, over tokens 2..T of each
row; AWQ is read by gptqmodel, as transformers has it. Run by the interpreter that tests/tool_environment.sh
makes for transformers.

    transformers_perplexity.py TOKENS ROWS DIR...

Ends with one JSON object on standard output: {directory: {perplexity, linear}}, linear being the
class that holds q_proj of block 0, or what the family has in its place.
"""

import json
import math
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
# gptqmodel refuses machines with fewer than four processors, where it is slow, not wrong.
processors = os.cpu_count() or 1
os.cpu_count = lambda: max(4, processors)

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors import safe_open  # noqa: E402


def read_rows(tokens, rows):
    with safe_open(tokens, "np") as file:
        return torch.from_numpy(file.get_tensor("input_ids")[:rows].astype("int64"))


def perplexity(directory, ids):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, device_map="cpu"
    ).eval()
    loss = count = 0
    with torch.no_grad():
        for row in ids:
            log_p = torch.log_softmax(model(row[None]).logits[0, :-1].float(), -1)
            loss -= float(log_p.gather(-1, row[1:, None]).double().sum())
            count += len(row) - 1
    linear = next(type(module).__name__ for name, module in model.named_modules()
                  if name.endswith(("q_proj", "qkv_proj", "in_proj")))
    return {"perplexity": math.exp(loss / count), "linear": linear}


def main():
    tokens, rows, *directories = sys.argv[1:]
    transformers.utils.logging.disable_progress_bar()
    ids = read_rows(tokens, int(rows))
    print(json.dumps({directory: perplexity(directory, ids) for directory in directories}),
          flush=True)


if __name__ == "__main__":
    main()
