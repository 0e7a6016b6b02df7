"""Fuzz: mutated OPENs and UPDATEs against the real ExaBGP and our decoder; mutated lines against the latter.

The counts of cases stand in the tests' names. A seed makes a run repeatable.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from direct_exabgp import Direct, session
from node_rig import brought_up
from stage import FAR_ADDRESS, NODE_ADDRESS, Stage

from l3net.bgp.events import Updated
from l3net.bgp.exabgp.decoder import Decoder, LineBuffer
from l3net.bgp.loc_rib import LocRib
from l3net.bgp.policy import ImportJudge
from l3net.bgp.protected import Protected
from l3net.model import ClusterState, Family

SPEAKER = Path(__file__).with_name("fuzz_speaker.py")
OPENS, UPDATES, LINES = 100, 300, 30_000
GOOD = "198.51.100.0/24"

#: Lines as ExaBGP 5.0.15 wrote them, shortened by what is not read.
_HEAD = '"exabgp": "5.0.0", "time": 1.5, "host": "n", "pid": 1, "ppid": 1, "counter": 1'
_PEER = (
    '"address": { "local": "10.90.0.1", "peer": "10.90.0.2" }, "asn": { "local": 65001, "peer": 65002 } '
    ', "direction": "receive"'
)
_ATTRIBUTES = (
    '"attribute": { "origin": "igp", "as-path": { "0": { "element": "as-sequence", "value": [ 65002, 7 ] } '
    '}, "med": 5, "local-preference": 100, "community": [ [ 65001, 7 ] ], '
    '"large-community": [ [ 65001, 1, 2 ] ] }'
)
CORPUS = [
    f'{{ {_HEAD}, "type": "update", "neighbor": {{ {_PEER}, "message": {{ "update": {{ {_ATTRIBUTES}, '
    '"announce": { "ipv4 unicast": { "10.90.0.2": [ { "nlri": "192.168.7.0/24" } ] } }, '
    '"withdraw": { "ipv6 unicast": [ { "nlri": "fd77::/64" } ] } } } } }',
    f'{{ {_HEAD}, "type": "update", "neighbor": {{ {_PEER}, "message": {{ "eor": {{ "afi" : "ipv4", '
    '"safi" : "unicast" } } } }',
    f'{{ {_HEAD}, "type": "state", "neighbor": {{ {_PEER}, "state": "down", "reason": "closing" }} }}',
    f'{{ {_HEAD}, "type": "open", "neighbor": {{ {_PEER}, "open": {{ "version": 4, "asn": 65002, '
    '"hold_time": 9, "router_id": "10.90.0.2", "capabilities": { "64": { "name": "graceful restart", '
    '"time": 120, "address-family-flags": { "ipv4/unicast": [ "restart" ] }, '
    '"restart-flags": [ "forwarding" ] } } } } }',
    f'{{ {_HEAD}, "type": "notification", "neighbor": {{ {_PEER}, "notification": {{ "code": 6, '
    '"subcode": 4, "data": "", "message": "" } } }',
    f'{{ {_HEAD}, "type": "refresh", "neighbor": {{ {_PEER}, "route-refresh": {{ "afi": "ipv4", '
    '"safi": "unicast", "subtype": "end" } } }',
    '[{"state": "up", "duration": 5, "local": {"address": "10.90.0.1", "id": "10.90.0.1"}, '
    '"peer": {"address": "10.90.0.2", "hold": 9, "capabilities": {"graceful-restart": true}}}]',
    '{ "peer": { "address": "10.90.0.2" }, "route": { "nlri": { "prefix": "10.9.0.0/24" } } }',
]


def mutated(source: random.Random, line: str) -> bytes:
    """Half of the time JSON stays JSON, with a value of another kind; else bytes change."""
    if source.randrange(2):
        value = json.loads(line)
        _replace(source, value)
        return json.dumps(value).encode()
    data = bytearray(line.encode())
    for _ in range(source.randint(1, 5)):
        at = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                del data[at : at + source.randint(1, 20)]
                data = data or bytearray(b" ")
            case 2:
                data[at:at] = data[at : at + source.randint(1, 40)]
            case _:
                data[at:at] = source.choice((b"{", b"[", b'"', b"}", b"]", b"-1", b"1e999", b"null", b"\\"))
    return bytes(data).replace(b"\n", b" ")


STRANGE = (
    None,
    -1,
    2**70,
    1e308,
    "",
    "x",
    "::/999",
    "10.0.0.1/8",
    [],
    {},
    [[]],
    {"": None},
    "10.90.0.2",
)


def _replace(source: random.Random, value: object) -> None:
    """Walk down at random and put something strange in one place."""
    while True:
        if isinstance(value, dict) and value:
            key: object = source.choice(list(value))
        elif isinstance(value, list) and value:
            key = source.randrange(len(value))
        else:
            return
        below = value[key]  # type: ignore[index]
        if not isinstance(below, dict | list) or not below or source.randrange(5) == 0:
            value[key] = source.choice(STRANGE)  # type: ignore[index]
            return
        value = below


@pytest.mark.parametrize("cases", [LINES])
def test_decoder_and_rib_survive_mutated_lines(cases: int) -> None:
    """Nothing raises, what decodes can be judged and withdrawn again, and good lines are read as ever."""
    source = random.Random(5)
    decoder, buffer = Decoder(), LineBuffer()
    peer = session(families=frozenset(Family))
    protected = Protected.of(ClusterState(), "node", (), frozenset())
    rib = LocRib(ImportJudge(protected, {}))
    rib.set_sessions({peer.peer_address: peer})
    read = 0
    for _ in range(cases):
        for line in buffer.receive(mutated(source, source.choice(CORPUS)) + b"\n"):
            message = decoder.decode(line)
            read += message is not None
            if isinstance(message, Updated):
                rib.announce(message.peer, message.announced)
                rib.withdraw(message.peer, message.withdrawn)
    assert 0 < read < cases
    assert decoder.undecodable > 0
    for line in CORPUS:
        assert decoder.decode(line.encode()) is not None


@pytest.fixture
def stage() -> Iterator[Stage]:
    with brought_up(Stage()) as made:
        yield made


@pytest.mark.netns
@pytest.mark.parametrize(("opens", "updates"), [(OPENS, UPDATES)])
def test_exabgp_survives_mutated_opens_and_updates(stage: Stage, opens: int, updates: int) -> None:
    """One process to the end, every line of it read, and a good session after it all."""
    waits = session(passive=True, listen=True, families=frozenset(Family), graceful_restart=0)
    direct = Direct(stage, [waits])
    old = stage.exabgp_pid()
    argv = [
        sys.executable,
        "-P",
        str(SPEAKER),
        FAR_ADDRESS[4],
        NODE_ADDRESS[4],
        "7",
        str(opens),
        str(updates),
    ]
    stage.tor.spawn("fuzz", argv)

    def good() -> bool:
        last = direct.messages[-1] if direct.messages else None
        return isinstance(last, Updated) and GOOD in [str(path.prefix) for path in last.announced]

    direct.until(good, "the good session", seconds=120)
    assert f"updates {updates} " in stage.tor.log("fuzz").read_text()
    assert stage.exabgp_pid() == old
    unread = [line for line in direct.lines if line.startswith(b"{") and Decoder().decode(line) is None]
    assert direct.decoder.undecodable == 0, unread
    assert sum(isinstance(message, Updated) for message in direct.messages) > 1, "not only the good one"
