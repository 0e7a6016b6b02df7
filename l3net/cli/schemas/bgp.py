"""Of `l3net bgp`, and of peers in the status."""

from __future__ import annotations

from typing import Final

from l3net.bgp.verdict import Export, Verdict
from l3net.cli.schemas.shapes import (
    FAMILY,
    NUMBER,
    PORT,
    SECONDS,
    TEXT,
    WHOLE,
    YES,
    Schema,
    answer,
    listed,
    mapped,
    more,
    of_enum,
    or_null,
    record,
    rows,
    verdict,
    words,
)
from l3net.services.verdicts import Reason, ServiceAddressKind

_BFD: Final = or_null(
    {
        "anyOf": [
            record(state=words("waiting for BGP", "unknown"), failed=YES),
            record(
                state=words("AdminDown", "Down", "Init", "Up"),
                remoteState=TEXT,
                sinceSeconds=SECONDS,
                detectionTimeMs=NUMBER,
                transmitIntervalMs=NUMBER,
                diagnostic=TEXT,
                remoteDiagnostic=TEXT,
                multihop=YES,
                failed=YES,
                flaps=WHOLE,
                echo=TEXT,
            ),
        ]
    }
)
_NEGOTIATED: Final = record(
    ("software",),
    routerID=TEXT,
    families=listed(FAMILY),
    holdTime=WHOLE,
    keepaliveTime=WHOLE,
    capabilities=listed(TEXT),
    software=TEXT,
    routeRefresh=YES,
    gracefulRestart=or_null(
        record(restartTime=WHOLE, families=listed(FAMILY), preserved=listed(FAMILY), kept=listed(FAMILY))
    ),
)
_RESET: Final = record(
    sinceSeconds=SECONDS,
    reason=TEXT,
    direction=words("", "sent", "received"),
    code=or_null(WHOLE),
    subcode=or_null(WHOLE),
    name=TEXT,
    text=TEXT,
)
#: A peer, in the status and among the neighbors. One that is refused has no session, and less to tell.
PEER: Final = record(
    name=TEXT,
    address=TEXT,
    asNumber=or_null(WHOLE),
    localAddress=TEXT,
    interface=TEXT,
    port=PORT,
    listenPort=PORT,
    password={"type": "boolean", "description": "Whether there is one; never the password."},
    gtsm=YES,
    passive=YES,
    type=words("eBGP", "iBGP", ""),
    state=words("established", "down", "refused"),
    fsm=words("Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established", ""),
    reason=TEXT,
    sinceSeconds=SECONDS,
    flaps=WHOLE,
    received=WHOLE,
    accepted=WHOLE,
    refused={**mapped(WHOLE), "description": "How many routes by the verdict that refuses them."},
    overLimit=listed(FAMILY),
    announced=WHOLE,
    bfd=_BFD,
    syncing=listed(FAMILY),
    stale=WHOLE,
    unansweredRefresh=listed(FAMILY),
    outQueue=WHOLE,
    stuckSeconds=SECONDS,
    negotiated=or_null(_NEGOTIATED),
    lastReset=or_null(_RESET),
    lastAttempt=or_null(record(sinceSeconds=SECONDS, direction=words("in", "out"), error=TEXT)),
)
_NOTICE: Final = or_null(record(sinceSeconds=SECONDS, code=WHOLE, subcode=WHOLE, name=TEXT, text=TEXT))
_BESIDE: Final[dict[str, Schema]] = {
    "localASNumber": WHOLE,
    "localRouterID": TEXT,
    "configured": record(
        holdTime=WHOLE,
        sendHoldTime=or_null(WHOLE),
        gracefulRestart=WHOLE,
        families=listed(FAMILY),
        multihop=or_null(WHOLE),
        maxPrefixes=WHOLE,
        filters=listed(TEXT),
    ),
    "messages": or_null(record(sent=mapped(WHOLE), received=mapped(WHOLE))),
    "byFamily": mapped(record(received=WHOLE, wanted=WHOLE)),
    "lastUpdateSeconds": or_null(SECONDS),
    "lastNotification": record(sent=_NOTICE, received=_NOTICE),
}
_NEIGHBOR: Final = more(PEER, tuple(_BESIDE), **_BESIDE)
_PATH: Final = record(
    prefix=TEXT,
    pathId=TEXT,
    peer=TEXT,
    name=TEXT,
    nextHop=TEXT,
    asPath=listed(WHOLE),
    asPathText=TEXT,
    origin=words("igp", "egp", "incomplete"),
    localPreference=or_null(WHOLE),
    med=or_null(WHOLE),
    communities=listed(TEXT),
)
_IMPORTED: Final = verdict(Verdict, Verdict.FILTERED.value)
_RECEIVED: Final = more(_PATH, stale=YES, verdict=_IMPORTED, reason=TEXT, best=YES)
_ADVERTISED: Final = more(_PATH, state=words("sent", "queued", "sessionDown"))
_EXPORTED: Final = {
    "anyOf": [*verdict(Export, Export.FILTERED.value)["anyOf"], of_enum(Reason), {"type": "string"}]
}
_OWN: Final = record(
    peer=TEXT,
    name=TEXT,
    prefix=TEXT,
    kind=words("block", "network", "floatingIP", "egressIP", *(each.value for each in ServiceAddressKind)),
    service=TEXT,
    communities=listed(TEXT),
    verdict=_EXPORTED,
)
#: What would happen to a session; of `l3net plan` too.
STEP: Final = record(
    peer=TEXT,
    name=TEXT,
    action=words("added", "removed", "reset", "soft", "live", "unchanged"),
    fields=listed(TEXT),
    announce=listed(TEXT),
    withdraw=listed(TEXT),
)
_LEARNED: Final = record(prefix=TEXT, before=_IMPORTED, after=_IMPORTED)

SCHEMAS: Final[dict[str, Schema]] = {
    "bgp announced": rows(_OWN),
    "bgp neighbor": rows(_NEIGHBOR),
    "bgp neighbors": rows(_NEIGHBOR),
    "bgp plan": record(
        node=TEXT, sessions=listed(more(STEP, learned=listed(_LEARNED))), problems=listed(TEXT)
    ),
    "bgp routes": {"anyOf": [rows(_RECEIVED), rows(_ADVERTISED)]},
    "bgp summary": answer(
        record(
            node=TEXT,
            routerID=TEXT,
            asNumber=or_null(WHOLE),
            prefixes=WHOLE,
            speakerConnected=YES,
            neighbors=listed(_NEIGHBOR),
        )
    ),
}
