"""What the guard holds of a port, and what pods are allowed, as values."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from l3net.cni.guard import (
    MOST_ALLOWED,
    Allowed,
    GuardedPort,
    allowed_of,
    closed,
    elements,
    link_local,
    of_port,
)
from l3net.cni.guardrules import CHAINS, script
from l3net.model import ClusterState, IpPool, Namespace, ObjectName, Pod, Prefix

PORT = GuardedPort(
    "l3v0123456789a", "0a:58:0a:f4:01:02", (ip_address("10.244.1.2"), ip_address("fd00::2")), "shop/vip"
)


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(ip_network, texts))


def sets(*allowed: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in elements(PORT, frozenset(prefixes(*allowed))):
        found[each.set] = found.get(each.set, 0) + 1
    return found


def test_the_link_local_address_of_a_mac() -> None:
    """RFC 4291 appendix A."""
    assert str(link_local("34:56:78:9a:bc:de")) == "fe80::3656:78ff:fe9a:bcde"


def test_a_port_has_its_own_and_no_more() -> None:
    own = {"guarded": 1, "macs": 1, "sources4": 1, "sources6": 2, "targets": 2, "options": 2}
    assert sets() == own
    assert sets("10.244.1.2/32", "fd00::2/128") == own  # its own already
    only4 = GuardedPort("l3v1", PORT.mac, PORT.addresses[:1])
    assert {each.set for each in elements(only4)} == {"guarded", "macs", "sources4", "options"}


def test_small_prefixes_are_single_addresses_and_wide_ones_ranges() -> None:
    assert sets("192.0.2.0/28")["sources4"] == 17 and "ranges4" not in sets("192.0.2.0/28")
    assert sets("192.0.2.0/27")["ranges4"] == 1
    assert sets("fd01::/124")["targets"] == 18 and sets("fd01::/123")["ranges6"] == 1
    # one in another, and neighbours: a set of ranges takes no overlap
    assert sets("192.0.2.0/24", "192.0.2.64/26", "192.0.3.0/24")["ranges4"] == 1


def test_elements_are_told_by_their_port() -> None:
    other = GuardedPort("l3v0123456789", "02:00:00:00:00:01", PORT.addresses)
    both = elements(PORT) | elements(other)
    assert of_port(both, other.name) == elements(other) and closed(PORT.name) in of_port(both, PORT.name)
    assert {each.port for each in both} == {PORT.name, other.name}


def test_rules_do_not_depend_on_ports() -> None:
    def rules(*ports: GuardedPort) -> list[str]:
        text = script([each for port in ports for each in elements(port)], anew=False)
        return [line for line in text.splitlines() if line.startswith("add rule")]

    other = GuardedPort("l3v0123456789", "02:00:00:00:00:01", PORT.addresses)
    assert rules() == rules(PORT, other) and len(rules()) == sum(map(len, CHAINS.values())) - 2


def test_no_rule_has_a_set_of_its_own() -> None:
    """It goes with the rule, and a frame on its way would find it empty."""
    assert not [rule for rules in CHAINS.values() for rule in rules if "{" in rule]


def test_a_pods_wish_counts_inside_its_namespaces_leave() -> None:
    name, limit = ObjectName("shop", "vip"), prefixes("192.0.2.0/24", "2001:db8::/32")
    inside, outside = prefixes("192.0.2.7/32", "2001:db8:1::/64"), prefixes("192.0.0.0/16", "198.51.100.1/32")
    state = ClusterState(
        namespaces={"shop": Namespace("shop", allowed_sources=limit)},
        pods={
            each: Pod(each, node="n1", allowed_sources=(*inside, *outside))
            for each in (name, ObjectName("bank", "vip"))
        },
    )
    allowed, refused = allowed_of(state, state.pods.values())
    assert allowed.pods == {"shop/vip": inside}
    assert refused == {name: outside, ObjectName("bank", "vip"): (*inside, *outside)}
    assert allowed_of(state, ()) == (Allowed(), {})
    assert allowed.of(PORT) == frozenset(inside)
    assert (
        allowed.of(GuardedPort(PORT.name, PORT.mac, PORT.addresses)) == frozenset()
    )  # whose pod is not known


def test_a_pool_allows_those_with_an_address_of_it() -> None:
    wide = prefixes("198.51.100.0/24")
    state = ClusterState(
        pools={
            "a": IpPool("a", ip_network("10.244.0.0/16"), 24, allowed_sources=wide),
            "b": IpPool("b", ip_network("10.245.0.0/16"), 24, allowed_sources=prefixes("203.0.113.0/24")),
        }
    )
    allowed, refused = allowed_of(state, state.pods.values())
    assert allowed.of(PORT) == frozenset(wide) and refused == {}


@pytest.mark.parametrize("many", [MOST_ALLOWED, MOST_ALLOWED + 1])
def test_of_very_many_the_rest_is_refused(many: int) -> None:
    wanted = tuple(ip_network("192.0.2.0/24").subnets(new_prefix=32))[:many]
    name = ObjectName("shop", "vip")
    state = ClusterState(
        namespaces={"shop": Namespace("shop", allowed_sources=prefixes("0.0.0.0/0"))},
        pods={name: Pod(name, node="n1", allowed_sources=wanted)},
    )
    allowed, refused = allowed_of(state, state.pods.values())
    assert len(allowed.of(PORT)) == MOST_ALLOWED and sum(map(len, refused.values())) == many - MOST_ALLOWED
