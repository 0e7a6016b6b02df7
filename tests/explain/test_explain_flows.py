"""Connections by names: which are meant, how many are counted apart; and the kernel's events as they come."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest

from l3net.explain import flows
from l3net.explain.flows import Names, Totals, Tracked, Wanted, peers_of
from l3net.shell.kernel import flowevents
from l3net.shell.kernel.flowevents import FlowEvents, present

CLIENT, SERVICE, POD = ip_address("198.51.100.7"), ip_address("10.96.0.10"), ip_address("10.244.1.2")
SEEN = Tracked(6, CLIENT, SERVICE, 80, POD, 8080, CLIENT)
NAMES = Names.of(
    {
        "pods": {"10.244.1.2": "default/web-0"},
        "nodes": {"10.0.0.1": "n1", "fd00::1": "n1"},
        "services": {"10.96.0.10 tcp 80": "default/web", "node tcp 30080": "default/web"},
        "blocks": {"10.244.2.0/24": "n2"},
    }
)


def test_ends_are_named_and_a_service_by_the_address_or_node_port_that_was_asked() -> None:
    flow = NAMES.flow(SEEN)
    assert (flow.source, flow.destination, flow.service) == (
        "198.51.100.7",
        "default/web-0 (10.244.1.2)",
        "default/web",
    )
    assert (flow.port, flow.to_port, flow.masqueraded) == (80, 8080, False)
    node_port = Tracked(
        6, CLIENT, ip_address("10.0.0.1"), 30080, ip_address("10.244.2.9"), 8080, ip_address("10.0.0.1")
    )
    flow = NAMES.flow(node_port)
    assert (flow.destination, flow.service, flow.masqueraded) == ("10.244.2.9 on n2", "default/web", True)
    plain = NAMES.flow(Tracked(17, POD, ip_address("fd00::1"), 53, ip_address("fd00::1"), 53, POD))
    assert (plain.source, plain.destination, plain.service, plain.protocol) == (
        "default/web-0 (10.244.1.2)",
        "node n1 (fd00::1)",
        "",
        "udp",
    )


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        (Wanted(), True),
        (Wanted(pods=("default/web-0",)), True),
        (Wanted(pods=("default/web",)), False),
        (Wanted(services=("default/web",)), True),
        (Wanted(services=("default/db",)), False),
        (Wanted(peers=peers_of(["198.51.100.0/24"])), True),
        (Wanted(peers=peers_of(["10.96.0.10"])), True),
        (Wanted(peers=peers_of(["::/0"])), False),
        (Wanted(pods=("default/web-0",), peers=peers_of(["203.0.113.1"])), False),
    ],
)
def test_which_are_meant(wanted: Wanted, meant: bool) -> None:
    assert wanted.holds(SEEN, NAMES.flow(SEEN)) is meant


def test_kinds_that_are_counted_apart_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "MOST_KINDS", 3)
    totals = Totals()
    for number in range(10):
        other = Tracked(6, ip_address(number + 1), SERVICE, 80, POD, 8080, CLIENT)
        totals.add(NAMES.flow(other))
    totals.add(NAMES.flow(Tracked(6, ip_address(1), SERVICE, 80, POD, 8080, CLIENT)), 5)
    assert (len(totals.counts), totals.others) == (3, 7)
    assert totals.rows(1)[0]["connections"] == 6


# --- the kernel ------------------------------------------------------------------------------------------


@pytest.fixture
def tracking(own_netns: Callable[[str], str]) -> Callable[[str], str]:
    """A namespace whose loopback has addresses of both families, and tracks connections."""
    own_netns("link set lo up")
    own_netns("addr add 10.9.0.1/24 dev lo")
    own_netns("addr add fd09::1/64 dev lo nodad")
    rules = "table inet t { chain c { type filter hook output priority 0; ct state new accept; }; }"
    subprocess.run(
        ["nft", "-f", "-"], input=rules.replace("; }", "\n}").replace("; ct", ";\nct"), text=True, check=True
    )
    for _ in range(100):  # the kernel puts the address in force a little later
        if "fd09::1" in own_netns("-6 route show table local"):
            return own_netns
        time.sleep(0.05)
    raise AssertionError("the address does not come")


def server(address: str) -> tuple[socket.socket, int]:
    found = socket.create_server(
        (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=256
    )
    threading.Thread(target=accept, args=(found,), daemon=True).start()
    return found, found.getsockname()[1]


def accept(listening: socket.socket) -> None:
    while True:
        try:
            listening.accept()[0].close()
        except OSError:
            return


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("remembered", [50_000, 1, 0])
def test_every_connection_is_told_as_it_is(
    tracking: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    """Also where what is remembered of others' octets is forgotten again, or nothing is remembered."""
    monkeypatch.setattr(flowevents, "_REMEMBERED", remembered)
    listening = [server(address) for address in ("10.9.0.1", "fd09::1", "127.0.0.1", "10.9.0.1")]
    ports = [port for _, port in listening]
    wanted: Counter[tuple[str, str, int, int]] = Counter()
    events = FlowEvents(ends=True)
    try:
        for _ in range(30):
            for (_, port), address in zip(
                listening, ("10.9.0.1", "fd09::1", "127.0.0.1", "10.9.0.1"), strict=True
            ):
                with socket.create_connection((address, port)) as client:
                    source, source_port = client.getsockname()[:2]
                    wanted[source, address, port, source_port] += 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.sendto(b"x", ("10.9.0.1", 9))
        found: Counter[tuple[str, str, int, int]] = Counter()
        udp = 0
        for _ in range(20):
            for event in events.read(0.1):
                seen = event.seen
                if seen.port in ports and not event.ended:
                    found[str(seen.source), str(seen.destination), seen.port, event.source_port] += 1
                udp += seen.protocol == 17 and seen.port == 9
            if found == wanted and udp:
                break
        assert found == wanted
        assert udp == 1
        there = {(str(each.destination), each.port) for each in present() if each.answered}
        assert {("fd09::1", ports[1]), ("10.9.0.1", ports[0])} <= there
        assert events.lost == 0
    finally:
        events.close()
        for each, _ in listening:
            each.close()


def test_a_prefix_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="x"):
        peers_of(["x"])
    assert peers_of(["10.0.0.0/8", "fd00::1"]) == (ip_network("10.0.0.0/8"), ip_network("fd00::1/128"))
