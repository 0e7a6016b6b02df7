"""The decisions about every service, kept, so that a change costs what depends on it and no more.

What it holds after any history equals what `verdicts.advertised`, `verdicts.announced` and
`servers.virtual_servers` say of the same state. One slice or service makes one service to be decided again,
and those that claim its addresses or ports; this node or the policy make all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from l3net.addresses import host_prefix
from l3net.model import (
    Address,
    AdvertisePolicy,
    EndpointSlice,
    Node,
    ObjectName,
    Prefix,
    ServerKey,
    Service,
    VirtualServer,
    is_node_port,
)
from l3net.services.endpoints import Here, OfService
from l3net.services.health import HealthBook
from l3net.services.servers import service_virtual_servers
from l3net.services.verdicts import Rank, ServiceVerdict, seniority, service_verdicts

_NONE: tuple[EndpointSlice, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """What changed since the last time, by key; both sides of each virtual server (None: it is not there).

    `addresses`: whether the set of all services' addresses is another.
    """

    announce: frozenset[Prefix] = frozenset()
    withdraw: frozenset[Prefix] = frozenset()
    servers: Mapping[ServerKey, tuple[VirtualServer | None, VirtualServer | None]] = field(
        default_factory=dict, hash=False
    )
    addresses: bool = False

    @property
    def served(self) -> bool:
        """Whether there is a virtual server that was not there before, or the other way round."""
        return any(before is None or now is None for before, now in self.servers.values())

    def __bool__(self) -> bool:
        return bool(self.announce or self.withdraw or self.servers or self.addresses)


class ServiceBook:
    """Feed it with `put_service`, `put_slice` and `stand`; `settle` decides what they touched."""

    def __init__(self) -> None:
        self._node = Here("", known=False)
        self._policy = AdvertisePolicy()
        self._services: dict[ObjectName, Service] = {}
        self._slices: dict[ObjectName, EndpointSlice] = {}
        self._slices_of: dict[ObjectName, dict[ObjectName, EndpointSlice]] = {}
        self._nodes: dict[str, tuple[Address, ...]] = {}
        self._of_nodes: Counter[Address] = Counter()  # how many nodes have an address
        # In the order in which they came, which is that of the memory they lie in.
        self._dirty: dict[ObjectName, None] = {}
        # Who has an address as ClusterIP, and who mentions it at all: for most, one service.
        self._cluster_ips: dict[Address, set[ObjectName]] = {}
        self._mentions: dict[Address, set[ObjectName]] = {}
        self._owners: dict[Address, ObjectName] = {}
        self._endpoints: dict[ObjectName, OfService] = {}  # of what is being settled
        self._verdicts: dict[ObjectName, tuple[ServiceVerdict, ...]] = {}
        self._claims: dict[ObjectName, dict[ServerKey, VirtualServer]] = {}
        self._claimants: dict[ServerKey, set[ObjectName]] = {}
        self._ranks: dict[ObjectName, Rank] = {}  # of those that claim something
        # Of what several claim: who has it.
        self._holders: dict[ServerKey, ObjectName] = {}
        self._wanted: Counter[Address] = Counter()
        self._announced: dict[Address, Prefix] = {}
        self._touched_prefixes: dict[Address, bool] = {}  # address: whether it was announced before
        self._touched_servers: dict[ServerKey, VirtualServer | None] = {}
        self._addresses_changed = False
        self.servers: dict[ServerKey, VirtualServer] = {}
        self.health = HealthBook()
        self._spread: set[ServerKey] = set()
        #: How often the verdicts of a service that there is became others.
        self.rejudged: dict[ObjectName, int] = {}
        #: Called with the verdicts of a service before and since, where they are others.
        self.on_judged: Callable[[tuple[ServiceVerdict, ...], tuple[ServiceVerdict, ...]], None] = (
            lambda _before, _now: None
        )

    # --- what is declared --------------------------------------------------------------------------------

    def stand(self, node: Here, policy: AdvertisePolicy) -> None:
        """This node and the policy as of now."""
        if node != self._node or policy != self._policy:
            self._node, self._policy = node, policy
            self._dirty.update(dict.fromkeys(self._services))

    def put_node(self, name: str, node: Node | None) -> None:
        """A node as it is now, this one or another; None: it is gone."""
        before, now = self._nodes.get(name, ()), node.addresses if node is not None else ()
        if before == now:
            return
        self._nodes[name] = now
        if node is None:
            del self._nodes[name]
        self._of_nodes.subtract(set(before))
        self._of_nodes.update(set(now))
        for address in {*before, *now}:
            if not self._of_nodes[address]:
                del self._of_nodes[address]
            self._dirty.update(dict.fromkeys(self._mentions.get(address, ())))

    def put_service(self, name: ObjectName, service: Service | None) -> None:
        """A service as it is now; None: it is gone."""
        before = self._services.get(name)
        if service == before:
            return
        if before is not None and service is not None and before.created != service.created:
            # Another service of the same name: nothing of the old one's is its own by seniority.
            self.put_service(name, None)
            self._dirty.update(dict.fromkeys(self._decide(name)))
            before = None
        if service is None:
            del self._services[name]
        else:
            self._services[name] = service
        self._dirty[name] = None
        old, new = _addresses(before), _addresses(service)
        for address in old - new:
            self._unmention(name, address)
        for address in new - old:
            if address not in self._mentions:
                self._addresses_changed = True
            self._mentions.setdefault(address, set()).add(name)
        for address in {*(before.cluster_ips if before else ()), *(service.cluster_ips if service else ())}:
            self._own(name, address, held=service is not None and address in service.cluster_ips)

    def _unmention(self, name: ObjectName, address: Address) -> None:
        mentions = self._mentions[address]
        mentions.discard(name)
        if not mentions:
            del self._mentions[address]
            self._addresses_changed = True

    def _own(self, name: ObjectName, address: Address, *, held: bool) -> None:
        """Keep who owns a ClusterIP; all that mention it look again when that is another."""
        holders = self._cluster_ips.setdefault(address, set())
        (holders.add if held else holders.discard)(name)
        owner: ObjectName | None
        if len(holders) == 1:  # as for nearly all
            (owner,) = holders
        else:
            owner = min(holders, key=lambda each: seniority(self._services[each]), default=None)
        if owner is None:
            del self._cluster_ips[address]
        if owner != self._owners.get(address):
            if owner is None:
                del self._owners[address]
            else:
                self._owners[address] = owner
            self._dirty.update(dict.fromkeys(self._mentions.get(address, ())))

    def put_slice(self, name: ObjectName, found: EndpointSlice | None) -> None:
        """A slice as it is now; None: it is gone."""
        before = self._slices.get(name)
        if found == before:
            return
        if before is not None:
            group = self._slices_of[before.service]
            del group[name]
            if not group:
                del self._slices_of[before.service]
            self._dirty[before.service] = None
        if found is None:
            del self._slices[name]
        else:
            self._slices[name] = found
            self._slices_of.setdefault(found.service, {})[name] = found
            self._dirty[found.service] = None

    # --- what follows ------------------------------------------------------------------------------------

    def settle(self) -> Settled:
        """Decide again what was touched; the differences to the last time."""
        dirty, self._dirty = self._dirty, {}
        # First what all of them claim: a verdict looks at who has what.
        losing = set[ObjectName]()
        self._endpoints.clear()
        for name in dirty:
            losing |= self._decide(name)
        for name in (*dirty, *(losing - dirty.keys())):
            self._judge(name)
        announce, withdraw = set[Prefix](), set[Prefix]()
        for address, before in self._touched_prefixes.items():
            now = address in self._wanted
            if now and not before:
                self._announced[address] = host_prefix(address)
                announce.add(self._announced[address])
            elif before and not now:
                withdraw.add(self._announced.pop(address))
        changed: dict[ServerKey, tuple[VirtualServer | None, VirtualServer | None]] = {}
        for key, was in self._touched_servers.items():
            now_server = self.servers.get(key)
            if now_server != was:
                changed[key] = (was, now_server)
                spread = now_server is not None and now_server.spread is not None
                (self._spread.add if spread else self._spread.discard)(key)
        addresses, self._addresses_changed = self._addresses_changed, False
        self._touched_prefixes, self._touched_servers = {}, {}
        return Settled(frozenset(announce), frozenset(withdraw), changed, addresses)

    def _decide(self, name: ObjectName) -> set[ObjectName]:
        """What a service claims; whose verdict is another by that."""
        service = self._services.get(name)
        claims: dict[ServerKey, VirtualServer] = {}
        if service is not None:
            endpoints = self._endpoints[name] = OfService(service, self._slices_for(name), self._node)
            for server in service_virtual_servers(endpoints, self._policy, self._owners):
                claims.setdefault(server.key, server)
            self._ranks[name] = seniority(service)
        losing = self._take_claims(name, claims)
        if not claims:
            self._ranks.pop(name, None)
        return losing

    def _slices_for(self, name: ObjectName) -> tuple[EndpointSlice, ...]:
        group = self._slices_of.get(name)
        return tuple(group.values()) if group else _NONE

    def _judge(self, name: ObjectName) -> None:
        service = self._services.get(name)
        self.health.put(name, service, self._slices_for(name), self._node)
        verdicts: tuple[ServiceVerdict, ...] = ()
        if service is not None:
            endpoints = self._endpoints.pop(name, None)
            endpoints = endpoints or OfService(service, self._slices_for(name), self._node)
            verdicts = service_verdicts(endpoints, self._policy, self._owners, self._holders, self._of_nodes)
        before = self._verdicts.pop(name, ())
        if verdicts:
            self._verdicts[name] = verdicts
        if before == verdicts:
            return
        if not verdicts:
            self.rejudged.pop(name, None)
        elif before:
            self.rejudged[name] = self.rejudged.get(name, 0) + 1
        self.on_judged(before, verdicts)
        for verdict in before:
            if verdict.advertised:
                self._touched_prefixes.setdefault(verdict.address, True)
                self._wanted[verdict.address] -= 1
                if not self._wanted[verdict.address]:
                    del self._wanted[verdict.address]
        for verdict in verdicts:
            if verdict.advertised:
                self._touched_prefixes.setdefault(verdict.address, verdict.address in self._wanted)
                self._wanted[verdict.address] += 1

    def _take_claims(self, name: ObjectName, claims: dict[ServerKey, VirtualServer]) -> set[ObjectName]:
        losing = set[ObjectName]()
        before = self._claims.pop(name, {})
        if claims:
            self._claims[name] = claims
        for key in {**before, **claims}:
            if before.get(key) == claims.get(key):
                continue
            self._touched_servers.setdefault(key, self.servers.get(key))
            claimants = self._claimants.setdefault(key, set())
            (claimants.add if key in claims else claimants.discard)(name)
            several = len(claimants) > 1
            holder = min(claimants, key=self._ranks.__getitem__) if several else next(iter(claimants), None)
            if holder is None:
                del self._claimants[key]
                self.servers.pop(key, None)
            else:
                self.servers[key] = self._claims[holder][key]
            if several or key in self._holders:
                losing |= self._note_holder(key, holder if several else None, claimants)
        return losing

    def _note_holder(
        self, key: ServerKey, holder: ObjectName | None, claimants: set[ObjectName]
    ) -> set[ObjectName]:
        """Who has what several claim; whom it concerns where that is new."""
        if holder == self._holders.get(key):
            return set()
        if holder is None:
            del self._holders[key]
        else:
            self._holders[key] = holder
        return set(claimants)

    # --- everything --------------------------------------------------------------------------------------

    @property
    def announced(self) -> frozenset[Prefix]:
        """The host prefixes to announce, as settled last."""
        return frozenset(self._announced.values())

    def announced_but(self, later: Collection[Prefix]) -> list[Prefix]:
        """The same without these, in the order in which they came."""
        if not later:
            return [*self._announced.values()]
        return [prefix for prefix in self._announced.values() if prefix not in later]

    def of_service(self, name: ObjectName) -> tuple[ServiceVerdict, ...]:
        """The verdicts on the addresses of one service."""
        return self._verdicts.get(name, ())

    def of_address(self, address: Address) -> tuple[ServiceVerdict, ...]:
        """The verdicts on an address, one for each service that mentions it."""
        return tuple(
            verdict
            for name in sorted(self._mentions.get(address, ()))
            for verdict in self.of_service(name)
            if verdict.address == address
        )

    def owner(self, key: ServerKey) -> ObjectName | None:
        """Whose service answers there."""
        return self._holders.get(key) or next(iter(self._claimants.get(key, ())), None)

    def has_address(self, address: Address) -> bool:
        """Whether any service mentions it."""
        return address in self._mentions

    def served(self) -> set[Address]:
        """The addresses that are translated to endpoints. A NodePort has none of its own."""
        return {key[0] for key in self.servers if not is_node_port(key)}

    @property
    def spread(self) -> int:
        """How many servers there are for which every node chooses alike."""
        return len(self._spread)

    def spread_endpoints(self) -> dict[ServerKey, int]:
        """How many endpoints take connections of each of these."""
        found = ((key, self.servers[key].spread) for key in self._spread)
        return {key: len(spread.ready) for key, spread in found if spread is not None}

    @property
    def addresses(self) -> frozenset[Address]:
        """Every address of every service, announced or not."""
        return frozenset(self._mentions)

    def verdicts(self) -> Iterator[ServiceVerdict]:
        """By service name."""
        for name in sorted(self._verdicts):
            yield from self._verdicts[name]


def _addresses(service: Service | None) -> set[Address]:
    if service is None:
        return set()
    return {*service.cluster_ips, *service.external_ips, *service.load_balancer_ips}
