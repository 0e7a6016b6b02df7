"""The table that counts new connections to services: a set a family, each of whose elements is a counter.

The chains hang on the hook that translates, which meets the first packet of a connection and no other, just
before translation: a look-up a connection, and nothing a packet. The table is none of those that the agent
replaces, and its sets know nothing of endpoints: so counts outlive both. One counter of all of them together
tells whether any has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from l3net.firewall.contents import IP, hook
from l3net.firewall.facts import widest_first
from l3net.firewall.nat import KEY
from l3net.model import Prefix, ServerKey, is_node_port
from l3net.naming import PROTOCOL_NUMBERS

TABLE: Final = "l3net_count"
#: Counts what all elements count.
ALL: Final = "together"
#: By whether it is of NodePorts, and the family.
SETS: Final = {(on_node, version): f"{'ports' if on_node else 'services'}{version}"
               for on_node in (False, True) for version in IP}  # fmt: skip
#: Just before translation: that of what is handed on, too.
_PRIORITY: Final = -104


def declaration(ports_on: Collection[Prefix]) -> str:
    """What makes the table, or brings its chains to this; sets that are there keep their elements."""
    chains = {
        "services": tuple(_rules(ports_on)),
        "prerouting": (hook("nat", "prerouting", _PRIORITY), "goto services"),
        "output": (hook("nat", "output", _PRIORITY), "goto services"),
    }
    lines = [f"add table inet {TABLE}", f"add counter inet {TABLE} {ALL}"]
    for (on_node, version), name in SETS.items():
        of = KEY if on_node else f"{IP[version]} daddr . {KEY}"
        lines.append(f"add set inet {TABLE} {name} {{ typeof {of}; counter; }}")
    for name, (first, *_) in chains.items():
        lines.append(f"add chain inet {TABLE} {name}" + (f" {{ {first} }}" if name != "services" else ""))
        lines.append(f"flush chain inet {TABLE} {name}")
    for name, rules in chains.items():
        lines += (f"add rule inet {TABLE} {name} {rule}" for rule in rules if not rule.startswith("type "))
    return "\n".join(lines) + "\n"


def _rules(ports_on: Collection[Prefix]) -> Iterator[str]:
    """Found or not, the packet goes on. An element counts before what stands behind it."""
    found = f"counter name {ALL} return"
    for version, ip in IP.items():
        yield f"{ip} daddr . {KEY} @{SETS[False, version]} {found}"
        for prefix in widest_first(version, ports_on):
            yield f"{ip} daddr {prefix} fib daddr type local {KEY} @{SETS[True, version]} {found}"


def element(key: ServerKey) -> tuple[str, bytes]:
    """The set, and the key as the kernel has it: each field filled up to four octets, in network order."""
    address, protocol, port = key
    rest = PROTOCOL_NUMBERS[protocol].to_bytes(1, "big") + bytes(3) + port.to_bytes(2, "big") + bytes(2)
    on_node = is_node_port(key)
    return SETS[on_node, address.version], rest if on_node else address.packed + rest
