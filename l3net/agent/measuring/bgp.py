"""Sessions, BFD beside them, and BMP collectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from l3net.agent.measuring.seen import Seen
from l3net.agent.tally import Tally
from l3net.bgp.peering import Peering
from l3net.metering.family import Row, Sample, counter, gauge, one
from l3net.model import Address

OF_PEER: Final = ("peer", "address", "as")
OF_COLLECTOR: Final = ("collector", "address", "port")


def _each(read: Callable[[Peering, Tally], float]) -> Callable[[Seen], Iterator[Sample]]:
    return lambda seen: ((values, read(peer, tally)) for values, _, peer, tally in seen.sessions)


def _queue(read: Callable[[Seen, Address], float]) -> Callable[[Seen], Iterator[Sample]]:
    return lambda seen: ((values, read(seen, address)) for values, address, _, _ in seen.sessions)


def _over_limit(seen: Seen) -> Iterator[Sample]:
    return (
        ((*values, f"IPv{family.value}"), family in peer.over_limit)
        for values, _, peer, _ in seen.sessions
        for family in sorted(peer.families | peer.over_limit, key=lambda family: family.value)
    )


def _bfd(seen: Seen) -> Iterator[Sample]:
    up = seen.agent.bfd.up()
    return ((values, up[address]) for values, address, _, _ in seen.sessions if address in up)


def _collector(key: str) -> Callable[[Seen], Iterator[Sample]]:
    return lambda seen: ((values, row[key]) for values, row in seen.collectors)


BGP: Final[tuple[Row[Seen], ...]] = (
    gauge(
        "l3net_bgp_session_up",
        "Whether the session is established.",
        _each(lambda peer, _: peer.established),
        *OF_PEER,
    ),
    counter(
        "l3net_bgp_session_flaps_total",
        "Number of times that an established session ended.",
        _each(lambda peer, _: peer.flaps),
        *OF_PEER,
    ),
    gauge(
        "l3net_bgp_paths_received",
        "Paths that the peer announces.",
        _each(lambda _, tally: tally.received),
        *OF_PEER,
    ),
    gauge(
        "l3net_bgp_paths_accepted",
        "Paths of the peer that are not refused and whose next hop is reachable.",
        _each(lambda _, tally: tally.accepted),
        *OF_PEER,
    ),
    gauge(
        "l3net_bgp_prefixes_announced",
        "Prefixes sent to the peer.",
        _queue(lambda seen, address: seen.agent.speaking.queues.announced(address)),
        *OF_PEER,
    ),
    gauge(
        "l3net_bgp_prefixes_queued",
        "Prefixes that wait to be sent to the peer.",
        _queue(lambda seen, address: seen.agent.speaking.queues.out_queue(address)),
        *OF_PEER,
    ),
    gauge(
        "l3net_bgp_prefix_limit_exceeded",
        "Whether the peer announces more prefixes of a family than its limit; the rest is not used.",
        _over_limit,
        *OF_PEER,
        "family",
    ),
    counter(
        "l3net_undecodable_lines_total",
        "Lines from ExaBGP that could not be read.",
        one(lambda seen: seen.agent.speaking.undecodable),
    ),
    gauge(
        "l3net_bfd_session_up",
        "Whether BFD with the peer is up. Present once its BGP session was up, or 10 s after it "
        "was declared.",
        _bfd,
        *OF_PEER,
    ),
    gauge(
        "l3net_bfd_connected",
        "Whether the agent is connected to the BFD process, or no peer uses BFD.",
        one(lambda seen: seen.agent.bfd.served),
    ),
    gauge(
        "l3net_bmp_connected", "Whether the collector is connected.", _collector("connected"), *OF_COLLECTOR
    ),
    gauge(
        "l3net_bmp_waiting_prefixes",
        "Prefixes that wait to be sent to the collector.",
        _collector("waiting"),
        *OF_COLLECTOR,
    ),
    counter(
        "l3net_bmp_connections_total",
        "Connections made to the collector.",
        _collector("connections"),
        *OF_COLLECTOR,
    ),
    counter(
        "l3net_bmp_messages_total", "Messages sent to the collector.", _collector("messages"), *OF_COLLECTOR
    ),
    counter(
        "l3net_bmp_sent_bytes_total", "Octets sent to the collector.", _collector("octets"), *OF_COLLECTOR
    ),
    counter(
        "l3net_bmp_dropped_total",
        "Number of times that the collector fell behind and got a new dump.",
        _collector("dropped"),
        *OF_COLLECTOR,
    ),
)
