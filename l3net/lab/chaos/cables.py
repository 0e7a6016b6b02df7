"""Faults of links: down, silent, one way only, lossy, slow, out of order, as far as nftables and tbf can."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from l3net.lab.breaking import chosen_links
from l3net.lab.chaos.fault import Allowance, Cut, Fault, Ribs, Which, links, nodes
from l3net.lab.chaos.ground import Ground
from l3net.lab.chaos.step import Step
from l3net.lab.frr import HOLD_TIME
from l3net.lab.host import Host
from l3net.lab.topology import End, Link, Topology

_TABLE = "chaos-cable"


def cut(_topology: Topology, target: str) -> tuple[Cut, ...]:
    near, _, far = target.partition(",")
    return (Cut(near, far),)


def seen(_topology: Topology, _target: str) -> tuple[Allowance, ...]:
    """A link that goes down tells both ends; the others hear it from them."""
    return (Allowance(Which.CROSSING, begin=4, end=6),)


def unseen(_topology: Topology, _target: str) -> tuple[Allowance, ...]:
    """Nothing tells but the hold time."""
    return (Allowance(Which.CROSSING, begin=HOLD_TIME + 5, end=6),)


def bad(_topology: Topology, _target: str) -> tuple[Allowance, ...]:
    """Nobody promises anything over such a link, and sessions may go down by it."""
    return (Allowance(Which.CROSSING, whole=True, end=HOLD_TIME + 5),)


def chosen(ground: Ground, step: Step) -> list[Link]:
    """The links of a target: `a,b`, or all of a host."""
    near, comma, far = step.target.partition(",")
    topology = ground.lab.topology
    return list(chosen_links(topology, [(near, far)] if comma else [], [] if comma else [near]))


def one_end(ground: Ground, step: Step, link: Link) -> End:
    """Which end of a link it is done at."""
    return link.ends[step.choice % 2]


@contextmanager
def down(ground: Ground, step: Step) -> Iterator[None]:
    """One end is taken down; the other sees no carrier."""
    with ExitStack() as undo:
        for link in chosen(ground, step):
            end = one_end(ground, step, link)
            undo.callback(ground.lab.number, end.host)
            ground.host(end.host).run(["ip", "link", "set", "dev", end.interface, "down"])
        yield


def _chains(interfaces: list[str], ways: str, what: str) -> str:
    listed = ", ".join(f'"{name}"' for name in interfaces)
    text = f"table inet {_TABLE} {{\n"
    if "in" in ways:
        text += f"chain in {{ type filter hook prerouting priority -500; iifname {{ {listed} }} {what}; }}\n"
    if "out" in ways:
        text += f"chain out {{ type filter hook postrouting priority 500; oifname {{ {listed} }} {what}; }}\n"
    return text + "}\n"


@contextmanager
def filtered(ground: Ground, step: Step, *, ways: str, what: str) -> Iterator[None]:
    """nftables drops what passes, with the link up; `ways` of `in` and `out`, or `one` of them."""
    with ExitStack() as undo:
        ends: dict[str, list[str]] = {}
        for link in chosen(ground, step):
            end = one_end(ground, step, link)
            if "," not in step.target:  # of a node cut off, at the node's own ends
                end = link.end(step.target)
            ends.setdefault(end.host, []).append(end.interface)
        for name, interfaces in ends.items():
            host = ground.host(name)
            either = ("in", "out")[step.choice // 2 % 2] if ways == "one" else ways
            undo.callback(host.run, ["nft", "delete", "table", "inet", _TABLE], check=False)
            host.run(["nft", "-f", "-"], text=_chains(interfaces, either, what))
        yield


@contextmanager
def slow(ground: Ground, step: Step) -> Iterator[None]:
    """A token bucket at both ends: 2 Mbit/s, with up to 100 ms in its queue."""
    with ExitStack() as undo:
        for link in chosen(ground, step):
            for end in link.ends:
                host = ground.host(end.host)
                undo.callback(host.run, ["tc", "qdisc", "del", "dev", end.interface, "root"], check=False)
                host.run(["tc", "qdisc", "add", "dev", end.interface, "root",
                          "tbf", "rate", "2mbit", "burst", "8k", "latency", "100ms"])  # fmt: skip
        yield


@contextmanager
def reordered(ground: Ground, step: Step) -> Iterator[None]:
    """At the router's end every third packet that arrives takes a detour through a slow pair, with its
    MAC."""
    routers = {router.name for router in ground.topology.routers}
    with ExitStack() as undo:
        for link in chosen(ground, step):
            end = link.ends[0] if link.ends[0].host in routers else link.ends[1]
            _detour(ground.host(end.host), end.interface, undo)
        yield


def _detour(host: Host, interface: str, undo: ExitStack) -> None:
    mac = host.run(["cat", f"/sys/class/net/{interface}/address"]).stdout.strip()
    undo.callback(host.run, ["ip", "link", "del", "chaos-in"], check=False)
    host.run(["ip", "-batch", "-"], text=(
        f"link add chaos-in type veth peer name chaos-out address {mac}\n"
        "link set chaos-in up\nlink set chaos-out up\n"))  # fmt: skip
    host.run(["tc", "qdisc", "add", "dev", "chaos-in", "root",
              "tbf", "rate", "4mbit", "burst", "2k", "latency", "400ms"])  # fmt: skip
    undo.callback(time.sleep, 0.5)  # what is on the detour has arrived
    undo.callback(host.run, ["nft", "delete", "table", "netdev", _TABLE], check=False)
    words = "meta l4proto udp numgen inc mod 3 == 0 fwd to chaos-in;"
    host.run(["nft", "-f", "-"], text=(
        f"table netdev {_TABLE} {{ chain in {{\n"
        f"type filter hook ingress device {interface} priority 0; {words} }}; }}\n"
    ))  # fmt: skip


def off(_topology: Topology, target: str) -> tuple[Cut, ...]:
    return (Cut(target),)


_DROP = "drop"
_LOSSY = "numgen random mod 100 < 10 drop"

FAULTS = (
    Fault("link-down", "links", "One end of a link is taken down, and up again.",
          links, down, (2, 12), seen, cut, Ribs.CUT, touches=True),
    Fault("link-silent", "links", "A link stays up and carries nothing; the hold time tells.",
          links, partial(filtered, ways="in out", what=_DROP), (12, 20), unseen, cut, Ribs.CUT,
          touches=True, noticed=HOLD_TIME + 5),
    Fault("link-one-way", "links", "A link stays up and carries one direction only.",
          links, partial(filtered, ways="one", what=_DROP), (12, 20), unseen, cut, Ribs.CUT,
          touches=True, noticed=HOLD_TIME + 5),
    Fault("link-lossy", "links", "A tenth of the packets of a link are lost, both ways.",
          links, partial(filtered, ways="in out", what=_LOSSY), (3, 10), bad, ribs=Ribs.ANY, touches=True),
    Fault("link-slow", "links", "A link carries 2 Mbit/s, with up to 100 ms of queue.",
          links, slow, (3, 10), bad, ribs=Ribs.ANY, touches=True),
    Fault("link-reordered", "links", "UDP that comes to a router over a link arrives out of order.",
          links, reordered, (3, 8)),
    Fault("node-cut-off", "links", "Every link of a node goes down.",
          nodes, down, (3, 10), seen, off, Ribs.CUT, touches=True),
    Fault("node-silent", "links", "A node's links stay up and carry nothing.",
          nodes, partial(filtered, ways="in out", what=_DROP), (12, 18), unseen, off, Ribs.CUT,
          touches=True, noticed=HOLD_TIME + 5),
)  # fmt: skip
