"""Rules, types and elements as nft reads them, as values; what is not known is an UnknownError by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from packets import statements as s
from packets.packet import ICMP, ICMPV6, NUMBERS, SCTP, TCP, UDP
from packets.terms import (
    AddressTerm,
    Drawn,
    FibLink,
    FibType,
    Field,
    Hashed,
    Key,
    LinkTerm,
    Masked,
    OriginalAddress,
    OriginalPort,
    PortTerm,
    StatusTerm,
    Term,
    TrackedMark,
)
from packets.values import BITS, UnknownError, span, value

_TOKEN = re.compile(r'"[^"]*"|[{}(),;|]|[^\s{}(),;|"]+')
_SIGNS = ("==", "!=", "<", ">", "<=", ">=")
_VERDICTS = {
    "accept": s.ACCEPT,
    "drop": s.DROP,
    "return": s.RETURN,
    "jump": s.JUMP,
    "goto": s.GOTO,
    "continue": s.CONTINUE,
}
_PORTS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "th": 0}
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_META = {
    "l4proto": Field("protocol", "protocol"),
    "nfproto": Field("version", "family"),
    "pkttype": Field("pkttype", "pkttype"),
    "mark": Field("mark", "mark"),
    "iifname": LinkTerm(of_arrival=True),
    "oifname": LinkTerm(of_arrival=False),
    "iif": LinkTerm(of_arrival=True),
    "oif": LinkTerm(of_arrival=False),
}
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


class _Reading:
    """A text's words, one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._words = _TOKEN.findall(text)
        self._at = 0

    def peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._words[at] if at < len(self._words) else ""

    def next(self) -> str:
        found = self.peek()
        if not found:
            raise UnknownError(f"{self.text}: something is missing at the end")
        self._at += 1
        return found

    def take(self, word: str) -> bool:
        if self.peek() == word:
            self._at += 1
            return True
        return False

    def want(self, *words: str) -> str:
        found = self.next()
        if found not in words:
            raise UnknownError(f"{self.text}: {found}, not {' or '.join(words)}")
        return found

    def number(self) -> int:
        return int(self.next(), 0)

    def unknown(self, word: str) -> UnknownError:
        return UnknownError(f"{self.text}: {word} is not known")


@lru_cache(maxsize=1 << 16)
def rule(text: str) -> s.Rule:
    """A rule of a chain. Raises UnknownError."""
    words = _Reading(text)
    parts: list[s.Part] = []
    while words.peek():
        parts.append(_part(words))
    if not parts:
        raise UnknownError("an empty rule")
    return s.Rule(text, tuple(parts))


def _part(words: _Reading) -> s.Part:
    word = words.peek()
    if word in _VERDICTS:
        return _verdict(words)
    if word in _STATEMENTS:
        words.next()
        return _STATEMENTS[word](words)
    writes = _writes(words)
    return writes if writes is not None else _comparison(words)


def _verdict(words: _Reading) -> s.Verdict:
    kind = _VERDICTS.get(word := words.next())
    if kind is None:
        raise words.unknown(word)
    return s.Verdict(kind, words.next() if kind in (s.JUMP, s.GOTO) else "")


# --- terms -----------------------------------------------------------------------------------------------


def _term(words: _Reading) -> Term | Drawn | Hashed:
    word = words.next()
    if word in ("ip", "ip6"):
        return _of_ip(words, word)
    if word in _PORTS:
        return _of_transport(words, word)
    if word in ("iifname", "oifname", "iif", "oif"):
        return _META[word]
    match word:
        case "meta":
            found = _META.get(name := words.next())
            if found is None:
                raise words.unknown(f"meta {name}")
            return found
        case "ct":
            return _of_connection(words)
        case "fib":
            of_source = words.want("daddr", "saddr") == "saddr"
            what = words.want("type", "oifname")
            return FibType(of_source) if what == "type" else FibLink(of_source)
        case "icmp":
            words.want("type")
            return Field("icmp", "icmp", protocol=ICMP)
        case "icmpv6":
            words.want("type")
            return Field("icmp", "icmpv6", protocol=ICMPV6)
        case "ether":
            words.want("saddr")
            return Field("mac", "mac")
        case "numgen" | "jhash":
            return _chance(words, word)
    raise words.unknown(word)


def _of_ip(words: _Reading, word: str) -> Term:
    version = 4 if word == "ip" else 6
    name = words.next()
    if name in ("saddr", "daddr"):
        return AddressTerm(version, name == "saddr")
    if name == ("ttl" if version == 4 else "hoplimit"):
        return Field("ttl", "number", version=version)
    if name == ("protocol" if version == 4 else "nexthdr"):
        return Field("protocol", "protocol", version=version)
    raise words.unknown(f"{word} {name}")


def _of_transport(words: _Reading, word: str) -> Term:
    name = words.next()
    if name in ("sport", "dport"):
        return PortTerm(_PORTS[word], name == "sport")
    if word == "tcp" and name == "flags":
        return Field("flags", "flags", protocol=TCP)
    if word == "tcp" and name == "option":
        words.want("maxseg")
        words.want("size")
        return Field("mss", "number", protocol=TCP)
    raise words.unknown(f"{word} {name}")


def _of_connection(words: _Reading) -> Term:
    name = words.next()
    match name:
        case "state":
            return Field("state", "state")
        case "status":
            return StatusTerm()
        case "mark":
            return TrackedMark()
        case "original" | "reply":
            reply = name == "reply"
            if words.peek() in ("ip", "ip6"):
                version = 4 if words.next() == "ip" else 6
                return OriginalAddress(version, words.want("saddr", "daddr") == "saddr", reply)
            return OriginalPort(words.want("proto-src", "proto-dst") == "proto-src", reply)
    raise words.unknown(f"ct {name}")


def _chance(words: _Reading, word: str) -> Drawn | Hashed:
    if word == "numgen":
        words.want("random")
        words.want("mod")
        size = words.number()
        return Drawn(size, f"numgen random mod {size}")
    key = _key(words)
    if key.chance is not None:
        raise words.unknown("a hash of chance")
    words.want("mod")
    size = words.number()
    words.want("seed")
    seed = words.number()
    return Hashed(key.terms, size, seed, f"jhash mod {size}")


def _key(words: _Reading) -> Key:
    """Terms in a row, of which the last may be chance."""
    terms: list[Term] = []
    while True:
        found = _term(words)
        if isinstance(found, Drawn | Hashed):
            if words.peek() == ".":
                raise words.unknown("what follows chance")
            return Key(tuple(terms), found)
        terms.append(found)
        if not words.take("."):
            return Key(tuple(terms))


# --- comparisons -----------------------------------------------------------------------------------------


def _comparison(words: _Reading) -> s.Part:
    key = _key(words)
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


def _bits(words: _Reading, kind: str) -> int:
    """`a`, `a,b`, `a|b` or `(a|b)`; of a mask that is no list of bits the number."""
    inside = words.take("(")
    found: int = value(kind, words.next())
    while words.peek() in ("|", ","):
        words.next()
        found |= value(kind, words.next())
    if inside:
        words.want(")")
    return found


def _held(words: _Reading, kinds: tuple[str, ...], to: tuple[str, ...]) -> s.Listed | str:
    """A set's name, or what stands in braces."""
    word = words.next()
    if word.startswith("@"):
        return word[1:]
    if word != "{":
        raise words.unknown(word)
    values: list[tuple[Any, Any]] = []
    spans: list[tuple[int, int, Any]] = []
    while not words.take("}"):
        text = [words.next()]
        while words.take("."):
            text.append(words.next())
        ends = span(kinds[0], text[0]) if len(kinds) == 1 else None
        one = None if ends else tuple(map(value, kinds, text))
        led: Any = True
        if words.take(":"):
            led = _verdict(words) if to == ("verdict",) else None
        if led is None or (to and led is True) or len(text) != len(kinds):
            raise words.unknown("an element")
        if ends is not None:
            spans.append((*ends, led))
        elif one is not None:
            values.append((one[0] if len(one) == 1 else one, led))
        words.take(",")
    return s.Listed(tuple(values), tuple(spans))


# --- statements ------------------------------------------------------------------------------------------


def _writes(words: _Reading) -> s.Part | None:
    """`ip ttl set 3` and its like; None: it is none of these."""
    written = {
        ("meta", "pkttype", "set"): ("pkttype", "pkttype", 0, 0),
        ("meta", "mark", "set"): ("mark", "mark", 0, 0),
        ("ct", "mark", "set"): ("tracked mark", "mark", 0, 0),
        ("ip", "ttl", "set"): ("ttl", "number", 4, 0),
        ("ip6", "hoplimit", "set"): ("ttl", "number", 6, 0),
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
    return s.Sets(name, value(kind, words.next()), version, protocol)


def _translates(words: _Reading, *, source: bool) -> s.Part:
    version = {"ip": 4, "ip6": 6}.get(words.peek(), 0)
    if version:
        words.next()
    words.want("to")
    return s.Translates(version, _target(words, version), source)


def _target(words: _Reading, version: int) -> s.Target:
    found = re.fullmatch(r"\[?([\da-f.:]*?)\]?(?::(\d+))?", words.peek())
    bare = words.peek()
    if found is not None and (version == 4 or bare.startswith("[")):
        words.next()
        address, port = found.groups()
        fixed = (value(str(version), address), *([int(port)] if port else []))
        return s.Target(fixed)
    if re.fullmatch(r"[\da-f]*:[\da-f:.]*", bare):
        return s.Target((value("6", words.next()),))
    key = _key(words)
    words.want("map")
    name = words.next()
    if not name.startswith("@"):
        raise words.unknown("a map in the rule")
    return s.Target(key=key, held=name[1:])


def _reject(words: _Reading) -> s.Part:
    if not words.take("with"):
        return s.Verdict(s.REJECT, "port-unreachable")
    how = words.want("tcp", "icmpx", "icmp", "icmpv6")
    if how == "tcp":
        return s.Verdict(s.REJECT, f"tcp {words.want('reset')}")
    return s.Verdict(s.REJECT, words.next())


def _duplicates(words: _Reading) -> s.Part:
    words.want("to")
    target = _target(words, 0)
    words.want("device")
    return s.Duplicates(target, words.next().strip('"'))


def _counter(words: _Reading) -> s.Part:
    if words.take("name"):
        return s.Counts(words.next().strip('"'))
    if words.take("packets"):
        words.number()
        words.want("bytes")
        words.number()
    return s.Counts()


def _log(words: _Reading) -> s.Part:
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


def _limit(words: _Reading) -> s.Part:
    words.want("rate")
    rate = words.next()
    return s.Limits(f"limit rate {rate}", decides=words.peek() != "log")


def _fills(words: _Reading) -> s.Part:
    name = words.next()
    words.want("{")
    key = _key(words)
    timeout = seconds(words.next()) if words.take("timeout") else 0.0
    words.want("}")
    return s.Fills(name.removeprefix("@"), key, timeout)


def seconds(text: str) -> float:
    """As in 1h30m."""
    parts = re.findall(r"(\d+)(ms|s|m|h|d)", text)
    if "".join(number + unit for number, unit in parts) != text or not text:
        raise UnknownError(f"{text} is no time")
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))


_STATEMENTS: dict[str, Callable[[_Reading], s.Part]] = {
    "dnat": lambda words: _translates(words, source=False),
    "snat": lambda words: _translates(words, source=True),
    "masquerade": lambda _words: s.Masquerades(),
    "reject": _reject,
    "dup": _duplicates,
    "notrack": lambda _words: s.Untracked(),
    "counter": _counter,
    "log": _log,
    "limit": _limit,
    "add": _fills,
    "update": _fills,
}


# --- sets ------------------------------------------------------------------------------------------------

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
    words = _Reading(text)
    key = _key_of_type(words)
    if words.peek():
        raise words.unknown(words.peek())
    return key


def _key_of_type(words: _Reading) -> Kinds:
    kinds = [_term(words).kind]
    while words.take("."):
        kinds.append(_term(words).kind)
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
        return _verdict(_Reading(text))
    return key_of(kinds, text)


def known_protocol(text: str) -> int:
    return NUMBERS[text]
