"""ExaBGP 5.0.15: slow spots of its loop and queue made cheap, an order mended, an end that is heard, a guard.

Run as `python -P -m l3net.shell.speaker.exabgp server CONFIG`; `... check` reads a configuration in parts and
says which of them ExaBGP refuses. What changes is in memory, at the start of the
process, and for the one release it was measured with (docs/bgp.md); any other runs unchanged:

- A route queued for a peer is copied as it needs to be. ExaBGP copies next hop, attributes and all deeply,
  twice for a withdrawal, which is half its time and a third of its memory.
- The agent's routes are read, queued and packed a line at a time, and those of IPv6 share UPDATEs
  (`exabgp_queueing`).
- Commands are carried out without an event loop made and closed for every turn, and those of a whole window
  in one turn: ExaBGP leaves off after 50 steps (a prefix is one), and may sleep 10 ms before the next 50.
- Of what waits for one prefix, only what was said last is sent. ExaBGP sends what waits by attributes, in the
  order in which those first came: the older word on a prefix could go out last, and stand.
- `teardown 2` sends its NOTIFICATION (Cease, Administrative Shutdown) under graceful restart too, where
  ExaBGP closes without a word: a node that leaves lets no peer wait for its return (RFC 4724 section 4).
- Its loop sleeps until something can happen, in place of looking a hundred times a second (`exabgp_idling`).
- UPDATEs are read whole, and told with their prefixes as octets (`exabgp_packed`).
- What the peers have said is held and told again (`l3net.shell.speaker.exabgp_received`, `exabgp_commands`).
- NOTIFICATIONs that are sent, attempts that fail and why a session ends are told (`exabgp_sessions`,
  `exabgp_dialling`); errors have the NOTIFICATION that their RFC asks for (`exabgp_errors`).
- Messages go out in order, a reload waits for no peer, and one that reads nothing any more loses its session
  (`l3net.shell.speaker.exabgp_sending`).
- What of an UPDATE is wrong costs its route or its attribute (RFC 7606; `exabgp_attributes`).
- Segments of a confederation in an AS_PATH are told as what they are; what OPENs agree on, and which of two
  connections is a session's, is as in `l3net.shell.speaker.exabgp_negotiating`.
- Who dials in has to have a session that waits for it, and the kernel holds it to its MD5 key and minimum
  TTL (`listening`). Without this change nothing may listen: `release_is_known` tells the agent.
"""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import sys
import time
from copy import copy
from pathlib import Path
from typing import Any, Final

#: The release whose insides these are.
RELEASE: Final = "5.0.15"
#: Subcode of Cease (RFC 4486).
ADMINISTRATIVE_SHUTDOWN: Final = 2


def release_is_known() -> bool:
    """Whether the ExaBGP installed is the one that `apply_patches` changes. Costs no import of all of it."""
    try:
        from exabgp.version import release  # noqa: PLC0415
    except ImportError:
        return False
    return bool(release == RELEASE)


def guard() -> None:
    """Have this process's ExaBGP listen as `l3net.shell.speaker.listening` does."""
    from exabgp.protocol.family import AFI  # noqa: PLC0415
    from exabgp.reactor import loop  # noqa: PLC0415
    from exabgp.reactor.listener import set_accepted_ttl  # noqa: PLC0415
    from exabgp.reactor.network.error import NetworkError  # noqa: PLC0415
    from exabgp.reactor.network.incoming import Incoming  # noqa: PLC0415

    from l3net.shell.speaker.exabgp_sessions import refuse  # noqa: PLC0415
    from l3net.shell.speaker.listening import Listener  # noqa: PLC0415

    def listener(reactor: Any) -> Listener:
        def take(key: str, io: socket.socket) -> None:
            """As ExaBGP's own listener does it; what it calls `local` is the peer."""
            neighbor = reactor.configuration.neighbors.get(key)
            if neighbor is None or key not in reactor.peers():
                io.close()
                return
            afi = AFI.ipv4 if io.family == socket.AF_INET else AFI.ipv6
            try:
                near, far = neighbor["local-address"].top(), neighbor["peer-address"].top()
                connection = Incoming(afi, near, far, io)
            except NetworkError:  # it has gone again; Incoming has closed it
                return
            set_accepted_ttl(connection, neighbor)
            connection.l3net_began = time.monotonic()
            refusal = reactor.handle_connection(key, connection)
            if refusal is not None:
                refuse(reactor._peers[key], connection, refusal)

        return Listener(reactor, take)

    def listen_for_neighbors(self: Any) -> bool:
        self.listener.follow()
        return True  # what cannot be opened is no reason to serve nobody

    loop.Listener = listener
    loop.Reactor._listen_for_neighbors = listen_for_neighbors


def apply_patches() -> bool:
    """Change this process's ExaBGP; False, and nothing done, if it is another release."""
    from exabgp import version  # noqa: PLC0415 - the agent imports this room, and needs no ExaBGP
    from exabgp.bgp.message.update.attribute.aspath import CONFED_SEQUENCE, CONFED_SET  # noqa: PLC0415
    from exabgp.reactor.peer import Peer  # noqa: PLC0415
    from exabgp.rib.change import Change  # noqa: PLC0415
    from exabgp.rib.outgoing import OutgoingRIB  # noqa: PLC0415

    if version.release != RELEASE:
        return False

    from l3net.shell.speaker import (  # noqa: PLC0415 - made for that release
        exabgp_attributes,
        exabgp_commands,
        exabgp_dialling,
        exabgp_errors,
        exabgp_idling,
        exabgp_negotiating,
        exabgp_packed,
        exabgp_queueing,
        exabgp_received,
        exabgp_sending,
        exabgp_sessions,
    )

    def copy_change(self: Any, _memo: dict[int, Any]) -> Any:
        # The action and the next hop of the copy are its own. Attributes are not changed once they are
        # parsed: ExaBGP would for `next-hop self`, which no command of ours says.
        return Change(copy(self.nlri), self.attributes)

    queue_change = OutgoingRIB._update_rib

    def queue_instead(self: Any, change: Any) -> Any:
        older = self._new_nlri.get(change.index())
        if older is not None:
            by_family = self._new_attr_af_nlri.get(older.attributes.index(), {})
            by_family.get(older.nlri.family().afi_safi(), {}).pop(older.index(), None)
        return queue_change(self, change)

    tear_down = Peer.teardown

    def teardown(self: Any, code: int, restart: bool = True) -> None:
        if code == ADMINISTRATIVE_SHUTDOWN:  # looked at when the session ends; the neighbour goes next
            self.neighbor["capability"]["graceful-restart"] = 0
        tear_down(self, code, restart)

    # It calls the segments of a confederation (RFC 5065) like the others, and is the only one to know.
    CONFED_SEQUENCE.NAME, CONFED_SET.NAME = "as-confed-sequence", "as-confed-set"
    Peer.teardown = teardown
    Change.__deepcopy__ = copy_change
    OutgoingRIB._update_rib = queue_instead
    guard()
    parts = (
        exabgp_idling,  # first: what the others know of work that waits goes before it
        exabgp_packed,  # before those that look at what it reads
        exabgp_received,
        exabgp_queueing,
        exabgp_commands,
        exabgp_sessions,
        exabgp_dialling,
        exabgp_sending,
        exabgp_negotiating,
        exabgp_attributes,
        exabgp_errors,  # last: it guards what the others do
    )
    for part in parts:
        part.install()
    return True


def waits_for_callers(config: str) -> bool:
    """Whether a file of ours has a neighbour that dials in."""
    with contextlib.suppress(OSError):
        return "\n  listen " in Path(config).read_text()
    return False


def refused_parts(head: str, parts: list[str]) -> list[int]:
    """Which parts ExaBGP's parser refuses, each after `head`; -1 if it refuses them together alone."""
    from exabgp.configuration.configuration import Configuration  # noqa: PLC0415
    from exabgp.environment import getenv  # noqa: PLC0415
    from exabgp.logger import log  # noqa: PLC0415

    log.init(getenv())

    def taken(text: str) -> bool:
        try:
            return bool(Configuration([text], True).reload())
        except Exception:  # of a parser: whatever it ends with, it has not taken it
            return False

    if taken("\n".join([head, *parts])):
        return []
    return [number for number, part in enumerate(parts) if not taken(f"{head}\n{part}")] or [-1]


def main() -> None:
    """`server CONFIG` runs ExaBGP; `check` reads parts of a configuration from standard input."""
    if sys.argv[1:] == ["check"]:
        head, *parts = json.load(sys.stdin)
        sys.stdout.write(json.dumps(refused_parts(head, parts)))
        return
    from exabgp.application.main import main as run_exabgp  # noqa: PLC0415

    if not apply_patches():
        sys.stderr.write(f"l3net: this ExaBGP is not {RELEASE}; it runs as it is, which is slower\n")
        if waits_for_callers(sys.argv[-1]):
            sys.exit("l3net: and it cannot hold who dials in to MD5 and GTSM: nothing may listen")
    # As in the agent: the objects of a table hold no cycles, and looking for some took a third of the time.
    gc.set_threshold(50_000, 20, 100)
    run_exabgp()


if __name__ == "__main__":
    main()
