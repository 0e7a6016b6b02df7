"""Faults by others on the same host: firewalls, network configuration, VIPs, and what deletes things of
ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from l3net.lab.chaos.cables import cut, unseen
from l3net.lab.chaos.fault import Allowance, Allows, Fault, Ribs, Which, nodes
from l3net.lab.chaos.ground import Ground
from l3net.lab.chaos.step import Step
from l3net.lab.frr import HOLD_TIME
from l3net.lab.topology import Topology
from l3net.naming import BRIDGE, NFT_TABLE, RTPROT_L3NET, VETH_PREFIX

#: Seconds in which what somebody deletes is back. 1 s is promised of a node that is not busy otherwise; here
#: some other node or router is in trouble as well, and all of them share few processors.
HEAL = 4.0
#: Likewise of the nftables table with the slots of consistent balancing: of that nft takes a second or two,
#: and what came to be meanwhile is ended once it is there.
TABLE = 8.0

_IPTABLES = """
table ip filter { chain INPUT { type filter hook input priority 0; policy accept; counter; };
  chain FORWARD { type filter hook forward priority 0; policy accept; ip saddr 192.0.2.0/24 accept; }; }
table ip nat { chain POSTROUTING { type nat hook postrouting priority 100;
    ip saddr 192.0.2.0/24 counter masquerade; }; }
table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy accept; counter; }; }
"""
_FIREWALLD = """
table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept;
    ct state established,related accept; ip saddr 192.0.2.0/24 drop; };
  chain nat_POSTROUTING { type nat hook postrouting priority 110; policy accept; }; }
"""


def healing(*whiches: Which, seconds: float = HEAL) -> Allows:
    """What may be lost, or pass, until it is back."""

    def allows(_topology: Topology, target: str) -> tuple[Allowance, ...]:
        return tuple(Allowance(which, target, begin=seconds) for which in whiches)

    return allows


def deleted(*commands: Sequence[str]) -> Callable[[Ground, Step], AbstractContextManager[None]]:
    """Commands that take something of ours away; putting it back is l3net's."""

    @contextmanager
    def act(ground: Ground, step: Step) -> Iterator[None]:
        for command in commands:
            ground.host(step.target).run(command, check=False)
        yield

    return act


@contextmanager
def tables(ground: Ground, step: Step) -> Iterator[None]:
    """Tables as iptables-nft makes them, and rules that come and go in them."""
    host = ground.host(step.target)
    with ExitStack() as undo:
        for family, table in (("ip", "filter"), ("ip", "nat"), ("ip6", "filter")):
            undo.callback(host.run, ["nft", "delete", "table", family, table], check=False)
        host.run(["nft", "-f", "-"], text=_IPTABLES)
        for number in range(10):
            host.run(
                ["nft", "add", "rule", "ip", "filter", "INPUT", "ip", "saddr", f"192.0.2.{number}", "drop"]
            )
        yield


@contextmanager
def flushed(ground: Ground, step: Step) -> Iterator[None]:
    """`flush ruleset` and tables of its own, as a firewall's reload does."""
    host = ground.host(step.target)
    try:
        host.run(["nft", "-f", "-"], text=f"flush ruleset\n{_FIREWALLD}")
        yield
    finally:
        host.run(["nft", "delete", "table", "inet", "firewalld"], check=False)


@contextmanager
def address_lost(ground: Ground, step: Step) -> Iterator[None]:
    """The addresses of a node's first link go, and come back."""
    link = ground.lab.topology.links_of(step.target)[0]
    end = link.end(step.target)
    try:
        for address in end.addresses:
            ground.host(step.target).run(["ip", "address", "del", str(address), "dev", end.interface])
        yield
    finally:
        ground.lab.number(step.target)


def first_link(topology: Topology, target: str) -> str:
    return f"{target},{topology.links_of(target)[0].far_end(target).host}"


@contextmanager
def touched(ground: Ground, step: Step) -> Iterator[None]:
    """As NetworkManager does: addresses set again, another one, another default route, a rule; all of it
    back."""
    host, topology = ground.host(step.target), ground.lab.topology
    link = topology.links_of(step.target)[0]
    interface, gateways = link.end(step.target).interface, link.far_end(step.target).addresses
    with ExitStack() as undo:
        for address in link.end(step.target).addresses:
            host.run(["ip", "address", "replace", str(address), "dev", interface, "preferred_lft", "forever"])
        for gateway in gateways:
            family = f"-{gateway.version}"
            other = "192.0.2.7/24" if gateway.version == 4 else "2001:db8:7::7/64"
            _with(undo, host.run, ["ip", "address"], [other, "dev", interface])
            way = ["default", "via", str(gateway.ip), "dev", interface, "proto", "dhcp", "metric", "20100"]
            _with(undo, host.run, ["ip", family, "route"], way)
            _with(undo, host.run, ["ip", family, "rule"], ["pref", "31000", "table", "main"])
        yield


def _with(undo: ExitStack, run: Callable[..., object], command: list[str], what: list[str]) -> None:
    undo.callback(run, [*command, "del", *what], check=False)
    run([*command, "add", *what], check=False)


@contextmanager
def vip(ground: Ground, step: Step) -> Iterator[None]:
    """An address as keepalived moves it: on one node's uplink, then on the next one's."""
    names = nodes(ground.topology)
    other = names[(names.index(step.target) + 1) % len(names)]
    with ExitStack() as undo:
        for name in (step.target, other):
            end = ground.lab.topology.links_of(name)[0].end(name)
            run, shown = ground.host(name).run, {4: "198.18.0.10/32", 6: "2001:db8:18::10/128"}
            for address in (shown[version] for version in ground.topology.versions):
                undo.callback(run, ["ip", "address", "del", address, "dev", end.interface], check=False)
                run(["ip", "address", "add", address, "dev", end.interface])
            if name == step.target:
                time.sleep(0.3)
                undo.close()
        yield


@contextmanager
def bridges(ground: Ground, step: Step) -> Iterator[None]:
    """Bridges and pairs of another network that come and go, as Docker's do."""
    host = ground.host(step.target)
    with ExitStack() as undo:
        undo.callback(host.run, ["ip", "link", "del", "docker0"], check=False)
        host.run(
            ["ip", "-batch", "-"],
            text=(
                "link add docker0 type bridge\naddress add 172.31.255.1/24 dev docker0\nlink set docker0 up\n"
            ),
        )
        for number in range(8):
            host.run(["ip", "-batch", "-"], text=(
                f"link add d{number} type veth peer name e{number}\nlink set d{number} master docker0 up\n"
                f"link del d{number}\n"))  # fmt: skip
        yield


@contextmanager
def pod_link_down(ground: Ground, step: Step) -> Iterator[None]:
    """The host's end of a pod's pair is taken down."""
    host = ground.host(step.target)
    shown = host.run(["ip", "-o", "link", "show", "master", BRIDGE]).stdout.splitlines()
    ports = [line.split(":")[1].strip().partition("@")[0] for line in shown]
    ports = sorted(port for port in ports if port.startswith(VETH_PREFIX))
    if ports:
        host.run(["ip", "link", "set", "dev", ports[step.choice % len(ports)], "down"])
    yield


def _sysctls(*pairs: str) -> list[str]:
    return ["sysctl", "-q", "-e", "-w", *pairs]


_OWN = str(RTPROT_L3NET)
_FOREIGN = (1, 3)
#: Of the guard, too: a set that is made with its rules is empty to them for a moment.
_NODE = healing(Which.NODE)

FAULTS = (
    Fault("foreign-tables", "foreign",
          "Tables of iptables-nft beside ours, and rules that come and go in them.",
          nodes, tables, _FOREIGN),
    Fault("foreign-bridges", "foreign",
          "Bridges and pairs of another network come and go.", nodes, bridges, _FOREIGN),
    Fault("foreign-changes", "foreign",
          "As NetworkManager: addresses set again, one more, another default route.",
          nodes, touched, _FOREIGN),
    Fault("vip-moved", "foreign", "As keepalived: an address moves from one node's uplink to another's.",
          nodes, vip, _FOREIGN),
    Fault("address-lost", "foreign", "The addresses of a node's first uplink go, and come back.",
          nodes, address_lost, (11, 15), lambda t, n: unseen(t, first_link(t, n)),
          lambda t, n: cut(t, first_link(t, n)), Ribs.CUT, touches=True, noticed=HOLD_TIME + 5),
    Fault("ruleset-flushed", "deleted", "As firewalld: the whole ruleset is flushed, ours too.",
          nodes, flushed, _FOREIGN, healing(Which.NODE, Which.FORBIDDEN, seconds=TABLE)),
    Fault("table-deleted", "deleted", "Our nftables table is deleted.",
          nodes, deleted(["nft", "delete", "table", "inet", NFT_TABLE]), _FOREIGN,
          healing(Which.SERVICES, Which.FORBIDDEN, seconds=TABLE)),
    Fault("guard-deleted", "deleted", "The table that guards pods' ports is deleted.",
          nodes, deleted(["nft", "delete", "table", "bridge", NFT_TABLE]),
          _FOREIGN, _NODE),
    Fault("routes-flushed", "deleted", "All routes of ours are deleted.",
          nodes, deleted(*(["ip", f, "route", "flush", "proto", _OWN] for f in ("-4", "-6"))),
          _FOREIGN, _NODE),
    Fault("gateway-deleted", "deleted", "The addresses of the pods' bridge are deleted.",
          nodes, deleted(["ip", "address", "flush", "dev", BRIDGE, "scope", "global"]), _FOREIGN, _NODE),
    Fault("bridge-down", "deleted", "The pods' bridge is taken down.",
          nodes, deleted(["ip", "link", "set", "dev", BRIDGE, "down"]), _FOREIGN, _NODE),
    Fault("bridge-deleted", "deleted", "The pods' bridge is deleted.",
          nodes, deleted(["ip", "link", "del", BRIDGE]), _FOREIGN, _NODE),
    Fault("pod-link-down", "deleted", "The host's end of a pod's pair is taken down.",
          nodes, pod_link_down, _FOREIGN, _NODE),
    Fault("neighbours-flushed", "deleted", "The neighbour entries of the pods are deleted.",
          nodes, deleted(*(["ip", f, "neigh", "flush", "dev", BRIDGE, "nud", "all"] for f in ("-4", "-6"))),
          _FOREIGN),
    Fault("sysctls-reset", "deleted", "Forwarding is turned off, as a sysctl file that is loaded again does.",
          nodes, deleted(_sysctls("net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")),
          _FOREIGN, _NODE),
)  # fmt: skip
