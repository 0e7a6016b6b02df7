"""Path attributes: RFC 7606 section 7, and what other RFCs have of single ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address

from bgp_bytes import (
    AGGREGATOR,
    AS4_AGGREGATOR,
    AS4_PATH,
    AS_CONFED_SEQUENCE,
    AS_CONFED_SET,
    AS_PATH,
    AS_SEQUENCE,
    AS_SET,
    AS_TRANS,
    ATOMIC_AGGREGATE,
    BOTH_FAMILIES,
    CLUSTER_LIST,
    COMMUNITIES,
    EXTENDED_COMMUNITIES,
    LARGE_COMMUNITIES,
    LOCAL_PREF,
    MED,
    NEXT_HOP,
    OPEN,
    OPTIONAL,
    ORIGIN,
    ORIGINATOR_ID,
    TRANSITIVE,
    WELL_KNOWN,
    attribute,
    nlri,
    path,
    reach,
    segment,
)
from duts import Peering
from row import USED, WITHDRAWN, Row, Script
from rows_update import Said, again, keep, trailing, withdraw
from talk import KEPT, Talk

BOTH = OPTIONAL | TRANSITIVE
IBGP = Peering(ibgp=True)
DISCARDED = "The attribute is discarded; the route is used"


def origin(value: bytes) -> Said:
    return lambda talk, prefix: talk.announcing(prefix, origin=attribute(WELL_KNOWN, ORIGIN, value))


def as_path(value: Callable[[Talk], bytes]) -> Said:
    return lambda talk, prefix: talk.announcing(prefix, as_path=attribute(WELL_KNOWN, AS_PATH, value(talk)))


def hop(four: str, six: str) -> Said:
    """Another next hop."""

    def said(talk: Talk, prefix: str) -> bytes:
        return talk.announcing(prefix, hop=_hop(four if talk.version == 4 else six, prefix))

    return said


def _hop(address: str, prefix: str) -> bytes:
    if ":" in prefix:
        return reach(address, nlri(prefix))
    return attribute(WELL_KNOWN, NEXT_HOP, ip_address(address).packed)


def own_hop(talk: Talk, prefix: str) -> bytes:
    """The next hop is the one it is said to."""
    return talk.announcing(prefix, hop=_hop(talk.dut.addresses[talk.version], prefix))


def discard(key: str, section: str, situation: str, said: Said, **more: object) -> Row:
    return keep(key, section, situation, DISCARDED, said, **more)


WELL_KNOWN_ONES = [
    withdraw("origin-value", "RFC 7606 section 7.1", "ORIGIN 3", origin(b"\3")),
    withdraw("origin-length", "RFC 7606 section 7.1", "ORIGIN of two octets", origin(b"\0\0")),
    withdraw("origin-empty", "RFC 7606 section 7.1", "ORIGIN without a value", origin(b"")),
    withdraw(
        "path-type", "RFC 7606 section 7.2", "AS_PATH with a segment of type 9",
        as_path(lambda talk: segment(AS_SEQUENCE, talk.as_number) + segment(9, 65010)),
    ),
    withdraw(
        "path-overrun", "RFC 7606 section 7.2", "AS_PATH with a segment that is longer than it",
        as_path(lambda talk: b"\2\x09" + struct.pack("!I", talk.as_number)),
    ),
    withdraw(
        "path-underrun", "RFC 7606 section 7.2", "AS_PATH with one octet after its last segment",
        as_path(lambda talk: segment(AS_SEQUENCE, talk.as_number) + b"\2"),
    ),
    withdraw(
        "path-empty-segment", "RFC 7606 section 7.2", "AS_PATH with a segment of no AS numbers",
        as_path(lambda talk: segment(AS_SEQUENCE, talk.as_number) + segment(AS_SEQUENCE)),
    ),
    Row(
        "path-first", "RFC 4271 section 6.3", "AS_PATH that does not begin with the peer's AS number",
        "It may be taken for malformed: the route is treated as withdrawn",
        again(as_path(lambda talk: segment(AS_SEQUENCE, 65010, talk.as_number))),
        (WITHDRAWN, USED, "NOTIFICATION 3/11"),
    ),
    withdraw(
        "path-loop", "RFC 4271 section 9.1.2", "AS_PATH with its own AS number",
        as_path(lambda talk: segment(AS_SEQUENCE, talk.as_number, talk.dut.as_number)),
    ),
    withdraw(
        "path-as-0", "RFC 7607 section 2", "AS 0 in the AS_PATH",
        as_path(lambda talk: segment(AS_SEQUENCE, talk.as_number, 0, 65010)),
    ),
    *(
        withdraw(
            f"path-confederation-{name}", "RFC 5065 section 5",
            f"AS_CONFED_{name.upper()} in the AS_PATH of a peer that is in no confederation with it",
            as_path(lambda talk, kind=kind: segment(kind, 65010) + segment(AS_SEQUENCE, talk.as_number)),  # type: ignore[misc]
        )
        for name, kind in (("sequence", AS_CONFED_SEQUENCE), ("set", AS_CONFED_SET))
    ),
    withdraw(
        "path-set", "RFC 9774 section 3", "AS_SET in the AS_PATH",
        as_path(lambda talk: segment(AS_SEQUENCE, talk.as_number) + segment(AS_SET, 65010, 65011)),
    ),
    withdraw(
        "next-hop-length", "RFC 7606 section 7.3", "NEXT_HOP of three octets",
        lambda talk, prefix: talk.announcing(prefix, hop=attribute(WELL_KNOWN, NEXT_HOP, b"\x0a\x5b\1")),
        versions=(4,),
    ),
    *(
        withdraw(f"next-hop-{name}", "RFC 4271 section 6.3", f"Next hop {four} ({six})", hop(four, six))
        for name, four, six in (
            ("zero", "0.0.0.0", "::"),
            ("multicast", "224.0.0.9", "ff02::9"),
            ("loopback", "127.0.0.1", "::1"),
        )
    ),
    withdraw(
        "next-hop-own", "RFC 4271 section 5.1.3, 6.3", "Next hop is the receiver's own address", own_hop,
    ),
]  # fmt: skip

OPTIONAL_ONES = [
    withdraw(
        "med-length", "RFC 7606 section 7.4", "MULTI_EXIT_DISC of three octets",
        trailing(attribute(OPTIONAL, MED, b"\0\0\1")),
    ),
    discard(
        "local-pref-external", "RFC 7606 section 7.5", "LOCAL_PREF from an external peer",
        trailing(attribute(WELL_KNOWN, LOCAL_PREF, b"\0\0\0\1")),
    ),
    discard(
        "local-pref-external-length", "RFC 7606 section 7.5",
        "LOCAL_PREF of three octets from an external peer",
        trailing(attribute(WELL_KNOWN, LOCAL_PREF, b"\0\0\1")),
    ),
    withdraw(
        "local-pref-length", "RFC 7606 section 7.5", "LOCAL_PREF of three octets from an internal peer",
        lambda talk, prefix: talk.announcing(prefix, preference=b"\0\0\1"), peering=IBGP,
    ),
    discard(
        "atomic-aggregate-length", "RFC 7606 section 7.6", "ATOMIC_AGGREGATE with a value",
        trailing(attribute(WELL_KNOWN, ATOMIC_AGGREGATE, b"\1")),
    ),
    discard(
        "aggregator-length", "RFC 7606 section 7.7", "AGGREGATOR of six octets, where AS numbers have four",
        trailing(attribute(BOTH, AGGREGATOR, b"\xfd\xea\x0a\x5b\0\1")),
    ),
    discard(
        "aggregator-as-0", "RFC 7607 section 2", "AS 0 in AGGREGATOR",
        trailing(attribute(BOTH, AGGREGATOR, b"\0\0\0\0\x0a\x5b\0\1")),
    ),
    *(
        withdraw(
            f"{name}-{'empty' if not value else 'length'}", section,
            f"{words} {'without a value' if not value else f'of {len(value)} octets'}",
            trailing(attribute(BOTH, code, value)),
        )
        for name, code, words, section, odd in (
            ("communities", COMMUNITIES, "COMMUNITIES", "RFC 7606 section 7.8", 5),
            (
                "extended-communities", EXTENDED_COMMUNITIES, "Extended communities",
                "RFC 7606 section 7.14", 7,
            ),
            ("large-communities", LARGE_COMMUNITIES, "Large communities", "RFC 8092 section 6", 11),
        )
        for value in (bytes(odd), b"")
    ),
]  # fmt: skip


def reflected(code: int) -> Script:
    """With the identifier that is in its OPEN."""

    async def script(talk: Talk) -> str:
        connection = await talk.established()
        prefix = await talk.announced(connection)
        connection.send(talk.announcing(prefix, attribute(OPTIONAL, code, connection.of(OPEN)[0].body[5:9])))
        outcome = await talk.after(connection)
        if outcome != KEPT:
            return outcome
        return USED if await talk.used(prefix, 0) else WITHDRAWN

    return script


REFLECTION = [
    *(
        discard(
            f"{name}-external{'-length' if odd else ''}", f"RFC 7606 section 7.{section}",
            f"{words}{f' of {odd} octets' if odd else ''} from an external peer",
            trailing(attribute(OPTIONAL, code, bytes(odd) if odd else b"\x0a\x5b\0\7")),
        )
        for name, words, code, section in (
            ("originator-id", "ORIGINATOR_ID", ORIGINATOR_ID, 9),
            ("cluster-list", "CLUSTER_LIST", CLUSTER_LIST, 10),
        )
        for odd in (0, 3)
    ),
    *(
        withdraw(
            f"{name}-length", f"RFC 7606 section 7.{section}",
            f"{words} of three octets from an internal peer",
            trailing(attribute(OPTIONAL, code, bytes(3))), peering=IBGP,
        )
        for name, words, code, section in (
            ("originator-id", "ORIGINATOR_ID", ORIGINATOR_ID, 9),
            ("cluster-list", "CLUSTER_LIST", CLUSTER_LIST, 10),
        )
    ),
    Row(
        "originator-id-own", "RFC 4456 section 8",
        "Its own BGP Identifier as the ORIGINATOR_ID, from an internal peer",
        "The route is ignored", reflected(ORIGINATOR_ID), (WITHDRAWN,), peering=IBGP,
    ),
    Row(
        "cluster-list-own", "RFC 4456 section 8",
        "Its own BGP Identifier in the CLUSTER_LIST, from an internal peer",
        "A route reflector ignores the route; others need not", reflected(CLUSTER_LIST), (WITHDRAWN, USED),
        peering=IBGP,
    ),
]  # fmt: skip


# --- AS numbers of four octets ---------------------------------------------------------------------------


def had(said: Said, *, wide: bool = True) -> Script:
    """The AS path that it has of a route; `wide`: both have AS numbers of four octets."""

    async def script(talk: Talk) -> str:
        talk.wide = wide
        connection = await talk.established(None if wide else talk.opening(BOTH_FAMILIES))
        prefix = talk.prefix()
        connection.send(said(talk, prefix))
        outcome = await talk.after(connection)
        if outcome != KEPT:
            return outcome
        if not await talk.used(prefix, 0):
            return WITHDRAWN
        return f"{USED}, AS path {await talk.ribs.path(prefix)}"

    return script


def as4_path(*numbers: int) -> bytes:
    return attribute(BOTH, AS4_PATH, segment(AS_SEQUENCE, *numbers))


def narrow(more: bytes, *numbers: int) -> Said:
    """With AS numbers of two octets."""
    return lambda talk, prefix: talk.announcing(
        prefix, more, as_path=path(talk.as_number, *numbers, wide=False)
    )


LONG = 4_200_000_010

FOUR_OCTETS = [
    Row(
        "as4-path-wide", "RFC 6793 section 6", "AS4_PATH between two that have four octets", DISCARDED,
        had(lambda talk, prefix: talk.announcing(
            prefix, as4_path(talk.as_number, 65099), as_path=path(talk.as_number, 65010)
        )),
        (f"{USED}, AS path 65002 65010",),
    ),
    discard(
        "as4-aggregator-wide", "RFC 6793 section 6", "AS4_AGGREGATOR between two that have four octets",
        trailing(attribute(BOTH, AS4_AGGREGATOR, b"\0\0\xfd\xea\x0a\x5b\0\1")),
    ),
    Row(
        "as4-path", "RFC 6793 section 4.2.3",
        "AS_PATH of two octets with AS_TRANS, and AS4_PATH with the number",
        "They are merged",
        had(narrow(as4_path(65002, LONG), AS_TRANS), wide=False), (f"{USED}, AS path 65002 {LONG}",),
    ),
    Row(
        "as4-path-longer", "RFC 6793 section 4.2.3", "AS4_PATH with more AS numbers than AS_PATH",
        "AS4_PATH is ignored", had(narrow(as4_path(1, 2, 3, 4), 65010), wide=False),
        (f"{USED}, AS path 65002 65010",),
    ),
    Row(
        "as4-path-malformed", "RFC 6793 section 6", "AS4_PATH with a segment that is longer than it",
        DISCARDED,
        had(narrow(attribute(BOTH, AS4_PATH, b"\2\x05\0\0\0\1"), 65010), wide=False),
        (f"{USED}, AS path 65002 65010",),
    ),
    Row(
        "as4-path-as-0", "RFC 7607 section 2, RFC 6793 section 6", "AS 0 in AS4_PATH", DISCARDED,
        had(narrow(as4_path(65002, 0), 65010), wide=False), (f"{USED}, AS path 65002 65010",),
    ),
]  # fmt: skip

ROWS = [*WELL_KNOWN_ONES, *OPTIONAL_ONES, *REFLECTION, *FOUR_OCTETS]
