"""The pods' side of the node: its blocks and the bridge, and what the CNI server has to know of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from l3net.agent.kernel import KernelSide
from l3net.agent.resolving import interface_to
from l3net.agent.shells import Pods
from l3net.bgp.sessions import Session
from l3net.cni.setup import NodeNetwork
from l3net.config import HEALTH_PORT
from l3net.fib.desired import bridge, gateway
from l3net.fib.underlay import HostLink, Underlay
from l3net.firewall.facts import own_ports
from l3net.ipam.lease import Usage
from l3net.ipam.ranges import block_sets
from l3net.ipam.reserved import ReservedPool, open_blocks, reserved_pools
from l3net.ipam.retained import claimant, retained
from l3net.model import Address, BridgePlan, ClusterState, Family, Node, Prefix
from l3net.naming import BRIDGE, ENVELOPE, METRIC_BLACKHOLE, VETH_PREFIX
from l3net.services.proxymode import METRICS_PORT

log = logging.getLogger("l3net.agent")

#: By which a kube-proxy is known (services.proxymode): a pod that published one could pass for it.
KUBE_PROXY: Final = frozenset({("tcp", METRICS_PORT), ("tcp", HEALTH_PORT)})


class PodNet:
    """`mtu`: that of bridge and pods in bytes, None to take the uplink's. `node_ports` are the node's own
    beside those of routing: no pod may publish them."""

    def __init__(
        self,
        me: str,
        mtu: int | None,
        pods: Pods,
        kernel: KernelSide,
        node_ports: frozenset[tuple[str, int]] = frozenset(),
    ) -> None:
        self._node_ports = node_ports | KUBE_PROXY
        self._me = me
        self._mtu = mtu
        self._pods = pods
        self._kernel = kernel
        self._network: NodeNetwork | None = None
        self._loop = asyncio.get_running_loop()
        self.underlay_mtu = 1500  # in bytes, of the links that lead to others
        self.missing_pools: set[str] = set()  # that pods wait for a block of
        self.pool_missing = asyncio.Event()
        pods.on_missing = self._pool_missing

    # --- blocks ------------------------------------------------------------------------------------------

    def retain(self, state: ClusterState, *, changed: bool) -> bool:
        """Keep the blocks that are no longer ours while pods run in them; whether that has changed.

        Which blocks were ours is read from the kernel: each has a blackhole of ours behind it, but for those
        that the CNI server was told of a moment ago. `changed`: the declared state has.
        """
        node = state.nodes[self._me]
        if not node.retained and not changed:
            return False
        kept = self._lost_in_use(node)
        if kept == node.retained:
            return False
        for block in set(kept) - set(node.retained):
            log.warning("block %s is no longer this node's; it stays while pods run in it", block)
        for block in set(node.retained) - set(kept):
            log.info("block %s: its last pod is gone", block)
        state.nodes[self._me] = _retaining(node, kept)
        return True

    def _lost_in_use(self, node: Node) -> tuple[Prefix, ...]:
        had = {key[0] for key in self._kernel.mirror if key[1] == METRIC_BLACKHOLE}
        had |= {*node.retained, *(self._network.every_block if self._network is not None else ())}
        return retained(node.declared_blocks, had, self._pods.holds)

    def with_retained(self, state: ClusterState) -> None:
        """Put into a declared state what this node would keep under it, as `retain` would."""
        node = state.nodes[self._me]
        state.nodes[self._me] = _retaining(node, self._lost_in_use(node))

    def retained_blocks(self, state: ClusterState) -> list[tuple[Prefix, int, str]]:
        """Blocks that are no longer this node's, their attachments, and the node that has them by now."""
        node = state.nodes.get(self._me)
        return [
            (block, self._pods.attachments(block), claimant(block, state.nodes.values(), self._me))
            for block in (node.retained if node is not None else ())
        ]

    def reserved_pools(self, state: ClusterState) -> tuple[ReservedPool, ...]:
        """The pools for the pods of some namespaces, as this node has them."""
        node = state.nodes.get(self._me)
        return reserved_pools(state.pools, node, state.namespaces) if node is not None else ()

    def _pool_missing(self, pool: str) -> None:
        """A pod waits for a block of a pool. From any thread."""
        self.missing_pools.add(pool)
        self._loop.call_soon_threadsafe(self.pool_missing.set)

    # --- bridge and CNI server ---------------------------------------------------------------------------

    def apply(
        self,
        state: ClusterState,
        links: Collection[HostLink],
        uplinks: Collection[str],
        error_port: int,
        *,
        look: bool,
    ) -> None:
        """Bring the bridge to the node's blocks, and tell the CNI server. `uplinks` lead to the peers;
        `look`: see whether somebody took ports off the bridge."""
        node = state.nodes[self._me]
        self.underlay_mtu = pod_mtu(links, uplinks)
        plan = bridge(self._me, node.blocks, self._mtu if self._mtu is not None else self.underlay_mtu)
        if not node.blocks:
            return
        changed = self._kernel.apply_bridge(plan)
        self._tell(state, node, plan, error_port)
        if changed or look:
            self._pods.reattach_ports()

    def room(self) -> Iterator[tuple[Family, int, Usage]]:
        """Of each family: addresses for pods in the node's open blocks, and how many are taken. Raises
        LeaseStoreError."""
        if (network := self._network) is not None:
            for each in block_sets(network.blocks, network.reserved):
                yield Family(each.version), each.size, self._pods.usage(each)

    def _tell(self, state: ClusterState, node: Node, plan: BridgePlan, error_port: int) -> None:
        pools = self.reserved_pools(state)
        network = NodeNetwork(
            blocks=open_blocks(node.declared_blocks, state.pools.values()),
            retained=node.retained,
            reserved=tuple(gateway(block) for block in node.retained),  # a new block may hold an old one
            mtu=plan.mtu,
            bridge=plan.name,
            pools=pools,
            namespaces=frozenset(state.namespaces) if pools else frozenset(),
            own_ports=own_ports(state.configuration.listen_port, error_port) | self._node_ports,
        )
        if network != self._network:
            self._network = network
            self._pods.update(network)


def uplinks(underlay: Underlay, sessions: Mapping[Address, Session]) -> set[str]:
    """The links that lead to the peers."""
    found = {interface_to(underlay, session) for session in sessions.values()}
    return {name for name in found if name is not None}


def pod_mtu(links: Iterable[HostLink], uplinks: Collection[str]) -> int:
    """The smallest MTU of the links that lead to peers or, without peers, to anywhere else.

    The bridge and its ports lead to pods, and have their MTU from here.
    """
    links = list(links)
    found = [link.mtu for link in links if link.name in uplinks]
    if not found:
        own = {link.index for link in links if link.name == BRIDGE}
        found = [
            link.mtu
            for link in links
            if link.up
            and not link.loopback
            and link.index not in own
            and link.master not in own
            and link.name != ENVELOPE
            and not link.name.startswith(VETH_PREFIX)  # one that waits to be deleted has left the bridge
        ]
    return min(found, default=1500)


def _retaining(node: Node, kept: tuple[Prefix, ...]) -> Node:
    return replace(node, blocks=(*node.declared_blocks, *kept), retained=kept)
