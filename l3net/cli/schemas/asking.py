"""Of the commands that answer a question: explain, trace, plan, validate, conformance, lab."""

from __future__ import annotations

from typing import Final

from l3net.cli.schemas.bgp import STEP
from l3net.cli.schemas.node import ENTRY
from l3net.cli.schemas.shapes import (
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
    words,
)
from l3net.conformance.verdict import FAILED, PASSED, SKIPPED
from l3net.explain.steps import Mark
from l3net.importing.source import Outcome
from l3net.lab.chaos.catalogue import FAULTS
from l3net.model import Kind
from l3net.services.verdicts import Reason, ServiceAddressKind

_EXPLANATION: Final = record(
    node=TEXT,
    subject=TEXT,
    healthy=YES,
    sure={"type": "boolean", "description": "Whether nothing stays that could not be judged."},
    inside=or_null(YES),
    outside=or_null(YES),
    ends=or_null(record(source=TEXT, destination=TEXT, port=TEXT)),
    cause={"type": "string", "description": "A stable word for what stops packets; empty: nothing does."},
    answer=TEXT,
    advice=TEXT,
    steps=listed(
        record(
            what=TEXT,
            where=TEXT,
            verdict=of_enum(Mark),
            detail=TEXT,
            advice=TEXT,
            cause=TEXT,
            since=TEXT,
            prefix=TEXT,
            peer=TEXT,
        )
    ),
    changed=or_null(ENTRY),
)
_MET: Final[dict[str, Schema]] = dict.fromkeys(("host", "table", "chain", "rule", "verdict"), TEXT)
_CHANGE: Final = words("added", "changed", "removed")
_REASON: Final = words("", *(each.value for each in Reason))
_PLACE: Final = record(where=TEXT, file=TEXT, line=or_null(WHOLE))
_LINE: Final = more(_PLACE, field=TEXT, why=TEXT)
_MOVE_PLAN: Final = record(
    node=TEXT,
    possible=YES,
    blocks=listed(TEXT),
    moves=listed(
        record(
            pod=TEXT,
            containerID=TEXT,
            addresses=listed(TEXT),
            **{"from": TEXT},
            hostInterface=TEXT,
            newHostInterface=TEXT,
        )
    ),
    obstacles=listed(record(pod=TEXT, why=TEXT, remedy=TEXT)),
    bridges=listed(TEXT),
    aside=listed(TEXT),
    others=listed(TEXT),
    notes=listed(TEXT),
)
_MOVE_STATUS: Final = record(
    state=words("none", "unfinished", "moved"),
    node=TEXT,
    since=TEXT,
    runtimeTakes=TEXT,
    agentRuns=YES,
    podsOfL3net=WHOLE,
    podsMoved=WHOLE,
    bridges=listed(TEXT),
    remains=TEXT,
)
_IMPORTED: Final = record(
    counts=record(**dict.fromkeys((each.value for each in Outcome), WHOLE)),
    skipped={"type": "integer", "description": "Objects that are not the source's configuration."},
    findings=listed(
        record(
            outcome=of_enum(Outcome),
            kind=TEXT,
            name=TEXT,
            field={"type": "string", "description": "Of the source's object; empty: the object as a whole."},
            detail=TEXT,
            where=TEXT,
        )
    ),
    manifests=listed(record(kind=TEXT, namespace=TEXT, name=TEXT)),
)
_FAULT: Final = words(*sorted(FAULTS))

SCHEMAS: Final[dict[str, Schema]] = {
    "version": record(
        (
            *("agent", "speaker", "exabgp", "peers"),
            *("python", "kernel", "pyroute2", "kubernetes", "scapy", "nftables"),
        ),
        l3net=TEXT,
        agent=TEXT,
        speaker=TEXT,
        exabgp=TEXT,
        peers=mapped(TEXT),
        python=TEXT,
        kernel=TEXT,
        pyroute2=TEXT,
        kubernetes=TEXT,
        scapy=TEXT,
        nftables=TEXT,
    ),
    "explain": answer(_EXPLANATION),
    "trace": record(
        arrived=YES,
        answer=TEXT,
        advice=TEXT,
        probe=record(
            source=TEXT,
            destination=TEXT,
            port=PORT,
            protocol=TEXT,
            sourcePort=PORT,
            maxHops=WHOLE,
            tries=WHOLE,
            wait=SECONDS,
        ),
        hops=listed(record(ttl=WHOLE, address=TEXT, name=TEXT, answer=TEXT, milliseconds=or_null(NUMBER))),
        drops=listed(record(**_MET)),
        rules=listed(record(**_MET, packets=WHOLE)),
        explain=_EXPLANATION,
        untraced=listed(TEXT),
    ),
    "plan": record(
        nodes=listed(
            record(
                node=TEXT,
                cuts=YES,
                sessions=listed(STEP),
                servers=listed(
                    record(
                        address={"type": "string", "description": "An address, or nodePort."},
                        protocol=words("tcp", "udp", "sctp"),
                        port=PORT,
                        action=_CHANGE,
                        endpointsBefore=WHOLE,
                        endpointsAfter=WHOLE,
                    )
                ),
                verdicts=listed(
                    record(
                        service=TEXT,
                        address=TEXT,
                        kind=of_enum(ServiceAddressKind),
                        before=_REASON,
                        after=_REASON,
                        lost=listed(TEXT),
                    )
                ),
                blocksAdded=listed(TEXT),
                blocksRemoved=listed(TEXT),
                refusals=listed(TEXT),
            )
        ),
        policies=listed(
            record(
                kind=words(Kind.NETWORK_POLICY.value, Kind.CLUSTER_NETWORK_POLICY.value),
                name=TEXT,
                action=_CHANGE,
            )
        ),
        problems=listed(TEXT),
    ),
    "migrate plan": _MOVE_PLAN,
    "migrate status": _MOVE_STATUS,
    **{f"import {source}": _IMPORTED for source in ("calico", "cilium", "kube-router", "metallb")},
    "validate": record(
        files=WHOLE,
        objects=listed(more(_PLACE, kind=of_enum(Kind), name=TEXT)),
        rejected=listed(_LINE),
        unserved=listed(_LINE),
        unread=listed(TEXT),
    ),
    "conformance": record(
        plugin=TEXT,
        passed=WHOLE,
        of=WHOLE,
        cases=listed(record(point=TEXT, title=TEXT, verdict=words(PASSED, FAILED, SKIPPED), why=TEXT)),
    ),
    "lab status": record(
        name=TEXT,
        directory=TEXT,
        hosts=listed(
            record(
                name=TEXT,
                role=TEXT,
                pid=WHOLE,
                daemons=mapped(YES),
                sessions=TEXT,
                memoryMiB=mapped(NUMBER),
            )
        ),
        pods=listed(record(name=TEXT, node=TEXT, addresses=listed(TEXT))),
        cut={**listed(listed(TEXT)), "description": "Links that are down, by their two hosts."},
    ),
    "lab check": record(
        ok=YES,
        findings=listed(
            record(
                check=TEXT,
                what=TEXT,
                ok=YES,
                expected=TEXT,
                seen=TEXT,
                family=or_null({"type": "integer", "enum": [4, 6]}),
                seconds=SECONDS,
            )
        ),
    ),
    "lab chaos": {
        "anyOf": [
            listed(record(fault=_FAULT, family=TEXT, what=TEXT)),
            record(
                ("topology",),
                seed=WHOLE,
                seconds=SECONDS,
                topology={"type": "object", "description": "As `l3net lab up --topology` reads it."},
                steps=listed(
                    record(at=SECONDS, fault=_FAULT, target=TEXT, seconds=SECONDS, choice={"type": "integer"})
                ),
            ),
            record(
                ok=YES,
                seed=WHOLE,
                seconds=SECONDS,
                paths=WHOLE,
                probesSent=WHOLE,
                probesLost=WHOLE,
                faults=listed(
                    record(
                        fault=TEXT,
                        times=WHOLE,
                        lostWorst=WHOLE,
                        lostTotal=WHOLE,
                        convergedWorstSeconds=SECONDS,
                    )
                ),
                failures=listed(record(at=NUMBER, what=TEXT, causes=listed(TEXT))),
                leftOut=mapped(TEXT),
                slowness=NUMBER,
                processorSeconds=mapped(NUMBER),
            ),
        ]
    },
}
