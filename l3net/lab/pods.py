"""Pods: network namespaces on a node, wired by executing the CNI plugin as a runtime does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import uuid
from collections.abc import Mapping
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import l3net
from l3net.lab import pod_server
from l3net.lab.errors import LabError
from l3net.lab.host import Host, python
from l3net.lab.machine import LabPod, Output
from l3net.lab.manifests import POD_PORT
from l3net.naming import CNI_NETWORK, CNI_PLUGIN

_VERSION = "1.0.0"


def find_plugin() -> Path:
    """The CNI plugin: L3NET_CNI_PLUGIN, else the source tree's, else one on the path. Raises LabError."""
    given = os.environ.get("L3NET_CNI_PLUGIN")
    tree = Path(l3net.__file__).parent.parent / "build" / "cni" / CNI_PLUGIN
    path = os.pathsep.join([os.environ.get("PATH", ""), "/opt/cni/bin", "/usr/lib/cni"])
    for candidate in (given, str(tree), shutil.which(CNI_PLUGIN, path=path)):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise LabError(
        f"the CNI plugin {CNI_PLUGIN} is missing: `make plugin` builds it, L3NET_CNI_PLUGIN names another"
    )


def add_pod(host: Host, name: str, plugin: Path, arguments: Mapping[str, str] | None = None) -> LabPod:
    """Make a pod: its network namespace, the plugin's ADD, its server. `arguments` are more of CNI_ARGS."""
    container_id = uuid.uuid4().hex
    host.run(["ip", "netns", "add", name])
    # Recorded before ADD, so that whatever ADD leaves behind can be deleted.
    _record(host, name).write_text(json.dumps({"containerID": container_id}))
    answer = _execute(host, name, plugin, "ADD", container_id, told=arguments)
    try:
        result = json.loads(answer.stdout)
        addresses = tuple(ip_interface(entry["address"]).ip for entry in result["ips"])
    except (ValueError, KeyError, TypeError):
        raise LabError(f"pod {name}: the plugin's answer is not a result: {answer.stdout[:300]!r}") from None
    _record(host, name).write_text(json.dumps({"containerID": container_id, "result": result}))
    start_server(host, name, pod=name)
    return LabPod(name, host, addresses)


def start_server(host: Host, name: str, pod: str | None = None) -> None:
    """The server of a pod, or of a host that is asked by pods."""
    argv = [*python(), str(Path(pod_server.__file__)), host.name, name, str(POD_PORT)]
    host.spawn(f"pod-{name}", argv, pod=pod)


def delete_pod(host: Host, name: str, plugin: Path) -> None:
    """Take a pod away as a runtime does: processes, the plugin's DEL, the namespace. Repeating it is fine."""
    host.kill(f"pod-{name}", signal.SIGKILL)
    try:
        recorded = json.loads(_record(host, name).read_text())
    except (OSError, ValueError):
        return
    _execute(host, name, plugin, "DEL", recorded["containerID"], recorded.get("result"))
    host.run(["ip", "netns", "del", name], check=False)
    _record(host, name).unlink()


def check_pod(host: Host, name: str, plugin: Path) -> str | None:
    """What the plugin's CHECK complains about, None if nothing. Raises LabError if there is no such pod."""
    container_id, result = _recorded(host, name)
    try:
        _execute(host, name, plugin, "CHECK", container_id, result)
    except LabError as err:
        return str(err)
    return None


def read_pod(host: Host, name: str) -> LabPod:
    """A pod made earlier. Raises LabError."""
    _, result = _recorded(host, name)
    return LabPod(name, host, tuple(ip_interface(entry["address"]).ip for entry in result["ips"]))


def _recorded(host: Host, name: str) -> tuple[str, dict[str, Any]]:
    """The container ID of a pod made earlier, and what the plugin answered. Raises LabError."""
    try:
        recorded = json.loads(_record(host, name).read_text())
        return recorded["containerID"], recorded["result"]
    except (OSError, ValueError, KeyError):
        raise LabError(f"{host.name} has no pod {name}") from None


def _record(host: Host, name: str) -> Path:
    return host.directory / f"pod-{name}.json"


def _execute(
    host: Host,
    pod: str,
    plugin: Path,
    verb: str,
    container_id: str,
    previous: dict[str, Any] | None = None,
    told: Mapping[str, str] | None = None,
) -> Output:
    """Execute the plugin with the environment and configuration of CNI 1.0.0."""
    configuration: dict[str, Any] = {"cniVersion": _VERSION, "name": CNI_NETWORK, "type": CNI_PLUGIN}
    if previous is not None:
        configuration["prevResult"] = previous
    arguments = {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": "default",
        "K8S_POD_NAME": pod,
        "K8S_POD_UID": container_id,
        **(told or {}),
    }
    environment = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(plugin.parent),
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
    }
    text = json.dumps(configuration)
    done = host.run([str(plugin)], text=text, environment=environment, timeout=60, check=False)
    if done.code != 0:
        said = (done.stdout.strip() or done.stderr.strip())[:600]
        raise LabError(f"{host.name}: CNI {verb} of pod {pod} failed ({done.code}): {said}")
    return done
