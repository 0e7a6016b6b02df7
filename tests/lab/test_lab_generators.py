"""Router configurations, manifests and pictures: golden files, loaded by the programs that read them.

`GOLDEN=write pytest tests/lab/test_lab_generators.py` renews the files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from l3net.lab.addressing import addressing
from l3net.lab.bird import bird_config
from l3net.lab.drawing import FORMATS
from l3net.lab.frr import frr_config
from l3net.lab.gobgp import gobgp_config
from l3net.lab.manifests import cluster_manifests, endpoint_slices, render, router_manifests
from l3net.lab.openbgpd import openbgpd_config
from l3net.lab.parse import parse_topology
from l3net.lab.routers import openbgpd_program
from l3net.lab.state import read_source
from l3net.lab.vyos import vyos_commands

GOLDEN = Path(__file__).parent.parent / "golden" / "lab"
TOPOLOGY = read_source(None).topology()


#: With a router that has no link, and one with a neighbor whose name is no symbol of BIRD's.
ODD = parse_topology(
    {
        "routers": [{"name": "top-1", "asNumber": 65001}, {"name": "lone", "asNumber": 65002}],
        "nodes": [{"name": "1-a"}],
        "links": [{"between": ["top-1", "1-a"]}],
    }
)


def _manifests(files: dict[str, list[dict[str, object]]]) -> str:
    return "---\n".join(f"# {name}\n{render(documents)}" for name, documents in files.items())


TEXTS = {
    "tor1.frr.conf": lambda: frr_config(TOPOLOGY, "tor1"),
    "tor1.bird.conf": lambda: bird_config(TOPOLOGY, "tor1"),
    "tor1.gobgpd.toml": lambda: gobgp_config(TOPOLOGY, "tor1"),
    "tor1.bgpd.conf": lambda: openbgpd_config(TOPOLOGY, "tor1"),
    "tor1.l3net.yaml": lambda: _manifests(router_manifests(TOPOLOGY, "tor1")),
    "cluster.yaml": lambda: _manifests(cluster_manifests(TOPOLOGY)),
    "slices.yaml": lambda: render(
        endpoint_slices(
            TOPOLOGY, {pod: TOPOLOGY.addresses("client") for pod in ("web-1", "web-2", "local-1")}
        )
    ),
    "n2.ip": lambda: addressing(TOPOLOGY, "n2"),
    "tor1.ip": lambda: addressing(TOPOLOGY, "tor1"),
    **{f"graph.{style}": (lambda draw=draw: draw(TOPOLOGY)) for style, draw in FORMATS.items()},
}


@pytest.mark.parametrize("name", TEXTS)
def test_golden(name: str) -> None:
    text, file = TEXTS[name](), GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("host", ["spine", "tor1", "tor2", "lone", "top-1"])
@pytest.mark.parametrize(
    ("generate", "argv", "spoil"),
    [
        pytest.param(frr_config, ["vtysh", "--dryrun", "--inputfile"], "router bpg 1\n", id="frr"),
        pytest.param(bird_config, ["bird", "-p", "-c"], "protocol bpg {}\n", id="bird"),
        pytest.param(gobgp_config, ["gobgpd", "--dry-run", "--config-file"], "[global.config\n", id="gobgp"),
        pytest.param(
            openbgpd_config, [openbgpd_program(), "-n", "-f"], "neighbour 10.0.0.1\n", id="openbgpd"
        ),
    ],
)
def test_routers_accept_their_configuration(generate, argv, spoil, host: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    if shutil.which(argv[0], path=os.environ["PATH"] + ":/usr/sbin") is None:
        pytest.skip(f"{argv[0]} is not installed")
    file = tmp_path / "config.toml"

    def load() -> subprocess.CompletedProcess[str]:
        return subprocess.run([*argv, str(file)], capture_output=True, text=True, check=False, timeout=20)

    text = generate(ODD if host in ODD.hosts else TOPOLOGY, host)
    file.write_text(text)
    file.chmod(0o600)  # OpenBGPD's must be its owner's alone
    done = load()
    assert done.returncode == 0, done.stdout + done.stderr
    # The control: the same check refuses a mistake.
    file.write_text(text.replace("end\n", spoil) if argv[0] == "vtysh" else text + spoil)
    assert load().returncode != 0


def test_what_vyos_is_told_refers_to_no_list_that_is_not_there() -> None:
    """VyOS refuses the whole commit; none is to be had in a test."""
    for topology, host in ((ODD, "lone"), (ODD, "top-1"), (TOPOLOGY, "tor1")):
        text = vyos_commands(topology, host)
        for kind, version in (("prefix-list", 4), ("prefix-list6", 6)):
            used = f"route-map links rule {version} match" in text
            assert used == (f"set policy {kind} links rule 1 prefix" in text), text
            assert used == (f"ipv{version}-unicast redistribute connected route-map 'links'" in text), text
    assert "route-map" not in vyos_commands(ODD, "lone")


def test_manifests_are_yaml_documents_with_names() -> None:
    for documents in cluster_manifests(TOPOLOGY).values():
        for document in yaml.safe_load_all(render(documents)):
            assert document["kind"]
            assert document["metadata"]["name"]


def test_every_session_has_a_peer_on_the_node_and_a_neighbour_on_the_router() -> None:
    peers = [d for d in cluster_manifests(TOPOLOGY)["bgp.yaml"] if d["kind"] == "BGPPeer"]
    declared = {(p["spec"]["nodes"][0], p["spec"]["address"]) for p in peers}  # type: ignore[index]
    expected = {(n.name, str(s.remote)) for n in TOPOLOGY.nodes for s in TOPOLOGY.sessions(n.name)}
    assert declared == expected
    for node, _ in expected:
        for session in TOPOLOGY.sessions(node):
            for text in (
                frr_config(TOPOLOGY, session.remote_host),
                bird_config(TOPOLOGY, session.remote_host),
                gobgp_config(TOPOLOGY, session.remote_host),
                openbgpd_config(TOPOLOGY, session.remote_host),
            ):
                assert str(session.local) in text


def test_pictures_show_every_host_and_link() -> None:
    for style, draw in FORMATS.items():
        picture = draw(TOPOLOGY)
        assert all(host in picture for host in TOPOLOGY.hosts), style
    assert FORMATS["dot"](TOPOLOGY).count(" -- ") == len(TOPOLOGY.links)
    assert FORMATS["mermaid"](TOPOLOGY).count(" ---|") == len(TOPOLOGY.links)
    assert FORMATS["svg"](TOPOLOGY).count("<line") == len(TOPOLOGY.links)
