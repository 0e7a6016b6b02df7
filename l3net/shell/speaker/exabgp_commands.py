"""Commands of ours to ExaBGP's process, beside its own: what the peers have said, and how the sessions are.

`l3net received TOKEN [neighbor ADDRESS]` is answered `done`, and then all that is established is told anew,
beside whatever else is asked: of each peer a `replay` event that begins, its whole Adj-RIB-In in `update`
events, and one that ends; last a `replayed` line. What happens meanwhile is told between, so that each line
is true when it is written. TOKEN ([0-9a-z]+) comes back in each of these; it should hold a digit, as a plain
ExaBGP, which answers `error`, finds its commands by their last word too.

`l3net peers` answers one line of JSON about the sessions, and `done`; `l3net opens` one about both sides'
OPENs of those that are up, octet by octet, and the ends of their connections.

`l3net form packed` has prefixes told as octets, `l3net form plain` as ExaBGP tells them (`exabgp_packed`).

A turn of the reactor gives commands a bounded time, whatever they have to say: sessions are served between.
Used inside ExaBGP's process only.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from exabgp.bgp.fsm import FSM
from exabgp.bgp.message import Open
from exabgp.bgp.message.open.capability.refresh import REFRESH
from exabgp.logger import log
from exabgp.reactor.api import API
from exabgp.reactor.asynchronous import ASYNC
from exabgp.reactor.loop import Reactor

from l3net.shell.speaker import exabgp_packed, exabgp_received, exabgp_sending
from l3net.shell.speaker.exabgp_telling import own_line, tell, tell_update

#: Seconds that commands have in one turn.
TURN: Final = 0.015
#: Steps of queued commands in one turn: more than a window of lines holds.
STEPS_A_TURN: Final = 1000
_RECEIVED: Final = re.compile(r"l3net received ([0-9a-z]+)(?: neighbor (\S+))?")
PEERS: Final = "l3net peers"
OPENS: Final = "l3net opens"
FORMS: Final = {"l3net form plain": False, "l3net form packed": True}
#: What is told beside the commands: of a million routes for many seconds, in which no command may wait.
_ASIDE: Final[deque[Iterator[None]]] = deque()


def _established(reactor: Any, service: str) -> list[Any]:
    peers = [reactor._peers[name] for name in reactor.peers(service)]
    return [peer for peer in peers if peer.fsm == FSM.ESTABLISHED and peer.proto is not None]


def _replay(reactor: Any, service: str, token: str, address: str | None) -> Iterator[None]:
    for peer in _established(reactor, service):
        if address is None or str(peer.neighbor["peer-address"]) == address:
            yield from _replay_peer(reactor, peer, token)
    reactor.processes.write(service, own_line(reactor, service, "replayed", f'"token": "{token}"'))


def _received(reactor: Any, service: str, replay: Iterator[None]) -> Iterator[None]:
    _ASIDE.append(replay)
    reactor.processes.answer_done(service)
    yield


def _replay_peer(reactor: Any, peer: Any, token: str) -> Iterator[None]:
    proto = peer.proto
    if proto is None or peer.fsm != FSM.ESTABLISHED:
        return
    held = exabgp_received.of(proto.negotiated)
    begun = {
        "token": token,
        "state": "begin",
        "up-seconds": up_seconds(peer),
        "open": _open(reactor, peer),
        "eor": list(held.eor),
    }
    tell(reactor, peer.neighbor, "replay", f'"replay": {json.dumps(begun)}')
    for update in held.events():
        if peer.proto is not proto or peer.fsm != FSM.ESTABLISHED:
            return  # its end has been told
        if update:
            tell_update(reactor, peer.neighbor, update)
        yield
    if peer.proto is proto and peer.fsm == FSM.ESTABLISHED:
        tell(reactor, peer.neighbor, "replay", f'"replay": {json.dumps({"token": token, "state": "end"})}')


def _open(reactor: Any, peer: Any) -> Any:
    """The peer's OPEN as its event had it."""
    for service in peer.neighbor.api["neighbor-changes"]:
        encoder = reactor.processes._encoder[service]
        opened = peer.proto.negotiated.received_open
        return json.loads(encoder.open(peer.neighbor, "receive", opened, None, b"", b""))["neighbor"]["open"]
    return {}


def up_seconds(peer: Any) -> int:
    """How long the session is up."""
    return max(0, int(time.time() - peer.stats["complete"])) if peer.stats["complete"] else 0


def _row(peer: Any) -> dict[str, Any]:
    connection = peer.proto.connection if peer.proto is not None else None
    unsent = exabgp_sending.unsent_seconds(connection) if connection is not None else 0.0
    row = {
        "peer": str(peer.neighbor["peer-address"]),
        "state": peer.fsm.name().lower(),
        "up-seconds": up_seconds(peer),
        "queued": exabgp_sending.queued(peer),
        "unsent-seconds": round(unsent, 1),
        "refresh": "absent",
        "families": [],
        "hold-time": 0,
        "sent-updates": peer.stats["send-update"],
        "messages": {"sent": _messages(peer, "send"), "received": _messages(peer, "receive")},
    }
    if peer.fsm == FSM.ESTABLISHED and peer.proto is not None:
        negotiated = peer.proto.negotiated
        row["refresh"] = REFRESH.json(negotiated.refresh)
        row["families"] = [f"{afi} {safi}" for afi, safi in negotiated.families]
        row["hold-time"] = int(negotiated.holdtime)
    return row


def _messages(peer: Any, side: str) -> dict[str, int]:
    """Sent or received on the session, or the attempt at one, by type."""
    counts = (
        (name.removeprefix(f"{side}-"), count) for name, count in peer.stats.items() if name.startswith(side)
    )
    return {name: count for name, count in counts if count}


def _peers(reactor: Any, service: str) -> Iterator[None]:
    rows = [_row(reactor._peers[name]) for name in reactor.peers(service)]
    reactor.processes.write(service, json.dumps({"l3net-peers": rows}))
    reactor.processes.answer_done(service)
    yield


def _opens_row(peer: Any) -> dict[str, Any]:
    negotiated, io = peer.proto.negotiated, peer.proto.connection.io
    (local, port, *_), (_, remote_port, *_) = io.getsockname(), io.getpeername()
    received = negotiated.received_open
    return {
        "peer": str(peer.neighbor["peer-address"]),
        "sent": negotiated.sent_open.message().hex(),
        "received": getattr(received, "l3net_octets", b"").hex() or received.message().hex(),
        "local": [local, port],
        "remote-port": remote_port,
    }


def _opens(reactor: Any, service: str) -> Iterator[None]:
    rows = []
    for peer in _established(reactor, service):
        with contextlib.suppress(OSError, AttributeError):  # its connection has just gone
            rows.append(_opens_row(peer))
    reactor.processes.write(service, json.dumps({"l3net-opens": rows}))
    reactor.processes.answer_done(service)
    yield


def _form(reactor: Any, service: str, packed: bool) -> Iterator[None]:
    exabgp_packed.Form.packed = packed
    reactor.processes.answer_done(service)
    yield


def carried_out(reactor: Any, service: str, command: str) -> bool:
    """Whether it is a command of ours; it is carried out in turn, and answered."""
    if command == PEERS:
        reactor.asynchronous.schedule(service, command, _peers(reactor, service))
    elif command == OPENS:
        reactor.asynchronous.schedule(service, command, _opens(reactor, service))
    elif command in FORMS:
        reactor.asynchronous.schedule(service, command, _form(reactor, service, FORMS[command]))
    elif asked := _RECEIVED.fullmatch(command):
        replay = _replay(reactor, service, asked[1], asked[2])
        reactor.asynchronous.schedule(service, command, _received(reactor, service, replay))
    elif command.startswith("l3net "):
        reactor.processes.answer_error(service)
    else:
        return False
    return True


def turn(queue: Any, limit: float = TURN) -> bool:
    """Carry out what is queued for so many seconds; whether something is left."""
    deadline = time.monotonic() + limit
    uid, callback = queue._async.popleft()
    for _ in range(STEPS_A_TURN):
        try:
            next(callback)
        except StopIteration:
            callback = None
        except Exception as err:  # of one command: whoever gave it is told
            log.error(lambda uid=uid, err=err: f"async | {uid} | {type(err).__name__}: {err}", "reactor")
            queue._notify_error(uid)
            callback = None
        if callback is None:
            if not queue._async:
                return False
            uid, callback = queue._async.popleft()
        if time.monotonic() > deadline:
            break
    queue._async.appendleft((uid, callback))
    return True


def beside(limit: float = TURN) -> bool:
    """Go on with what is told beside the commands, for so many seconds; whether something is left."""
    deadline = time.monotonic() + limit
    while _ASIDE:
        try:
            next(_ASIDE[0])
        except StopIteration:
            _ASIDE.popleft()
        except Exception as err:  # of one replay: who asked misses its end, and nothing is swept
            log.error(lambda err=err: f"replay | {type(err).__name__}: {err}", "reactor")
            _ASIDE.popleft()
        if time.monotonic() > deadline:
            break
    return bool(_ASIDE)


def install() -> None:
    """Have this process's ExaBGP know these commands, and share its time."""
    respond, event_loop_run, wait = API.response, ASYNC.run, Reactor._wait_for_io
    unpack_open = Open.unpack_message.__func__

    def unpack_and_keep(cls: Any, data: bytes, *rest: Any, **named: Any) -> Any:
        opened = unpack_open(cls, data, *rest, **named)
        opened.l3net_octets = opened._message(bytes(data))
        return opened

    def response(self: Any, reactor: Any, service: str, command: str, use_json: bool) -> Any:
        return carried_out(reactor, service, command) or respond(self, reactor, service, command, use_json)

    def run(self: Any) -> Any:
        left = False
        if self._async:
            generators = all(inspect.isgenerator(callback) for _, callback in self._async)
            left = turn(self) if generators else event_loop_run(self)
        return beside() or left

    def wait_for_io(self: Any, milliseconds: int) -> Any:
        idle = self.asynchronous.ready() and not _ASIDE
        return wait(self, milliseconds if idle else 0)

    Open.unpack_message = classmethod(unpack_and_keep)
    API.response = response
    ASYNC.run = run
    Reactor._wait_for_io = wait_for_io
