"""What is decided of a node's move: ledgers, obstacles, files, journal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from l3net.attach.migration import STOPPING, undisturbed
from l3net.cli.main import PipeClosedError
from l3net.cli.migrate import _steadfast, say
from l3net.errors import ConfigError
from l3net.ipam.lease import PodName
from l3net.migrating.journal import VERSION, BridgeBefore, Journal, PodBefore, decoded, encoded
from l3net.migrating.ledgers import Attachment, by_address, cached, calico_block
from l3net.migrating.planning import SeenPort, plan, put_aside
from l3net.shell.files.cniledgers import of_cache, of_calico, of_host_local
from l3net.shell.files.journalfile import read_journal, write_journal

BLOCKS = (ip_network("10.244.1.0/24"), ip_network("fd00:10:244:1::/120"))
#: As libcni 1.x writes it for an attachment by bridge and portmap.
CACHED: dict[str, Any] = {
    "kind": "cniCacheV1",
    "containerId": "c1",
    "config": "e30=",
    "ifName": "eth0",
    "networkName": "cbr0",
    "netns": "/run/netns/c1",
    "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web-0"]],
    "capabilityArgs": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}]},
    "result": {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "cbr0"}, {"name": "eth0", "sandbox": "/run/netns/other"}],
        "ips": [{"address": "10.244.1.5/24", "interface": 1}, {"address": "fd00:10:244:1::5/120"}],
    },
}


def port(*addresses: str, **more: Any) -> SeenPort:
    found = tuple(map(ip_interface, addresses))
    seen = SeenPort("/run/netns/x", "eth0", 2, "0a:58:00:00:00:01", 7, "veth1", "cni0", found)
    return replace(seen, **more)


def known(*attachments: Attachment) -> Any:
    return by_address(attachments)


def attachment(*addresses: str, **more: Any) -> Attachment:
    found = Attachment("cbr0", "c1", "eth0", tuple(map(ip_address, addresses)), PodName("shop", "web-0"))
    return replace(found, **more)


# --- ledgers -----------------------------------------------------------------------------------------------


def test_libcni_tells_pod_address_namespace_and_ports() -> None:
    found = cached(CACHED)
    assert found == Attachment(
        "cbr0",
        "c1",
        "eth0",
        (ip_address("10.244.1.5"), ip_address("fd00:10:244:1::5")),
        PodName("shop", "web-0"),
        "/run/netns/c1",
        ("8080/tcp",),
    )
    older = {key: value for key, value in CACHED.items() if key != "netns"}
    told = cached(older)
    assert told is not None and told.netns == "/run/netns/other", "as the result says"
    ancient = {**older, "result": {"ip4": {"ip": "10.244.1.5/24"}}, "cniArgs": None}
    told = cached(ancient)
    assert told is not None and (told.addresses, told.pod) == ((ip_address("10.244.1.5"),), PodName())
    assert cached({**CACHED, "kind": "other"}) is None
    assert cached({**CACHED, "ifName": "lo"}) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"containerId": None},
        {"result": None},
        {"result": {"ips": [{"address": "10.244.1.500/24"}]}},
        {"result": {"ips": [{}]}},
        {"result": {"ips": ["x"]}},
    ],
)
def test_a_damaged_entry_of_the_cache_is_passed_over_with_its_name(
    damage: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "good").write_text(json.dumps(CACHED))
    (tmp_path / "bad").write_text(json.dumps({**CACHED, **damage}))
    (tmp_path / "worse").write_text("{")
    found, wrong = of_cache(tmp_path)
    assert [each.container_id for each in found] == ["c1"]
    assert [each.split(":")[0] for each in wrong] == [str(tmp_path / "bad"), str(tmp_path / "worse")]
    assert of_cache(tmp_path / "none") == ([], [])


def test_host_local_tells_containers(tmp_path: Path) -> None:
    directory = tmp_path / "cbr0"
    directory.mkdir()
    (directory / "10.244.1.5").write_text("c1\r\neth0")
    (directory / "fd00_10_244_1__5").write_text("c1\neth0")
    (directory / "lock").write_text("")
    (directory / "last_reserved_ip.0").write_text("10.244.1.5")
    found = by_address(of_host_local(directory))
    assert {str(key): each.container_id for key, (each,) in found.items()} == {
        "10.244.1.5": "c1",
        "fd00:10:244:1::5": "c1",
    }


def test_calico_tells_pods_by_handles_and_not_its_tunnel() -> None:
    block = {
        "kind": "IPAMBlock",
        "metadata": {"name": "10-244-1-0-26"},
        "spec": {
            "cidr": "10.244.1.0/26",
            "allocations": [0, None, 1, 7, *[None] * 60, 1],
            "attributes": [
                {"handle_id": "vxlan-tunnel-addr-n1", "secondary": {"node": "n1"}},
                {"handle_id": "k8s-pod-network.c2", "secondary": {"namespace": "shop", "pod": "web-1"}},
            ],
        },
    }
    (found,) = calico_block(block)
    assert (str(found.addresses[0]), found.container_id, str(found.pod)) == ("10.244.1.2", "c2", "shop/web-1")
    broken = {**block, "spec": {"cidr": "x"}}
    attachments, wrong = of_calico([{"kind": "List", "items": [broken, block, {"kind": "Node"}]}, None])
    assert [each.container_id for each in attachments] == ["c2"]
    assert len(wrong) == 1 and wrong[0].startswith("IPAMBlock 10-244-1-0-26: spec.cidr")


def test_what_one_ledger_leaves_out_another_fills_in() -> None:
    bare = Attachment("cbr0", "c1", "eth0", (ip_address("10.244.1.5"),))
    full = cached(CACHED)
    assert full is not None
    for order in ((bare, full), (full, bare)):
        (found,) = by_address(order)[ip_address("10.244.1.5")]
        assert (str(found.pod), found.netns, found.ports) == ("shop/web-0", "/run/netns/c1", ("8080/tcp",))
    other = replace(bare, container_id="c9")
    assert [each.container_id for each in by_address((full, other))[ip_address("10.244.1.5")]] == ["c1", "c9"]


# --- decisions ---------------------------------------------------------------------------------------------


def test_a_pod_of_the_blocks_is_moved_with_its_addresses() -> None:
    seen = port("10.244.1.5/24", "fd00:10:244:1::5/120")
    found = plan(
        "n1", BLOCKS, [seen], known(attachment("10.244.1.5")), ["10-old.conflist"], "05-l3net.conflist"
    )
    (move,) = found.moves
    assert found.possible and (found.bridges, found.aside) == (("cni0",), ("10-old.conflist",))
    assert [(str(each.address), each.prefix_length, str(each.gateway)) for each in move.lease.addresses] == [
        ("10.244.1.5", 32, "10.244.1.1"),
        ("fd00:10:244:1::5", 128, "fd00:10:244:1::1"),
    ]
    assert (move.pod, move.lease.key.network) == ("shop/web-0", "l3net")


@pytest.mark.parametrize(
    ("seen", "told", "why"),
    [
        (port("10.244.1.1/24"), attachment("10.244.1.1"), "gateway"),
        (port("10.244.1.0/24"), attachment("10.244.1.0"), "first or last"),
        (port("10.244.1.255/24"), attachment("10.244.1.255"), "first or last"),
        (port("10.244.1.5/24", "10.9.0.5/24"), attachment("10.244.1.5"), "10.9.0.5 is in no block"),
        (port("10.244.1.5/24"), attachment("10.244.1.6"), "no ledger"),
        (port("10.244.1.5/24", programs=True), attachment("10.244.1.5"), "programs"),
        (port("10.244.1.5/24"), attachment("10.244.1.5", ports=("80/tcp",)), "80/tcp"),
    ],
)
def test_what_cannot_be_moved_is_named(seen: SeenPort, told: Attachment, why: str) -> None:
    found = plan("n1", BLOCKS, [seen], known(told), (), "05-l3net.conflist")
    (obstacle,) = found.obstacles
    assert not found.possible and not found.moves
    assert why in obstacle.why and obstacle.remedy


def test_of_several_containers_that_claim_an_address_the_namespace_decides() -> None:
    """The cache of libcni keeps entries of pods that were never deleted in order."""
    stale = attachment("10.244.1.5", container_id="old", netns="/run/netns/gone")
    true = attachment("10.244.1.5", container_id="new", netns="/run/netns/x")
    for order in ((stale, true), (true, stale)):
        found = plan("n1", BLOCKS, [port("10.244.1.5/24")], known(*order), (), "05-l3net.conflist")
        assert [move.lease.key.container_id for move in found.moves] == ["new"]
    unknown = replace(true, netns="")
    for claims in ((stale,), (unknown, replace(unknown, container_id="third"))):
        found = plan("n1", BLOCKS, [port("10.244.1.5/24")], known(*claims), (), "05-l3net.conflist")
        assert not found.moves and "no ledger knows" in found.obstacles[0].why


def test_two_pods_with_one_address_are_in_the_way() -> None:
    claims = known(
        attachment("10.244.1.5", container_id="a", pod=PodName("shop", "a")),
        attachment("10.244.1.6", container_id="b", pod=PodName("shop", "b")),
    )
    ports = [port("10.244.1.5/24"), port("10.244.1.6/24", "10.244.1.5/24", outer=8)]
    found = plan("n1", BLOCKS, ports, claims, (), "05-l3net.conflist")
    assert [each.why for each in found.obstacles] == ["10.244.1.5 is an address of shop/a too"]


def test_others_are_left_and_a_node_of_l3nets_is_not_moved() -> None:
    docker, ours = port("172.17.0.2/16"), port("10.244.1.9/32", ours=True)
    found = plan("n1", BLOCKS, [docker], {}, (), "05-l3net.conflist")
    assert (found.possible, found.others) == (True, (docker,))
    found = plan("n1", BLOCKS, [docker, ours], {}, (), "05-l3net.conflist")
    assert [each.what for each in found.obstacles] == ["1 pods of l3net"]
    assert not plan("n1", (), [], {}, (), "x").possible, "a node without a block cannot be moved"


def test_the_runtime_takes_l3nets_file_then() -> None:
    files = ["10-old.conflist", "87-podman.conflist", "README", "05-l3net.conflist", "10-old.conflist.bak"]
    assert put_aside(files, "05-l3net.conflist") == ("10-old.conflist",)
    assert put_aside(["05-cilium.conflist", "00-multus.conf"], "05-l3net.conflist") == (
        "00-multus.conf",
        "05-cilium.conflist",
    )
    assert put_aside(["99-loopback.conf"], "05-l3net.conflist") == ("99-loopback.conf",)


# --- the journal -------------------------------------------------------------------------------------------

POD = PodBefore(
    *("c1", "eth0", "shop/web-0", "/run/netns/x", 2, "0a:58:00:00:00:01", 7, "veth1", "l3v1", ""),
    *("cni0", False, True, True, ("10.244.1.5",), ("10.244.1.5/24",), ("0200",), ()),
)
JOURNAL = Journal(
    *("n1", "moving", 1.5, (POD,), (BridgeBefore("cni0", 3, ("10.244.1.1/24",), ("0a",)),)),
    (("10-old.conflist", "10-old.conflist.before-l3net"),),
)


def test_the_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_journal(tmp_path) is None
    write_journal(tmp_path, JOURNAL)
    assert read_journal(tmp_path) == JOURNAL
    assert (tmp_path / "migration.json").stat().st_mode & 0o777 == 0o600
    assert decoded(encoded(JOURNAL.at("moved"))).state == "moved"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", "\xff", '{"version": 99}', encoded(JOURNAL).replace('"outer"', '"x"')],
)
def test_a_journal_that_cannot_be_read_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    (tmp_path / "migration.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"migration\.json: the journal is"):
        read_journal(tmp_path)


@pytest.mark.parametrize("error", [PipeClosedError(), OSError(5, "Input/output error")])
def test_a_reader_that_is_gone_stops_no_move(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """`| head` did, with half of the pods moved: what was said about it raised again, before they were put
    back."""

    def gone(_text: str) -> None:
        raise error

    monkeypatch.setattr("l3net.cli.migrate.click.echo", gone)
    say("moved shop/web-0")


def test_a_terminal_that_is_gone_is_as_a_ctrl_c() -> None:
    before = {each: signal.signal(each, signal.SIG_DFL) for each in STOPPING}
    try:
        _steadfast(STOPPING)
        for each in STOPPING:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(each)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_signals_wait_while_all_is_put_back_and_commands_do_not_ignore_them() -> None:
    """An ignored signal is inherited by each command, and by the daemon that it starts."""
    with undisturbed():
        for each in STOPPING:
            os.kill(os.getpid(), each)
        told = subprocess.run(
            ["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True
        )
    ignored = int(told.stdout.split()[1], 16)
    assert not [each for each in STOPPING if ignored >> (each - 1) & 1]


def test_versions_count() -> None:
    assert VERSION == 1
    with pytest.raises(ConfigError, match="version 2"):
        decoded(encoded(JOURNAL).replace('"version": 1', '"version": 2'))
