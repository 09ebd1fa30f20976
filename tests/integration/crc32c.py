"""Computes CRC-32C (Castagnoli) with NumPy: many lanes at once, joined at the end.

A checksum that begins at 0 is linear and does not see zeros in front. So the data is padded in
front, cut into lanes of equal length that run side by side, and neighbours are joined by advancing
the left one over the right one's length, which is a matrix over GF(2).
"""

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Its bits are reversed.
_LANES = 4096


def _byte_table():
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return table


_TABLE = _byte_table()


def _apply(matrix, states):
    """matrix[b] is what bit b becomes."""
    result = np.zeros_like(states)
    for bit in range(32):
        result ^= np.where(states >> np.uint32(bit) & np.uint32(1), matrix[bit], np.uint32(0))
    return result


def _zeros(count):
    """Returns the matrix of `count` zero bytes."""
    unit = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = _TABLE[unit & np.uint32(255)] ^ (unit >> np.uint32(8))
    result = unit
    while count:
        if count & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        count >>= 1
    return result


def crc32c(data):
    """Returns the CRC-32C of bytes."""
    values = np.frombuffer(data, np.uint8)
    if len(values) < 4:
        state = 0xFFFFFFFF
        for byte in data:
            state = int(_TABLE[(state ^ byte) & 0xFF]) ^ (state >> 8)
        return state ^ 0xFFFFFFFF
    lanes = _LANES if len(values) > _LANES else 1
    length = -(-len(values) // lanes)
    padded = np.zeros(lanes * length, np.uint8)
    padded[-len(values):] = values
    padded[len(padded) - len(values):][:4] ^= 0xFF  # This stands for beginning with all ones.
    columns = np.ascontiguousarray(padded.reshape(lanes, length).T).astype(np.uint32)
    states = np.zeros(lanes, np.uint32)
    for column in columns:
        states = _TABLE[(states ^ column) & np.uint32(255)] ^ (states >> np.uint32(8))
    advance = _zeros(length)
    while len(states) > 1:
        states = _apply(advance, states[0::2]) ^ states[1::2]
        advance = _apply(advance, advance)
    return int(states[0]) ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283
assert crc32c(bytes(32)) == 0x8A9136AA
