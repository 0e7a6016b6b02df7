"""The elements of a port: there before it, gone after it, put back, and taken over by the next agent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from guard_frames import made, udp
from guard_net import OUTSIDE, run_in, world
from scapy.layers.l2 import ARP, Ether
from test_cni_pinned import until

from l3net.attach.guard import Guard
from l3net.cni.guard import Allowed, Element, GuardedPort, elements
from l3net.shell.kernel.nft import generation
from l3net.shell.kernel.nftguard import NftGuard

if TYPE_CHECKING:
    from conftest import Host

pytestmark = pytest.mark.netns

TABLE = "bridge l3net"


def held(host: Host) -> frozenset[Element]:
    """What the kernel holds."""

    def read() -> frozenset[Element]:
        table = NftGuard()
        try:
            found = table.elements()
        finally:
            table.close()
        assert found is not None
        return found

    return host.inside(read)


def intact(host: Host) -> bool:
    """Whether all is as the server wants it."""
    assert host.server is not None and host.server._guarding is not None
    guard = host.server._guarding.guard
    wanted = frozenset().union(*(elements(each) for each in guard.ports.values()))

    def same() -> bool:
        table = NftGuard()
        try:
            return table.shape() == guard._shape and table.elements() == wanted
        finally:
            table.close()

    return host.inside(same)


def test_every_pod_has_its_elements_and_loses_them(host: Host, run: Any) -> None:
    """They go when the link is gone; as long as it is there, and stopped, nothing passes it."""
    assert held(host) == frozenset()
    result = host.add("one")
    mac = result["interfaces"][2]["mac"]
    (port,) = host.veths()
    assert {(each.set, each.port) for each in held(host)} == {
        (name, port) for name in ("guarded", "macs", "sources4", "sources6", "targets", "options")
    }
    assert len(held(host)) == 1 + 1 + 1 + 2 + 2 + 2  # the link-local address is one of its own
    assert any(bytes.fromhex(mac.replace(":", "")) in each.key for each in held(host))
    host.add("two")
    both = held(host)
    assert host.cni("DEL", "one").code == 0
    assert {each for each in held(host) if each.port == port} <= {
        Element("guarded", port.encode().ljust(16, b"\0"))
    }
    assert until(lambda: held(host) == {each for each in both if each.port != port})
    assert (
        host.cni("GC", conf={**host.conf, "cni.dev/valid-attachments": [], "cniVersion": "1.1.0"}).code == 0
    )
    assert until(lambda: held(host) == frozenset())


def test_a_port_that_went_without_a_del_is_forgotten(host: Host, run: Any) -> None:
    host.add("one")
    host.add("two")
    both, server = held(host), host.server
    assert server is not None and server._guarding is not None
    (lease, other) = server.leases.leases()
    server.leases.release(lease.key)
    run("ip", "-n", host.name, "link", "del", lease.host_ifname)
    host.inside(server._guarding.prune)
    assert until(lambda: held(host) == {each for each in both if each.port == other.host_ifname})


def test_an_add_that_fails_leaves_no_element(host: Host, run: Any) -> None:
    pod = host.pod()
    run("ip", "-n", pod, "link", "add", "eth0", "type", "bridge")
    assert host.cni("ADD", "one", pod).code != 0
    assert held(host) == frozenset() and host.server is not None and intact(host)


@pytest.mark.parametrize(
    "harm",
    [
        f"delete table {TABLE}",
        f"flush table {TABLE}",
        "flush ruleset",
        f"flush chain {TABLE} prerouting",
        f"insert rule {TABLE} prerouting accept",
        f"add table {TABLE} {{ flags dormant; }}",
        f"add chain {TABLE} theirs {{ type filter hook prerouting priority -400; }}",
        f"flush set {TABLE} guarded",
        f'add element {TABLE} sources4 {{ "l3vother" . 10.0.0.1 }}',
    ],
)
def test_what_somebody_changes_is_put_back_at_once(host: Host, harm: str) -> None:
    host.add("one")
    assert intact(host)
    run_in(host.name, "nft", harm)
    assert not intact(host)
    assert host.server is not None
    host.server.guard_touched()
    assert until(lambda: intact(host), 1.5)  # seconds; unasked, it looks every ten


def test_it_is_put_back_without_a_notice_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l3net.attach.guarding.INTERVAL", 1.0)
    host.add("one")
    run_in(host.name, "nft", f"delete table {TABLE}")
    assert until(lambda: held_or_nothing(host) and intact(host))


def held_or_nothing(host: Host) -> bool:
    return "table bridge l3net" in run_in(host.name, "nft", "list", "tables")


def test_add_puts_a_table_back_that_is_gone(host: Host) -> None:
    host.add("one")
    run_in(host.name, "nft", f"delete table {TABLE}")
    host.add("two")
    assert intact(host)


def test_check_misses_an_element(host: Host) -> None:
    pod = host.pod()
    result = host.add("one", pod)
    conf = {**host.conf, "prevResult": result}
    assert host.cni("CHECK", "one", pod, conf=conf).code == 0
    run_in(host.name, "nft", f"flush set {TABLE} macs")
    outcome = host.cni("CHECK", "one", pod, conf=conf)
    if outcome.code == 0:  # it was put back meanwhile
        run_in(host.name, "nft", f"flush set {TABLE} macs")
        outcome = host.cni("CHECK", "one", pod, conf=conf)
    assert outcome.json["code"] == 102 and "anti-spoofing" in json.dumps(outcome.json)


def test_while_agents_come_and_go_no_lie_passes_and_nothing_true_is_lost(host: Host) -> None:
    """1,000 frames a restart, of both kinds; the table is taken over as it stands."""
    there = world(host)
    mine = Ether(src=there.mac, dst="02:6c:33:00:00:01")
    true, false = [], []
    for _ in range(1500):
        true += made("true", mine / udp(there.own[4], OUTSIDE[4]), "far")
        false += made("false", mine / udp(there.theirs[4], OUTSIDE[4]), "far")
    over = threading.Event()

    def speak() -> None:
        for one, other in zip(true, false, strict=True):
            there.say([one.frame, other.frame])
            over.wait(0.0005)
        over.set()

    speaker = threading.Thread(target=speak)
    speaker.start()
    restarts = 0
    while not over.is_set():
        before = held(host)
        host.stop()
        host.start()
        assert held(host) == before
        restarts += 1
    speaker.join()
    heard = there.ears.listen({"node": {each.mark for each in true}, "far": {each.mark for each in true}})
    assert restarts > 1
    assert [each.mark for each in true if each.mark not in heard["node"]] == []
    assert [each.mark for each in false if each.mark in heard["node"]] == []


def test_a_pod_of_an_older_release_is_named_until_its_mac_is_known(
    host: Host, ping: Callable[..., bool]
) -> None:
    """Its host end says nothing of a store; the neighbours' word, or none."""
    pod = host.pod()
    result = host.add("old", pod)
    (port,) = host.veths()
    address = result["ips"][0]["address"].split("/")[0]
    host.stop()
    run_in(host.name, "nft", "delete table bridge l3net")
    alias = host.ip("link", "show", "dev", port)[0]["ifalias"]
    run_in(host.name, "ip", "link", "set", "dev", port, "alias", " ".join(alias.split(" ")[:5]))
    run_in(host.name, "ip", "neigh", "flush", "dev", "l3net0", "nud", "permanent")
    server = host.start()
    (problem,) = [each for each in server.problems() if "anti-spoofing" in each]
    assert port in problem and "1 pods" in problem and held(host) == frozenset()
    assert ping(host.name, address)
    assert server._guarding is not None
    host.inside(server._guarding.know)
    assert server.problems() == [] and {each.port for each in held(host)} == {port}
    assert ping(pod, "10.244.0.1")


def test_what_is_allowed_changes_at_once(host: Host) -> None:
    """By the pod's name and by the pool of its address; few addresses may be claimed, more be sent from."""
    there = world(host)
    server = host.server
    assert server is not None
    host.cni("DEL", "liar")
    mine = Ether(src=there.mac, dst="02:6c:33:00:00:01")

    def passes(source: str) -> bool:
        (said,) = made("asked", mine / udp(source, OUTSIDE[6 if ":" in source else 4]))
        (end,) = made("end", mine / udp(there.own[4], OUTSIDE[4]))
        there.say([said.frame, end.frame])
        return said.mark in there.ears.listen({"node": {end.mark}})["node"]

    def claims(address: str) -> bool:
        arp = ARP(op=1, hwsrc=there.mac, psrc=address, pdst=address)
        (said,) = made("claimed", Ether(src=there.mac, dst="ff:ff:ff:ff:ff:ff") / arp)
        (end,) = made("end", mine / udp(there.own[4], OUTSIDE[4]))
        there.say([said.frame, end.frame])
        return said.mark in there.ears.listen({"node": {end.mark}})["node"]

    pod = host.pod()
    added = host.add("allowed", pod, CNI_ARGS="K8S_POD_NAMESPACE=shop;K8S_POD_NAME=vip;K8S_POD_UID=u")
    from guard_net import addresses, packet_socket

    there.mouth, there.own = packet_socket(pod, "eth0"), addresses(added)
    there.mac = added["interfaces"][2]["mac"]
    mine = Ether(src=there.mac, dst="02:6c:33:00:00:01")
    sources = ("192.0.2.77", "198.51.100.200", "2001:db8:7::7", "2001:db8:8:9::1")
    assert not any(map(passes, sources)) and not claims("192.0.2.77")
    wide = ("198.51.100.0/24", "2001:db8:8::/48")
    single = ("192.0.2.76/30", "2001:db8:7::7/128")
    allow(host, {"shop/vip": single}, {})
    assert [passes(each) for each in sources] == [True, False, True, False] and claims("192.0.2.77")
    allow(host, {"shop/vip": single}, {"10.244.0.0/16": wide})
    assert all(map(passes, sources))
    allow(host, {"shop/other": single}, {"10.245.0.0/16": wide})
    assert not any(map(passes, sources)) and not claims("192.0.2.77")
    assert passes(there.own[4]) and passes(there.own[6])


def allow(host: Host, pods: dict[str, tuple[str, ...]], pools: dict[str, tuple[str, ...]]) -> None:
    assert host.server is not None
    allowed = Allowed(
        {pod: tuple(map(ip_network, each)) for pod, each in pods.items()},
        {ip_network(pool): tuple(map(ip_network, each)) for pool, each in pools.items()},
    )
    host.inside(lambda: host.server.allow(allowed))  # type: ignore[union-attr]
    assert not [each for each in host.server.problems() if "spoofing" in each]


def test_many_ports_are_one_transaction(own_netns: Callable[[str], str]) -> None:
    ports = [
        GuardedPort(f"l3v{number:011x}", f"02:00:00:00:00:{number:02x}", tuple(addresses))
        for number in range(110)
        for addresses in [[ip_network("10.0.0.0/16")[number], ip_network("fd00::/64")[number]]]
    ]
    guard = Guard(NftGuard())
    try:
        for _ in range(2):  # made, and taken over
            before = generation()
            guard.start(ports)
            assert generation() == before + 1
            assert not guard.mend()
    finally:
        guard.close()


class Disturbed(NftGuard):
    """Somebody flushes a set the moment it was looked at, as long as `disturbing`."""

    disturbing = False

    def elements(self) -> frozenset[Element] | None:
        found = super().elements()
        if self.disturbing:
            self.run("flush set bridge l3net macs\n")
        return found


@pytest.mark.parametrize("harm", ["", "delete table bridge l3net\n"])
def test_what_is_changed_in_the_midst_of_a_look_is_seen_by_the_next(
    own_netns: Callable[[str], str], harm: str
) -> None:
    table = Disturbed()
    guard = Guard(table)
    port = GuardedPort("l3v1", "02:00:00:00:00:01", (ip_network("10.0.0.1/32")[0],))
    try:
        guard.start([port])
        table.disturbing = True
        table.run(harm or "add table inet other\n")  # there is something to look at
        assert guard.mend() == bool(harm)
        table.disturbing = False
        assert guard.mend() and table.elements() == elements(port)
        assert not guard.mend()
    finally:
        guard.close()
