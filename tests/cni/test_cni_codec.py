"""The pure parts: requests, results of every version, ranges, frames, names, the thin client's copies."""

from __future__ import annotations

import json
import re
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.cni.check import SeenPod, SeenPort, problems
from l3net.cni.extras import (
    Bandwidth,
    Extras,
    PublishedPort,
    bandwidth,
    delete_commands,
    published_ports,
    put_script,
)
from l3net.cni.failure import CniError
from l3net.cni.frame import (
    ANSWER_HEADER,
    MAGIC,
    Answer,
    Call,
    decode_answer,
    decode_call,
    encode_answer,
    encode_call,
)
from l3net.cni.host_end import alias_of, lease_of_alias, mac_for
from l3net.cni.ifname import host_ifname
from l3net.cni.parts import Sandbox, facts_of
from l3net.cni.request import MAX_STDIN, Request, parse_args, parse_request
from l3net.cni.result import AssignedAddress, Interface, PodRoute, Result, decode_result, encode_result
from l3net.cni.setup import NodeNetwork, asked_mac, node_setup, sticky_owner
from l3net.cni.versions import SUPPORTED
from l3net.ipam.lease import Lease, LeasedAddress, LeaseKey, PodName
from l3net.ipam.ranges import block_range, bounds

CLIENT = Path(__file__).parents[2] / "plugin" / "l3net-cni.c"
FULL = Result(
    (Interface("l3net0", "02:00:00:00:00:01", mtu=1500), Interface("eth0", "0a:58:0a:f4:01:02", "/ns", 1500)),
    (
        AssignedAddress(ip_interface("10.244.1.2/32"), ip_address("10.244.1.1"), 1),
        AssignedAddress(ip_interface("fd00::2/128"), ip_address("fd00::1"), 1),
    ),
    (
        PodRoute(ip_network("0.0.0.0/0"), ip_address("10.244.1.1")),
        PodRoute(ip_network("10.244.1.1/32"), scope=253),
    ),
    {"nameservers": ["192.0.2.53"]},
)


@pytest.mark.parametrize("version", [each for each in SUPPORTED if each > "0.3"])
def test_results_survive_the_round_trip(version: str) -> None:
    encoded = encode_result(FULL, version)
    decoded = decode_result(json.loads(json.dumps(encoded)))
    assert decoded.addresses == FULL.addresses and decoded.dns == FULL.dns
    assert ("version" in encoded["ips"][0]) == (version < "1")
    assert ("mtu" in encoded["interfaces"][0]) == (version == "1.1.0")
    assert ("scope" in encoded["routes"][1]) == (version == "1.1.0")
    if version == "1.1.0":
        assert decoded == FULL


def test_the_oldest_shape() -> None:
    encoded = encode_result(FULL, "0.2.0")
    assert encoded["ip4"]["ip"] == "10.244.1.2/32" and encoded["ip6"]["gateway"] == "fd00::1"
    assert "interfaces" not in encoded
    assert [entry.address for entry in decode_result(encoded).addresses] == [
        a.address for a in FULL.addresses
    ]


@pytest.mark.parametrize(
    "bad",
    [
        {"ips": [{}]},
        {"ips": [{"address": "x"}]},
        {"ips": 3},
        {"interfaces": [{}]},
        {"routes": [{"dst": 1.5}]},
    ],
)
def test_bad_results(bad: dict[str, Any]) -> None:
    with pytest.raises(CniError):
        decode_result(bad)


def environment(**changes: str) -> dict[str, str]:
    found = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/ns", "CNI_IFNAME": "eth0"}
    return {key: value for key, value in (found | changes).items() if value}


CONF = {"cniVersion": "1.0.0", "name": "net", "type": "l3net-cni"}


@pytest.mark.parametrize(
    ("changes", "stdin", "code"),
    [
        ({"CNI_COMMAND": "add"}, CONF, 4),
        ({"CNI_NETNS": ""}, CONF, 4),
        ({"CNI_CONTAINERID": "a\nb"}, CONF, 4),
        ({"CNI_CONTAINERID": "é"}, CONF, 4),
        ({"CNI_IFNAME": "é" * 8}, CONF, 4),  # sixteen bytes
        ({"CNI_ARGS": "A"}, CONF, 4),
        ({"CNI_ARGS": "A=b\nC=d"}, CONF, 4),
        ({}, CONF | {"cniVersion": "1.2.0"}, 1),
        ({}, CONF | {"cniVersion": 1}, 6),
        ({}, CONF | {"name": "a/b"}, 7),
        ({"CNI_COMMAND": "GC", "CNI_PATH": "/x"}, CONF, 1),
    ],
)
def test_refused_requests(changes: dict[str, str], stdin: dict[str, Any], code: int) -> None:
    with pytest.raises(CniError) as refused:
        parse_request(environment(**changes), json.dumps(stdin).encode())
    assert refused.value.code == code


def test_deeply_nested_input() -> None:
    for text in ('{"a":' * 200000, "[" * 200000):
        with pytest.raises(CniError) as refused:
            parse_request(environment(), text.encode())
        assert refused.value.code == 6


@given(st.binary(max_size=200))
def test_no_input_surprises_the_parser(data: bytes) -> None:
    try:
        parse_request(environment(), data)
    except CniError as err:
        assert err.code in {1, 6, 7}


@given(
    st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text("ab=;é ", max_size=9)), st.binary()
)
def test_frames_survive_the_round_trip(variables: dict[str, str], stdin: bytes) -> None:
    call = Call(variables, stdin, 2)
    assert decode_call(encode_call(call)) == call
    answer = Answer(3, stdin)
    assert decode_answer(encode_answer(answer)) == answer


@given(st.binary(max_size=64))
def test_torn_frames_are_refused(data: bytes) -> None:
    whole = encode_call(Call({"A": "b"}, b"x" * 40))
    for frame in (whole[: 16 + len(data) % 40], whole + b"y"):
        with pytest.raises(CniError):
            decode_call(frame)


def test_the_thin_client_agrees() -> None:
    """Constants the C program repeats."""
    source = CLIENT.read_text()
    assert f"#define MAGIC 0x{MAGIC:X}u" in source
    assert f"#define MAX_STDIN ({MAX_STDIN >> 20}u << 20)" in source
    listed = re.findall(r'\\"(\d+\.\d+\.\d+)\\"', source[source.index("supportedVersions") :])
    assert tuple(listed[: len(SUPPORTED)]) == SUPPORTED
    assert ANSWER_HEADER.size == 12


def test_names() -> None:
    one, two = LeaseKey("n", "c", "eth0"), LeaseKey("n", "c", "eth1")
    assert host_ifname(one) == host_ifname(LeaseKey("n", "c", "eth0")) != host_ifname(two)
    assert re.fullmatch(r"l3v[0-9a-f]{11}", host_ifname(one))
    assert mac_for([ip_address("fd00::2"), ip_address("10.244.1.2")]) == "0a:58:0a:f4:01:02"
    assert mac_for([ip_address("fd00::2")]) != mac_for([ip_address("fd00::3")])
    lease = Lease(
        one, 7, (LeasedAddress(ip_address("10.244.1.2"), 32), LeasedAddress(ip_address("fd00::2"), 128))
    )
    read = lease_of_alias(alias_of(lease), "l3v1")
    assert read and (read.key, read.addresses) == (lease.key, lease.addresses)
    assert alias_of(Lease(LeaseKey("n", "c" * 250, "eth0"), 1, lease.addresses)) == ""
    assert lease_of_alias("somebody else's", "x") is None


def test_sticky_owners() -> None:
    assert sticky_owner(PodName("ns", "db-0")) == "ns/db-0"
    assert (
        sticky_owner(PodName("ns", "web-7d4b9-x2x"))
        == sticky_owner(PodName("ns", "web"))
        == sticky_owner(PodName())
        == ""
    )


def request(**conf: Any) -> Request:
    return Request("ADD", "1.0.0", "net", CONF | conf, "c1", "eth0", "/ns")


@pytest.mark.parametrize("mac", ["01:00:00:00:00:00", "x", "02:00:00:00:00", "02:00:00:00:00:100"])
def test_bad_macs(mac: str) -> None:
    with pytest.raises(CniError):
        asked_mac(request(runtimeConfig={"mac": mac}))


def test_check_tolerates_only_what_prev_result_dropped() -> None:
    node = NodeNetwork((ip_network("10.244.1.0/24"),), 1500)
    setup = node_setup(request(), node)
    lease = Lease(
        LeaseKey("net", "c1", "eth0"),
        1,
        (LeasedAddress(ip_address("10.244.1.2"), 32, ip_address("10.244.1.1")),),
    )
    plan = Sandbox.wanted(facts_of(setup, request(), lease))
    port = SeenPort(True, "l3net0", True, False)
    pod = SeenPod(True, frozenset({"10.244.1.2/32"}), frozenset({("10.244.1.1/32", "")}))
    default = PodRoute(ip_network("0.0.0.0/0"), ip_address("10.244.1.1"))
    listed = (AssignedAddress(ip_interface("10.244.1.2/32"), None, 2),)
    assert problems(plan, Result((), listed, (default,)), port, pod) == [
        "route 0.0.0.0/0 through 10.244.1.1 is missing"
    ]
    assert problems(plan, Result((), listed, ()), port, pod) == []  # a later plugin moved it
    assert problems(plan, Result((), listed, ()), None, None)
    assert problems(plan, Result((), listed, ()), SeenPort(True, "", False, False), pod)


def test_extras_are_undone_as_they_were_done() -> None:
    extras = Extras(
        "cni0",
        "l3v1",
        ("10.0.0.2", "fd00::2"),
        (PublishedPort("tcp", 8080, 80), PublishedPort("udp", 53, 53, "192.0.2.1")),
        masquerade=True,
        mac="02:00:00:00:00:01",
    )
    assert Extras.decode(extras.encode()) == extras
    script = put_script(extras)
    added = {line.removeprefix("add ") for line in script.splitlines() if line.startswith("add element")}
    assert added == {line.removeprefix("delete ") for line in delete_commands(extras)}
    assert sum("8080" in line for line in added) == 2 and sum("192.0.2.1" in line for line in added) == 1
    assert not Extras("b", "p", ("10.0.0.2",))


@given(st.integers(16, 30), st.integers(0, 2**16))
def test_ranges_leave_out_network_gateway_and_broadcast(length: int, number: int) -> None:
    block = ip_network(((10 << 24) | (number << 8), length), strict=False)
    entry = block_range(block)
    assert block.network_address not in entry and block.broadcast_address not in entry
    assert bounds(block)[0] not in entry and entry.size == block.num_addresses - 3


def test_args() -> None:
    assert parse_args("A=b;C=d=e;") == {"A": "b", "C": "d=e"}


def test_capabilities_in_the_case_go_cni_writes_them() -> None:
    given = {
        "portMappings": [{"HostPort": 8088, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
        "bandwidth": {"IngressRate": 8000, "IngressBurst": 9000, "EgressRate": 0, "EgressBurst": 0},
    }
    call = request(runtimeConfig=given)
    assert published_ports(call) == (PublishedPort("tcp", 8088, 80),)
    assert bandwidth(call) == Bandwidth(8000, 9000)
