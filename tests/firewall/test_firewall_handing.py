"""The section `handing` in the kernel: however endpoints, services and nodes change, what is in force is what
a table made anew would hold; and a change costs what it changes."""

from __future__ import annotations

import json
import random
import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from firewall_net import inside
from pyroute2 import netns
from table_side import differences

from l3net.fib.envelope import GATEWAYS, envelope, mac_of, outer_version
from l3net.firewall import ranking
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.handing import HANDING, fill
from l3net.firewall.ruleset import table
from l3net.model import Backend, Envelope, Node, Placed, Spread, VirtualServer
from l3net.naming import ANNOTATION_TAKES_PART
from l3net.shell.kernel import nftelements
from l3net.shell.kernel.envelope import KernelEnvelope
from l3net.shell.kernel.nft import NftTable

ME = "n1"


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[KernelEnvelope, NftTable, str]]:
    name = f"ha{uuid.uuid4().hex[:8]}"
    netns.create(name)
    try:
        with inside(name):
            device = KernelEnvelope()
        yield device, NftTable(), name
        device.close()
    finally:
        netns.remove(name)


def nodes(count: int, *versions: int) -> dict[str, Node]:
    addresses = {4: "10.0.0.{}", 6: "fd00::{}"}
    return {
        f"n{number}": Node(
            f"n{number}",
            tuple(ip_address(addresses[version].format(number)) for version in versions or (4, 6)),
        )
        for number in range(1, count + 1)
    }


def envelope_of(count: int, index: int, *dead: str) -> Envelope:
    there = {name: replace(node, ready=name not in dead) for name, node in nodes(count).items()}
    found = envelope(there, ME, 1500)
    assert found is not None
    return replace(found, index=index)


def server(version: int, port: int, protocol: str, ends: list[int], old: list[int]) -> VirtualServer:
    address = {4: "203.0.113.1", 6: "2001:db8::1"}[version]
    pods = {4: "10.1.0.{}", 6: "fd00:1::{}"}[version]

    def placed(numbers: list[int]) -> tuple[Placed, ...]:
        made = (
            Placed(Backend(ip_address(pods.format(number + 1)), 8080), f"n{number % 4 + 1}")
            for number in numbers
        )
        return tuple(sorted(made))

    spread = Spread(placed(ends), placed(old)) if ends else None
    return VirtualServer(ip_address(address), protocol, port, spread=spread)


def listed() -> dict[str, Any]:
    """What both tables hold, but for whom is asked for a while."""
    found: dict[str, Any] = {}
    for family in ("ip", "ip6"):
        command = ["nft", "-j", "list", "table", family, "l3net"]
        out = subprocess.run(command, capture_output=True, check=False)
        for entry in json.loads(out.stdout)["nftables"] if out.returncode == 0 else ():
            for kind in ("set", "map"):
                if kind in entry and entry[kind]["name"] != "asking":
                    held = {json.dumps(each) for each in entry[kind].get("elem", ())}
                    found[f"{family} {entry[kind]['name']}"] = held
    return found


def test_whatever_changes_it_ends_as_if_made_anew(
    place: tuple[KernelEnvelope, NftTable, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "SIZES", ((3, 64), (48, 128)))  # another size now and then
    device, nft, name = place
    draw = random.Random(7)
    with inside(name):
        index = device.apply(envelope_of(4, 0))
        plan = FirewallPlan()
        made = HANDING.made(plan)
        nft.apply(table([made]))
        held, servers = made.held, dict[Any, VirtualServer]()
        for _ in range(5):
            wanted = {
                each.key: each
                for version in (4, 6)
                for port, protocol in ((80, "tcp"), (53, "udp"))
                if draw.random() < 0.8
                for ends in (draw.sample(range(6), draw.randrange(5)),)
                for each in (server(version, port, protocol, ends, [x for x in (6, 7) if x not in ends]),)
            }
            count, dead = draw.choice([3, 4]), draw.choice([(), ("n3",)])
            said = envelope_of(count, index, *dead) if draw.random() < 0.9 else None
            addresses = frozenset(each for node in nodes(count).values() for each in node.addresses)
            plan = FirewallPlan(envelope=said, node_addresses=addresses)
            step = held.change(plan, differences(servers.values(), wanted.values()))
            nft.amend(step.text)
            step.take()
            servers = wanted
            after = listed()
            nft.apply(table([HANDING.made(plan.serving(servers.values()))]))
            assert after == listed()
            assert bool(after) is (said is not None and any(each.spread for each in servers.values()))


def test_a_slot_that_comes_twice_asks_who_had_it_last(place: tuple[KernelEnvelope, NftTable, str]) -> None:
    device, nft, name = place
    with inside(name):
        said = envelope_of(4, device.apply(envelope_of(4, 0)))
        every = server(4, 53, "udp", [0, 1, 2], [])  # of n1, n2 and n3
        nft.apply(table([made := HANDING.made(FirewallPlan(servers=frozenset({every}), envelope=said))]))
        held = made.held
        for ends in ([1], [0, 1], [2], [0, 2], [1], [0, 1]):
            now = server(4, 53, "udp", ends, [])
            step = held.change(FirewallPlan(envelope=said), {now.key: now})
            nft.amend(step.text)
            step.take()
        command = ["nft", "list", "map", "ip", "l3net"]
        asked, owned = (
            dict(re.findall(r"udp \. 53 \. (\d+) .*?: (240[\d.]+)", out))
            for out in (
                subprocess.run([*command, which], capture_output=True, check=True, text=True).stdout
                for which in ("asking", "owners")
            )
        )
        n2 = next(str(end.gateways[4, True]) for end in said.ends if end.node == "n2")
        mine = [slot for slot in map(str, range(4096)) if slot not in owned]
        assert mine and {asked[slot] for slot in mine} == {n2}


def test_one_endpoint_more_changes_its_share_and_nothing_a_second_time() -> None:
    said = envelope_of(4, 3)
    before, after = (server(4, 80, "tcp", list(range(count)), []) for count in (9, 10))
    held = HANDING.made(FirewallPlan(servers=frozenset({before}), envelope=said)).held
    step = held.change(FirewallPlan(envelope=said), {after.key: after})
    slots = step.text.count(" . ") / 5
    assert 0 < slots < 4096 * 2 * 4 / 10
    assert nftelements.requests(step.text), "an nft process is made for it"
    step.take()
    assert not held.change(FirewallPlan(envelope=said), {after.key: after}).text
    assert not held.change(FirewallPlan(envelope=said), {}).text


def test_a_node_s_own_address_is_served_as_ever() -> None:
    own = server(4, 80, "tcp", [0, 1], [])
    plan = FirewallPlan(servers=frozenset({own}), envelope=envelope_of(4, 3))
    assert HANDING.made(plan).beside
    assert not HANDING.made(replace(plan, node_addresses=frozenset({own.address}))).beside


# --- who is at the ends of the envelope ------------------------------------------------------------------


def test_all_nodes_agree_on_the_family_outside_and_on_their_macs() -> None:
    assert outer_version(nodes(3).values()) == 4
    assert outer_version(nodes(3, 6).values()) == 6
    assert outer_version([*nodes(2).values(), *nodes(3, 6).values()]) == 6
    found = {name: envelope(nodes(40), name, 1500) for name in nodes(40)}
    for name, each in found.items():
        assert each is not None
        for end in each.ends:
            other = found[end.node]
            assert other is not None and end.mac == other.mac and end.address == other.address
            assert name != end.node
        gateways = [gateway for end in each.ends for gateway in end.gateways.values()]
        assert len(set(gateways)) == len(gateways)
        assert all(gateway in GATEWAYS for gateway in gateways if gateway.version == 4)
    assert envelope({}, ME, 1500) is None and envelope({ME: Node(ME)}, ME, 1500) is None
    assert mac_of(ip_address("10.0.0.1")) == "0a:6c:0a:00:00:01"


def test_nothing_goes_to_a_node_that_takes_no_part() -> None:
    """One that does not say so where agents say it, and one that is said not to: what it would be handed each
    node translates by itself."""
    there = nodes(4)
    there["n2"] = replace(there["n2"], annotations={ANNOTATION_TAKES_PART: "true"})
    there["n3"] = replace(there["n3"], annotations={ANNOTATION_TAKES_PART: "false"})
    for said, taking in ((True, ["n2"]), (False, ["n2", "n4"])):
        found = envelope(there, ME, 1500, said=said)
        assert found is not None and [end.node for end in found.ends] == taking
        full = envelope(nodes(4), ME, 1500)  # the gateways stay as they are, whoever takes part
        assert full is not None and set(found.ends) <= set(full.ends)
        one = server(4, 80, "tcp", list(range(8)), [])
        assert one.spread is not None
        filled = fill(one, 4096, found)
        gateways = {str(end.gateways[4, False]) for end in found.ends}
        owners, _, here, _ = filled.by_map
        assert {each for each in owners if each} == gateways
        translated = {each.partition(" ")[0] for each in here if each}
        elsewhere = {str(each.backend.address) for each in one.spread.ready if each.node in taking}
        assert translated == {str(each.backend.address) for each in one.spread.ready} - elsewhere


def test_the_device_follows_the_nodes_and_only_what_differs_is_touched(
    place: tuple[KernelEnvelope, NftTable, str],
) -> None:
    device, _, name = place
    with inside(name):

        def shown(*command: str) -> str:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        index = device.apply(envelope_of(4, 0))
        for count in (2, 4, 3):
            assert device.apply(envelope_of(count, 0)) == index
            assert shown("bridge", "fdb", "show", "dev", "l3nvx0").count(" dst ") == 2 * (count - 1)
            assert shown("ip", "-4", "neigh", "show", "dev", "l3nvx0").count("PERMANENT") == 2 * (count - 1)
        # Somebody's changes are put right; a device that somebody made otherwise is made anew.
        shown("ip", "neigh", "flush", "dev", "l3nvx0", "nud", "permanent")
        shown("ip", "link", "set", "l3nvx0", "down")
        assert device.apply(envelope_of(3, 0)) == index
        assert shown("ip", "-4", "neigh", "show", "dev", "l3nvx0").count("PERMANENT") == 4
        assert "mtu lock" in shown("ip", "route", "show", "dev", "l3nvx0")
        shown("ip", "link", "delete", "l3nvx0")
        shown("ip", "link", "add", "l3nvx0", "type", "vxlan", "id", "7", "dstport", "4789")
        assert device.apply(envelope_of(3, 0)) != index
        assert "dstport 6109" in shown("ip", "-d", "link", "show", "l3nvx0")
        device.remove()
        device.remove()
        assert "l3nvx0" not in shown("ip", "link")
