"""Text as nft reads it, word by word, and the terms in it; what is not known is an UnknownError."""

from __future__ import annotations

import re

from packets.packet import ICMP, ICMPV6, SCTP, TCP, UDP
from packets.terms import (
    AddressTerm,
    DirectionTerm,
    Drawn,
    FibLink,
    FibType,
    Field,
    Hashed,
    Key,
    LinkTerm,
    OriginalAddress,
    OriginalPort,
    PortTerm,
    StatusTerm,
    Term,
    TrackedMark,
)
from packets.values import UnknownError

_TOKEN = re.compile(r'"[^"]*"|[{}(),;|]|[^\s{}(),;|"]+')
_PORTS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "th": 0}
_META: dict[str, Term] = {
    "l4proto": Field("protocol", "protocol"),
    "nfproto": Field("version", "family"),
    "pkttype": Field("pkttype", "pkttype"),
    "mark": Field("mark", "mark"),
    "iifname": LinkTerm(of_arrival=True),
    "oifname": LinkTerm(of_arrival=False),
    "iif": LinkTerm(of_arrival=True),
    "oif": LinkTerm(of_arrival=False),
}


class Reading:
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


def read_term(words: Reading) -> Term | Drawn | Hashed:
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


def _of_ip(words: Reading, word: str) -> Term:
    version = 4 if word == "ip" else 6
    name = words.next()
    if name in ("saddr", "daddr"):
        return AddressTerm(version, name == "saddr")
    if name == ("ttl" if version == 4 else "hoplimit"):
        return Field("ttl", "number", version=version)
    if name == ("protocol" if version == 4 else "nexthdr"):
        return Field("protocol", "protocol", version=version)
    raise words.unknown(f"{word} {name}")


def _of_transport(words: Reading, word: str) -> Term:
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


def _of_connection(words: Reading) -> Term:
    name = words.next()
    match name:
        case "state":
            return Field("state", "state")
        case "status":
            return StatusTerm()
        case "mark":
            return TrackedMark()
        case "direction":
            return DirectionTerm()
        case "original" | "reply":
            reply = name == "reply"
            if words.peek() in ("ip", "ip6"):
                version = 4 if words.next() == "ip" else 6
                return OriginalAddress(version, words.want("saddr", "daddr") == "saddr", reply)
            return OriginalPort(words.want("proto-src", "proto-dst") == "proto-src", reply)
    raise words.unknown(f"ct {name}")


def _chance(words: Reading, word: str) -> Drawn | Hashed:
    if word == "numgen":
        words.want("random")
        words.want("mod")
        size = words.number()
        return Drawn(size, f"numgen random mod {size}")
    of = read_key(words)
    if of.chance is not None:
        raise words.unknown("a hash of chance")
    words.want("mod")
    size = words.number()
    words.want("seed")
    seed = words.number()
    return Hashed(of.terms, size, seed, f"jhash mod {size}")


def read_key(words: Reading) -> Key:
    """Terms in a row, of which the last may be chance."""
    terms: list[Term] = []
    while True:
        found = read_term(words)
        if isinstance(found, Drawn | Hashed):
            if words.peek() == ".":
                raise words.unknown("what follows chance")
            return Key(tuple(terms), found)
        terms.append(found)
        if not words.take("."):
            return Key(tuple(terms))
