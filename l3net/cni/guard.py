"""What the guard of pods' ports holds: the addresses that a port may send from, as elements of the sets of
the table `bridge l3net` (cni/guardrules.py), and what pods are allowed beside their own.

Each port has elements of its own and no rule. All sets but those of ranges hold exact keys: a set of ranges
made in a transaction is empty to the rules for a moment, so that nothing of a pod's own hangs on one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

from l3net.addresses import contains, prefix_order
from l3net.model import Address, ObjectName, Prefix

if TYPE_CHECKING:  # a plugin begins with this, for each pod where no agent runs
    from l3net.model import ClusterState, Pod

GUARDED: Final = "guarded"
MACS: Final = "macs"
SOURCES: Final = {4: "sources4", 6: "sources6"}
#: What a port may answer for in neighbour discovery, and its link-layer options.
TARGETS: Final = "targets"
OPTIONS: Final = "options"
#: Prefixes of more than `EXPANDED` addresses.
RANGES: Final = {4: "ranges4", 6: "ranges6"}
SETS: Final = (GUARDED, MACS, *SOURCES.values(), TARGETS, OPTIONS, *RANGES.values())

#: Prefixes of up to as many addresses (/28, /124) become an element for each.
EXPANDED: Final = 16
#: The most prefixes that one pod may be allowed.
MOST_ALLOWED: Final = 64
_IFNAMSIZ: Final = 16
#: RFC 4861 section 4.6.1: type and length of the source and the target link-layer address option.
_OPTION_HEADS: Final = (b"\x01\x01", b"\x02\x01")


class Element(NamedTuple):
    """An element of one of `SETS`, as the kernel holds it: fields of a key are filled up to four octets.
    `end` is the last key of a range, empty where there is but one."""

    set: str
    key: bytes
    end: bytes = b""

    @property
    def port(self) -> str:
        return self.key[:_IFNAMSIZ].rstrip(b"\0").decode(errors="replace")


@dataclass(frozen=True, slots=True)
class GuardedPort:
    """A pod's port: its host end, MAC and addresses, and the pod (`namespace/name`, empty if not known)."""

    name: str
    mac: str
    addresses: tuple[Address, ...]
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What pods may send from beside their own addresses: by the pod, and by the pool an address is of."""

    pods: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)
    pools: Mapping[Prefix, tuple[Prefix, ...]] = field(default_factory=dict)

    def of(self, port: GuardedPort) -> frozenset[Prefix]:
        """Of one port; no more than `MOST_ALLOWED`."""
        found = set(self.pods.get(port.pod, ())) if port.pod else set()
        for pool, prefixes in self.pools.items():
            if any(address.version == pool.version and address in pool for address in port.addresses):
                found.update(prefixes)
        return frozenset(sorted(found, key=prefix_order)[:MOST_ALLOWED])


def allowed_of(
    state: ClusterState, asking: Iterable[Pod]
) -> tuple[Allowed, dict[ObjectName, tuple[Prefix, ...]]]:
    """What pods are allowed that ask for more than their own addresses, and what they are refused, by pod.

    A pod's annotation counts only inside what its Namespace lets its pods ask for: whoever may write pods
    could take any address otherwise.
    """
    pods: dict[str, tuple[Prefix, ...]] = {}
    refused: dict[ObjectName, tuple[Prefix, ...]] = {}
    for pod in asking:
        namespace = state.namespaces.get(pod.name.namespace)
        limits = namespace.allowed_sources if namespace is not None else ()
        granted = [each for each in pod.allowed_sources if any(contains(limit, each) for limit in limits)]
        if denied := tuple(each for each in pod.allowed_sources if each not in granted[:MOST_ALLOWED]):
            refused[pod.name] = denied
        if granted:
            pods[str(pod.name)] = tuple(granted[:MOST_ALLOWED])
    pools = {pool.cidr: pool.allowed_sources for pool in state.pools.values() if pool.allowed_sources}
    return Allowed(pods, pools), refused


def link_local(mac: str) -> IPv6Address:
    """The link-local address that follows from a MAC (RFC 4291 appendix A)."""
    packed = mac_octets(mac)
    middle = bytes([packed[0] ^ 2]) + packed[1:3] + b"\xff\xfe" + packed[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + middle)


def mac_octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def closed(name: str) -> Element:
    """The element that has a port looked at. Alone, it lets nothing pass."""
    return Element(GUARDED, _name(name))


@lru_cache(maxsize=1024)
def elements(port: GuardedPort, allowed: frozenset[Prefix] = frozenset()) -> frozenset[Element]:
    """All of a port: nothing else passes it."""
    name, mac = _name(port.name), mac_octets(port.mac)
    single: set[Address] = set(port.addresses)
    found = {closed(port.name), Element(MACS, name + mac + b"\0\0")}
    found.update(Element(OPTIONS, name + head + mac) for head in _OPTION_HEADS)
    if any(address.version == 6 for address in port.addresses):
        single.add(link_local(port.mac))
    for prefix in _merged(allowed):
        if prefix.num_addresses <= EXPANDED:
            single.update(prefix)
        else:
            first, last = prefix.network_address.packed, prefix.broadcast_address.packed
            found.add(Element(RANGES[prefix.version], name + first, name + last))
    for address in single:
        found.add(Element(SOURCES[address.version], name + address.packed))
        if address.version == 6:
            found.add(Element(TARGETS, name + address.packed))
    return frozenset(found)


def of_port(held: Collection[Element], name: str) -> frozenset[Element]:
    """Those of a port, out of those of many."""
    key = _name(name)
    return frozenset(each for each in held if each.key[:_IFNAMSIZ] == key)


def _merged(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """The same addresses without overlap, which sets of ranges refuse."""
    found = list(prefixes)
    v4 = [each for each in found if isinstance(each, ipaddress.IPv4Network)]
    v6 = [each for each in found if isinstance(each, ipaddress.IPv6Network)]
    return [*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6)]


def _name(port: str) -> bytes:
    return port.encode().ljust(_IFNAMSIZ, b"\0")
