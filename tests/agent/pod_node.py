"""A host with one uplink and its agent on a directory of manifests, and pods by the real plugin; no peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from l3net.errors import NotRunningError
from l3net.shell.sockets.agentsocket import ask

PLUGIN_SOURCE = Path(__file__).parents[2] / "plugin"
CONF = {"cniVersion": "1.0.0", "name": "l3net", "type": "l3net-cni"}


def built(directory: Path) -> Path:
    """The plugin, built anew."""
    sh("sh", str(PLUGIN_SOURCE / "build.sh"), str(directory))
    return directory / "l3net-cni"


def sh(*argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


class Node:
    """The host; `declare` what there is, `start` the agent, `add` pods."""

    def __init__(self, base: Path, plugin: Path, undo: ExitStack) -> None:
        self.name, self.base, self.plugin, self.undo = f"l3p{uuid.uuid4().hex[:8]}", base, plugin, undo
        (base / "manifests").mkdir()
        sh("ip", "netns", "add", self.name)
        undo.callback(sh, "ip", "netns", "del", self.name, check=False)
        for words in (
            "link set lo up",
            "link add up0 mtu 1280 type veth peer name far0 mtu 1280",
            "link set far0 up",
            "link set up0 up",
            "addr add 10.90.0.1/24 dev up0",
            "addr add fd90::1/64 dev up0 nodad",
        ):
            sh("ip", "-n", self.name, *words.split())
        sh("ip", "-n", self.name, "link", "set", "far0", "netns", self.netns("far"))
        self.process: subprocess.Popen[bytes] | None = None

    def netns(self, name: str) -> str:
        sh("ip", "netns", "add", f"{self.name}{name}")
        self.undo.callback(sh, "ip", "netns", "del", f"{self.name}{name}", check=False)
        return f"{self.name}{name}"

    def declare(
        self, *pod_cidrs: str, other: tuple[str, ...] = (), more: Iterable[dict[str, Any]] = ()
    ) -> None:
        documents = [node("n", "10.90.0.1", pod_cidrs), *more]
        documents += [node("other", "10.90.0.9", other)] if other else []
        temporary = self.base / "manifests" / "all.tmp"
        temporary.write_text(yaml.safe_dump_all(documents))
        temporary.rename(self.base / "manifests" / "all.yaml")

    def start(self, *options: str, kubeconfig: Path | None = None) -> None:
        """On the directory, or on an API server."""
        where = ["--datastore", f"dir:{self.base / 'manifests'}"]
        if kubeconfig is not None:
            where = ["--kubeconfig", str(kubeconfig)]
        argv = ["ip", "netns", "exec", self.name, sys.executable, "-m", "l3net.cli.main", "agent"]
        argv += [*where, "--node-name", "n", *options]
        argv += ["--run-dir", str(self.base / "run"), "--state-dir", str(self.base / "state")]
        with (self.base / "log").open("ab") as log:
            self.process = process = subprocess.Popen(argv, stderr=log)
        self.undo.callback(process.wait)
        self.undo.callback(process.kill)
        self.until(lambda: self.status().get("ready"), "the agent")

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def l3net(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = ["ip", "netns", "exec", self.name, sys.executable, "-m", "l3net.cli.main", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def status(self) -> dict[str, Any]:
        """Empty while no agent answers. Asked here: it is polled, and a command is 0.2 s of a core."""
        try:
            return ask(self.base / "run" / "agent.sock", "status", patience=30)
        except NotRunningError:
            return {}

    def ip(self, *arguments: str, netns: str = "") -> Any:
        return json.loads(sh("ip", "-j", "-n", netns or self.name, *arguments) or "[]")

    def cni(
        self, command: str, container: str, netns: str = "", args: str = "", **conf: Any
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.plugin.parent),
            "L3NET_CNI_SOCKET": str(self.base / "run" / "cni.sock"),
            "L3NET_CNI_SPOOL": str(self.base / "state" / "spool"),
        }
        if args:
            environment["CNI_ARGS"] = args
        if netns:
            environment["CNI_NETNS"] = f"/run/netns/{netns}"
        return subprocess.run(
            ["ip", "netns", "exec", self.name, str(self.plugin)],
            input=json.dumps(CONF | conf),
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )

    def add(self, container: str, args: str = "") -> tuple[str, dict[str, Any]]:
        """A pod: its namespace and the result of ADD."""
        netns = self.netns(container)
        done = self.cni("ADD", container, netns, args)
        assert done.returncode == 0, done.stdout
        result: dict[str, Any] = json.loads(done.stdout)
        return netns, result

    def until(self, condition: Callable[[], object], what: str, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}\n{(self.base / 'log').read_text()[-4000:]}")
            time.sleep(0.05)

    def gateways(self) -> set[str]:
        shown = self.ip("addr", "show", "dev", "l3net0")
        return {
            f"{each['local']}/{each['prefixlen']}"
            for each in shown[0]["addr_info"]
            if each["scope"] == "global"
        }


def node(name: str, address: str, pod_cidrs: tuple[str, ...]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDRs": list(pod_cidrs)},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }
