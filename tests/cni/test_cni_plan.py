"""An attachment is one plan: what is decided from which facts, and that its parts come and go together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, cast

import pytest
from added_part import PolicyChain

from l3net.attach.appliers import appliers
from l3net.attach.applying import Applier, Place
from l3net.attach.verbs import Verbs
from l3net.cni.bridgeconf import own_setup
from l3net.cni.extras import Extras, PublishedPort
from l3net.cni.failure import CniError
from l3net.cni.guard import GuardedPort
from l3net.cni.host_end import alias_of
from l3net.cni.ifname import host_ifname
from l3net.cni.parts import (
    Bridge,
    Elements,
    Guard,
    Held,
    Part,
    Pins,
    Policed,
    Sandbox,
    Unguard,
    Unpin,
    Unpoliced,
    Unwire,
    facts_of,
)
from l3net.cni.plan import order_of_removal, plan
from l3net.cni.present import HostEnd, Present, host_end
from l3net.cni.request import Request
from l3net.cni.result import AssignedAddress, PodRoute, Result, encode_result
from l3net.cni.setup import NodeNetwork, Setup, node_setup
from l3net.ipam.lease import Lease, LeasedAddress, LeaseKey
from l3net.model import BridgePlan
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.kernel.links import KernelLink
from l3net.shell.kernel.sandbox import Sandboxes, Wired

KEY = LeaseKey("net", "c1", "eth0")
KINDS = tuple(each.of for each in appliers(None, lambda: None))
FOUR = LeasedAddress(ip_address("10.244.1.2"), 32, ip_address("10.244.1.1"))
SIX = LeasedAddress(ip_address("fd00::2"), 128, ip_address("fd00::1"))
MAC_OF_FOUR = "0a:58:0a:f4:01:02"
FAMILIES = [(FOUR,), (SIX,), (FOUR, SIX)]
PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}


def request(command: str = "ADD", **conf: Any) -> Request:
    base = {"cniVersion": "1.0.0", "name": "net", "type": "l3net-cni"}
    return Request(command, "1.0.0", "net", base | conf, "c1", "eth0", "/ns")


def ipam(**keys: Any) -> dict[str, Any]:
    return {"type": "l3net", "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]], **keys}


# --- the decision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("addresses", FAMILIES, ids=["IPv4", "IPv6", "dual"])
def test_of_the_nodes_own_block(addresses: tuple[LeasedAddress, ...]) -> None:
    """A guard, an interface and its pins; each names what takes it away."""
    node = NodeNetwork((ip_network("10.244.1.0/24"), ip_network("fd00::/112")), 1400)
    lease = Lease(KEY, 7, addresses, host_ifname=host_ifname(KEY), store="a" * 16)
    policed, guard, sandbox, pins = plan(KINDS, facts_of(node_setup(request(), node), request(), lease)).parts
    assert isinstance(guard, Guard) and isinstance(sandbox, Sandbox) and isinstance(pins, Pins)
    own = tuple(each.address for each in addresses)
    assert policed == Policed(KEY, lease.pod, own, mac=sandbox.mac)
    assert [str(each) for each in sandbox.addresses] == [f"{e.address}/{e.prefix_length}" for e in addresses]
    assert len(sandbox.routes) == 2 * len(addresses)  # the gateway on-link, everything through it
    assert sandbox.mtu == 1400 and sandbox.port.pinned and sandbox.port.isolated
    assert sandbox.alias == alias_of(lease) and sandbox.undo == Unwire(host_ifname(KEY))
    held = tuple(each.address for each in addresses)
    assert pins == Pins("l3net0", sandbox.mac, held) and pins.undo == Unpin("l3net0", held)
    assert guard.port == GuardedPort(host_ifname(KEY), sandbox.mac, held, "")
    assert guard.undo == Unguard(host_ifname(KEY))
    assert sandbox.mac == MAC_OF_FOUR or addresses == (SIX,)


@pytest.mark.parametrize("gateway", [True, False])
def test_of_ranges_of_its_own(gateway: bool) -> None:
    """The bridge first, with gateways if asked for; no pins; what the firewall must know last."""
    conf = {"bridge": "br9", "isGateway": gateway, "ipMasq": True, "macspoofchk": True, "ipam": ipam()}
    asked = request(**conf, runtimeConfig=PORTS)
    addresses = (
        LeasedAddress(ip_address("10.9.0.2"), 24, ip_address("10.9.0.1")),
        LeasedAddress(ip_address("fd09::2"), 64, ip_address("fd09::1")),
    )
    bridge, sandbox, elements = plan(KINDS, facts_of(own_setup(asked), asked, Lease(KEY, 1, addresses))).parts
    gateways = {(ip_address("10.9.0.1"), 24), (ip_address("fd09::1"), 64)} if gateway else set()
    assert bridge == Bridge(BridgePlan("br9", "", 0, frozenset(gateways)))
    assert bridge.undo is None  # other pods may be on it
    assert isinstance(sandbox, Sandbox) and not sandbox.port.pinned
    ports = (PublishedPort("tcp", 8080, 80),)
    assert elements == Elements(
        Extras("br9", sandbox.host_ifname, ("10.9.0.2", "fd09::2"), ports, True, sandbox.mac)
    )
    assert elements.undo is elements


def test_of_what_a_delegate_gave() -> None:
    """Its addresses, its routes with the gateways filled in, its dns."""
    asked = request(bridge="br9", ipam={"type": "host-local"}, isDefaultGateway=True)
    route = PodRoute(ip_network("192.0.2.0/24"))
    entry = AssignedAddress(ip_interface("10.7.0.5/24"), ip_address("10.7.0.1"))
    given = Result((), (entry,), (route,), {"nameservers": ["10.7.0.1"]})
    lease = Lease(KEY, 0, (LeasedAddress(ip_address("10.7.0.5"), 24, ip_address("10.7.0.1")),))
    wanted = plan(KINDS, facts_of(own_setup(asked), asked, lease, "02:00:00:00:00:01", given))
    bridge, sandbox = wanted.parts
    assert isinstance(bridge, Bridge) and bridge.plan.gateways == {(ip_address("10.7.0.1"), 24)}
    assert isinstance(sandbox, Sandbox) and sandbox.mac == "02:00:00:00:00:01"
    assert [(str(each.prefix), str(each.gateway)) for each in sandbox.routes] == [
        ("192.0.2.0/24", "10.7.0.1"),
        ("0.0.0.0/0", "10.7.0.1"),
    ]
    assert wanted.dns == given.dns


def test_without_addresses_it_is_an_interface() -> None:
    asked = request(bridge="br9", disableContainerInterface=True)
    (_, sandbox) = plan(KINDS, facts_of(own_setup(asked), asked, Lease(KEY, 0, ()))).parts
    assert isinstance(sandbox, Sandbox) and not sandbox.enabled and not sandbox.mac and not sandbox.routes


def test_check_asks_for_the_elements_that_were_put() -> None:
    """Whatever the request says now: without a record there is nothing to miss."""
    asked = request(bridge="br9", ipam=ipam(), runtimeConfig=PORTS)
    put = Extras("br9", "l3v1", ("10.9.0.9",), (PublishedPort("udp", 53, 53),))
    for record, expected in (("", None), (put.encode(), Elements(put))):
        facts = facts_of(own_setup(asked), asked, Lease(KEY, 1, ()), record=record)
        assert Elements.wanted(facts) == expected


def test_del_needs_only_what_is_left() -> None:
    """The name alone for the interface; a lease of the agent's store for the pins; the record."""
    put = Extras("l3net0", "l3v1", ("10.244.1.2",), (PublishedPort("tcp", 80, 80),))
    lease = Lease(KEY, 1, (FOUR, SIX), host_ifname=host_ifname(KEY), store="a" * 16)

    def left(held: Held) -> list[object]:
        found = [undo for kind in order_of_removal(KINDS) if (undo := kind.left(held)) is not None]
        found.remove(Unpoliced(held.key))  # always: whether there was anything only the agent knows
        return found

    by_name = [Unwire(host_ifname(KEY)), Unguard(host_ifname(KEY))]
    assert left(Held(KEY)) == by_name
    assert left(Held(KEY, lease, put.encode())) == [
        Unwire(host_ifname(KEY)),
        Elements(put),
        Unpin("l3net0", (FOUR.address, SIX.address)),
        Unguard(host_ifname(KEY)),
    ]
    for other in (
        Lease(KEY, 1, (FOUR,), host_ifname=host_ifname(KEY)),  # a plugin's without an agent
        Lease(KEY, 1, (FOUR,), store="a" * 16),  # for another plugin's interface
        Lease(KEY, 1, (LeasedAddress(FOUR.address, 24),), host_ifname="l3v1", store="a" * 16),
    ):
        assert left(Held(KEY, other)) == by_name


# --- applying, without a kernel --------------------------------------------------------------------------


class RefusedError(CniError):
    """Of a fake."""

    def __init__(self, what: str) -> None:
        super().__init__(104, what)


@dataclass
class World:
    """What fakes have made, in order; what they refuse."""

    made: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    refuses: str = ""
    keeps: str = ""
    lacks: str = ""


@dataclass
class Fake:
    """An applier that makes a name of its kind."""

    of: type[Part]
    world: World

    @property
    def name(self) -> str:
        return self.of.__name__

    def apply(self, part: Part, place: Place) -> None:
        assert isinstance(part, self.of)
        if self.name == self.world.refuses:
            raise RefusedError(f"no {self.name}")
        if self.of is Sandbox:
            place.wired = Wired(KernelLink(7, "l3v1"), KernelLink(2, "eth0"))
        if self.of is Elements:
            place.store.keep_record(place.key, cast(Elements, part).extras.encode())
        self.world.made.append(self.name)

    def undo(self, undo: Any, place: Place) -> None:
        self.world.steps.append(self.name)
        if self.name == self.world.keeps:
            raise RefusedError(f"{self.name} stays")
        if self.of is Elements:
            place.store.drop_record(place.key)
        if self.name in self.world.made:
            self.world.made.remove(self.name)

    def missing(self, part: Part, place: Place, previous: Result) -> list[str]:
        return [f"{self.name} is missing"] if self.name == self.world.lacks else []


class FakeSandboxes:
    """The bridge that is named in the result, and nothing else."""

    def bridge_link(self, name: str) -> KernelLink:
        return KernelLink(1, name)

    def look_port(self, name: str) -> None:
        return None


class FakeFlush:
    def add(self, addresses: Sequence[object]) -> None:
        pass


class FakeVerbs(Verbs):
    """The verbs over a real store, with fakes of the appliers."""

    def __init__(
        self, store: SqliteLeases, kinds: Sequence[type[Part]], setup: Callable[[Request], Setup]
    ) -> None:
        self.world, self.store = World(), store
        self.fakes = [Fake(kind, self.world) for kind in kinds]
        sandboxes = cast(Sandboxes, FakeSandboxes())
        super().__init__(lambda _: store, lambda: sandboxes, setup, None, cast(Any, FakeFlush()))

    def appliers(self) -> Sequence[Applier]:
        return self.fakes

    def _host_ends(self) -> tuple[HostEnd, ...]:
        return ()

    def left(self) -> tuple[list[str], int, int]:
        return self.world.made, len(self.store.leases()), len(self.store.records())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteLeases]:
    opened = SqliteLeases(tmp_path / "leases.db", named=True)
    yield opened
    opened.close()


ASKED = request()
EVERY = ("Bridge", "Policed", "Guard", "Sandbox", "Pins", "Elements")


def every_part(asked: Request) -> Setup:
    """All parts at once, which go together nowhere but here."""
    node = NodeNetwork((ip_network("10.244.1.0/24"), ip_network("fd00::/112")), 1500)
    return replace(node_setup(asked, node), manage_bridge=True, is_gateway=True, masquerade=True)


def verbs_with(store: SqliteLeases, place: int) -> FakeVerbs:
    """A new part in a place of the list."""
    kinds = [*KINDS]
    kinds.insert(place, PolicyChain)
    return FakeVerbs(store, kinds, every_part)


@pytest.mark.parametrize("failing", EVERY)
def test_failing_at_any_part_leaves_nothing(store: SqliteLeases, failing: str) -> None:
    verbs = FakeVerbs(store, KINDS, every_part)
    verbs.world.refuses = failing
    with pytest.raises(RefusedError, match=f"no {failing}"):
        verbs.add(ASKED, KEY, -1)
    bridge = [] if failing == "Bridge" else ["Bridge"]  # it stays
    assert verbs.left() == (bridge, 0, 0)
    assert verbs.world.steps == [each for each in reversed(EVERY[: EVERY.index(failing)]) if each != "Bridge"]
    verbs.world.refuses = ""
    verbs.add(ASKED, KEY, -1)
    assert {entry.event for entry in store.history()} == {"assign", "undo"} and len(store.leases()) == 1


@pytest.mark.parametrize("place", range(len(KINDS) + 1))
def test_a_part_that_is_added_comes_and_goes_with_the_others(store: SqliteLeases, place: int) -> None:
    """Applied in its place, checked, deleted; all by its class, its applier and its row."""
    verbs = verbs_with(store, place)
    result, made = verbs.add(ASKED, KEY, -1)
    assert verbs.world.made == [kind.__name__ for kind in verbs._appliers.kinds]
    assert made == (1, 7) and [link.name for link in result.interfaces] == ["l3net0", "l3v1", "eth0"]
    previous = encode_result(result, "1.0.0")
    asked = request("CHECK", **{**ASKED.conf, "prevResult": previous})
    verbs.check(asked, KEY, -1)
    verbs.world.lacks = "PolicyChain"
    with pytest.raises(CniError, match="PolicyChain is missing"):
        verbs.check(asked, KEY, -1)
    for _ in range(2):  # DEL of what is gone is a success
        verbs.world.steps.clear()
        verbs.delete(request("DEL", **ASKED.conf), KEY)
        assert verbs.left() == (["Bridge"], 0, 0)
        assert verbs.world.steps[0] == "Sandbox" and "PolicyChain" in verbs.world.steps


@pytest.mark.parametrize(
    ("place", "failing"),
    [
        (place, failing)
        for place in range(len(KINDS))
        for failing in (each.__name__ for each in KINDS[place:])
    ],
)
def test_a_part_that_is_added_is_undone_when_a_later_one_fails(
    store: SqliteLeases, place: int, failing: str
) -> None:
    verbs = verbs_with(store, place)
    verbs.world.refuses = failing
    with pytest.raises(RefusedError):
        verbs.add(ASKED, KEY, -1)
    assert "PolicyChain" in verbs.world.steps
    assert verbs.left() == ([] if failing == "Bridge" else ["Bridge"], 0, 0)


@pytest.mark.parametrize("keeps", ["Sandbox", "Pins"])
def test_what_cannot_be_undone_is_logged_and_the_first_error_raised(
    store: SqliteLeases, keeps: str, caplog: pytest.LogCaptureFixture
) -> None:
    verbs = FakeVerbs(store, KINDS, every_part)
    verbs.world.refuses, verbs.world.keeps = "Elements", keeps
    with caplog.at_level(logging.WARNING), pytest.raises(RefusedError, match="no Elements"):
        verbs.add(ASKED, KEY, -1)
    assert f"{keeps} stays" in caplog.text
    assert verbs.left() == (["Bridge", keeps], 0, 0)


@pytest.mark.parametrize(
    ("keeps", "left"),
    [
        ("Sandbox", ["Bridge", "PolicyChain", "Policed", "Guard", "Sandbox", "Pins", "Elements"]),
        ("Elements", ["Bridge", "Elements"]),
        ("PolicyChain", ["Bridge", "PolicyChain"]),
        ("Pins", ["Bridge", "Pins"]),
    ],
)
def test_del_stops_the_traffic_first_and_goes_on_past_the_rest(
    store: SqliteLeases, keeps: str, left: list[str]
) -> None:
    """The addresses are nobody else's before everything is gone; the next DEL goes on."""
    verbs = verbs_with(store, 1)
    verbs.add(ASKED, KEY, -1)
    verbs.world.keeps = keeps
    with pytest.raises(RefusedError, match=f"{keeps} stays"):
        verbs.delete(request("DEL", **ASKED.conf), KEY)
    assert verbs.world.made == left and len(store.leases()) == 1
    verbs.world.keeps = ""
    verbs.delete(request("DEL", **ASKED.conf), KEY)
    assert verbs.left() == (["Bridge"], 0, 0)


def test_del_of_a_record_that_cannot_be_read_takes_the_rest_away(store: SqliteLeases) -> None:
    verbs = FakeVerbs(store, KINDS, every_part)
    verbs.add(ASKED, KEY, -1)
    store.keep_record(KEY, "no record at all")
    with pytest.raises(ValueError, match="Expecting value"):
        verbs.delete(request("DEL", **ASKED.conf), KEY)
    assert verbs.world.made == ["Bridge", "Elements"] and len(store.leases()) == 1


def test_gc_frees_all_of_an_attachment(store: SqliteLeases) -> None:
    verbs = verbs_with(store, 1)
    verbs.add(ASKED, KEY, -1)
    kept = [{"containerID": "c1", "ifname": "eth0"}]
    verbs.collect(request("GC", **{**ASKED.conf, "cni.dev/valid-attachments": kept}))
    assert verbs.left()[1:] == (1, 1)
    verbs.collect(request("GC", **{**ASKED.conf, "cni.dev/valid-attachments": []}))
    assert verbs.left() == (["Bridge"], 0, 0)


# --- what is there ---------------------------------------------------------------------------------------


def test_what_is_there_is_compared_in_one_place() -> None:
    """Host ends, leases and records of three attachments, each of which has lost something."""
    keys = {name: LeaseKey("net", name, "eth0") for name in ("whole", "unwired", "unleased", "recorded")}
    leases = {
        name: Lease(key, 1, (FOUR,), host_ifname=host_ifname(key), store="a" * 16)
        for name, key in keys.items()
    }
    ends = tuple(
        host_end(host_ifname(keys[name]), index, alias_of(leases[name]))
        for index, name in enumerate(("whole", "unleased"))
    )
    there = Present(
        (*ends, host_end("l3vother", 9, "somebody else's")),
        (leases["whole"], leases["unwired"]),
        (keys["recorded"], LeaseKey("another", "c1", "eth0")),
    )
    assert there.attachments("net") == set(keys.values())  # GC
    apart = there.apart("a" * 16)  # the audit
    assert apart.leases == {(keys["unwired"], 1)} and apart.links == {(host_ifname(keys["unleased"]), 1)}
    assert not there.apart("b" * 16).links
    assert [lease.key for lease in there.unknown()] == [keys["unleased"]]  # adoption
