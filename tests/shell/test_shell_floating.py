"""Connections of floating addresses, in the kernel's own table."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from l3net.shell.kernel.connections import Conntrack
from l3net.shell.kernel.conntrack_floating import forget_floating, tracked_as

WORDS = {
    4: {"F": "203.0.113.10", "p": "10.244.1.9", "q": "10.244.1.8", "C": "192.0.2.7", "N": "10.0.0.2"},
    6: {"F": "2001:db8:f::10", "p": "fd00::9", "q": "fd00::8", "C": "2001:db8::7", "N": "fd00:1::2"},
}
#: Original source and destination, reply source and destination; whether it stays while p has F, while nobody
#: here has.
FLOWS = {
    "in, to who has it": ("CF pC", True, False),
    "in, to who had it": ("CF qC", False, False),
    "in, not translated": ("CF FC", False, True),
    "out, of who has it": ("pC CF", True, False),
    "out, of who had it": ("qC CF", False, False),
    "out, of nobody here": ("FC CF", True, True),
    "not of it": ("qC CN", True, True),
}


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_those_of_others_are_forgotten(version: int, held: bool, own_netns: Callable[[str], str]) -> None:
    own_netns("link set lo up")
    words = WORDS[version]
    for number, (flow, _, _) in enumerate(FLOWS.values()):
        there, back = flow.split()
        port = str(1000 + number)
        arguments = [
            *("conntrack", "-I", "-p", "udp", "-t", "600"),
            *("-s", words[there[0]], "-d", words[there[1]], "--sport", port, "--dport", "53"),
            *("-r", words[back[0]], "-q", words[back[1]]),
            *("--reply-port-src", "53", "--reply-port-dst", port),
        ]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    count = forget_floating({ip_address(words["F"]): ip_address(words["p"]) if held else None})
    listed = subprocess.run(
        ["conntrack", "-L", "-f", f"ipv{version}"], capture_output=True, text=True, check=True
    ).stdout
    left = {name for number, name in enumerate(FLOWS) if f"sport={1000 + number} " in listed}
    assert left == {name for name, (_, kept, free) in FLOWS.items() if (kept if held else free)}
    assert count == len(FLOWS) - len(left)


@pytest.mark.parametrize("version", [4, 6])
def test_those_whose_source_is_seen_as_an_address_are_found(
    version: int, own_netns: Callable[[str], str]
) -> None:
    """Of egress addresses: who began them, and as whom others see that."""
    own_netns("link set lo up")
    words = WORDS[version]
    for port, (there, back) in enumerate(
        (("pC", "CF"), ("qC", "CF"), ("pC", "Cp"), ("CF", "FC")), start=2000
    ):
        ends = ("-s", words[there[0]], "-d", words[there[1]], "-r", words[back[0]], "-q", words[back[1]])
        ports = (
            "--sport",
            str(port),
            "--dport",
            "53",
            "--reply-port-src",
            "53",
            "--reply-port-dst",
            str(port),
        )
        done = subprocess.run(
            ["conntrack", "-I", "-p", "udp", "-t", "600", *ends, *ports],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    seen = ip_address(words["F"])
    found = tracked_as([seen])
    assert {(str(each.source), each.source_port, each.seen_as) for each in found} == {
        (words["p"], 2000, seen),
        (words["q"], 2001, seen),
    }
    assert tracked_as([]) == [] == tracked_as([ip_address(words["N"])])
    connections = Conntrack()
    connections.end(found)
    assert connections.seen_as([seen]) == []
