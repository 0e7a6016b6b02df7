"""A node's end of its sessions, between the fabric and the ExaBGP of sim_speaker that its agent commands."""

from __future__ import annotations

import asyncio
import re
from ipaddress import ip_address
from typing import Any

from sim_speaker import COMES_UP, SimRouter, SimSpeaker

from l3net.model import Address, Prefix
from world.sessions import End, Path, Session

_RESTART = re.compile(r"graceful-restart (\d+);")
_WORDS = {
    "hop": re.compile(r"next-hop (\S+)"),
    "as_path": re.compile(r"as-path \[ ([\d ]+) \]"),
    "preference": re.compile(r"local-preference (\d+)"),
    "community": re.compile(r" community \[ ([\d: ]+) \]"),
    "clusters": re.compile(r"cluster-list \[ ([\d. ]+) \]"),
    "originator": re.compile(r"originator-id (\S+)"),
}
#: As ExaBGP says it.
_WORDS_OF_END = {
    End.HOLD: "notification sent (4,0)",
    End.LOST: "closed by peer",
    End.BFD: "notification received (6,2)",
    End.NOTIFIED: "notification received (6,2)",
}


def read(line: str, internal: bool, local_as: int) -> Path:
    """A path as a command of the agent's says it; on an external session ExaBGP prepends its AS where no
    AS_PATH is given."""
    found = {key: match[1] for key, word in _WORDS.items() if (match := word.search(line))}
    as_path = tuple(map(int, found.get("as_path", "").split()))
    if not internal and not as_path:
        as_path = (local_as,)
    return Path(
        ip_address(found["hop"]),
        as_path,
        int(found.get("preference", "100")),
        frozenset(found.get("community", "").split()),
        found.get("originator", ""),
        tuple(found.get("clusters", "").split()),
    )


class NodeSide(SimRouter):
    """One peer of a node's: as its speaker sees it, a router; for the session, the node."""

    def __init__(self, speaker: WorldSpeaker, session: Session, far: Address, as_number: int) -> None:
        super().__init__(far, as_number)
        self.speaker, self.session = speaker, session
        self.paths: dict[Prefix, Path] = {}
        self.node_restart = 0  # what the node asks for
        self.internal = as_number == speaker.as_number
        self.since = 0.0  # when it came up
        self._closing = False

    @property
    def name(self) -> str:
        return self.speaker.name

    # --- as the session sees it --------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return self.speaker.running and not self.speaker.dead and self.address in self.speaker.neighbours

    @property
    def bfd(self) -> bool:
        return self.address in self.speaker.bfd.wanted and self.speaker.bfd.running

    @property
    def bfd_closes(self) -> bool:
        return False  # ExaBGP runs none: the agent has it closed

    def opened(self) -> None:
        """Called by the session, and then by the speaker's own words of it."""
        if self.up:
            self.heard.clear()
            return
        self.paths.clear()
        self.announces.clear()
        found = _RESTART.search(self.speaker.neighbours[self.address])
        self.node_restart = int(found[1]) if found else 0
        self.speaker.comes_up(self)
        if self.bfd and self.session.passes():
            self.path_is(up=True)

    def hears(self, prefix: Prefix, path: Path | None) -> None:
        if path is None:
            if self.announces.pop(prefix, None) is None:
                return
        else:
            self.announces[prefix] = path.hop, path.as_path
            self.paths[prefix] = path
        self.speaker.say(self, prefix)

    def hears_end(self, version: int) -> None:
        self.speaker.says_end(self, version)

    def path_is(self, *, up: bool) -> None:
        self.speaker.says_path(self, up=up)

    # --- as the speaker sees it --------------------------------------------------------------------------

    def closed(self, reason: Any) -> None:
        """By the session with an `End`, by the speaker with its reason."""
        if isinstance(reason, End):
            self._closing = True
            self.speaker.far_end_closed(self, reason)
            self._closing = False
        elif not self._closing:
            # A neighbour that its configuration has no longer, or otherwise, is left without a NOTIFICATION.
            silent = reason in ("", "removed", "changed")
            self.session.close(End.LOST if silent else End.NOTIFIED, by=self)  # type: ignore[arg-type]

    def took(self, prefix: Prefix, line: str | None) -> None:
        super().took(prefix, line)
        path = read(line, self.internal, self.speaker.as_number) if line is not None else None
        self.session.says(self, prefix, path)  # type: ignore[arg-type]

    def ended(self, version: int) -> None:
        super().ended(version)
        self.session.ends(self, version)  # type: ignore[arg-type]

    def attributes(self, prefix: Prefix) -> dict[str, Any]:
        path = self.paths[prefix]
        found: dict[str, Any] = {
            "origin": "igp",
            "as-path": {"0": {"element": "as-sequence", "value": list(path.as_path)}} if path.as_path else {},
            "community": [list(map(int, each.split(":"))) for each in sorted(path.communities)],
        }
        if self.internal:
            found["local-preference"] = path.preference
            if path.originator:
                found["originator-id"] = path.originator
            if path.clusters:
                found["cluster-list"] = list(path.clusters)
        return found


class WorldSpeaker(SimSpeaker):
    """The ExaBGP of one node of many. `dead`: the machine is off."""

    def __init__(self, name: str, as_number: int, bfd: Any) -> None:
        super().__init__()
        self.name = name
        self.as_number = as_number
        self.bfd = bfd
        self.dead = False

    def _sides(self) -> list[NodeSide]:
        return [side for side in self.routers.values() if isinstance(side, NodeSide)]

    def dial(self, address: Address) -> None:
        side = self.routers.get(address)
        if isinstance(side, NodeSide):
            asyncio.get_running_loop().call_later(COMES_UP, side.session.look)

    def comes_up(self, side: NodeSide) -> None:
        side.up, side.since = True, asyncio.get_running_loop().time()
        side.heard.clear()
        side.said_ends.clear()
        side.history.append("up")
        self.tell(side.address, "open", open=self._open(side))
        self.tell(side.address, "state", state="connected")
        self.tell(side.address, "state", state="up")
        for prefix, line in self.said.get(side.address, {}).items():
            side.took(prefix, line)

    def far_end_closed(self, side: NodeSide, how: End) -> None:
        if how is not End.LOST:
            code, direction = ((4, 0), "send") if how is End.HOLD else ((6, 2), "receive")
            found = {"code": code[0], "subcode": code[1], "data": "0x", "message": ""}
            self.tell(side.address, "notification", direction=direction, notification=found)
        self._close(side.address, _WORDS_OF_END[how])

    @staticmethod
    def lasted(router: SimRouter) -> float:
        assert isinstance(router, NodeSide)
        return asyncio.get_running_loop().time() - router.since

    def says_end(self, side: NodeSide, version: int) -> None:
        side.said_ends.add(version)
        self.tell(side.address, "update", message={"eor": {"afi": f"ipv{version}", "safi": "unicast"}})

    def says_path(self, side: NodeSide, *, up: bool) -> None:
        self.bfd.path(side.address, up=up)

    def garble(self, line: bytes) -> None:
        """A line that says nothing comes out of the pipe."""
        self._out(line)

    def power_off(self) -> None:
        """Nobody is told."""
        self.dead, self.running = True, False
        self.said, self.neighbours, self.loaded, self.text, self.unconfirmed = {}, {}, "", None, False
        for side in self._sides():
            side.up = False
            side.session.forget(side)
        if self.link is not None:
            self.link.closed.set()

    def power_on(self) -> None:
        self.dead, self.running = False, True
