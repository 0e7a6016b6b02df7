"""UPDATE: RFC 4271 section 6.3 as RFC 7606 has revised it, but for what is an attribute's own."""

from __future__ import annotations

import struct
from collections.abc import Callable

from bgp_bytes import (
    EXTENDED_MESSAGE,
    MP_REACH,
    MP_UNREACH,
    OPTIONAL,
    ORIGIN_IGP,
    TRANSITIVE,
    UPDATE,
    WELL_KNOWN,
    attribute,
    four_octets,
    message,
    multiprotocol,
    next_hop,
    nlri,
    path,
    reach,
    unreach,
    update,
)
from duts import Peering
from row import NOT_OFFERED, USED, WITHDRAWN, Row, Script
from talk import KEPT, Talk

#: An UPDATE for a prefix.
Said = Callable[[Talk, str], bytes]
RESETS = "The session ends"
DISABLES = "The session ends, or the family is used no more"


def again(
    said: Said, opened: Callable[[Talk], bytes] | None = None, *, data: bool = False, needs: int = 0
) -> Script:
    """A good route is in use, and then it is said like this: what becomes of the session, and of the route.

    `needs` is a capability without which nothing is said.
    """

    async def script(talk: Talk) -> str:
        connection = await talk.established(opened(talk) if opened else None)
        if needs and needs not in connection.offered():
            return NOT_OFFERED
        prefix = await talk.announced(connection)
        connection.send(said(talk, prefix))
        return await judged(talk, connection, prefix, data=data)

    return script


async def judged(talk: Talk, connection: object, prefix: str, *, data: bool = False) -> str:
    outcome = await talk.after(connection, data=data)  # type: ignore[arg-type]
    if outcome != KEPT:
        return outcome
    return USED if await talk.used(prefix, 0) else WITHDRAWN


def first(said: Said, opened: Callable[[Talk], bytes] | None = None) -> Script:
    """The first that is said of a prefix."""

    async def script(talk: Talk) -> str:
        connection = await talk.established(opened(talk) if opened else None)
        connection.send(said(talk, talk.prefix()))
        return await judged(talk, connection, talk.prefix())

    return script


def withdraw(key: str, section: str, situation: str, said: Said, *also: str, **more: object) -> Row:
    """Treat as withdraw."""
    return Row(key, section, situation, "The route is treated as withdrawn, the session is kept", again(said),
               (WITHDRAWN, *also), **more)  # type: ignore[arg-type]  # fmt: skip


def keep(key: str, section: str, situation: str, asks: str, said: Said, **more: object) -> Row:
    return Row(key, section, situation, asks, again(said), (USED,), **more)  # type: ignore[arg-type]


def reset(key: str, section: str, situation: str, asks: str, said: Said, *accepts: str, data: bool = False,
          **more: object) -> Row:  # fmt: skip
    return Row(key, section, situation, asks, again(said, data=data), accepts, **more)  # type: ignore[arg-type]


# --- lengths and lists -----------------------------------------------------------------------------------


def lengths(withdrawn: int, attributes: int) -> Said:
    """An UPDATE whose two lengths say more than there is."""

    def said(talk: Talk, prefix: str) -> bytes:
        inside = ORIGIN_IGP + path(talk.as_number) + next_hop(talk.addresses[4])
        body = struct.pack("!HH", withdrawn, len(inside) + attributes) + inside + nlri("198.51.100.0/24")
        return message(UPDATE, body)

    return said


def trailing(octets: bytes) -> Said:
    """At the end of the attributes."""
    return lambda talk, prefix: talk.announcing(prefix, octets)


def without(code: str) -> Said:
    nothing: dict[str, dict[str, bytes]] = {
        "ORIGIN": {"origin": b""},
        "AS_PATH": {"as_path": b""},
        "NEXT_HOP": {"hop": b""},
    }
    return lambda talk, prefix: talk.announcing(prefix, **nothing[code])  # type: ignore[arg-type]


UNKNOWN_WELL_KNOWN = attribute(WELL_KNOWN, 213, b"\1\2")
COMMUNITY = attribute(OPTIONAL | TRANSITIVE, 8, b"\xfd\xea\0\1")

LISTS = [
    reset(
        "update-withdrawn-long", "RFC 4271 section 6.3", "The withdrawn routes are longer than the message",
        "NOTIFICATION Malformed Attribute List (3/1)", lengths(200, 0), "NOTIFICATION 3/1",
    ),
    reset(
        "update-attributes-long", "RFC 4271 section 6.3", "The attributes are longer than the message",
        "NOTIFICATION Malformed Attribute List (3/1)", lengths(0, 200), "NOTIFICATION 3/1",
    ),
    withdraw(
        "update-attribute-overrun", "RFC 7606 section 4", "The last attribute is longer than what is left",
        trailing(b"\xc0\x08\x20\xfd\xea\0\1"),
    ),
    withdraw(
        "update-attribute-underrun", "RFC 7606 section 4", "Two octets are left after the last attribute",
        trailing(b"\xc0\x08"),
    ),
    withdraw(
        "update-attribute-underrun-extended", "RFC 7606 section 4",
        "Three octets are left, and they say that the length has two", trailing(b"\xd0\x08\x00"),
    ),
    withdraw(
        "update-length-0", "RFC 7606 section 4", "MULTI_EXIT_DISC without a value", trailing(b"\x80\x04\0"),
    ),
    *(
        withdraw(
            f"update-without-{code.lower().replace('_', '-')}", "RFC 7606 section 3 (d)", f"No {code}",
            without(code), versions=(4,) if code == "NEXT_HOP" else (4, 6),
        )
        for code in ("ORIGIN", "AS_PATH", "NEXT_HOP")
    ),
    reset(
        "update-unknown-well-known", "RFC 4271 section 6.3", "A well-known attribute that nobody knows",
        "NOTIFICATION Unrecognized Well-known Attribute (3/2), with the attribute",
        trailing(UNKNOWN_WELL_KNOWN), f"NOTIFICATION 3/2 ({UNKNOWN_WELL_KNOWN.hex()})", data=True,
    ),
    keep(
        "update-unknown-transitive", "RFC 4271 section 5",
        "An optional transitive attribute that nobody knows",
        "It is passed on; the route is used", trailing(attribute(OPTIONAL | TRANSITIVE, 213, b"noise")),
    ),
    keep(
        "update-unknown-optional", "RFC 4271 section 5", "An optional non-transitive one",
        "It is ignored; the route is used", trailing(attribute(OPTIONAL, 214, b"noise")),
    ),
    keep(
        "update-twice", "RFC 7606 section 3 (g)", "COMMUNITIES twice", "The first counts; the route is used",
        trailing(COMMUNITY + COMMUNITY),
    ),
    keep(
        "update-origin-twice", "RFC 7606 section 3 (g)", "ORIGIN twice, the second of a value that is none",
        "The first counts; the route is used", trailing(attribute(WELL_KNOWN, 1, b"\7")),
    ),
    reset(
        "update-reach-twice", "RFC 7606 section 3 (g)", "MP_REACH_NLRI twice",
        "NOTIFICATION Malformed Attribute List (3/1)",
        lambda talk, prefix: update(
            reach(talk.addresses[6], nlri("2001:db8:1::/48"))
            + reach(talk.addresses[6], nlri("2001:db8:2::/48"))
            + ORIGIN_IGP + path(talk.as_number)
        ),
        "NOTIFICATION 3/1",
    ),
    reset(
        "update-unreach-twice", "RFC 7606 section 3 (g)", "MP_UNREACH_NLRI twice",
        "NOTIFICATION Malformed Attribute List (3/1)",
        lambda talk, prefix: update(unreach(nlri("2001:db8:1::/48")) + unreach(nlri("2001:db8:2::/48"))),
        "NOTIFICATION 3/1",
    ),
    reset(
        "update-error-without-routes", "RFC 7606 section 5.2",
        "A malformed ORIGIN, and no routes that it could be for", RESETS,
        lambda talk, prefix: update(attribute(WELL_KNOWN, 1, b"\7") + path(talk.as_number)
                                    + next_hop(talk.addresses[4])),
        "NOTIFICATION 3/6", "NOTIFICATION 3/1", "NOTIFICATION 3/3",
    ),
    keep(
        "update-no-routes", "RFC 4271 section 4.3", "Attributes without routes", "Nothing happens",
        lambda talk, prefix: update(ORIGIN_IGP + path(talk.as_number) + next_hop(talk.addresses[4])),
    ),
]  # fmt: skip

# --- flags -----------------------------------------------------------------------------------------------

FLAGS = [
    withdraw(
        "flags-origin-optional", "RFC 7606 section 3 (c)", "ORIGIN flagged as optional",
        lambda talk, prefix: talk.announcing(prefix, origin=attribute(OPTIONAL | TRANSITIVE, 1, b"\0")),
    ),
    withdraw(
        "flags-origin-local", "RFC 7606 section 3 (c)", "ORIGIN flagged as non-transitive",
        lambda talk, prefix: talk.announcing(prefix, origin=attribute(0, 1, b"\0")),
    ),
    withdraw(
        "flags-path-optional", "RFC 7606 section 3 (c)", "AS_PATH flagged as optional",
        lambda talk, prefix: talk.announcing(
            prefix, as_path=bytes([OPTIONAL | TRANSITIVE]) + path(talk.as_number)[1:]
        ),
    ),
    withdraw(
        "flags-med-well-known", "RFC 7606 section 3 (c)", "MULTI_EXIT_DISC flagged as well-known",
        trailing(attribute(WELL_KNOWN, 4, b"\0\0\0\1")),
    ),
    withdraw(
        "flags-communities-local", "RFC 7606 section 3 (c)", "COMMUNITIES flagged as non-transitive",
        trailing(attribute(OPTIONAL, 8, b"\xfd\xea\0\1")),
    ),
    keep(
        "flags-unused-bits", "RFC 4271 section 4.3", "The four lowest bits of ORIGIN's flags set",
        "They are ignored; the route is used",
        lambda talk, prefix: talk.announcing(prefix, origin=attribute(WELL_KNOWN | 0x0F, 1, b"\0")),
    ),
    keep(
        "flags-extended-length", "RFC 4271 section 4.3", "ORIGIN with a length of two octets",
        "The route is used",
        lambda talk, prefix: talk.announcing(prefix, origin=b"\x50\x01\x00\x01\x00"),
    ),
]  # fmt: skip

# --- routes ----------------------------------------------------------------------------------------------

INVALID = "NOTIFICATION Invalid Network Field (3/10)"


def routes(packed: bytes) -> Said:
    return lambda talk, prefix: talk.announcing(prefix, routes=packed)


def reset_by_family(key: str, section: str, situation: str, said: Said, **more: object) -> Row:
    """IPv4's own fields: RFC 4271. Those of RFC 4760: the session ends, or the family is used no more."""
    return Row(
        key, section, situation, f"{INVALID}; of MP_REACH_NLRI and MP_UNREACH_NLRI, {DISABLES.lower()}",
        again(said), ("NOTIFICATION 3/10", "NOTIFICATION 3/9", "NOTIFICATION 3/1"), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def withdrawn(four: bytes, six: bytes) -> Said:
    return lambda talk, prefix: update(b"", withdrawn=four) if talk.version == 4 else update(unreach(six))


ROUTES = [
    reset_by_family(
        "nlri-length", "RFC 7606 section 5.3", "A prefix longer than an address (/33, /129)",
        lambda talk, prefix: talk.announcing(
            prefix, routes=b"\x21\xc6\x33\x64\x00\x80" if talk.version == 4 else b"\x81" + bytes(17)
        ),
    ),
    reset_by_family(
        "nlri-cut", "RFC 7606 section 5.3", "A prefix that ends before its length",
        lambda talk, prefix: talk.announcing(
            prefix, routes=b"\x18\xc6\x33" if talk.version == 4 else b"\x40\x20\x01\x0d\xb8"
        ),
    ),
    reset_by_family(
        "nlri-withdrawn-length", "RFC 7606 section 3 (i), 5.3", "A withdrawn prefix longer than an address",
        withdrawn(b"\x21\xc6\x33\x64\x00\x80", b"\x81" + bytes(17)),
    ),
    reset_by_family(
        "nlri-withdrawn-cut", "RFC 7606 section 3 (i), 5.3", "A withdrawn prefix that ends before its length",
        withdrawn(b"\x18\xc6\x33", b"\x40\x20\x01\x0d\xb8"),
    ),
    keep(
        "nlri-host-bits", "RFC 4271 section 4.3", "A prefix with bits set beyond its length",
        "They are of no meaning: the route is used",
        lambda talk, prefix: talk.announcing(
            prefix, routes=bytes([nlri(prefix)[0] - 1]) + nlri(prefix)[1:-1] + bytes([nlri(prefix)[-1] | 1])
        ) + talk.announcing(prefix),
    ),
    Row(
        "nlri-multicast", "RFC 4271 section 6.3", "A multicast prefix",
        "It is ignored, the session is kept",
        again(lambda talk, prefix: talk.announcing("224.9.0.0/16" if talk.version == 4 else "ff15:9::/64")),
        (USED,),
    ),
    keep(
        "nlri-both-ways", "RFC 4271 section 4.3", "One prefix withdrawn and announced in one UPDATE",
        "As if it were announced alone: the route is used",
        lambda talk, prefix: update(
            ORIGIN_IGP + path(talk.as_number) + next_hop(talk.addresses[4]), nlri(prefix), nlri(prefix)
        ) if talk.version == 4 else update(
            reach(talk.addresses[6], nlri(prefix)) + unreach(nlri(prefix)) + ORIGIN_IGP + path(talk.as_number)
        ),
    ),
    keep(
        "nlri-withdrawn-unknown", "RFC 4271 section 3.1", "A prefix withdrawn that was never announced",
        "Nothing happens", lambda talk, prefix: talk.withdrawing(talk.prefix(1)),
    ),
]  # fmt: skip

# --- families --------------------------------------------------------------------------------------------


def only(afi: int) -> Callable[[Talk], bytes]:
    """The speaker offers one family."""
    return lambda talk: talk.opening(multiprotocol(afi) + four_octets(talk.as_number))


def foreign(spoken: int, opened: Callable[[Talk], bytes] | None = None) -> Script:
    """One family is spoken, and a route of the other is said."""

    async def script(talk: Talk) -> str:
        other = 10 - spoken
        connection = await talk.established(opened(talk) if opened else None)
        route = talk.prefix(1, other)
        connection.send(talk.announcing(route))
        fresh = talk.prefix(2, spoken)
        connection.send(talk.announcing(fresh))
        await talk.ribs.until(lambda rib: fresh in rib or connection.over, 8)
        if connection.over:
            return connection.ending()
        if not await talk.used(fresh, 0):
            return f"{KEPT}, nothing more is heard"
        return USED if await talk.used(route, 0) else WITHDRAWN

    return script


def bad_next_hop_length(talk: Talk, prefix: str) -> bytes:
    return update(reach(bytes(5), nlri("2001:db8:1::/48")) + ORIGIN_IGP + path(talk.as_number))


#: What RFC 4760 section 7 has for an attribute that is not right.
NOT_USED = (WITHDRAWN, "NOTIFICATION 3/9")
FAMILY_ENDS = ("NOTIFICATION 3/9", "NOTIFICATION 3/1", "NOTIFICATION 3/8", "NOTIFICATION 3/5")

FAMILIES = [
    Row(
        "family-ipv4-not-offered", "RFC 4760 section 8", "It offers IPv6 alone and announces an IPv4 route",
        "The route is not used", foreign(6, only(2)), NOT_USED,
    ),
    Row(
        "family-ipv6-not-offered", "RFC 4760 section 8", "It offers IPv4 alone and announces an IPv6 route",
        "The route is not used", foreign(4, only(1)), NOT_USED,
    ),
    *(
        Row(
            f"family-ipv{10 - spoken}-not-configured", "RFC 4760 section 8",
            f"It offers both families and announces an IPv{10 - spoken} route, not configured",
            "The route is not used", foreign(spoken), NOT_USED, peering=Peering(families=(spoken,)),
        )
        for spoken in (6, 4)
    ),
    Row(
        "family-unknown", "RFC 4760 section 8", "MP_REACH_NLRI of a family that nobody has offered (25/70)",
        "It is not used; nothing says that the session has to end",
        again(lambda talk, prefix: update(
            reach(bytes(4), bytes(4), 25, 70) + ORIGIN_IGP + path(talk.as_number)
        )),
        (USED, "NOTIFICATION 3/9"),
    ),
    reset(
        "reach-next-hop-length", "RFC 7606 section 7.11", "MP_REACH_NLRI with a next hop of five octets",
        DISABLES, bad_next_hop_length, *FAMILY_ENDS,
    ),
    reset(
        "reach-cut", "RFC 7606 section 5.3", "MP_REACH_NLRI of four octets", DISABLES,
        lambda talk, prefix: update(attribute(OPTIONAL, MP_REACH, b"\0\2\1\x10") + ORIGIN_IGP
                                    + path(talk.as_number)), *FAMILY_ENDS,
    ),
    reset(
        "reach-flags", "RFC 7606 section 5.3", "MP_REACH_NLRI flagged as transitive", DISABLES,
        lambda talk, prefix: update(
            bytes([OPTIONAL | TRANSITIVE]) + reach(talk.addresses[6], nlri("2001:db8:1::/48"))[1:]
            + ORIGIN_IGP + path(talk.as_number)
        ), *FAMILY_ENDS, "NOTIFICATION 3/4",
    ),
    reset(
        "unreach-cut", "RFC 7606 section 7.12", "MP_UNREACH_NLRI of two octets", DISABLES,
        lambda talk, prefix: update(attribute(OPTIONAL, MP_UNREACH, b"\0\2")), *FAMILY_ENDS,
    ),
    keep(
        "reach-two-next-hops", "RFC 2545 section 3", "Next hop of 32 octets, the second address link-local",
        "The route is used",
        lambda talk, prefix: talk.announcing(
            prefix,
            hop=reach(_packed(talk.addresses[6])
                      + bytes.fromhex("fe800000000000000000000000000091"), nlri(prefix)),
        ),
        versions=(6,),
    ),
    Row(
        "extended-message", "RFC 8654 section 4", "An UPDATE of 5000 octets, where both offer the capability",
        "The route is used",
        again(
            lambda talk, prefix: talk.announcing(prefix, attribute(OPTIONAL | TRANSITIVE, 213, bytes(5000))),
            lambda talk: talk.opening(talk.capabilities + EXTENDED_MESSAGE),
            needs=6,
        ),
        (USED,), optional=True,
    ),
]  # fmt: skip


def _packed(address: str) -> bytes:
    return nlri(f"{address}/128")[1:]


ROWS = [*LISTS, *FLAGS, *ROUTES, *FAMILIES]
