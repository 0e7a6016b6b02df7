"""What a changed virtual server changes in the table that is in force: elements of maps and sets, no more.

Ten thousand services take nft seconds to replace; the elements of one take milliseconds, however many there
are. Everything else in the table (blocks, pools, nodes, ports) changes seldom, and replaces it whole.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from l3net.firewall import sticky
from l3net.firewall.nat import LoadBalancer, ServiceMaps, Side, chains_of, ends_of, with_spares
from l3net.firewall.plan import FirewallPlan
from l3net.firewall.sticky import Sticky
from l3net.model import VirtualServer
from l3net.naming import NFT_TABLE

#: A named map or set, and an element as nft reads it.
Element: TypeAlias = tuple[str, str]
Change: TypeAlias = tuple[VirtualServer | None, VirtualServer | None]


class TableContents:
    """What the table in force holds of the services: begins as `ruleset` of the same plan would have it."""

    def __init__(self, plan: FirewallPlan) -> None:
        self._blocks, self._node_addresses = plan.blocks, plan.node_addresses
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        chains: dict[int, set[LoadBalancer]] = {4: set(), 6: set()}
        self._guards: set[str] = set()
        self._remembered = set(sticky.remembered_of(plan.servers))
        for server in plan.servers:
            if server.affinity or server.sources is not None:
                maps = self._maps(server)
                chains[maps.version] |= maps.chains
                self._guards.update(maps.guards)
            else:
                chains[server.address.version].update(chains_of(server))
            for name, text in self._members(server):
                self._counts[name][text] += 1
        self._chains = {version: with_spares(found) for version, found in chains.items()}

    def change(self, changes: Iterable[Change]) -> str | None:
        """The transaction (`nft -f -`) from each first to each second server; empty when nothing differs.

        None when elements are not enough: the table has to be replaced, and this object made anew.
        """
        gone: dict[Element, None] = {}
        come: dict[Element, None] = {}
        members: Counter[Element] = Counter()
        made: list[str] = []
        unmade: list[str] = []
        for before, now in changes:
            old_maps = self._maps(before) if before else None
            self._remember(before, now)
            new_maps = self._maps(now) if now else None
            old = dict.fromkeys(_mapped(old_maps)) if old_maps else {}
            new = dict.fromkeys(_mapped(new_maps)) if new_maps else {}
            gone.update((element, None) for element in old if element not in new)
            come.update((element, None) for element in new if element not in old)
            members.subtract(self._members(before) if before else ())
            members.update(self._members(now) if now else ())
            had_sticky = old_maps.sticky if old_maps else Sticky()
            has_sticky = new_maps.sticky if new_maps else Sticky()
            made += sticky.before(had_sticky, has_sticky)
            unmade += sticky.after(had_sticky, has_sticky)
            if new_maps is not None and not (
                new_maps.chains <= self._chains[new_maps.version] and new_maps.guards.keys() <= self._guards
            ):
                return None
        for element, difference in members.items():
            counts, text = self._counts[element[0]], element[1]
            had = counts[text]
            counts[text] = had + difference
            if had and not had + difference:
                gone[element] = None
                del counts[text]
            elif not had and difference:
                come[element] = None
            elif not had:
                del counts[text]
        # What goes makes room for what comes: the same key with another value is both.
        deleted, added = _statements("delete", gone), _statements("add", come)
        return "".join((*made, *deleted, *unmade, *added))

    def _remember(self, before: VirtualServer | None, now: VirtualServer | None) -> None:
        """Whether a server's clients are remembered from now on: where they were, or there is room."""
        if before is not None and (now is None or not now.affinity):
            self._remembered.discard(sticky.key_of(before))
        if now is not None and now.affinity and len(self._remembered) < sticky.MOST:
            self._remembered.add(sticky.key_of(now))

    def _maps(self, server: VirtualServer) -> ServiceMaps:
        maps = ServiceMaps(server.address.version, self._remembered)
        maps.add(server)
        return maps

    def _members(self, server: VirtualServer) -> Iterator[Element]:
        """The elements of sets, which several servers may share, once for each that has them."""
        version, address = server.address.version, server.address
        yield f"vips{version}", str(address)
        # A service's address that is also a node's own has other ports, which are the node's to answer.
        if address in self._node_addresses:
            yield f"spared{version}", str(address)
        for end in ends_of(server):
            yield f"ends{version}", end
        backends = {*server.internal, *server.external}
        for address in {backend.address for backend in backends}:
            if address.version == version and any(address in block for block in self._blocks):
                yield f"hairpin{version}", f"{address} . {address}"


def _mapped(maps: ServiceMaps) -> Iterator[Element]:
    """The elements of maps, which are one server's alone."""
    for side in Side:
        for slot in maps.slots[side]:
            yield f"backends{maps.version}{side.value}", slot
        for verdict in maps.servers[side]:
            yield f"services{maps.version}{side.value}", verdict
    for guard in maps.guarded:
        yield f"guarded{maps.version}", guard


def _statements(verb: str, elements: Iterable[Element]) -> Iterator[str]:
    grouped: dict[str, list[str]] = {}
    for name, element in elements:
        grouped.setdefault(name, []).append(element)
    for name, found in grouped.items():
        yield f"{verb} element inet {NFT_TABLE} {name} {{ {', '.join(found)} }}\n"
