"""Whatever a runtime or a file in the spool brings: an answer with a code, never the end of a thread."""

from __future__ import annotations

import json
import string
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l3net.attach.answer import printed
from l3net.attach.spool import Spool
from l3net.cni.bridgeconf import ipam_setup, own_setup
from l3net.cni.failure import CniError
from l3net.cni.frame import Call, encode_call
from l3net.cni.host_end import lease_of_alias, mac_of_alias
from l3net.cni.parts import Elements, Sandbox, facts_of
from l3net.cni.request import Request, parse_request
from l3net.cni.setup import NodeNetwork, asked_addresses, asked_mac, node_ipam_setup, node_setup, pod_of
from l3net.errors import L3netError
from l3net.faults import Faults
from l3net.ipam.lease import Lease, LeasedAddress, LeaseKey

#: Text as an environment may hold it: bytes that are no UTF-8 come as lone surrogates (PEP 383).
TEXT = st.text(st.characters(max_codepoint=0x10FFFF), max_size=20) | st.text(
    st.sampled_from("\udc80\udcff/.:;= \0abcIP"), max_size=8
)
ADDRESSES = st.sampled_from(
    [
        "10.1.0.5",
        "fd00::5",
        "10.1.0.0/24",
        "fd00::/64",
        "10.1.0.0/33",
        "fe80::1%eth0",
        "::",
        "",
        "x",
        "\ud800",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | ADDRESSES
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    *("bridge", "ipam", "mtu", "dns", "args", "runtimeConfig", "prevResult", "coolDown", "sticky", "vlan"),
    *("hairpinMode", "promiscMode", "isGateway", "isDefaultGateway", "portIsolation", "mac", "bandwidth"),
)
IPAM_KEYS = ("type", "subnet", "ranges", "rangeStart", "rangeEnd", "gateway", "routes", "reserved", "dataDir")
ROUTE_KEYS = ("dst", "gw", "mtu", "advmss", "priority", "table", "scope")
RANGE_KEYS = ("subnet", "rangeStart", "rangeEnd", "gateway")
ROUTES = st.lists(st.dictionaries(st.sampled_from(ROUTE_KEYS), ADDRESSES | SCALARS), max_size=2)
RANGES = st.lists(st.lists(st.dictionaries(st.sampled_from(RANGE_KEYS), ADDRESSES), max_size=2), max_size=2)
IPAM = st.dictionaries(
    st.sampled_from(IPAM_KEYS), JSON | ADDRESSES | ROUTES | RANGES | st.just("l3net-ipam"), max_size=5
)
RUNTIME = st.dictionaries(
    st.sampled_from(("portMappings", "bandwidth", "ips", "mac", "ipRanges", "dns")),
    JSON
    | st.lists(st.dictionaries(st.sampled_from(("hostPort", "containerPort", "hostIP", "protocol")), JSON)),
    max_size=4,
)
CONF = st.builds(
    lambda rest, ipam, runtime: {"cniVersion": "1.0.0", "name": "n", **rest, **ipam, **runtime},
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4),
    st.just({}) | st.fixed_dictionaries({"ipam": IPAM}),
    st.just({}) | st.fixed_dictionaries({"runtimeConfig": RUNTIME}),
)
ENVIRONMENT = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/n"}
NODE = NodeNetwork((ip_network("10.1.0.0/24"), ip_network("fd00::/120")), 1500)
LEASE = Lease(LeaseKey("n", "c1", "eth0"), 1, (LeasedAddress(NODE.blocks[0][5], 32, NODE.blocks[0][1]),))


@given(
    st.dictionaries(
        st.sampled_from((*ENVIRONMENT, "CNI_ARGS", "CNI_PATH", "PATH")),
        TEXT | st.sampled_from(("ADD", "DEL", "GC", "eth0")),
    ),
    st.binary(max_size=40) | CONF.map(lambda conf: json.dumps(conf).encode()),
)
def test_a_request_is_one_or_is_refused(environment: dict[str, str], stdin: bytes) -> None:
    try:
        request = parse_request({**ENVIRONMENT, **environment}, stdin)
    except CniError as err:
        assert printed({"msg": str(err)})
        return
    for text in (request.container_id, request.ifname, request.netns, *request.args.values()):
        text.encode()  # it goes into the store and into netlink messages


@settings(max_examples=300)
@given(CONF, TEXT)
def test_a_configuration_comes_to_something_or_is_refused(conf: dict[str, Any], args: str) -> None:
    try:
        environment = {**ENVIRONMENT, "CNI_ARGS": f"IP={args};K8S_POD_NAME={args}"}
        request = parse_request(environment, json.dumps(conf).encode())
    except CniError:
        return
    for setup in (own_setup, ipam_setup, lambda each: node_setup(each, NODE), node_ipam):
        try:
            found = setup(request)
            asked_addresses(request), pod_of(request)
            facts = facts_of(found, request, LEASE, asked_mac(request))
            if elements := Elements.wanted(facts):
                elements.extras.encode().encode()
            Sandbox.wanted(facts).alias.encode()
        except L3netError as err:
            str(err).encode(errors="backslashreplace")


def node_ipam(request: Request) -> Any:
    return node_ipam_setup(request, NODE)


@given(TEXT | st.lists(TEXT, min_size=5, max_size=8).map(lambda parts: " ".join(("l3net/1", *parts))))
def test_an_alias_is_a_lease_or_is_not(alias: str) -> None:
    lease_of_alias(alias, "l3v1")
    mac_of_alias(alias)


NAMES = st.builds(
    lambda stem, end: stem + end,
    st.text(string.ascii_letters + string.digits + "-. \n", min_size=1, max_size=60),
    st.sampled_from((".del", ".1.1.del", "")),
)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(NAMES, st.binary(max_size=60), max_size=4))
def test_a_spooled_file_is_read_or_set_aside(clean: Path, files: dict[str, bytes]) -> None:
    """None ends the reading, and none is deleted that might have been a DEL of this boot."""
    boot = "b335105b-b27c-44d6-b424-ddfad64f089b"
    spool, directory, faults = Spool(clean, Faults()), clean / "spool", Faults()
    good = encode_call(Call({"CNI_COMMAND": "DEL"}, b"{}"))
    (directory / f"{boot}.1.1.del").write_bytes(good)
    for name, content in files.items():
        if name.strip("."):
            (directory / name).write_bytes(content)
    found = list(spool.calls(boot))
    assert f"{boot}.1.1.del" in {each.path.name for each in found}
    assert not faults.found()
    for each in found:
        spool.remove(each.path)
    assert not list(directory.glob("*.del"))
    for each in (*directory.iterdir(), *(clean / "spool-quarantine").glob("*")):
        each.unlink()
