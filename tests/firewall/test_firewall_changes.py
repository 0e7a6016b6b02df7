"""Elements changed one by one leave the table as replacing it whole would, as the kernel lists both."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from firewall_net import inside
from pyroute2 import netns
from table_side import InForce, listed, same

from l3net.agent.table import Table
from l3net.errors import KernelError, RefusedError
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.ruleset import ruleset
from l3net.model import NODE_PORTS, Backend, VirtualServer
from l3net.shell.kernel import nft
from l3net.shell.kernel.nft import NftTable

ADDRESSES = [ip_address(text) for text in ("10.96.0.1", "10.96.0.2", "10.0.0.1", "fd00:96::1")]
BACKENDS = {
    4: [Backend(ip_address(f"10.244.{block}.{host}"), 8080) for block in (1, 2) for host in (5, 6)],
    6: [Backend(ip_address(f"fd00:{block}::{host}"), 8080) for block in (1, 2) for host in (5, 6)],
}
PLAN = FirewallPlan(
    blocks=frozenset({ip_network("10.244.1.0/24"), ip_network("fd00:1::/120")}),
    node_addresses=frozenset({ip_address("10.0.0.1")}),
    ports_on=frozenset({ip_network("10.0.0.1")}),
)
Servers = dict[tuple[object, str, int], VirtualServer]


@pytest.fixture
def node() -> Iterator[str]:
    name = f"l3t-fwc-{uuid.uuid4().hex[:8]}"
    netns.create(name)
    try:
        yield name
    finally:
        netns.remove(name)


def some_servers(chance: random.Random) -> Servers:
    found: Servers = {}
    for address in (*ADDRESSES, *NODE_PORTS.values()):
        for protocol, port in (("tcp", 80), ("udp", 53)):
            if chance.random() < 0.4:
                continue
            backends = BACKENDS[address.version]
            internal = tuple(sorted(chance.sample(backends, chance.randint(0, 4))))
            external = internal if chance.random() < 0.6 else internal[:1]
            found[address, protocol, port] = VirtualServer(
                address, protocol, port, internal, external, affinity=chance.choice((0, 0, 10800, 60))
            )
    return found


@pytest.mark.netns
@pytest.mark.parametrize("seed", range(6))
def test_elements_end_as_a_replacement_would(node: str, seed: int) -> None:
    chance = random.Random(seed)
    with inside(node):
        servers = some_servers(chance)
        amended, whole = NftTable(), NftTable()
        contents = InForce(replace(PLAN, servers=frozenset(servers.values())))
        amended.apply(contents.text)
        for _ in range(6):
            servers = some_servers(chance)
            transaction = contents.follow(replace(PLAN, servers=frozenset(servers.values())))
            if transaction:
                amended.amend(transaction)
                assert amended.intact()
        by_elements = listed()
        whole.apply(ruleset(replace(PLAN, servers=frozenset(servers.values()))))
        assert same(by_elements, listed())


def test_no_difference_is_no_transaction() -> None:
    servers = some_servers(random.Random(1))
    contents = InForce(replace(PLAN, servers=frozenset(servers.values())))
    assert contents.change([]) == ""
    assert contents.change([(server, server) for server in servers.values()]) == ""


def test_a_shared_address_stays_while_one_has_it() -> None:
    first = VirtualServer(ADDRESSES[0], "tcp", 80)
    second = VirtualServer(ADDRESSES[0], "udp", 53)
    contents = InForce(replace(PLAN, servers=frozenset({first, second})))
    assert contents.change([(first, None)]) == ""
    last = contents.change([(second, None)])
    assert "delete element inet l3net vips4 { 10.96.0.1 }" in last


def test_a_number_of_backends_without_a_chain_makes_the_map_of_slots_anew() -> None:
    many = tuple(Backend(ip_address("10.244.2.0") + number, 8080) for number in range(17))
    server = VirtualServer(ADDRESSES[0], "tcp", 80, many[:16], many[:16])
    contents = InForce(replace(PLAN, servers=frozenset({server})))
    assert contents.change([(server, replace(server, internal=many[:3], external=many[:3]))])
    assert contents.change([(server, replace(server, internal=many, external=many))])
    more = many * 2
    anew = contents.change([(server, replace(server, internal=more, external=more))])
    assert "delete map inet l3net backends4\n" in anew
    assert "add chain inet l3net lb4-34\n" in anew
    assert "delete table" not in anew
    assert contents.change([(server, replace(server, affinity=10800))])  # these chains can be added


@pytest.mark.netns
def test_amending_and_others(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What someone else did to our table is noticed, also when we changed elements since."""
    servers = some_servers(random.Random(2))
    plan = replace(PLAN, servers=frozenset(servers.values()))
    with inside(node):
        table = NftTable()
        table.apply(ruleset(plan))
        table.amend("add element inet l3net vips4 { 192.0.2.1 }\n")
        assert table.intact()
        NftTable()._run("delete element inet l3net vips4 { 192.0.2.1 }\n")
        assert not table.intact()
        table.apply(ruleset(plan))
        NftTable()._run("flush chain inet l3net external\n")
        table.amend("add element inet l3net vips4 { 192.0.2.1 }\n")
        assert not table.intact(), "changed by someone before our own change"
        # Once it has been looked at again, transactions on other tables are told from those on ours.
        table.apply(ruleset(plan))
        table.amend("add element inet l3net vips4 { 192.0.2.1 }\n")
        monkeypatch.setattr(nft, "_QUIET", -1.0)
        assert table.intact()
        NftTable()._run("add table inet other\n")
        assert table.intact()
        NftTable()._run("delete element inet l3net vips4 { 192.0.2.1 }\n")
        assert not table.intact()


@pytest.mark.netns
def test_all_or_nothing(node: str) -> None:
    with inside(node):
        table = NftTable()
        table.apply(ruleset(PLAN))
        before = table._listing()
        with pytest.raises(KernelError, match="cannot change table"):
            table.amend(
                "add element inet l3net vips4 { 192.0.2.1 }\ndelete element inet l3net vips4 { 192.0.2.9 }\n"
            )
        assert table._listing() == before


@pytest.mark.netns
def test_a_refusal_is_told_from_an_unknown_outcome(node: str, tmp_path: Path) -> None:
    """nft that is killed may have done its work before."""
    with inside(node):
        NftTable().apply(ruleset(PLAN))
        with pytest.raises(RefusedError):
            NftTable().amend("delete element inet l3net vips4 { 192.0.2.9 }\n")
        killed = tmp_path / "nft"
        killed.write_text("#!/bin/sh\ncat >/dev/null\nkill -KILL $$\n")
        killed.chmod(0o755)
        with pytest.raises(KernelError) as caught:
            NftTable(str(killed)).amend("flush chain inet l3net internal\n")
        assert not isinstance(caught.value, RefusedError)


@pytest.mark.netns
def test_the_owner_over_the_kernel(node: str) -> None:
    """A server that nft refuses, among others; its table ends as it would without it, and with it mended."""

    async def in_thread(call: Any, *args: Any) -> Any:
        return call(*args)

    def follow(*changed: VirtualServer) -> None:
        servers.update({each.key: each for each in changed})
        changes = {each.key: each for each in changed}
        asyncio.run(table.follow(PLAN, servers, changes, check=True))

    with inside(node):
        problems: dict[str, str] = {}
        servers: dict[Any, VirtualServer] = {}
        table = Table(NftTable(), problems, in_thread, lambda: 0.0)
        ends = tuple(BACKENDS[4])
        good = [VirtualServer(ADDRESSES[0], "tcp", port, ends, ends) for port in range(1, 20)]
        bad = replace(good[7], port=70000)  # no port
        follow(*good[:3])
        assert problems == {}
        follow(*good, bad)
        assert problems["firewall"].startswith("services: nft cannot change table inet l3net (")
        assert table.waits(bad.key)
        stepwise = listed()
        NftTable().apply(ruleset(replace(PLAN, servers=frozenset(good))))
        assert same(stepwise, listed())
