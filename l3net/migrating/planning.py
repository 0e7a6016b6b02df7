"""What moving a node's pods comes to: which can be moved, which cannot and why, and what has to be done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from l3net.cni.ifname import host_ifname
from l3net.cni.result import InterfaceAddress
from l3net.fib.desired import gateway
from l3net.ipam.lease import Lease, LeasedAddress, LeaseKey, PodName
from l3net.migrating.ledgers import Attachment, Claims
from l3net.model import Address, Prefix
from l3net.naming import CNI_NETWORK

#: A runtime takes the first file of its directory, by name; l3net's is 05-l3net.conflist.
RUNTIME_FILES: Final = (".conf", ".conflist", ".json")
#: What is appended to the name of a file that is put aside: runtimes pass over it.
ASIDE: Final = ".before-l3net"


@dataclass(frozen=True, slots=True)
class SeenPort:
    """A pod's interface as the kernel has it.

    Its own end (`ifname`, index `inner`, `mac`) is in the namespace `netns`. The host's end (`host_ifname`,
    index `outer`) is a port of the bridge `master`, empty if it is none.

    `programs`: something of another network filters or redirects packets there (tc's clsact, as Cilium does).
    """

    netns: str
    ifname: str
    inner: int
    mac: str
    outer: int
    host_ifname: str
    master: str
    addresses: tuple[InterfaceAddress, ...]
    programs: bool = False
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """A pod that can be moved, and the lease that it will have."""

    port: SeenPort
    lease: Lease

    @property
    def pod(self) -> str:
        return str(self.lease.pod) if self.lease.pod.name else self.lease.key.container_id[:13]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a node cannot be moved as it is, and what to do about it."""

    what: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What `l3net migrate node` would do. `others` are interfaces of pods that are left as they are: their
    addresses are in no block of this node."""

    node: str
    blocks: tuple[Prefix, ...]
    moves: tuple[Move, ...]
    obstacles: tuple[Obstacle, ...]
    bridges: tuple[str, ...]
    aside: tuple[str, ...]
    others: tuple[SeenPort, ...] = ()

    @property
    def possible(self) -> bool:
        return not self.obstacles


_AGAIN = "delete the pod: it comes back with an address of l3net's"


def plan(
    node: str,
    blocks: Sequence[Prefix],
    ports: Iterable[SeenPort],
    claims: Claims,
    files: Iterable[str],
    ours: str,
) -> NodePlan:
    """Decide. `claims`: who has an address, by the ledgers.

    `files`: names in the runtime's directory of network configurations; `ours` is that of l3net's.
    """
    moves: list[Move] = []
    obstacles: list[Obstacle] = []
    others: list[SeenPort] = []
    already = 0
    if not blocks:
        obstacles.append(
            Obstacle(
                f"Node {node}",
                "it has no block",
                "give it the block that its pods have now: spec.podCIDRs, or the annotation l3net.io/blocks",
            )
        )
    gateways = {gateway(block): block for block in blocks}
    for port in sorted(ports, key=lambda each: (each.host_ifname, each.outer)):
        found = [each.ip for each in port.addresses]
        inside = [each for each in found if any(each in block for block in blocks)]
        if port.ours:
            already += 1
        elif not inside:
            others.append(port)
        else:
            attachment = _attachment(port, claims.get(inside[0], ()))
            if obstacle := _obstacle(port, found, inside, gateways, attachment):
                obstacles.append(obstacle)
            elif attachment is not None:
                moves.append(Move(port, _lease(port, inside, blocks, attachment)))
    obstacles += _twice(moves)
    if already:
        obstacles.append(
            Obstacle(
                f"{already} pods of l3net",
                "they are on l3net0: this node is l3net's, or has a network of l3net's without an agent",
                "start the agent, or delete them",
            )
        )
    bridges = sorted({move.port.master for move in moves if move.port.master})
    return NodePlan(
        node,
        tuple(blocks),
        tuple(moves),
        tuple(obstacles),
        tuple(bridges),
        put_aside(files, ours),
        tuple(others),
    )


def _attachment(port: SeenPort, claims: Sequence[Attachment]) -> Attachment | None:
    """Whose interface it is: of several that a ledger names, the one with this network namespace."""
    there = [each for each in claims if each.netns == port.netns]
    open_ = [each for each in claims if not each.netns]
    found = there or open_
    return found[0] if len(found) == 1 else None


def _twice(moves: Iterable[Move]) -> Iterator[Obstacle]:
    owners: dict[Address, Move] = {}
    for move in moves:
        for each in move.lease.addresses:
            if (other := owners.setdefault(each.address, move)) is not move:
                yield Obstacle(move.pod, f"{each.address} is an address of {other.pod} too", _AGAIN)


def _obstacle(
    port: SeenPort,
    found: Sequence[Address],
    inside: Sequence[Address],
    gateways: Mapping[Address, Prefix],
    attachment: Attachment | None,
) -> Obstacle | None:
    pod = str(attachment.pod) if attachment and attachment.pod.name else f"the pod in {port.netns}"
    if taken := [each for each in inside if each in gateways]:
        why = f"{taken[0]} is to be the gateway of block {gateways[taken[0]]}"
        return Obstacle(pod, why, _AGAIN)
    if edges := [each for each in inside if each in _edges(gateways.values())]:
        why = f"{edges[0]} is the first or last address of its block, which the kernel keeps for broadcasts"
        return Obstacle(pod, why, _AGAIN)
    if outside := sorted(set(map(str, found)) - set(map(str, inside))):
        why = f"{', '.join(outside)} is in no block of this node"
        return Obstacle(pod, why, f"add the block to l3net.io/blocks of the Node, or {_AGAIN}")
    if attachment is None:
        why = f"no ledger knows which container has {inside[0]}, or several claim it"
        return Obstacle(
            pod, why, "name more ledgers (--cni-cache, --host-local, --calico), or delete the pod"
        )
    if port.programs:
        why = f"another network's programs are attached to {port.host_ifname} (tc clsact)"
        return Obstacle(pod, why, "cordon the node and delete the pod")
    if attachment.ports:
        why = f"the old network's rules publish {', '.join(attachment.ports)} for it, and would stay"
        return Obstacle(pod, why, _AGAIN)
    return None


def _edges(blocks: Iterable[Prefix]) -> set[Address]:
    """Addresses that no host has (RFC 919)."""
    return {
        each
        for block in blocks
        if block.version == 4 and block.prefixlen < 31
        for each in (block.network_address, block.broadcast_address)
    }


def _lease(
    port: SeenPort, addresses: Sequence[Address], blocks: Sequence[Prefix], attachment: Attachment
) -> Lease:
    key = LeaseKey(CNI_NETWORK, attachment.container_id, port.ifname)
    leased = tuple(
        LeasedAddress(each, each.max_prefixlen, gateway(next(block for block in blocks if each in block)))
        for each in addresses
    )
    pod = PodName(attachment.pod.namespace, attachment.pod.name, attachment.pod.uid)
    return Lease(key, 0, leased, pod=pod, netns=port.netns, host_ifname=host_ifname(key))


def put_aside(files: Iterable[str], ours: str) -> tuple[str, ...]:
    """The configurations that a runtime would take before l3net's, and the one it takes now."""
    read = sorted(name for name in files if name.endswith(RUNTIME_FILES) and name != ours)
    return tuple(name for place, name in enumerate(read) if place == 0 or name < ours)
