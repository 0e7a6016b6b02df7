"""JSON schemas (2020-12) of the API's answers. Objects may hold more than is named here."""

from __future__ import annotations

from typing import Final

from l3net.shapes import NUMBER, TEXT, WHOLE, YES, Schema, listed, words
from l3net.shapes import holding as record


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def either(*kinds: str) -> Schema:
    return {"type": list(kinds)}


def paged(rows: Schema, **more: Schema) -> Schema:
    return record(total=WHOLE, offset=WHOLE, rows=listed(rows), **more)


_FAILURES: Final = listed(record(node=TEXT, error=TEXT))
_OPEN: Final[Schema] = {"type": "object"}

_BEGUN: Final = {**WHOLE, "description": "Connections that have begun, on the nodes that were asked."}
_ENDS: Final[dict[str, Schema]] = {
    "source": TEXT,
    "destination": TEXT,
    "service": TEXT,
    "protocol": TEXT,
    "port": WHOLE,
    "toPort": WHOLE,
    "masqueraded": YES,
}
_FLOW: Final = record(
    ("node",), serial=WHOLE, node=TEXT, time=NUMBER, sourcePort=WHOLE, policies=listed(TEXT), **_ENDS
)
_KINDS_OF: Final[dict[str, Schema]] = {
    "kinds": listed(record(("node",), node=TEXT, connections=WHOLE, **_ENDS)),
    "more": {**WHOLE, "description": "Connections of kinds that are counted together."},
    "lost": {**WHOLE, "description": "Times that more began than could be read."},
}

SCHEMAS: Final[dict[str, Schema]] = {
    "Error": record(error=TEXT),
    "Root": record(version=TEXT, cluster=YES, nodes=WHOLE, description=TEXT),
    "Names": record(cluster=YES, nodes=listed(TEXT)),
    "Session": record(
        name=TEXT,
        address=TEXT,
        localAddress=TEXT,
        asNumber=either("integer", "null"),
        type=TEXT,
        router={"type": "string", "description": "The peer's router ID while the session is established."},
        state=words("established", "down", "refused"),
        reason=TEXT,
        sinceSeconds=NUMBER,
        flaps=WHOLE,
        received=WHOLE,
        accepted=WHOLE,
        announced=WHOLE,
        refused={"type": "object", "additionalProperties": WHOLE},
        bfd={"type": "string", "description": "State of the BFD session; empty: there is none."},
    ),
    "Node": record(
        node=TEXT,
        version=TEXT,
        state=words("ready", "not ready", "draining", "unreachable"),
        why=TEXT,
        blocks=listed(TEXT),
        pods=WHOLE,
        peers=listed(ref("Session")),
        mesh=record(sessions=WHOLE, established=WHOLE, down=listed(ref("Session"))),
        announced=WHOLE,
        problems=listed(TEXT),
        problemCount=WHOLE,
    ),
    "Fabric": record(cluster=YES, at=NUMBER, nodes=listed(ref("Node"))),
    "Status": record(
        version=TEXT,
        node=TEXT,
        ready=YES,
        unready=TEXT,
        peers=listed(_OPEN),
        services=listed(_OPEN),
        problems=listed(TEXT),
    ),
    "Route": record(
        prefix=TEXT,
        pathId=TEXT,
        peer=TEXT,
        name=TEXT,
        nextHop=TEXT,
        asPath=listed(WHOLE),
        localPreference=either("integer", "null"),
        med=either("integer", "null"),
        communities=listed(TEXT),
        stale=YES,
        verdict=TEXT,
    ),
    "Export": record(
        peer=TEXT, name=TEXT, prefix=TEXT, kind=TEXT, service=TEXT, communities=listed(TEXT), verdict=TEXT
    ),
    "KernelRoute": record(prefix=TEXT, kind=TEXT, metric=WHOLE, nextHops=listed(TEXT), inKernel=YES),
    "Routes": paged(ref("Route")),
    "Exports": paged(ref("Export")),
    "Kernel": paged(ref("KernelRoute")),
    "Endpoint": record(address=TEXT, ports=listed(TEXT), node=TEXT, state=TEXT),
    "Service": record(
        ("connections",),
        connections=_BEGUN,
        service=TEXT,
        type=TEXT,
        ports=listed(TEXT),
        local=listed(words("internal", "external")),
        addresses=listed(record(address=TEXT, kind=TEXT, verdict=TEXT)),
        endpoints=listed(ref("Endpoint")),
        endpointCount=WHOLE,
    ),
    "Services": record(total=WHOLE, node=TEXT, rows=listed(ref("Service"))),
    "ServiceMap": record(
        total=WHOLE,
        rows=listed(
            record(
                ("connections",),
                connections=_BEGUN,
                service=TEXT,
                type=TEXT,
                ports=listed(TEXT),
                addresses=listed(
                    record(
                        address=TEXT,
                        kind=TEXT,
                        announcing=WHOLE,
                        nodes=listed(record(node=TEXT, verdict=TEXT, share=NUMBER)),
                    )
                ),
                endpoints=listed(ref("Endpoint")),
                endpointCount=WHOLE,
            )
        ),
        failures=_FAILURES,
    ),
    "Address": record(
        address=TEXT,
        kind=words("floatingIP", "egressIP"),
        by={"type": "string", "description": "The FloatingIP, Pod or EgressIP that asks for it."},
        pod={"type": "string", "description": "The pod that has it; of an egress address none."},
        node={"type": "string", "description": "The node that announces it."},
        connections={**WHOLE, "description": "That leave with it; of an egress address alone."},
        sinceSeconds={
            "type": "number",
            "description": "How long the node has had it, as far as its agent knows.",
        },
    ),
    "Addresses": paged(ref("Address")),
    "AllAddresses": paged(ref("Address"), failures=_FAILURES),
    "Pods": paged(record(pod=TEXT, addresses=listed(TEXT), policies=WHOLE)),
    "Lookup": record(
        node=TEXT,
        q=TEXT,
        received=listed(ref("Route")),
        announced=listed(ref("Export")),
        kernel=listed(ref("KernelRoute")),
        services=listed(ref("Service")),
        pods=listed(_OPEN),
        blocks=listed(TEXT),
        peers=listed(record(name=TEXT, address=TEXT, state=TEXT)),
    ),
    "Search": record(q=TEXT, found=listed(ref("Lookup")), failures=_FAILURES, asked=WHOLE),
    "Explanation": record(
        subject=TEXT,
        healthy=YES,
        answer=TEXT,
        advice=TEXT,
        steps=listed(
            record(
                ("where", "detail", "since"),
                what=TEXT,
                where=TEXT,
                verdict=words("ok", "bad", "note"),
                detail={},
                since={},
            )
        ),
    ),
    "Entry": record(
        ("peer", "reason", "old", "new", "node"),
        at={"type": "number", "description": "Seconds since 1970, UTC."},
        kind=TEXT,
        subject=TEXT,
        what=TEXT,
        peer=TEXT,
        reason=TEXT,
        old=TEXT,
        new=TEXT,
        node=TEXT,
    ),
    "History": record(("failures",), entries=listed(ref("Entry")), failures=_FAILURES),
    "Policies": paged(_OPEN, refused=TEXT),
    "Agent": _OPEN,
    "Policy": _OPEN,
    "Matrix": record(
        namespace=TEXT,
        port=TEXT,
        columns=listed(record(name=TEXT, pods=listed(TEXT))),
        rows=listed({"type": "object", "required": ["from", "pods", "to"]}),
        notes=listed(TEXT),
    ),
    "Test": record(allowed=YES, source=TEXT, destination=TEXT, connections=listed(_OPEN), notes=listed(TEXT)),
    "Drop": record(
        ("serial", "node"),
        serial=WHOLE,
        node=TEXT,
        time=NUMBER,
        direction=TEXT,
        source=_OPEN,
        destination=_OPEN,
        protocol=TEXT,
        policies=listed(TEXT),
        reason=TEXT,
    ),
    "Drops": record(drops=listed(ref("Drop")), seen=WHOLE, logging=WHOLE, problem=TEXT),
    "Flow": _FLOW,
    "Flows": record(node=TEXT, flows=listed(ref("Flow")), problem=TEXT, sinceSeconds=NUMBER, **_KINDS_OF),
    "AllFlows": record(flows=listed(ref("Flow")), problems=listed(_OPEN), failures=_FAILURES, **_KINDS_OF),
    "AllDrops": record(
        drops=listed(ref("Drop")), seen=WHOLE, logging=WHOLE, problems=listed(_OPEN), failures=_FAILURES
    ),
}
#: The schema of each resource of a node, and of what is told of all nodes.
OF_NODE: Final = {
    "fabric": "Node",
    "status": "Status",
    "routes": "Routes",
    "exports": "Exports",
    "kernel": "Kernel",
    "services": "Services",
    "addresses": "Addresses",
    "pods": "Pods",
    "lookup": "Lookup",
    "explain": "Explanation",
    "history": "History",
    "policies": "Policies",
    "policy": "Policy",
    "matrix": "Matrix",
    "test": "Test",
    "drops": "Drops",
    "flows": "Flows",
    "agent": "Agent",
}
OF_ALL: Final = {
    "fabric": "Fabric",
    "search": "Search",
    "services": "ServiceMap",
    "addresses": "AllAddresses",
    "history": "History",
    "drops": "AllDrops",
    "flows": "AllFlows",
}
