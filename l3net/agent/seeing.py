"""Gathers what an explanation stands on (l3net.explain.facts): from the agent, and from the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from l3net.addresses import host_prefix
from l3net.agent.looks import Looks
from l3net.agent.loop import Agent
from l3net.agent.policyanswers import view_of
from l3net.agent.resolving import interface_to
from l3net.announce.source import Announcement, Source
from l3net.announce.sources import reasons, verdict
from l3net.bgp.peering import Peering
from l3net.bgp.verdict import Export
from l3net.explain.diversion import Diversion
from l3net.explain.facts import End, Hop, PeerTold
from l3net.explain.foreign import Packet, diverted, drops
from l3net.explain.service import MOST_ENDS, ServiceFacts
from l3net.explain.shortage import unserved
from l3net.firewall.services import SERVICES
from l3net.firewall.translation import TRANSLATION
from l3net.model import Address, Backend, Family, ObjectName, Prefix, ServerKey, VirtualServer
from l3net.policy.attached import Attached
from l3net.policy.places import Place, Port, at
from l3net.policy.trial import between
from l3net.ports import Sight
from l3net.services.endpoints import of_port
from l3net.services.verdicts import addresses as service_addresses

#: A prefix, and what each peer hears of it.
Told: TypeAlias = tuple[Prefix, list[PeerTold]]


class Seeing:
    """One look."""

    def __init__(self, agent: Agent, sight: Sight) -> None:
        self.agent, self.looks = agent, Looks(sight)
        self.me = agent.node_name
        self.view = view_of(agent)
        self._known = self.view.known
        self._attached: dict[Address, Attached] = {
            address: attached for _, attached in agent.pods.attached() for address in attached.addresses
        }
        self._sources: list[tuple[Source, Announcement]] | None = None

    # --- ends --------------------------------------------------------------------------------------------

    def end(self, address: Address, port: str = "") -> End:
        """Who is at an address."""
        place = at(self.view, address)
        attached = self._attached.get(address)
        node = self.node_of(address) or place.node
        pod = str(place.pod.name) if place.pod is not None else ""
        if attached is not None and attached.named:
            pod = str(attached.pod)
        own = any(address in block for block in self.own_blocks())
        return End(
            address,
            port,
            pod=pod,
            node=self.me if attached is not None else node,
            here=own or attached is not None,
            attached=attached is not None,
            mac=attached.mac if attached is not None else "",
            block=self.block_of(address) is not None,
        )

    def of_cluster(self, address: Address) -> bool:
        """Whether it lies in a range that the cluster gives addresses of: nobody else can have it."""
        state = self.agent.state
        ranges = (*state.service_ranges, *(pool.cidr for pool in state.pools.values()))
        return any(address in each for each in ranges)

    def policies_for(self, end: End) -> tuple[str, ...]:
        """Those that are for a pod of this node."""
        for _, addresses, policies in self.agent.policing.book.here():
            if end.address in addresses:
                return tuple(str(policy.name) for policy in policies)
        return ()

    def masqueraded(self, end: End) -> End:
        """An endpoint elsewhere of what comes from outside: policies there see this node, if there are."""
        node = self.agent.state.nodes.get(self.me)
        own = (
            each
            for each in (node.addresses if node is not None else ())
            if each.version == end.address.version
        )
        if end.here or not self.agent.policing.book.policies:
            return end
        return replace(end, seen_as=str(next(own, "")))

    async def looked(
        self,
        end: End,
        source: Address | None = None,
        protocol: str = "tcp",
        asked: tuple[Address, int | None] | None = None,
    ) -> End:
        """With the kernel's way there, and what chains of others do with what comes from a source.

        `asked`: the address and port that the packet has before any translation.
        """
        chains, _ = await self.looks.others()
        port = int(end.port) if end.port.isdecimal() else None
        before = Packet(source, asked[0], protocol, asked[1]) if asked is not None else None
        dropped, surely = drops(chains, Packet(source, end.address, protocol, port), before)
        return replace(end, way=await self.looks.way(end.address), dropped=dropped, surely=surely)

    async def tried(self, end: End) -> End:
        """With what becomes of packets as large as pods send them, to a host that is elsewhere."""
        hops = end.way.hops
        if end.here or end.node == self.me or not hops or end.way.kind != "unicast":
            return end
        size = min(self.agent.podnet.underlay_mtu, *(hop.mtu for hop in hops if hop.mtu))
        return replace(end, passage=await asyncio.to_thread(self.looks.sight.passage, end.address, size))

    async def diversions(self, keys: Iterable[ServerKey]) -> list[Diversion]:
        """Of these addresses and ports of services, those whose packets others take first. They are judged as
        from anywhere."""
        chains, _ = await self.looks.others()
        before = TRANSLATION if self.agent.proxying.standing.on else None
        found = []
        for key in sorted(keys, key=lambda each: (each[0].version, each[0], *each[1:])):
            address, protocol, port = key
            if (by := diverted(chains, Packet(None, address, protocol, port), before)) is not None:
                listens = await asyncio.to_thread(self.looks.sight.listens, *key)
                found.append(Diversion(key, by, await self.looks.way(address), listens))
        return found

    def judged(self, source: Place, end: End, port: Port) -> End:
        """With what policies say of a connection from a source."""
        if not self.agent.policing.book.policies:
            return end
        for found in between(self.view, self._known, source, at(self.view, end.address), port):
            if found.ends[1] == end.address and found.verdict.always is None:
                return replace(end, allowed=found.verdict.allowed, decision=str(found.verdict))
        return end

    def own_blocks(self) -> tuple[Prefix, ...]:
        """This node's."""
        node = self.agent.state.nodes.get(self.me)
        return node.blocks if node is not None else ()

    def node_of(self, address: Address) -> str:
        """The node whose block holds an address, or that has it itself; empty if there is none."""
        found = self.block_of(address)
        if found is not None:
            return found[1]
        node = self.view.node_at(address)
        return node.name if node is not None else ""

    def block_of(self, address: Address) -> tuple[Prefix, str] | None:
        """The block that holds an address, and its node: this one first."""
        nodes = sorted(self.agent.state.nodes.items(), key=lambda item: item[0] != self.me)
        return next(
            ((block, name) for name, node in nodes for block in node.blocks if address in block), None
        )

    async def announced(self, address: Address) -> tuple[Told | None, Prefix | None]:
        """Who hears of this node's block that holds an address; else that block, of which nobody is told."""
        block = self.block_of(address)
        if block is None or block[1] != self.me:
            return None, None
        told = await self.told(block[0])
        return told, None if told is not None else block[0]

    # --- peers -------------------------------------------------------------------------------------------

    async def told(self, prefix: Prefix) -> Told | None:
        """What each peer hears of a prefix; None where the node announces none such."""
        agent = self.agent
        view = agent.announcing.view(agent.state)
        if self._sources is None:
            self._sources = list(reasons(view))
        source = next(
            (each for each, found in self._sources if found.prefix == prefix and not found.refusal), None
        )
        if source is None:
            return None
        peers = list(agent.speaking.peers.values())
        hops = await asyncio.gather(*map(self._hop_to, peers))
        rows = []
        for peer, hop in zip(peers, hops, strict=True):
            found, by = verdict(view, peer.session, source, prefix, agent.draining.stage)
            rows.append(replace(self._peer(peer, prefix, found, by), hop=hop))
        return prefix, rows

    async def _hop_to(self, peer: Peering) -> Hop | None:
        """The way to a router on a link of ours."""
        if peer.session.mesh:
            return None
        hops = (await self.looks.way(peer.session.peer_address)).hops
        return hops[0] if len(hops) == 1 and hops[0].gateway is None else None

    def _peer(self, peer: Peering, prefix: Prefix, found: Export, by: str) -> PeerTold:
        session, now = peer.session, asyncio.get_running_loop().time()
        if found is Export.ANNOUNCED and peer.established and Family(prefix.version) not in peer.negotiated:
            found = Export.FAMILY_NOT_NEGOTIATED
        return PeerTold(
            session.name,
            session.peer_address,
            mesh=session.mesh,
            established=peer.established,
            state=_state(peer, connected=self.agent.speaking.connected),
            since=f"{now - peer.since:.0f} s",
            verdict=found,
            by=by,
            said=self.agent.speaking.announcer.has_said(session.peer_address, prefix),
            interface=interface_to(self.agent.routing.underlay, session) or "",
            path_failed=peer.path_failed and not peer.established,
            carries=Family(prefix.version) in session.families,
            speaker=self.agent.speaking.connected,
        )

    # --- services ----------------------------------------------------------------------------------------

    def service_at(self, address: Address, port: Port | None) -> ObjectName | None:
        """The service that answers at an address: of several, the one that has the port."""
        names = [each.service for each in self.agent.services.book.of_address(address)]
        if port is not None and len(names) > 1:
            for name in names:
                service = self.agent.state.services[name]
                if any(
                    each.port == port.number and each.protocol.lower() == port.protocol
                    for each in service.ports
                ):
                    return name
        return names[0] if names else None

    async def service(self, name: ObjectName, *, only: Address | None = None) -> ServiceFacts:
        """All that an explanation of a service stands on."""
        agent = self.agent
        book, state = agent.services.book, agent.state
        service = state.services.get(name)
        if service is None:
            known = sorted(map(str, state.services))
            return ServiceFacts(None, str(name), self.me, known=known, rejected=self._rejected(name))
        verdicts = book.of_service(name)
        told: dict[Address, Told] = {}
        for each in verdicts:
            if each.advertised and (found := await self.told(host_prefix(each.address))) is not None:
                told[each.address] = found
        servers = self._servers(name)
        own = [address for _, address in service_addresses(service)]
        here, declared = self._endpoint_nodes(name)
        backends = {
            backend for server in servers.values() for backend in (*server.external, *server.internal)
        }
        keys = [(each, port.protocol.lower(), port.port) for each in own for port in service.ports]
        ends = [self.end(backend.address, str(backend.port)) for backend in sorted(backends, key=_order)]
        ends = [replace(end, policies=self.policies_for(end)) for end in ends]
        ends = [await self.looked(end) for end in ends[:MOST_ENDS]] + ends[MOST_ENDS:]
        proxying = agent.proxying.standing
        counts = agent.services.counting
        await counts.fresh()
        return ServiceFacts(
            service,
            str(name),
            self.me,
            verdicts=verdicts,
            told=told,
            servers=servers,
            ends=ends,
            declared_endpoints=declared,
            elsewhere=here,
            proxy="" if proxying.on else proxying.why,
            other_proxy=agent.proxying.seen.answers,
            refusal=agent.services.table.refusal(SERVICES.name) if proxying.on else "",
            ranges=service.source_ranges or (),
            host=await self.looks.host(),
            pod_mtu=agent.podnet.underlay_mtu,
            only=only,
            connections=None if counts.problem or not proxying.on else counts.totals.get(name, 0),
            rejected=self._rejected(name),
            unjudged=(await self.looks.others())[1],
            unserved=await asyncio.to_thread(
                unserved,
                service,
                state.services,
                state.pools,
                state.namespaces,
                [block for node in state.nodes.values() for block in node.blocks],
            ),
            diversions=await self.diversions(keys),
            refused_peers=[str(each) for each in agent.sessions.refusals],
        )

    def _rejected(self, name: ObjectName) -> str:
        """What is wrong with the manifest of a service that is declared and cannot be used."""
        words = f"Service {name}: "
        return next((text for each in self.agent.declared.rejected if words in (text := str(each))), "")

    def _servers(self, name: ObjectName) -> Mapping[ServerKey, VirtualServer]:
        """Those that this node answers for the service: of the service's own addresses alone."""
        book, service = self.agent.services.book, self.agent.state.services[name]
        own = [address for _, address in service_addresses(service)]
        ports = {(port.protocol.lower(), port.port) for port in service.ports}
        return {
            key: book.servers[key]
            for key in ((address, *port) for address in own for port in ports)
            if key in book.servers
        }

    def _endpoint_nodes(self, name: ObjectName) -> tuple[list[str], int]:
        """Other nodes with endpoints that are ready, and how many endpoints are declared at all."""
        state = self.agent.state
        service = state.services[name]
        slices = [each for each in state.slices.values() if each.service == name]
        found = {
            endpoint.address: endpoint for port in service.ports for endpoint, _ in of_port(port, slices)
        }
        ready = (endpoint for endpoint in found.values() if endpoint.ready or service.publish_not_ready)
        nodes = {endpoint.node or self.node_of(endpoint.address) for endpoint in ready}
        declared = {endpoint.address for each in slices for endpoint in each.endpoints}
        return sorted(nodes - {self.me, ""}), len(declared)

    def attached_named(self, name: ObjectName) -> Iterable[Address]:
        """The addresses that a pod has here."""
        return [address for address, each in self._attached.items() if each.pod == name]


def _order(backend: Backend) -> tuple[int, Backend]:
    return backend.address.version, backend


def _state(peer: Peering, *, connected: bool) -> str:
    if not connected:
        return "the speaker cannot be reached: is `l3net speaker` running?"
    return peer.reason or ("established" if peer.established else "down")
