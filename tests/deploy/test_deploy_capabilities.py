"""Agent, speaker and BFD as their containers run them: these capabilities and mounts are enough."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bfd_rig import ADDRESSES, BfdRig
from deploy_chart import ROOT, containers, documents
from node_rig import CONFIGURATION, NODE, TOR4, TOR6, Rig, brought_up

# The mounts of a container that is not privileged: a read-only root, /proc/sys read-only, and what the chart
# adds. /run stays the host's, as the chart mounts /run/l3net and the lease store from there.
CONTAINER = """
set -eu
mount --make-rprivate /
mkdir -p /run/host/proc/sys/net
mount --bind /proc/sys/net /run/host/proc/sys/net
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
# A checkout under /tmp stays in sight.
mkdir -p /run/host/checkout
mount --bind "$CHECKOUT" /run/host/checkout
mount -t tmpfs tmpfs /tmp
mkdir -p "$CHECKOUT"
mount --bind /run/host/checkout "$CHECKOUT"
mount -o remount,bind,ro /
! touch /root/writable 2>/dev/null
! sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward' 2>/dev/null
export L3NET_PROC_SYS=/run/host/proc/sys
exec setpriv --no-new-privs --inh-caps=-all --bounding-set="$CAPABILITIES" "$@"
"""


def capabilities(name: str) -> list[str]:
    """Of a container, as the chart's defaults have them."""
    values = {"bfd": {"enabled": True}}
    [found] = [each for each in containers(documents(values)) if each["name"] == name]
    return list(found["securityContext"]["capabilities"]["add"])


def start(rig: Rig, name: str, argv: list[str], added: list[str]) -> None:
    """Run l3net in the host's namespaces with a container's restrictions."""
    bounding = ",".join(["-all", *(f"+{each.lower()}" for each in added)])
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        CONTAINER,
        "sh",
        sys.executable,
        "-m",
        "l3net.cli.main",
        *argv,
    ]
    rig.node.spawn(name, command, environment={"CAPABILITIES": bounding, "CHECKOUT": str(ROOT)})


def start_agent(rig: Rig, added: list[str]) -> None:
    conf = rig.directory / "cni"
    conf.mkdir()
    options = ["--node-name", "node", "--state-dir", "/run/l3net-state", "--cni-conf-dir", str(conf)]
    start(rig, "agent", ["agent", "--datastore", f"dir:{rig.manifests}", *options], added)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cni")
    subprocess.run([str(ROOT / "plugin/build.sh"), str(directory)], check=True)
    return directory / "l3net-cni"


@pytest.fixture
def network(rig: Rig) -> Iterator[Rig]:
    rig.start_tor()
    rig.declare("node.yaml", NODE, CONFIGURATION, TOR4, TOR6)
    yield rig


def add_pod(rig: Rig, plugin: Path) -> dict[str, object]:
    rig.node.run(["ip", "netns", "add", "pod"])
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/pod",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(plugin.parent),
    }
    conf = {"cniVersion": "1.0.0", "name": "l3net", "type": "l3net-cni"}
    done = rig.node.run([str(plugin)], text=json.dumps(conf), environment=environment, check=False)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.netns
def test_enough(network: Rig, plugin: Path) -> None:
    """Sessions on port 179, bridge, routes, firewall, sysctls and a pod, with the chart's capabilities."""
    rig = network
    start(rig, "speaker", ["speaker"], capabilities("speaker"))
    start_agent(rig, capabilities("agent"))
    rig.established("10.90.0.2", "fd90::2")
    rig.until(lambda: {"10.244.1.0/24", "fd00:10:244:1::/120"} <= rig.tor_routes(), "the node's blocks")
    rig.until(lambda: "192.168.7.0/24" in rig.kernel("route show proto 108"), "a learned route")
    answer = add_pod(rig, plugin)
    assert "ips" in answer, answer
    assert rig.node.run(["ping", "-c1", "-W5", "10.244.1.1"], pod=None).code == 0
    assert rig.node.run(["ip", "netns", "exec", "pod", "ping", "-c1", "-W5", "10.90.0.2"]).code == 0
    assert "table inet l3net" in rig.node.run(["nft", "list", "tables"]).stdout
    assert rig.node.run(["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout.strip() == "1"
    assert rig.status()["problems"] == []
    rig.until(
        (rig.directory / "cni" / "05-l3net.conflist").exists, "the configuration, once peers have answered"
    )
    agent = rig.node.daemon_pid("agent")
    bounding = rig.node.run(["grep", "CapBnd", f"/proc/{agent}/status"]).stdout.split()[1]
    assert bin(int(bounding, 16)).count("1") == len(capabilities("agent")), shlex.quote(bounding)


@pytest.fixture
def bfd_rig() -> Iterator[BfdRig]:
    with brought_up(BfdRig()) as made:
        yield made


def start_bfd(rig: BfdRig, added: list[str]) -> None:
    rig.start_tor()
    rig.declare_peers()
    start(rig, "bfd", ["bfd"], added)
    rig.start_speaker()
    rig.start_agent()
    rig.watched(*ADDRESSES)


@pytest.mark.netns
def test_enough_for_bfd(bfd_rig: BfdRig) -> None:
    """Real-time priority, locked memory, sessions of both families, and no complaint."""
    rig = bfd_rig
    start_bfd(rig, capabilities("bfd"))
    process = rig.node.daemon_pid("bfd")
    assert "SCHED_RR" in rig.node.run(["chrt", "-p", str(process)]).stdout
    status = rig.node.run(["cat", f"/proc/{process}/status"]).stdout
    locked = next(line.split()[1] for line in status.splitlines() if line.startswith("VmLck"))
    assert int(locked) > 0
    bounding = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd"))
    assert bin(int(bounding, 16)).count("1") == len(capabilities("bfd"))
    assert rig.status()["problems"] == []


@pytest.mark.netns
def test_bfd_without_them_goes_on_and_says_so(bfd_rig: BfdRig) -> None:
    """The control."""
    start_bfd(bfd_rig, ["NET_RAW"])
    problems = " ".join(bfd_rig.status()["problems"])
    assert "BFD" in problems and "CAP_SYS_NICE" in problems, problems


@pytest.mark.netns
def test_without_net_admin_the_agent_says_so(network: Rig) -> None:
    """The control."""
    start_agent(network, ["SYS_ADMIN"])
    network.until(lambda: "EPERM" in network.node.log_tail("agent", 5), "the refusal")
    assert "l3net0" not in network.kernel("link show")
