"""What a lab looks like now: hosts, daemons, sessions, memory, pods. Plain values, for tables and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l3net.errors import L3netError
from l3net.lab.breaking import are_cut
from l3net.lab.host import Host
from l3net.lab.ribs import read_sessions
from l3net.lab.up import Lab


def look(lab: Lab) -> dict[str, Any]:
    """The status of every host and pod."""
    return {
        "name": lab.name,
        "directory": str(lab.directory),
        "hosts": [_host(lab, host) for host in lab.hosts.values()],
        "pods": [_pod(lab, name) for name in lab.topology.pods],
        "cut": [[end.host for end in link.ends] for link in are_cut(lab)],
    }


def _host(lab: Lab, host: Host) -> dict[str, Any]:
    daemons = sorted(path.stem for path in host.directory.glob("*.pid") if not path.stem.startswith("pod-"))
    return {
        "name": host.name,
        "role": _role(lab, host.name),
        "pid": host.pid,
        "daemons": {daemon: host.alive(daemon) for daemon in daemons},
        "sessions": _sessions(lab, host),
        "memoryMiB": memory(host),
    }


def _role(lab: Lab, name: str) -> str:
    router = lab.topology.router(name)
    if router is not None:
        return f"router ({router.kind.value}, AS {router.as_number})"
    return f"node (AS {lab.topology.as_number})" if lab.topology.node(name) else "client"


def _sessions(lab: Lab, host: Host) -> str:
    try:
        if lab.topology.router(host.name) is not None:
            states = [seen.established for seen in read_sessions(lab.topology, host).values()]
        elif lab.topology.node(host.name) is not None:
            states = [peer["state"] == "established" for peer in host.status()["peers"]]
        else:
            return ""
    except (L3netError, KeyError) as err:
        return f"unknown: {err}"
    return f"{sum(states)} of {len(states)} established"


def memory(host: Host) -> dict[str, float]:
    """Resident memory of what belongs to l3net on a host, in MiB."""
    names = {"agent": "l3net.cli.main agent", "speaker": "l3net.cli.main speaker", "exabgp": "exabgp"}
    found: dict[str, float] = {}
    namespace = Path(f"/proc/{host.pid}/ns/pid").readlink()
    for entry in (path for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            if (entry / "ns/pid").readlink() != namespace:
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            lines = (entry / "status").read_text().splitlines()
        except OSError:
            continue
        resident = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
        for name, sign in names.items():
            if sign in command and "nsenter" not in command:
                found[name] = round(max(found.get(name, 0.0), resident / 1024), 1)
                break
    return dict(sorted(found.items()))


def _pod(lab: Lab, name: str) -> dict[str, Any]:
    node = lab.topology.pods[name].name
    try:
        addresses = [str(address) for address in lab.pod(name).addresses]
    except L3netError as err:
        addresses = [str(err)]
    return {"name": name, "node": node, "addresses": addresses}
