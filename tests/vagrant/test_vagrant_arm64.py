"""A node of another architecture in the lab: the box for arm64 boots by EFI, and its pods are reached by a
router and a client on x86-64. Not part of `make test`: `make test-vagrant-arm64` runs it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from vagrant_lab import MARKS, Told, until, vagrant_lab

pytestmark = MARKS

TOPOLOGY = """
asNumber: 64512
routers: [{name: r1, asNumber: 65001}]
clients: [{name: client}]
nodes:
- {name: n1, pods: [web-1, local-1]}
links:
- {between: [r1, client]}
- {between: [r1, n1]}
services:
- {name: web, clusterIPs: [10.96.0.10, "fd00:10:96::a"], port: 80, pods: [web-1]}
- {name: local, clusterIPs: [10.96.0.20, "fd00:10:96::14"], port: 80, pods: [local-1],
   internalTrafficPolicy: Local}
"""


def test_a_node_with_arm64(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Told(capsys)
    with vagrant_lab(tmp_path, TOPOLOGY, ["l3net/lab", "l3net/lab-arm64"]) as lab:
        lab.up(("r1", "client"))
        done("vagrant up r1 and client, x86-64")
        lab.up(("n1",), box="l3net/lab-arm64")
        done("vagrant up n1, arm64: booted and provisioned")
        lab.connect("r1", "client", "n1")
        assert [lab.ssh(host, "uname -m").strip() for host in ("r1", "n1")] == ["x86_64", "aarch64"]
        until("the blocks of the node", lambda: lab.paths("n1") == ["plain"] * 2)
        assert "n1 web-1" in lab.asked("web-1", "10.244.1.10")
        done("every machine's systemd is content; the router has the node's blocks, the client its pod")
        lab.checked()
        done("make vagrant-check: all checks")
        lab.vagrant("reload", "n1", box="l3net/lab-arm64")
        until("the router has n1 again", lambda: lab.paths("n1") == ["plain"] * 2)
        until("its pod answers", lambda: "n1 web-1" in lab.asked("web-1", "10.244.1.10"))
        done("vagrant reload n1: its blocks and pods are back")
        lab.vagrant("destroy", "-f")
