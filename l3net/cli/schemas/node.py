"""Of the commands that look at nodes: status, doctor, history, ipam, flows."""

from __future__ import annotations

from typing import Final

from l3net.agent.draining import stage_name
from l3net.bgp.drain import Stage
from l3net.cli.schemas.bgp import PEER
from l3net.cli.schemas.policy import DROP
from l3net.cli.schemas.shapes import (
    MOMENT,
    PORT,
    SECONDS,
    TEXT,
    WHOLE,
    YES,
    Schema,
    answer,
    listed,
    more,
    of_enum,
    or_line,
    or_null,
    record,
    rows,
    with_node,
    words,
)
from l3net.doctor.findings import Severity
from l3net.history.entry import EntryKind
from l3net.model import DrainCause, Kind, RouteKind, ServiceProxy
from l3net.services.verdicts import Reason, ServiceAddressKind

_STAGE: Final = words(*map(stage_name, Stage))
_STATUS: Final = record(
    ("pods", "policy", "monitoring", "views", "serviceProxy", "consistent", "floating", "egress"),
    version=TEXT,
    node=TEXT,
    routerID=TEXT,
    asNumber=or_null(WHOLE),
    pid=WHOLE,
    inSync=YES,
    ready=YES,
    unready=TEXT,
    reconciled=YES,
    speakerConnected=YES,
    drain={
        "anyOf": [
            record(stage=_STAGE),
            record(stage=_STAGE, cause=of_enum(DrainCause), sinceSeconds=SECONDS),
        ]
    },
    memoryMiB=SECONDS,
    memoryPeakMiB=SECONDS,
    blocks=listed(TEXT),
    peers=listed(PEER),
    services=listed(
        record(
            service=TEXT,
            address=TEXT,
            kind=of_enum(ServiceAddressKind),
            reason=of_enum(Reason),
            lost=listed(TEXT),
        )
    ),
    serviceProxy=record(setting=of_enum(ServiceProxy), on=YES, why=TEXT, kubeProxy=TEXT),
    consistent=record(servers=WHOLE, slots=WHOLE, short=WHOLE),
    floating=record(
        held=listed(record(address=TEXT, by=TEXT, pod=TEXT, podAddress=TEXT, sinceSeconds=SECONDS)),
        came=WHOLE,
        left=WHOLE,
    ),
    egress=record(
        held=listed(record(address=TEXT, by=TEXT, connections=WHOLE, sinceSeconds=SECONDS)),
        pods=WHOLE,
        came=WHOLE,
        left=WHOLE,
    ),
    pods=record(
        store=TEXT,
        leases=WHOLE,
        adopted=WHOLE,
        conflicts=WHOLE,
        quarantined=WHOLE,
        faults=listed(record(part=TEXT, count=WHOLE, last=TEXT, lasting=YES)),
        retained=listed(record(block=TEXT, attachments=WHOLE, claimedBy=TEXT)),
    ),
    policy=record(
        policies=WHOLE,
        pods=WHOLE,
        podsWithPolicies=WHOLE,
        connectionsEnded=WHOLE,
        dropsLogged=WHOLE,
        refused=TEXT,
        waiting=listed(TEXT),
    ),
    monitoring=record(
        bmp=listed(
            record(
                name=TEXT,
                address=TEXT,
                port=PORT,
                connected=YES,
                sinceSeconds=SECONDS,
                waiting=WHOLE,
                messages=WHOLE,
                octets=WHOLE,
                connections=WHOLE,
                dropped=WHOLE,
                lastError=TEXT,
            )
        )
    ),
    views=listed(
        record(kind=of_enum(Kind), listedSeconds=or_null(SECONDS), bookmarkSeconds=or_null(SECONDS))
    ),
    problems=listed(TEXT),
    routes=listed(
        record(
            prefix=TEXT,
            kind=words(*(each.name.lower() for each in RouteKind)),
            metric=WHOLE,
            nextHops=listed(TEXT),
            inKernel=YES,
        )
    ),
)
_FINDING: Final = record(check=TEXT, subject=TEXT, severity=of_enum(Severity), what=TEXT, remedy=TEXT)
_PROBLEM: Final = record(
    check=TEXT,
    severity=of_enum(Severity),
    subjects=listed(TEXT),
    what=TEXT,
    remedy=TEXT,
    nodes=listed(TEXT),
    count=WHOLE,
    differs=YES,
)
#: A decision that was carried out; of `l3net explain` too.
ENTRY: Final = record(
    at=MOMENT,
    kind=of_enum(EntryKind),
    subject=TEXT,
    what=TEXT,
    peer=TEXT,
    reason=TEXT,
    old=TEXT,
    new=TEXT,
    count=WHOLE,
    prefixes=listed(TEXT),
)
_TIME: Final = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
_ATTACHMENT: Final = {"network": TEXT, "containerID": TEXT, "ifname": TEXT}
_LEASE: Final = record(
    **_ATTACHMENT,
    addresses=listed(TEXT),
    pod=TEXT,
    podUID=TEXT,
    hostInterface=TEXT,
    since=_TIME,
    sequence=WHOLE,
)
_FLOW: Final = record(
    source=TEXT,
    destination=TEXT,
    service=TEXT,
    protocol=TEXT,
    port=PORT,
    toPort=PORT,
    masqueraded=YES,
)
_COUNTED: Final = more(_FLOW, connections=WHOLE)

SCHEMAS: Final[dict[str, Schema]] = {
    "status": answer(_STATUS),
    "doctor": {"anyOf": [listed(_FINDING), listed(_PROBLEM)]},
    "history": or_line(rows(ENTRY), ENTRY, with_node(ENTRY)),
    "ipam show": listed(_LEASE),
    "ipam who": listed(_LEASE),
    "ipam history": listed(
        record(
            at=_TIME,
            event=words("assign", "release", "reboot", "import", "adopt", "audit", "gc", "undo"),
            address=TEXT,
            pod=TEXT,
            **_ATTACHMENT,
        )
    ),
    "ipam check": listed(record(what=TEXT, of=TEXT)),
    "flows": or_line(
        {"anyOf": [listed(more(_COUNTED, unanswered=WHOLE)), listed(DROP)]},
        more(_FLOW, at=MOMENT, event=words("began", "ended"), sourcePort=PORT),
        record(at=MOMENT, seconds=SECONDS, flows=listed(_COUNTED)),
        DROP,
    ),
}
