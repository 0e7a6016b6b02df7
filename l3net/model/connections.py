"""Connections that the kernel tracks."""

from __future__ import annotations

from dataclasses import dataclass

from l3net.model.terms import Address, Prefix


@dataclass(frozen=True, slots=True)
class Stale:
    """Tracked connections whose translation has changed: those for which everything said here is true.

    `protocol` is IANA's number. `destinations` and `port` are what the client sends to (none, 0: whatever),
    `answered_by` is who answers after translation (None: whoever). Those answered by one of `kept`, as
    (address, port; 0 for any), are as they should be: with the endpoints in force, what remains is stale.
    `untouched`: only those that nothing translated and nobody has answered. `own_in`: only those to an
    address of this host that lies in one of these (None: to whatever address).
    """

    protocol: int
    destinations: frozenset[Address] = frozenset()
    port: int = 0
    answered_by: Address | None = None
    kept: frozenset[tuple[Address, int]] = frozenset()
    untouched: bool = False
    own_in: frozenset[Prefix] | None = None


@dataclass(frozen=True, slots=True)
class Tracked:
    """A connection that the kernel tracks, as it is behind any translation of its destination.

    `protocol` is IANA's number; `source` and `source_port` began it, `destination` and `port` answer.
    `handle` is what the kernel knows it by. `unsure`: its beginning may not have been seen, so that the
    other end may have begun it. `seen_as` is the source as the other end sees it, None where that is not
    told.
    """

    protocol: int
    source: Address
    source_port: int
    destination: Address
    port: int
    handle: bytes = b""
    unsure: bool = False
    seen_as: Address | None = None


#: Ports that the kernel may give a translated source, from 1024 on (nf_nat_l4proto_unique_tuple).
PORTS_OF_ADDRESS = 64512


@dataclass(frozen=True, slots=True)
class PortUse:
    """How many ports of a source address, of PORTS_OF_ADDRESS, translated connections to one destination
    take. `protocol` is IANA's number."""

    source: Address
    protocol: int
    destination: Address
    port: int
    used: int
