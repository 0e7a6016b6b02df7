"""Addresses with a zone (RFC 4007) are refused wherever one is read: behind the % may stand anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from l3net.addresses import parse_address, parse_interface, parse_prefix
from l3net.cli.ipam import _address
from l3net.cni.bridgeconf import range_sets
from l3net.cni.extras import _host_address
from l3net.cni.request import Request
from l3net.cni.result import decode_result, decode_routes
from l3net.cni.setup import asked_addresses
from l3net.errors import L3netError
from l3net.ipam.balancers import plan_addresses
from l3net.ipam.findings import FindingReason
from l3net.ipam.ledger import decode
from l3net.model import IpPool, ObjectName, PoolUse, Service
from l3net.naming import ANNOTATION_LOAD_BALANCER_IPS, LOAD_BALANCER_CLASS

ZONED = "fd00:1::5%x"
NASTY = "fd00:1::5%x; } ; flush ruleset"


def request(ipam: dict[str, Any], **conf: Any) -> Request:
    return Request("ADD", "1.0.0", "net", {"ipam": ipam, **conf}, "c1", "eth0", "/ns")


@pytest.mark.parametrize("parse", [parse_address, parse_prefix, parse_interface])
@pytest.mark.parametrize("text", [ZONED, NASTY, "fe80::%eth0/64", "%", "10.0.0.1%x"])
def test_no_reader_takes_a_zone(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match="zone"):
        parse(text)
    parse("fd00:1::5")
    parse("10.0.0.1")


def test_an_annotation_with_a_zone_is_no_address() -> None:
    """It passed the plan on 5dd2c1e, and failed with every write of the status."""
    pool = IpPool("p", parse_prefix("fd00:1::/112"), 128, allowed_uses=frozenset({PoolUse.LOAD_BALANCER}))
    service = Service(
        ObjectName("default", "s"),
        type="LoadBalancer",
        cluster_ips=(parse_address("fd00:96::1"),),
        load_balancer_class=LOAD_BALANCER_CLASS,
        annotations={ANNOTATION_LOAD_BALANCER_IPS: ZONED},
    )
    plan = plan_addresses({service.name: service}, {"p": pool}, {}, namespaces={})
    assert [finding.reason for finding in plan.findings] == [FindingReason.INVALID_REQUEST]
    assert not plan.held


@pytest.mark.parametrize(
    "ask",
    [
        lambda: _host_address(NASTY),  # it goes into a rule set
        lambda: decode_routes([{"dst": "fd00::%x/64"}]),
        lambda: decode_routes([{"dst": "fd00::/64", "gw": ZONED}]),
        lambda: decode_result({"cniVersion": "1.0.0", "ips": [{"address": "fd00::5%x/64"}]}),
        lambda: decode({"addresses": f"a/b {ZONED}\n"}),
        lambda: decode({"blocks": "n1 fd00::%x/64\n"}),
        lambda: _address(ZONED),
        lambda: range_sets(request({"subnet": "fd00::%x/64"})),
        lambda: range_sets(request({"subnet": "fd00::/64", "gateway": ZONED})),
        lambda: range_sets(request({"subnet": "fd00::/64", "reserved": ["fd00::%x/112"]})),
        lambda: asked_addresses(request({}, runtimeConfig={"ips": [ZONED + "/64"]})),
    ],
)
def test_whoever_reads_one_says_so(ask: Callable[[], object]) -> None:
    with pytest.raises(L3netError):
        ask()


# --- what is reserved ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subnet", "reserved"),
    [("fd00::/64", "fd00::/108"), ("10.0.0.0/8", "10.0.0.0/17"), ("fd00::/64", "::/0")],
)
def test_a_large_reservation_is_named_and_not_expanded(subnet: str, reserved: str) -> None:
    with pytest.raises(L3netError, match=r"ipam\.reserved: more than 16384 addresses"):
        range_sets(request({"subnet": subnet, "reserved": [reserved]}))


@pytest.mark.parametrize("reserved", [5, "x", ["x"], [None], {"a": 1}])
def test_a_reservation_that_is_none(reserved: object) -> None:
    with pytest.raises(L3netError, match=r"ipam\.reserved"):
        range_sets(request({"subnet": "10.0.0.0/24", "reserved": reserved}))


def test_what_is_reserved_beyond_the_range_costs_nothing() -> None:
    (found,) = range_sets(request({"subnet": "10.0.0.0/24", "reserved": ["10.0.0.128/25", "11.0.0.0/8"]}))
    assert found.size == 126  # of .1 to .127, less the gateway


def test_a_reservation_as_large_as_may_be() -> None:
    (found,) = range_sets(request({"subnet": "fd00::/112", "reserved": ["fd00::/114"]}))
    assert found.size == 65536 - 16384 - 1
