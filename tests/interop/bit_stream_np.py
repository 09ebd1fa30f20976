"""Codes of any width that lie in 32-bit words as a stream of bits, with NumPy.

Code i of a row stands in its bits b i to b i + b - 1, counted from the lowest bit of the first
word. Widths that divide 32 never cross a word; 32 codes of 3 bits fill three.
"""

import numpy as np


def unpack(words, bits):
    """Codes [rows, columns * 32 // bits] of int32 words [rows, columns]."""
    octets = np.ascontiguousarray(words, "<i4").view(np.uint8).reshape(len(words), -1)
    stream = np.unpackbits(octets, axis=1, bitorder="little")
    count = stream.shape[1] // bits
    codes = stream[:, : count * bits].reshape(len(words), count, bits).astype(np.int32)
    return (codes << np.arange(bits, dtype=np.int32)).sum(-1, dtype=np.int32)
