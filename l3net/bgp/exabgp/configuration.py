"""The configuration of ExaBGP 5.0.15: one full block a neighbour, in a stable order.

No template and no inheritance, since ExaBGP's `inherit` overrides a neighbour's own values. Passwords are
written base64-encoded, so that no character of theirs can end a string.

The last block is a neighbour that never speaks: its router ID is the fingerprint of the rest of the file, so
that `show neighbor json` tells which file ExaBGP has loaded. ExaBGP answers `done` to a reload also when it
drops it, which it does while any neighbour has routes queued.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Final

from l3net.addresses import address_order
from l3net.bgp.sessions import UNKNOWN_AS, Session
from l3net.model import Address, Family

#: The neighbour that never speaks: the IPv4 dummy address (RFC 7600), which no host has.
MARKER: Final = IPv4Address("192.0.0.8")

_SAFE_WORD = re.compile(r"[A-Za-z0-9_./:@%+-]+")


class Blocks:
    """The blocks of neighbours, each made once as long as its session stays as it is: a cluster's mesh has
    thousands, and each look at what is declared asks for all of them."""

    def __init__(self) -> None:
        self._made: dict[Address, tuple[Session, str]] = {}

    def of(self, session: Session) -> str:
        """As `neighbor`."""
        found = self._made.get(session.peer_address)
        if found is None or found[0] != session:
            found = self._made[session.peer_address] = session, neighbor(session)
        return found[1]

    def keep(self, peers: Collection[Address]) -> None:
        """Forget all others: they may hold passwords."""
        for address in self._made.keys() - peers:
            del self._made[address]


def render(
    sessions: Iterable[Session],
    relay_argv: Iterable[str],
    block: Callable[[Session], str] | None = None,
) -> str:
    """The whole file. `relay_argv` is the command of the relay; ExaBGP runs it without a shell. `block` makes
    that of a neighbour, as `neighbor` does.

    Raises ValueError for an argument that ExaBGP's tokeniser would split or misread.
    """
    blocks = [head(relay_argv)]
    ordered = sorted(sessions, key=lambda session: address_order(session.peer_address))
    blocks += map(block or neighbor, ordered)
    text = "\n".join(blocks)
    return f"{text}\n{_marker(text)}"


def head(relay_argv: Iterable[str]) -> str:
    """What stands before the neighbours. Raises ValueError as `render` does."""
    argv = list(relay_argv)
    for word in argv:
        if not _SAFE_WORD.fullmatch(word):
            raise ValueError(f"ExaBGP cannot be given the argument {word!r}")
    return f"process relay {{\n  run {' '.join(argv)};\n  encoder json;\n}}\n"


def fingerprint(text: str) -> str:
    """The router ID by which ExaBGP tells that it has loaded this file."""
    found = re.search(rf"neighbor {re.escape(str(MARKER))} {{[^}}]*router-id ([0-9.]+);", text)
    return found[1] if found else ""


def as_numbers(text: str) -> dict[Address, int]:
    """The AS numbers that a file of ours says the neighbours at link-local addresses have."""
    found = re.findall(r"^neighbor (fe80:\S+) {[^}]*?peer-as ([0-9]+);", text, re.MULTILINE)
    return {ip_address(address): int(number) for address, number in found if int(number) != UNKNOWN_AS}


def local_addresses(text: str) -> dict[Address, Address]:
    """Of a file of ours: the address each neighbour's session leaves from."""
    found = re.findall(r"^neighbor (\S+) {\s+local-address (\S+);", text, re.MULTILINE)
    return {ip_address(peer): ip_address(local) for peer, local in found if peer != str(MARKER)}


def _marker(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") or 1
    return (
        f"neighbor {MARKER} {{\n"
        "  local-address 127.0.0.1;\n  local-as 1;\n  peer-as 1;\n"
        f"  router-id {IPv4Address(number)};\n"
        "  passive true;\n  adj-rib-out false;\n  family { ipv4 unicast; }\n}\n"
    )


def reset_by(before: Session, after: Session) -> bool:
    """Whether ExaBGP closes the session and opens it again to bring it from one to the other."""
    if before == after:
        return False
    return neighbor(replace(before, send_hold_time=None)) != neighbor(replace(after, send_hold_time=None))


def neighbor(session: Session) -> str:
    """The block of one neighbour."""
    lines = [
        f"local-address {session.local_address};",
        f"local-as {session.local_as};",
        f"peer-as {session.peer_as};",
        f"router-id {session.router_id};",
        f"hold-time {session.hold_time};",
        "manual-eor true;",
        "adj-rib-in false;",
        "adj-rib-out true;",
        "group-updates true;",
    ]
    if session.send_hold_time is not None:  # where our ExaBGP looks: a change of it resets nothing
        lines.append(f'description "send-hold-time {session.send_hold_time}";')
    if session.passive:
        lines.append("passive true;")
    else:
        lines.append(f"connect {session.port};")
    if session.listen:
        lines.append(f"listen {session.listen_port};")
    if session.password is not None:
        encoded = base64.b64encode(session.password).decode()
        lines += [f'md5-password "{encoded}";', "md5-base64 true;"]
    if session.gtsm:  # RFC 5082: sent with 255, and only 255 is accepted
        lines += ["incoming-ttl 255;", "outgoing-ttl 255;"]
    elif session.multihop is not None:
        lines.append(f"outgoing-ttl {session.multihop};")
    if session.source_interface is not None and _SAFE_WORD.fullmatch(session.source_interface):
        lines.append(f"source-interface {session.source_interface};")
    add_path = " add-path receive;" if session.add_path else ""
    next_hop = " nexthop enable;" if session.extended_next_hop else ""
    restart = f"graceful-restart {session.graceful_restart};" if session.graceful_restart else ""
    always = "asn4 enable; route-refresh enable; extended-message enable;"
    lines.append(f"capability {{ {always} {restart}{add_path}{next_hop} }}")
    families = " ".join(f"ipv{family.value} unicast;" for family in Family if family in session.families)
    lines.append(f"family {{ {families} }}")
    if session.add_path:
        lines.append(f"add-path {{ {families} }}")
    if session.extended_next_hop:  # RFC 8950
        lines.append("nexthop { ipv4 unicast ipv6; }")
    lines.append(
        "api { processes [ relay ]; neighbor-changes; "
        "receive { parsed; open; update; notification; refresh; } }"
    )
    body = "".join(f"  {line}\n" for line in lines)
    return f"neighbor {session.peer_address} {{\n{body}}}\n"
