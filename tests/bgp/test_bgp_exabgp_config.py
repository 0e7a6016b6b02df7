"""The configuration is what ExaBGP itself accepts, whatever the password; commands hold typed values only."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from bgp_facts import community, path, session

from l3net.bgp.exabgp import commands
from l3net.bgp.exabgp.configuration import as_numbers, neighbor, render
from l3net.bgp.path import Attributes
from l3net.bgp.sessions import UNKNOWN_AS
from l3net.model import Family
from l3net.shell.speaker.supervisor import EXABGP_ENVIRONMENT

RELAY = ["/usr/bin/python3", "-I", "/opt/l3net/relay.py", "/run/l3net/speaker.sock", "5"]
AWKWARD = 'quo"te; } neighbor 10.9.9.9 { \\ #äé$(x) `y`'.encode()


def exabgp(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "exabgp.conf"
    file.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "exabgp", "validate", str(file)],
        env={**os.environ, **EXABGP_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )


def test_exabgp_accepts_every_kind_of_session(tmp_path: Path) -> None:
    all_kinds = [
        session("10.0.0.1", password=AWKWARD, gtsm=True),
        session("10.0.0.3", passive=True, listen=True, listen_port=1790),
        session("10.0.0.5", multihop=3, port=1179, source_interface="eth0.100"),
        session("fd00::1", families=frozenset(Family), graceful_restart=0, hold_time=0),
        session("10.0.0.9", add_path=True, families=frozenset(Family)),
        session("10.0.0.11", send_hold_time=600),
        session("10.0.0.7", peer_as=4200000000, local_as=4200000001),
    ]
    found = exabgp(render(all_kinds, RELAY), tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_control_a_broken_file_is_refused(tmp_path: Path) -> None:
    assert (
        exabgp(render([session()], RELAY).replace("hold-time 90;", "hold-time ninety;"), tmp_path).returncode
        != 0
    )


def test_the_order_of_sessions_does_not_matter() -> None:
    pair = [session("10.0.0.1"), session("10.0.0.3")]
    assert render(pair, RELAY) == render(reversed(pair), RELAY)


def test_a_password_never_stands_there_in_the_clear() -> None:
    text = render([session(password=b"canary-secret")], RELAY)
    assert "canary" not in text
    assert "md5-base64 true" in text


@pytest.mark.parametrize("word", ["a b", "x;y", "{", "$(x)", ""])
def test_an_argument_exabgp_would_misread_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="cannot be given"):
        render([session()], [*RELAY, word])


def every_command() -> list[str]:
    attributes = Attributes(
        as_path=(64512, 65001),
        local_preference=50,
        med=7,
        communities=frozenset({community("65535:0"), community("1:2:3")}),
    )
    one = session()
    prefixes = [ip_network("10.0.0.0/24"), ip_network("10.0.1.0/24")]
    return [
        commands.announce(one, ip_address("10.0.0.2"), attributes, prefixes),
        commands.withdraw(one, prefixes),
        commands.withdraw(session("fd00::1"), [ip_network("fd01::/64")]),
        commands.end_of_rib(ip_address("10.0.0.1"), Family.IPV4),
        commands.route_refresh(ip_address("fd00::1"), Family.IPV6),
    ]


def test_no_command_holds_a_word_that_exabgp_dispatches_on_by_substring() -> None:
    """5.0.15 takes a command that contains `shutdown ` for that command, and `json` for an encoding."""
    for command in every_command():
        assert command.isascii()
        for word in ("shutdown", "reload", "restart", "reset", "version", "crash", "json", "\n"):
            assert word not in command


def test_as_path_on_the_wire() -> None:
    external, internal = session(), session(peer_as=64512)
    assert commands.as_path_on_wire(external, path("10.0.0.0/24").attributes) == ()  # ExaBGP puts ours itself
    assert commands.as_path_on_wire(external, Attributes(as_path=(7,))) == (64512, 7)
    assert commands.as_path_on_wire(internal, Attributes(as_path=(7,))) == (7,)


def test_local_preference_stays_inside_the_as() -> None:
    attributes = Attributes(local_preference=50)
    line = "local-preference"
    prefixes = [ip_network("10.0.0.0/24")]
    assert line not in commands.announce(session(), ip_address("10.0.0.2"), attributes, prefixes)
    assert line in commands.announce(session(peer_as=64512), ip_address("10.0.0.2"), attributes, prefixes)


def test_extended_next_hops() -> None:
    text = neighbor(session("fd00::1", families=frozenset(Family), extended_next_hop=True))
    assert "nexthop enable;" in text
    assert "nexthop { ipv4 unicast ipv6; }" in text
    assert "nexthop" not in neighbor(session("fd00::1", families=frozenset(Family)))


def test_the_file_tells_what_as_numbers_were_learned() -> None:
    told = session("fe80::7", peer_as=4_200_000_000, source_interface="eth1")
    silent = session("fe80::8", peer_as=UNKNOWN_AS, source_interface="eth2")
    text = render([told, silent, session("10.0.0.1")], ["/usr/bin/python3"])
    assert as_numbers(text) == {told.peer_address: 4_200_000_000}
