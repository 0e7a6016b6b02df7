"""Routers that run: writing their configuration, starting their daemons, waiting for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from l3net.lab import rib_follower
from l3net.lab.bird import bird_config
from l3net.lab.errors import LabError
from l3net.lab.frr import frr_config
from l3net.lab.gobgp import gobgp_config
from l3net.lab.host import Host, python
from l3net.lab.openbgpd import openbgpd_config
from l3net.lab.topology import RouterKind, Topology
from l3net.lab.wait import until

_SEARCH = os.pathsep.join(["/usr/lib/frr", os.environ.get("PATH", ""), "/usr/sbin"])
_NEEDS = {
    RouterKind.FRR: (("zebra", "bgpd", "vtysh"), "frr"),
    RouterKind.BIRD: (("bird", "birdc"), "bird2"),
    RouterKind.GOBGP: (("gobgpd", "gobgp"), "gobgpd"),
    RouterKind.OPENBGPD: (("bgpctl",), "openbgpd"),
    RouterKind.L3NET: ((), ""),
}


def check_software(topology: Topology) -> None:
    """Raise LabError, naming what to install, when a router's software is missing."""
    for router in topology.routers:
        commands, package = _NEEDS[router.kind]
        missing = [command for command in commands if shutil.which(command, path=_SEARCH) is None]
        if missing:
            raise LabError(
                f"router {router.name} needs {', '.join(missing)}: `apt-get install {package}`, "
                "or choose another with --router-kind (l3net needs nothing more)"
            )


def start_router(topology: Topology, host: Host) -> None:
    """Start the daemons of a router of any kind but l3net."""
    router = topology.router(host.name)
    assert router is not None  # noqa: S101
    match router.kind:
        case RouterKind.FRR:
            config = _write(host.directory / "frr.conf", frr_config(topology, host.name))
            (host.directory / "vtysh.conf").write_text("service integrated-vtysh-config\n")
            start_zebra(host, config)
            start_bgpd(host, config)
        case RouterKind.BIRD:
            config = _write(host.directory / "bird.conf", bird_config(topology, host.name))
            host.spawn("bird", ["bird", "-f", "-c", str(config)])
            _wait_socket(host, "bird", "/run/bird/bird.ctl")
        case RouterKind.GOBGP:
            config = _write(host.directory / "gobgpd.toml", gobgp_config(topology, host.name))
            host.spawn("gobgpd", ["gobgpd", "-f", str(config), "--api-hosts", "127.0.0.1:50051"])
            prefixes = tuple(map(str, topology.link_subnets(host.name)))
            host.spawn("rib-follower", [*python(), str(Path(rib_follower.__file__)), "gobgp", *prefixes])
        case RouterKind.OPENBGPD:
            config = _write(host.directory / "bgpd.conf", openbgpd_config(topology, host.name))
            config.chmod(0o600)
            host.spawn("openbgpd", [openbgpd_program(), "-d", "-f", str(config)])
            _wait_socket(host, "openbgpd", "/run/openbgpd/bgpd.sock.0")
            host.spawn("rib-follower", [*python(), str(Path(rib_follower.__file__)), "openbgpd"])
        case RouterKind.L3NET:
            raise LabError(f"{host.name}: a router of kind l3net is started as a node is")


def start_zebra(host: Host, config: Path, *recover: str) -> None:
    """FRR's zebra, whose socket bgpd must find. `recover`: more options, such as `-K 60`."""
    words = ["-f", str(config), "-A", "127.0.0.1", "-P", "0", "--log", "stdout", *recover]
    host.spawn("zebra", ["zebra", *words])
    _wait_socket(host, "zebra", "/run/frr/zserv.api")


def start_bgpd(host: Host, config: Path) -> None:
    """FRR's bgpd."""
    host.spawn("bgpd", ["bgpd", "-f", str(config), "-P", "0", "--log", "stdout"])
    _wait_socket(host, "bgpd", "/run/frr/bgpd.vty")


def openbgpd_program() -> str:
    """OpenBGPD's bgpd: FRR has a program of this name too, so that it is the one beside bgpctl."""
    found = shutil.which("bgpctl", path=_SEARCH)
    return str(Path(found or "/usr/sbin/bgpctl").with_name("bgpd"))


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o644)
    return path


def _wait_socket(host: Host, daemon: str, path: str) -> None:
    socket = Path(f"/proc/{host.pid}/root{path}")

    def ready() -> bool:
        if socket.exists():
            return True
        if host.daemon_pid(daemon) is not None and not host.alive(daemon):
            raise LabError(f"{host.name}: {daemon} ended; its log says:\n{host.log_tail(daemon)}")
        return False

    until(
        ready, 15, lambda: f"{host.name}: {daemon} does not come up; its log says:\n{host.log_tail(daemon)}"
    )
