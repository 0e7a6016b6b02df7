"""What is looked at: of the kernel, of one peer, of one endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from l3net.bgp.verdict import Export
from l3net.model import Address, Prefix

#: States of a neighbour entry by which no packet goes out (linux/neighbour.h).
DEAD = frozenset({"failed", "incomplete"})


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a route leads. `neighbour` is the state of the entry of who takes the packet, empty if there is
    none; `carrier`: whether the link has one; `port`: of a bridge, behind which port that MAC is, empty if
    behind none, None if it is no bridge;
    `answers`: the MACs that just answered for who takes the packet, None if nobody was asked."""

    interface: str
    gateway: Address | None = None
    neighbour: str = ""
    link_address: str = ""
    carrier: bool = True
    mtu: int = 0
    port: str | None = None
    port_forwards: bool = True
    answers: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return (
            f"via {self.gateway} dev {self.interface}"
            if self.gateway is not None
            else f"dev {self.interface}"
        )


@dataclass(frozen=True, slots=True)
class Way:
    """What the kernel does with a packet to an address. `kind`: unicast, local, blackhole, unreachable,
    prohibit, none (no route), unknown (it could not be asked)."""

    kind: str
    prefix: Prefix | None = None
    protocol: int = 0
    hops: tuple[Hop, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether there is a route that leads anywhere."""
        return self.kind in ("unicast", "local", "unknown")

    @property
    def interfaces(self) -> frozenset[str]:
        """By which links."""
        return frozenset(hop.interface for hop in self.hops)

    def __str__(self) -> str:
        if self.kind not in ("unicast", "local"):
            return {"none": "no route", "unknown": "the kernel could not be asked"}.get(self.kind, self.kind)
        where = ", ".join(map(str, self.hops[:4]))
        return f"{self.prefix} {where}" if self.kind == "unicast" else "this host itself"


#: The kernel was not asked.
UNKNOWN: Final = Way("unknown")


@dataclass(frozen=True, slots=True)
class PeerTold:
    """What one peer is told of one prefix. `said`: it was, by now; `by`: the filter that refuses it;
    `carries`: its session is configured for the prefix's family; `speaker`: somebody speaks BGP here at
    all; `hop`: the way to it, where it is on a link of ours."""

    name: str
    address: Address
    mesh: bool
    established: bool
    state: str
    since: str
    verdict: Export
    by: str = ""
    said: bool = False
    interface: str = ""
    path_failed: bool = False
    carries: bool = True
    speaker: bool = True
    hop: Hop | None = None

    @property
    def where(self) -> str:
        return f"peer {self.name} ({self.address})"


@dataclass(frozen=True, slots=True)
class Passage:
    """What became of a packet of `size` bytes that nobody may fragment, to a host that answers small ones.
    `lost`: nothing came of it; `told`: a router said that it is too big for its next link, which carries so
    many bytes (0: this host's own); `silent`: small ones are not answered either."""

    size: int
    lost: bool = False
    told: int | None = None
    silent: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """One endpoint, or other end of a connection: the pod if it is known, the node if that is known, and
    whether it runs here. `attached`: a pod that runs here, and its MAC.

    `allowed`, `decision`: what policies say of what comes from the source; `dropped`: by what of others it is
    or, if not `surely`, may be. `block`: it lies in a node's block. `policies`: those that are for it, where
    no source is known; `seen_as`: the node's own address, with which packets leave for it;
    `passage`: what became of large packets, where that was tried.
    """

    address: Address
    port: str = ""
    pod: str = ""
    node: str = ""
    here: bool = False
    attached: bool = False
    mac: str = ""
    way: Way = UNKNOWN
    allowed: bool = True
    decision: str = ""
    dropped: str = ""
    surely: bool = False
    block: bool = False
    policies: tuple[str, ...] = ()
    seen_as: str = ""
    passage: Passage | None = None

    @property
    def where(self) -> str:
        named = f" {self.pod}" if self.pod else ""
        at = f" on {self.node}" if self.node else ""
        return f"{self.address}{':' * bool(self.port)}{self.port}{named}{at}"
