"""A real machine in a lab: booted in software emulation, provisioned as the router tor1, linked to all else.

Not part of `make test`: `make test-vm` runs it, and prints how long each step took. The other hosts are a lab
in namespaces; the machine's links are tap devices inside the namespace that the lab has for tor1.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_vm import SerialMachine, SerialShell, qemu, taps, tree_disk, vm_disk

from l3net.lab import state
from l3net.lab.checks import CHECKS
from l3net.lab.converge import wait_converged
from l3net.lab.nodes import wait_agent
from l3net.lab.pods import find_plugin, start_server
from l3net.lab.routers import start_router
from l3net.lab.state import read_source
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab, _agent_starts, each, make_hosts, make_pods, take_down, wire

pytestmark = [
    pytest.mark.netns,
    pytest.mark.vm,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

ROUTER = "tor1"
BY_NAME = {check.name: check for check in CHECKS}
SEEN = ("sessions", "router-rib", "client-to-pods", "client-to-service", "traceroute")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The default lab, its hosts linked and numbered, nothing started yet."""
    name = f"v{uuid.uuid4().hex[:8]}"
    source = read_source(None, RouterKind.FRR)
    try:
        directory = state.create(name, source)
        there = Lab(name, source.topology(), directory, make_hosts(name, source.topology(), directory))
        wire(there)
        yield there
    finally:
        take_down(name)


def test_a_machine_is_a_router_of_the_lab(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times: list[tuple[str, float]] = []
    start = time.monotonic()

    def done(what: str) -> None:
        nonlocal start
        times.append((what, time.monotonic() - start))
        with capsys.disabled():
            print(f"  {times[-1][1]:6.1f} s  {what}", flush=True)  # noqa: T201
        start = time.monotonic()

    disk, tree = vm_disk(), tree_disk(tmp_path)
    done("the disk is there (made once: mmdebstrap, Debian's kernel, systemd)")
    place = lab.host(ROUTER)
    shell = SerialShell(ROUTER, place.directory / "shell.sock")
    console = place.directory / "console.log"
    place.spawn("machine", qemu(disk, tree, console, shell.path, taps(lab, place)))
    try:
        shell.connect(1200)
        done("the machine has booted (qemu, TCG, one CPU)")
        # The rest of the lab comes up meanwhile, as its own test has it.
        code, said = shell.execute(f"sh /vagrant/vagrant/provision/machine.sh {ROUTER} frr 0 2>&1", 1800)
        assert code == 0 and "-- tor1: done" in said, said[-3000:]
        done("provisioned: machine.sh tor1 frr 0")
        code, said = shell.execute(f"sh /vagrant/vagrant/provision/machine.sh {ROUTER} frr 0 2>&1", 1800)
        assert code == 0 and "wrote" not in said, said[-3000:]
        done("provisioned again, nothing to do")
        assert shell.execute("systemctl is-active frr l3net-lab-network", 300)[1].split() == ["active"] * 2
    except BaseException:
        with capsys.disabled():
            print(console.read_text(errors="replace")[-3000:], place.read_log("machine")[-1000:])  # noqa: T201
        raise
    lab.hosts[ROUTER] = SerialMachine(ROUTER, shell)  # type: ignore[assignment]
    for router in ("spine", "tor2"):
        start_router(lab.topology, lab.host(router))
    nodes = [node.name for node in lab.topology.nodes]
    each(lambda begin: begin(), _agent_starts(lab, nodes))
    start_server(lab.host("client"), "client")
    each(lambda node: wait_agent(lab.host(node)), nodes)
    make_pods(lab, find_plugin())
    done("the other hosts of the lab: routers, agents, pods")
    wait_converged(lab, seconds=600)
    done("every router, the machine too, has learned every block and service")
    failed = [finding for name in SEEN for finding in BY_NAME[name].findings(lab) if not finding.ok]
    assert not failed, failed
    done(f"checks passed: {', '.join(SEEN)}")
    # The control: the pods of n1, homed to the machine alone, are out of reach without it.
    shell.execute("systemctl stop frr", 300)
    assert [finding for finding in BY_NAME["client-to-pods"].findings(lab) if not finding.ok]
    done("without the machine's routing n1's pods are out of reach")
