"""Route refresh: RFC 2918, and the enhanced one of RFC 7313."""

from __future__ import annotations

from bgp_bytes import REFRESH, ROUTE_REFRESH, UPDATE, four_octets, multiprotocol, nlri, route_refresh
from row import NOT_OFFERED, USED, WITHDRAWN, Row, Script
from rows_update import judged
from talk import KEPT, Connection, Talk

ENHANCED = 70
BEGINS, ENDS = 1, 2
PURGED = f"{KEPT}, what was not said again is gone"


def afi(talk: Talk) -> int:
    return 1 if talk.version == 4 else 2


def plain(talk: Talk) -> bytes:
    """An OPEN without the enhanced refresh."""
    return talk.opening(multiprotocol(1) + multiprotocol(2) + REFRESH + four_octets(talk.as_number))


def answered(enhanced: bool) -> Script:
    """How it answers a ROUTE-REFRESH."""

    async def script(talk: Talk) -> str:
        connection = await talk.established(None if enhanced else plain(talk))
        if enhanced and ENHANCED not in connection.offered():
            return NOT_OFFERED
        routes = nlri(talk.dut.own[talk.version])
        # On a busy machine its first routes may come late.
        await connection.until(lambda: any(routes in heard.body for heard in connection.of(UPDATE)))
        already = len(connection.heard)
        connection.send(route_refresh(afi(talk)))

        def said() -> list[str]:
            found = []
            for heard in connection.heard[already:]:
                if heard.kind == ROUTE_REFRESH and heard.body[2] in (BEGINS, ENDS):
                    found.append("BoRR" if heard.body[2] == BEGINS else "EoRR")
                elif heard.kind == UPDATE and routes in heard.body:
                    found.append("routes")
            return found

        wanted = ["BoRR", "routes", "EoRR"] if enhanced else ["routes"]
        await connection.until(lambda: said() == wanted or connection.over)
        return connection.ending() if connection.over else ", ".join(said()) or "no answer"

    return script


def purging(*, begins: bool = True, ends: bool = True, enhanced: bool = True) -> Script:
    """Two routes, and one of them is said again between BoRR and EoRR."""

    async def script(talk: Talk) -> str:
        connection = await talk.established(None if enhanced else plain(talk))
        if enhanced and ENHANCED not in connection.offered():
            return NOT_OFFERED
        kept, other = await talk.announced(connection), await talk.announced(connection, 1)
        said = route_refresh(afi(talk), subtype=BEGINS) if begins else b""
        said += talk.announcing(kept)
        connection.send(said + (route_refresh(afi(talk), subtype=ENDS) if ends else b""))
        outcome = await talk.after(connection)
        if outcome != KEPT:
            return outcome
        if not await talk.used(kept, 0):
            return WITHDRAWN
        # An implementation may take a moment to sweep.
        return PURGED if await talk.gone(other, 3 if begins and ends and enhanced else 0.5) else USED

    return script


def said(data: bytes, needs: int = 0, *, more: bool = False) -> Script:
    async def script(talk: Talk) -> str:
        connection: Connection = await talk.established()
        if needs and needs not in connection.offered():
            return NOT_OFFERED
        prefix = await talk.announced(connection)
        connection.send(data)
        return await judged(talk, connection, prefix, data=more)

    return script


LONG = route_refresh(1, subtype=BEGINS, more=b"\0")

ROWS = [
    Row(
        "refresh", "RFC 2918 section 4", "ROUTE-REFRESH", "The routes of the family are sent again",
        answered(False), ("routes",),
    ),
    Row(
        "refresh-family", "RFC 2918 section 4", "ROUTE-REFRESH of a family that was not offered (25/70)",
        "It is ignored", said(route_refresh(25, 70)), (USED,),
    ),
    Row(
        "refresh-enhanced", "RFC 7313 section 4", "ROUTE-REFRESH, where both offer the enhanced one",
        "BoRR, the routes, EoRR", answered(True), ("BoRR, routes, EoRR",), optional=True,
    ),
    Row(
        "refresh-purge", "RFC 7313 section 4", "BoRR, one of two routes, EoRR",
        "The other route is taken for withdrawn", purging(), (PURGED,), optional=True,
    ),
    Row(
        "refresh-begin", "RFC 7313 section 4", "BoRR and one of two routes, no EoRR yet",
        "Both are used", purging(ends=False), (USED,), optional=True,
    ),
    Row(
        "refresh-end", "RFC 7313 section 4", "One of two routes and EoRR, without BoRR",
        "EoRR is ignored: both are used", purging(begins=False), (USED,), optional=True,
    ),
    Row(
        "refresh-unasked", "RFC 7313 section 4", "BoRR, a route, EoRR of a peer that has not offered it",
        "Nothing is taken away", purging(enhanced=False), (USED,),
    ),
    Row(
        "refresh-subtype", "RFC 7313 section 5", "ROUTE-REFRESH of subtype 9", "It is ignored",
        said(route_refresh(1, subtype=9), ENHANCED), (USED,), optional=True,
    ),
    Row(
        "refresh-length", "RFC 7313 section 5", "BoRR with an octet too many",
        "NOTIFICATION Invalid Message Length (7/1), with the message", said(LONG, ENHANCED, more=True),
        (f"NOTIFICATION 7/1 ({LONG.hex()})",), optional=True,
    ),
]  # fmt: skip
