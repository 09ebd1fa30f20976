"""Tells what the processor has, as an engine sees it."""

import pathlib

# PyTorch calls a processor AVX-512 that has all of these, and vLLM asks PyTorch which of its
# libraries to load.
AVX512 = ("avx512f", "avx512vl", "avx512bw", "avx512dq")


def flags(cpuinfo="/proc/cpuinfo"):
    """Returns the flags of the first processor that is listed; none on a machine that lists no flags."""
    for line in pathlib.Path(cpuinfo).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def why_no_4_bits_in_vllm(found):
    """Returns why vLLM cannot run weights of 4 bits on a processor with these flags; None if it can."""
    missing = [flag for flag in AVX512 if flag not in found]
    if not missing:
        return None
    return ("vLLM multiplies weights of 4 bits (cpu_gemm_wna16) with AVX-512 alone, and this "
            f"processor lacks {', '.join(missing)}")
