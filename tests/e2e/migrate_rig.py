"""Nodes of a lab put back to another network, with pods, traffic all the while, and the move to l3net."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from l3net.addresses import parse_prefix
from l3net.fib.desired import gateway
from l3net.lab.host import Host
from l3net.lab.machine import Output
from l3net.lab.nodes import l3net_command, node_environment
from l3net.lab.pods import start_server
from l3net.lab.up import Lab
from l3net.lab.wait import until

REFERENCE = Path("/usr/lib/cni")
NODES = ("n1", "n2", "n3")
#: One router, a client and three nodes without pods of l3net's.
RACK: dict[str, Any] = {
    "routers": [{"name": "tor", "asNumber": 65001}],
    "clients": [{"name": "client"}],
    "nodes": [{"name": name} for name in NODES],
    "links": [{"between": ["tor", each]} for each in ("client", *NODES)],
}


@dataclass
class OldPod:
    """A pod as the old network made it."""

    name: str
    node: Host
    container_id: str
    addresses: list[str]


@dataclass
class OldNode:
    """A node that is not l3net's (any more, and not again yet). `kind` is the old network's."""

    host: Host
    kind: str
    tor: Host
    blocks: list[str]
    pods: list[OldPod] = field(default_factory=list)

    def path(self, name: str) -> Path:
        return self.host.directory / name

    # --- the old network -----------------------------------------------------------------------------------

    def leave_l3net(self) -> None:
        for each in ("agent", "speaker", "bfd"):
            self.host.kill(each)
        until(lambda: not any(self.host.alive(each) for each in ("agent", "speaker", "bfd")), 20, "they end")
        for name in ("net.d", "bin", "cache"):
            self.path(name).mkdir()
        self.l3net("uninstall", "--bin-dir", str(self.path("bin")), "--conf-dir", str(self.path("net.d")))
        assert "l3net" not in self.host.run(["nft", "list", "ruleset"]).stdout

    @property
    def bridge(self) -> str:
        return "cbr0" if self.kind == "kubenet" else "cni0"

    def conflist(self) -> dict[str, Any]:
        ranges = [[{"subnet": each}] for each in self.blocks]
        plugin = {
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": True,
            "isDefaultGateway": True,
            "hairpinMode": self.kind == "kubenet",
            "ipMasq": self.kind == "kubenet",
            "ipam": {"type": "host-local", "ranges": ranges, "dataDir": str(self.path("networks"))},
        }
        if self.kind == "flannel":
            plugin["mtu"] = 1450
        return {"cniVersion": "1.0.0", "name": "old", "plugins": [plugin]}

    def begin(self) -> None:
        """The old network's configuration, and what makes its routes."""
        for setting in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            self.host.run(["sysctl", "-q", "-w", f"{setting}=1"])
        self.path("net.d/10-old.conflist").write_text(json.dumps(self.conflist()))
        if self.kind in ("calico", "cilium"):
            self._bird()

    def _bird(self) -> None:
        """As Calico's BIRD: the node's blocks to the router, gracefully over restarts."""
        four, six = self.uplink(4), self.uplink(6)
        parts = [f"router id {four[0]};", "protocol device {}", "log stderr all;"]
        for version, (own, peer), block in ((4, four, self.blocks[0]), (6, six, self.blocks[1])):
            parts.append(f"protocol static s{version} {{ ipv{version}; route {block} blackhole; }}")
            parts.append(
                f"protocol bgp b{version} {{ local {own} as 64512; neighbor {peer} as 65001; "
                f"graceful restart on; ipv{version} {{ import none; export where source = RTS_STATIC; }}; }}"
            )
        self.path("bird.conf").write_text("\n".join(parts) + "\n")
        self.start_bird()

    def bird_command(self) -> list[str]:
        return ["bird", "-f", "-c", str(self.path("bird.conf")), "-s", str(self.path("bird.ctl"))]

    def start_bird(self) -> None:
        self.host.spawn("oldbird", self.bird_command())

    def uplink(self, version: int) -> tuple[str, str]:
        """The node's own address on its link to the router, and the router's."""
        for row in json.loads(self.host.run(["ip", "-j", "addr"]).stdout):
            for each in row["addr_info"]:
                found = ip_interface(f"{each['local']}/{each['prefixlen']}")
                if found.version != version or found.network.prefixlen not in (31, 127):
                    continue
                peer = next(str(other) for other in found.network if other != found.ip)
                return str(found.ip), peer
        raise AssertionError(f"{self.host.name} has no uplink of IPv{version}")

    def add_pod(self, name: str) -> OldPod:
        container_id = uuid.uuid4().hex
        self.host.run(["ip", "netns", "add", name])
        if self.kind == "calico":
            addresses = self._routed_pod(name, len(self.pods))
        else:
            addresses = self._bridged_pod(name, container_id)
        pod = OldPod(name, self.host, container_id, addresses)
        self.pods.append(pod)
        start_server(self.host, name, pod=name)
        return pod

    def _bridged_pod(self, name: str, container_id: str) -> list[str]:
        configuration = {**self.conflist()["plugins"][0], "cniVersion": "1.0.0", "name": "old"}
        arguments = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": "default",
            "K8S_POD_NAME": name,
            "K8S_POD_UID": container_id,
        }
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": f"/run/netns/{name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(REFERENCE),
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
        }
        told = self.host.run(
            [str(REFERENCE / "bridge")], text=json.dumps(configuration), environment=environment
        ).stdout
        result = json.loads(told)
        if self.kind != "bridge":  # there host-local's files are the only ledger
            cached = {
                "kind": "cniCacheV1",
                "containerId": container_id,
                "config": "e30=",
                "ifName": "eth0",
                "networkName": "old",
                "cniArgs": [list(each) for each in arguments.items()],
                "capabilityArgs": {},
                "result": result,
            }
            self.path(f"cache/old-{container_id}-eth0").write_text(json.dumps(cached))
        return [str(ip_interface(each["address"]).ip) for each in result["ips"]]

    def _routed_pod(self, name: str, ordinal: int) -> list[str]:
        """As Calico wires one: no bridge, a route to each address, and 169.254.1.1 by proxy ARP."""
        outer = f"cali{name}"
        addresses = [str(ip_network(each)[5 + ordinal]) for each in self.blocks]
        run, inside = self.host.run, ["ip", "-n", name]
        run(["ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name])
        run(["ip", "link", "set", outer, "address", "ee:ee:ee:ee:ee:ee", "up"])
        run(
            ["sysctl", "-q", "-w", f"net.ipv4.conf.{outer}.proxy_arp=1", f"net.ipv6.conf.{outer}.proxy_ndp=1"]
        )
        run(["ip", "-6", "neigh", "add", "proxy", "fe80::1:1", "dev", outer])
        run([*inside, "link", "set", "eth0", "up"])
        run([*inside, "addr", "add", f"{addresses[0]}/32", "dev", "eth0"])
        run([*inside, "addr", "add", f"{addresses[1]}/128", "dev", "eth0", "nodad"])
        run([*inside, "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link"])
        run([*inside, "route", "add", "default", "via", "169.254.1.1", "dev", "eth0"])
        mac = json.loads(run(["ip", "-j", "link", "show", outer]).stdout)[0]["address"]
        run([*inside, "neigh", "add", "fe80::1:1", "lladdr", mac, "dev", "eth0"])
        run([*inside, "route", "add", "default", "via", "fe80::1:1", "dev", "eth0"])
        for each in addresses:
            run(["ip", "route", "add", each, "dev", outer])
        return addresses

    def ipam_blocks(self) -> Path:
        """The ledger of Calico for this node."""
        found = []
        for place, block in enumerate(self.blocks):
            network = ip_network(block)
            size = min(network.num_addresses, 64)
            ordinals = {int(ip_network(pod.addresses[place])[0]) - int(network[0]): pod for pod in self.pods}
            attributes = [
                {
                    "handle_id": f"k8s-pod-network.{pod.container_id}",
                    "secondary": {"namespace": "default", "pod": pod.name, "node": self.host.name},
                }
                for pod in self.pods
            ]
            allocations = [
                self.pods.index(ordinals[each]) if each in ordinals else None for each in range(size)
            ]
            spec = {"cidr": block, "allocations": allocations, "attributes": attributes}
            found.append({"kind": "IPAMBlock", "metadata": {"name": f"b{place}"}, "spec": spec})
        path = self.path("ipamblocks.json")
        path.write_text(json.dumps({"kind": "List", "items": found}))
        return path

    # --- the move ------------------------------------------------------------------------------------------

    def l3net(self, *argv: str, check: bool = True, timeout: float = 120) -> Output:
        return self.host.run(
            l3net_command(*argv), environment=node_environment(), check=check, timeout=timeout
        )

    def commands(self, datastore: Path) -> list[str]:
        """What starts and stops the networks, as options of `l3net migrate node`."""
        host = self.host
        environment = {**host.environment(node_environment())}
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in environment.items())
        daemons = {
            "speaker": l3net_command("speaker"),
            "agent": l3net_command(
                *("agent", "--datastore", f"dir:{datastore}", "--node-name", host.name),
                *("--cni-conf-dir", str(self.path("net.d"))),
            ),
        }
        lines = [
            f"setsid sh -c 'echo $$ >{host.pid_file(name)}; exec {shlex.join(argv)}' </dev/null "
            f">>{host.log(name)} 2>&1 &"
            for name, argv in daemons.items()
        ]
        self.path("start.sh").write_text(exports + "\n".join(lines) + "\n")
        kill = "; ".join(f"kill $(cat {host.pid_file(name)}) 2>/dev/null" for name in ("agent", "speaker"))
        self.path("stop.sh").write_text(f"{kill}\nsleep 1\n")
        found = ["--start", f"sh {self.path('start.sh')}", "--stop", f"sh {self.path('stop.sh')}"]
        if self.kind in ("calico", "cilium"):
            bird = f"setsid {shlex.join(self.bird_command())} </dev/null >>{self.path('bird.log')} 2>&1 &"
            self.path("bird.sh").write_text(f"{bird}\necho $! >{host.pid_file('oldbird')}\n")
            # As the kernel kills it: BIRD that is asked to end tells the router that it does.
            stop = f"kill -KILL $(cat {host.pid_file('oldbird')})"
            found += ["--stop-old", stop, "--start-old", f"sh {self.path('bird.sh')}"]
        return found

    def places(self) -> list[str]:
        return ["--conf-dir", str(self.path("net.d")), "--bin-dir", str(self.path("bin"))]

    def sources(self) -> list[str]:
        found = ["--cni-cache", str(self.path("cache")), "--node-name", self.host.name]
        if self.path("networks/old").is_dir():
            found += ["--host-local", str(self.path("networks/old"))]
        else:
            found += ["--host-local", str(self.path("cache"))]
        if self.kind == "calico":
            found += ["--calico", str(self.ipam_blocks())]
        return found

    def move(self, datastore: Path, *more: str, check: bool = True, failing: tuple[str, ...] = ()) -> Output:
        """`failing`: step, count and way of failing_move.py."""
        words = [
            "migrate",
            "node",
            "--yes",
            "--datastore",
            f"dir:{datastore}",
            *self.places(),
            *self.sources(),
        ]
        words += ["--timeout", "60", *self.commands(datastore), *more]
        if failing:
            argv = [sys.executable, str(Path(__file__).with_name("failing_move.py")), *failing, *words]
            return self.host.run(argv, environment=node_environment(), check=False, timeout=120)
        return self.l3net(*words, check=check)

    def plan(self, datastore: Path, *, below: Path | None = None) -> dict[str, Any]:
        """`below`: as a container sees it that has the host's file system there."""
        words = ["migrate", "plan", "-o", "json", "--datastore", f"dir:{datastore}"]
        words += [*self.places(), *self.sources()]
        argv = l3net_command(*words)
        if below is not None:
            below.mkdir()
            script = f"mount --rbind / {below} && exec {shlex.join(argv)} --root {below}"
            argv = ["unshare", "--mount", "sh", "-c", script]
        told: dict[str, Any] = json.loads(self.host.run(argv, environment=node_environment()).stdout)
        return told

    def undo(self, datastore: Path, *, check: bool = True) -> Output:
        words = ["migrate", "node", "--undo", "--yes", *self.places(), "--timeout", "30"]
        return self.l3net(*words, *self.commands(datastore), check=check)

    def status(self) -> dict[str, Any]:
        told = self.l3net("migrate", "status", *self.places(), "-o", "json", check=False).stdout
        found: dict[str, Any] = json.loads(told)
        return found

    def picture(self) -> dict[str, Any]:
        """What the kernel has here and in the pods, without what changes by itself."""
        found: dict[str, Any] = {"conf": sorted(each.name for each in self.path("net.d").iterdir())}
        for where in (None, *(pod.name for pod in self.pods)):
            words = ["ip"] if where is None else ["ip", "-n", where]
            told = [
                self.host.run([*words, *rest]).stdout
                for rest in (("-br", "addr"), ("route",), ("-6", "route"), ("-br", "link"))
            ]
            lines = {line.strip() for text in told for line in text.splitlines()}
            found[where or "node"] = sorted(re.sub(r"\s+", " ", each) for each in lines if "l3n" not in each)
        return found


@contextmanager
def old_cluster(lab: Lab, kind: str, pods: int = 2) -> Iterator[dict[str, OldNode]]:
    """The lab's nodes with another network and its pods; the router has what that network needs."""
    found = {}
    for name in NODES:
        status = lab.host(name).status()
        found[name] = OldNode(
            lab.host(name), kind, lab.host("tor"), sorted(status["blocks"], key=_four_first)
        )
    for node in found.values():
        node.leave_l3net()
    # The router would keep l3net's routes for its restart time, and pass them for the old network's.
    lab.host("tor").run(["vtysh", "-c", "clear bgp *"])
    for node in found.values():
        node.begin()
    if kind in ("bridge", "kubenet"):
        _static_routes(lab, found)
    for number, node in enumerate(found.values(), 1):
        for each in range(pods):
            node.add_pod(f"p{number}{'abcdef'[each]}")
    if kind == "flannel":
        _vxlan(found)
    yield found


def _four_first(block: str) -> int:
    return parse_prefix(block).version


def _static_routes(lab: Lab, nodes: dict[str, OldNode]) -> None:
    """Those that somebody keeps by hand."""
    for node in nodes.values():
        for block in node.blocks:
            via = node.uplink(parse_prefix(block).version)[0]
            lab.host("tor").run(["ip", "route", "add", block, "via", via, "proto", "static"])


def _vxlan(nodes: dict[str, OldNode]) -> None:
    """As flannel: a vxlan device, a static entry for each other node, and routes through it."""
    for node in nodes.values():
        run = node.host.run
        own = node.uplink(4)[0]
        link = ["type", "vxlan", "id", "1", "dstport", "8472", "local", own, "nolearning"]
        run(["ip", "link", "add", "flannel.1", "mtu", "1450", *link])
        run(["ip", "link", "set", "flannel.1", "address", _mac(own), "up"])
        run(["ip", "addr", "add", f"{ip_network(node.blocks[0])[0]}/32", "dev", "flannel.1"])
        for other in nodes.values():
            if other is node:
                continue
            far = other.uplink(4)[0]
            run(["bridge", "fdb", "append", _mac(far), "dev", "flannel.1", "dst", far])
            for block in other.blocks:
                through = str(gateway(parse_prefix(block)))
                run(
                    [
                        "ip",
                        "neigh",
                        "add",
                        through,
                        "lladdr",
                        _mac(far),
                        "dev",
                        "flannel.1",
                        "nud",
                        "permanent",
                    ]
                )
                run(["ip", "route", "add", through, "dev", "flannel.1"])
                run(["ip", "route", "add", block, "via", through, "dev", "flannel.1", "onlink"])


def _mac(address: str) -> str:
    return "0e:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


# --- traffic ---------------------------------------------------------------------------------------------

#: A name, the host, and the pod there, None for the host itself.
Source = tuple[str, Host, str | None]


def _asked(host: Host, pod: str | None, *words: str) -> subprocess.Popen[str]:
    argv = [*host.enter(pod), "ping", "-n", *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def all_reach_all(sources: Sequence[Source], targets: dict[str, list[str]]) -> None:
    """Each pod answers by each address, from everywhere, within a minute."""
    asked = {
        f"{source}->{target} {address}": _asked(host, pod, "-q", "-c", "1", "-i", "0.2", "-w", "60", address)
        for source, host, pod in sources
        for target, addresses in targets.items()
        for address in addresses
        if source != target
    }
    told = {name: (process.communicate(timeout=90)[0], process.returncode) for name, process in asked.items()}
    assert not {name: said for name, (said, code) in told.items() if code}


@contextmanager
def traffic(sources: Sequence[Source], targets: dict[str, list[str]]) -> Iterator[dict[str, int]]:
    """From each source to each target, twenty echo requests a second; when it ends: packets lost, by flow."""
    lost: dict[str, int] = {}
    flows = {
        f"{source}->{target} {address}": _asked(host, pod, "-i", "0.05", "-W", "1", address)
        for source, host, pod in sources
        for target, addresses in targets.items()
        for address in addresses
        if source != target
    }
    try:
        yield lost
    finally:
        for process in flows.values():
            _interrupt(process)
        for name, process in flows.items():
            told, _ = process.communicate(timeout=20)
            lost[name] = missing(name, told)


def missing(name: str, told: str) -> int:
    """Requests without an answer, but for those of the last second, which may be on their way."""
    counted = re.search(r"(\d+) packets transmitted", told)
    assert counted, told
    sent = int(counted.group(1))
    answered = {int(each) for each in re.findall(r"icmp_seq=(\d+) ttl", told)}
    assert sent > 5, f"{name}: {told}"
    last = max(answered, default=0)
    return sum(each not in answered for each in range(1, last)) + (sent - last if sent - last > 20 else 0)


def _interrupt(process: subprocess.Popen[str]) -> None:
    """`nsenter` waits for its child, which is the one to end."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]) if children else process.pid, signal.SIGINT)
