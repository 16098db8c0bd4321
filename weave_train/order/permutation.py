"""Keyed permutations of [0, n) without tables: what shuffles row groups and rows."""

from __future__ import annotations

import functools
import hashlib
import math

__all__ = ["ORDER_VERSION", "order_key", "permute"]

ORDER_VERSION = 1
"""Changes whenever the same inputs would give other batches."""

_NUM_ROUNDS = 6
_MASK = (1 << 64) - 1


def permute(index: int, *, size: int, key: int) -> int:
    """Image of `index` under a keyed permutation of [0, size): a Feistel network with cycle walking.

    Args:
        index: In [0, size).
        size: At least 1.
        key: 64 bits; different keys give unrelated permutations.
    """
    if size == 1:
        return 0
    num_left = math.isqrt(size - 1) + 1
    num_right = -(-size // num_left)
    while True:
        left, right = divmod(index, num_right)
        for turn in range(0, _NUM_ROUNDS, 2):
            left = (left + _mix(key + turn, right)) % num_left
            right = (right + _mix(key + turn + 1, left)) % num_right
        index = left * num_right + right
        if index < size:
            return index


def _mix(key: int, value: int) -> int:
    """Splitmix64 of (key, value)."""
    bits = (key * 0xD1342543DE82EF95 + (value + 1) * 0x9E3779B97F4A7C15) & _MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


@functools.lru_cache(maxsize=65536)
def order_key(seed: int, epoch: int, role: str, lane: int = 0, window: int = 0) -> int:
    """64 bits that fix one shuffle; `role` says of what."""
    text = f"{ORDER_VERSION}/{seed}/{epoch}/{role}/{lane}/{window}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
