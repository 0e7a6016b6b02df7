"""What a changed virtual server changes in the table that is in force: elements of maps and sets, no more.

Ten thousand services take nft seconds to replace; the elements of one take milliseconds, however many there
are. Everything else in the table (blocks, pools, nodes, ports) changes seldom, and replaces it whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from l3net.firewall.nat import LoadBalancer, ServiceMaps, Side, with_spares
from l3net.firewall.plan import FirewallPlan
from l3net.model import VirtualServer
from l3net.naming import NFT_TABLE

#: A named map or set, and an element as nft reads it.
Element: TypeAlias = tuple[str, str]
Change: TypeAlias = tuple[VirtualServer | None, VirtualServer | None]


class TableContents:
    """What the table in force holds of the services: begins as `ruleset` of the same plan would have it."""

    def __init__(self, plan: FirewallPlan) -> None:
        self._blocks, self._node_addresses = plan.blocks, plan.node_addresses
        self._counts: Counter[Element] = Counter()
        chains: dict[int, set[LoadBalancer]] = {4: set(), 6: set()}
        for server in plan.servers:
            maps = _maps(server)
            chains[maps.version] |= maps.chains
            self._counts.update(self._members(server))
        self._chains = {version: with_spares(found) for version, found in chains.items()}

    def change(self, changes: Iterable[Change]) -> str | None:
        """The transaction (`nft -f -`) from each first to each second server; empty when nothing differs.

        None when elements are not enough: the table has to be replaced, and this object made anew.
        """
        gone: dict[Element, None] = {}
        come: dict[Element, None] = {}
        members: Counter[Element] = Counter()
        for before, now in changes:
            old = dict.fromkeys(_mapped(before)) if before else {}
            new = dict.fromkeys(_mapped(now)) if now else {}
            gone.update((element, None) for element in old if element not in new)
            come.update((element, None) for element in new if element not in old)
            members.subtract(self._members(before) if before else ())
            members.update(self._members(now) if now else ())
            if now is not None:
                maps = _maps(now)
                if not maps.chains <= self._chains[maps.version]:
                    return None
        for element, difference in members.items():
            had = self._counts[element]
            self._counts[element] = had + difference
            if had and not had + difference:
                gone[element] = None
                del self._counts[element]
            elif not had and difference:
                come[element] = None
            elif not had:
                del self._counts[element]
        # What goes makes room for what comes: the same key with another value is both.
        return "".join((*_statements("delete", gone), *_statements("add", come)))

    def _members(self, server: VirtualServer) -> Iterator[Element]:
        """The elements of sets, which several servers may share, once for each that has them."""
        version, address = server.address.version, server.address
        yield f"vips{version}", str(address)
        # A service's address that is also a node's own has other ports, which are the node's to answer.
        if address not in self._node_addresses:
            yield f"refused{version}", str(address)
        backends = {backend.address for backend in (*server.internal, *server.external)}
        for backend in backends:
            if backend.version == version and any(backend in block for block in self._blocks):
                yield f"hairpin{version}", f"{backend} . {backend}"


def _maps(server: VirtualServer) -> ServiceMaps:
    maps = ServiceMaps(server.address.version)
    maps.add(server)
    return maps


def _mapped(server: VirtualServer) -> Iterator[Element]:
    """The elements of maps, which are this server's alone."""
    maps = _maps(server)
    for side in Side:
        for slot in maps.slots[side]:
            yield f"backends{maps.version}{side.value}", slot
        for verdict in maps.servers[side]:
            yield f"services{maps.version}{side.value}", verdict


def _statements(verb: str, elements: Iterable[Element]) -> Iterator[str]:
    grouped: dict[str, list[str]] = {}
    for name, element in elements:
        grouped.setdefault(name, []).append(element)
    for name, found in grouped.items():
        yield f"{verb} element inet {NFT_TABLE} {name} {{ {', '.join(found)} }}\n"
