"""The kernel's jhash (include/linux/jhash.h), by which rules choose: Bob Jenkins' lookup3 of octets."""

from __future__ import annotations

_WORD = 0xFFFFFFFF


def _turned(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (32 - bits))) & _WORD


def jhash(octets: bytes, seed: int) -> int:
    """32 bits; as on a machine whose least octet comes first."""
    a = b = c = (0xDEADBEEF + len(octets) + seed) & _WORD
    while len(octets) > 12:
        a = (a + int.from_bytes(octets[0:4], "little")) & _WORD
        b = (b + int.from_bytes(octets[4:8], "little")) & _WORD
        c = (c + int.from_bytes(octets[8:12], "little")) & _WORD
        a = ((a - c) & _WORD) ^ _turned(c, 4)
        c = (c + b) & _WORD
        b = ((b - a) & _WORD) ^ _turned(a, 6)
        a = (a + c) & _WORD
        c = ((c - b) & _WORD) ^ _turned(b, 8)
        b = (b + a) & _WORD
        a = ((a - c) & _WORD) ^ _turned(c, 16)
        c = (c + b) & _WORD
        b = ((b - a) & _WORD) ^ _turned(a, 19)
        a = (a + c) & _WORD
        c = ((c - b) & _WORD) ^ _turned(b, 4)
        b = (b + a) & _WORD
        octets = octets[12:]
    if not octets:
        return c
    a = (a + int.from_bytes(octets[0:4], "little")) & _WORD
    b = (b + int.from_bytes(octets[4:8], "little")) & _WORD
    c = (c + int.from_bytes(octets[8:12], "little")) & _WORD
    c = ((c ^ b) - _turned(b, 14)) & _WORD
    a = ((a ^ c) - _turned(c, 11)) & _WORD
    b = ((b ^ a) - _turned(a, 25)) & _WORD
    c = ((c ^ b) - _turned(b, 16)) & _WORD
    a = ((a ^ c) - _turned(c, 4)) & _WORD
    b = ((b ^ a) - _turned(a, 14)) & _WORD
    return ((c ^ b) - _turned(b, 24)) & _WORD


def spread(octets: bytes, seed: int, size: int) -> int:
    """One of so many (nft_hash.c: reciprocal_scale)."""
    return (jhash(octets, seed) * size) >> 32
