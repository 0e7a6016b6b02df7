"""OPEN: RFC 4271 section 6.2, capabilities (RFC 5492), AS numbers (6793, 7607), identifiers (6286), and the
extended optional parameters of RFC 9072."""

from __future__ import annotations

import struct
from collections.abc import Callable

from bgp_bytes import (
    BOTH_FAMILIES,
    KEEPALIVE,
    OPEN,
    REFRESH,
    ROUTE_REFRESH,
    UPDATE,
    capability,
    extended_parameter,
    four_octets,
    message,
    multiprotocol,
    nlri,
    opening,
    opening_extended,
    parameter,
)
from duts import Peering
from row import ESTABLISHED, Row, Script
from talk import Talk

SECTION = "RFC 4271 section 6.2"
#: An OPEN out of what a conversation is.
Opened = Callable[[Talk], bytes]


def says(opened: Opened, *, data: bool = False) -> Script:
    """What an OPEN is answered with."""

    async def script(talk: Talk) -> str:
        connection = await talk.dial()
        if await talk.shake(connection, opened(talk)):
            return ESTABLISHED
        return await connection.end(data=data)

    return script


def plain(talk: Talk, **changes: object) -> bytes:
    given: dict[str, object] = {
        "as_number": talk.as_number,
        "identifier": talk.identifier,
        "parameters": parameter(2, talk.capabilities),
    }
    return opening(**(given | changes))  # type: ignore[arg-type]


def capable(capabilities: Callable[[Talk], bytes]) -> Opened:
    return lambda talk: plain(talk, parameters=parameter(2, capabilities(talk)))


def parameters(given: Callable[[Talk], bytes], **changes: int) -> Opened:
    return lambda talk: plain(talk, parameters=given(talk), **changes)


def extended(given: Callable[[Talk], bytes], **changes: int) -> Opened:
    return lambda talk: opening_extended(talk.as_number, talk.identifier, given(talk), **changes)


def its_identifier(ibgp: bool) -> Script:
    """With the BGP Identifier that the other side has itself."""

    async def script(talk: Talk) -> str:
        connection = await talk.dial()
        if not connection.of(OPEN):  # it waits for ours: ask on another connection
            asking = await talk.established()
            connection, asked = await talk.dial(), asking
            body = asked.of(OPEN)[0].body
            await asked.close()
        else:
            body = connection.of(OPEN)[0].body
        identifier = ".".join(map(str, body[5:9]))
        if await talk.shake(connection, plain(talk, identifier=identifier)):
            return ESTABLISHED
        return await connection.end()

    return script


def without_capabilities(capabilities: bytes | None) -> Script:
    """Its IPv4 routes are wanted, and nothing that has not been offered."""

    async def script(talk: Talk) -> str:
        given = b"" if capabilities is None else parameter(2, capabilities)
        talk.wide = False
        connection = await talk.established(plain(talk, parameters=given))
        routes = nlri(talk.dut.own[4])
        if not await connection.until(lambda: any(routes in each.body for each in connection.of(UPDATE))):
            return f"{ESTABLISHED}, IPv4 routes are not sent"
        outcome = await talk.after(connection) if talk.version == 4 else ESTABLISHED
        if connection.of(ROUTE_REFRESH):
            return "ROUTE-REFRESH sent, which was not offered"
        return f"{ESTABLISHED}, IPv4 routes sent" if "NOTIFICATION" not in outcome else outcome

    return script


async def no_keepalives(talk: Talk) -> str:
    """Hold time 0 (RFC 4271 section 4.4): none are sent."""
    connection = await talk.dial()
    connection.send(plain(talk, hold_time=0))
    await connection.until(lambda: connection.of(OPEN) or connection.over)
    connection.send(message(KEEPALIVE))
    await connection.until(lambda: connection.of(KEEPALIVE) or connection.over)
    if connection.over:
        return connection.ending()
    # Longer than its own hold time: nothing ends it, and no KEEPALIVE comes after the first.
    await connection.until(lambda: connection.over, 11)
    if connection.over:
        return connection.ending()
    return f"{ESTABLISHED}, {'no ' if len(connection.of(KEEPALIVE)) == 1 else ''}KEEPALIVEs after the first"


def refused(key: str, situation: str, asks: str, opened: Opened, *accepts: str, data: bool = False,
            section: str = SECTION, **more: object) -> Row:  # fmt: skip
    return Row(key, section, situation, asks, says(opened, data=data), accepts, **more)  # type: ignore[arg-type]


def taken(key: str, section: str, situation: str, asks: str, opened: Opened, **more: object) -> Row:
    return Row(key, section, situation, asks, says(opened), (ESTABLISHED,), **more)  # type: ignore[arg-type]


def capabilities(talk: Talk) -> bytes:
    return parameter(2, talk.capabilities)


BAD_PEER_AS = "NOTIFICATION Bad Peer AS (2/2)"
MALFORMED = "NOTIFICATION OPEN Message Error, Unspecific (2/0)"

ROWS = [
    *(
        refused(
            f"open-version-{version}", f"Version {version}",
            "NOTIFICATION Unsupported Version Number (2/1), with the version that it has, in two octets",
            lambda talk, version=version: plain(talk, version=version),  # type: ignore[misc]
            "NOTIFICATION 2/1 (0004)", data=True,
        )
        for version in (3, 5)
    ),
    refused(
        "open-as-other", "Another AS number than the configured one", BAD_PEER_AS,
        lambda talk: plain(
            talk, as_number=65003, parameters=parameter(2, BOTH_FAMILIES + four_octets(65003))
        ),
        "NOTIFICATION 2/2",
    ),
    refused(
        "open-as-capability", "The capability has another AS number than the configured one", BAD_PEER_AS,
        capable(lambda talk: BOTH_FAMILIES + four_octets(65003)), "NOTIFICATION 2/2",
        section="RFC 6793 section 4.1",
    ),
    refused(
        "open-as-0", "AS number 0", BAD_PEER_AS,
        lambda talk: plain(talk, as_number=0, parameters=parameter(2, BOTH_FAMILIES)),
        "NOTIFICATION 2/2", section="RFC 7607 section 2",
    ),
    refused(
        "open-as-0-capability", "AS number 0 in the capability", BAD_PEER_AS,
        capable(lambda talk: BOTH_FAMILIES + four_octets(0)), "NOTIFICATION 2/2",
        section="RFC 7607 section 2",
    ),
    refused(
        "open-identifier-0", "BGP Identifier 0.0.0.0", "NOTIFICATION Bad BGP Identifier (2/3)",
        lambda talk: plain(talk, identifier="0.0.0.0"), "NOTIFICATION 2/3", section="RFC 6286 section 2.2",
    ),
    Row(
        "open-identifier-same-ibgp", "RFC 6286 section 2.2", "An internal peer has its own BGP Identifier",
        "NOTIFICATION Bad BGP Identifier (2/3)", its_identifier(True), ("NOTIFICATION 2/3",),
        peering=Peering(ibgp=True),
    ),
    Row(
        "open-identifier-same", "RFC 6286 section 2.1", "An external peer has its own BGP Identifier",
        "It is unique within an AS alone: a session", its_identifier(False), (ESTABLISHED,),
    ),
    taken(
        "open-identifier-multicast", "RFC 6286 section 2.2", "BGP Identifier 224.0.0.1",
        "Any that is not zero: a session", lambda talk: plain(talk, identifier="224.0.0.1"),
    ),
    *(
        refused(
            f"open-hold-time-{seconds}", f"Hold time {seconds}", "NOTIFICATION Unacceptable Hold Time (2/6)",
            lambda talk, seconds=seconds: plain(talk, hold_time=seconds),  # type: ignore[misc]
            "NOTIFICATION 2/6",
        )
        for seconds in (1, 2)
    ),
    Row(
        "open-hold-time-0", "RFC 4271 section 4.4", "Hold time 0",
        "No KEEPALIVEs, and no hold timer; a hold time may be refused",
        no_keepalives, (f"{ESTABLISHED}, no KEEPALIVEs after the first", "NOTIFICATION 2/6"),
    ),
    refused(
        "open-parameter-unknown", "An optional parameter of type 7",
        "NOTIFICATION Unsupported Optional Parameter (2/4)",
        parameters(lambda talk: parameter(7, b"\1\2") + capabilities(talk)), "NOTIFICATION 2/4",
    ),
    refused(
        "open-parameter-1", "An optional parameter of type 1 (authentication, which RFC 4271 does not have)",
        "NOTIFICATION Unsupported Optional Parameter (2/4)",
        parameters(lambda talk: parameter(1, b"\0") + capabilities(talk)),
        "NOTIFICATION 2/4", "NOTIFICATION 2/5",
    ),
    refused(
        "open-parameters-long", "The optional parameters are longer than the message", MALFORMED,
        parameters(capabilities, length=200), "NOTIFICATION 2/0",
    ),
    refused(
        "open-parameters-short", "The optional parameters are shorter than the message", MALFORMED,
        parameters(lambda talk: capabilities(talk) + b"\0\0\0"), "NOTIFICATION 2/0", "NOTIFICATION 2/4",
    ),
    refused(
        "open-parameter-long", "A parameter is longer than all of them", MALFORMED,
        parameters(lambda talk: b"\2\xf0" + talk.capabilities), "NOTIFICATION 2/0",
    ),
    refused(
        "open-capability-long", "A capability is longer than its parameter", MALFORMED,
        capable(lambda talk: talk.capabilities + b"\x02\x09"), "NOTIFICATION 2/0",
    ),
    refused(
        "open-capability-cut", "A capability ends after its code", MALFORMED,
        capable(lambda talk: talk.capabilities + b"\x02"), "NOTIFICATION 2/0",
    ),
    refused(
        "open-as-capability-length", "The capability of four-octet AS numbers has two octets", MALFORMED,
        capable(lambda talk: BOTH_FAMILIES + capability(65, b"\xfd\xea")),
        "NOTIFICATION 2/0", "NOTIFICATION 2/2",
        section="RFC 6793 section 3",
    ),
    taken(
        "open-capability-unknown", "RFC 5492 section 3", "A capability that nobody knows (code 240)",
        "It is ignored: a session", capable(lambda talk: talk.capabilities + capability(240, b"\1\2\3")),
    ),
    taken(
        "open-capabilities-apart", "RFC 5492 section 4",
        "Each capability in an optional parameter of its own",
        "It is taken as if they were in one: a session",
        parameters(
            lambda talk: b"".join(
                parameter(2, each)
                for each in (multiprotocol(1), multiprotocol(2), REFRESH, four_octets(talk.as_number))
            )
        ),
    ),
    taken(
        "open-capability-twice", "RFC 5492 section 4", "Capabilities twice, the same",
        "It is no error: a session", capable(lambda talk: talk.capabilities + talk.capabilities),
    ),
    Row(
        "open-no-capabilities", "RFC 4760 section 8, RFC 5492", "No optional parameter at all",
        "IPv4 unicast is exchanged; nothing else, and no ROUTE-REFRESH",
        without_capabilities(None), (f"{ESTABLISHED}, IPv4 routes sent",),
    ),
    Row(
        "open-no-multiprotocol", "RFC 4760 section 8", "Capabilities, but none of multiprotocol",
        "IPv4 unicast is exchanged", without_capabilities(capability(240)),
        (f"{ESTABLISHED}, IPv4 routes sent",),
    ),
    taken(
        "open-extended", "RFC 9072 section 2", "The optional parameters' length in the extended form",
        "It is accepted whatever the length: a session",
        extended(lambda talk: extended_parameter(2, talk.capabilities)),
    ),
    taken(
        "open-extended-long", "RFC 9072 section 2", "Optional parameters of 900 octets",
        "A session",
        extended(
            lambda talk: extended_parameter(2, talk.capabilities)
            + b"".join(extended_parameter(2, capability(240, bytes(200))) for _ in range(4))
        ),
    ),
    taken(
        "open-extended-one", "RFC 9072 section 2", "One optional parameter of more than 255 octets",
        "A session",
        extended(
            lambda talk: extended_parameter(2, talk.capabilities + capability(240, bytes(200)) * 2)
        ),
    ),
    taken(
        "open-extended-first-length", "RFC 9072 section 2",
        "The extended form, with another number than 255 in the old length's place",
        "That number is ignored unless it is 0: a session",
        extended(lambda talk: extended_parameter(2, talk.capabilities), non_extended=9),
    ),
    refused(
        "open-extended-overrun", "An extended length that is longer than the message", MALFORMED,
        extended(lambda talk: extended_parameter(2, talk.capabilities), length=500), "NOTIFICATION 2/0",
        section="RFC 9072 section 2",
    ),
    refused(
        "open-extended-cut", "The extended form, which ends before its length", MALFORMED,
        lambda talk: opening(talk.as_number, talk.identifier, struct.pack("!B", 255), length=255),
        "NOTIFICATION 2/0", section="RFC 9072 section 2",
    ),
]  # fmt: skip
