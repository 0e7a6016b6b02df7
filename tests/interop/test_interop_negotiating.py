"""Peers with unusual OPENs, attributes of two-octet times, and a peer that connects again."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from direct_exabgp import Direct
from node_rig import brought_up
from stage import NODE_ADDRESS, Stage
from test_interop_attempts import PASSIVE
from test_interop_hostile import NEXT_HOP, ORIGIN, attribute, nlri, update
from test_interop_received import far, folded, hold, peers, up, versions
from wire_peer import (
    AS4,
    KEEPALIVE,
    MULTIPROTOCOL,
    NOTIFICATION,
    ROUTE_REFRESH,
    UPDATE,
    USUAL,
    Listening,
    dial,
    graceful_restart,
    message,
    open_with,
)

from l3net.bgp.events import Opened, StateChanged, Updated
from l3net.bgp.exabgp.commands import RELOAD, route_refresh
from l3net.model import Family

pytestmark = pytest.mark.netns
OURS = {4: "10.244.1.0/24", 6: "fd00:10:244:1::/120"}
#: AS_PATH with numbers of two octets: 65002.
SHORT_PATH = bytes.fromhex("4002040201fdea")
PREFIX = "198.51.100.0/24"


@pytest.fixture(scope="module")
def running() -> Iterator[Direct]:
    with brought_up(Stage()) as stage:
        direct = Direct(stage, [])
        yield direct
        direct.close()


@pytest.fixture
def direct(running: Direct) -> Iterator[Direct]:
    """ExaBGP with no session."""
    yield running
    running.text = running.configure([])
    running.ask(RELOAD)
    running.until(lambda: peers(running) == {}, "the sessions to go")
    running.messages.clear()
    running.lines.clear()


def say(direct: Direct, version: int, prefix_version: int) -> None:
    hop, prefix = NODE_ADDRESS[prefix_version], OURS[prefix_version]
    direct.ask(f"neighbor {far(version)} announce attributes next-hop {hop} origin igp nlri {prefix}")


@versions
@pytest.mark.parametrize(
    ("capabilities", "spoken"),
    [
        ((), {4}),
        ((AS4,), {4}),
        ((MULTIPROTOCOL[6], AS4), {6}),  # the control: it has said what it speaks
        ((MULTIPROTOCOL[4], MULTIPROTOCOL[6], AS4), {4, 6}),
    ],
    ids=["none", "no multiprotocol", "IPv6 alone", "both"],
)
def test_what_a_peer_is_sent(direct: Direct, version: int, capabilities: Any, spoken: set[int]) -> None:
    """RFC 4760 section 8. No ROUTE-REFRESH goes to one that has not offered it (RFC 2918 section 4)."""
    with up(direct, version, capabilities) as wire:
        assert set(peers(direct)[str(far(version))]["families"]) == {f"ipv{each} unicast" for each in spoken}
        opened = next(each for each in direct.messages if isinstance(each, Opened))
        assert {family.value for family in opened.families or ()} == spoken
        for each in (4, 6):
            direct.ask(route_refresh(far(version), Family(each)))
        for each in sorted(spoken, reverse=True):
            say(direct, version, each)
        sent = []
        while len(sent) < len(spoken):
            got = wire.read()
            assert got is not None
            assert got[0] in (UPDATE, KEEPALIVE)
            sent += [got[1]] * (got[0] == UPDATE)
        network = ip_network(OURS[min(spoken)])
        assert any(network.network_address.packed[:3] in body for body in sent)


@versions
def test_the_control_a_refresh_goes_to_who_takes_it(direct: Direct, version: int) -> None:
    with up(direct, version) as wire:
        direct.ask(route_refresh(far(version), Family.IPV4))
        assert wire.expect(ROUTE_REFRESH) == struct.pack("!HBB", 1, 0, 1)


@versions
def test_a_family_that_was_not_agreed_on_ends_nothing(direct: Direct, version: int) -> None:
    """It is told like any other; the agent refuses it by name."""
    with up(direct, version, (MULTIPROTOCOL[6], AS4)) as wire:
        path = attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65002))
        wire.send(update(ORIGIN + path + NEXT_HOP, nlri(PREFIX)))
        direct.until(lambda: (ip_network(PREFIX), "") in folded(direct.messages), "the route")
    assert StateChanged(far(version), "down") not in direct.messages[:-1]


@versions
@pytest.mark.parametrize("four", [True, False], ids=["four octets", "two octets"])
@pytest.mark.parametrize("malformed", [False, True])
def test_as4_path(direct: Direct, version: int, four: bool, malformed: bool) -> None:
    """RFC 6793 section 6: discarded unread where both ends know four octets. The control is where they do
    not, and it counts (section 4.2.3)."""
    number = 4_200_000_001
    as4 = struct.pack("!BB", 2, 9 if malformed else 1) + struct.pack("!I", number)
    aggregator = attribute(0xC0, 18, b"\0" * 3 if malformed else struct.pack("!I4s", number, b"\1\2\3\4"))
    if four:
        path = attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65002))
    else:
        path = attribute(0x40, 2, struct.pack("!BBHH", 2, 2, 65002, 23456))
    capabilities = (MULTIPROTOCOL[4], MULTIPROTOCOL[6], *((AS4,) if four else ()))
    with up(direct, version, capabilities) as wire:
        if malformed and not four:
            return  # RFC 7606 section 7.14 is ExaBGP's to keep
        wire.send(update(ORIGIN + path + NEXT_HOP + attribute(0xC0, 17, as4) + aggregator, nlri(PREFIX)))
        direct.until(lambda: any(isinstance(each, Updated) for each in direct.messages), "the UPDATE")
        (found,) = folded(direct.messages).values()
        assert found.attributes.as_path == ((65002,) if four else (65002, number))


@versions
@pytest.mark.parametrize("four", [True, False], ids=["four octets", "two octets"])
def test_as_zero_is_no_peers(direct: Direct, version: int, four: bool) -> None:
    """RFC 7607 section 3: OPEN Message Error, Bad Peer AS."""
    with Listening(direct.stage, version) as listening:
        hold(direct, version, peer_as=0 if four else 65002)
        with listening.accept() as wire:
            zero = ((65, struct.pack("!I", 0)),) if four else ()
            wire.send(open_with((MULTIPROTOCOL[4], *zero), as_number=23456 if four else 0))
            assert (wire.ended() or ())[:2] == (2, 2)


def aged(direct: Direct, version: int) -> None:
    direct.until(lambda: peers(direct)[str(far(version))]["up-seconds"] >= 4, "the session to have an age")


@versions
@pytest.mark.parametrize(
    ("offers", "graceful"),
    [((graceful_restart(4, 6),), True), ((graceful_restart(),), False), ((), False)],
    ids=["graceful restart", "helper", "without"],
)
def test_a_peer_that_connects_again(direct: Direct, version: int, offers: Any, graceful: bool) -> None:
    """Its end of the old session is gone without a word, and the hold time is 90 s: RFC 4724 section 5.
    Without a family in its graceful restart capability, the control, it is refused with Connection Collision
    Resolution."""
    capabilities = (*USUAL, *offers)
    hold(direct, version, **PASSIVE)
    stage = direct.stage
    stage.until(lambda: ":179" in stage.node.run(["ss", "-Hltn"]).stdout, "the node to listen")
    old = dial(stage, version)
    old.establish(capabilities)
    direct.until(lambda: StateChanged(far(version), "up") in direct.messages, "the session")
    direct.messages.clear()
    # At once it is a second connection of the same start.
    with dial(stage, version) as second:
        assert (second.ended() or ())[:2] == (6, 7)
    aged(direct, version)
    with dial(stage, version) as again:
        if not graceful:
            assert (again.ended() or ())[:2] == (6, 7)
            assert not [each for each in direct.messages if isinstance(each, StateChanged)]
            return
        again.establish(capabilities)
        direct.until(lambda: StateChanged(far(version), "up") in direct.messages, "the new session")
        reason = "the peer connects again: it has restarted"
        assert StateChanged(far(version), "down", reason) in direct.messages
        kinds = []
        while (got := old.read()) is not None:
            kinds.append(got[0])
        assert NOTIFICATION not in kinds, "the old one ends without a word"
    old.close()


@versions
def test_a_stranger_ends_no_session(direct: Direct, version: int) -> None:
    """A session that the node dials waits for no caller, whatever the peer has offered."""
    with up(direct, version, (*USUAL, graceful_restart(4, 6))) as wire:
        aged(direct, version)
        with pytest.raises(ConnectionRefusedError):
            dial(direct.stage, version)
        wire.send(message(KEEPALIVE))
        assert peers(direct)[str(far(version))]["state"] == "established"


# --- what is for people alone ------------------------------------------------------------------------------

SOFTWARE, HOSTNAME = 75, 73


@versions
@pytest.mark.parametrize(
    ("capability", "software"),
    [
        ((SOFTWARE, b"\x0dFRRouting/9.1"), "FRRouting/9.1"),  # as FRR writes it: a length, the text
        ((SOFTWARE, b"\x07a\x1b[31mb"), "a?[31mb"),
        ((SOFTWARE, b""), ""),
        ((SOFTWARE, b"\x40short"), ""),
        ((SOFTWARE, b"\x02\xff\xfe"), ""),
        ((HOSTNAME, b"\x40short"), ""),
        ((HOSTNAME, b"\x02\xff\xfe\x00"), ""),
    ],
    ids=["FRR", "for a terminal", "empty", "cut", "no text", "name cut", "name no text"],
)
def test_what_a_peer_says_it_runs(
    direct: Direct, version: int, capability: tuple[int, bytes], software: str
) -> None:
    """Well or not, the session comes up."""
    with up(direct, version, (MULTIPROTOCOL[version], AS4, capability)):
        opened = [each for each in direct.messages if isinstance(each, Opened)][-1]
        assert opened.software == software
        name = {SOFTWARE: "software-version", HOSTNAME: "fqdn"}[capability[0]]
        assert name in opened.capabilities
