"""Tells the perplexity of checkpoint directories in the real vLLM, over tokens 2..T of each row. Run by the
interpreter that tests/tool_environment.sh makes for vllm.

    vllm_perplexity.py TOKENS ROWS DTYPE DIR...     (float16 or bfloat16 for a quantized model)

Ends with one JSON object on standard output: {directory: perplexity}.
"""

import gc
import json
import math
import os
import sys

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # It counts GiB.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # Half of the time is the start of a process.
os.environ["HF_HUB_OFFLINE"] = "1"

import vllm
from safetensors import safe_open
from vllm.distributed import cleanup_dist_env_and_memory


def perplexity(directory, dtype, ids):
    engine = vllm.LLM(
        model=directory,
        dtype=dtype,
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=len(ids[0]) + 1,  # A token is always generated.
        max_num_seqs=8,
        disable_log_stats=True,
        hf_overrides={"max_position_embeddings": len(ids[0]) + 1},
    )
    # 0 alternatives: the log probability of the prompt's own token alone.
    sampling = vllm.SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
    done = engine.generate([{"prompt_token_ids": row} for row in ids], sampling, use_tqdm=False)
    loss = count = 0
    for row, output in zip(ids, done):
        for token, alternatives in zip(row[1:], output.prompt_logprobs[1:], strict=True):
            loss -= alternatives[token].logprob
            count += 1
    del engine
    gc.collect()
    cleanup_dist_env_and_memory()
    return math.exp(loss / count)


def main():
    tokens, rows, dtype, *directories = sys.argv[1:]
    with safe_open(tokens, "np") as file:
        ids = file.get_tensor("input_ids")[: int(rows)].tolist()
    print(json.dumps({directory: perplexity(directory, dtype, ids) for directory in directories}),
          flush=True)


if __name__ == "__main__":
    main()
