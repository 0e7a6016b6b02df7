"""Nodes (and routers of kind l3net) that run: the speaker and the agent, started as on a real machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import l3net
from l3net.errors import L3netError
from l3net.lab.errors import LabError
from l3net.lab.host import Host
from l3net.lab.wait import until
from l3net.naming import AGENT_SOCKET, CNI_SOCKET, RUN_DIR

#: The package may be run from a source tree that is not installed.
_ENVIRONMENT = {"PYTHONPATH": str(Path(l3net.__file__).parent.parent)}


#: Handed on from who brings the lab up: every node's agent serves metrics there, and logs so.
_HANDED_ON = ("L3NET_METRICS_ADDRESS", "L3NET_LOG_FORMAT")


def node_environment() -> dict[str, str]:
    """What l3net's processes see beside what every program of a host does."""
    return _ENVIRONMENT | {name: os.environ[name] for name in _HANDED_ON if name in os.environ}


def l3net_command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "l3net.cli.main", *argv]


def start_speaker(host: Host) -> None:
    host.spawn("speaker", l3net_command("speaker"), environment=node_environment())


def start_agent(host: Host, datastore: Path) -> None:
    argv = l3net_command("agent", "--datastore", f"dir:{datastore}", "--node-name", host.name)
    host.spawn("agent", argv, environment=node_environment())


def wait_agent(host: Host, seconds: float = 40) -> None:
    """Wait until the agent answers; a speaker or agent that ends is told with the end of its log."""
    sockets = [Path(f"/proc/{host.pid}/root{RUN_DIR}/{name}") for name in (AGENT_SOCKET, CNI_SOCKET)]

    def ready() -> bool:
        for daemon in ("speaker", "agent"):
            if host.daemon_pid(daemon) is not None and not host.alive(daemon):
                raise LabError(f"{host.name}: the {daemon} ended; its log says:\n{host.log_tail(daemon)}")
        return all(socket.exists() for socket in sockets)

    said = f"{host.name}: the agent does not answer; its log says:"
    until(ready, seconds, lambda: f"{said}\n{host.log_tail('agent')}")
    until(lambda: _is_ready(host), seconds, lambda: f"{said}\n{host.log_tail('agent')}")


def _is_ready(host: Host) -> bool:
    try:
        return bool(host.status().get("reconciled"))
    except L3netError:
        return False


def write_manifests(directory: Path, files: dict[str, str]) -> None:
    """Write manifests one by one, each appearing whole."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, text in files.items():
        temporary = directory / f".{name}.{os.getpid()}"
        temporary.write_text(text)
        temporary.rename(directory / name)
