"""Connections that come without end while sections of the table change: nothing is lost. Both families."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from firewall_net import BLOCKS, CLIENT, NODE, POD, REMOTE, Net, inside, talk, tcp
from table_side import InForce
from test_firewall_traffic import VIP, backend, both, plan, server

from l3net.firewall.facts import FirewallPlan

pytestmark = pytest.mark.netns

TURNS = 200
#: Seconds after which a connection is lost: its first packet would be sent again after one.
LOST = 0.9
WIDE = {4: [f"10.64.{n}.0/24" for n in range(0, 80, 2)], 6: [f"fd00:64:{n}::/64" for n in range(40)]}
POOL = {4: "10.1.0.0/16", 6: "fd00:1::/32"}


def standing(version: int) -> FirewallPlan:
    """A service, and a pool that is masqueraded outside; the other node's pod is in the set of ranges."""
    length = 32 if version == 4 else 128
    known = [*WIDE[version], BLOCKS[version == 6], f"{REMOTE[version]}/{length}"]
    return plan(
        server(version, backend(POD["pod1"][version])),
        nat_sources=frozenset({ip_network(POOL[version])}),
        inside=frozenset(map(ip_network, known)),
    )


def turned(version: int, turn: int) -> FirewallPlan:
    """As it stands, but for one thing: the address of a node, another's block, a pool."""
    made = standing(version)
    four = version == 4
    match turn % 4:
        case 0:
            other = f"198.51.100.{turn}" if four else f"2001:db8:e::{turn:x}"
            addresses = made.node_addresses | {ip_address(other)}
            return replace(made, node_addresses=addresses, inside=made.inside | {ip_network(other)})
        case 1:
            block = ip_network(f"10.0.{turn}.0/24" if four else f"fd00:2:{turn:x}::/64")
            return replace(made, inside=made.inside | {block})
        case 2:
            pool = ip_network(f"10.{turn + 20}.0.0/16" if four else f"fd00:{turn + 100:x}::/32")
            return replace(made, inside=made.inside | {pool}, nat_sources=made.nat_sources | {pool})
        case _:
            return made


class Stream:
    """One who connects again and again, and notes what is not answered as it should be."""

    def __init__(self, ask: Callable[[], tuple[str, ...]], expected: tuple[str, ...]) -> None:
        self._ask, self._expected = ask, expected
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.good = 0
        self.bad: list[object] = []
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                found: object = self._ask()
            except OSError as err:
                found = err
            if found == self._expected:
                self.good += 1
            else:
                self.bad.append(found)

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


def streams(net: Net, version: int, turn: Callable[[int], None]) -> tuple[int, list[object]]:
    """Connections that were answered, and what became of the others, while `turn` is called again and again;
    flows that are there go on all the time."""
    with ExitStack() as stack, net.serving(version, roles=("pod1", "client", "other")):
        ways = [
            # role, address, port, who answers and the address it saw
            ("client", VIP[version], 80, ("pod1", "8080", CLIENT[version])),
            ("pod2", VIP[version], 80, ("pod1", "8080", POD["pod2"][version])),
            ("pod2", CLIENT[version], 8080, ("client", "8080", NODE[version])),
            ("pod3", REMOTE[version], 8080, ("other", "8080", POD["pod3"][version])),
        ]
        flows = []
        for role, address, port, expected in ways:
            flow = stack.enter_context(tcp(net.names[role], version))
            flow.connect((address, port))
            assert talk(flow) == expected
            flow.settimeout(LOST)
            flows.append((flow, expected))
        found = [
            Stream(lambda way=way: net.ask(way[0], version, way[1], way[2], LOST), way[3]) for way in ways
        ]
        broken: list[object] = []
        try:
            for number in range(TURNS):
                turn(number)
                for flow, expected in flows:
                    if (answer := talk(flow)) != expected:
                        broken.append(answer)
        except OSError as err:
            broken.append(err)
        finally:
            for each in found:
                each.stop()
        return sum(each.good for each in found), [*broken, *(bad for each in found for bad in each.bad)]


@both
def test_nothing_is_lost_while_sections_change(net: Net, version: int) -> None:
    held = InForce(standing(version))
    net.apply_text(held.text)
    sizes = []

    def turn(number: int) -> None:
        transaction = held.follow(turned(version, number))
        assert "backends" not in transaction
        sizes.append(len(transaction))
        with inside(net.names["node"]):
            net.table.amend(transaction)

    good, bad = streams(net, version, turn)
    assert bad == []
    assert good > TURNS
    assert min(sizes) > 0


@both
def test_a_table_that_is_gone_for_a_moment_loses_some(net: Net, version: int) -> None:
    """The control."""
    held = InForce(standing(version))
    net.apply_text(held.text)

    def turn(number: int) -> None:
        if not number % 20:
            net.remove_table()
            net.apply_text(held.text)

    _, bad = streams(net, version, turn)
    assert bad
