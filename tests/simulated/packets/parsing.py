"""Rules of chains as values; what is not known is an UnknownError by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from packets import statements as s
from packets.packet import TCP
from packets.reading import Reading, read_key
from packets.terms import Key, Masked
from packets.values import BITS, UnknownError, seconds, span, value

_SIGNS = ("==", "!=", "<", ">", "<=", ">=")
_VERDICTS = {
    "accept": s.ACCEPT,
    "drop": s.DROP,
    "return": s.RETURN,
    "jump": s.JUMP,
    "goto": s.GOTO,
    "continue": s.CONTINUE,
}


@lru_cache(maxsize=1 << 16)
def rule(text: str) -> s.Rule:
    """A rule of a chain. Raises UnknownError."""
    words = Reading(text)
    parts: list[s.Part] = []
    while words.peek():
        parts.append(_part(words))
    if not parts:
        raise UnknownError("an empty rule")
    return s.Rule(text, tuple(parts))


def _part(words: Reading) -> s.Part:
    word = words.peek()
    if word in _VERDICTS:
        return verdict(words)
    if word in _STATEMENTS:
        words.next()
        return _STATEMENTS[word](words)
    writes = _writes(words)
    return writes if writes is not None else _comparison(words)


def verdict(words: Reading) -> s.Verdict:
    kind = _VERDICTS.get(word := words.next())
    if kind is None:
        raise words.unknown(word)
    return s.Verdict(kind, words.next() if kind in (s.JUMP, s.GOTO) else "")


# --- comparisons -----------------------------------------------------------------------------------------


def _comparison(words: Reading) -> s.Part:
    key = read_key(words)
    if words.take("&"):
        key = Key((Masked(key.terms[0], _bits(words, key.kinds[0])),))
    if words.take("vmap"):
        return s.VerdictMap(key, _held(words, key.kinds, ("verdict",)))
    sign = words.next() if words.peek() in _SIGNS else ""
    negated = sign == "!="
    if words.peek()[:1] in ("@", "{"):
        return s.In(key, _held(words, key.kinds, ()), negated)
    if len(key.kinds) != 1 or key.chance is not None:
        raise words.unknown("a comparison of several values with one")
    (term,), (kind,) = key.terms, key.kinds
    if sign in ("<", ">", "<=", ">="):
        return s.Compares(term, sign, value(kind, words.next()))
    if kind in BITS:
        bits = _bits(words, kind)
        return s.Equals(term, bits, negated) if sign == "==" or negated else s.HasBit(term, bits)
    text = words.next()
    ends = span(kind, text)
    if ends is not None:
        return s.Between(term, *ends, negated)
    if kind == "name" and text.endswith('*"'):
        return s.Begins(term, text.strip('"')[:-1], negated)
    return s.Equals(term, value(kind, text), negated)


def _bits(words: Reading, kind: str) -> int:
    """`a`, `a,b`, `a|b` or `(a|b)`; of a mask that is no list of bits the number."""
    inside = words.take("(")
    found: int = value(kind, words.next())
    while words.peek() in ("|", ","):
        words.next()
        found |= value(kind, words.next())
    if inside:
        words.want(")")
    return found


def _held(words: Reading, kinds: tuple[str, ...], to: tuple[str, ...]) -> s.Listed | str:
    """A set's name, or what stands in braces."""
    word = words.next()
    if word.startswith("@"):
        return word[1:]
    if word != "{":
        raise words.unknown(word)
    values: dict[Any, Any] = {}
    spans: list[tuple[int, int, Any]] = []
    while not words.take("}"):
        text = [words.next()]
        while words.take("."):
            text.append(words.next())
        ends = span(kinds[0], text[0]) if len(kinds) == 1 else None
        one = None if ends else tuple(map(value, kinds, text))
        led: Any = True
        if words.take(":"):
            led = verdict(words) if to == ("verdict",) else None
        if led is None or (to and led is True) or len(text) != len(kinds):
            raise words.unknown("an element")
        if ends is not None:
            spans.append((*ends, led))
        elif one is not None:
            values[one[0] if len(one) == 1 else one] = led
        words.take(",")
    return s.Listed(values, tuple(spans))


# --- statements ------------------------------------------------------------------------------------------


def _writes(words: Reading) -> s.Part | None:
    """`ip ttl set 3` and its like; None: it is none of these."""
    written = {
        ("meta", "pkttype", "set"): ("pkttype", "pkttype", 0, 0),
        ("meta", "mark", "set"): ("mark", "mark", 0, 0),
        ("ct", "mark", "set"): ("tracked mark", "mark", 0, 0),
        ("ip", "ttl", "set"): ("ttl", "number", 4, 0),
        ("ip6", "hoplimit", "set"): ("ttl", "number", 6, 0),
        ("ip", "saddr", "set"): ("source", "4", 4, 0),
        ("ip6", "saddr", "set"): ("source", "6", 6, 0),
    }
    found = written.get((words.peek(), words.peek(1), words.peek(2)))
    taken = 3
    if found is None:
        option = tuple(words.peek(each) for each in range(5))
        if option != ("tcp", "option", "maxseg", "size", "set"):
            return None
        found, taken = ("mss", "number", 0, TCP), 5
    for _ in range(taken):
        words.next()
    name, kind, version, protocol = found
    if kind == "mark" and words.peek() in ("meta", "ct"):
        return _marks(words, tracked=name != "mark")
    return s.Sets(name, value(kind, words.next()), version, protocol)


def _marks(words: Reading, *, tracked: bool) -> s.Part:
    """`meta mark & MASK | BITS`, each of both or none."""
    (of,) = read_key(words).terms
    if of.kind != "mark":
        raise words.unknown("a mark of something else")
    mask = value("mark", words.next()) if words.take("&") else 0xFFFFFFFF
    bits = value("mark", words.next()) if words.take("|") else 0
    return s.Marks(tracked, of, mask, bits)


def _translates(words: Reading, *, source: bool) -> s.Part:
    version = {"ip": 4, "ip6": 6}.get(words.peek(), 0)
    if version:
        words.next()
    words.want("to")
    target = _target(words, version)
    return s.Translates(version, target, source, source and words.take("fully-random"))


def _target(words: Reading, version: int) -> s.Target:
    found = re.fullmatch(r"\[?([\da-f.:]*?)\]?(?::(\d+))?", words.peek())
    bare = words.peek()
    if found is not None and (version == 4 or bare.startswith("[")):
        words.next()
        address, port = found.groups()
        fixed = (value(str(version), address), *([int(port)] if port else []))
        return s.Target(fixed)
    if re.fullmatch(r"[\da-f]*:[\da-f:.]*", bare):
        return s.Target((value("6", words.next()),))
    key = read_key(words)
    words.want("map")
    if words.take("{"):
        return s.Target(key=key, held=_slots(words, version))
    name = words.next()
    if not name.startswith("@"):
        raise words.unknown("a map in the rule")
    return s.Target(key=key, held=name[1:])


def _slots(words: Reading, version: int) -> s.Listed:
    """Numbers that lead to addresses."""
    found: dict[Any, Any] = {}
    while not words.take("}"):
        slot = words.number()
        words.want(":")
        found[slot] = value(str(version), words.next())
        words.take(",")
    return s.Listed(found)


def _reject(words: Reading) -> s.Part:
    if not words.take("with"):
        return s.Verdict(s.REJECT, "port-unreachable")
    how = words.want("tcp", "icmpx", "icmp", "icmpv6")
    if how == "tcp":
        return s.Verdict(s.REJECT, f"tcp {words.want('reset')}")
    return s.Verdict(s.REJECT, words.next())


def _duplicates(words: Reading) -> s.Part:
    words.want("to")
    target = _target(words, 0)
    words.want("device")
    return s.Duplicates(target, words.next().strip('"'))


def _counter(words: Reading) -> s.Part:
    if words.take("name"):
        return s.Counts(words.next().strip('"'))
    if words.take("packets"):
        words.number()
        words.want("bytes")
        words.number()
    return s.Counts()


def _log(words: Reading) -> s.Part:
    prefix, group = "", -1
    while words.peek() in ("prefix", "group", "snaplen"):
        match words.next():
            case "prefix":
                prefix = words.next().strip('"')
            case "group":
                group = words.number()
            case _:
                words.number()
    return s.Logs(prefix, group)


def _limit(words: Reading) -> s.Part:
    words.want("rate")
    rate = words.next()
    return s.Limits(f"limit rate {rate}", decides=words.peek() != "log")


def _fills(words: Reading) -> s.Part:
    name = words.next()
    words.want("{")
    key = read_key(words)
    timeout = seconds(words.next()) if words.take("timeout") else 0.0
    words.want("}")
    return s.Fills(name.removeprefix("@"), key, timeout)


_STATEMENTS: dict[str, Callable[[Reading], s.Part]] = {
    "dnat": lambda words: _translates(words, source=False),
    "snat": lambda words: _translates(words, source=True),
    "masquerade": lambda words: s.Masquerades(words.take("fully-random")),
    "reject": _reject,
    "dup": _duplicates,
    "notrack": lambda _words: s.Untracked(),
    "counter": _counter,
    "log": _log,
    "limit": _limit,
    "add": _fills,
    "update": _fills,
}
