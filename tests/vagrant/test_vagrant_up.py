"""`vagrant up`, really run: the box of `make vagrant-box`, vagrant-libvirt, and qemu's software emulation.

Not part of `make test`: `make test-vagrant` runs it, and prints how long each step took. libvirt runs in
namespaces of its own (libvirt_place.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from network_managers import by_ifupdown, by_network_manager, flushed, set_again
from vagrant_lab import BLOCKS, MARKS, Told, VagrantLab, until, vagrant_lab

pytestmark = MARKS

TOPOLOGY = """
asNumber: 64512
routers: [{name: r1, asNumber: 65001}]
clients: [{name: client}]
nodes:
- {name: n1, pods: [web-1, local-1]}
- {name: n2, pods: [local-2]}
links:
- {between: [r1, client]}
- {between: [r1, n1]}
- {between: [r1, n2]}
services:
- {name: web, clusterIPs: [10.96.0.10, "fd00:10:96::a"], port: 80, pods: [web-1]}
- {name: local, clusterIPs: [10.96.0.20, "fd00:10:96::14"], port: 80, pods: [local-1, local-2],
   internalTrafficPolicy: Local}
"""
#: What is brought up side by side: a machine has one CPU. Nodes wait for their router.
PAIRS = (("r1", "client"), ("n1", "n2"))
SERVICE = ("10.96.0.20", "[fd00:10:96::14]")
#: A container that nothing but podman's restart policy starts again.
CONTAINER = (
    "podman run -d --restart=always --name again --network l3net -v /usr/local/lib/l3net-lab:/lab:ro"
    " localhost/l3net-lab-pod:latest python3 -ISE /lab/pod_server.py n2 again 8080"
)


class Traffic(threading.Thread):
    """New connections of the client to a service of both families, one after another, until it is stopped."""

    def __init__(self, lab: VagrantLab) -> None:
        super().__init__()
        self._lab = lab
        lab.ssh("client", "rm -f /run/traffic /run/traffic.stop")

    def run(self) -> None:
        loop = (
            "while [ ! -e /run/traffic.stop ]; do for a in " + " ".join(f'"{a}"' for a in SERVICE) + "; do"
            ' if x=$(curl -sS -m 10 "http://$a/" 2>&1); then echo "ok $x"; else echo "LOST $x"; fi;'
            " done; done >/run/traffic"
        )
        self._lab.ssh("client", loop, seconds=3000)

    def end(self) -> list[str]:
        """Every answer, in order."""
        self._lab.ssh("client", "touch /run/traffic.stop")
        self.join(300)
        return self._lab.ssh("client", "cat /run/traffic").splitlines()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VagrantLab]:
    with vagrant_lab(tmp_path, TOPOLOGY, ["l3net/lab"]) as made:
        yield made


def test_vagrant_up(lab: VagrantLab, capsys: pytest.CaptureFixture[str]) -> None:
    done = Told(capsys)
    for pair in PAIRS:
        lab.up(pair)
        done(f"vagrant up {' and '.join(pair)}: booted and provisioned")
    lab.connect(*(host for pair in PAIRS for host in pair))
    until("blocks", lambda: [*lab.paths("n1"), *lab.paths("n2")] == ["plain"] * 4)
    done("every machine's systemd is content; the router has the blocks of both nodes")
    lab.checked()
    done("make vagrant-check: all checks")
    broken_and_mended(lab)
    done("a link broken, and mended")
    new_code(lab)
    done("vagrant provision after a change of code: it runs, and nothing else changed")
    managed(lab, done)
    halted_and_up(lab, done)
    lab.checked("--non-disruptive")
    done("make vagrant-check once more, without those that break something")
    lab.vagrant("destroy", "-f")
    assert lab.place.run(["virsh", "list", "--all", "--name"]).stdout.split() == []
    volumes = lab.place.run(["virsh", "vol-list", "default"]).stdout.splitlines()[2:]
    names = [line.split()[0] for line in volumes if line.strip()]
    assert len(names) == 1 and names[0].startswith("l3net-VAGRANTSLASH-lab"), names  # the box itself stays
    running = lab.place.run(["ps", "-eo", "args"]).stdout
    assert "libvirtd" in running and "qemu-system" not in running
    assert not [*(lab.here / ".vagrant/machines").glob("*/libvirt/id")]
    done("vagrant destroy: no machine, volume and process is left")


def broken_and_mended(lab: VagrantLab) -> None:
    pod = "10.244.1.10"
    assert "n1 web-1" in lab.asked("web-1", pod)
    lab.l3net("break", "--link", "n1,r1")
    until("the router gives n1 up", lambda: lab.paths("n1") == ["none"] * 2)
    assert "n1 web-1" not in lab.asked("web-1", pod)
    assert "n2 local-2" in lab.asked("local-2", "10.244.2.10")
    lab.l3net("repair")
    until("the router has n1 again", lambda: lab.paths("n1") == ["plain"] * 2)
    assert "n1 web-1" in lab.asked("web-1", pod)


def new_code(lab: VagrantLab) -> None:
    units = "l3net-speaker l3net-agent l3net-bfd"
    look = f"systemctl show -p MainPID --value {units}; podman ps --no-trunc -q | sort"
    before = lab.ssh("n1", look).split()
    source = lab.tree / "l3net/__init__.py"
    source.write_text(source.read_text() + '\nLAB_PROOF = "new code"\n')
    said = lab.vagrant("provision", "n1").stdout
    assert "installing l3net of tree" in said and "wrote" not in said, said[-3000:]
    after = lab.ssh("n1", look).split()
    assert not set(before[:3]) & set(after[:3]) and before[3:] == after[3:] and len(after) == 5
    proof = '/opt/l3net/bin/python -c "import l3net; print(l3net.LAB_PROOF)"'
    assert "new code" in lab.ssh("n1", proof)
    until("sessions", lambda: lab.paths("n1") == ["plain"] * 2)
    again = lab.vagrant("provision", "n1").stdout
    assert "installing" not in again and "wrote" not in again, again[-3000:]


def managed(lab: VagrantLab, done: Callable[[str], None]) -> None:
    """The uplinks of the nodes come under managers of the machine's own network."""
    n1, n2 = partial(lab.ssh, "n1"), partial(lab.ssh, "n2")
    by_network_manager(n1, "r1")
    done("n1's uplink is NetworkManager's: reloads, activations, restarts")
    by_ifupdown(n2, "r1")
    done("n2's uplink is ifupdown's: down and up, all of it restarted")
    for node in (n1, n2):
        flushed(node)
        set_again(node)
    for name in BLOCKS:
        until("the router has both nodes", lambda n=name: lab.paths(n) == ["plain"] * 2)  # type: ignore[misc]
    done("nftables' service and sysctl, which flush and turn off: put back")


def halted_and_up(lab: VagrantLab, done: Callable[[str], None]) -> None:
    """n2 goes down under traffic, and comes back."""
    lab.ssh("n2", f"{CONTAINER}; systemctl -q enable --now podman-restart")
    leases = lab.ssh("n2", "l3net ipam show -o json")
    boot = lab.ssh("n2", "cat /proc/sys/kernel/random/boot_id")
    traffic = Traffic(lab)
    traffic.start()
    seen: list[list[str]] = []
    going = threading.Thread(target=lambda: lab.vagrant("halt", "n2"))
    going.start()
    while going.is_alive():
        seen.append(lab.paths("n2"))
    answers = traffic.end()
    assert ["tagged"] * 2 in seen and seen[-1] == ["none"] * 2, seen
    lost = [line for line in answers if line.startswith("LOST")]
    assert not lost and len(answers) > 20, lost
    assert "n1 local-1" in answers[-1]
    done(f"vagrant halt n2: tagged, withdrawn, gone; {len(answers)} connections meanwhile, none lost")
    lab.vagrant("up", "n2")
    until("the router has n2", lambda: lab.paths("n2") == ["plain"] * 2)
    until("its pod answers", lambda: "n2 local-2" in lab.asked("local-2", "10.244.2.10"))
    assert lab.ssh("n2", "cat /proc/sys/kernel/random/boot_id") != boot
    until(
        "podman's own",
        lambda: "true" in lab.ssh("n2", "podman inspect -f {{.State.Running}} again", check=False),
    )
    until(
        "podman's own answers",
        lambda: (
            "again"
            in lab.ssh(
                "n2",
                "l3net-lab pod-exec again ip -4 -o address show dev eth0 >/dev/null && echo again",
                check=False,
            )
        ),
    )
    after = lab.ssh("n2", "l3net ipam show -o json")
    assert after.count('"container') == leases.count('"container'), (leases, after)
    done("vagrant up n2: its pods are back, podman's too, the leases of the old boot are free")
