"""What l3net changes in ExaBGP: the same commands end in the same UPDATEs, and a prefix's last word holds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: Feeds commands to ExaBGP's parser and queues, as its reactor does, and shows what it would send each peer.
FEED = """
import json, sys
import exabgp.application.server
from exabgp.bgp.message import Action
from exabgp.bgp.message.open.asn import ASN
from exabgp.bgp.message.open.capability import Negotiated
from exabgp.configuration.configuration import Configuration
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.protocol.family import AFI, SAFI
from exabgp.reactor.api import API
from exabgp.reactor.asynchronous import ASYNC
from l3net.shell.speaker.exabgp import apply_patches

mode, release = sys.argv[1], sys.argv[2]
if mode == "quick":
    from exabgp import version
    version.release = release or version.release
    print(json.dumps(apply_patches()))
log.init(getenv())
text = "".join(
    f"neighbor 10.0.0.{n} {{ local-address 10.0.0.1; local-as 65001; peer-as {65000 + n}; router-id 10.0.0.1;"
    f" adj-rib-out true; family {{ ipv4 unicast; {'ipv6 unicast; ' * (n < 4)}}} }}\\n" for n in (2, 3, 4))
configuration = Configuration([text], True)
assert configuration.reload(), configuration.error
turns, answers = ASYNC(), []


class Processes:
    silence = False

    def answer_done(self, service, force=False):
        answers.append("done")

    def answer_error(self, service):
        answers.append("error")


class Reactor:
    asynchronous, processes = turns, Processes()

    def peers(self, service):
        return list(configuration.neighbors)


reactor = Reactor()
reactor.configuration = configuration
api = API(reactor)
negotiated = Negotiated(next(iter(configuration.neighbors.values())))
negotiated.families = [(AFI.ipv4, SAFI.unicast), (AFI.ipv6, SAFI.unicast)]
negotiated.asn4, negotiated.local_as, negotiated.peer_as = True, ASN(65001), ASN(65002)

said = {Action.ANNOUNCE: "announce", Action.WITHDRAW: "withdraw"}

def sent():
    for key, neighbor in sorted(configuration.neighbors.items()):
        for update in neighbor.rib.outgoing.updates(True):
            for message in update.messages(negotiated, True):
                print(json.dumps(message.hex()))
            nlris = sorted(f"{said[nlri.action]} {nlri.cidr} {nlri.nexthop}" for nlri in update.nlris)
            print(json.dumps([key.split()[1], nlris, str(update.attributes)]))
        held = sorted(str(change) for change in neighbor.rib.outgoing.cached_changes())
        print(json.dumps([key.split()[1], held]))

for line in sys.stdin:
    if line.strip() == "send":
        while turns.run():
            pass
        sent()
    else:
        api.process(reactor, "relay", line.strip())
print(json.dumps(answers))
"""
HOP = "attributes next-hop 10.0.0.1 origin igp"
MANY = " ".join(f"100.64.0.{number}/32" for number in range(200))
COMMANDS = [
    f"neighbor 10.0.0.2 announce {HOP} nlri {MANY}",
    f"neighbor 10.0.0.3 announce {HOP} med 7 nlri {MANY}",
    f"neighbor 10.0.0.2 announce {HOP} community [ 65001:1 ] nlri 203.0.113.1/32 203.0.113.2/32",
    "neighbor 10.0.0.2 announce attributes next-hop fd00::1 origin igp nlri fd01::/64 fd02::/64",
    "send",
    f"neighbor 10.0.0.2 withdraw {HOP} community [ 65001:1 ] nlri 203.0.113.1/32",
    f"neighbor 10.0.0.2 announce {HOP} community [ 65001:2 ] nlri 203.0.113.2/32",
    f"neighbor 10.0.0.3 withdraw {HOP} med 7 nlri 100.64.0.9/32",
    f"neighbor 10.0.0.3 announce {HOP} med 8 nlri 100.64.0.10/32",
    "neighbor 10.0.0.2 withdraw attributes next-hop fd00::1 origin igp nlri fd02::/64",
    "send",
    f"neighbor 10.0.0.2 withdraw {HOP} nlri 203.0.113.1/32",
    f"neighbor 10.0.0.2 withdraw attributes next-hop 0.0.0.0 nlri {MANY}",
    "send",
    # Prefixes of every length, next to one another, said again, and of both peers at once.
    f"neighbor 10.0.0.2 announce {HOP} nlri 10.0.0.0/8 10.0.0.0/9 10.0.0.0/25 10.0.0.0/32 0.0.0.0/0",
    f"neighbor 10.0.0.2 announce {HOP} nlri 10.0.0.0/25 10.0.0.0/9",
    f"neighbor 10.0.0.2 , neighbor 10.0.0.3 announce {HOP} as-path [ 65001 65009 ] med 5 nlri 10.9.0.0/16",
    "neighbor 10.0.0.2 announce attributes next-hop fd00::1 origin egp nlri ::/0 fd00::/9 fd09::/64 fd::/128",
    "send",
    "neighbor 10.0.0.2 withdraw attributes next-hop fd00::1 origin egp nlri fd09::/64 fd0a::/64",
    f"neighbor 10.0.0.2 announce {HOP} large-community [ 65001:1:2 ] extended-community"
    " [ 0x0002fde800000064 ] local-preference 200 originator-id 10.0.0.9 cluster-list [ 10.0.0.8 ]"
    " nlri 10.10.0.0/16",
    # IPv4 by way of IPv6 (RFC 8950), and other next hops for the same prefix.
    "neighbor 10.0.0.2 announce attributes next-hop fd00::1 origin igp nlri 10.11.0.0/16 10.12.0.0/16",
    "send",
    "neighbor 10.0.0.2 withdraw attributes next-hop :: nlri fd01::/64 ::/0",
    "neighbor 10.0.0.2 announce attributes next-hop 10.0.0.7 origin igp nlri 10.11.0.0/16",
    "send",
    "neighbor 10.0.0.2 announce attributes next-hop 10.0.0.8 origin igp nlri 10.11.0.0/16",
    # What is refused, or taken in ExaBGP's own way.
    f"neighbor 10.0.0.2 announce {HOP} nlri 10.0.0.1/24",
    f"neighbor 10.0.0.2 announce {HOP} nlri 10.0.0.0/33",
    f"neighbor 10.0.0.2 announce {HOP} nlri 10.0.0.0/-1",
    f"neighbor 10.0.0.2 announce {HOP} nlri nowhere",
    f"neighbor 10.0.0.2 announce {HOP} nlri 10.20.0.0",
    f"neighbor 10.0.0.2 announce {HOP} med many nlri 10.21.0.0/16",
    f"neighbor 10.0.0.2 announce {HOP} nlri 224.1.0.0/16",
    f"neighbor 10.0.0.2 announce {HOP} path-information 7 nlri 10.22.0.0/16",
    f"neighbor 10.0.0.9 announce {HOP} nlri 10.23.0.0/16",
    f"neighbor 10.0.0.9 withdraw {HOP} nlri 10.23.0.0/16",
    "neighbor 10.0.0.4 announce attributes next-hop fd00::1 origin igp nlri fd0b::/64",
    "neighbor 10.0.0.2 announce attributes next-hop self origin igp nlri 10.24.0.0/16",
    "send",
]
#: Of these, how many ExaBGP refuses.
REFUSED = 7


#: The same prefixes again and again before anything is sent, with attributes that others wait with already.
FLAPPING = [
    f"neighbor 10.0.0.2 announce {HOP} nlri 100.64.0.1/32",
    f"neighbor 10.0.0.2 announce {HOP} med 1 nlri 203.0.113.1/32 203.0.113.2/32",
    f"neighbor 10.0.0.2 announce {HOP} nlri 203.0.113.1/32",
    "neighbor 10.0.0.2 withdraw attributes next-hop 0.0.0.0 nlri 203.0.113.2/32",
    f"neighbor 10.0.0.2 announce {HOP} nlri 203.0.113.2/32",
    f"neighbor 10.0.0.2 announce {HOP} nlri 203.0.113.3/32",
    "neighbor 10.0.0.2 withdraw attributes next-hop 0.0.0.0 nlri 203.0.113.3/32",
    "send",
]


def said(mode: str, release: str = "", commands: list[str] = COMMANDS) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", FEED, mode, release],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        check=False,
        env={"exabgp.log.level": "CRITICAL", "exabgp.log.destination": "stderr"},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def plain() -> list[object]:
    return said("plain")


def test_the_same_updates_are_sent(plain: list[object]) -> None:
    applied, *quick = said("quick")
    assert applied is True, "a new release of ExaBGP: measure it again"
    assert quick == plain
    answers = plain[-1]
    assert isinstance(answers, list)
    assert len(answers) == len(COMMANDS) - COMMANDS.count("send")
    assert answers.count("error") == REFUSED
    assert len(plain) > 10


def test_another_release_is_left_alone(plain: list[object]) -> None:
    applied, *same = said("quick", "5.0.99")
    assert applied is False
    assert same == plain


def held(updates: list[object]) -> dict[str, str]:
    """What the first peer holds after these UPDATEs, in this order: prefix to attributes."""
    routes: dict[str, str] = {}
    for update in updates:
        match update:
            case ["10.0.0.2", list(nlris), str(attributes)]:
                for nlri in nlris:
                    verb, prefix, _ = nlri.split()
                    routes.pop(prefix, None)
                    if verb == "announce":
                        routes[prefix] = attributes.strip()
    return routes


def test_of_what_waits_for_a_prefix_the_last_word_is_sent() -> None:
    last = dict.fromkeys(("100.64.0.1/32", "203.0.113.1/32", "203.0.113.2/32"), "origin igp")
    assert held(said("quick", commands=FLAPPING)) == last
    # The control: ExaBGP leaves one prefix with its older attributes, and one withdrawn.
    plain = {"100.64.0.1/32": "origin igp", "203.0.113.1/32": "origin igp med 1"}
    assert held(said("plain", commands=FLAPPING)) == plain
