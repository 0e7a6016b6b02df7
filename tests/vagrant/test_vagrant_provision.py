"""The provisioning scripts, run for real in a root of their own, twice: the second run changes nothing.

There is no systemd in the root: units are written and enabled, not started; `make test-vm` boots a machine
where they are. In the Kubernetes role kubeadm, kubectl, kubelet and crictl are stand-ins out of a signed
apt repository, and so are `podman build` and `ctr`, since neither images nor a cluster can be had here; all
else is the real thing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from kubernetes_packages import kubernetes_repository
from machine_root import MachineRoot, new_root

from l3net.lab.machines import machine_files
from l3net.lab.state import read_source

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

FILES = machine_files(read_source(None))
#: Everything with its kind, owner, mode, size, time and target; what lives in memory is left out.
_LEFT_OUT = " -o ".join(
    f"-path /{name}" for name in ("proc", "sys", "dev", "run", "vagrant", "wheels", "tmp")
)
_LISTING = (
    f"find / -xdev -mindepth 1 \\( {_LEFT_OUT} \\) -prune"
    " -o -printf '%p|%y|%m|%U|%G|%s|%T@|%l\\n' | LC_ALL=C sort; ls -A /tmp"
)


def provision(host: str, router: str = "frr", kubernetes: int = 0) -> str:
    """A shell script: links with the MAC addresses of the host's interfaces, then the provisioning."""
    addresses = [line.split()[0] for line in FILES[f"{host}/interfaces"].splitlines()]
    links = [
        f"ip link add eth{n} address {mac} type veth peer name far{n}; ip link set far{n} up"
        for n, mac in enumerate(addresses, start=1)
    ]
    return "\n".join(
        ["set -e", *links, f"/vagrant/vagrant/provision/machine.sh {host} {router} {kubernetes}"]
    )


def listing(text: str) -> str:
    return text.partition("@@listing\n")[2].partition("@@end\n")[0]


def run_twice(machine: MachineRoot, script: str, look: str, **environment: str) -> tuple[str, str]:
    """Provision, provision again: nothing may differ. What the first run said, and then `look`."""
    listed = f"{script}\necho @@looking\n{look}\necho @@listing\n{_LISTING}\necho @@end"
    first = machine.run(listed, environment)
    assert first.code == 0, first.output[-4000:]
    second = machine.run(listed, environment)
    assert second.code == 0, second.output[-4000:]
    before, after = listing(first.output).splitlines(), listing(second.output).splitlines()
    assert len(before) > 1000
    changed = sorted(set(before) ^ set(after))
    assert not changed, "\n".join(changed[:20]) + "\n" + second.output[:2000]
    assert "wrote" not in second.output.partition("@@looking")[0]
    return first.output.partition("@@looking")[0], first.output.partition("@@looking\n")[2].partition(
        "@@listing"
    )[0]


@pytest.fixture
def machine(tmp_path: Path) -> MachineRoot:
    return new_root(tmp_path)


@pytest.fixture
def any_machine(tmp_path: Path) -> MachineRoot:
    """One that may become a node, or a router with other software than FRR."""
    return new_root(tmp_path, more=True)


NETWORK = "ip -j address; echo; ip -j route; echo; ip -6 -j route; echo; sysctl -n net.ipv4.ip_forward"


def check_network(looked: str, host: str) -> None:
    """Interfaces bear the topology's names and addresses; the routes are those of the plan."""
    lines = [line for line in looked.splitlines() if line]
    topology = read_source(None).topology()
    seen = {
        (link["ifname"], f"{found['local']}/{found['prefixlen']}")
        for link in json.loads(lines[0])
        for found in link.get("addr_info", [])
    }
    for link in topology.links_of(host):
        end = link.end(host)
        assert {(end.interface, str(address)) for address in end.addresses} <= seen
    routes = {route["dst"] for line in lines[1:3] for route in json.loads(line)}
    wanted = re.findall(r"^route replace (\S+)", FILES[f"{host}/network.ip"], re.MULTILINE)
    assert set(wanted) <= routes
    assert lines[3] == ("1" if topology.router(host) else "0")


@pytest.mark.first
def test_router(machine: MachineRoot) -> None:
    becomes_a_router(machine, "frr")


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["bird", "openbgpd"])
def test_other_routers(any_machine: MachineRoot, kind: str) -> None:
    becomes_a_router(any_machine, kind)


def becomes_a_router(machine: MachineRoot, kind: str) -> None:
    """The routing software loads what was put in its place, and the links are named and numbered."""
    load = {
        "frr": "vtysh -C -f /etc/frr/frr.conf",
        "bird": "bird -p -c /etc/bird/bird.conf",
        "openbgpd": "bgpd -n -f /etc/bgpd.conf",
    }[kind]
    _, looked = run_twice(machine, provision("tor1", kind), f"{NETWORK}; {load} 2>&1 && echo loaded")
    check_network(looked, "tor1")
    assert "loaded" in looked
    path = {"frr": "etc/frr/frr.conf", "bird": "etc/bird/bird.conf", "openbgpd": "etc/bgpd.conf"}[kind]
    installed = machine.upper / path
    wanted = FILES[f"tor1/{Path(path).name}"]
    assert installed.read_text() == wanted
    units = {"openbgpd": ["openbgpd.service", "l3net-lab-rib.service"]}.get(kind, [f"{kind}.service"])
    for unit in (*units, "l3net-lab-network.service"):
        link = machine.upper / "etc/systemd/system/multi-user.target.wants" / unit
        assert link.is_symlink(), unit
    # The control: what somebody changes is put right, and said.
    installed.write_text("nonsense\n")
    mended = machine.run(provision("tor1", kind))
    assert mended.code == 0 and f"wrote /{path}" in mended.output
    assert installed.read_text() == wanted


def test_client(machine: MachineRoot) -> None:
    _, looked = run_twice(machine, provision("client"), NETWORK)
    check_network(looked, "client")
    assert "10.0.7.0 n3" not in (machine.upper / "etc/hosts").read_text()
    assert "10.0.7.1 n3" in (machine.upper / "etc/hosts").read_text()


@pytest.mark.soak
def test_plain_node_and_new_code(any_machine: MachineRoot) -> None:
    """l3net out of the working tree runs, and a changed tree is installed by the next run."""
    machine = any_machine
    look = f"{NETWORK}; l3net --version; ls /opt/cni/bin; l3net validate /etc/l3net/manifests"
    said, looked = run_twice(machine, provision("n2"), look)
    check_network(looked, "n2")
    assert "installing l3net" in said
    assert "l3net, version" in looked and "l3net-cni" in looked and "0 wrong" not in looked
    wants = machine.upper / "etc/systemd/system/multi-user.target.wants"
    units = {path.name for path in wants.iterdir() if path.name.startswith("l3net")}
    assert units == {
        "l3net-lab-network.service", "l3net-speaker.service", "l3net-agent.service", "l3net-bfd.service",
        "l3net-leave.service", "l3net-pod@web-2.service", "l3net-pod@shell-1.service",
    }  # fmt: skip
    source = machine.directory / "tree/l3net/__init__.py"
    source.write_text(source.read_text() + '\nLAB_PROOF = "new code"\n')
    again = machine.run(provision("n2") + "\n/opt/l3net/bin/python -c 'import l3net; print(l3net.LAB_PROOF)'")
    assert again.code == 0, again.output[-2000:]
    assert "new code" in again.output


@pytest.mark.soak
@pytest.mark.parametrize("host", ["n1", "n2"])
def test_kubernetes_node(any_machine: MachineRoot, host: str) -> None:
    """The first node makes the cluster and applies what belongs to it, another joins; no token is left."""
    machine = any_machine
    token = "abcdef.0123456789abcdef"  # noqa: S105 - of this test
    (machine.directory / "tree/vagrant/.token").write_text(token + "\n")
    repository = kubernetes_repository(machine.directory / "tree/.kubernetes")
    look = f"{NETWORK}; cat /var/log/stand-ins; ls /etc/kubernetes; apt-mark showhold"
    script = "export PATH=/vagrant/.kubernetes/bin:$PATH\n" + provision(host, kubernetes=1)
    if host != "n1":  # the API server it waits for
        server = (
            "ip link set lo up; ip address add 10.0.4.1/32 dev lo; python3 /vagrant/.kubernetes/api.py &\n"
        )
        script = script.replace("/vagrant/vagrant", server + "/vagrant/vagrant")
    environment = {"L3NET_K8S_REPOSITORY": f"file://{repository}/"}
    _, looked = run_twice(machine, script, look, **environment)
    calls = looked.splitlines()
    verb = "init" if host == "n1" else "join"
    assert [line for line in calls if line.startswith(f"kubeadm {verb}")] != []
    assert f"token: {token}" in looked.replace(
        "'", ""
    )  # in the configuration it was given, which is gone again
    assert not any(token in line for line in calls if line.startswith("kubeadm"))
    applied = [line for line in calls if line.startswith("kubectl apply")]
    assert bool(applied) is (host == "n1")
    assert {"kubeadm", "kubectl", "kubelet"} <= set(calls)  # held at their version
    # containerd must find no network before l3net's.
    assert not list((machine.upper / "etc/cni/net.d").glob("*.conf*"))
    left = subprocess.run(
        ["grep", "-rl", token, str(machine.upper), "--exclude-dir=log"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert left.stdout == ""


def test_wrong_use_is_said(machine: MachineRoot) -> None:
    """No such host, no such router: one line that says what to do, and nothing done."""
    ended = machine.run("/vagrant/vagrant/provision/machine.sh n9 frr 0")
    assert ended.code != 0 and "no host of this name" in ended.output and "vagrant-export" in ended.output
    ended = machine.run(provision("tor1", "quagga"))
    assert ended.code != 0 and "frr, bird or openbgpd" in ended.output
    assert shutil.which("vtysh", path=str(machine.upper / "usr/bin")) is None
