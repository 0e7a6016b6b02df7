"""One test for each bug of ExaBGP 5.0.15 that the agent has to keep clear of.

Where the bug itself can be shown cheaply it is, as the control: a control that fails after an upgrade of
ExaBGP says that the care taken here may not be needed any more.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from agent_shells import speaker
from direct_exabgp import Direct, session
from far_sides import AnyFarSide, Originated
from node_rig import NODE, brought_up, peer
from stage import BLOCKS, FAR_ADDRESS, NODE_ADDRESS, ORIGINATED, Stage, configuration, far_session

from l3net.bgp.events import Opened, StateChanged
from l3net.bgp.exabgp import commands
from l3net.bgp.exabgp.configuration import MARKER, fingerprint, head, neighbor, render
from l3net.bgp.exabgp.messages import Done, Failed, Neighbors
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.path import Attributes
from l3net.bgp.verdict import ACCEPTED
from l3net.model import Family
from l3net.shell.sockets.unixlink import UnixLink
from l3net.shell.speaker.config import SpeakerConfig, SpeakerError, relay_argv

netns = pytest.mark.netns
FAR4 = ip_address(FAR_ADDRESS[4])
NOBODY = "10.90.0.77"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with brought_up(Stage()) as made:
        yield made


def start_far(stage: Stage, kind: str = "bird", **how: object) -> AnyFarSide:
    far = stage.far_side(kind)
    far.start([far_session(**how)], [Originated(ORIGINATED[4])])
    return far


def established(direct: Direct) -> None:
    direct.until(lambda: StateChanged(FAR4, "up") in direct.messages, "the session")


# --- 1 and 2: words in commands --------------------------------------------------------------------------


@netns
def test_1_2_names_that_are_commands_of_exabgp_reach_no_command(stage: Stage) -> None:
    """A command is found by substring (`shutdown `, `reload `), and `json` outside a question is fatal.

    The community graceful-shutdown is sent by number, and names stay in the agent.
    """
    rule = {"action": "Accept", "operations": {"addCommunities": ["65535:0"]}}
    named = {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "BGPFilter",
        "metadata": {"name": "shutdown"},
        "spec": {"export": [rule]},
    }
    far = start_far(stage)
    ranged = peer("ranged", "10.90.0.0/24")  # bug 4: a range is no peer
    stage.declare(
        "node.yaml", NODE, configuration(), named, peer("json", FAR_ADDRESS[4], filters=["shutdown"])
    )
    stage.declare("ranged.yaml", ranged)
    stage.start_speaker()
    stage.start_agent()
    stage.until(lambda: far.seen(BLOCKS[4]), "our block")
    seen = far.seen(BLOCKS[4])
    assert seen is not None
    assert seen.communities == {"65535:0"}
    assert (stage.node.directory / "speaker.log").read_text().count("ExaBGP started") == 1
    assert "ranged.yaml" in "".join(stage.status()["problems"])
    assert "10.90.0.0/24" not in stage.speaker_config()


@netns
@pytest.mark.parametrize(
    "line",
    [
        f"neighbor {FAR_ADDRESS[4]} announce route 10.9.0.0/24 next-hop 10.90.0.1 "
        "community [ graceful-shutdown ]",
        "version json",
    ],
)
def test_1_2_the_control_such_a_line_ends_exabgp(stage: Stage, line: str) -> None:
    direct = Direct(stage, [session()])
    old = stage.exabgp_pid()
    direct.say(line)
    stage.until(lambda: stage.exabgp_pid() != old, "ExaBGP to end")


def test_2_no_byte_that_is_not_ascii_reaches_exabgp(tmp_path: Path) -> None:
    class Writer:
        written = b""

        def write(self, data: bytes) -> None:
            self.written += data

    link = UnixLink(tmp_path, lambda: None, lambda _data: None, lambda: None, longest_retry=1.0)
    writer = Writer()
    link._writer = writer  # type: ignore[assignment]
    link.send_line("version")
    with pytest.raises(UnicodeEncodeError):
        link.send_line("versión")
    assert writer.written == b"version\n"


# --- 3: next hops ----------------------------------------------------------------------------------------


@netns
def test_3_next_hops_are_explicit_and_of_the_prefix_family(stage: Stage) -> None:
    both = session(families=frozenset(Family))
    far = start_far(stage, versions=(4, 6))
    direct = Direct(stage, [both])
    established(direct)
    hop, prefix = ip_address(NODE_ADDRESS[6]), ip_network("fd01::/64")
    line = commands.announce(both, hop, Attributes(), [prefix])
    assert isinstance(direct.ask(line)[-1], Done)
    stage.until(lambda: far.seen("fd01::/64"), "the IPv6 prefix over the IPv4 session")
    # The control: ExaBGP finds no IPv6 address of its own on an IPv4 session.
    line = f"neighbor {FAR4} announce route fd02::/64 next-hop self"
    assert isinstance(direct.ask(line)[-1], Failed)
    assert " self" not in commands.announce(both, hop, Attributes(), [prefix])


# --- 4 and 9: the configuration --------------------------------------------------------------------------


def test_4_9_no_neighbour_is_a_range_and_none_asks_for_the_negotiated_block() -> None:
    kinds = [session(), session(6), session(passive=True, listen=True), session(families=frozenset(Family))]
    text = render(kinds, ["/relay"])
    found = re.findall(r"^neighbor (\S+) \{$", text, re.MULTILINE)
    assert len(found) == len(kinds) + 1
    for word in found:
        ip_address(word)  # an address, not a prefix, which ip_address() refuses
    assert "negotiated" not in text
    assert "inherit" not in text


# --- 5: reload -------------------------------------------------------------------------------------------

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "bgp", "namespace": "kube-system"},
    "stringData": {"password": "right-one"},
}
PASSWORD = {"secretKeyRef": {"name": "bgp", "key": "password"}}


def queue_a_route_for_nobody(stage: Stage) -> None:
    """What the agent never does: it stays queued until somebody answers there."""

    def queued() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(stage.inside(stage.node, "/run/l3net/speaker.sock")))
            try:
                client.sendall(f"neighbor {NOBODY} announce route 10.9.9.0/24 next-hop 10.90.0.1\n".encode())
            except BrokenPipeError:  # the agent was back first: the newest client is heard
                return False
            time.sleep(0.3)
            return True

    stage.until(queued, "the line to be sent")


@netns
def test_5_a_reload_is_seen_through_also_when_only_a_password_changed(stage: Stage) -> None:
    """A plain ExaBGP drops it, with `done`, while a neighbour that no host answers for has a route queued."""
    far = start_far(stage, password="right-one")  # noqa: S106
    wrong = {**SECRET, "stringData": {"password": "wrong-one"}}
    peers = [peer("far", FAR_ADDRESS[4], password=PASSWORD), peer("nobody", NOBODY)]
    stage.declare("node.yaml", NODE, configuration(), wrong, *peers)
    stage.start_speaker()
    stage.start_agent()
    stage.until(lambda: len(stage.peers()) == 2, "both peers")
    stage.until(lambda: stage.status()["speakerConnected"], "the speaker")
    queue_a_route_for_nobody(stage)
    stage.declare("node.yaml", NODE, configuration(), SECRET, *peers)
    stage.until(lambda: far.seen(BLOCKS[4]), "the session with the right password")


@netns
def test_5_a_reload_is_not_dropped_for_a_route_that_is_queued(stage: Stage) -> None:
    """By our ExaBGP, of the release that it knows; the fingerprint tells, for all others."""
    nobody = session(peer_address=ip_address(NOBODY))
    direct = Direct(stage, [nobody])
    old = fingerprint(direct.text)
    assert loaded(direct) == {old}
    direct.ask(f"neighbor {NOBODY} announce route 10.9.9.0/24 next-hop 10.90.0.1")
    new = fingerprint(direct.configure([nobody, session(password=b"one")]))
    assert isinstance(direct.ask(commands.RELOAD)[-1], Done)
    direct.until(lambda: loaded(direct) == {new}, "the reload")
    assert old != new


def loaded(direct: Direct) -> frozenset[str]:
    answers = [answer for answer in direct.ask(commands.SHOW_NEIGHBORS) if isinstance(answer, Neighbors)]
    assert MARKER not in answers[-1].established
    return answers[-1].loaded


def test_5_what_exabgp_cannot_read_is_found_before_it_takes_the_place_of_a_good_file(tmp_path: Path) -> None:
    good = [neighbor(session()), neighbor(session(6, peer_address=ip_address("fd90::7")))]
    bad = [
        neighbor(session(password=b"x" * 81)),  # RFC 2385 has no limit; the kernel and ExaBGP have
        neighbor(session(peer_address=ip_address("10.90.0.8"))).replace("hold-time 9;", "hold-time nine;"),
    ]
    first = head(relay_argv(tmp_path))

    async def ask() -> list[frozenset[str]]:
        config = SpeakerConfig(tmp_path)
        return [
            await config.refused(first, blocks) for blocks in (good, [*good, *bad], [*bad, good[1]], good)
        ]

    assert asyncio.run(ask()) == [frozenset(), frozenset(bad), frozenset(bad), frozenset()]


def test_5_what_was_asked_is_not_asked_again_by_the_next_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = neighbor(session()), neighbor(session(password=b"x" * 81))
    first = head(relay_argv(tmp_path))
    assert asyncio.run(SpeakerConfig(tmp_path).refused(first, [good, bad])) == {bad}
    checked = tmp_path / "exabgp-checked.json"
    assert checked.stat().st_mode & 0o777 == 0o600
    kept = checked.read_text()

    asked: list[object] = []

    async def check(_self: SpeakerConfig, parts: Sequence[str]) -> list[int]:
        asked.append(parts)
        return []

    monkeypatch.setattr(SpeakerConfig, "_check", check)
    for blocks in ([good, bad], [bad], [good]):
        assert asyncio.run(SpeakerConfig(tmp_path).refused(first, blocks)) == {bad} & {*blocks}
    assert not asked
    # The controls: another head, another release, and what is no file of ours.
    assert asyncio.run(SpeakerConfig(tmp_path).refused(first + "\n", [good])) == frozenset()
    for text in (
        kept.replace('"release": "', '"release": "0'),
        "[" * 100_000,
        '{"release": 1}',
        "",
        kept[:-9],
    ):
        checked.write_text(text)
        assert asyncio.run(SpeakerConfig(tmp_path).refused(first, [good, bad])) == frozenset()
    assert len(asked) == 6


def test_5_a_file_system_that_is_full_is_one_clear_error(tmp_path: Path) -> None:
    async def write() -> None:
        config = SpeakerConfig(tmp_path / "gone")
        config.confirm()
        with pytest.raises(SpeakerError, match="cannot be written"):
            await config.replace("text")

    asyncio.run(write())


def test_5_the_file_is_never_missing(tmp_path: Path) -> None:
    """A reload that finds no file ends ExaBGP."""
    config = SpeakerConfig(tmp_path)
    missing = 0

    async def replace_often() -> None:
        nonlocal missing
        await config.replace("0")
        done = False

        def watch() -> None:
            nonlocal missing
            while not done:
                missing += config.current() is None

        watching = asyncio.create_task(asyncio.to_thread(watch))
        for number in range(100):
            await config.replace(str(number))
        done = True
        await watching

    asyncio.run(replace_often())
    assert missing == 0


# --- 6: removal ------------------------------------------------------------------------------------------


@netns
def test_6_a_peer_removed_hears_withdrawals_and_one_added_again_hears_everything(stage: Stage) -> None:
    far = start_far(stage)
    stage.declare("node.yaml", NODE, configuration(), peer("far", FAR_ADDRESS[4]))
    stage.start_speaker()
    stage.start_agent()
    for _ in range(2):
        stage.declare("node.yaml", NODE, configuration(), peer("far", FAR_ADDRESS[4]))
        stage.until(lambda: far.seen(BLOCKS[4]) and not far.stale(BLOCKS[4]), "our block")
        stage.declare("node.yaml", NODE, configuration())
        # Graceful restart would keep it for two minutes.
        stage.until(lambda: far.seen(BLOCKS[4]) is None, "the withdrawal", seconds=20)


@netns
def test_6_the_control_a_neighbour_just_removed_leaves_stale_routes(stage: Stage) -> None:
    far = start_far(stage)
    direct = Direct(stage, [session()])
    established(direct)
    prefix = ip_network("10.9.0.0/24")
    direct.ask(commands.announce(session(), ip_address(NODE_ADDRESS[4]), Attributes(), [prefix]))
    stage.until(lambda: far.seen("10.9.0.0/24"), "the route")
    direct.configure([])
    direct.ask(commands.RELOAD)
    stage.until(lambda: far.stale("10.9.0.0/24"), "the route to be stale")


# --- 7: questions ----------------------------------------------------------------------------------------


def test_7_a_session_said_to_be_down_by_a_question_stays_up(tmp_path: Path) -> None:
    """In its first second an established session is `down` in the answer; only its event ends one."""
    from l3net.agent.speaker.speaking import Speaking

    async def ask() -> bool:
        rib = LocRib(lambda _session, path: (ACCEPTED, path))
        speaking = Speaking(speaker(tmp_path), rib, lambda _prefixes: None)
        speaking.set_sessions({FAR4: session()})
        speaking.hearing.handle(StateChanged(FAR4, "up"))
        speaking.learn_neighbours([Neighbors({FAR4: False})])
        up = speaking.peers[FAR4].established
        speaking.hearing.handle(StateChanged(FAR4, "down", "the control"))
        assert not speaking.peers[FAR4].established
        return up

    assert asyncio.run(ask())


@netns
def test_7_a_prefix_with_two_next_hops_counts_once(stage: Stage) -> None:
    """FRR sends a global and a link-local next hop (RFC 2545 section 3), and ExaBGP lists it under each."""
    far = stage.far_side("frr")
    far.start([far_session(6)], [Originated(ORIGINATED[6])])
    direct = Direct(stage, [session(6)])
    direct.until(lambda: any(ORIGINATED[6].encode() in line for line in direct.lines), "the prefix")
    (line,) = [line for line in direct.lines if ORIGINATED[6].encode() in line]
    assert line.count(ORIGINATED[6].encode()) == 2, "the control: it is listed twice"
    paths = direct.decoder.decode(line).announced  # type: ignore[union-attr]
    assert [(str(path.prefix), str(path.next_hop)) for path in paths] == [(ORIGINATED[6], FAR_ADDRESS[6])]


def test_7_what_peers_announced_is_never_asked_of_exabgp() -> None:
    """`show adj-rib in` forgets IPv6 and remembers the dead."""
    constants = [value for value in vars(commands).values() if isinstance(value, str)]
    assert not [value for value in constants if "adj-rib in" in value.splitlines()[0]]


# --- 8: flags of graceful restart ------------------------------------------------------------------------


@netns
@pytest.mark.parametrize("restarting", [True, False], ids=["restarting", "fresh"])
def test_8_the_restart_bit_of_a_real_open_is_read_right(stage: Stage, restarting: bool) -> None:
    """The names of the two flags are swapped in the JSON."""
    far = stage.far_side("bird")
    far.start([far_session()], [], again=restarting)
    direct = Direct(stage, [session()])
    direct.until(lambda: any(isinstance(m, Opened) for m in direct.messages), "the OPEN")
    (opened, *_) = [message for message in direct.messages if isinstance(message, Opened)]
    assert opened.graceful_restart == 120
    assert opened.restarting is restarting
    assert opened.forwarding == ({Family.IPV4} if restarting else set())


# --- 10: the relay ---------------------------------------------------------------------------------------


@netns
def test_10_relays_that_die_again_and_again_cost_no_route_for_long(stage: Stage) -> None:
    """After six in a minute ExaBGP gives up and ends; its supervisor does not."""
    far = start_far(stage)
    stage.declare("node.yaml", NODE, configuration(), peer("far", FAR_ADDRESS[4]))
    stage.start_speaker()
    stage.start_agent()
    stage.until(lambda: far.seen(BLOCKS[4]) and ORIGINATED[4] in stage.learned(), "routes both ways")

    def relay() -> str:
        pid = stage.exabgp_pid()
        found = stage.node.run(["pgrep", "-P", str(pid)], check=False).stdout.split() if pid else []
        return found[0] if found else ""

    for _ in range(8):
        stage.until(relay, "a relay")
        stage.node.run(["kill", "-KILL", relay()], check=False)
        assert ORIGINATED[4] in stage.learned()
    stage.established(FAR_ADDRESS[4])
    stage.until(lambda: far.seen(BLOCKS[4]) and not far.stale(BLOCKS[4]), "our block, heard again")
    assert ORIGINATED[4] in stage.learned()


@netns
def test_10_an_agent_that_does_not_read_costs_no_session(stage: Stage) -> None:
    """A full pipe would block ExaBGP, and every session would end at its hold time (9 s here)."""
    far = start_far(stage)
    stage.declare("node.yaml", NODE, configuration(), peer("far", FAR_ADDRESS[4]))
    stage.start_speaker()
    stage.start_agent()
    stage.until(lambda: far.seen(BLOCKS[4]) and ORIGINATED[4] in stage.learned(), "routes both ways")
    stage.node.kill("agent", signal.SIGSTOP)
    config = stage.tor.directory / "bird.conf"
    count = 8000  # far more than two pipes and a socket hold
    routes = "".join(
        f"  route 172.{16 + number // 65536}.{number // 256 % 256}.{number % 256}/32 blackhole;\n"
        for number in range(count)
    )
    config.write_text(config.read_text().replace("static4 { ipv4;\n", f"static4 {{ ipv4;\n{routes}"))
    far.run(["birdc", "configure"])
    time.sleep(12)
    stage.node.kill("agent", signal.SIGCONT)
    stage.until(lambda: stage.peers().get(FAR_ADDRESS[4], {}).get("accepted") == count + 1, "all routes")
    row = stage.peers()[FAR_ADDRESS[4]]
    assert (row["state"], row["flaps"]) == ("established", 0)


# --- 11: our own routes ----------------------------------------------------------------------------------


@netns
def test_11_our_own_routes_reflected_by_frr_are_refused(stage: Stage) -> None:
    start_far(stage, "frr")
    stage.declare("node.yaml", NODE, configuration(), peer("far", FAR_ADDRESS[4]))
    stage.start_speaker()
    stage.start_agent()
    stage.until(lambda: BLOCKS[4] in stage.paths(), "the reflection")
    stage.until(lambda: ORIGINATED[4] in stage.learned(), "the route that is FRR's own")
    assert stage.paths()[BLOCKS[4]]["verdict"] == "asPathLoop"
    assert BLOCKS[4] not in stage.learned()
