"""What the peers have said is held in ExaBGP's process, and told again: `l3net received`, `l3net peers`."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from direct_exabgp import Direct, session
from node_rig import brought_up
from stage import FAR_ADDRESS, NODE_ADDRESS, Stage
from test_interop_hostile import AS_PATH, NEXT_HOP, ORIGIN, announce, attribute, nlri, update
from wire_peer import (
    AS4,
    ENHANCED_REFRESH,
    MULTIPROTOCOL,
    REFRESH,
    USUAL,
    Listening,
    Wire,
    graceful_restart,
    route_refresh,
)

from l3net.bgp.events import EndOfRib, Refresh, StateChanged, Updated
from l3net.bgp.exabgp.commands import RELOAD
from l3net.bgp.exabgp.decoder import Decoder
from l3net.bgp.exabgp.messages import Done, Failed
from l3net.bgp.path import Path
from l3net.model import Address, Family, Prefix

pytestmark = pytest.mark.netns
versions = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
ENHANCED = (*USUAL, ENHANCED_REFRESH)
END_OF_RIB = {4: update(b""), 6: update(bytes.fromhex("800f03000201"))}
Held = dict[tuple[Prefix, str], Path]


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


def peers(direct: Direct) -> dict[str, dict[str, Any]]:
    """The answer to `l3net peers`."""
    start = len(direct.lines)
    assert isinstance(direct.ask("l3net peers")[-1], Done)
    (line,) = [line for line in direct.lines[start:] if line.startswith(b'{"l3net-peers"')]
    return {row["peer"]: row for row in json.loads(line)["l3net-peers"]}


def up(direct: Direct, version: int, capabilities: Any = USUAL, **how: Any) -> Wire:
    """A session of both families with the test, over one of them."""
    with Listening(direct.stage, version) as listening:
        hold(direct, version, **how)
        wire = listening.accept()
        wire.establish(capabilities)
    direct.until(lambda: StateChanged(far(version), "up") in direct.messages, "the session")
    return wire


def hold(direct: Direct, version: int, **how: Any) -> None:
    ours = session(version, families=frozenset(Family), hold_time=90, **how)
    direct.text = direct.configure([ours])
    direct.ask(RELOAD)


def far(version: int) -> Address:
    return ip_address(FAR_ADDRESS[version])


def replayed(direct: Direct, question: str = "l3net received t1") -> list[dict[str, Any]]:
    """The events that answer."""
    start = len(direct.lines)
    assert isinstance(direct.ask(question)[-1], Done)
    direct.until(lambda: any(map(is_last, direct.lines[start:])), "the whole answer")
    lines = direct.lines[start:]
    last = next(number for number, line in enumerate(lines) if is_last(line))
    return [json.loads(line) for line in lines[: last + 1] if line != b"done"]


def is_last(line: bytes) -> bool:
    return b'"type": "replayed"' in line


def folded(events: list[Any]) -> Held:
    """What a listener holds after these: decoded messages, or events yet to be."""
    held: Held = {}
    decoder = Decoder()
    for event in events:
        message = decoder.decode(json.dumps(event).encode()) if isinstance(event, dict) else event
        if isinstance(message, Updated):
            for prefix in message.withdrawn:
                held.pop((prefix, ""), None)
            for key in message.withdrawn_paths:
                held.pop(key, None)
            held.update({(path.prefix, path.path_id): path for path in message.announced})
    assert decoder.undecodable == 0
    return held


def states(events: list[dict[str, Any]]) -> list[str]:
    return [event["neighbor"]["replay"]["state"] for event in events if event["type"] == "replay"]


def as_path(*numbers: int) -> bytes:
    value = bytes([2, len(numbers)]) + b"".join(struct.pack("!I", number) for number in numbers)
    return attribute(0x40, 2, value)


def reach6(*prefixes: str, hops: tuple[str, ...] = ("fd90::2",)) -> bytes:
    packed = b"".join(ip_address(hop).packed for hop in hops)
    value = bytes([0, 2, 1, len(packed)]) + packed + b"\0" + b"".join(map(nlri, prefixes))
    return attribute(0x80, 14, value)


def unreach6(*prefixes: str) -> bytes:
    return attribute(0x80, 15, bytes([0, 2, 1]) + b"".join(map(nlri, prefixes)))


def random_updates(seed: int, number: int) -> Iterator[bytes]:
    """Announcements, replacements and withdrawals of a few prefixes, in every form an UPDATE has."""
    chance = random.Random(seed)
    pool4 = [f"10.{number}.0.0/{16 + number % 17}" for number in range(24)]
    pool6 = [f"2001:db8:{number}::/{48 + number % 81}" for number in range(24)]
    for _ in range(number):
        few4, few6 = (chance.sample(pool, chance.randint(0, 4)) for pool in (pool4, pool6))
        gone4, gone6 = (chance.sample(pool, chance.randint(0, 2)) for pool in (pool4, pool6))
        base = ORIGIN + as_path(65002, *(chance.randint(1, 9) for _ in range(chance.randint(0, 2))))
        hops = chance.choice([("fd90::2",), ("fd90::2", "fe80::2")])
        match chance.randint(0, 4):
            case 0 if few4:
                yield update(base + NEXT_HOP, b"".join(map(nlri, few4)), b"".join(map(nlri, gone4)))
            case 1 if few6:
                yield update(base + reach6(*few6, hops=hops))
            case 2 if few4 and few6:  # all at once
                yield update(base + NEXT_HOP + reach6(*few6) + unreach6(*gone6), b"".join(map(nlri, few4)))
            case 3:
                yield update(unreach6(*(gone6 or pool6[:1])), b"", b"".join(map(nlri, gone4)))
            case 4 if few4:  # malformed: treat-as-withdraw, or the attribute discarded (RFC 7606)
                bad = chance.choice([attribute(0x80, 4, b"\0\1"), attribute(0xC0, 7, b"\0\0\1")])
                yield update(base + NEXT_HOP + bad, b"".join(map(nlri, few4)))


@versions
def test_what_is_told_again_is_what_was_told(direct: Direct, version: int) -> None:
    """In either form; each ends and begins amid what is said."""
    with up(direct, version) as wire:
        for seed in range(12):
            assert isinstance(direct.ask(f"l3net form {'packed' if seed % 3 else 'plain'}")[-1], Done)
            start = len(direct.lines)
            wire.send(*random_updates(seed, 25), announce(f"198.51.{seed}.0/24"))
            last = ip_network(f"198.51.{seed}.0/24")
            direct.until(lambda last=last: (last, "") in folded(direct.messages), "the last of them")  # type: ignore[misc]
            live = folded(direct.messages)
            updates = [line for line in direct.lines[start:] if b'"type": "update"' in line]
            assert all(b'"nlri"' in line for line in updates) is not bool(seed % 3)  # what is wrong is plain
            events = replayed(direct)
            assert states(events) == ["begin", "end"]
            assert folded(events) == live
            assert len(live) > 10
        assert {path.next_hop.version for path in live.values()} == {4, 6}


@versions
def test_what_begins_a_replay_and_who_is_told(direct: Direct, version: int) -> None:
    opened = (*USUAL, graceful_restart(4, 6, seconds=77))
    with up(direct, version, opened) as wire:
        wire.send(announce("198.51.100.0/24"), END_OF_RIB[6])
        direct.until(lambda: EndOfRib(far(version), Family.IPV6) in direct.messages, "End-of-RIB")
        begin, said, end, whole = replayed(direct, "l3net received 0a9")
        told = [json.loads(line) for line in direct.lines if b'"type": "open"' in line]
        (live,) = [each["neighbor"]["open"] for each in told]
        begun = begin["neighbor"]["replay"]
        assert begun["open"] == live
        assert begun == begun | {"token": "0a9", "state": "begin", "eor": ["ipv6 unicast"]}
        assert 0 <= begun["up-seconds"] < 60
        assert begin["neighbor"]["address"]["peer"] == FAR_ADDRESS[version]
        assert [(said["type"], len(folded([said]))) for said in (said,)] == [("update", 1)]
        assert end["neighbor"]["replay"] == {"token": "0a9", "state": "end"}
        assert (whole["type"], whole["token"], "neighbor" in whole) == ("replayed", "0a9", False)
        # One peer alone, and one that is not there.
        assert states(replayed(direct, f"l3net received 1 neighbor {FAR_ADDRESS[version]}")) == [
            "begin",
            "end",
        ]
        assert [each["type"] for each in replayed(direct, "l3net received 1 neighbor 10.9.9.9")] == [
            "replayed"
        ]
        for wrong in ("l3net received", "l3net received A", "l3net received 1 neighbor", "l3net nothing"):
            assert isinstance(direct.ask(wrong)[-1], Failed)


@versions
def test_a_session_that_ends_takes_with_it_what_it_said(direct: Direct, version: int) -> None:
    for prefix in ("198.51.100.0/24", "198.51.101.0/24"):
        with Listening(direct.stage, version) as listening:
            hold(direct, version)
            wire = listening.accept()
        with wire:
            wire.establish()
            wire.send(announce(prefix), announce("2001:db8::/48"))
            wanted = {ip_network(prefix), ip_network("2001:db8::/48")}
            direct.until(
                lambda wanted=wanted: {prefix for prefix, _ in folded(replayed(direct))} == wanted,  # type: ignore[misc]
                "what this session said, alone",
            )
        direct.until(lambda: [each["type"] for each in replayed(direct)] == ["replayed"], "its end")


@versions
@pytest.mark.parametrize("graceful", [False, True], ids=["plain", "graceful-restart"])
def test_a_refresh_of_the_peers_own_purges(direct: Direct, version: int, graceful: bool) -> None:
    """RFC 7313: what stands between BoRR and EoRR is all there is; of a peer with graceful restart not before
    its End-of-RIB (section 4)."""
    prefixes = {
        4: ["198.51.100.0/24", "198.51.101.0/24", "203.0.113.0/24"],
        6: ["2001:db8:1::/48", "2001:db8:2::/48", "2001:db8:3::/48"],
    }
    family, peer = Family(version), far(version)
    kept, lost, gone = prefixes[version]
    other = prefixes[10 - version][0]
    with up(direct, version, (*ENHANCED, graceful_restart(4, 6)) if graceful else ENHANCED) as wire:
        wire.send(*map(announce, (kept, lost, gone, other)))
        if graceful:
            wire.send(route_refresh(version, 1), route_refresh(version, 2), END_OF_RIB[version])
        wire.send(route_refresh(version, 1), announce(kept))
        direct.until(lambda: Refresh(peer, family, "begin") in direct.messages, "BoRR")
        assert {str(prefix) for prefix, _ in folded(replayed(direct))} == {kept, lost, gone, other}
        withdrawn = update(b"", b"", nlri(gone)) if version == 4 else update(unreach6(gone))
        wire.send(withdrawn, route_refresh(version, 2))
        direct.until(lambda: Refresh(peer, family, "end") in direct.messages, "EoRR")
        direct.until(
            lambda: {str(prefix) for prefix, _ in folded(direct.messages)} == {kept, other},
            "the prefix that was not said again to be told as withdrawn",
        )
        assert folded(replayed(direct)) == folded(direct.messages)
        # It has not been taken for a request (RFC 2918): nothing is said to the peer but what it asks for.
        sent = peers(direct)[FAR_ADDRESS[version]]["sent-updates"]
        hop = {4: NODE_ADDRESS[4], 6: NODE_ADDRESS[6]}[version]
        mine = {4: "10.244.1.0/24", 6: "fd00:10:244:1::/120"}[version]
        direct.ask(f"neighbor {peer} announce attributes next-hop {hop} origin igp nlri {mine}")
        direct.until(lambda: peers(direct)[FAR_ADDRESS[version]]["sent-updates"] == sent + 1, "our UPDATE")
        wire.send(route_refresh(version, 1), route_refresh(version, 2), announce(lost))
        direct.until(
            lambda: lost in {str(prefix) for prefix, _ in folded(direct.messages)}, "the peer's last"
        )
        assert peers(direct)[FAR_ADDRESS[version]]["sent-updates"] == sent + 1
        wire.send(route_refresh(version))
        direct.until(lambda: peers(direct)[FAR_ADDRESS[version]]["sent-updates"] == sent + 2, "the refresh")


def many(number: int) -> list[bytes]:
    """UPDATEs of so many IPv4 prefixes."""
    blocks = [f"100.{64 + each // 65536}.{each // 256 % 256}.{each % 256}/32" for each in range(number)]
    base = ORIGIN + AS_PATH + NEXT_HOP
    return [update(base, b"".join(map(nlri, blocks[start : start + 700]))) for start in range(0, number, 700)]


def test_a_long_replay_stops_for_nobody(direct: Direct) -> None:
    """What is asked after it is answered amid it: an announcement does not wait for its end."""
    count = 60_000
    with up(direct, 4) as wire:
        wire.send(*many(count))
        direct.until(lambda: len(folded(direct.messages)) == count, "all of them")
        direct.lines.clear()
        announcement = (
            f"neighbor {far(4)} announce attributes next-hop 10.90.0.1 origin igp nlri 10.244.1.0/24"
        )
        direct.say(f"l3net received 1\n{announcement}\nl3net peers")
        direct.until(lambda: any(map(is_last, direct.lines)), "the answer")
        answers = [number for number, line in enumerate(direct.lines) if line == b"done"]
        assert len(answers) == 3
        end = next(number for number, line in enumerate(direct.lines) if b'"end"' in line)
        assert answers[-1] < end
        events = [json.loads(line) for line in direct.lines if line.startswith(b'{ "exabgp"')]
        assert states(events) == ["begin", "end"]
        assert len(folded(events)) == count


@versions
def test_path_identifiers_are_told_again(direct: Direct, version: int) -> None:
    """RFC 7911: two paths to a prefix."""
    offers = (69, struct.pack("!HBBHBB", 1, 1, 2, 2, 1, 2))
    with up(direct, version, (*USUAL, offers), add_path=True) as wire:
        one, two = (struct.pack("!I", number) for number in (0, 4_000_000_000))
        base = ORIGIN + AS_PATH
        paths = one + nlri("198.51.100.0/24") + two + nlri("198.51.100.0/24")
        paths6 = one + nlri("2001:db8::/48") + two + nlri("2001:db8::/48")
        reach = attribute(0x80, 14, bytes([0, 2, 1, 16]) + ip_address("fd90::2").packed + b"\0" + paths6)
        wire.send(update(base + NEXT_HOP, paths), update(base + reach))
        direct.until(lambda: len(folded(direct.messages)) == 4, "four paths")
        assert folded(replayed(direct)) == folded(direct.messages)
        wire.send(update(b"", b"", one + nlri("198.51.100.0/24")))
        direct.until(lambda: len(folded(direct.messages)) == 3, "one to go")
        assert folded(replayed(direct)) == folded(direct.messages)


@versions
def test_how_the_sessions_are(direct: Direct, version: int) -> None:
    old = (MULTIPROTOCOL[version], REFRESH, AS4)
    with up(direct, version, old) as wire:
        row = peers(direct)[FAR_ADDRESS[version]]
        assert row == {
            "peer": FAR_ADDRESS[version],
            "state": "established",
            "up-seconds": row["up-seconds"],
            "queued": 0,
            "unsent-seconds": 0,
            "refresh": "normal",
            "families": [f"ipv{version} unicast"],
            "hold-time": 90,
            "sent-updates": 0,
            "messages": {side: {"open": 1, "keepalive": 1} for side in ("sent", "received")},
        }
        assert row["up-seconds"] < 30
        wire.close()
        direct.until(lambda: peers(direct)[FAR_ADDRESS[version]]["state"] != "established", "its end")
        row = peers(direct)[FAR_ADDRESS[version]]
        assert (row["families"], row["refresh"], row["hold-time"], row["up-seconds"]) == ([], "absent", 0, 0)


#: Asks a plain ExaBGP, and shows what it answers.
PLAIN = """
import sys
import exabgp.application.server
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.reactor.api import API

class Processes:
    def answer_error(self, service):
        print("error")
    def __getattr__(self, name):
        sys.exit(f"it does something: {name}")

class Reactor:
    processes = Processes()

log.init(getenv())
for line in sys.argv[1:]:
    API(Reactor()).process(Reactor(), "relay", line)
"""


def test_an_exabgp_without_these_commands_refuses_them() -> None:
    asked = ["l3net peers", "l3net received 1a", "l3net received 9 neighbor 10.0.0.2", "l3net received 0z"]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *asked],
        capture_output=True,
        text=True,
        check=False,
        env={"exabgp.log.level": "CRITICAL", "exabgp.log.destination": "stderr"},
    )
    assert (done.returncode, done.stdout.split()) == (0, ["error"] * len(asked)), done.stderr
    # The control: a token of one word would be taken for a command.
    argv = [sys.executable, "-c", PLAIN, "l3net received version"]
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0
