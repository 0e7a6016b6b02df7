"""Which addresses services of type LoadBalancer get out of the pools that allow it.

As with blocks, a ledger says who holds what, and a plan makes the next one of it. Nothing is handed out
twice, unless both services say by the same `l3net.io/sharing-key` in the same namespace that they share, no
port of one is a port of the other, and neither asks for externalTrafficPolicy Local (whose endpoints decide
which nodes announce the address, and would decide for the other service too). These are MetalLB's rules, but
that a key does not reach into another namespace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from l3net.addresses import contains, host_prefix, parse_address
from l3net.ipam.blocks import PoolUsage
from l3net.ipam.findings import Contradiction, FindingReason
from l3net.ipam.spans import Search, Spans, address_of, span
from l3net.model import Address, IpPool, Kind, Namespace, ObjectName, PoolUse, Prefix, Service
from l3net.naming import ANNOTATION_LOAD_BALANCER_IPS, ANNOTATION_SHARING_KEY, LOAD_BALANCER_CLASS

AddressLedger = Mapping[ObjectName, tuple[Address, ...]]


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """The ledger as it should be (addresses in the order of status), and what could not be done.

    `served` are the services whose status is ours to write, also when they hold nothing.
    """

    held: AddressLedger
    findings: tuple[Contradiction, ...] = ()
    served: frozenset[ObjectName] = frozenset()


def served(service: Service, *, every_class: bool) -> bool:
    """Whether the addresses of a service are l3net's to give."""
    if service.type != "LoadBalancer" or not service.cluster_ips:
        return False
    if service.load_balancer_class is None:
        return every_class
    return service.load_balancer_class == LOAD_BALANCER_CLASS


def plan_addresses(
    services: Mapping[ObjectName, Service],
    pools: Mapping[str, IpPool],
    ledger: AddressLedger,
    *,
    namespaces: Mapping[str, Namespace],
    blocks: Iterable[Prefix] = (),
    refused: Collection[str] = (),
    every_class: bool = False,
    unsure: Collection[ObjectName] = (),
) -> AddressPlan:
    """Keep what is held, free what no service holds any more, give what is asked for and what is missing.

    `blocks` are those of nodes, which a pool for both uses must not hand out again. `unsure`: services of
    which nobody knows whether they are gone; they keep what they hold.
    """
    own = {name: pool for name, pool in pools.items() if PoolUse.LOAD_BALANCER in pool.allowed_uses}
    usable = [own[name] for name in sorted(own) if name not in refused and not own[name].disabled]
    planner = _Planner(usable, namespaces, blocks)
    ours: list[Service] = []
    for name in sorted(services):  # what the ledger knows comes before what a status says
        if served(services[name], every_class=every_class):
            planner.keep(services[name], ledger.get(name, ()), was_ours=True)
    waiting = [Service(name) for name in sorted(unsure) if name not in services and name in ledger]
    for service in waiting:  # after the others, who may share with one of them
        planner.keep(service, ledger[service.name], was_ours=False)
    for name in sorted(services):
        service = services[name]
        held = ledger.get(name, ())
        carried = tuple(address for address in service.load_balancer_ips if address not in held)
        inside = tuple(address for address in carried if _pool_of(address, own.values()))
        if not served(service, every_class=every_class):
            planner.occupy(service, inside)
        elif carried and not inside and not held and service.load_balancer_class is None:
            continue  # of no class, and another implementation serves it
        else:
            ours.append(service)
            planner.carry(service, inside)
            if not held:
                whole = service.load_balancer_class is not None
                planner.keep(service, carried if whole else inside, was_ours=False)
    planner.ask_all(ours)
    for service in ours:
        planner.fill(service)
    held_now = {service.name: planner.addresses(service) for service in ours}
    kept = {service.name: planner.addresses(service) for service in waiting}
    return AddressPlan(
        {name: held for name, held in {**held_now, **kept}.items() if held},
        tuple(planner.findings),
        frozenset(held_now),
    )


def requested(service: Service) -> tuple[Address, ...]:
    """The addresses a service asks for: by annotation, else by spec.loadBalancerIP. Raises ValueError."""
    text = service.annotations.get(ANNOTATION_LOAD_BALANCER_IPS, "")
    if text.strip():
        found = tuple(parse_address(part.strip()) for part in text.split(","))
        return tuple(dict.fromkeys(found))
    return () if service.wanted_ip is None else (service.wanted_ip,)


def address_usage(pool: IpPool, held: Iterable[Address], blocks: Iterable[Prefix] = ()) -> PoolUsage:
    """Addresses in use (a shared one counts once) and left to who asks for any."""
    ours = {address for address in held if address in pool.cidr}
    inside = [block for block in blocks if contains(pool.cidr, block)]
    gone = sum(block.num_addresses for block in inside)
    avoided = _avoided(pool, pool.cidr) - sum(_avoided(pool, block) for block in inside)
    avoided -= sum(pool.avoids(address) for address in ours)
    return PoolUsage(len(ours), max(pool.cidr.num_addresses - len(ours) - gone - avoided, 0))


def _avoided(pool: IpPool, prefix: Prefix) -> int:
    """How many addresses of a prefix the pool gives only to who asks for them."""
    first, last = span(prefix)
    if last - first < 256:
        return sum(pool.avoids(address) for address in {prefix.network_address, prefix.broadcast_address})
    return prefix.num_addresses // 128 if pool.avoids(prefix.network_address) else 0


def _pool_of(address: Address, pools: Iterable[IpPool]) -> IpPool | None:
    return next((pool for pool in pools if address in pool.cidr), None)


def _ports(service: Service) -> set[tuple[str, int]]:
    return {(port.protocol, port.port) for port in service.ports}


@dataclass(slots=True)
class _Planner:
    """One plan in the making."""

    usable: list[IpPool]
    namespaces: Mapping[str, Namespace]
    blocks: Iterable[Prefix]
    findings: list[Contradiction] = field(default_factory=list)
    _users: dict[Address, list[Service]] = field(default_factory=dict)
    _held: dict[ObjectName, list[Address]] = field(default_factory=dict)
    _asked: dict[ObjectName, tuple[Address, ...] | None] = field(default_factory=dict)  # None: unreadable
    _shared: dict[tuple[str, str], list[Address]] = field(default_factory=dict)
    _searches: dict[str, Search] = field(default_factory=dict)
    _taken: Spans = field(default_factory=Spans)
    _block_spans: Spans = field(default_factory=Spans)
    _carried: dict[ObjectName, tuple[Address, ...]] = field(default_factory=dict)
    _closed: Spans = field(default_factory=Spans)  # to who asks for any: blocks, and what is carried

    def __post_init__(self) -> None:
        for block in self.blocks:
            self._block_spans.add(block, "")
            self._closed.add(block, "")

    def addresses(self, service: Service) -> tuple[Address, ...]:
        """In the order of the request, else of the service's families."""
        asked = self._asked.get(service.name) or ()
        versions = [address.version for address in service.cluster_ips]

        def order(address: Address) -> tuple[int, int, int]:
            family = versions.index(address.version) if address.version in versions else 2
            return (asked.index(address) if address in asked else len(asked), family, int(address))

        return tuple(sorted(self._held.get(service.name, ()), key=order))

    def carry(self, service: Service, addresses: tuple[Address, ...]) -> None:
        """What its status says although the ledger does not: people may use it until that is written."""
        self._carried[service.name] = addresses
        for address in addresses:
            self._closed.add(host_prefix(address), "")

    def occupy(self, service: Service, addresses: Iterable[Address]) -> None:
        """What is in the status of a service that is not ours to serve."""
        for address in addresses:
            self._use(service, address)

    def keep(self, service: Service, addresses: Iterable[Address], was_ours: bool) -> None:
        """What it holds by the ledger or carries already, if its users may share it."""
        for address in addresses:
            others = self._users.get(address, [])
            if all(_may_share(service, other) for other in others):
                self._use(service, address)
                self._held.setdefault(service.name, []).append(address)
            elif was_ours:
                self._say(
                    service,
                    FindingReason.ADDRESS_IN_USE,
                    f"loses {address}: it may not be shared with {others[0].name} any more",
                )

    def ask_all(self, services: list[Service]) -> None:
        """What services ask for by name, until nothing moves: one may wait for what another gives up."""
        before = list(self.findings)
        moved = True
        while moved:  # each round but the last fulfils a request, and none is taken back
            self.findings = list(before)
            moved = sum(self._ask(service) for service in services) > 0

    def _ask(self, service: Service) -> bool:
        """Whether it gave up an address. One that cannot be had leaves what the service holds."""
        try:
            asked = requested(service)
        except ValueError as err:
            self._asked[service.name] = None
            self._say(service, FindingReason.INVALID_REQUEST, f"{ANNOTATION_LOAD_BALANCER_IPS}: {err}")
            return False
        self._asked[service.name] = asked
        held = self._held.setdefault(service.name, [])
        missing = [address for address in asked if address not in held and not self._take(service, address)]
        by_annotation = service.annotations.get(ANNOTATION_LOAD_BALANCER_IPS, "").strip()
        released = False
        for address in list(held):
            replaced = by_annotation or any(other.version == address.version for other in asked)
            still = any(other.version == address.version for other in missing)
            if asked and replaced and address not in asked and not still:
                self._release(service, address)
                released = True
        return released

    def fill(self, service: Service) -> None:
        """One address of each of the service's families, unless the annotation says exactly which."""
        asked = self._asked.get(service.name)
        if asked is None or (asked and service.annotations.get(ANNOTATION_LOAD_BALANCER_IPS, "").strip()):
            return
        held = self._held.setdefault(service.name, [])
        for version in dict.fromkeys(address.version for address in service.cluster_ips):
            if any(address.version == version for address in (*held, *asked)):
                continue
            pools = [
                pool for pool in self.usable if pool.cidr.version == version and self._may(service, pool)
            ]
            if not pools:
                continue
            address = (
                self._sharable(service, pools)
                or self._carried_still(service, version, pools)
                or self._free(pools)
            )
            if address is None:
                names = ", ".join(pool.name for pool in pools)
                self._say(
                    service,
                    FindingReason.NO_ADDRESS_FREE,
                    f"no IPv{version} address is free in the pools it may use: {names}",
                )
                continue
            self._use(service, address)
            held.append(address)
        if not held and not any(self._may(service, pool) for pool in self.usable):
            self._say(
                service,
                FindingReason.NO_ADDRESS_FREE,
                "no IPPool with allowedUses: [LoadBalancer] is open to its namespace",
            )

    def _take(self, service: Service, address: Address) -> bool:
        pool = _pool_of(address, self.usable)
        if pool is None or not self._may(service, pool):
            where = "no usable IPPool with allowedUses: [LoadBalancer] open to its namespace holds it"
            self._say(service, FindingReason.ADDRESS_OUTSIDE_POOLS, f"asks for {address}: {where}")
            return False
        blocked = self._block_spans.overlapping(host_prefix(address))
        other = next((user for user in self._users.get(address, []) if not _may_share(service, user)), None)
        if blocked or other:
            holder = f"service {other.name} holds it" if other else f"it is in a node's block {blocked}"
            self._say(service, FindingReason.ADDRESS_IN_USE, f"asks for {address}: {holder}")
            return False
        self._use(service, address)
        self._held[service.name].append(address)
        return True

    def _may(self, service: Service, pool: IpPool) -> bool:
        space = self.namespaces.get(service.name.namespace)
        return pool.namespace_selector.matches(space.labels if space else {})

    def _sharable(self, service: Service, pools: list[IpPool]) -> Address | None:
        key = service.annotations.get(ANNOTATION_SHARING_KEY, "")
        candidates = self._shared.get((service.name.namespace, key), ()) if key else ()
        return next(
            (
                address
                for address in candidates
                if _pool_of(address, pools)
                and self._users.get(address)
                and all(_may_share(service, other) for other in self._users[address])
            ),
            None,
        )

    def _carried_still(self, service: Service, version: int, pools: list[IpPool]) -> Address | None:
        """Of this family, one that its status says and that nobody has."""
        found = (each for each in self._carried.get(service.name, ()) if each.version == version)
        return next((each for each in found if _pool_of(each, pools) and not self._users.get(each)), None)

    def _free(self, pools: list[IpPool]) -> Address | None:
        for pool in pools:
            search = self._searches.get(pool.name)
            if search is None:
                search = self._searches[pool.name] = Search(pool.cidr, pool.cidr.max_prefixlen, pool.avoids)
            found = search.next_free(self._taken, self._closed)
            if found is not None:
                return address_of(found)
        return None

    def _use(self, service: Service, address: Address) -> None:
        self._users.setdefault(address, []).append(service)
        self._taken.add(host_prefix(address), "")
        if key := service.annotations.get(ANNOTATION_SHARING_KEY, ""):
            shared = self._shared.setdefault((service.name.namespace, key), [])
            if address not in shared:
                shared.append(address)

    def _release(self, service: Service, address: Address) -> None:
        self._held[service.name].remove(address)
        self._users[address].remove(service)
        if not self._users[address]:
            self._taken.remove(host_prefix(address))

    def _say(self, service: Service, reason: FindingReason, message: str) -> None:
        self.findings.append(Contradiction(Kind.SERVICE, service.name, reason, message))


def _may_share(first: Service, second: Service) -> bool:
    if first.name == second.name:
        return True
    key = first.annotations.get(ANNOTATION_SHARING_KEY, "")
    return (
        bool(key)
        and first.name.namespace == second.name.namespace
        and key == second.annotations.get(ANNOTATION_SHARING_KEY, "")
        and not _ports(first) & _ports(second)
        and not first.external_traffic_local
        and not second.external_traffic_local
    )
