"""Faults of routers: killed, stopped, restarted with grace, sessions reset, configured anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from l3net.lab.chaos.fault import Allowance, Cut, Fault, Ribs, Targets, Which
from l3net.lab.chaos.ground import END, GO, KILL, STOP, Ground
from l3net.lab.chaos.step import Step
from l3net.lab.errors import LabError
from l3net.lab.host import Host
from l3net.lab.ribs import read_sessions
from l3net.lab.routers import start_bgpd, start_router, start_zebra
from l3net.lab.topology import RouterKind, Topology
from l3net.lab.wait import until

_DAEMONS = {
    RouterKind.FRR: ("bgpd", "zebra"),
    RouterKind.BIRD: ("bird",),
    RouterKind.GOBGP: ("gobgpd", "rib-follower"),
    RouterKind.OPENBGPD: ("openbgpd", "rib-follower"),
    RouterKind.L3NET: ("agent", "speaker"),
}


def kind_of(ground: Ground, name: str) -> RouterKind:
    router = ground.topology.router(name)
    assert router is not None  # noqa: S101 - targets are routers
    return router.kind


def of_kinds(*kinds: RouterKind) -> Targets:
    def targets(topology: Topology) -> tuple[str, ...]:
        return tuple(router.name for router in topology.routers if router.kind in kinds)

    return targets


#: What a daemon that is killed leaves, and another must not be taken for.
_SOCKETS = ("/run/frr/zserv.api", "/run/frr/bgpd.vty", "/run/bird/bird.ctl")
#: Seconds that zebra keeps routes which it finds in the kernel.
_KEPT = 60
_OTHERS = of_kinds(RouterKind.FRR, RouterKind.BIRD, RouterKind.GOBGP, RouterKind.OPENBGPD)


def cut(_topology: Topology, target: str) -> tuple[Cut, ...]:
    return (Cut(target),)


def around(_topology: Topology, _target: str) -> tuple[Allowance, ...]:
    """Whatever crosses routers, while they find another way; and once more when the first is back."""
    return (Allowance(Which.CROSSING, begin=6, end=12),)


def _end(host: Host, kind: RouterKind, sign: int) -> None:
    for daemon in _DAEMONS[kind]:
        host.kill(daemon, sign)
    for daemon in _DAEMONS[kind]:
        until(lambda d=daemon: not host.alive(d), 15, f"{host.name}: {daemon} does not end")  # type: ignore[misc]
    if kind is RouterKind.OPENBGPD:  # its children end with it, a moment later
        host.run(["sleep", "0.5"])


def _start(ground: Ground, host: Host, kind: RouterKind, *recover: str) -> None:
    host.run(["rm", "-f", *_SOCKETS], check=False)
    # BIRD and FRR with the configuration they had, which knows of grace.
    if kind is RouterKind.FRR:
        start_zebra(host, host.directory / "frr.conf", *recover)
        start_bgpd(host, host.directory / "frr.conf")
        return
    if kind is not RouterKind.BIRD:
        start_router(ground.lab.topology, host)
        return
    host.spawn("bird", ["bird", "-f", *recover, "-c", str(host.directory / "bird.conf")])
    control = Path(f"/proc/{host.pid}/root/run/bird/bird.ctl")
    until(control.exists, 15, f"{host.name}: BIRD does not come up")


@contextmanager
def killed(ground: Ground, step: Step, *, sign: int) -> Iterator[None]:
    host, kind = ground.host(step.target), kind_of(ground, step.target)
    try:
        _end(host, kind, sign)
        yield
    finally:
        _start(ground, host, kind)


@contextmanager
def stopped(ground: Ground, step: Step) -> Iterator[None]:
    host, daemon = ground.host(step.target), _DAEMONS[kind_of(ground, step.target)][0]
    try:
        host.kill(daemon, STOP)
        yield
    finally:
        host.kill(daemon, GO)


@contextmanager
def reset(ground: Ground, step: Step, *, soft: bool) -> Iterator[None]:
    """Every session of a router closed by a NOTIFICATION, or asked to say all again."""
    host = ground.host(step.target)
    match kind_of(ground, step.target):
        case RouterKind.FRR:
            host.run(["vtysh", "-c", f"clear bgp *{' soft' if soft else ''}"])
        case RouterKind.BIRD:
            host.run(["birdc", "reload" if soft else "restart", "all"])
        case RouterKind.GOBGP:
            for peer in read_sessions(ground.topology, host):
                host.run(["gobgp", "neighbor", str(peer), "softreset" if soft else "reset"])
        case RouterKind.OPENBGPD:
            for peer in read_sessions(ground.topology, host):
                host.run(["bgpctl", "neighbor", str(peer), "refresh" if soft else "clear"])
        case RouterKind.L3NET:
            raise LabError("a router of kind l3net is no target")
    yield


@contextmanager
def graceful(ground: Ground, step: Step) -> Iterator[None]:
    """It has said that it forwards on, and begins anew with what the kernel has: BIRD by its own command, FRR
    killed, bgpd alone or (`choice`) zebra too."""
    host = ground.host(step.target)
    if kind_of(ground, step.target) is RouterKind.FRR:
        with _frr_killed(host, step, zebra=bool(step.choice % 2)):
            yield
        return
    try:
        host.run(["birdc", "graceful", "restart"])
        until(lambda: not host.alive("bird"), 10, f"{step.target}: BIRD does not end")
        yield
    finally:
        if not host.alive("bird"):
            _start(ground, host, RouterKind.BIRD, "-R")


def of_grace(topology: Topology, target: str) -> tuple[Allowance, ...]:
    """Nothing while the daemon is away: neighbours and the kernel forward on. Once it is back, FRR (8.4)
    deletes what it had kept as soon as one neighbour has said everything, and has it again from the others a
    second or three later; with BIRD (2.0) single probes were seen lost as it has its routes again."""
    router = topology.router(target)
    frr = router is not None and router.kind is RouterKind.FRR
    return (Allowance(Which.CROSSING, end=6, most=0 if frr else 1),)


@contextmanager
def _frr_killed(host: Host, step: Step, *, zebra: bool) -> Iterator[None]:
    """zebra keeps the routes of a bgpd that is gone; and those that it finds at its own start, by `-K`."""
    gone = ("bgpd", "zebra") if zebra else ("bgpd",)
    config = host.directory / "frr.conf"
    try:
        for daemon in gone:
            host.kill(daemon, KILL)
        until(lambda: not any(map(host.alive, gone)), 15, f"{step.target}: FRR does not end")
        yield
    finally:
        host.run(["rm", "-f", *(_SOCKETS if zebra else _SOCKETS[1:])], check=False)
        if zebra:
            start_zebra(host, config, "-K", str(_KEPT))
        start_bgpd(host, config)


#: BIRD's words for a prefix of its own that comes and goes; TEST-NET-2 (RFC 5737).
_STATIC = "\nprotocol static chaos { ipv4; route 198.51.100.0/24 blackhole; }\n"


@contextmanager
def reconfigured(ground: Ground, step: Step) -> Iterator[None]:
    """Something in the configuration changes that is nobody's business, and back."""
    host = ground.host(step.target)
    if kind_of(ground, step.target) is RouterKind.FRR:
        words = [f"router bgp {ground.topology.as_number_of(step.target)}", "address-family ipv4 unicast"]
        try:
            _vtysh(host, [*words, "network 198.51.100.0/24"])
            yield
        finally:
            _vtysh(host, [*words, "no network 198.51.100.0/24"])
        return
    config = host.directory / "bird.conf"
    before = config.read_text()
    try:
        config.write_text(before + _STATIC)
        host.run(["birdc", "configure"])
        yield
    finally:
        config.write_text(before)
        host.run(["birdc", "configure"])


def _vtysh(host: Host, lines: list[str]) -> None:
    host.run(["vtysh", "-c", "configure terminal", *(word for line in lines for word in ("-c", line))])


def frr_with_grace(text: str) -> str:
    """A frr.conf of the lab whose restarts may be graceful. Routes wait for all neighbours to have said
    everything, but not for long for one that is cut off."""
    words = ["", "preserve-fw-state", "select-defer-time 10"]
    lines = "".join(f" bgp graceful-restart {each}".rstrip() + "\n" for each in words)
    return text.replace(" no bgp ebgp-requires-policy\n", f" no bgp ebgp-requires-policy\n{lines}")


def bird_with_grace(text: str) -> str:
    """A bird.conf of the lab whose restarts may be graceful."""
    for version in (4, 6):
        kernel = f"protocol kernel kernel{version} {{\n"
        text = text.replace(kernel, f"{kernel}  persist;\n  graceful restart;\n")
    return text.replace("  direct;\n", "  direct;\n  graceful restart on;\n")


FAULTS = (
    Fault("router-killed", "routers", "SIGKILL of a router's daemons, which are started again later.",
          _OTHERS, partial(killed, sign=KILL), (1, 8), around, cut, Ribs.CUT, touches=True),
    Fault("router-restarted", "routers",
          "A router's daemons end by SIGTERM, without grace, and are started again.",
          _OTHERS, partial(killed, sign=END), (1, 8), around, cut, Ribs.CUT, touches=True),
    Fault("router-stopped", "routers", "SIGSTOP of a router's BGP daemon, for less than the hold time.",
          _OTHERS, stopped, (1, 4), ribs=Ribs.ANY),
    Fault("router-sessions-reset", "routers", "A router closes all its sessions by a NOTIFICATION.",
          _OTHERS, partial(reset, soft=False), (1, 2), around, cut, Ribs.ANY, touches=True),
    Fault("router-refreshes", "routers", "A router asks for everything again and says everything again.",
          _OTHERS, partial(reset, soft=True), (1, 2)),
    Fault("router-restarts-gracefully", "routers", "A router restarts and forwards on meanwhile (RFC 4724).",
          of_kinds(RouterKind.BIRD, RouterKind.FRR), graceful, (1, 5), of_grace, ribs=Ribs.ANY, touches=True),
    Fault("router-reconfigured", "routers",
          "A router's configuration changes while it runs: a prefix more, and back.",
          of_kinds(RouterKind.FRR, RouterKind.BIRD), reconfigured, (1, 4)),
)  # fmt: skip
