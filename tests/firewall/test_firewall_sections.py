"""Sections of the table: each writes what is its own, and history does not matter, as the kernel lists it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from examples import examples
from firewall_net import inside
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroute2 import netns
from table_side import InForce, listed, same

from l3net.firewall.facts import FirewallPlan
from l3net.firewall.sections import SECTIONS
from l3net.model import NODE_PORTS, Backend, VirtualServer
from l3net.shell.kernel.nft import NftTable

ADDRESSES = [ip_address(text) for text in ("10.96.0.1", "10.0.0.1", "fd00:96::1", "fd00::1")]
BACKENDS = {
    4: [Backend(ip_address(f"10.244.{block}.{host}"), 8080) for block in (1, 2) for host in range(5, 16)],
    6: [Backend(ip_address(f"fd00:{block}::{host}"), 8080) for block in (1, 2) for host in range(5, 16)],
}
BLOCKS = [ip_network(text) for text in ("10.244.1.0/24", "10.244.2.0/24", "fd00:1::/120", "fd00:2::/120")]
POOLS = [ip_network(text) for text in ("10.244.0.0/16", "10.245.0.0/16", "fd00:1::/64", "fd00:2::/64")]
#: More than are compared, of each family in turn; none merge.
HOSTS = [ip_network(text % (2 * n)) for n in range(60) for text in ("192.0.2.%d/32", "2001:db8::%x/128")]
WIDE = [ip_network(text) for text in ("192.0.2.64/26", "198.51.100.0/24", "10.0.0.0/8", "fd00::/8")]
SOURCES = {
    4: (None, None, (), (ip_network("10.0.0.0/8"),)),
    6: (None, None, (), (ip_network("fd00::/16"),)),
}


def some(values: Any, most: int = 4) -> st.SearchStrategy[frozenset[Any]]:
    return st.frozensets(st.sampled_from(values), max_size=most)


@st.composite
def servers(draw: st.DrawFn) -> frozenset[VirtualServer]:
    found = []
    for address in (*ADDRESSES, *NODE_PORTS.values()):
        for protocol, port in (("tcp", 80), ("udp", 53)):
            if draw(st.booleans()):
                continue
            most = draw(st.sampled_from((0, 1, 3, 3, 22)))
            internal = tuple(BACKENDS[address.version][:most])
            external = draw(st.sampled_from((internal, internal, internal[1:], internal[:1])))
            affinity, sources = (
                draw(st.sampled_from((0, 0, 60))),
                draw(st.sampled_from(SOURCES[address.version])) if int(address) else None,
            )
            found.append(VirtualServer(address, protocol, port, internal, external, affinity, sources))
    return frozenset(found)


plans = st.builds(
    FirewallPlan,
    servers=servers(),
    blocks=some(BLOCKS),
    nat_sources=some(POOLS),
    inside=st.builds(
        lambda first, last, wide: frozenset(HOSTS[first:last]) | wide,
        st.sampled_from((0, 1, 10)),
        st.sampled_from((0, 70, 90, 120)),
        some(WIDE),
    ),
    node_addresses=some(ADDRESSES[1::2]),
    bgp_ports=st.sampled_from((frozenset({179}), frozenset({179, 1179}))),
    error_port=st.sampled_from((0, 6108)),
    service_cidrs=some([ip_network("10.96.0.0/16"), ip_network("fd00:96::/112")]),
    ports_on=some([ip_network("10.0.0.1"), ip_network("fd00::/64"), ip_network("::1")]),
)


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    name = f"l3t-fws-{uuid.uuid4().hex[:8]}"
    netns.create(name)
    try:
        yield name
    finally:
        netns.remove(name)


@pytest.mark.netns
@settings(max_examples=examples(10), deadline=None, suppress_health_check=list(HealthCheck))
@given(sequence=st.lists(plans, min_size=2, max_size=5))
def test_history_does_not_matter(node: str, sequence: list[FirewallPlan]) -> None:
    """What changes one after another leave is what a table made anew from the last plan is."""
    with inside(node):
        table = NftTable()
        first, *later = sequence
        held = InForce(first)
        table.apply(held.text)
        for plan in later:
            transaction = held.follow(plan)
            if transaction:
                table.amend(transaction)
        stepwise = listed()
        table.apply(InForce(sequence[-1]).text)
        assert same(stepwise, listed())


_DEFINED = re.compile(r"^(?:chain|set|map) (\S+) \{$", re.MULTILINE)
_WRITTEN = re.compile(r"^(?:add|delete|flush) (?:chain|set|map|rule|element) inet l3net (\S+)", re.MULTILINE)


@given(before=plans, now=plans)
@settings(max_examples=examples(40), deadline=None)
def test_each_section_writes_its_own_and_reads_what_it_says(before: FirewallPlan, now: FirewallPlan) -> None:
    held = InForce(before)
    changes = {server.key: None for server in before.servers} | {server.key: server for server in now.servers}
    steps = held.steps(now, changes)
    for section in SECTIONS:
        made = "\n".join(section.made(now).lines)
        for name in (*_DEFINED.findall(made), *_WRITTEN.findall(steps[section.name])):
            assert [each.name for each in SECTIONS if each.own.fullmatch(name)] == [section.name], name
        for name in re.findall(r"@(\S+)", made):
            assert section.own.fullmatch(name) or section.reads.fullmatch(name), name
        bare = "\n".join(section.bare(now).lines)
        read = {
            name for other in SECTIONS if other is not section for name in other_reads(other, now, section)
        }
        assert read <= set(_DEFINED.findall(bare)), "what others read is always there"


def other_reads(other: Any, plan: FirewallPlan, section: Any) -> set[str]:
    lines = "\n".join(other.made(plan).lines)
    return {name for name in re.findall(r"@(\S+)", lines) if section.own.fullmatch(name)}


@given(plan=plans)
@settings(max_examples=30, deadline=None)
def test_the_second_time_is_quiet(plan: FirewallPlan) -> None:
    held = InForce(plan)
    assert held.follow(replace(plan)) == ""
    assert held.steps(plan, {server.key: server for server in plan.servers}) == dict.fromkeys(held.held, "")


def test_what_misses_a_changing_table_meets_it_again_a_moment_later() -> None:
    """Whatever looks into a map on a hook, and decides once about a connection, does so twice in turn."""
    restricted = VirtualServer(
        ADDRESSES[0], "tcp", 80, internal=tuple(BACKENDS[4]), sources=(ip_network("10.0.0.0/8"),)
    )
    text = InForce(FirewallPlan(servers=frozenset({restricted}))).text
    found = re.findall(
        r"chain (\S+) \{\ntype (\w+) hook (\w+) priority (-?\d+); policy accept;\n(.*?)^\}", text, re.M | re.S
    )
    chains = {name: (kind, where, int(priority), rules) for name, kind, where, priority, rules in found}
    firsts = {name for name, (kind, *_) in chains.items() if kind == "nat"}
    firsts = {name for name in firsts if name.endswith("-nat")} | {"prerouting-sources", "output-sources"}
    assert len(firsts) == 5
    for name in firsts:
        kind, where, priority, rules = chains[name]
        again = chains[name.replace("-nat", "") + "-again"]
        assert again == (kind, where, priority + 1, rules)
    nat = [name for name, (kind, *_) in chains.items() if kind == "nat"]
    assert len(nat) == 6
