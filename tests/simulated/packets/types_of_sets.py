"""Types of sets and maps, and their elements, as values."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from packets.parsing import verdict
from packets.reading import Reading, read_term
from packets.values import UnknownError, value

#: Whose names in types there are, by the kind.
_TYPES = {
    "ipv4_addr": "4",
    "ipv6_addr": "6",
    "inet_service": "port",
    "inet_proto": "protocol",
    "ifname": "name",
    "ether_addr": "mac",
    "mark": "mark",
}


Kinds = tuple[str, ...]


@lru_cache(maxsize=4096)
def set_type(text: str) -> tuple[Kinds, Kinds]:
    """`type ...` or `typeof ...`: the kinds of a key, and of what it leads to (none: it is a set)."""
    word, _, rest = text.strip().partition(" ")
    key, _, to = rest.partition(" : ")
    if word == "type":
        return _typed(key, text), _typed(to, text) if to else ()
    if word != "typeof":
        raise UnknownError(f"{text} is no type")
    if not to:
        return _typeof(key), ()
    return _typeof(key), ("verdict",) if to.strip() == "verdict" else _typeof(to)


def _typed(text: str, whole: str) -> Kinds:
    if text.strip() == "verdict":
        return ("verdict",)
    found = [_TYPES.get(each.strip()) for each in text.split(" . ")]
    if None in found:
        raise UnknownError(f"{whole}: a type is not known")
    return tuple(filter(None, found))


def _typeof(text: str) -> Kinds:
    words = Reading(text)
    key = _key_of_type(words)
    if words.peek():
        raise words.unknown(words.peek())
    return key


def _key_of_type(words: Reading) -> Kinds:
    kinds = [read_term(words).kind]
    while words.take("."):
        kinds.append(read_term(words).kind)
    return tuple(kinds)


@lru_cache(maxsize=1 << 17)
def key_of(kinds: Kinds, text: str) -> Any:
    """An element's key: one value, or a tuple of several."""
    if len(kinds) == 1:
        return value(kinds[0], text)
    parts = text.split(" . ")
    if len(parts) != len(kinds):
        raise UnknownError(f"{text} has {len(parts)} parts, not {len(kinds)}")
    return tuple(map(value, kinds, parts))


@lru_cache(maxsize=1 << 17)
def led_to(kinds: Kinds, text: str) -> Any:
    """What a map's element leads to."""
    if kinds == ("verdict",):
        return verdict(Reading(text))
    return key_of(kinds, text)
