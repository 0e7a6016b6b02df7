"""Hold timers, state machine, Cease and collisions: RFC 4271 sections 6.5 to 6.8, RFC 6608, RFC 9687."""

from __future__ import annotations

import asyncio
import time

from bgp_bytes import (
    KEEPALIVE,
    OPEN,
    UPDATE,
    graceful,
    message,
    notification,
    opening,
    parameter,
    route_refresh,
    update,
)
from duts import Peering
from row import ESTABLISHED, Row, Script
from talk import AGAIN, CLOSED, KEPT, Connection, Refused, Talk

HOLD = "RFC 4271 section 6.5"
COLLISION = "RFC 4271 section 6.8"
EXPIRED = "NOTIFICATION 4/0"
#: RFC 9687 suggests eight minutes.
STUCK = 560.0
BOTH_LISTED = graceful(120, [(1, 0x80), (2, 0x80)])


# --- hold timer ------------------------------------------------------------------------------------------


async def silent(talk: Talk) -> str:
    """It offers a hold time of 3 s, and says nothing once the session is established."""
    connection = await talk.dial()
    if not await talk.shake(connection, talk.opening(hold_time=3)):
        raise Refused(connection.ending())
    connection.quiet()
    began = time.monotonic()
    outcome = await connection.end(seconds=12)
    took = time.monotonic() - began
    return f"{outcome} after {'3' if 2 < took < 5.5 else f'{took:.0f}'} s" if outcome != KEPT else outcome


async def silent_confirming(talk: Talk) -> str:
    """No KEEPALIVE answers its OPEN."""
    connection = await talk.dial()
    connection.send(talk.opening(hold_time=3))
    return await connection.end(seconds=12)


async def silent_opening(talk: Talk) -> str:
    """No OPEN at all."""
    connection = await talk.dial()
    return await connection.end(seconds=300)


async def keepalives(talk: Talk) -> str:
    """How often it says that it lives, with a hold time of 3 s."""
    connection = await talk.dial()
    if not await talk.shake(connection, talk.opening(hold_time=3)):
        raise Refused(connection.ending())
    await asyncio.sleep(4)
    if connection.over:
        return connection.ending()
    count = len(connection.of(KEEPALIVE)) - 1
    return f"{KEPT}, a KEEPALIVE each second" if 3 <= count <= 5 else f"{KEPT}, {count} KEEPALIVEs in 4 s"


async def updates_count(talk: Talk) -> str:
    """UPDATEs in place of KEEPALIVEs."""
    connection = await talk.dial()
    if not await talk.shake(connection, talk.opening(hold_time=3)):
        raise Refused(connection.ending())
    connection.quiet()
    for _ in range(5):
        await asyncio.sleep(1)
        connection.send(talk.announcing(talk.prefix()))
    return connection.ending()


async def reads_no_more(talk: Talk) -> str:
    """Its window is full; it goes on to say that it lives. The routes go with the session."""
    connection = await talk.established(window=4096)
    prefix = await talk.announced(connection)
    connection.deaf()
    for _ in range(30):  # asked again and again, until nothing more fits
        for _ in range(100):
            connection.send(route_refresh(1) + route_refresh(2))
        waiting = []
        for _ in range(2):
            await asyncio.sleep(0.5)
            waiting.append(await asyncio.to_thread(talk.dut.unsent, talk.here))
        if all(waiting):
            break
    else:
        return "not brought about: it sends nothing that could fill the window"
    began = time.monotonic()
    if not await talk.gone(prefix, STUCK):
        return f"{KEPT} for {STUCK:.0f} s"
    return f"session ended after about {round((time.monotonic() - began) / 5) * 5} s"


# --- finite state machine --------------------------------------------------------------------------------


def in_open_sent(said: bytes) -> Script:
    async def script(talk: Talk) -> str:
        connection = await talk.dial()
        connection.send(said)
        return await connection.end()

    return script


def in_open_confirm(said: bytes | None) -> Script:
    """Before a KEEPALIVE has answered its OPEN. None: another OPEN."""

    async def script(talk: Talk) -> str:
        connection = await talk.dial()
        connection.send(talk.opening())
        await connection.until(lambda: connection.of(OPEN) or connection.over)
        connection.send(talk.opening() if said is None else said)
        return await connection.end()

    return script


async def open_established(talk: Talk) -> str:
    connection = await talk.established()
    connection.send(talk.opening())
    return await connection.end()


# --- Cease -----------------------------------------------------------------------------------------------


async def ended_by_configuration(talk: Talk) -> str:
    connection = await talk.established()
    await asyncio.to_thread(talk.dut.end_session, talk.here)
    outcome = await connection.end(seconds=15)
    return "NOTIFICATION 6" if outcome.startswith("NOTIFICATION 6/") else outcome


async def told_to_cease(talk: Talk) -> str:
    """With a text (RFC 9003): nothing answers a NOTIFICATION, the routes go, and a new session comes up."""
    connection = await talk.established()
    prefix = await talk.announced(connection)
    text = "maintenance \N{GREEK SMALL LETTER BETA}".encode()
    connection.send(notification(6, 2, bytes([len(text)]) + text))
    await connection.until(lambda: connection.ended)
    if connection.ending() != CLOSED:
        return connection.ending()
    if not await talk.gone(prefix):
        return f"{CLOSED}, route kept"
    await talk.established(seconds=AGAIN)
    return f"{CLOSED}, route withdrawn, then {ESTABLISHED}"


# --- collisions ------------------------------------------------------------------------------------------


def collision(identifier: str) -> Script:
    """It dials and is dialled, neither is established: the connection of the higher BGP Identifier stays."""

    async def script(talk: Talk) -> str:
        said = opening(talk.as_number, identifier, parameter(2, talk.capabilities))
        theirs = await talk.accept()
        try:
            ours = await talk.dial(once=True)
        except Refused as err:
            return f"it dials, and takes no other connection ({err})"
        for connection in (theirs, ours):
            connection.send(said)
            # Only once the first is in OpenConfirm can the second collide with it.
            await connection.until(lambda c=connection: c.of(KEEPALIVE) or c.over, 3)  # type: ignore[misc]
        for connection in (theirs, ours):
            if not connection.over:
                connection.send(message(KEEPALIVE))
        await asyncio.sleep(2)
        return f"its connection: {_state(theirs)}; the other: {_state(ours)}"

    return script


def _state(connection: Connection) -> str:
    if connection.over:
        return connection.ending()
    return "established" if connection.of(KEEPALIVE) else "open"


def second(capabilities: bytes = b"", age: float = 0.0) -> Script:
    """Another connection while the session is established, for `age` seconds at least."""

    async def script(talk: Talk) -> str:
        said = talk.opening(talk.capabilities + capabilities)
        one = await talk.established(said)
        prefix = await talk.announced(one)
        await asyncio.sleep(age)
        try:
            other = await talk.dial(once=True)
        except Refused:
            outcome = "the new one is refused"
        else:
            came = await talk.shake(other, said)
            outcome = "the new one is established" if came else f"the new one: {other.ending()}"
        if one.over:
            return f"{outcome}, the old one: {one.ending()}"
        kept = await talk.used(prefix, 0)
        return f"{outcome}, the old one is kept" + ("" if kept else " without its route")

    return script


#: Then no two can collide.
NO_OTHER = "it dials, and takes no other connection (connection refused)"
SECOND_REFUSED = (
    "the new one: NOTIFICATION 6/7, the old one is kept",
    "the new one: NOTIFICATION 6/5, the old one is kept",
    "the new one is refused, the old one is kept",
)
DIALS = Peering(dials=True)

ROWS = [
    Row(
        "hold-expired", HOLD, "Nothing is said in an established session, with a hold time of 3 s",
        "NOTIFICATION Hold Timer Expired (4/0) after 3 s", silent, (f"{EXPIRED} after 3 s",),
    ),
    Row(
        "hold-expired-confirming", HOLD, "Nothing follows the OPEN, with a hold time of 3 s",
        "NOTIFICATION Hold Timer Expired (4/0)", silent_confirming, (EXPIRED,),
    ),
    Row(
        "hold-expired-opening", "RFC 4271 section 8.2.2", "Nothing is said at all",
        "NOTIFICATION Hold Timer Expired (4/0); four minutes are suggested", silent_opening, (EXPIRED,),
        slow=True,
    ),
    Row(
        "hold-keepalives", "RFC 4271 section 4.4, 10", "A hold time of 3 s is offered",
        "A KEEPALIVE in each third of it", keepalives, (f"{KEPT}, a KEEPALIVE each second",),
    ),
    Row(
        "hold-updates", "RFC 4271 section 8.2.2",
        "UPDATEs each second, and no KEEPALIVE, with a hold time of 3 s",
        "They restart the hold timer too: the session is kept", updates_count, (KEPT,),
    ),
    Row(
        "send-hold", "RFC 9687 section 3", "Nothing is read any more, while KEEPALIVEs go on",
        "The send hold timer ends the session: NOTIFICATION 8/0 where it can still be sent", reads_no_more,
        ("session ended after about * s",), slow=True,
    ),
    *(
        Row(
            f"fsm-open-sent-{name}", "RFC 4271 section 6.6, RFC 6608", f"{words} before the OPEN",
            "NOTIFICATION Unexpected Message in OpenSent (5/1)", in_open_sent(said),
            ("NOTIFICATION 5/1", "NOTIFICATION 5/0"),
        )
        for name, words, said in (
            ("keepalive", "A KEEPALIVE", message(KEEPALIVE)), ("update", "An UPDATE", update(b"")),
        )
    ),
    Row(
        "fsm-open-sent-notification", "RFC 4271 section 8.2.2", "A NOTIFICATION before the OPEN",
        "The connection is closed", in_open_sent(notification(6, 5)), (CLOSED,),
    ),
    Row(
        "fsm-open-confirm-update", "RFC 4271 section 6.6, RFC 6608", "An UPDATE before the KEEPALIVE",
        "NOTIFICATION Unexpected Message in OpenConfirm (5/2)", in_open_confirm(message(UPDATE, bytes(4))),
        ("NOTIFICATION 5/2", "NOTIFICATION 5/0"),
    ),
    Row(
        "fsm-open-confirm-open", "RFC 4271 section 8.2.2, RFC 6608", "A second OPEN before the KEEPALIVE",
        "NOTIFICATION Unexpected Message in OpenConfirm (5/2), or collision (6/7)", in_open_confirm(None),
        ("NOTIFICATION 5/2", "NOTIFICATION 5/0", "NOTIFICATION 6/7"),
    ),
    Row(
        "fsm-established-open", "RFC 4271 section 6.6, RFC 6608", "An OPEN in an established session",
        "NOTIFICATION Unexpected Message in Established (5/3)", open_established,
        ("NOTIFICATION 5/3", "NOTIFICATION 5/0", "NOTIFICATION 6/7"),
    ),
    Row(
        "cease-sent", "RFC 4271 section 6.7, RFC 4486",
        "The session is taken down by configuration or command",
        "NOTIFICATION Cease (6)", ended_by_configuration, ("NOTIFICATION 6",),
    ),
    Row(
        "cease-received", "RFC 4271 section 6.7, RFC 9003", "NOTIFICATION 6/2 with a text is received",
        "The session ends, its routes go; a new one may come", told_to_cease,
        (f"{CLOSED}, route withdrawn, then {ESTABLISHED}",),
    ),
    Row(
        "collision-lower", COLLISION, "Each dials the other, and the peer's BGP Identifier is the lower one",
        "Its own connection stays, the peer's is closed with Cease (6/7)", collision("1.1.1.1"),
        ("its connection: established; the other: NOTIFICATION 6/7",
         NO_OTHER),
        peering=DIALS,
    ),
    Row(
        "collision-higher", COLLISION,
        "Each dials the other, and the peer's BGP Identifier is the higher one",
        "The peer's connection stays, its own is closed with Cease (6/7)", collision("223.255.255.254"),
        ("its connection: NOTIFICATION 6/7; the other: established",
         NO_OTHER),
        peering=DIALS,
    ),
    Row(
        "second-connection", COLLISION, "Another connection while the session is established",
        "It is closed, with Cease (6/7) once it has said OPEN; the session is kept", second(), SECOND_REFUSED,
    ),
    Row(
        "second-connection-graceful", "RFC 4724 section 5",
        "The same by a peer with graceful restart, which has restarted: nobody has seen the old one end",
        "The old one is closed without a NOTIFICATION, the new one goes on", second(BOTH_LISTED, age=8.0),
        (f"the new one is established, the old one: {CLOSED}",),
    ),
]  # fmt: skip
