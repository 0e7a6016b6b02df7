"""The whole of it in the lab: every check passes behind each kind of router, and every check can fail."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from l3net.lab.checks import CHECKS, Check, CheckResult, disturb, surviving
from l3net.lab.checks.catalogue import SILENT
from l3net.lab.converge import unconverged, wait_converged
from l3net.lab.errors import LabError
from l3net.lab.host import Host
from l3net.lab.nodes import start_agent, wait_agent
from l3net.lab.pods import find_plugin, start_server
from l3net.lab.state import read_source
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab, bring_up, take_down
from l3net.lab.wait import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

BY_NAME = {check.name: check for check in (*CHECKS, SILENT)}
_SOFTWARE = {
    RouterKind.FRR: "vtysh",
    RouterKind.BIRD: "bird",
    RouterKind.GOBGP: "gobgpd",
    RouterKind.OPENBGPD: "bgpctl",
    RouterKind.L3NET: "sh",
}


@pytest.fixture(autouse=True, scope="module")
def _plugin() -> None:
    try:
        find_plugin()
    except LabError as err:
        pytest.skip(str(err))


def _lab(kind: RouterKind) -> Iterator[Lab]:
    if shutil.which(_SOFTWARE[kind], path=os.environ["PATH"] + ":/usr/sbin") is None:
        pytest.skip(f"{_SOFTWARE[kind]} is not installed")
    name = f"e{uuid.uuid4().hex[:8]}"
    try:
        yield bring_up(name, read_source(None, kind), lambda what: None)
    finally:
        take_down(name)


#: In `make test`: how the others speak to us is tested there too, in tests/interop.
QUICK = (RouterKind.FRR,)
EVERY = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.soak) for kind in RouterKind]


@pytest.fixture(params=EVERY, ids=lambda kind: kind.value)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from _lab(request.param)


def told(findings: list[CheckResult]) -> str:
    return "\n".join(
        f"{f.check}, {f.what}, IPv{f.family}: expected {f.expected}, seen {f.seen}" for f in findings
    )


def test_every_check_passes(lab: Lab) -> None:
    failed = [finding for check in CHECKS for finding in check.findings(lab) if not finding.ok]
    assert not failed, told(failed)


@pytest.fixture(scope="module")
def broken() -> Iterator[Lab]:
    """A lab to break; each test mends what it broke."""
    yield from _lab(RouterKind.BIRD)


def fails(lab: Lab, check: Check) -> list[CheckResult]:
    return [finding for finding in check.findings(lab) if not finding.ok]


def test_a_silent_node_is_noticed_in_the_hold_time(broken: Lab) -> None:
    failed = fails(broken, SILENT)
    assert not failed, told(failed)


def test_red_when_a_session_is_down(broken: Lab) -> None:
    router = broken.host("tor1")
    router.run(["birdc", "disable", "n1_ipv4"])
    try:
        for name in ("sessions", "router-rib"):
            assert fails(broken, BY_NAME[name]), name
    finally:
        router.run(["birdc", "enable", "n1_ipv4"])
        wait_converged(broken)


def test_red_when_a_router_takes_another_way(broken: Lab) -> None:
    """ECMP lost: one of two equal ways to a service."""
    router = broken.host("tor1")
    router.run(["birdc", "disable", "n2_ipv6"])
    try:
        failed = fails(broken, BY_NAME["router-rib"])
        assert failed
        assert {finding.family for finding in failed} == {6}
    finally:
        router.run(["birdc", "enable", "n2_ipv6"])
        wait_converged(broken)


def test_red_when_a_pod_does_not_answer(broken: Lab) -> None:
    pod = broken.pod("web-1")
    pod.host.kill("pod-web-1", signal.SIGKILL)
    try:
        for name in ("client-to-pods", "client-to-service", "pod-to-own-service",
                     "pod-to-pod-same-node", "pod-to-pod-across-nodes"):  # fmt: skip
            failed = fails(broken, BY_NAME[name])
            assert {finding.family for finding in failed} == {4, 6}, name
    finally:
        start_server(pod.host, "web-1", pod="web-1")
        wait = BY_NAME["client-to-pods"]
        until(lambda: not fails(broken, wait), 10, "web-1 does not answer again")


@pytest.fixture
def masqueraded(broken: Lab) -> Iterator[None]:
    """Someone else's masquerade on a node."""
    host = broken.host("n1")
    table = (
        "table inet other { chain c { type nat hook postrouting priority 200; oifname tor1 masquerade; }; }"
    )
    host.run(["nft", "-f", "-"], text=table)
    yield
    host.run(["nft", "delete", "table", "inet", "other"])


@pytest.mark.usefixtures("masqueraded")
def test_red_when_the_outside_sees_another_address(broken: Lab) -> None:
    assert {finding.family for finding in fails(broken, BY_NAME["pod-keeps-address"])} == {4, 6}


def test_red_when_a_hop_is_hidden(broken: Lab) -> None:
    host = broken.host("spine")
    rules = "icmp type time-exceeded drop; icmpv6 type time-exceeded drop;"
    table = f"table inet t {{ chain c {{ type filter hook output priority 0; {rules} }}; }}"
    host.run(["nft", "-f", "-"], text=table)
    try:
        assert {finding.family for finding in fails(broken, BY_NAME["traceroute"])} == {4, 6}
    finally:
        host.run(["nft", "delete", "table", "inet", "t"])


@pytest.fixture
def stopped(broken: Lab) -> Iterator[Host]:
    """An agent that hears and does nothing."""
    host = broken.host("n3")
    host.kill("agent", signal.SIGSTOP)
    yield host
    host.kill("agent", signal.SIGCONT)
    until(lambda: not unconverged(broken), 30, "the agent does not go on")


def test_red_when_nothing_heals(broken: Lab, stopped: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturb, "_HEAL_PATIENCE", 1.5)
    table = ["nft", "list", "table", "inet", "l3net"]
    finding = disturb._healed(broken, stopped, "the table", ["nft", "delete", *table[2:]], table, "chain")
    assert not finding.ok


@pytest.mark.usefixtures("stopped")
def test_red_when_a_manifest_is_not_followed(broken: Lab) -> None:
    assert fails(broken, BY_NAME["masquerade"])


def test_red_when_packets_or_sessions_are_lost(broken: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def rude(lab: Lab, node: str) -> None:
        broken.host("tor2").run(["birdc", "restart", "n3_ipv4"])
        host = lab.host(node)
        start_agent(host, lab.datastore(node))
        wait_agent(host)
        rule = "meta l4proto { icmp, icmpv6 } drop;"
        drop = f"table inet t {{ chain c {{ type filter hook forward priority 0; {rule} }}; }}"
        host.run(["nft", "-f", "-"], text=drop)
        host.run(["sleep", "0.1"])
        host.run(["nft", "delete", "table", "inet", "t"])

    monkeypatch.setattr(Lab, "start_agent", rude)
    failed = fails(broken, BY_NAME["agent-killed"])
    assert {finding.family for finding in failed} >= {4, 6, None}, told(failed)
    wait_converged(broken)


def test_red_when_connections_break(broken: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of consistent balancing: without it, they do."""
    monkeypatch.setattr(Lab, "set_consistent", lambda _lab, _consistent: None)
    monkeypatch.setattr(surviving, "_seen", lambda *_: True)
    assert len(fails(broken, BY_NAME["connections-survive"])) == 2


def test_red_when_a_node_stays(broken: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturb, "_ROUTERS_PATIENCE", 0.0)
    failed = fails(broken, SILENT)
    assert any("disappears" in finding.what for finding in failed)
    wait_converged(broken)


def test_red_when_the_plugin_does_nothing(
    broken: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Last, since the pod is not made again."""
    plugin = tmp_path / "l3net-cni"
    plugin.write_text("#!/bin/sh\nexit 0\n")
    plugin.chmod(0o755)
    monkeypatch.setenv("L3NET_CNI_PLUGIN", str(plugin))
    failed = fails(broken, BY_NAME["pod-again"])
    assert "not a result" in told(failed)
