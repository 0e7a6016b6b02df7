"""RFC 4271 section 6.1: errors of the message header."""

from __future__ import annotations

from bgp_bytes import KEEPALIVE, MARKER, OPEN, UPDATE, framed, message
from row import Row, Script
from talk import Talk

SECTION = "RFC 4271 section 6.1"
NOT_SYNCHRONIZED = "NOTIFICATION 1/1"


def instead_of_open(data: bytes, *, told: bool = True) -> Script:
    """The first thing that is said."""

    async def script(talk: Talk) -> str:
        connection = await talk.dial()
        connection.send(data)
        return await connection.end(data=told)

    return script


def established(data: bytes, *, told: bool = True) -> Script:
    async def script(talk: Talk) -> str:
        connection = await talk.established()
        connection.send(data)
        return await connection.end(data=told)

    return script


def confirming(data: bytes, *, told: bool = True) -> Script:
    """In place of the KEEPALIVE that answers its OPEN."""

    async def script(talk: Talk) -> str:
        connection = await talk.dial()
        connection.send(talk.opening())
        await connection.until(lambda: connection.of(OPEN) or connection.over)
        connection.send(data)
        return await connection.end(data=told)

    return script


BAD_MARKER = b"\x5a" + MARKER[1:]


def length(
    key: str, situation: str, kind: int, body: bytes, script: object = established, **more: int
) -> Row:
    said = framed(kind, body, **more)
    field = said[16:18].hex()
    return Row(
        key,
        SECTION,
        situation,
        "NOTIFICATION Bad Message Length (1/2), with the length as it was",
        script(said),  # type: ignore[operator]
        (f"NOTIFICATION 1/2 ({field})",),
    )


ROWS = [
    Row(
        "header-marker-first",
        SECTION,
        "The first message has a marker that is not all ones",
        "NOTIFICATION Connection Not Synchronized (1/1)",
        instead_of_open(framed(OPEN, b"\4\xfd\xea\0\x5a\x0a\x5b\1\1\0", marker=BAD_MARKER), told=False),
        (NOT_SYNCHRONIZED,),
    ),
    Row(
        "header-marker-confirming",
        SECTION,
        "So has the message after the OPEN",
        "NOTIFICATION Connection Not Synchronized (1/1)",
        confirming(framed(KEEPALIVE, marker=BAD_MARKER), told=False),
        (NOT_SYNCHRONIZED,),
    ),
    Row(
        "header-marker",
        SECTION,
        "So has a KEEPALIVE of an established session",
        "NOTIFICATION Connection Not Synchronized (1/1)",
        established(framed(KEEPALIVE, marker=BAD_MARKER), told=False),
        (NOT_SYNCHRONIZED,),
    ),
    length("header-length-18", "A message says that it has 18 octets", KEEPALIVE, b"", length=18),
    length(
        "header-length-first",
        "The first message says that it has 18 octets",
        OPEN,
        b"",
        instead_of_open,
        length=18,
    ),
    length("header-length-0", "A message says that it has none", UPDATE, b"", length=0),
    length("header-length-65535", "A KEEPALIVE says that it has 65535 octets", KEEPALIVE, b"", length=65535),
    length(
        "header-open-4097",
        "An OPEN of 4097 octets, which no capability allows (RFC 8654)",
        OPEN,
        b"\4" * 4078,
        instead_of_open,
    ),
    length(
        "header-update-4097",
        "An UPDATE of 4097 octets without the capability of RFC 8654",
        UPDATE,
        b"\0\0\x0f\xea" + b"\xc0\xd5\xff" * 1358,
    ),
    length("header-keepalive-20", "A KEEPALIVE of 20 octets", KEEPALIVE, b"\0"),
    length("header-open-28", "An OPEN of 28 octets", OPEN, b"\4\xfd\xea\0\x5a\x0a\x5b\1\1", instead_of_open),
    length("header-update-22", "An UPDATE of 22 octets", UPDATE, b"\0\0\0"),
    *(
        Row(
            f"header-type-{kind}{'-first' if script is instead_of_open else ''}",
            SECTION,
            f"{'The first message is' if script is instead_of_open else 'A message'} of type {kind}",
            "NOTIFICATION Bad Message Type (1/3), with the type as it was",
            script(framed(kind)),
            (f"NOTIFICATION 1/3 ({kind:02x})",),
        )
        for kind, script in ((0, established), (6, established), (255, established), (7, instead_of_open))
    ),
    Row(
        "header-notification-20",
        "RFC 4271 section 6.4",
        "A NOTIFICATION of 20 octets",
        "The session ends: nothing answers a NOTIFICATION (6.1 has Bad Message Length, 1/2)",
        established(message(3, b"\6")),
        ("closed", "NOTIFICATION 1/2 (0014)"),
    ),
]
