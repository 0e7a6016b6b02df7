"""Graceful restart: RFC 4724, and RFC 8538 where it is not negotiated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from bgp_bytes import END_OF_RIB, FORWARDS, NOTIFIES, RESTARTED, UPDATE, graceful, nlri, notification
from row import NOT_OFFERED, Row, Script
from talk import AGAIN, CLOSED, Connection, Talk

SECTION = "RFC 4724 section 4.2"
BOTH = [(1, FORWARDS), (2, FORWARDS)]
#: Long enough for whoever takes routes away at once.
AT_ONCE = 4.0
#: When the last stale route has to be gone after End-of-RIB: some wait a while for what comes late.
SWEPT = 25.0

Families = Iterable[tuple[int, int]]


def offering(talk: Talk, families: Families | None, seconds: int = 60, flags: int = 0) -> bytes:
    """Its OPEN; None: without the capability."""
    listed = b"" if families is None else graceful(seconds, families, flags)
    return talk.opening(talk.capabilities + listed)


async def begun(talk: Talk, opened: bytes) -> Connection:
    """A session over which a route of each family is in use, and has been said to be all."""
    connection = await talk.established(opened)
    for version in (4, 6):
        await talk.announced(connection, version=version)
        connection.send(END_OF_RIB[version])
    return connection


async def fate(talk: Talk, seconds: float = AT_ONCE) -> str:
    """Which of the two are still there."""
    gone = {}
    for version in (4, 6):
        gone[version] = await talk.gone(talk.prefix(version=version), seconds)
        seconds = 0.5  # they go together, if they do
    if gone[4] == gone[6]:
        return "routes gone" if gone[4] else "routes kept"
    return ", ".join(f"IPv{version} {'gone' if gone[version] else 'kept'}" for version in (4, 6))


def lost(families: Families | None, **more: int) -> Script:
    """The connection is lost, as when the peer dies."""

    async def script(talk: Talk) -> str:
        connection = await begun(talk, offering(talk, families, **more))
        await connection.close()
        return await fate(talk)

    return script


async def expired(talk: Talk) -> str:
    """It does not come back in its restart time of 5 s."""
    connection = await begun(talk, offering(talk, BOTH, 5))
    await connection.close()
    began = time.monotonic()
    if await talk.gone(talk.prefix(), 2):
        return "routes gone"
    if not await talk.gone(talk.prefix(), 15):
        return "routes kept for 17 s"
    return f"routes gone after {'5' if time.monotonic() - began < 9 else f'{time.monotonic() - began:.0f}'} s"


def ended(how: str, flags: int = 0) -> Script:
    """The session ends by a NOTIFICATION; all had been listed."""

    async def script(talk: Talk) -> str:
        opened = offering(talk, BOTH, flags=flags)
        if how == "hold timer":
            opened = talk.opening(talk.capabilities + graceful(60, BOTH), hold_time=3)
        connection = await begun(talk, opened)
        told = ""
        if flags:
            offered = connection.offered().get(64, b"")
            told = f"N flag {'set' if offered and offered[0] >> 4 & NOTIFIES else 'clear'}, "
        if how == "hold timer":
            connection.quiet()
            if await connection.end(seconds=12) != "NOTIFICATION 4/0":
                return connection.ending()
        else:
            code, subcode = map(int, how.split("/"))
            connection.send(notification(code, subcode))
            await connection.until(lambda: connection.ended)
        return told + await fate(talk)

    return script


def back(families: Families | None) -> Script:
    """It is back, and has said nothing yet."""

    async def script(talk: Talk) -> str:
        connection = await begun(talk, offering(talk, BOTH))
        await connection.close()
        if await fate(talk, 1.5) != "routes kept":
            return "routes gone before it is back"
        await talk.established(offering(talk, families, flags=RESTARTED), seconds=AGAIN)
        return await fate(talk)

    return script


async def swept(talk: Talk) -> str:
    """It is back with its forwarding state, says one route again and not the other."""
    connection = await begun(talk, offering(talk, BOTH))
    other = await talk.announced(connection, 1)
    await connection.close()
    if await fate(talk, 1.5) != "routes kept":
        return "routes gone before it is back"
    connection = await talk.established(offering(talk, BOTH, flags=RESTARTED), seconds=AGAIN)
    if await fate(talk, 1.5) != "routes kept":
        return "routes gone when it is back"
    for version in (4, 6):
        connection.send(talk.announcing(talk.prefix(version=version)))
    await asyncio.sleep(1)
    if await talk.gone(other, 0.5):
        return "gone before End-of-RIB"
    for version in (4, 6):
        connection.send(END_OF_RIB[version])
    if not await talk.gone(other, SWEPT):
        return f"kept for {SWEPT:.0f} s after End-of-RIB"
    return "kept until End-of-RIB; then what was not said again is gone, the rest stays" if (
        await fate(talk, 0.5) == "routes kept"
    ) else "all gone after End-of-RIB"  # fmt: skip


async def lost_again(talk: Talk) -> str:
    """It is back, and lost again before it has said anything."""
    connection = await begun(talk, offering(talk, BOTH))
    await connection.close()
    if await fate(talk, 1.5) != "routes kept":
        return "routes gone before it is back"
    connection = await talk.established(offering(talk, BOTH, flags=RESTARTED), seconds=AGAIN)
    await connection.close()
    return await fate(talk)


async def end_of_rib(talk: Talk) -> str:
    """What it says after its first routes."""
    connection = await talk.established(offering(talk, BOTH))
    markers = {version: END_OF_RIB[version][19:] for version in (4, 6)}
    # The length of the attribute may have one octet or two.
    extended = bytes.fromhex("00000007900f0003000201")

    def said() -> set[int]:
        bodies = [heard.body for heard in connection.of(UPDATE)]
        return {
            version
            for version in (4, 6)
            if markers[version] in bodies or (version == 6 and extended in bodies)
        }

    await connection.until(lambda: said() == {4, 6}, 20)
    if said() != {4, 6}:
        return f"End-of-RIB of {', '.join(f'IPv{version}' for version in said()) or 'no family'}"
    routes = {version: nlri(talk.dut.own[version]) for version in (4, 6)}
    bodies = [heard.body for heard in connection.of(UPDATE)]
    for version in (4, 6):
        marker = next(
            n
            for n, body in enumerate(bodies)
            if body == markers[version] or (version == 6 and body == extended)
        )
        late = [n for n, body in enumerate(bodies) if routes[version] in body]
        if late and max(late) > marker:
            return "End-of-RIB before the routes"
    return "End-of-RIB of both families, after the routes"


async def restart_flag(talk: Talk) -> str:
    """Of a second session; nobody has restarted. Or of a third: ExaBGP sets the flag once, too, where it ends
    a session itself to take over another configuration (Peer.reestablish), which may come as this begins."""
    connection = await talk.established(offering(talk, BOTH))
    for _ in range(2):
        connection.send(notification(6, 4))
        await connection.close()
        connection = await talk.established(offering(talk, BOTH), seconds=AGAIN)
        offered = connection.offered().get(64)
        if not offered:
            return NOT_OFFERED
        if not offered[0] >> 4 & RESTARTED:
            return "R flag clear"
    return "R flag set"


async def restarted(talk: Talk) -> str:
    """It is killed and started again."""
    connection = await talk.established(offering(talk, BOTH))
    await asyncio.to_thread(talk.dut.restart)
    await connection.until(lambda: connection.over)
    if connection.ending() != CLOSED:
        return connection.ending()
    connection = await talk.established(offering(talk, BOTH), seconds=AGAIN)
    offered = connection.offered().get(64)
    if not offered:
        return NOT_OFFERED
    for version in (4, 6):
        connection.send(END_OF_RIB[version])
    families = [offered[at : at + 4] for at in range(2, len(offered), 4)]
    forwards = sum(bool(each[3] & FORWARDS) for each in families)
    routes = nlri(talk.dut.own[talk.version])
    sent = await connection.until(lambda: any(routes in heard.body for heard in connection.of(UPDATE)), 30)
    flag = "set" if offered[0] >> 4 & RESTARTED else "clear"
    return (
        f"R flag {flag}, F flags set: {forwards} of {len(families)}, routes {'sent' if sent else 'not sent'}"
    )


GONE, HELD = "routes gone", "routes kept"

ROWS = [
    Row(
        "restart-listed", SECTION, "Both families listed with the F flag; the connection is lost",
        "The routes are kept", lost(BOTH), (HELD,),
    ),
    Row(
        "restart-listed-none", SECTION, "The capability lists no family; the connection is lost",
        "All routes go at once", lost([]), (GONE,),
    ),
    Row(
        "restart-listed-ipv4", SECTION, "The capability lists IPv4 alone; the connection is lost",
        "IPv6 routes go at once", lost([(1, FORWARDS)]), ("IPv4 kept, IPv6 gone",),
    ),
    Row(
        "restart-listed-ipv6", SECTION, "The capability lists IPv6 alone; the connection is lost",
        "IPv4 routes go at once", lost([(2, FORWARDS)]), ("IPv4 gone, IPv6 kept",),
    ),
    Row(
        "restart-without", "RFC 4271 section 8.2.2", "No graceful restart; the connection is lost",
        "All routes go at once", lost(None), (GONE,),
    ),
    Row(
        "restart-time", SECTION, "It does not come back in its restart time of 5 s",
        "The routes go", expired, ("routes gone after 5 s",),
    ),
    Row(
        "restart-back", SECTION,
        "It is back with R and F flags, says some routes again and End-of-RIB",
        "Stale routes stay until End-of-RIB; what was not said again goes", swept,
        ("kept until End-of-RIB; then what was not said again is gone, the rest stays",),
    ),
    Row(
        "restart-back-no-f", SECTION, "It is back, with the F flags clear", "Its stale routes go at once",
        back([(1, 0), (2, 0)]), (GONE,),
    ),
    Row(
        "restart-back-ipv4", SECTION, "It is back, with IPv4 alone listed", "Stale IPv6 routes go at once",
        back([(1, FORWARDS)]), ("IPv4 kept, IPv6 gone",),
    ),
    Row(
        "restart-back-none", SECTION, "It is back, with no family listed", "Its stale routes go at once",
        back([]), (GONE,),
    ),
    Row(
        "restart-back-without", SECTION, "It is back without the capability", "Its stale routes go at once",
        back(None), (GONE,),
    ),
    Row(
        "restart-twice", SECTION, "It is back, and lost again before it has said a route",
        "Routes that were stale already go", lost_again, (GONE,),
    ),
    Row(
        "restart-notification", "RFC 4724 section 4", "It ends the session with NOTIFICATION 6/2",
        "The routes go at once", ended("6/2"), (GONE,),
    ),
    Row(
        "restart-hold-timer", "RFC 4724 section 4", "It falls silent, and NOTIFICATION 4/0 ends the session",
        "The routes go at once", ended("hold timer"), (GONE,),
    ),
    Row(
        "restart-end-of-rib", "RFC 4724 section 2", "A session with graceful restart comes up",
        "End-of-RIB for each family, after its routes", end_of_rib,
        ("End-of-RIB of both families, after the routes",),
    ),
    Row(
        "restart-flag", "RFC 4724 section 3", "A session comes up, and the receiver has not restarted",
        "The R flag of its OPEN is clear", restart_flag, ("R flag clear",),
    ),
    Row(
        "restart-restarter", "RFC 4724 section 4.1", "It is killed and started again itself",
        "R flag; F flags where it forwards on; then its routes", restarted,
        ("R flag set, F flags set: 2 of 2, routes sent",), alone=True,
    ),
    Row(
        "restart-n-flag", "RFC 8538 section 4", "The peer has the N flag, and ends the session with 6/4",
        "Kept if both have it; else the routes go", ended("6/4", NOTIFIES),
        ("N flag clear, routes gone", "N flag set, routes kept"),
    ),
    Row(
        "restart-hard-reset", "RFC 8538 section 3", "The peer has the N flag, and ends the session with 6/9",
        "A hard reset: the routes go", ended("6/9", NOTIFIES),
        ("N flag clear, routes gone", "N flag set, routes gone"),
    ),
]  # fmt: skip
