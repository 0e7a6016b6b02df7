"""Elements of sets and maps by netlink: an nft process costs more than all else that is done for a pod.

A transaction on a table of ours is nft's text all the same, so that there is one way to say it; what is
not of a kind that is known here is left to nft.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import Final, TypeAlias

from l3net.naming import NFT_TABLE
from l3net.shell.kernel.netlink import ATTRIBUTE, NLM_F_CREATE, Request, attribute

#: linux/netfilter/nfnetlink.h, nf_tables.h
NFTABLES: Final = 10
_NEWSETELEM, _DELSETELEM = ((NFTABLES << 8) | each for each in (12, 14))
_FAMILIES: Final = {"inet": 1, "ip": 2, "ip6": 10}  # NFPROTO_*, linux/netfilter.h
_TABLE, _SET, _ELEMENTS, _ELEMENT = 1, 2, 3, 1
_KEY, _DATA, _TIMEOUT, _KEY_END = 1, 2, 4, 10
_VALUE, _VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_VERDICTS: Final = {"jump": -3, "goto": -4}
_NESTED: Final = 0x8000
_CODE: Final = struct.Struct("!i")
_SLOT: Final = struct.Struct("=I")
#: Elements in one message: an attribute's length has sixteen bits; and in one transaction: more are nft's, in
#: a process of its own.
_IN_A_MESSAGE: Final = 400
MOST: Final = 8192
_LIFETIMES: Final = {"": b"", "1h": attribute(_TIMEOUT, (3600 * 1000).to_bytes(8, "big"))}

_STATEMENT: Final = re.compile(rf"(add|delete) element (inet|ip|ip6) {NFT_TABLE} (\S+) \{{ (.*) \}}\n")


def _address(text: str) -> bytes:
    return ip_address(text).packed


def _protocol(text: str) -> bytes:
    return int(text).to_bytes(1, "big") + bytes(3)


def _port(text: str) -> bytes:
    return int(text).to_bytes(2, "big") + bytes(2)


def _port_alone(text: str) -> bytes:
    """As the only field of a key: it is filled up to nothing."""
    return int(text).to_bytes(2, "big")


def _slot(text: str) -> bytes:
    """A number that the kernel draws, in its own byte order."""
    return _SLOT.pack(int(text))


def _mac(text: str) -> bytes:
    octets = bytes.fromhex(text.replace(":", ""))
    if len(octets) != 6:
        raise ValueError(text)
    return octets


_Packers: TypeAlias = tuple[Callable[[str], bytes], ...]
#: The sets by name, and how the fields of their keys are packed: each is filled up to four octets.
_KEYS: Final[tuple[tuple[re.Pattern[str], _Packers], ...]] = (
    (re.compile(r"(peers|nodes)[46]-\S+|(egress|ingress|vips|spared)[46]"), (_address,)),
    (re.compile(r"egress-mac"), (_mac,)),
    (re.compile(r"ports[46]-\S+"), (_port_alone,)),
    (re.compile(r"services[46]-node\S*"), (_protocol, _port)),
    (re.compile(r"backends[46]-node\S*"), (_protocol, _port, _slot)),
    (re.compile(r"(self|hairpin)[46]"), (_address, _address)),
    (
        re.compile(r"named[46]-\S+|ends[46]|(services|guarded)[46]\S*"),
        (_address, _protocol, _port),
    ),
    (re.compile(r"backends[46]\S*"), (_address, _protocol, _port, _slot)),
)
#: Of the tables of one family alone.
_OF_FAMILY: Final[tuple[tuple[re.Pattern[str], _Packers], ...]] = (
    (re.compile(r"nodes"), (_address,)),
    (re.compile(r"keys|spread|placed"), (_address, _protocol, _port)),
    (re.compile(r"owners|next|here|returning|asking"), (_address, _protocol, _port, _slot)),
)
#: What the values are of maps that lead to no chain, or the first of it alone.
_VALUES: Final[_Packers] = (_address, _port)


def requests(transaction: str) -> list[Request] | None:
    """The messages of a transaction; None if anything in it is nft's to say."""
    found: list[Request] = []
    at = count = 0
    while at < len(transaction):
        statement = _STATEMENT.match(transaction, at)
        if statement is None:
            return None
        verb, family, name, listed = statement.groups()
        elements = listed.split(", ")
        count += len(elements)
        known = _KEYS if family == "inet" else _OF_FAMILY
        packers = next((packers for names, packers in known if names.fullmatch(name)), None)
        if packers is None or count > MOST:
            return None
        try:
            encoded = [_encoded(each, packers) for each in elements]
        except (ValueError, KeyError, OverflowError):  # what is no port, and the like: nft says why
            return None
        found += element_messages(_FAMILIES[family], name, encoded, put=verb == "add")
        at = statement.end()
    return found


def _encoded(element: str, packers: _Packers) -> bytes:
    key, _, value = element.partition(" : ")
    key, _, lifetime = key.partition(" timeout ")
    if packers[-1] is _slot:
        # Of thousands all but the slot is the same.
        before, _, slot = key.rpartition(" . ")
        head, tail = _around_slot(before, value, lifetime, packers)
        return head + _slot(slot) + tail
    return element_of(_packed(key, packers), more=_rest(value, lifetime))


@functools.lru_cache(maxsize=4096)
def _around_slot(before: str, value: str, lifetime: str, packers: _Packers) -> tuple[bytes, bytes]:
    """An element's octets before and after its slot, with which its key ends."""
    key, more = _packed(before, packers[:-1]), _rest(value, lifetime)
    whole = element_of(key + bytes(_SLOT.size), more=more)
    at = len(whole) - len(more) - _SLOT.size
    return whole[:at], whole[at + _SLOT.size :]


def _rest(value: str, lifetime: str) -> bytes:
    """What follows the key."""
    if lifetime not in _LIFETIMES:
        raise ValueError(lifetime)
    return (_data(value) if value else b"") + _LIFETIMES[lifetime]


def _data(value: str) -> bytes:
    """What a map has for a key: a verdict, or an address, which may have a port."""
    if " . " in value:
        return attribute(_DATA | _NESTED, attribute(_VALUE, _packed(value, _VALUES)))
    code, _, chain = value.partition(" ")
    if not chain:
        return attribute(_DATA | _NESTED, attribute(_VALUE, _address(value)))
    said = attribute(_VERDICT_CODE, _CODE.pack(_VERDICTS[code]))
    said += attribute(_VERDICT_CHAIN, chain.encode() + b"\0")
    return attribute(_DATA | _NESTED, attribute(_VERDICT | _NESTED, said))


def _packed(text: str, packers: _Packers) -> bytes:
    return b"".join(pack(part) for pack, part in zip(packers, text.split(" . "), strict=True))


def element_of(key: bytes, end: bytes = b"", more: bytes = b"") -> bytes:
    """One element: its key, the last key if it is a range, and further attributes."""
    if not end and not more:
        return _around_key(len(key)) + key + bytes(-len(key) % 4)
    body = attribute(_KEY | _NESTED, attribute(_VALUE, key))
    if end:
        body += attribute(_KEY_END | _NESTED, attribute(_VALUE, end))
    return attribute(_ELEMENT | _NESTED, body + more)


@functools.lru_cache(maxsize=64)
def _around_key(length: int) -> bytes:
    """What stands before a key of so many octets in an element that has nothing else."""
    whole = attribute(_ELEMENT | _NESTED, attribute(_KEY | _NESTED, attribute(_VALUE, bytes(length))))
    return whole[: 3 * ATTRIBUTE.size]


@functools.lru_cache(maxsize=256)
def _set_head(family: int, table: str, name: str) -> bytes:
    """How a message about elements of a set begins."""
    head = bytes((family, 0, 0, 0)) + attribute(_TABLE, table.encode() + b"\0")
    return head + attribute(_SET, name.encode() + b"\0")


def element_messages(
    family: int, name: str, encoded: Sequence[bytes], *, put: bool, table: str = NFT_TABLE
) -> Iterator[Request]:
    """The messages that put or delete elements of a set of a table of ours, of a family."""
    kind, flags = (_NEWSETELEM, NLM_F_CREATE) if put else (_DELSETELEM, 0)
    head = _set_head(family, table, name)
    for start in range(0, len(encoded), _IN_A_MESSAGE):
        some = b"".join(encoded[start : start + _IN_A_MESSAGE])
        yield Request(kind, flags, head + attribute(_ELEMENTS | _NESTED, some))
