"""Services whose clients come back to their backend (sessionAffinity: ClientIP): chains and sets of their
own.

A set for each backend holds the clients that met it, each for the service's timeout since its last
connection (as in kube-proxy). Who is in none draws a backend by a hash of its address, the same on every
node. A change of the backends touches the sets of those alone that come or go, so that no client of another
moves.

nft takes time and memory that grow with the square of the number of sets, so that this is for as many
servers and backends as it bears (`MOST`, `MOST_ENDS`). Beyond them a client's address alone draws, and a
change of backends may move it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from l3net.firewall import consistent
from l3net.firewall.contents import Statements, chain_blocks
from l3net.model import Backend, ServerKey, VirtualServer
from l3net.naming import NFT_TABLE, PROTOCOL_NUMBERS

#: Seed of the hash of a client's address: the same on every node, so that ECMP may move a client.
SEED = "0x6c336e74"
#: Clients remembered for one backend; of the next ones the hash alone decides.
REMEMBERED = 65536
#: Servers (address, protocol, port) whose clients are remembered: a second of nft, 120 MiB.
MOST = 400
#: Backends of all these together, a set each: 20,000 cost half a minute of nft, and sessions meanwhile.
MOST_ENDS = 4000
#: What the names of the sets begin with.
CLIENTS = "clients"


@dataclass(slots=True)
class Sticky:
    """What the table holds of such services: sets by name, with the family's type; chains and their rules."""

    sets: dict[str, str] = field(default_factory=dict)
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def blocks(self) -> Iterator[str]:
        """All of it as it stands in a table's block."""
        for name, of in self.sets.items():
            yield from (f"set {name} {{", f"type {of}", "flags dynamic,timeout", f"size {REMEMBERED}", "}")
        yield from chain_blocks(self.chains)

    def add(self, server: VirtualServer, suffix: str, backends: tuple[Backend, ...]) -> str:
        """The chain for one side of a server, which has at least one backend."""
        version = server.address.version
        ip = "ip" if version == 4 else "ip6"
        key = f"{server.address} {server.protocol} {server.port}"
        name = f"sticky{version}-{_digest(key)}{suffix}"
        ends = {backend: f"{_digest(f'{key} {backend.address} {backend.port}')}" for backend in backends}
        for backend, end in ends.items():
            self.sets[f"{CLIENTS}{version}-{end}"] = f"ipv{version}_addr"
            to = f"{backend.address}" if version == 4 else f"[{backend.address}]"
            self.chains[f"end{version}-{end}"] = (
                f"update @{CLIENTS}{version}-{end} {{ {ip} saddr timeout {server.affinity}s }}",
                f"meta l4proto {PROTOCOL_NUMBERS[server.protocol]} dnat {ip} to {to}:{backend.port}",
            )
        slots = consistent.slots(backends)
        drawn = ", ".join(f"{slot} : goto end{version}-{ends[each]}" for slot, each in enumerate(slots))
        self.chains[name] = (
            *(f"{ip} saddr @{CLIENTS}{version}-{end} goto end{version}-{end}" for end in ends.values()),
            f"jhash {ip} saddr mod {len(slots)} seed {SEED} vmap {{ {drawn} }}",
        )
        return name


def change(statements: Statements, old: Sticky, new: Sticky) -> None:
    """From what one server has to what it has now. The sets of backends that stay keep their clients."""
    for name, of in new.sets.items():
        if name not in old.sets:
            kind = f"type {of}; flags dynamic,timeout; size {REMEMBERED};"
            statements.declared.append(f"add set inet {NFT_TABLE} {name} {{ {kind} }}\n")
    statements.chains(old.chains, new.chains)
    statements.removed += (
        f"delete set inet {NFT_TABLE} {name}\n" for name in old.sets if name not in new.sets
    )


def remembered_of(servers: Iterable[VirtualServer]) -> dict[ServerKey, int]:
    """Those whose clients are remembered in a table made anew, with the number of their sets: all, or the
    first that fit, NodePorts last."""
    wanted = [server for server in servers if server.affinity]
    if len(wanted) > MOST or sum(map(sets_of, wanted)) > MOST_ENDS:
        wanted.sort(key=lambda each: (each.on_node, each.address.version, each.address, each.key[1:]))
    found: dict[ServerKey, int] = {}
    ends = 0
    for server in wanted:
        if len(found) < MOST and ends + (sets := sets_of(server)) <= MOST_ENDS:
            found[server.key] = sets
            ends += sets
    return found


def sets_of(server: VirtualServer) -> int:
    """How many sets remember its clients: one a backend."""
    return len({*server.internal, *server.external})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
