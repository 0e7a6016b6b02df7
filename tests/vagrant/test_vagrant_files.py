"""The Vagrant lab's files: generated from the topology, accepted by the programs that read them.

No machine is started here. `make test-vm` boots one; boxes and hypervisors are not to be had in a test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from l3net.cli.lab import lab as lab_command
from l3net.cli.lab_export import write_export
from l3net.lab.addressing import addressing
from l3net.lab.errors import LabError, UnknownNameError
from l3net.lab.frr import frr_config
from l3net.lab.machine import Output
from l3net.lab.machines import machine_files
from l3net.lab.manifests import cluster_manifests
from l3net.lab.sshlab import SshLab, SshMachine
from l3net.lab.state import TopologySource, read_source
from l3net.lab.vyos import vyos_commands, vyos_interfaces

TREE = Path(__file__).parents[2]
VAGRANT = TREE / "vagrant"
SOURCE = read_source(None)
TOPOLOGY = SOURCE.topology()
FILES = machine_files(SOURCE)
SCRIPTS = ["vagrant/provision/machine.sh", "vagrant/provision/vyos.sh", "vagrant/machine/l3net-lab",
           "tools/install-packages", "tools/tree-hash"]  # fmt: skip


def test_what_is_committed_is_what_the_generator_writes() -> None:
    there = {
        str(path.relative_to(VAGRANT / "generated")): path.read_text()
        for path in (VAGRANT / "generated").rglob("*")
        if path.is_file()
    }
    assert there == FILES, "run `make docs`"


def test_what_a_check_puts_back_is_the_file_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else the next `vagrant provision` writes it again: `put` of common.sh compares text and mode."""
    there = tmp_path / "manifests"
    there.mkdir()

    def run(machine: SshMachine, argv: Sequence[str], text: str = "") -> Output:
        assert "/etc/l3net/manifests" in argv[-1]
        script = argv[-1].replace("/etc/l3net/manifests", str(there))
        subprocess.run([*argv[:-1], script], input=text, text=True, check=True, umask=0o022)
        return Output(0, "", "")

    monkeypatch.setattr(SshMachine, "run", run)
    hosts = {host: SshMachine(host, tmp_path, tmp_path) for host in TOPOLOGY.hosts}
    lab = SshLab(TOPOLOGY, hosts, kubernetes=False, vyos=frozenset())
    lab.set_nat_outgoing(True)
    assert (there / "pools.yaml").read_text() != FILES["plain/pools.yaml"], "the control"
    lab.set_nat_outgoing(None)
    lab.set_consistent(False)
    for name in ("pools.yaml", "services.yaml"):
        assert (there / name).read_text() == FILES[f"plain/{name}"]
        assert (there / name).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in there.iterdir()) == ["pools.yaml", "services.yaml"]


def test_both_labs_have_one_source() -> None:
    """Router configurations and peers are the namespace lab's own; routes differ by the default."""
    for router in TOPOLOGY.routers:
        assert FILES[f"{router.name}/frr.conf"] == frr_config(TOPOLOGY, router.name)
        assert FILES[f"{router.name}/network.ip"] == addressing(TOPOLOGY, router.name)
    peers = [d for d in cluster_manifests(TOPOLOGY)["bgp.yaml"] if d["kind"] == "BGPPeer"]
    for kind in ("plain", "kubernetes"):
        documents = list(yaml.safe_load_all(FILES[f"{kind}/bgp.yaml"]))
        assert [d for d in documents if d["kind"] == "BGPPeer"] == peers
    for node in TOPOLOGY.nodes:
        mine, theirs = FILES[f"{node.name}/network.ip"], addressing(TOPOLOGY, node.name)
        assert "default" not in mine and "0.0.0.0/0" not in mine
        kept = [line for line in theirs.splitlines() if not line.startswith("route")]
        assert mine.splitlines()[: len(kept)] == kept


def test_every_wire_has_two_ends_and_every_interface_one_mac() -> None:
    hosts = json.loads(FILES["lab.json"])["hosts"]
    ends = sorted((link["link"], link["end"]) for host in hosts.values() for link in host["links"])
    assert ends == [(n, end) for n in range(1, len(TOPOLOGY.links) + 1) for end in (0, 1)]
    macs = [line.split()[0] for name in hosts for line in FILES[f"{name}/interfaces"].splitlines()]
    assert len(set(macs)) == len(macs) == 2 * len(TOPOLOGY.links)
    for name, host in hosts.items():
        spelled = [f"02:6c:33:00:{link['link']:02x}:{link['end']:02x}" for link in host["links"]]
        assert [line.split()[0] for line in FILES[f"{name}/interfaces"].splitlines()] == spelled


def test_vyos_says_what_frr_says() -> None:
    """VyOS's own parser is not to be had: at least each session, address and AS of FRR's is there."""
    for router in TOPOLOGY.routers:
        text, frr = vyos_commands(TOPOLOGY, router.name), frr_config(TOPOLOGY, router.name)
        for neighbour, remote_as in re.findall(r"neighbor (\S+) remote-as (\d+)", frr):
            assert f"set protocols bgp neighbor {neighbour} remote-as '{remote_as}'" in text
        assert f"system-as '{router.as_number}'" in text
        names = vyos_interfaces(TOPOLOGY, router.name)
        for link in TOPOLOGY.links_of(router.name):
            end = link.end(router.name)
            for address in end.addresses:
                assert f"ethernet {names[end.interface]} address '{address}'" in text
        assert all(re.fullmatch(r"set( [\w.:/-]+)+( '[\w.:/-]+')?", line) for line in text.splitlines())


def test_what_is_applied_to_the_cluster() -> None:
    """Every block has a pool that only its node may use; only the topology's service ranges are announced."""
    pools = list(yaml.safe_load_all(FILES["kubernetes/pools.yaml"]))
    named = {
        (pool["spec"]["nodeSelector"]["matchLabels"]["kubernetes.io/hostname"], pool["spec"]["cidr"])
        for pool in pools
    }
    assert named == {(node.name, str(block)) for node in TOPOLOGY.nodes for block in node.blocks}
    configuration = next(yaml.safe_load_all(FILES["kubernetes/bgp.yaml"]))
    ranges = [str(cidr) for cidr in TOPOLOGY.service_cidrs]
    assert configuration["spec"]["advertise"]["clusterIPs"]["cidrs"] == ranges
    assert set(configuration["spec"]["serviceCIDRs"]) > set(ranges)
    init, cluster = yaml.safe_load_all(FILES["n1/kubeadm.yaml"])
    assert init["skipPhases"] == ["addon/kube-proxy"]
    assert cluster["networking"]["serviceSubnet"] == "10.97.0.0/16,fd00:10:97::/112"
    (join,) = yaml.safe_load_all(FILES["n3/kubeadm.yaml"])
    assert join["discovery"]["bootstrapToken"]["apiServerEndpoint"] == f"{TOPOLOGY.address('n1', 4)}:6443"


@pytest.mark.skipif(
    "L3NET_KUBEADM" not in os.environ, reason="L3NET_KUBEADM names no kubeadm (1.31 or newer)"
)
@pytest.mark.parametrize("host", ["n1", "n2"])
def test_kubeadm_accepts_its_configuration(host: str, tmp_path: Path) -> None:
    def validate(text: str) -> int:
        (tmp_path / "kubeadm.yaml").write_text(text)
        argv = [os.environ["L3NET_KUBEADM"], "config", "validate", "--config", str(tmp_path / "kubeadm.yaml")]
        return subprocess.run(argv, capture_output=True, check=False).returncode

    text = FILES[f"{host}/kubeadm.yaml"].replace("@TOKEN@", "abcdef.0123456789abcdef")
    assert validate(text) == 0
    assert validate(text.replace("nodeRegistration:", "nodeRegistrations:")) != 0


@pytest.mark.parametrize("kind", ["plain", "kubernetes"])
def test_manifests_are_valid(kind: str, tmp_path: Path) -> None:
    for name, text in FILES.items():
        if name.startswith(f"{kind}/"):
            (tmp_path / Path(name).name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "l3net.cli.main", "validate", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifest_of_the_cluster_names_image_and_server() -> None:
    done = subprocess.run(
        [sys.executable, str(VAGRANT / "provision/manifest.py"), "localhost/l3net:abc", "10.0.4.1"],
        input=(TREE / "deploy/l3net.yaml").read_text(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    before = [d for d in yaml.safe_load_all((TREE / "deploy/l3net.yaml").read_text()) if d]
    documents = list(yaml.safe_load_all(done.stdout))
    assert [(d["kind"], d["metadata"]["name"]) for d in documents] == [
        (d["kind"], d["metadata"]["name"]) for d in before
    ]
    containers = [
        container
        for d in documents
        for container in d.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    ]
    assert len(containers) >= 3
    for container in containers:
        assert (container["image"], container["imagePullPolicy"]) == ("localhost/l3net:abc", "Never")
        assert {"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.4.1"} in container["env"]


def test_topologies_of_one_family_and_what_machines_cannot_be() -> None:
    one = "routers: [{name: r, asNumber: 65001}]\nnodes: [{name: a}]\nlinks: [{between: [r, a]}]\n"
    six = machine_files(TopologySource(one + 'linkSupernets: ["fd00:10::/48"]\n', "t"))
    assert "10.0." not in six["a/network.ip"] and "fd00:10:0:1::1" in six["a/network.ip"]
    small = one.replace("{name: a}", '{name: a, blocks: ["10.244.1.0/29"]}')
    with pytest.raises(LabError, match="larger block"):
        machine_files(TopologySource(small, "t"))
    with pytest.raises(LabError, match="kubeadm's own"):
        machine_files(TopologySource(one + "linkSupernets: [10.97.0.0/16]\n", "t"))


def test_an_export_replaces_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "out"
    write_export(directory, {"lab.json": json.dumps({"files": ["old/x"]}), "old/x": "1"})
    assert write_export(directory, {"lab.json": json.dumps({"files": ["y"]}), "y": "2"}) == 1
    assert sorted(path.name for path in directory.iterdir()) == ["lab.json", "y"]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    with pytest.raises(LabError, match="neither empty nor an export"):
        write_export(tmp_path / "precious", {"lab.json": "{}"})


def _tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: `make setup-test` installs it"
    return found


def _vagrant(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Vagrant that finds no home, keeps nothing in the tree and asks nobody for news."""
    own = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot"),
           "VAGRANT_CHECKPOINT_DISABLE": "1", "HOME": str(tmp_path), "VAGRANT_NO_COLOR": "1"}  # fmt: skip
    return subprocess.run(
        [_tool("vagrant"), *arguments], cwd=VAGRANT, capture_output=True, text=True, check=False,
        env={**os.environ, **own, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "settings"),
    [
        ("libvirt", {}),
        (
            "libvirt",
            {
                "VAGRANT_ROUTER": "vyos",
                "L3NET_K8S": "0",
                "L3NET_NODE_MEMORY": "4096",
                "L3NET_CPUS": "2",
                "L3NET_DRIVER": "qemu",
                "VAGRANT_BOX": "l3net/lab",
            },
        ),
    ],
)
def test_vagrant_accepts_the_vagrantfile(tmp_path: Path, provider: str, settings: dict[str, str]) -> None:
    done = _vagrant(tmp_path, "validate", VAGRANT_DEFAULT_PROVIDER=provider, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (VAGRANT / ".token").exists()


def test_vagrant_accepts_it_for_virtualbox_as_far_as_it_looks(tmp_path: Path) -> None:
    """VirtualBox is not in Debian: without it Vagrant checks all but the provider's own settings."""
    done = _vagrant(tmp_path, "validate", "--ignore-provider", VAGRANT_DEFAULT_PROVIDER="virtualbox")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"VAGRANT_ROUTER": "quagga"}, "VAGRANT_ROUTER=quagga: it is one of frr, bird, openbgpd, vyos"),
        ({"L3NET_MEMORY": "lots"}, "L3NET_MEMORY=lots: it is a whole number from"),
        ({"L3NET_K8S": "yes"}, "L3NET_K8S=yes"),
        ({"L3NET_DRIVER": "xen"}, "L3NET_DRIVER=xen: it is one of kvm, qemu"),
    ],
)
def test_vagrant_says_what_is_wrong_with_a_setting(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    done = _vagrant(tmp_path, "validate", VAGRANT_DEFAULT_PROVIDER="libvirt", **settings)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_ruby_accepts_the_vagrantfile(tmp_path: Path) -> None:
    def check(path: Path) -> int:
        return subprocess.run([_tool("ruby"), "-c", str(path)], capture_output=True, check=False).returncode

    assert check(VAGRANT / "Vagrantfile") == 0
    (tmp_path / "Vagrantfile").write_text((VAGRANT / "Vagrantfile").read_text() + "end\n")
    assert check(tmp_path / "Vagrantfile") != 0


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    """What machine.sh reads is checked with it."""
    argv = [_tool("shellcheck"), "--external-sources"]
    done = subprocess.run([*argv, *SCRIPTS], cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    read = set(re.findall(r"provision/(\w+\.sh)", (TREE / SCRIPTS[0]).read_text()))
    assert read == {path.name for path in (VAGRANT / "provision").glob("*.sh")} - {"machine.sh", "vyos.sh"}
    (tmp_path / "bad.sh").write_text("#!/bin/sh\nrm -rf $1/x\n")
    assert subprocess.run([*argv, str(tmp_path / "bad.sh")], capture_output=True, check=False).returncode == 1


def test_links_are_waited_for_and_not_only_ordered() -> None:
    """`After=` alone waits for nothing that nobody starts: udev loads the drivers meanwhile."""
    unit = (VAGRANT / "provision" / "network.sh").read_text().partition("l3net-lab-network.service <<EOT")[2]
    fields = dict(line.split("=", 1) for line in unit.partition("\nEOT")[0].splitlines() if "=" in line)
    assert "systemd-udev-settle.service" in fields["After"].split()
    assert set(fields["After"].split()) <= set(fields["Wants"].split())


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_interface_that_is_missing_keeps_no_other_down(tmp_path: Path) -> None:
    """After a topology with a link more, of a machine that has the interfaces it was made with."""
    program = (VAGRANT / "machine" / "l3net-lab").read_text().replace("/etc/l3net-lab", str(tmp_path))
    (tmp_path / "program").write_text(program)
    (tmp_path / "host").write_text("spine\n")
    (tmp_path / "sysctl.conf").write_text("")
    links = {"tor1": ("02:6c:33:00:02:00", "10.0.2.0/31"), "tor3": ("02:6c:33:00:08:00", "10.0.8.0/31"),
             "tor2": ("02:6c:33:00:03:00", "10.0.3.0/31")}  # fmt: skip
    (tmp_path / "interfaces").write_text("".join(f"{mac} {name}\n" for name, (mac, _) in links.items()))
    (tmp_path / "network.ip").write_text(
        "".join(
            f"address replace {address} dev {name}\nlink set dev {name} up\n"
            for name, (_, address) in links.items()
        )
    )
    wanted = f"sh {tmp_path}/program network; echo exit code $?; ip -br address"
    steps = [
        "mount -t sysfs none /sys",
        *(
            f"ip link add eth{number} address {links[name][0]} type veth peer name far{number}"
            for number, name in enumerate(("tor1", "tor2"))
        ),
        wanted,
        f"ip link add eth2 address {links['tor3'][0]} type veth",
        wanted,
    ]
    argv = ["unshare", "--net", "--mount", "sh", "-c", "; ".join(steps)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True)
    first, _, second = said.stdout.partition("exit code 1")[2].partition("exit code ")
    assert "10.0.2.0/31" in first and "10.0.3.0/31" in first and "10.0.8.0/31" not in first, said
    assert "no interface for: tor3 (02:6c:33:00:08:00)." in said.stderr, said
    assert "'vagrant destroy -f spine'" in said.stderr
    assert second.startswith("0\n") and "10.0.8.0/31" in second, "the control"


@pytest.mark.parametrize("named", [("--node", "n9"), ("--router", "n1"), ("--link", "n1,tor2")])
def test_a_name_is_looked_up_before_a_machine_is_asked(named: tuple[str, str], tmp_path: Path) -> None:
    config, asked = tmp_path / "ssh", tmp_path / "asked"
    config.write_text(f"Host *\n  ProxyCommand touch {asked}\n")
    argv = ["break", "--ssh-config", str(config), "--topology", str(VAGRANT / "generated/topology.yaml")]
    result = CliRunner().invoke(lab_command, [*argv, *named])
    assert isinstance(result.exception, UnknownNameError), result.output
    assert not asked.exists()
    assert CliRunner().invoke(lab_command, [*argv, "--node", "n1"]).exit_code
    assert asked.exists(), "the control"
