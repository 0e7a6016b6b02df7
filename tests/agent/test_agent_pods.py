"""The agent and the pods of its node: the bridge's MTU, and blocks that the node loses while pods run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pod_node import Node, built, sh

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("cni-bin"))


@pytest.fixture
def host(tmp_path: Path, plugin: Path) -> Iterator[Node]:
    with ExitStack() as undo:
        yield Node(tmp_path, plugin, undo)


def test_the_mtu_follows_the_uplink_back(host: Node) -> None:
    """The bridge's own ports, which have their MTU from it, say nothing of the way out."""
    host.declare("10.244.5.0/24", "fd00:244:5::/120")
    host.start()

    def mtu() -> int:
        return int(host.ip("link", "show", "dev", "l3net0")[0]["mtu"])

    host.until(lambda: mtu() == 1280, "the uplink's MTU")
    host.add("c1")
    sh("ip", "-n", host.name, "link", "set", "up0", "mtu", "1500")
    host.until(lambda: mtu() == 1500, "the bridge to follow")
    _, result = host.add("c2")
    assert {each.get("mtu") for each in result["interfaces"]} <= {1500, None}
    sh("ip", "-n", host.name, "link", "set", "up0", "mtu", "1400")  # the control: it does follow downwards
    host.until(lambda: mtu() == 1400, "the bridge to follow again")


def test_the_guard_of_ports_is_put_back_when_the_kernel_tells(host: Node) -> None:
    """Not by a look now and then: that would take ten seconds each time."""
    host.declare("10.244.5.0/24", "fd00:244:5::/120")
    host.start()
    host.add("c1")

    def guarded() -> str:
        return sh(
            "ip", "netns", "exec", host.name, "nft", "list", "set", "bridge", "l3net", "macs", check=False
        )

    before = guarded()
    assert "l3v" in before
    started = time.monotonic()
    for harm in ("delete table bridge l3net", "flush ruleset", "flush set bridge l3net macs") * 3:
        sh("ip", "netns", "exec", host.name, "nft", *harm.split())
        host.until(lambda: guarded() == before, "the guard to be put back")
    assert time.monotonic() - started < 9 * 10 / 2


OLD = ("10.244.5.0/24", "fd00:244:5::/120")
NEW = ("10.244.55.0/24", "fd00:244:55::/120")
GATEWAYS = {
    OLD: {"10.244.5.1/24", "fd00:244:5::1/120"},
    NEW: {"10.244.55.1/24", "fd00:244:55::1/120"},
}


def reaches(netns: str, *addresses: str) -> bool:
    return all(
        subprocess.run(
            ["ip", "netns", "exec", netns, "ping", "-c", "1", "-W", "5", address],
            capture_output=True,
            check=False,
        ).returncode
        == 0
        for address in addresses
    )


def retained(host: Node) -> dict[str, int]:
    return {row["block"]: row["attachments"] for row in host.status()["pods"]["retained"]}


def test_a_lost_block_stays_while_pods_run_in_it(host: Node) -> None:
    """Gateway, announcement and CHECK of running pods; through a restart; until the last of them is gone."""
    host.declare(*OLD)
    host.start()
    pod, result = host.add("c1")
    host.declare(*NEW)
    host.until(lambda: host.gateways() == GATEWAYS[OLD] | GATEWAYS[NEW], "both gateways")
    assert retained(host) == dict.fromkeys(OLD, 1)
    assert set(host.status()["blocks"]) == {*OLD, *NEW}  # what is announced
    assert reaches(pod, "10.244.5.1", "fd00:244:5::1", "10.90.0.1", "fd90::1")
    assert host.cni("CHECK", "c1", f"{host.name}c1", prevResult=result).returncode == 0
    new, second = host.add("c2")
    assert [each["address"] for each in second["ips"]] == ["10.244.55.2/32", "fd00:244:55::2/128"]
    assert reaches(new, "10.244.5.2", "fd00:244:5::2")
    # it is named wherever somebody may look
    problems = host.status()["problems"]
    assert len(problems) >= 2 and all(any(block in each for each in problems) for block in OLD)
    places = ["--run-dir", str(host.base / "run")], ["--state-dir", str(host.base / "state")]
    checked = host.l3net("ipam", *places[1], "check", *places[0], "-o", "json")
    assert checked.returncode == 1
    assert [row["of"] for row in json.loads(checked.stdout)] == list(OLD)
    assert "10.244.5.0/24 is no longer" in host.l3net("doctor", *places[0], *places[1]).stdout
    host.kill()
    host.start()
    assert retained(host) == dict.fromkeys(OLD, 1)
    assert host.gateways() == GATEWAYS[OLD] | GATEWAYS[NEW] and reaches(pod, "10.244.5.1")
    assert host.cni("DEL", "c1").returncode == 0
    host.declare(*NEW, "10.244.56.0/24")  # a pass; otherwise the one half a minute later
    host.until(lambda: "10.244.5.1/24" not in host.gateways(), "the old gateways to go")
    assert retained(host) == {} and host.status()["blocks"] == [*NEW, "10.244.56.0/24"]
    host.until(lambda: "10.244.5.0/24" not in sh("ip", "-n", host.name, "route", "show"), "its route to go")


def test_a_block_without_pods_goes_at_once(host: Node) -> None:
    """The control."""
    host.declare(*OLD)
    host.start()
    host.until(lambda: host.gateways() == GATEWAYS[OLD], "the gateways")
    host.declare(*NEW)
    host.until(lambda: host.gateways() == GATEWAYS[NEW], "the new ones")
    assert retained(host) == {} and not [each for each in host.status()["problems"] if "block" in each]


def test_a_lost_block_that_another_node_has_is_not_announced(host: Node) -> None:
    host.declare(*OLD)
    host.start()
    host.add("c1")
    host.declare(*NEW, other=OLD)
    host.until(lambda: host.gateways() == GATEWAYS[OLD] | GATEWAYS[NEW], "both gateways")
    host.until(lambda: host.status()["blocks"] == list(NEW), "the announcement to go")
    assert any("node other's by now" in each for each in host.status()["problems"])


def test_the_gateway_of_a_lost_block_is_no_pods_address(host: Node) -> None:
    """A new block around an old one: 10.244.5.1 is on the bridge, and stays out of what pods get."""
    host.declare("10.244.5.0/29")
    host.start()
    host.add("c1")
    host.declare("10.244.4.248/29", "10.244.5.0/28")
    host.until(
        lambda: {"10.244.5.1/29", "10.244.5.1/28", "10.244.4.249/29"} & host.gateways(), "the gateways"
    )
    host.until(lambda: retained(host) == {"10.244.5.0/29": 1}, "the old block to be kept")
    found = [host.add(f"d{number}")[1]["ips"][0]["address"] for number in range(8)]
    assert len(set(found)) == 8 and not {"10.244.5.1/32", "10.244.5.2/32"} & set(found)


def test_a_pod_publishes_no_port_of_the_nodes_own(host: Node) -> None:
    """Else it would answer the routers that dial in, whatever the host port's owner may be asked for."""
    host.declare("10.244.1.0/24", "fd00:10:244:1::/120")
    host.start("--error-relay-port", "6200")
    netns = host.netns("pod")

    def publish(port: int, protocol: str) -> subprocess.CompletedProcess[str]:
        mapping = {"hostPort": port, "containerPort": 80, "protocol": protocol}
        return host.cni("ADD", "pod", netns, runtimeConfig={"portMappings": [mapping]})

    for port, protocol in ((179, "tcp"), (3784, "udp"), (4784, "udp"), (6200, "udp")):
        done = publish(port, protocol)
        answer = json.loads(done.stdout)
        assert done.returncode and answer["code"] == 7
        assert answer["msg"].startswith(f"host port {port}/{protocol} is the node's own")
    assert host.status()["pods"]["leases"] == 0
    done = host.cni("ADD", "pod", netns, runtimeConfig={"mac": "00:00:00:00:00:00"})
    assert json.loads(done.stdout)["code"] == 7
    # The control: another protocol's is anybody's.
    assert publish(179, "udp").returncode == 0
    assert host.cni("DEL", "pod", netns).returncode == 0


def test_what_waits_for_the_agent_attaches_at_once(host: Node) -> None:
    """As podman's containers at boot do, which start once. The control: before, no agent answers ADD."""
    run_dir = f"--run-dir={host.base / 'run'}"
    early = host.cni("ADD", "c1", host.netns("early"))
    assert early.returncode and "does not answer" in early.stdout
    none = host.l3net("node", "wait", "--for=pods", "--timeout=0.1", run_dir)
    assert none.returncode == 3 and "no agent answers" in none.stderr
    host.declare("10.244.5.0/24", "fd00:244:5::/120")
    argv = ["ip", "netns", "exec", host.name, sys.executable, "-m", "l3net.cli.main"]
    argv += ["node", "wait", "--for=pods", run_dir]
    waiting = subprocess.Popen(argv)
    try:
        starting = threading.Thread(target=host.start)
        starting.start()
        assert waiting.wait(60) == 0
        host.add("c2")
        starting.join()
    finally:
        waiting.kill()
        waiting.wait()
