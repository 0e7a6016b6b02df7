"""Routes of ours in a real kernel: read back, put, replaced, deleted; foreign ones never touched."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network

import pytest

from l3net.delta import Delta, diff
from l3net.errors import KernelError
from l3net.model import NextHop, Route, RouteKind
from l3net.naming import METRIC_AGGREGATE, METRIC_BGP
from l3net.shell.kernel import routecodec
from l3net.shell.kernel.links import (
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    RTM_NEWLINK,
    ifinfo,
    nested,
    text,
)
from l3net.shell.kernel.monitor import underlay_route
from l3net.shell.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, Request, attribute, attributes
from l3net.shell.kernel.routecodec import RTA_DST, RTM_GETROUTE, encode_route
from l3net.shell.kernel.routes import KernelRoutes, links
from l3net.shell.kernel.underlay import KernelUnderlay

pytestmark = pytest.mark.netns

Ip = Callable[[str], str]


@pytest.fixture
def wired(own_netns: Ip) -> Ip:
    own_netns("link add up0 type veth peer name far0")
    for name in ("up0", "far0"):
        own_netns(f"link set {name} up")
    own_netns("addr add 10.0.0.1/24 dev up0")
    own_netns("addr add fd00::1/64 dev up0 nodad")
    return own_netns


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def hop(address: str, weight: int = 1) -> NextHop:
    return NextHop(ip_address(address), "up0", weight)


def unicast(prefix: str, *hops: NextHop) -> Route:
    return Route(ip_network(prefix), frozenset(hops), metric=108)


ROUTES = [
    unicast("10.9.0.0/24", hop("10.0.0.2"), hop("10.0.0.3", 3)),
    unicast("fd09::/64", hop("fd00::2"), hop("fd00::3")),
    unicast("10.7.0.0/24", hop("fd00::2")),  # RFC 8950: IPv4 by way of an IPv6 gateway
    unicast("10.6.0.1/32", hop("10.0.0.2")),
    unicast("fd06::1/128", hop("fd00::2")),
    Route(ip_network("10.8.0.0/24"), kind=RouteKind.BLACKHOLE, metric=4096),
    Route(ip_network("fd08::/64"), kind=RouteKind.BLACKHOLE, metric=4096),
    Route(ip_network("10.8.0.0/23"), kind=RouteKind.BLACKHOLE, metric=METRIC_AGGREGATE),
    Route(
        ip_network("10.8.0.0/23"), frozenset({NextHop(None, "up0")}), source=ip_address("10.0.0.1"), metric=9
    ),
    Route(ip_network("fd08::/63"), frozenset({NextHop(None, "up0")}), source=ip_address("fd00::1"), metric=9),
]
WANTED = {(route.prefix, route.metric): route for route in ROUTES}


def test_what_is_put_is_what_is_read(wired: Ip) -> None:
    table = KernelRoutes()
    assert table.apply(diff(WANTED, table.read())) == {}
    assert table.read() == WANTED
    assert not diff(WANTED, table.read())  # the second pass is quiet
    assert table.apply(diff({}, table.read())) == {}
    assert table.read() == {}


def test_next_hops_change_in_place(wired: Ip) -> None:
    table = KernelRoutes()
    for hops in ([hop("fd00::2"), hop("fd00::3")], [hop("fd00::3")], [hop("fd00::2"), hop("fd00::4")]):
        wanted = {(ip_network("fd09::/64"), 108): unicast("fd09::/64", *hops)}
        assert table.apply(diff(wanted, table.read())) == {}
        assert table.read() == wanted


def test_foreign_routes_stay(wired: Ip) -> None:
    wired("route add 10.9.0.0/24 via 10.0.0.9")
    wired("route add 10.5.0.0/24 via 10.0.0.9 proto bird")
    table = KernelRoutes()
    table.apply(diff(WANTED, table.read()))
    table.apply(diff({}, table.read()))
    left = wired("route show")
    assert "10.9.0.0/24 via 10.0.0.9" in left
    assert "10.5.0.0/24 via 10.0.0.9" in left
    assert "proto 108" not in left


def test_one_refusal_does_not_stop_the_rest(wired: Ip) -> None:
    table = KernelRoutes()
    bad = unicast("10.66.0.0/24", NextHop(ip_address("172.16.0.1"), "up0"))  # not on the link
    unknown = unicast("10.67.0.0/24", NextHop(ip_address("10.0.0.2"), "nosuch0"))
    wanted = WANTED | {(bad.prefix, 108): bad, (unknown.prefix, 108): unknown}
    errors = table.apply(diff(wanted, table.read()))
    assert {error.code for error in errors.values()} == {errno.ENETUNREACH, errno.ENODEV}
    assert all("10.66.0.0/24" in str(error) or "10.67.0.0/24" in str(error) for error in errors.values())
    assert table.read() == WANTED


def test_already_gone_is_success(wired: Ip) -> None:
    table = KernelRoutes()
    assert table.apply(Delta(delete=WANTED)) == {}


@pytest.mark.parametrize(
    ("prefix", "gateway", "ours"),
    [("10.5.0.0/24", "10.0.0.9", "10.0.0.2"), ("fd05::/64", "fd00::9", "fd00::2")],
)
@pytest.mark.parametrize("kind", ["via", "blackhole"])
def test_somebody_elses_route_is_not_taken_and_not_lost(
    wired: Ip, prefix: str, gateway: str, ours: str, kind: str
) -> None:
    table = KernelRoutes()
    route = unicast(prefix, hop(ours))
    if kind == "blackhole":
        route = Route(route.prefix, kind=RouteKind.BLACKHOLE, metric=108)
    other = unicast("10.4.0.0/24", hop("10.0.0.2"))
    theirs = f"{prefix} via {gateway} dev up0 proto static metric 108"
    version = "-6" if ":" in prefix else "-4"
    wired(f"{version} route add {theirs}")
    wanted = {(each.prefix, 108): each for each in (route, other)}
    (error,) = table.apply(Delta(put=wanted)).values()
    assert prefix in str(error) and "static" in str(error)
    assert table.read() == {(other.prefix, 108): other}
    assert len(table.apply(Delta(delete=wanted))) == 0
    shown = wired(f"{version} route show {prefix}").strip()
    assert "proto static" in shown and gateway in shown
    # The control: with theirs gone ours is set, replaced in place, also by a successor that has not read it.
    wired(f"{version} route del {theirs}")
    assert table.apply(Delta(put={(route.prefix, 108): route})) == {}
    changed = unicast(prefix, hop(gateway))
    assert KernelRoutes().apply(Delta(put={(route.prefix, 108): changed})) == {}
    assert table.read() == {(route.prefix, 108): changed}


def test_somebody_elses_route_before_ours_is_not_replaced(wired: Ip) -> None:
    """IPv4 keeps both, and NLM_F_REPLACE takes the first. Ours stays as it was, and goes when it has to."""
    table, key = KernelRoutes(), (ip_network("10.5.0.0/24"), METRIC_BGP)
    ours, changed = (
        Route(key[0], frozenset({hop(each)}), metric=METRIC_BGP) for each in ("10.0.0.2", "10.0.0.3")
    )
    assert table.apply(Delta(put={key: ours})) == {}
    wired(f"route prepend 10.5.0.0/24 via 10.0.0.9 dev up0 proto static metric {METRIC_BGP}")
    assert table.read() == {key: ours}
    (error,) = table.apply(Delta(put={key: changed})).values()
    assert "static" in str(error)
    shown = wired("route show 10.5.0.0/24")
    assert "10.0.0.9" in shown and "10.0.0.2" in shown
    assert table.apply(Delta(delete={key: ours})) == {}
    assert table.read() == {} and "10.0.0.9" in wired("route show 10.5.0.0/24")


def test_more_routes_than_a_batch(wired: Ip) -> None:
    table = KernelRoutes()
    wanted = {
        (route.prefix, 108): route
        for route in (unicast(f"10.{100 + n // 256}.{n % 256}.0/24", hop("10.0.0.2")) for n in range(3000))
    }
    assert table.apply(diff(wanted, {})) == {}
    assert table.read() == wanted


def test_refusals_among_many_are_told_of_the_routes_they_are_of(wired: Ip) -> None:
    """In whatever batch, of whatever shape; what was taken is in the table."""
    good = [unicast(f"10.6.{number >> 8}.{number & 255}/32", hop("10.0.0.2")) for number in range(600)]
    good += [unicast(f"fd06::{number:x}/128", hop("fd00::2")) for number in range(1, 300)]
    bad = [unicast(f"10.7.{number}.0/24", hop("10.99.0.2")) for number in range(5)]  # no way to the gateway
    lost = [Route(ip_network("10.8.0.0/24"), frozenset({NextHop(None, "nolink")}), metric=METRIC_BGP)]
    theirs = unicast("10.6.1.7/32", hop("10.0.0.2"))
    wired(f"route add 10.6.1.7 via 10.0.0.3 metric {theirs.metric} proto static")
    mixed = [*good[:250], bad[0], *good[250:252], bad[1], *lost, *good[252:], *bad[2:]]
    table = KernelRoutes()
    failed = table.apply(Delta(put={(route.prefix, route.metric): route for route in mixed}))
    codes = {key[0]: err.code for key, err in failed.items()}
    assert codes == {
        **{route.prefix: errno.ENETUNREACH for route in bad},
        lost[0].prefix: errno.ENODEV,
        theirs.prefix: errno.EEXIST,
    }
    held = {(route.prefix, route.metric): route for route in good if route.prefix != theirs.prefix}
    assert KernelRoutes().read() == held
    gone = {(route.prefix, route.metric): route for route in (*good, *bad)}
    gone.pop((theirs.prefix, theirs.metric))
    assert table.apply(Delta(delete=gone)) == {}
    assert table.read() == {}


def test_a_dump_is_what_its_bodies_are_one_by_one(wired: Ip, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is alike is decoded once, and the rest as ever; in whatever order the attributes come."""
    same = [f"10.5.{number}.0/24" for number in range(50)] + [f"fd05:{number}::/64" for number in range(50)]
    more = [unicast(prefix, hop("fd00::2" if ":" in prefix else "10.0.0.2")) for prefix in same]
    more += [unicast("0.0.0.0/0", hop("10.0.0.3")), unicast("::/0", hop("fd00::3"))]  # of no destination
    table = KernelRoutes()
    assert not table.apply(Delta(put=WANTED | {(route.prefix, route.metric): route for route in more}))
    wired("route add 10.77.0.0/16 via 10.0.0.2 table 77")
    names = {index: name for name, index in links().items()}
    bodies = []
    with Netlink() as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = Request(RTM_GETROUTE, 0, struct.pack("=BBBBBBBBI", family, *(0,) * 8))
            bodies += [body for _, body in netlink.dump(request)]
    turned = [
        body[:12]
        + b"".join(attribute(kind, bytes(value)) for kind, value in reversed([*attributes(body[12:])]))
        for body in bodies
    ]
    wanted = [routecodec.decode_route(body, names) for body in bodies]
    assert len(wanted) > 100
    decoded = 0
    plain = routecodec.decode_route

    def counted(body: bytes, names: Mapping[int, str]) -> object:
        nonlocal decoded
        decoded += 1
        return plain(body, names)

    monkeypatch.setattr(routecodec, "decode_route", counted)
    decoder = routecodec.RouteDecoder(names)
    assert [decoder.decode(body) for body in bodies] == wanted
    assert decoded < len(bodies) / 2, "the control"
    assert [decoder.decode(body) for body in turned] == wanted
    monkeypatch.setattr(routecodec, "_MOST_ALIKE", 1)
    assert [routecodec.RouteDecoder(names).decode(body) for body in [*turned, *bodies]] == wanted * 2


def test_the_underlay_leaves_out_ours_and_dead_links(wired: Ip) -> None:
    wired("link add up1 type veth peer name far1")
    for name in ("up1", "far1"):
        wired(f"link set {name} up")
    wired("addr add 10.1.0.1/24 dev up1")
    wired("route add default nexthop via 10.0.0.254 dev up0 nexthop via 10.1.0.254 dev up1")
    table = KernelRoutes()
    table.apply(diff(WANTED, {}))
    reader = KernelUnderlay()
    gateways = {"10.0.0.254", "10.1.0.254"}

    def by_default() -> set[str]:
        return {str(each.gateway) for each in reader.read()[0].resolve(ip_address("192.0.2.1"))}

    # The kernel marks routes by carrier a while after `ip link set` is done (linkwatch_event).
    until(lambda: by_default() == gateways)
    underlay, found = reader.read()
    assert underlay.resolve(ip_address("10.0.0.7")) == {NextHop(ip_address("10.0.0.7"), "up0")}
    # A route of ours is no underlay: 10.9.0.7 resolves by the default route, not by 10.9.0.0/24.
    assert {str(each.gateway) for each in underlay.resolve(ip_address("10.9.0.7"))} == gateways
    assert underlay.source(ip_address("10.1.0.9")) == (
        ip_address("10.1.0.1"),
        underlay.source(ip_address("10.1.0.9"))[1],
    )  # type: ignore[index]
    assert {link.name for link in found.values()} == {"lo", "up0", "far0", "up1", "far1"}
    wired("link set far1 down")
    until(lambda: by_default() == {"10.0.0.254"})


def test_a_link_whose_name_is_no_text(wired: Ip) -> None:
    """Any bytes may be a name; what else there is is read all the same."""
    body = ifinfo() + attribute(IFLA_IFNAME, b"\xff\xfe\0")
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
    with Netlink() as netlink:
        netlink.request(Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body), "create the link")
    underlay, found = KernelUnderlay().read()
    names = {link.name for link in found.values()}
    assert {"lo", "up0", "far0", os.fsdecode(b"\xff\xfe")} == names
    assert underlay.resolve(ip_address("10.0.0.7")) == {NextHop(ip_address("10.0.0.7"), "up0")}
    assert set(links()) == names


def test_which_foreign_routes_matter(wired: Ip) -> None:
    known = links()
    assert underlay_route(encode_route(unicast("10.3.0.0/24", hop("10.0.0.2")), known))
    assert not underlay_route(encode_route(unicast("fe80::/64", hop("fd00::2")), known))
    assert underlay_route(encode_route(unicast("fd03::/64", hop("fd00::2")), known))


PARTS = {
    4: ("10.128.0.0/24", "10.128.0.0/25", "10.128.0.128/25"),
    6: ("fd28::/64", "fd28::/65", "fd28:0:0:0:8000::/65"),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("whole", [True, False], ids=["in one delta", "the control: deletes before"])
def test_a_swap_of_cover_and_specifics_leaves_no_moment_without_a_route(
    wired: Ip, version: int, whole: bool
) -> None:
    """Asked of the kernel in a tight loop, by another thread.

    The kernel's IPv6 table misses one question in some hundred thousand by itself, while a more specific
    route comes or goes below a cover that stays; the control misses many of each thousand.
    """
    gateway = "10.0.0.2" if version == 4 else "fd00::2"
    cover, *halves = (unicast(prefix, hop(gateway)) for prefix in PARTS[version])
    tables = [{(each.prefix, each.metric): each for each in those} for those in ([cover], halves)]
    destination = halves[1].prefix.network_address + 5
    asked, lost, done = [0], [0], threading.Event()

    def look() -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        head = struct.pack("=BBBBBBBBI", family, destination.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
        request = Request(RTM_GETROUTE, 0, head + attribute(RTA_DST, destination.packed))
        with Netlink() as netlink:
            while not done.is_set():
                asked[0] += 1
                try:
                    netlink.get(request)
                except KernelError:
                    lost[0] += 1

    table = KernelRoutes()
    assert table.apply(diff(tables[1], {})) == {}
    looker = threading.Thread(target=look)
    looker.start()
    try:
        deadline = time.monotonic() + 20
        swaps = 0
        while (swaps < 4000 or asked[0] < 4000) and time.monotonic() < deadline:  # a slow machine has fewer
            delta = diff(tables[swaps % 2], tables[1 - swaps % 2])
            if not whole:
                assert table.apply(Delta(delete=delta.delete)) == {}
                delta = Delta(delta.put)
            assert table.apply(delta) == {}
            swaps += 1
    finally:
        done.set()
        looker.join()
    assert min(swaps, asked[0]) > 100, "too slow to tell"
    if whole:
        assert lost[0] <= 2 + asked[0] / 10_000, (lost, asked)
    else:
        assert lost[0] > 10 + asked[0] / 1000, (lost, asked)
