"""An agent that is started while nothing declared can be read keeps the kernel as the last one had it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest
from agent_shells import speaker
from bgp_facts import path, session
from node_rig import CONFIGURATION, NODE, TOR4, TOR6, Rig, peer

from l3net.agent.speaker.speaking import Speaking
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.verdict import ACCEPTED
from l3net.model import Kind, NextHop, ObjectName, Route, RouteKind
from l3net.naming import METRIC_BGP, METRIC_BLACKHOLE, METRIC_SERVICES
from l3net.ports import Changed, Rejected
from l3net.shell.files.routefile import FILE, read_routes, write_routes
from l3net.shell.manifests.tree import ManifestTree

LEARNED = {"192.168.7.0/24", "fd77::/64"}


def learned(rig: Rig) -> set[str]:
    shown = rig.kernel("-4 route show proto 108") + rig.kernel("-6 route show proto 108")
    return {line.split()[0] for line in shown.splitlines() if "via" in line}


@pytest.mark.netns
@pytest.mark.parametrize("away", ["the Node's file", "the directory", "a file in its place"])
def test_routes_that_a_link_took_along_are_back_without_any_declared_state(rig: Rig, away: str) -> None:
    """Before the agent's start as well as after it; nothing is taken away meanwhile."""
    rig.start()
    rig.until(lambda: learned(rig) == LEARNED, "routes")
    known = rig.inside_run(FILE)
    rig.until(lambda: known.exists() and "fd77" in known.read_text(), "the agent to write them down")
    rig.node.kill("agent")
    rig.until(lambda: not rig.node.alive("agent"), "the agent to end")

    def flap() -> None:
        rig.node.run(["ip", "link", "set", "up0", "down"])
        rig.until(lambda: not learned(rig), "the link to take them along", 10)
        rig.node.run(["ip", "link", "set", "up0", "up"])
        rig.node.run(["ip", "addr", "replace", "fd90::1/64", "dev", "up0", "nodad"])

    flap()
    here = rig.manifests / "node.yaml" if away == "the Node's file" else rig.manifests
    here.rename(rig.directory / "away")
    if away == "a file in its place":
        here.touch()
    rig.start_agent()
    rig.until(lambda: learned(rig) == LEARNED, "the routes of the last agent")
    flap()
    rig.until(lambda: learned(rig) == LEARNED, "the routes after another flap")
    assert "blackhole 10.244.1.0/24" in rig.kernel("route show proto 108")
    if here == rig.manifests:
        assert f"{here}: cannot be read" in str(rig.status()["problems"])
    here.unlink(missing_ok=True)
    (rig.directory / "away").rename(here)
    rig.established("10.90.0.2", "fd90::2")
    # The router has reset its sessions when its link was down, and keeps no forwarding state: what it had
    # said goes when it is back (RFC 4724 section 4.2), until it has said it again.
    rig.until(lambda: not rig.status()["problems"] and learned(rig) == LEARNED, "all well")


@pytest.mark.netns
def test_a_route_that_takes_the_place_of_ours_is_named_and_stays(rig: Rig) -> None:
    """Whatever the peers say meanwhile: the kernel tells of no loss of ours, and a change of ours would have
    replaced theirs, for good."""
    peers = [
        peer(f"tor{number}", address, thirdPartyNextHops=True)
        for number, address in enumerate(("10.90.0.2", "fd90::2"))
    ]
    rig.start_tor()
    rig.declare("node.yaml", NODE, CONFIGURATION, *peers)
    rig.start_speaker()
    rig.start_agent()
    rig.until(lambda: learned(rig) == LEARNED, "routes")
    theirs = ("192.168.7.0/24 via 10.90.0.77", "fd77::/64 via fd90::77")
    for route in theirs:
        rig.kernel(f"route replace {route} dev up0 proto static metric {METRIC_BGP}")

    def named() -> bool:
        return "(protocol static) and stays; ours is not set" in str(rig.status()["problems"])

    rig.until(named, "the conflict to be named", 15)
    rig.vtysh(
        *("configure", "route-map other permit 10"),
        *("set ip next-hop 10.90.0.3", "set ipv6 next-hop global fd90::3", "exit", "router bgp 65002"),
        *("address-family ipv4 unicast", "neighbor 10.90.0.1 route-map other out", "exit"),
        *("address-family ipv6 unicast", "neighbor fd90::1 route-map other out"),
    )
    said = ("10.90.0.3", "fd90::3")
    rig.until(
        lambda: all(f"{each} dev" in str(rig.status()["routes"]) for each in said), "the other next hops"
    )
    shown = rig.kernel("-4 route show proto static") + rig.kernel("-6 route show proto static")
    assert all(route in shown for route in theirs) and not learned(rig)
    for route in theirs:
        rig.kernel(f"route del {route} dev up0 proto static metric {METRIC_BGP}")
    rig.until(lambda: learned(rig) == LEARNED, "ours to be set")
    assert not rig.status()["problems"]


WRONG: dict[str, object] = {**CONFIGURATION, "spec": {"asNumber": "65001x"}}


@pytest.mark.netns
@pytest.mark.parametrize("wrong", ["object", "file"])
def test_without_any_good_configuration_an_agent_that_starts_holds(rig: Rig, wrong: str) -> None:
    """Its defaults, another AS number and no policy, ended every session and withdrew what was declared."""
    rig.declare("conf.yaml", CONFIGURATION)
    rig.start_tor()
    rig.declare("node.yaml", NODE, TOR4, TOR6)
    rig.start_speaker()
    rig.start_agent()
    rig.established("10.90.0.2", "fd90::2")
    rig.until(lambda: learned(rig) == LEARNED, "routes")
    announced = {"10.244.1.0/24", "fd00:10:244:1::/120"}
    rig.until(lambda: rig.tor_routes() == announced and len(rig.tor_sessions()) == 2, "announcements")
    before = rig.tor_sessions()
    rig.node.kill("agent")
    rig.until(lambda: not rig.node.alive("agent"), "the agent to end")
    rig.declare("conf.yaml", WRONG)
    if wrong == "file":
        (rig.manifests / "conf.yaml").write_text("kind: [")

    rig.start_agent()
    rig.until(lambda: "no earlier version" in str(rig.status().get("problems")), "the reason")
    assert "conf.yaml" in str(rig.status()["problems"])
    ready = rig.node.run([sys.executable, "-m", "l3net.cli.main", "status", "--ready"], check=False)
    assert (ready.code, "no earlier version" in ready.stdout) == (1, True)
    assert (rig.tor_routes(), rig.tor_sessions(), learned(rig)) == (announced, before, LEARNED)

    rig.declare("conf.yaml", CONFIGURATION)
    rig.until(lambda: rig.status().get("problems") == [], "all well")
    rig.established("10.90.0.2", "fd90::2")
    assert (rig.tor_routes(), rig.tor_sessions(), learned(rig)) == (announced, before, LEARNED)
    # What was good once stays in force, and so do the defaults where none was declared.
    rig.declare("conf.yaml", WRONG)
    wrong = "must be a whole number"
    rig.until(lambda: wrong in str(rig.status().get("problems")), "the bad one to be named")
    assert "no earlier version" not in str(rig.status()["problems"])
    assert rig.tor_sessions() == before


@pytest.mark.parametrize(
    ("files", "holds"),
    [
        ({"conf.yaml": json.dumps(WRONG)}, True),
        ({"bad.yaml": "kind: ["}, True),
        ({"typo.yaml": json.dumps({**CONFIGURATION, "kind": "BGPConfigurations"})}, True),
        ({"bad.yaml": "kind: [", "conf.yaml": json.dumps(CONFIGURATION)}, False),
        ({"other.yaml": json.dumps({**WRONG, "metadata": {"name": "other"}})}, False),
        ({"service.yaml": "apiVersion: v1\nkind: Service\nspec: {}\n"}, False),
        ({}, False),
    ],
)
def test_what_hides_the_configuration(tmp_path: Path, files: dict[str, str], holds: bool) -> None:
    for name, text in {"node.yaml": json.dumps(NODE), **files}.items():
        (tmp_path / name).write_text(text)
    tree, known, rejected = ManifestTree(tmp_path), set(), []
    for event in tree.look():
        if isinstance(event, Changed):
            known.add((event.kind, event.name))
        elif isinstance(event, Rejected):
            rejected.append(event)
    default = Kind.BGP_CONFIGURATION, ObjectName("", "default")
    assert (default not in known and any(each.hides(*default) for each in rejected)) is holds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Puts the event loop's clock forward."""
    ahead = [0.0]
    real = asyncio.BaseEventLoop.time
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda self: real(self) + ahead[0])
    yield lambda seconds: ahead.__setitem__(0, ahead[0] + seconds)


def test_the_time_to_speak_begins_when_it_can_be_spoken(
    tmp_path: Path, clock: Callable[[float], None]
) -> None:
    """An agent whose API server was away longer than that deleted every learned route at its first pass."""

    async def told() -> list[bool]:
        rib = LocRib(lambda _session, raw: (ACCEPTED, raw))
        speaking = Speaking(speaker(tmp_path), rib, lambda _prefixes: None)
        settled = []
        speaking._dialogue.link._writer = SimpleNamespace(write=lambda _data: None)  # type: ignore[assignment]
        speaking._connected()
        clock(1000)
        settled.append(speaking.settled(120))  # nobody knows which sessions there are
        one = session()
        speaking.set_sessions({one.peer_address: one})
        settled.append(speaking.settled(120))
        speaking._lost()
        speaking._dialogue.link._writer = None
        clock(1000)
        settled.append(speaking.settled(120))  # nor can anybody speak without a speaker
        speaking._dialogue.link._writer = SimpleNamespace(write=lambda _data: None)  # type: ignore[assignment]
        speaking._connected()
        settled.append(speaking.settled(120))
        clock(121)
        settled.append(speaking.settled(120))
        return settled

    assert asyncio.run(told()) == [False, False, False, False, True]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    hops = frozenset(
        {NextHop(path("10.0.0.0/8").next_hop, "up0"), NextHop(path("10.0.0.0/8").next_hop, "up1", 3)}
    )
    routes = [
        Route(ip_network("192.168.7.0/24"), hops, metric=METRIC_BGP),
        Route(ip_network("fd77::/64"), hops, metric=METRIC_BGP),
        Route(ip_network("10.244.1.0/24"), kind=RouteKind.BLACKHOLE, metric=METRIC_BLACKHOLE),
        Route(ip_network("10.96.0.0/16"), frozenset({NextHop(None, "l3net0")}), metric=METRIC_SERVICES),
        Route(ip_network("fd96::/112"), frozenset({NextHop(None, "l3net0")}), source=ip_address("fd90::1")),
    ]
    known = {(route.prefix, route.metric): route for route in routes}
    assert read_routes(tmp_path) == {}
    write_routes(tmp_path, known)
    assert read_routes(tmp_path) == known
    text = (tmp_path / FILE).read_text()
    for bad in (
        text[:-9],
        "[]",
        '{"boot": 1}',
        json.dumps({**json.loads(text), "boot": "another"}),
        "[" * 9000,
    ):
        (tmp_path / FILE).write_text(bad)
        assert read_routes(tmp_path) == {}


def test_with_too_many_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l3net.shell.files.routefile.MOST", 1)
    one, two = (Route(ip_network(f"10.{n}.0.0/16"), metric=METRIC_BGP) for n in (1, 2))
    write_routes(tmp_path, {(one.prefix, one.metric): one})
    write_routes(tmp_path, {(each.prefix, each.metric): each for each in (one, two)})
    assert list(tmp_path.iterdir()) == []
