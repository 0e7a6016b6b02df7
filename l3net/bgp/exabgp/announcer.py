"""Turns the wanted Adj-RIB-Out of each peer into lines for ExaBGP, a few at a time.

Withdrawals overtake announcements, a line carries up to a hundred prefixes of one next hop and set of
attributes, and only a small window of lines is ever unanswered: a change waits behind a few lines, not behind
a burst. Nothing is announced to a session that is not established (ExaBGP drops reloads when it holds routes
for one). The End-of-RIB of a family follows when all of the family has been said (RFC 4724 section 4.1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import TypeAlias, TypeVar

from l3net.bgp.exabgp.commands import PREFIXES_PER_LINE, announce, end_of_rib, withdraw
from l3net.bgp.path import Path
from l3net.bgp.sessions import Session
from l3net.model import Address, Family, Prefix

#: Lines sent and not answered yet. Two keep ExaBGP busy and let a single change wait some 20 ms in a burst.
WINDOW = 2
#: So many may be taken from a queue, at least, before it is written anew.
HOLES = 1000

_Value = TypeVar("_Value")

#: A session, prefixes, their path or None, what was said of them before.
_Told: TypeAlias = tuple[Session, tuple[Prefix, ...], Path | None, dict[Prefix, Path | None]]
#: A command, the peer it is for, the prefixes it announces, and those it withdraws.
_Line: TypeAlias = tuple[str, Address, tuple[Prefix, ...], tuple[Prefix, ...]]
#: Hears of each line: the session, its prefixes, their path (None: they are withdrawn), and what the peer was
#: told of them before.
Telling: TypeAlias = Callable[[Session, tuple[Prefix, ...], Path | None, Mapping[Prefix, Path | None]], None]


class _Queue(dict[Prefix, _Value]):
    """What waits, in order. The first of a dict is behind all that has been taken from it: of a hundred
    thousand, taken a line at a time, that is looked over a thousand times."""

    def __init__(self, items: Mapping[Prefix, _Value] | None = None) -> None:
        super().__init__(items or {})
        self._holes = 0

    def take(self, prefixes: Collection[Prefix]) -> None:
        for prefix in prefixes:
            del self[prefix]
        self._holes += len(prefixes)
        if self._holes > HOLES + 32 * isqrt(len(self)):  # as often as costs the least altogether
            rest = dict(self)
            self.clear()
            self.update(rest)
            self._holes = 0


@dataclass(slots=True)
class _Peer:
    session: Session
    wanted: Mapping[Prefix, Path] | None = None  # None: not decided yet; nothing is said nor withdrawn
    said: dict[Prefix, Path | None] = field(default_factory=dict)  # None: ExaBGP holds it, attributes unknown
    to_withdraw: _Queue[None] = field(default_factory=_Queue)
    to_announce: _Queue[Path] = field(default_factory=_Queue)
    end_of_rib: set[Family] = field(default_factory=set)
    established: bool = False
    exact: bool = False  # `to_withdraw` and `to_announce` are all by which `said` differs from `wanted`


class Announcer:
    """One for all peers. The caller sends `next_lines()` and reports `answered()`."""

    def __init__(self) -> None:
        self._peers: dict[Address, _Peer] = {}
        # What ExaBGP said it holds for peers whose sessions were not known yet.
        self._unclaimed: dict[Address, dict[Prefix, Path | None]] = {}
        self._unanswered: deque[tuple[Address, tuple[Prefix, ...]]] = deque()
        #: Called when something is said.
        self.on_moved: Callable[[], None] = lambda: None
        #: Called by `tell`.
        self.on_telling: Telling = lambda *_: None
        self._to_tell: list[_Told] = []
        #: Called when it has changed what a peer was told of prefixes.
        self.on_said: Callable[[Address, tuple[Prefix, ...]], None] | None = None

    def reset(self) -> None:
        """A new connection to ExaBGP: nothing is known of what it holds until `holds` and `up` tell."""
        self._unanswered.clear()
        self._unclaimed.clear()
        for peer in self._peers.values():
            peer.established = peer.exact = False
            peer.said.clear()
            peer.to_withdraw.clear()
            peer.to_announce.clear()
            peer.end_of_rib.clear()

    def set_sessions(self, sessions: Mapping[Address, Session]) -> None:
        for address in [gone for gone in self._peers if gone not in sessions]:
            del self._peers[address]
        for address, session in sessions.items():
            if address in self._peers:
                self._peers[address].session = session
            else:
                self._peers[address] = _Peer(session, said=self._unclaimed.pop(address, {}))

    def holds(self, address: Address, prefixes: Iterable[Prefix]) -> None:
        """What ExaBGP says it already announces to a peer, of which nobody may have spoken yet."""
        peer = self._peers.get(address)
        said = self._unclaimed.setdefault(address, {}) if peer is None else peer.said
        if peer is not None:
            peer.exact = False
        for prefix in prefixes:
            said.setdefault(prefix, None)

    def want(self, address: Address, wanted: Mapping[Prefix, Path]) -> None:
        """The Adj-RIB-Out the peer shall have."""
        peer = self._peers.get(address)
        if peer is None:
            return
        peer.wanted = wanted
        if peer.established:
            self._compare(peer)

    def look_again(self, address: Address, wanted: Mapping[Prefix, Path]) -> None:
        """As `want`, of what is wanted already: what was refused is said again. Where nothing was, and this
        is the very mapping of the last `want`, nothing is looked at."""
        peer = self._peers.get(address)
        if peer is not None and not (peer.exact and peer.wanted is wanted):
            self.want(address, wanted)

    def amend(self, address: Address, prefixes: Iterable[Prefix]) -> None:
        """What was given to `want` has changed in place, at these prefixes: the work of `want` for them."""
        peer = self._peers.get(address)
        if peer is None or not peer.established or peer.wanted is None:
            return
        for prefix in prefixes:
            peer.to_withdraw.pop(prefix, None)
            peer.to_announce.pop(prefix, None)
            path = peer.wanted.get(prefix)
            if path is None:
                if prefix in peer.said:
                    peer.to_withdraw[prefix] = None
            elif prefix not in peer.said or peer.said[prefix] != path:
                peer.to_announce[prefix] = path

    def up(self, address: Address, *, fresh: bool, families: frozenset[Family] | None = None) -> None:
        """The session is established. `fresh`: it came up now, so all is said again. `families`: those that
        both sides speak."""
        peer = self._peers.get(address)
        if peer is None:
            return
        peer.established = True
        if fresh:
            peer.said = dict.fromkeys(peer.said)
        # Due also when the session came up before we were there to see it: the peer may be waiting for it.
        peer.end_of_rib = set(peer.session.families if families is None else families)
        self._compare(peer)

    def down(self, address: Address) -> None:
        """The session ended. ExaBGP keeps what it was told and says it again when the session is back."""
        peer = self._peers.get(address)
        if peer is not None:
            peer.established = peer.exact = False
            peer.to_announce.clear()
            peer.to_withdraw.clear()
            peer.end_of_rib.clear()

    def leave(self, address: Address) -> list[str]:
        """The session is about to be closed by us: the lines that withdraw everything, outside the window."""
        peer = self._peers.get(address)
        if peer is None:
            return []
        self.down(address)
        peer.to_withdraw = _Queue(dict.fromkeys(peer.said))
        lines = []
        while peer.to_withdraw:
            line, _, _, withdrawn = _withdraw(peer, self._to_tell)
            lines.append(line)
            self._said(address, withdrawn)
        self.tell()
        return lines

    def established(self, address: Address) -> bool:
        peer = self._peers.get(address)
        return peer is not None and peer.established

    def answered(self, *, refused: bool = False) -> None:
        """ExaBGP answered our oldest line. What it refused counts as never said; `want` says it again."""
        if not self._unanswered:
            return
        address, prefixes = self._unanswered.popleft()
        peer = self._peers.get(address)
        if refused and peer is not None:
            peer.exact = False
            for prefix in prefixes:
                peer.said.pop(prefix, None)
            self._said(address, prefixes)

    @property
    def unanswered(self) -> int:
        """Lines sent and not answered yet."""
        return len(self._unanswered)

    @property
    def idle(self) -> bool:
        """Nothing waits to be said and nothing is unanswered."""
        return not self._unanswered and not any(
            peer.to_announce or peer.to_withdraw or peer.end_of_rib for peer in self._peers.values()
        )

    def holds_version(self, address: Address, version: int) -> bool:
        """Whether the peer has been told any prefix of an IP version."""
        peer = self._peers.get(address)
        return peer is not None and any(prefix.version == version for prefix in peer.said)

    def announced(self, address: Address) -> int:
        """How many prefixes the peer has been told."""
        peer = self._peers.get(address)
        return len(peer.said) if peer is not None else 0

    def has_said(self, address: Address, prefix: Prefix) -> bool:
        """Whether the peer has been told a prefix as it is wanted."""
        peer = self._peers.get(address)
        return peer is not None and prefix in peer.said and prefix not in peer.to_announce

    def said(self, address: Address) -> Mapping[Prefix, Path | None]:
        """What the peer has been told; None: by an agent before us, with attributes that are not known."""
        peer = self._peers.get(address)
        return peer.said if peer is not None else {}

    def waiting(self, address: Address) -> int:
        """How many prefixes wait to be told."""
        peer = self._peers.get(address)
        return len(peer.to_announce) + len(peer.to_withdraw) if peer is not None else 0

    def tell(self) -> None:
        """Tell of the lines there have been; after they are sent, since whoever hears of them takes time."""
        told, self._to_tell = self._to_tell, []
        for each in told:
            self.on_telling(*each)

    def next_lines(self) -> list[str]:
        """As many lines as the window allows; `tell` is due when they are sent."""
        lines: list[str] = []
        while len(self._unanswered) < WINDOW:
            following = self._next()
            if following is None:
                break
            line, address, prefixes, withdrawn = following
            lines.append(line)
            self.on_moved()
            self._unanswered.append((address, prefixes))
            self._said(address, prefixes or withdrawn)
        return lines

    def _said(self, address: Address, prefixes: tuple[Prefix, ...]) -> None:
        if self.on_said is not None and prefixes:
            self.on_said(address, prefixes)

    def _compare(self, peer: _Peer) -> None:
        if peer.wanted is None:
            return
        wanted, said = peer.wanted, peer.said
        peer.to_withdraw = _Queue({prefix: None for prefix in said if prefix not in wanted})
        # Mostly the very same path was said; a dataclass would be compared field by field all the same.
        differing = ((prefix, path) for prefix, path in wanted.items() if said.get(prefix) is not path)
        peer.to_announce = _Queue({prefix: path for prefix, path in differing if said.get(prefix) != path})
        peer.exact = True

    def _next(self) -> _Line | None:
        """Any peer's withdrawals first, then the smallest backlog of announcements, then End-of-RIB."""
        ready = [peer for peer in self._peers.values() if peer.established]
        for peer in ready:
            if peer.to_withdraw:
                return _withdraw(peer, self._to_tell)
        waiting = [peer for peer in ready if peer.to_announce]
        if waiting:
            return _announce(min(waiting, key=lambda peer: len(peer.to_announce)), self._to_tell)
        for peer in ready:
            if peer.end_of_rib and peer.wanted is not None:
                address = peer.session.peer_address
                return end_of_rib(address, peer.end_of_rib.pop()), address, (), ()
        return None


def _withdraw(peer: _Peer, to_tell: list[_Told]) -> _Line:
    """The first prefix and those that were announced like it: see `commands.withdraw`."""
    first = next(iter(peer.to_withdraw))
    told = peer.said.get(first)
    batch: list[Prefix] = []
    version = first.version
    for prefix in peer.to_withdraw:
        if prefix.version == version and _alike(told, peer.said.get(prefix)):
            batch.append(prefix)
            if len(batch) == PREFIXES_PER_LINE:
                break
    peer.to_withdraw.take(batch)
    before = {prefix: peer.said.pop(prefix) for prefix in batch if prefix in peer.said}
    to_tell.append((peer.session, tuple(batch), None, before))
    line = (
        withdraw(peer.session, batch)
        if told is None
        else withdraw(peer.session, batch, told.next_hop, told.attributes)
    )
    return line, peer.session.peer_address, (), tuple(batch)


def _alike(one: Path | None, other: Path | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.attributes is not other.attributes and one.attributes != other.attributes:
        return False
    return one.next_hop is other.next_hop or one.next_hop == other.next_hop


def _announce(peer: _Peer, to_tell: list[_Told]) -> _Line:
    first = next(iter(peer.to_announce.values()))
    version = first.prefix.version
    batch: dict[Prefix, Path] = {}
    for prefix, path in peer.to_announce.items():
        if prefix.version == version and _alike(path, first):
            batch[prefix] = path
            if len(batch) == PREFIXES_PER_LINE:
                break
    prefixes = tuple(batch)
    before = {prefix: peer.said[prefix] for prefix in prefixes if prefix in peer.said}
    to_tell.append((peer.session, prefixes, first, before))
    peer.to_announce.take(prefixes)
    peer.said.update(batch)  # hashes nothing again, which of prefixes is slow
    line = announce(peer.session, first.next_hop, first.attributes, prefixes)
    return line, peer.session.peer_address, prefixes, ()
