"""What another declared state would do, node by node, before it is made: sessions, announcements, what the
service table answers, blocks and policies. By the declared state alone, so that no node has to be asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from l3net.addresses import address_order, prefix_order
from l3net.announce.source import NodeView
from l3net.announce.sources import desired
from l3net.bgp.adj_rib_out import AdjRibOut
from l3net.bgp.drain import Stage
from l3net.bgp.impact import SessionPlan, plan
from l3net.bgp.sessions import Session, sessions
from l3net.egress.declared import announced_by as egress_announced
from l3net.egress.declared import book_of as egress_book
from l3net.floating.declared import announced_by, book_of
from l3net.model import (
    Address,
    ClusterState,
    Node,
    ObjectName,
    Policy,
    Prefix,
    ServerKey,
    VirtualServer,
    is_node_port,
)
from l3net.services.servers import virtual_servers
from l3net.services.verdicts import ServiceVerdict, advertised, announced

#: Actions of a session by which routes are lost, if only for a moment.
CUTS: Final = ("removed", "reset")


@dataclass(frozen=True, slots=True)
class NodeChange:
    """Of one node, what would be others than before. `refusals`: sessions that could not be, newly."""

    node: str
    sessions: tuple[SessionPlan, ...] = ()
    servers: Mapping[ServerKey, tuple[VirtualServer | None, VirtualServer | None]] = field(
        default_factory=dict, hash=False
    )
    verdicts: tuple[tuple[ServiceVerdict | None, ServiceVerdict | None], ...] = ()
    blocks: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    refusals: tuple[str, ...] = ()

    @property
    def cuts(self) -> bool:
        """Whether anything would be reset or withdrawn."""
        return bool(self.blocks[1]) or any(step.action in CUTS or step.withdraw for step in self.sessions)

    def __bool__(self) -> bool:
        return bool(self.sessions or self.servers or self.verdicts or any(self.blocks) or self.refusals)

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "node": self.node,
            "cuts": self.cuts,
            "sessions": [_session(step) for step in self.sessions],
            "servers": [_server(key, *pair) for key, pair in sorted(self.servers.items(), key=_order)],
            "verdicts": [_verdict(*pair) for pair in self.verdicts],
            "blocksAdded": list(self.blocks[0]),
            "blocksRemoved": list(self.blocks[1]),
            "refusals": list(self.refusals),
        }


def changes(before: ClusterState, after: ClusterState) -> Iterator[NodeChange]:
    """Of each node in either state, by name; those of which nothing changes are left out."""
    books = _Books(before), _Books(after)
    for name in sorted({*before.nodes, *after.nodes}):
        if found := change_of(before, after, name, books):
            yield found


def change_of(
    before: ClusterState,
    after: ClusterState,
    me: str,
    books: tuple[_Books, _Books] | None = None,
) -> NodeChange:
    """Of one node. Its sessions leave from the addresses of its Node, as no link is known. `books`: of
    addresses that follow pods, in both states, where more than one node is looked at."""
    had, has = books or (_Books(before), _Books(after))
    was, found = _Decided(before, me, had), _Decided(after, me, has)
    return NodeChange(
        me,
        tuple(step for step in plan(was.ribs, found.ribs) if step.action != "unchanged"),
        {
            key: (was.servers.get(key), found.servers.get(key))
            for key in {*was.servers, *found.servers}
            if was.servers.get(key) != found.servers.get(key)
        },
        tuple(
            (was.verdicts.get(key), found.verdicts.get(key))
            for key in sorted(
                {*was.verdicts, *found.verdicts}, key=lambda key: (key[0], address_order(key[1]))
            )
            if was.verdicts.get(key) != found.verdicts.get(key)
        ),
        (_blocks(found.node, was.node), _blocks(was.node, found.node)),
        tuple(sorted(found.refusals - was.refusals)),
    )


class _Books:
    """Who has floating addresses, and who holds egress addresses, in a state."""

    def __init__(self, state: ClusterState) -> None:
        self._floating, self._egress = book_of(state), egress_book(state)

    def view(self, state: ClusterState, me: str, services: Collection[Prefix]) -> NodeView:
        """What the sources of announcements see of a node."""
        return NodeView(
            *(state, me, services),
            floating_prefixes=announced_by(self._floating, me),
            egress_prefixes=egress_announced(self._egress, me),
        )


class _Decided:
    """What one state decides for a node."""

    def __init__(self, state: ClusterState, me: str, books: _Books) -> None:
        self.node = state.nodes.get(me)
        own = self.node.addresses if self.node is not None else ()

        def source(address: Address) -> tuple[Address, tuple[Address, ...]] | None:
            local = next((each for each in own if each.version == address.version), None)
            return (local, own) if local is not None else None

        held = sessions(state, me, source)
        self.refusals = {str(refusal) for refusal in held.refusals}
        known = self.node is not None
        verdicts = advertised(state, me) if known else ()
        view = books.view(state, me, announced(verdicts)) if known else NodeView(state, me)
        self.ribs: dict[Address, tuple[Session, AdjRibOut]] = {
            address: (session, desired(view, session, drain=Stage.NONE))
            for address, session in held.by_address.items()
        }
        self.verdicts = {(verdict.service, verdict.address): verdict for verdict in verdicts}
        self.servers = {server.key: server for server in virtual_servers(state, me)} if known else {}


def _blocks(node: Node | None, other: Node | None) -> tuple[str, ...]:
    """Those of a node that the other has not."""
    others = set(other.blocks) if other is not None else set()
    return tuple(str(block) for block in (node.blocks if node is not None else ()) if block not in others)


def policy_changes(before: ClusterState, after: ClusterState) -> list[dict[str, str]]:
    """Policies that are added, changed or removed."""
    was, found = dict(_policies(before)), dict(_policies(after))
    rows = []
    for key in sorted({*was, *found}, key=lambda key: (key[0], key[1])):
        old, new = was.get(key), found.get(key)
        if old != new:
            what = "added" if old is None else "removed" if new is None else "changed"
            rows.append({"kind": key[0], "name": str(key[1]), "action": what})
    return rows


def _policies(state: ClusterState) -> Iterable[tuple[tuple[str, ObjectName], Policy]]:
    yield from ((("NetworkPolicy", name), policy) for name, policy in state.policies.items())
    for name, policy in state.cluster_policies.items():
        yield ("ClusterNetworkPolicy", ObjectName("", name)), policy


def _order(item: tuple[ServerKey, object]) -> tuple[object, ...]:
    address, protocol, port = item[0]
    return (*address_order(address), protocol, port)


def _session(step: SessionPlan) -> dict[str, Any]:
    return {
        "peer": str(step.peer),
        "name": step.name,
        "action": step.action,
        "fields": list(step.fields),
        "announce": [str(prefix) for prefix in sorted(step.announce, key=prefix_order)],
        "withdraw": [str(prefix) for prefix in sorted(step.withdraw, key=prefix_order)],
    }


def _server(key: ServerKey, before: VirtualServer | None, now: VirtualServer | None) -> dict[str, Any]:
    return {
        "address": "nodePort" if is_node_port(key) else str(key[0]),
        "protocol": key[1],
        "port": key[2],
        "action": "added" if before is None else "removed" if now is None else "changed",
        "endpointsBefore": _count(before),
        "endpointsAfter": _count(now),
    }


def _count(server: VirtualServer | None) -> int:
    return len({*server.internal, *server.external}) if server is not None else 0


def _verdict(before: ServiceVerdict | None, now: ServiceVerdict | None) -> dict[str, Any]:
    verdict = now or before
    assert verdict is not None  # noqa: S101 - one of them is
    return {
        "service": str(verdict.service),
        "address": str(verdict.address),
        "kind": verdict.kind.value,
        "before": before.reason.value if before is not None else "",
        "after": now.reason.value if now is not None else "",
        "lost": list(now.lost) if now is not None else [],
    }
