"""The sets that rules of policies look into, by what is in them: pods, their named ports, nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2s

from l3net.firewall.contents import IP
from l3net.model import PodSelection, Selector
from l3net.naming import PROTOCOL_NUMBERS


def digest(*parts: object) -> str:
    """A name for a value: the same on every node and after a restart, whatever else there is."""
    return blake2s(repr(parts).encode(), digest_size=7).hexdigest()


@dataclass(frozen=True, slots=True)
class PodSet:
    """The addresses of the pods that a selection chooses, or (`port` not empty) those of their ports of this
    name, which is of a protocol, or of any where that is empty. `local`: only of those attached here."""

    selection: PodSelection
    port: str = ""
    protocol: str = ""
    local: bool = False

    def name(self, version: int) -> str:
        return _named(self, version)

    def type_of(self, version: int) -> str:
        return (
            f"typeof {IP[version]} daddr . meta l4proto . th dport"
            if self.port
            else f"type ipv{version}_addr"
        )


@lru_cache(maxsize=16384)
def _named(each: PodSet, version: int) -> str:
    if not each.port:
        return f"peers{version}-{digest(each.selection)}"
    return f"named{version}-{digest(each.selection, each.port, each.protocol, each.local)}"


@dataclass(frozen=True, slots=True)
class NodeSet:
    """The addresses of the nodes that a selector chooses."""

    nodes: Selector

    def name(self, version: int) -> str:
        return f"nodes{version}-{digest(self.nodes)}"

    def type_of(self, version: int) -> str:
        return f"type ipv{version}_addr"


@dataclass(frozen=True, slots=True)
class PodEntry:
    """A pod as sets hold it: its addresses as text by version, its named ports as (name, protocol, port)."""

    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()
    ports: tuple[tuple[str, str, int], ...] = ()
    local: bool = False

    def elements(self, of: PodSet) -> Iterator[tuple[int, str]]:
        """(version, element) of each."""
        if of.local and not self.local:
            return
        for version, addresses in ((4, self.v4), (6, self.v6)):
            for address in addresses:
                if not of.port:
                    yield version, address
                    continue
                for name, protocol, port in self.ports:
                    if name == of.port and of.protocol in ("", protocol):
                        yield version, f"{address} . {PROTOCOL_NUMBERS[protocol]} . {port}"
