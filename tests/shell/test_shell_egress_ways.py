"""Ways of EgressIPs in a real kernel: rules and routes of ours and no others, and packets that take them."""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from firewall_net import PATIENCE, inside
from pyroute2 import netns

from l3net.errors import KernelError
from l3net.fib.envelope import GATEWAYS, envelope
from l3net.model import EgressWay, Node
from l3net.naming import BRIDGE, ENVELOPE
from l3net.shell.kernel.egress_ways import KernelEgressWays
from l3net.shell.kernel.envelope import KernelEnvelope
from l3net.shell.kernel.netlink import NETLINK_ADD_MEMBERSHIP, SOL_NETLINK, messages
from l3net.shell.probes.foreign import others

pytestmark = pytest.mark.netns
Ip = Callable[[str], str]
BOTH = (4, 6)
#: linux/rtnetlink.h: routes of both families, rules of both.
_GROUPS = (7, 11, 8, 19)
TABLE = 0x6C330000


def way(number: int, version: int) -> EgressWay:
    gateway = f"240.108.0.{number}" if version == 4 else f"fe80::a6c:a00:{number:x}"
    return EgressWay(version, number << 16, ip_address(gateway))


WAYS = [way(number, version) for number in (1, 2, 0x6C) for version in BOTH]


@pytest.fixture
def link(own_netns: Ip) -> Ip:
    own_netns(f"link add {ENVELOPE} type veth peer name far0")
    for name in (ENVELOPE, "far0"):
        own_netns(f"link set {name} up")
    own_netns(f"addr add 240.109.255.254/32 dev {ENVELOPE}")
    return own_netns


def rules(ip: Ip) -> set[tuple[int, str, str, int]]:
    """Family, mark and mask, link and table of those at our priority that are ours."""
    found = set()
    for version in BOTH:
        for each in json.loads(ip(f"-{version} -j rule")):
            if each["priority"] == 10800 and each.get("protocol") == "108":
                mark = f"{each['fwmark']}/{each['fwmask']}"
                found.add((version, mark, each.get("iif", ""), int(each["table"])))
    return found


def routes(ip: Ip) -> set[tuple[int, int, str, str, int]]:
    """Family, table, gateway, link and MTU of ours."""
    found = set()
    for version in BOTH:
        for each in json.loads(ip(f"-{version} -j route show table all proto 108")):
            where = version, int(each["table"]), each["gateway"], each["dev"]
            assert each["dst"] == "default" and "onlink" in each["flags"]
            (metrics,) = each["metrics"]
            found.add((*where, metrics["mtu"]))
    return found


def expected(ways: list[EgressWay], mtu: int = 1450) -> tuple[set[Any], set[Any]]:
    marked = {
        (each.version, f"{each.mark:#x}/0xffff0000", "l3net0", TABLE | each.mark >> 16) for each in ways
    }
    led = {(each.version, TABLE | each.mark >> 16, str(each.gateway), ENVELOPE, mtu) for each in ways}
    return marked, led


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextlib.contextmanager
def changes() -> Iterator[list[int]]:
    """The kinds of messages about routes and rules that are sent meanwhile: they are sent at once."""
    found: list[int] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as heard:
        heard.bind((0, 0))
        heard.setblocking(False)
        for group in _GROUPS:
            heard.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        yield found
        with contextlib.suppress(BlockingIOError):
            while True:
                found += (kind for kind, *_ in messages(heard.recv(1 << 16)))


def test_there_are_these_and_no_others_and_the_second_pass_is_quiet(link: Ip) -> None:
    held = KernelEgressWays()
    history = (WAYS, WAYS[:2], [], WAYS[2:], [*WAYS[:3], way(7, 6)], WAYS)
    for ways in history:
        held.apply(ways, ENVELOPE, 1450)
        assert (rules(link), routes(link)) == expected(ways)
        with changes() as none:
            held.apply(ways, ENVELOPE, 1450)
            KernelEgressWays().apply(ways, ENVELOPE, 1450)  # one that knows of nothing
        assert not none
    with changes() as some:
        held.apply(WAYS, ENVELOPE, 1400)
    assert len(some) == len(WAYS)  # in place, and no rule
    assert (rules(link), routes(link)) == expected(WAYS, 1400)
    KernelEgressWays().apply([], ENVELOPE, 1400)  # what another left
    assert (rules(link), routes(link)) == (set(), set())


def test_what_comes_is_a_route_first_and_what_goes_a_rule(link: Ip) -> None:
    held = KernelEgressWays()
    new_route, gone_route, new_rule, gone_rule = 24, 25, 32, 33
    with changes() as come:
        held.apply(WAYS[:2], ENVELOPE, 1450)
    with changes() as go:
        held.apply([], ENVELOPE, 1450)
    assert come == [new_route] * 2 + [new_rule] * 2
    assert go == [gone_rule] * 2 + [gone_route] * 2


@pytest.mark.parametrize("version", BOTH)
def test_what_somebody_changed_is_put_right(link: Ip, version: int) -> None:
    wanted = [way(1, version)]
    held = KernelEgressWays()
    held.apply(wanted, ENVELOPE, 1450)
    table, rule = TABLE | 1, f"-{version} rule add priority 10800 proto 108"
    gateway = {4: "240.108.0.9", 6: "fe80::9"}[version]
    prefix = {4: "192.0.2.0/24", 6: "2001:db8::/64"}[version]
    for done in (
        f"-{version} route replace default via {gateway} dev {ENVELOPE} onlink table {table} proto 108",
        f"-{version} route replace default dev far0 table {table} proto 108",
        f"-{version} route add default via {gateway} dev {ENVELOPE} onlink table {table} proto 108 metric 7",
        f"-{version} route add {prefix} dev far0 table {table} proto 108",
        f"-{version} route flush table {table}",
        f"-{version} rule del priority 10800",
        f"{rule} iif l3net0 fwmark 0x10000/0xffff0000 from {prefix} lookup {table}",
        f"{rule} iif l3net0 fwmark 0x10000/0x0fff0000 lookup {table}",
        f"{rule} fwmark 0x10000/0xffff0000 lookup {table}",
        f"{rule} iif l3net0 fwmark 0x70000/0xffff0000 lookup {TABLE | 7}",
        f"{rule} iif l3net0 fwmark 0x10000/0xffff0000 lookup 77",
    ):
        link(done)
        held.apply(wanted, ENVELOPE, 1450)
        assert (rules(link), routes(link)) == expected(wanted), done
        with changes() as none:
            held.apply(wanted, ENVELOPE, 1450)
        assert not none, done


@pytest.mark.parametrize("version", BOTH)
def test_what_is_not_ours_stays(link: Ip, version: int) -> None:
    prefix = {4: "192.0.2.0/24", 6: "2001:db8::/64"}[version]
    theirs = [
        f"rule add priority 10800 iif l3net0 fwmark 0x20000/0xffff0000 lookup {TABLE | 2} proto static",
        "rule add priority 10801 iif l3net0 fwmark 0x10000/0xffff0000 lookup 77 proto 108",
        f"route add {prefix} dev far0 table {TABLE | 1} proto static",
        f"route add {prefix} dev far0 proto 108",
        f"route add {prefix} dev far0 table {0x6C340001} proto 108",
    ]
    for each in theirs:
        link(f"-{version} {each}")

    def all_of_it() -> str:
        return link(f"-{version} rule") + link(f"-{version} route show table all")

    before = all_of_it()
    held = KernelEgressWays()
    held.apply(WAYS, ENVELOPE, 1450)
    for each in theirs:
        with pytest.raises(subprocess.CalledProcessError):
            link(f"-{version} {each}")  # it is there
    assert all_of_it() != before
    held.apply([], ENVELOPE, 1450)
    assert all_of_it() == before


@pytest.mark.parametrize("version", BOTH)
def test_a_default_route_of_others_in_a_table_is_named_and_stops_nothing_else(link: Ip, version: int) -> None:
    """No rule leads to it, so that nothing leaves by it."""
    link(f"-{version} route add default dev far0 table {TABLE | 1} proto static")
    held = KernelEgressWays()
    for _ in range(2):
        with pytest.raises(KernelError, match="another program's"):
            held.apply(WAYS, ENVELOPE, 1450)
        rest = [each for each in WAYS if each != way(1, version)]
        assert rules(link) == expected(rest)[0]
        assert routes(link) == expected(rest)[1]
    link(f"-{version} route flush table {TABLE | 1}")
    held.apply(WAYS, ENVELOPE, 1450)
    assert (rules(link), routes(link)) == expected(WAYS)


def test_without_the_device_it_fails_and_what_goes_has_gone(link: Ip) -> None:
    held = KernelEgressWays()
    held.apply(WAYS, ENVELOPE, 1450)
    link(f"link del {ENVELOPE}")
    with pytest.raises(KernelError) as failed:
        held.apply(WAYS[:2], ENVELOPE, 1450)
    assert failed.value.code == errno.ENODEV and ENVELOPE in str(failed.value)
    assert rules(link) == expected(WAYS[:2])[0]
    held.apply([], ENVELOPE, 1450)
    assert not rules(link)


def test_a_full_table_of_routes_is_not_read(link: Ip) -> None:
    """But for the first time: a node may have all routes of the Internet, and looks at its ways often."""
    held = KernelEgressWays()
    held.apply(WAYS, ENVELOPE, 1450)
    link("route add 192.0.2.0/24 dev far0 proto 108")
    seen: list[bytes] = []
    real = held._netlink.dump

    def dump(request: Any) -> Any:
        found = real(request)
        seen.extend(body for _, body in found)
        return found

    held._netlink.dump = dump  # type: ignore[method-assign]
    held.apply(WAYS, ENVELOPE, 1450)
    assert seen and not any(ip_address("192.0.2.0").packed in body for body in seen)


def test_they_are_not_taken_for_rules_of_others(link: Ip) -> None:
    KernelEgressWays().apply(WAYS, ENVELOPE, 1450)
    assert not others()[1]
    link("rule add priority 10800 iif l3net0 lookup 77")
    assert others()[1] == ("1 routing rules (`ip rule`)",)


# --- packets ---------------------------------------------------------------------------------------------

POD = {4: "10.1.1.2", 6: "fd00:1:1::2"}
GATEWAY = {4: "10.1.1.1", 6: "fd00:1:1::1"}
NODES = {"n1": {4: "192.0.2.1", 6: "2001:db8:a::1"}, "n2": {4: "192.0.2.2", 6: "2001:db8:a::2"}}
OUT = {4: "198.51.100.2", 6: "2001:db8:b::2"}
HELD = {4: "203.0.113.7", 6: "2001:db8:c::7"}  # the egress address
LENGTH = {4: 24, 6: 64}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
#: linux/in.h, linux/in6.h: never cut, hear of what is too long; how long a packet may be.
_MTU = {4: (socket.IPPROTO_IP, 10, 14), 6: (socket.IPPROTO_IPV6, 23, 24)}


class Net:
    """A pod at the bridge of n1, whose default route is by n2; n2, which translates to the egress address
    what comes by the envelope and nothing else; somebody outside, behind n2."""

    def __init__(self, outer: int) -> None:
        self._undo = ExitStack()
        self._tag = uuid.uuid4().hex[:8]
        nodes = {name: Node(name, (ip_address(each[outer]),)) for name, each in NODES.items()}
        try:
            for role in ("pod", "n1", "n2", "out"):
                netns.create(self.name(role))
                self._undo.callback(netns.remove, self.name(role))
                self.ip(role, "link set lo up")
                strict = "1" if role == "n1" else "0"
                for setting in ("default", "all"):
                    self.set(role, f"ipv4/conf/{setting}/rp_filter", strict)
                    self.set(role, f"ipv6/conf/{setting}/forwarding", "1" if role[0] == "n" else "0")
                self.set(role, "ipv6/conf/default/accept_dad", "0")
                self.set(role, "ipv4/ip_forward", "1" if role[0] == "n" else "0")
            self._build()
            plan = envelope(nodes, "n1", 1500)
            back = envelope(nodes, "n2", 1500)
            assert plan is not None and back is not None
            self.mtu = plan.mtu - plan.around
            self.ways = []
            for version in BOTH:
                (end,) = plan.ends
                number = int(end.gateways[4, False]) - int(GATEWAYS[0])
                self.ways.append(EgressWay(version, number << 16, end.gateways[version, False]))
            for name, each in (("n1", plan), ("n2", back)):
                with inside(self.name(name)):
                    device = KernelEnvelope()
                    self._undo.callback(device.close)
                    device.apply(each)
                    self._rules(name)
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self.ip("n1", f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up")
        port = f"link add pod0 type veth peer name eth0 netns {self.name('pod')}"
        self.ip("n1", port, f"link set pod0 master {BRIDGE}", "link set pod0 up")
        self.ip("n1", f"link add up0 type veth peer name up0 netns {self.name('n2')}")
        self.ip("n2", f"link add out0 type veth peer name eth0 netns {self.name('out')}")
        for role, link, ends in (
            ("n1", BRIDGE, GATEWAY),
            ("pod", "eth0", POD),
            ("n1", "up0", NODES["n1"]),
            ("n2", "up0", NODES["n2"]),
            ("n2", "out0", {4: "198.51.100.1", 6: "2001:db8:b::1"}),
            ("out", "eth0", OUT),
        ):
            self.ip(role, f"link set {link} up")
            for version, address in ends.items():
                more = " nodad" if version == 6 else ""
                self.ip(role, f"addr add {address}/{LENGTH[version]} dev {link}{more}")
        for version in BOTH:
            self.ip("pod", f"route add default via {GATEWAY[version]}")
            self.ip("n1", f"route add default via {NODES['n2'][version]}")
            block = {4: "10.1.1.0/24", 6: "fd00:1:1::/64"}[version]
            self.ip("n2", f"route add {block} via {NODES['n1'][version]}")
            self.ip(
                "out", f"route add {HELD[version]} via {({4: '198.51.100.1', 6: '2001:db8:b::1'})[version]}"
            )

    def _rules(self, node: str) -> None:
        mark = f"meta mark set meta mark & 0x0000ffff | {self.ways[0].mark:#010x}"
        assert self.ways[0].mark == self.ways[1].mark
        if node == "n1":
            hook = (
                f'type filter hook prerouting priority -90; iifname "{BRIDGE}" ct direction original {mark}'
            )
        else:
            to = "; ".join(
                f'iifname "{ENVELOPE}" snat {ip} to {HELD[v]}' for ip, v in (("ip", 4), ("ip6", 6))
            )
            hook = f"type nat hook postrouting priority 97; {to}"
        text = f"table inet t {{\nchain c {{\n{hook};\n}}\n}}\n"
        subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)

    def name(self, role: str) -> str:
        return f"eg{self._tag}-{role}"

    def ip(self, role: str, *lines: str) -> None:
        command = ["ip", "-n", self.name(role), "-batch", "-"]
        subprocess.run(command, input="\n".join(lines).encode(), check=True)

    def set(self, role: str, key: str, value: str) -> None:
        with inside(self.name(role)):
            Path("/proc/sys/net", key).write_text(value)

    def close(self) -> None:
        self._undo.close()

    def udp(self, role: str, version: int) -> socket.socket:
        with inside(self.name(role)):
            made = socket.socket(_FAMILY[version], socket.SOCK_DGRAM)
        self._undo.callback(made.close)
        return made

    def seen_from(self, version: int) -> str:
        """The address that somebody outside sees of the pod, which gets its answer."""
        outside, pod = self.udp("out", version), self.udp("pod", version)
        outside.bind((OUT[version], 4000))
        for each in (outside, pod):
            each.settimeout(PATIENCE)
        pod.sendto(b"?", (OUT[version], 4000))
        _, sender = outside.recvfrom(64)
        outside.sendto(b"!", sender)
        assert pod.recvfrom(64)[0] == b"!"
        outside.close()
        return str(sender[0])

    def lost(self) -> int:
        """Packets that n1 could not send by the envelope."""
        with inside(self.name("n1")):
            shown = subprocess.run(
                ["ip", "-j", "-s", "link", "show", ENVELOPE], capture_output=True, check=True
            )
        return int(json.loads(shown.stdout)[0]["stats64"]["tx"]["errors"])

    def send(self, version: int) -> None:
        self.udp("pod", version).sendto(b"?", (OUT[version], 4000))

    def longest(self, version: int) -> int:
        """Octets of the longest packet that goes all the way, as the pod hears after one of 1500."""
        outside, pod = self.udp("out", version), self.udp("pod", version)
        outside.bind((OUT[version], 4001))
        outside.settimeout(PATIENCE)
        level, discover, mtu = _MTU[version]
        pod.setsockopt(level, discover, 2)  # IP_PMTUDISC_DO
        pod.connect((OUT[version], 4001))
        around = (20 if version == 4 else 40) + 8
        pod.send(bytes(1500 - around))
        poll = select.poll()
        poll.register(pod, select.POLLERR)
        assert poll.poll(PATIENCE * 1000), "the pod hears nothing"
        pod.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        found = pod.getsockopt(level, mtu)
        pod.send(bytes(found - around))
        assert len(outside.recv(2048)) == found - around
        return found


@pytest.fixture(params=BOTH)
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    made = Net(request.param)
    yield made
    made.close()


def test_marked_packets_of_pods_leave_by_the_other_node(net: Net) -> None:
    with inside(net.name("n1")):
        held = KernelEgressWays()
        held.apply(net.ways, ENVELOPE, net.mtu)
    assert [net.seen_from(version) for version in BOTH] == list(HELD.values())
    assert [net.longest(version) for version in BOTH] == [net.mtu, net.mtu]
    assert net.lost() == 0
    # A control: without the link in the rule the outer packet, which bears the mark, goes round in circles.
    with inside(net.name("n1")):
        for each in net.ways:
            loose = f"fwmark {each.mark:#x}/0xffff0000 lookup {TABLE | each.mark >> 16} priority 10799"
            subprocess.run(["ip", f"-{each.version}", "rule", "add", *loose.split()], check=True)
    for count, version in enumerate(BOTH, start=1):
        net.send(version)
        until(lambda count=count: net.lost() == count)  # type: ignore[misc]
