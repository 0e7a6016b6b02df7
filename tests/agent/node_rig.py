"""A node and a router on one link, each a host of its own: the real agent, ExaBGP and FRR."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from l3net.errors import NotRunningError
from l3net.lab.host import Host, find_hosts, kill_holders, start_holder, wait_ready
from l3net.shell.sockets.agentsocket import ask

NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node"},
    "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/120"]},
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "10.90.0.1"},
            {"type": "InternalIP", "address": "fd90::1"},
        ]
    },
}
CONFIGURATION = {
    "apiVersion": "l3net.io/v1alpha1",
    "kind": "BGPConfiguration",
    "metadata": {"name": "default"},
    # The routers of the tests announce whatever they like; what is refused all the same is refused by name.
    "spec": {"asNumber": 65001, "holdTime": 9, "import": {"cidrs": ["0.0.0.0/0", "::/0"]}},
}


def peer(name: str, address: str, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "BGPPeer",
        "metadata": {"name": name},
        "spec": {"address": address, "asNumber": 65002, **spec},
    }


TOR4 = peer("tor4", "10.90.0.2")
TOR6 = peer("tor6", "fd90::2")

FRR = """
hostname tor
router bgp 65002
 bgp router-id 10.90.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp graceful-restart
 neighbor 10.90.0.1 remote-as 65001
 neighbor 10.90.0.1 timers connect 1
 neighbor fd90::1 remote-as 65001
 neighbor fd90::1 timers connect 1
 address-family ipv4 unicast
  neighbor 10.90.0.1 activate
  network 192.168.7.0/24
 address-family ipv6 unicast
  neighbor fd90::1 activate
  network fd77::/64
"""


class Rig:
    """`node` runs speaker and agent on the manifests of `manifests`; `tor` runs FRR."""

    def __init__(self) -> None:
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.directory = Path("/run/l3net-lab") / self.name
        self.manifests = self.directory / "manifests"
        self.node: Host
        self.tor: Host

    def up(self) -> None:
        self.manifests.mkdir(parents=True)
        holders = {name: start_holder(self.name, name, self.directory) for name in ("node", "tor")}
        for name, holder in holders.items():
            wait_ready(name, holder)
        hosts = find_hosts(self.name, self.directory)
        self.node, self.tor = hosts["node"], hosts["tor"]
        self._net(self.node, f"link add up0 type veth peer name down0 netns {self.tor.pid}")
        for host, link, number in ((self.node, "up0", 1), (self.tor, "down0", 2)):
            self._net(host, f"link set {link} up")
            self._net(host, f"addr add 10.90.0.{number}/24 dev {link}")
            self._net(host, f"addr add fd90::{number}/64 dev {link} nodad")

    def down(self) -> None:
        kill_holders(self.name)
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def _net(host: Host, arguments: str) -> None:
        enter = ["nsenter", f"--net=/proc/{host.pid}/ns/net", "--", "ip"]
        subprocess.run([*enter, *arguments.split()], check=True)

    # --- the router --------------------------------------------------------------------------------------

    def start_tor(self, config: str = FRR) -> None:
        (self.tor.directory / "bgpd.conf").write_text(config)
        run = ["-d", "-A", "127.0.0.1"]
        self.tor.run(["zebra", *run])
        self.tor.run(["bgpd", *run, "-f", str(self.tor.directory / "bgpd.conf")])

    def vtysh(self, *commands: str) -> str:
        return self.tor.run(["vtysh", *(word for command in commands for word in ("-c", command))]).stdout

    def tor_routes(self) -> set[str]:
        """Prefixes the router has from the node, both families."""
        found: set[str] = set()
        for family in ("ipv4", "ipv6"):
            routes = json.loads(self.vtysh(f"show bgp {family} unicast json"))["routes"]
            found |= {
                prefix for prefix, paths in routes.items() if paths[0].get("path", "").startswith("65001")
            }
        return found

    def tor_sessions(self) -> dict[str, int]:
        """How often each session that is established has come up, as the router counts.

        Not when: it works that out anew from two clocks each time, and is off by a second now and then.
        """
        found = {}
        for family in ("ipv4", "ipv6"):
            answer = json.loads(self.vtysh(f"show bgp {family} unicast summary json"))
            found |= {
                address: row["connectionsEstablished"]
                for address, row in answer.get("peers", {}).items()
                if row["state"] == "Established"
            }
        return found

    # --- the node ----------------------------------------------------------------------------------------

    def declare(self, file: str, *documents: dict[str, Any]) -> None:
        """Write a manifest file whole."""
        target = self.manifests / file
        temporary = target.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump_all(documents))
        temporary.rename(target)

    def start_speaker(self) -> None:
        self.node.spawn("speaker", [sys.executable, "-m", "l3net.cli.main", "speaker"])

    def start_agent(self, *options: str) -> None:
        argv = ["agent", "--datastore", f"dir:{self.manifests}", "--node-name", "node", *options]
        self.node.spawn("agent", [sys.executable, "-m", "l3net.cli.main", *argv])

    def start(self) -> None:
        """Everything, with both sessions established."""
        self.start_tor()
        self.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
        self.start_speaker()
        self.start_agent()
        self.established("10.90.0.2", "fd90::2")

    def asked(self, question: str) -> dict[str, Any]:
        """The agent's answer, as the command gets it; empty while it does not answer. Asked in this process:
        conditions are polled, and a command is 0.2 s of a core each time."""
        try:
            return ask(self.inside_run("agent.sock"), question, patience=30)
        except NotRunningError:
            return {}

    def status(self) -> dict[str, Any]:
        return self.asked("status")

    def peers(self) -> dict[str, dict[str, Any]]:
        return {row["address"]: row for row in self.status().get("peers", ())}

    def established(self, *addresses: str) -> None:
        def up() -> bool:
            peers = self.peers()
            return all(peers.get(address, {}).get("state") == "established" for address in addresses)

        self.until(up, f"sessions with {addresses}")

    def kernel(self, arguments: str) -> str:
        return self.node.run(["ip", *arguments.split()]).stdout

    def inside_run(self, name: str) -> Path:
        """A file of the node's run directory, as this process sees it."""
        return Path(f"/proc/{self.node.pid}/root/run/l3net/{name}")

    def exabgp_pid(self) -> int:
        """In the node's own numbering; 0 while there is none."""
        speaker = self.node.daemon_pid("speaker")
        found = self.node.run(["pgrep", "-P", str(speaker)], check=False).stdout.split()
        return int(found[0]) if found else 0

    def until(self, condition: Callable[[], object], what: str, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{name}:\n{self.node.log_tail(name, 25)}" for name in ("agent", "speaker"))
                raise AssertionError(f"waited {seconds:g} s in vain for {what}\n{logs}")
            time.sleep(0.1)


AnyRig = TypeVar("AnyRig", bound=Rig)


@contextmanager
def brought_up(made: AnyRig) -> Iterator[AnyRig]:
    """A rig that is up, and gone afterwards whatever came; skips the test without root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        made.up()
        yield made
    finally:
        made.down()
