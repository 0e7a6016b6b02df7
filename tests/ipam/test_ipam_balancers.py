"""Load-balancer addresses: who gets which, who may share, and that none is handed out twice."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import combinations

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.errors import L3netError
from l3net.ipam.balancers import AddressLedger, address_usage, plan_addresses
from l3net.ipam.blocks import PoolUsage
from l3net.ipam.findings import FindingReason
from l3net.ipam.ledger import Ledger, LedgerError, decode, encode
from l3net.model import (
    IpPool,
    Namespace,
    ObjectName,
    PoolUse,
    Requirement,
    Selector,
    Service,
    ServicePort,
)

LB = frozenset({PoolUse.LOAD_BALANCER})
P4 = IpPool("lb4", ip_network("192.0.2.0/29"), 32, allowed_uses=LB, avoid_buggy=False)
P6 = IpPool("lb6", ip_network("2001:db8::/125"), 128, allowed_uses=LB)
POOLS = {pool.name: pool for pool in (P4, P6)}
SPACES = {name: Namespace(name, {"team": name}) for name in ("x", "y")}


def service(
    name: str,
    *,
    versions: tuple[int, ...] = (4,),
    ips: str = "",
    wanted: str = "",
    key: str = "",
    port: int = 80,
    protocol: str = "TCP",
    local: bool = False,
    status: tuple[str, ...] = (),
    cls: str | None = "l3net.io/bgp",
    kind: str = "LoadBalancer",
    space: str = "x",
) -> Service:
    annotations = {}
    if ips:
        annotations["l3net.io/load-balancer-ips"] = ips
    if key:
        annotations["l3net.io/sharing-key"] = key
    return Service(
        ObjectName(space, name),
        kind,
        tuple(ip_address("10.96.0.1" if version == 4 else "fd00::1") for version in versions),
        load_balancer_ips=tuple(map(ip_address, status)),
        wanted_ip=ip_address(wanted) if wanted else None,
        ports=(ServicePort("", protocol, port),),
        external_traffic_local=local,
        load_balancer_class=cls,
        annotations=annotations,
    )


def plan(*found: Service, held: AddressLedger | None = None, **more: object):  # type: ignore[no-untyped-def]
    services = {each.name: each for each in found}
    arguments = {"namespaces": SPACES, "pools": POOLS, **more}
    pools = arguments.pop("pools")
    return plan_addresses(services, pools, held or {}, **arguments)  # type: ignore[arg-type]


def held(made, name: str, space: str = "x") -> list[str]:  # type: ignore[no-untyped-def]
    return [str(address) for address in made.held.get(ObjectName(space, name), ())]


def reasons(made) -> list[FindingReason]:  # type: ignore[no-untyped-def]
    return [finding.reason for finding in made.findings]


def test_one_of_each_family_in_the_services_order() -> None:
    made = plan(service("a", versions=(6, 4)), service("b"))
    assert held(made, "a") == ["2001:db8::", "192.0.2.0"]
    assert held(made, "b") == ["192.0.2.1"]


def test_asked_for_by_the_field_and_by_annotation() -> None:
    made = plan(
        service("a", wanted="192.0.2.5", versions=(4, 6)),
        service("b", ips="192.0.2.3, 192.0.2.2,2001:db8::7", wanted="192.0.2.7"),
    )
    assert held(made, "a") == ["192.0.2.5", "2001:db8::"]
    assert held(made, "b") == ["192.0.2.3", "192.0.2.2", "2001:db8::7"]
    assert made.findings == ()


def test_asked_for_in_vain_is_named() -> None:
    made = plan(
        service("a", wanted="192.0.2.5"),
        service("b", wanted="192.0.2.5"),
        service("c", ips="10.0.0.1"),
        service("d", ips="no address"),
    )
    assert held(made, "a") == ["192.0.2.5"]
    assert held(made, "b") == held(made, "c") == held(made, "d") == []
    assert [(finding.about.name, finding.reason) for finding in made.findings] == [
        ("b", FindingReason.ADDRESS_IN_USE),
        ("c", FindingReason.ADDRESS_OUTSIDE_POOLS),
        ("d", FindingReason.INVALID_REQUEST),
    ]
    assert "x/a holds it" in made.findings[0].message


def test_asking_for_another_moves_only_if_it_can_be_had() -> None:
    first = plan(service("a"), service("b"))
    made = plan(service("a", wanted="192.0.2.6"), service("b", wanted="192.0.2.6"), held=first.held)
    assert held(made, "a") == ["192.0.2.6"]
    assert held(made, "b") == ["192.0.2.1"], "keeps what it has"
    assert reasons(made) == [FindingReason.ADDRESS_IN_USE]


@pytest.mark.parametrize(
    ("second", "shares"),
    [
        ({"key": "k", "port": 53, "protocol": "UDP"}, True),
        ({"key": "k", "port": 53, "protocol": "TCP"}, False),
        ({"key": "k", "port": 54}, True),
        ({"key": "other", "port": 54}, False),
        ({"key": "", "port": 54}, False),
        ({"key": "k", "port": 54, "local": True}, False),
        ({"key": "k", "port": 54, "space": "y"}, False),
    ],
    ids=["protocol", "same port", "other port", "other key", "no key", "local", "other namespace"],
)
def test_sharing(second: dict[str, object], shares: bool) -> None:
    made = plan(service("a", key="k", port=53), service("b", **second))  # type: ignore[arg-type]
    other = held(made, "b", str(second.get("space", "x")))
    assert (other == held(made, "a")) == shares
    assert other, "gets one of its own otherwise"
    assert plan(service("a", key="k", port=53), service("b", **second), held=made.held).held == made.held  # type: ignore[arg-type]


def test_sharing_that_ends_leaves_the_address_to_one() -> None:
    shared = plan(service("a", key="k", port=1), service("b", key="k", port=2))
    assert held(shared, "a") == held(shared, "b")
    made = plan(service("a", key="k", port=1), service("b", port=2), held=shared.held)
    assert held(made, "a") == held(shared, "a")
    assert held(made, "b") == ["192.0.2.1"]
    assert reasons(made) == [FindingReason.ADDRESS_IN_USE]


def test_freed_on_deletion_and_when_the_type_changes() -> None:
    first = plan(service("a"), service("b"))
    made = plan(service("b"), service("c"), held=first.held)
    assert ObjectName("x", "a") not in made.held
    assert held(made, "c") == held(first, "a")
    assert held(plan(service("a", kind="ClusterIP"), held=first.held), "a") == []


def test_classes() -> None:
    none, other = service("a", cls=None), service("b", cls="example.com/lb")
    assert plan(none, other).held == {}
    assert list(plan(none, other, every_class=True).held) == [none.name]


def test_what_another_implementation_serves_is_left_alone() -> None:
    cloud = service("a", cls=None, status=("198.51.100.7",))
    made = plan(cloud, every_class=True)
    assert made.held == {} and cloud.name not in made.served
    inside = service("b", cls="example.com/lb", status=("192.0.2.0",))
    made = plan(service("a"), inside, every_class=True)
    assert held(made, "a") == ["192.0.2.1"], "an address of our pool in another's status is in use"


def test_a_lost_ledger_is_made_again_of_what_services_carry() -> None:
    found = (service("a", status=("192.0.2.4",)), service("b", status=("192.0.2.0",)), service("c"))
    made = plan(*found)
    assert held(made, "a") == ["192.0.2.4"]
    assert held(made, "b") == ["192.0.2.0"]
    assert held(made, "c") == ["192.0.2.1"]
    # what the ledger knows comes first, whatever a status claims
    b = ObjectName("x", "b")
    made = plan(service("a", status=("192.0.2.0",)), service("b"), held={b: (ip_address("192.0.2.0"),)})
    assert held(made, "b") == ["192.0.2.0"]
    assert held(made, "a") == ["192.0.2.1"]


def test_namespaces_disabled_and_refused() -> None:
    theirs = Selector((Requirement("team", "In", ("y",)),))
    pools = {
        "a": IpPool(
            "a", ip_network("192.0.2.0/30"), 32, allowed_uses=LB, avoid_buggy=False, namespace_selector=theirs
        ),
        "b": IpPool("b", ip_network("192.0.2.4/30"), 32, allowed_uses=LB, disabled=True),
        "c": IpPool("c", ip_network("192.0.2.8/30"), 32, allowed_uses=LB),
        "pods": IpPool("pods", ip_network("192.0.2.16/30"), 30),
    }
    made = plan(service("a"), service("b", space="y"), pools=pools, refused={"c"})
    assert held(made, "b", "y") == ["192.0.2.0"]
    assert held(made, "a") == []
    assert reasons(made) == [FindingReason.NO_ADDRESS_FREE]
    assert "open to its namespace" in made.findings[0].message


def test_full() -> None:
    made = plan(*(service(f"s{index}") for index in range(9)))
    assert len(made.held) == 8
    assert reasons(made) == [FindingReason.NO_ADDRESS_FREE]
    given = [address for addresses in made.held.values() for address in addresses]
    assert (address_usage(P4, given).used, address_usage(P4, given).free) == (8, 0)


def test_blocks_of_nodes_are_passed_over() -> None:
    both = IpPool("both", ip_network("192.0.2.0/29"), 30, allowed_uses=LB | {PoolUse.PODS})
    made = plan(
        service("a"),
        service("b", wanted="192.0.2.1"),
        pools={"both": both},
        blocks=[ip_network("192.0.2.0/30")],
    )
    assert held(made, "a") == ["192.0.2.4"]
    assert FindingReason.ADDRESS_IN_USE in reasons(made)


SERVICES = st.builds(
    service,
    name=st.sampled_from([f"s{index}" for index in range(6)]),
    versions=st.sampled_from([(4,), (6,), (4, 6), (6, 4)]),
    ips=st.sampled_from(
        ["", "", "", "192.0.2.1", "192.0.2.1,192.0.2.2", "2001:db8::3", "nonsense", "10.0.0.1"]
    ),
    wanted=st.sampled_from(["", "", "", "192.0.2.1", "192.0.2.7"]),
    key=st.sampled_from(["", "k", "l"]),
    port=st.sampled_from([53, 80]),
    protocol=st.sampled_from(["TCP", "UDP"]),
    local=st.booleans(),
    cls=st.sampled_from(["l3net.io/bgp", "l3net.io/bgp", None, "other"]),
    kind=st.sampled_from(["LoadBalancer", "LoadBalancer", "LoadBalancer", "ClusterIP"]),
    space=st.sampled_from(["x", "y"]),
)


@settings(deadline=None, max_examples=examples(120))
@given(st.lists(st.lists(SERVICES, max_size=8, unique_by=lambda each: each.name), max_size=8), st.data())
def test_never_twice_whatever_happens(states: list[list[Service]], data: st.DataObject) -> None:
    """Any sequence of states; statuses lag, get lost, and the controller forgets all but the ledger."""
    ledger: AddressLedger = {}
    for state in states:
        carried = {
            each.name: ledger.get(each.name, ()) if data.draw(st.booleans(), "status written") else ()
            for each in state
        }
        services = {
            each.name: Service(**{**_fields(each), "load_balancer_ips": carried[each.name]}) for each in state
        }
        every = data.draw(st.booleans(), "every class")
        made = plan_addresses(services, POOLS, ledger, namespaces=SPACES, every_class=every)
        for (one, mine), (other, theirs) in combinations(made.held.items(), 2):
            if set(mine) & set(theirs):
                a, b = services[one], services[other]
                key = a.annotations.get("l3net.io/sharing-key")
                assert key and key == b.annotations.get("l3net.io/sharing-key")
                assert one.namespace == other.namespace
                assert a.ports != b.ports
                assert not (a.external_traffic_local or b.external_traffic_local)
        assert set(made.held) <= set(services)
        again = plan_addresses(services, POOLS, made.held, namespaces=SPACES, every_class=every)
        assert again.held == made.held, "the second pass is quiet"
        ledger = made.held


def _fields(found: Service) -> dict[str, object]:
    return {name: getattr(found, name) for name in Service.__dataclass_fields__}


def test_ledger_there_and_back() -> None:
    ledger = Ledger(
        {"n1": (ip_network("10.0.0.0/24"), ip_network("fd00::/120")), "n2": (ip_network("10.0.1.0/24"),)},
        {ObjectName("x", "a"): (ip_address("192.0.2.1"), ip_address("2001:db8::1"))},
    )
    assert decode(encode(ledger)) == ledger
    assert encode(ledger)["blocks"] == "n1 10.0.0.0/24,fd00::/120\nn2 10.0.1.0/24\n"
    assert decode({}) == Ledger()


@pytest.mark.parametrize(
    "values",
    [
        {"blocks": "n1\n"},
        {"blocks": "n1 10.0.0.1/24"},
        {"addresses": "a 1.2.3.4"},
        {"addresses": "x/a 1.2.3"},
    ],
)
def test_a_ledger_somebody_wrote_into_names_the_line(values: dict[str, str]) -> None:
    with pytest.raises(LedgerError, match="line 1") as caught:
        decode(values)
    assert isinstance(caught.value, L3netError)


def test_addresses_that_old_routers_drop_are_for_who_asks() -> None:
    """.0 and .255 (a pool's `avoidBuggyIPs`), of IPv4 alone."""
    pools = {
        "a": IpPool("a", ip_network("192.0.2.254/31").supernet(), 32, allowed_uses=LB),  # .252 to .255
        "b": IpPool("b", ip_network("198.51.100.0/30"), 32, allowed_uses=LB),
        "c": IpPool("c", ip_network("2001:db8::/126"), 128, allowed_uses=LB),
    }
    services = {name.name: name for name in (service(f"s{n}", versions=(4, 6)) for n in range(8))}
    plan = plan_addresses(services, pools, {}, namespaces={})
    four = sorted(str(each) for held in plan.held.values() for each in held if each.version == 4)
    assert four == [
        "192.0.2.252",
        "192.0.2.253",
        "192.0.2.254",
        *(f"198.51.100.{last}" for last in (1, 2, 3)),
    ]
    assert {found.reason for found in plan.findings} == {FindingReason.NO_ADDRESS_FREE}
    assert any("2001:db8::" in map(str, held) for held in plan.held.values())
    assert address_usage(pools["a"], map(ip_address, four)) == PoolUsage(3, 0)
    assert address_usage(pools["b"], []) == PoolUsage(0, 3)
    asking = service("x", ips="192.0.2.255")
    held = plan_addresses({asking.name: asking}, pools, {}, namespaces={}).held
    assert held == {asking.name: (ip_address("192.0.2.255"),)}
    # What was given before stays; a pool of one address gives it.
    kept = plan_addresses(
        services, pools, {next(iter(services)): (ip_address("198.51.100.0"),)}, namespaces={}
    )
    assert ip_address("198.51.100.0") in kept.held[next(iter(services))]
    one = {"one": IpPool("one", ip_network("192.0.2.0/32"), 32, allowed_uses=LB)}
    assert ip_address("192.0.2.0") in next(
        iter(plan_addresses(services, one, {}, namespaces={}).held.values())
    )


@given(st.integers(20, 32), st.sets(st.integers(0, 4095)), st.integers(0, 15))
def test_what_is_left_is_what_can_be_given(length: int, held: set[int], block: int) -> None:
    cidr = ip_network((0xC0A80000, length))
    pool = IpPool("p", cidr, 28 if length < 28 else length, allowed_uses=LB | {PoolUse.PODS})
    blocks = [ip_network((0xC0A80000 + (block << 4), 28))] if length <= 24 else []
    addresses = [ip_address(0xC0A80000 + each) for each in held]
    addresses = [each for each in addresses if not any(each in one for one in blocks)]
    free = [
        each
        for each in cidr
        if each not in addresses and not pool.avoids(each) and not any(each in one for one in blocks)
    ]
    assert address_usage(pool, addresses, blocks).free == len(free)
