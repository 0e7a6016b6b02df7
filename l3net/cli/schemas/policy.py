"""Of `l3net policy`."""

from __future__ import annotations

from typing import Any, Final

from l3net.cli.schemas.shapes import (
    FAMILY,
    MOMENT,
    PORT,
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
from l3net.model import Direction, Kind, Tier
from l3net.policy.matrix import NO, SOME
from l3net.policy.matrix import YES as REACHES
from l3net.policy.verdict import Why

_KIND: Final = words(Kind.NETWORK_POLICY.value, Kind.CLUSTER_NETWORK_POLICY.value)
_TIER: Final = words(*dict.fromkeys(each.shown for each in Tier))
_DIRECTION: Final = of_enum(Direction)
_POLICY: Final = record(
    kind=_KIND,
    namespace=TEXT,
    name=TEXT,
    tier=_TIER,
    priority=or_null({"type": "integer"}),
    subject=TEXT,
    pods=listed(TEXT),
    ingress=or_null(WHOLE),
    egress=or_null(WHOLE),
    logsDrops=YES,
    derived=YES,
)
_REFUSED: Final = {
    "type": "string",
    "description": "Why policies are not in force as declared; empty: they are.",
}
_RULE: Final = or_null(
    record(
        kind=_KIND,
        namespace=TEXT,
        policy=TEXT,
        tier=_TIER,
        direction=_DIRECTION,
        index=WHOLE,
        name=TEXT,
    )
)
_END: Final[dict[str, Schema]] = {"name": TEXT, "address": TEXT, "node": TEXT}
_SOCKET: Final = record(name=TEXT, address=TEXT, port=PORT)
#: A packet that a policy dropped; of `l3net flows --drops` too.
DROP: Final = record(
    serial=WHOLE,
    time=MOMENT,
    direction=words("", *(each.value for each in Direction)),
    source=_SOCKET,
    destination=_SOCKET,
    protocol=TEXT,
    policies=listed(TEXT),
    reason=TEXT,
)
_MANIFEST: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "description": "The policy as it is declared, of the Kubernetes API.",
}

SCHEMAS: Final[dict[str, Schema]] = {
    "policy list": rows(_POLICY),
    "policy show": answer(
        more(
            _POLICY,
            ("notAccepted", "refused"),
            rules=record(ingress=listed(TEXT), egress=listed(TEXT)),
            packets=or_null(
                listed(record(direction=_DIRECTION, action=words("accept", "deny"), packets=WHOLE))
            ),
            manifest=_MANIFEST,
            notAccepted=listed(record(direction=_DIRECTION, policies=listed(TEXT), packets=WHOLE)),
            refused=_REFUSED,
        )
    ),
    "policy test": answer(
        record(
            allowed=YES,
            source=TEXT,
            destination=TEXT,
            connections=listed(
                record(
                    allowed=YES,
                    source=record(**_END),
                    destination=record(**_END, service=TEXT),
                    port=TEXT,
                    because=TEXT,
                    decisions=listed(
                        record(
                            direction=_DIRECTION,
                            pod=TEXT,
                            node=TEXT,
                            allowed=YES,
                            why=of_enum(Why),
                            rule=_RULE,
                            passedBy=_RULE,
                            selectedBy=listed(TEXT),
                            text=TEXT,
                        )
                    ),
                )
            ),
            notes=listed(TEXT),
            refused=_REFUSED,
        )
    ),
    "policy matrix": answer(
        record(
            namespace=TEXT,
            port=TEXT,
            columns=listed(record(name=TEXT, pods=listed(TEXT))),
            rows=listed(
                {
                    "type": "object",
                    "properties": {
                        "from": TEXT,
                        "pods": WHOLE,
                        "to": listed(
                            {
                                "type": "object",
                                "propertyNames": FAMILY,
                                "additionalProperties": words(REACHES, NO, SOME),
                            }
                        ),
                    },
                    "required": ["from", "pods", "to"],
                    "additionalProperties": False,
                }
            ),
            notes=listed(TEXT),
            refused=_REFUSED,
        )
    ),
    "policy drops": or_line(rows(DROP), DROP, with_node(DROP)),
}
