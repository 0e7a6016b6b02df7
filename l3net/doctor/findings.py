"""The facts that a diagnosis stands on, and the shape of what it says."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from l3net.model import PortUse


class Severity(enum.Enum):
    """How bad a finding is. Only a PROBLEM makes `l3net doctor` exit with 1."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what it is about, what was seen, and what to do unless it is well."""

    check: str
    subject: str
    severity: Severity
    what: str
    remedy: str = ""


class ProbeAnswer(enum.Enum):
    """What a TCP connection to the peer's BGP port met, without a signature (RFC 2385)."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    SILENT = "no answer"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Probe:
    """One such connection. `as_number`: of the OPEN the peer sent; `notification`: its code and subcode."""

    answer: ProbeAnswer
    detail: str = ""
    as_number: int | None = None
    notification: tuple[int, int] | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Counters:
    """How far the counters of this network namespace (TcpExt in /proc/net/netstat) rose meanwhile."""

    md5_wrong: int = 0  # TCPMD5Failure: signed with another password than ours
    md5_missing: int = 0  # TCPMD5NotFound: not signed, but we have a password for that address
    md5_unexpected: int = 0  # TCPMD5Unexpected: signed, but we have no password for that address
    ttl_too_low: int = 0  # TCPMinTTLDrop: refused by GTSM (RFC 5082)


@dataclass(frozen=True, slots=True)
class Peer:
    """A BGP peer as the agent has it in its status; `refused` counts its paths by verdict.

    `as_number` None: it may have any, and has not told it yet. `interface`: that of a link-local address.
    """

    name: str
    address: str
    as_number: int | None
    local_address: str
    port: int
    listen_port: int
    established: bool
    reason: str
    password: bool
    gtsm: bool
    passive: bool
    announced: int
    received: int
    accepted: int
    flaps: int
    refused: Mapping[str, int] = field(default_factory=dict)
    over_limit: tuple[str, ...] = ()
    interface: str = ""


@dataclass(frozen=True, slots=True)
class PeerLook:
    """What was seen of a peer that is down. `far`: the same probe with TTL 255, if the first met silence.

    `near`: the same where only packets with TTL 255 are taken, if the BGPPeer has gtsm.
    """

    plain: Probe
    far: Probe | None = None
    near: Probe | None = None


@dataclass(frozen=True, slots=True)
class PodLook:
    """What passed between two pods made for a moment, by IP version. `skipped`: why none could be tried;
    `refused`: why the agent would not make them."""

    between: Mapping[int, bool] = field(default_factory=dict)
    gateway: Mapping[int, bool] = field(default_factory=dict)
    skipped: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Rival:
    """Another host on a link that answers (ARP, neighbour discovery) for an address of this host."""

    address: str
    interface: str
    macs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeLook:
    """What was seen of the host. None: it could not be read, or does not apply."""

    forwarding: Mapping[int, bool | None] = field(default_factory=dict)  # by IP version
    strict_rp_filter: tuple[str, ...] = ()  # interfaces
    conntrack: tuple[int, int] | None = None  # entries, limit
    state_free: float | None = None  # share of the lease store's file system that is free
    plugin: bool | None = None
    network_configuration: str | None = None  # the file a runtime would take; "" if there is none
    ours_first: bool = True
    not_forwarding: tuple[str, ...] = ()  # interfaces with addresses that forward no IPv4
    dropping: tuple[str, ...] = ()  # chains of others that drop what is forwarded unless a rule takes it
    dead_links: Mapping[str, str] = field(
        default_factory=dict
    )  # peer's address: its link, which has no carrier
    unroutable: tuple[str, ...] = ()  # service addresses that a process of the host has no route to
    rivals: tuple[Rival, ...] = ()  # hosts on links that answer for an address of this one
    ports: tuple[PortUse, ...] = ()  # of source addresses, those that are nearly used up
    insert_failed: int = 0  # connections without a free tuple, since the host's start
    quarantine: tuple[str, int] | None = None  # the directory of deletions nobody can read, how many
