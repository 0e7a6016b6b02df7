"""What docs/bgp.md tells people to paste: through FRR's, BIRD's and OpenBGPD's own parsers, and ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from l3net.agent.declared import take
from l3net.bgp.impact import IMPACT, Impact
from l3net.bgp.verdict import Verdict
from l3net.lab.routers import openbgpd_program
from l3net.model import ClusterState
from l3net.ports import Changed, Rejected
from l3net.shell.manifests.tree import ManifestTree

DOCUMENT = Path(__file__).parents[2] / "docs" / "bgp.md"
SCHEMAS = DOCUMENT.parents[1] / "l3net" / "kube" / "schemas"
TEXT = DOCUMENT.read_text()
#: What a router has anyway.
BIRD_PREAMBLE = "router id 10.0.1.1;\nprotocol device { }\n"


def fences(language: str) -> list[tuple[int, str]]:
    """(line, text) of each fenced block of a language."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [(TEXT[: each.start()].count("\n") + 1, each[1]) for each in found]


def blocks(language: str) -> pytest.MarkDecorator:
    found = fences(language)
    assert found, f"no {language} in {DOCUMENT.name}"
    return pytest.mark.parametrize("text", [t for _, t in found], ids=[f"line{n}" for n, _ in found])


def frr_says(text: str, directory: Path) -> tuple[int, str]:
    if shutil.which("vtysh") is None:
        pytest.skip("needs frr")
    (directory / "vtysh.conf").touch()
    file = directory / "frr.conf"
    file.write_text(text)
    argv = ["vtysh", "--dryrun", "--config_dir", str(directory), "--inputfile", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def bird_says(text: str, directory: Path) -> tuple[int, str]:
    bird = shutil.which("bird", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if bird is None:
        pytest.skip("needs bird2")
    file = directory / "bird.conf"
    file.write_text(BIRD_PREAMBLE + text)
    done = subprocess.run([bird, "-p", "-c", str(file)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def openbgpd_says(text: str, directory: Path) -> tuple[int, str]:
    program = openbgpd_program()
    if not Path(program).exists():
        pytest.skip("needs openbgpd")
    file = directory / "bgpd.conf"
    file.write_text(text)
    file.chmod(0o600)  # it refuses a file that others can read
    done = subprocess.run([program, "-n", "-f", str(file)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@blocks("frr")
def test_frr_takes_it(text: str, tmp_path: Path) -> None:
    code, words = frr_says(text, tmp_path)
    assert code == 0, words
    assert "%" not in words, words


def test_frr_would_say_so(tmp_path: Path) -> None:
    """The control."""
    code, words = frr_says("router bgp 65001\n neighbor 10.0.1.2 no-such-word\n", tmp_path)
    assert code != 0 or "%" in words


@blocks("bird")
def test_bird_takes_it(text: str, tmp_path: Path) -> None:
    code, words = bird_says(text, tmp_path)
    assert code == 0, words


def test_bird_would_say_so(tmp_path: Path) -> None:
    """The control."""
    assert bird_says("protocol bgp n1 { no such word; }\n", tmp_path)[0] != 0


@blocks("openbgpd")
def test_openbgpd_takes_it(text: str, tmp_path: Path) -> None:
    code, words = openbgpd_says(text, tmp_path)
    assert code == 0, words


def test_openbgpd_would_say_so(tmp_path: Path) -> None:
    """The control."""
    assert openbgpd_says("AS 65001\nneighbor 10.0.1.2 { no-such-word }\n", tmp_path)[0] != 0


def read(text: str, directory: Path) -> tuple[ClusterState, list[str]]:
    (directory / "manifests.yaml").write_text(text)
    state, rejected = ClusterState(), []
    for event in ManifestTree(directory).look():
        if isinstance(event, Changed):
            take(state, event)
        elif isinstance(event, Rejected):
            rejected.append(str(event))
    return state, rejected


@blocks("yaml")
def test_our_own_validation_takes_it(text: str, tmp_path: Path) -> None:
    _, rejected = read(text, tmp_path)
    assert rejected == []


def test_our_own_validation_would_say_so(tmp_path: Path) -> None:
    """The control."""
    text = fences("yaml")[0][1].replace("asNumber", "asNumbre")
    assert read(text, tmp_path)[1] != []


def test_every_field_of_a_peer_is_told_of() -> None:
    schema = yaml.safe_load((SCHEMAS / "bgppeers.yaml").read_text())
    version = schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields = version["properties"]["spec"]["properties"]
    assert len(fields) > 20
    assert [name for name in fields if name != "bfd" and name not in TEXT] == []


@pytest.mark.parametrize("kind", ["bgppeers", "bgpconfigurations"])
def test_whom_the_multiplier_of_bfd_is_for(kind: str) -> None:
    """RFC 5880 section 6.8.4: the detection time comes of the multiplier that the peer sends."""
    schema = (SCHEMAS / f"{kind}.yaml").read_text()
    told = " ".join(re.findall(r"\n +multiplier:\n(.*?)\n +passive:", schema, re.DOTALL)[0].split())
    assert "after which the peer declares this node down" in told


def test_every_reason_a_route_is_refused_for_is_told_of() -> None:
    elsewhere = {Verdict.ACCEPTED, Verdict.MAX_PREFIXES}
    for verdict in set(Verdict) - elsewhere:
        assert f"`{verdict.value}" in TEXT, verdict


def test_no_field_that_resets_is_called_soft() -> None:
    resets = TEXT.split("| `reset` |")[1].split("\n")[0]
    told = {
        "families": "families",
        "hold_time": "holdTime",
        "graceful_restart": "gracefulRestart",
        "passive": "passive",
        "gtsm": "gtsm",
        "multihop": "multihop",
        "password": "password",
        "local_address": "localAddress",
        "source_interface": "sourceInterface",
        "add_path": "addPath",
    }
    for field, word in told.items():
        assert IMPACT[field] is Impact.RESET
        assert f"`{word}`" in resets
    soft = TEXT.split("| `soft` |")[1].split("\n")[0]
    for field, word in {
        "next_hop_mode": "nextHopMode",
        "max_prefixes": "maxPrefixes",
        "third_party_next_hops": "thirdPartyNextHops",
    }.items():
        assert IMPACT[field] is Impact.SOFT
        assert f"`{word}`" in soft
