"""Adj-RIB-In of every peer and the decision process over them (RFC 4271 section 9.1).

Deviations from the RFC, all meant: no IGP metric step, since next hops are resolved on connected or static
routes; MED is compared between paths from the same neighbouring AS only and a missing one is 0; paths equal
up to the router-ID step are all used (ECMP), also with different AS_PATHs of equal length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeAlias

from l3net.bgp.kept import UNJUDGED, Alike, Judge, JudgeAll, Kept, Received, one_by_one
from l3net.bgp.path import Path, Said, gathered
from l3net.bgp.sessions import Session
from l3net.bgp.verdict import Verdict
from l3net.community import LLGR_STALE
from l3net.model import Address, Family, Prefix

DEFAULT_LOCAL_PREFERENCE = 100
ALL_FAMILIES = frozenset(Family)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An accepted path with what the decision process looks at."""

    path: Path
    session: Session


Usable = Callable[[Candidate], bool]


def preference(candidate: Candidate) -> tuple[bool, int, int, int, int]:
    """Steps of RFC 4271 section 9.1.2.2 before MED, after that of RFC 9494; smaller is better."""
    attributes = candidate.path.attributes
    local = attributes.local_preference
    return (
        LLGR_STALE in attributes.communities,  # RFC 9494 section 4.3: the least preferred
        -(local if local is not None else DEFAULT_LOCAL_PREFERENCE),
        attributes.as_path_length,
        int(attributes.origin),
        0 if candidate.session.external else 1,
    )


def best_paths(ranked: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The paths to use, best first; more than one when they are equally good (ECMP)."""
    if len(ranked) <= 1:
        return tuple(ranked)
    top = min(map(preference, ranked))
    equal = [candidate for candidate in ranked if preference(candidate) == top]
    lowest: dict[int, int] = {}
    for candidate in equal:  # section 9.1.2.2 c
        neighbour = _neighbour_as(candidate)
        med = candidate.path.attributes.med or 0
        lowest[neighbour] = min(med, lowest.get(neighbour, med))
    equal = [
        candidate
        for candidate in equal
        if (candidate.path.attributes.med or 0) == lowest[_neighbour_as(candidate)]
    ]
    equal.sort(
        key=lambda candidate: (
            candidate.session.peer_address.version,
            int(candidate.session.peer_address),
            candidate.path.path_id,
        )
    )
    return tuple(equal)


def _neighbour_as(candidate: Candidate) -> int:
    as_path = candidate.path.attributes.as_path
    return as_path[0] if as_path else candidate.session.local_as


Table: TypeAlias = dict[Prefix, Kept]


class _AdjRibIn:
    """What one source has announced: a peer, or a path identifier of a peer with add-path (RFC 7911)."""

    __slots__ = ("alone", "session", "table")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.table: Table = {}
        self.alone: tuple[_AdjRibIn] = (self,)  # the row of prefixes that no other has, shared by them


class LocRib:
    """What the peers announced, by peer and prefix. Every change answers with the prefixes it touched."""

    def __init__(self, judge: Judge, judge_all: JudgeAll | None = None) -> None:
        """`judge_all`: the same judgement, for many at once."""
        self._judge_all = judge_all if judge_all is not None else one_by_one(judge)
        self._sessions: dict[Address, Session] = {}
        self._sources: dict[Address, dict[str, _AdjRibIn]] = {}
        self._rows: dict[Prefix, tuple[_AdjRibIn, ...]] = {}  # the sources that have each prefix
        self._counts: dict[Address, dict[int, int]] = {}
        self._over: dict[Address, dict[int, int]] = {}
        #: Called with each change of what a peer says: the peer, the path identifier, the prefixes.
        self.on_changed: Callable[[Address, str, Collection[Prefix]], None] | None = None

    def _changed(self, peer: Address, path_id: str, prefixes: Collection[Prefix]) -> None:
        if self.on_changed is not None and prefixes:
            self.on_changed(peer, path_id, prefixes)

    def set_sessions(self, sessions: Mapping[Address, Session]) -> set[Prefix]:
        """Take over the sessions of now; paths of a peer that is no longer one are dropped, and those beyond
        a limit that is lower now."""
        touched: set[Prefix] = set()
        for address in [gone for gone in self._sources if gone not in sessions]:
            touched |= self.drop(address)
        before, self._sessions = self._sessions, dict(sessions)
        for address, sources in self._sources.items():
            session = sessions[address]
            for source in sources.values():
                source.session = session
            if address in before and session.max_prefixes > before[address].max_prefixes:
                self._over.pop(address, None)
            for version, count in self._counts.get(address, {}).items():
                if count > session.max_prefixes:
                    touched |= self._cut(address, version, count - session.max_prefixes)
        return touched

    def _cut(self, peer: Address, version: int, excess: int) -> set[Prefix]:
        """Turn away what was announced last, as if the limit had been there."""
        self._over.setdefault(peer, {4: 0, 6: 0})[version] += excess
        touched: set[Prefix] = set()
        for path_id, source in reversed(list(self._sources[peer].items())):
            mine = (prefix for prefix in reversed(source.table) if prefix.version == version)
            gone = list(islice(mine, excess))
            touched |= self.withdraw(peer, gone, path_id)
            excess -= len(gone)
        return touched

    def rejudge(self, judge: Judge, judge_all: JudgeAll | None = None) -> set[Prefix]:
        """Policy changed: ask it again about every path."""
        self._judge_all = judge_all if judge_all is not None else one_by_one(judge)
        touched: set[Prefix] = set()
        for source in self._each():
            table = source.table
            alike: dict[Kept, list[Prefix]] = {}
            for prefix, kept in table.items():
                alike.setdefault(kept, []).append(prefix)
            for kept, prefixes in alike.items():
                said = Said(kept.next_hop, kept.raw, tuple(prefixes), kept.path_id)
                made = Alike(said, stale=kept.stale)
                for prefix, (judgement, attributes) in zip(
                    prefixes, self._judge_all(source.session, said), strict=True
                ):
                    if (judgement, attributes) != (kept.judgement, kept.attributes):
                        table[prefix] = made.of(judgement, attributes)
                        touched.add(prefix)
        return touched

    def announce(self, peer: Address, paths: Iterable[Path]) -> set[Prefix]:
        """Paths one by one, as `learn` has them."""
        touched: set[Prefix] = set()
        for said in gathered(paths):
            touched |= self.learn(peer, said)
        return touched

    def learn(self, peer: Address, said: Said) -> set[Prefix]:
        """What a peer says of some prefixes."""
        session = self._sessions.get(peer)
        if session is None or not said.prefixes:
            return set()
        sources = self._sources.setdefault(peer, {})
        counts = self._counts.setdefault(peer, {4: 0, 6: 0})
        source = sources.get(said.path_id)
        if source is None:
            source = sources[said.path_id] = _AdjRibIn(session)
        table, rows, alone = source.table, self._rows, source.alone
        new: list[Prefix] = []
        fresh: list[Prefix] = []  # heard again, and no longer stale
        for prefix in said.prefixes:
            before = table.get(prefix)
            if before is None:
                version = prefix.version
                # Beyond the peer's limit nothing is kept, not even as refused.
                if counts[version] >= session.max_prefixes:
                    self._over.setdefault(peer, {4: 0, 6: 0})[version] += 1
                    continue
                counts[version] += 1
                table[prefix] = UNJUDGED
                row = rows.setdefault(prefix, alone)
                if row is not alone:
                    rows[prefix] = row + alone
            elif before is UNJUDGED:  # twice in one UPDATE
                continue
            elif before.says(said):
                if before.stale:
                    fresh.append(prefix)
                continue
            new.append(prefix)
        made = Alike(said)
        for prefix in fresh:
            table[prefix] = made.of(table[prefix].judgement, table[prefix].attributes)
        if new:
            asked = said if len(new) == len(said.prefixes) else replace(said, prefixes=tuple(new))
            last, kept = None, UNJUDGED
            try:
                for prefix, result in zip(new, self._judge_all(session, asked), strict=True):
                    if result is not last:
                        kept, last = made.of(*result), result
                    table[prefix] = kept
            except Exception:
                self.withdraw(peer, [each for each in new if table[each] is UNJUDGED], said.path_id)
                raise
        if fresh or new:
            self._changed(peer, said.path_id, [*fresh, *new])
        return set(new)

    def over_limit(self, peer: Address, family: Family) -> int:
        """How many announcements were turned away because the peer had reached its limit."""
        return self._over.get(peer, {}).get(family.value, 0)

    def has_room_again(self, peer: Address) -> list[Family]:
        """Families that were over the limit and are under nine tenths of it: ask the peer for them again."""
        session = self._sessions.get(peer)
        over = self._over.get(peer, {})
        if session is None:
            return []
        counts = self._counts.get(peer, {})
        again = [
            family
            for family in Family
            if over.get(family.value) and 10 * counts[family.value] < 9 * session.max_prefixes
        ]
        for family in again:
            over[family.value] = 0
        return again

    def withdraw(self, peer: Address, prefixes: Iterable[Prefix], path_id: str = "") -> set[Prefix]:
        source = self._sources.get(peer, {}).get(path_id)
        if source is None:
            return set()
        table, counts = source.table, self._counts[peer]
        touched: set[Prefix] = set()
        for prefix in prefixes:
            if table.pop(prefix, None) is not None:
                counts[prefix.version] -= 1
                touched.add(prefix)
        self._forget(touched, source)
        self._changed(peer, path_id, touched)
        if not table:  # a peer may number every path anew (RFC 7911 section 3)
            del self._sources[peer][path_id]
        return touched

    def drop(self, peer: Address, families: frozenset[Family] = ALL_FAMILIES) -> set[Prefix]:
        """All paths of a peer are gone, or those of some families."""
        touched: set[Prefix] = set()
        if families != ALL_FAMILIES:
            versions = {family.value for family in families}
            for path_id, source in list(self._sources.get(peer, {}).items()):
                gone = [prefix for prefix in source.table if prefix.version in versions]
                touched |= self.withdraw(peer, gone, path_id)
            if peer in self._over:
                self._over[peer].update(dict.fromkeys(versions, 0))
            return touched
        for path_id, source in self._sources.pop(peer, {}).items():
            touched.update(source.table)
            self._forget(source.table, source)
            self._changed(peer, path_id, source.table)
        self._counts.pop(peer, None)
        self._over.pop(peer, None)
        return touched

    def mark_stale(self, peer: Address, family: Family) -> None:
        """Keep the peer's paths of a family until they are heard again or swept (RFC 4724 section 4.2)."""
        for source in self._sources.get(peer, {}).values():
            stale = {kept: kept.as_stale() for kept in set(source.table.values()) if not kept.stale}
            for prefix, kept in source.table.items():
                if prefix.version == family.value and not kept.stale:
                    source.table[prefix] = stale[kept]

    def has_stale(self, peer: Address, family: Family) -> bool:
        """Whether any path of a family is stale."""
        return any(
            entry.stale and prefix.version == family.value
            for source in self._sources.get(peer, {}).values()
            for prefix, entry in source.table.items()
        )

    def sweep(self, peer: Address, family: Family) -> set[Prefix]:
        """Drop the peer's paths of a family that are still stale."""
        touched: set[Prefix] = set()
        for path_id, source in list(self._sources.get(peer, {}).items()):
            gone = [p for p, entry in source.table.items() if entry.stale and p.version == family.value]
            touched |= self.withdraw(peer, gone, path_id)
        return touched

    def best(self, prefix: Prefix, usable: Usable) -> tuple[Candidate, ...]:
        """The paths to use for a prefix, best first; `usable` says whether a next hop can be reached."""
        candidates = []
        for source in self._rows.get(prefix, ()):
            kept = source.table[prefix]
            if kept.judgement.verdict is Verdict.ACCEPTED:
                candidate = Candidate(kept.of(prefix).path, source.session)
                if usable(candidate):
                    candidates.append(candidate)
        return best_paths(candidates)

    def alike(self, prefixes: Iterable[Prefix]) -> Iterator[list[Prefix]]:
        """The same in parts: what `best` answers differs in a part by nothing but the prefix."""
        rows = self._rows
        parts: dict[tuple[_AdjRibIn, Kept], list[Prefix]] = {}
        silent: list[Prefix] = []
        last: tuple[_AdjRibIn | None, Kept | None] = None, None
        part = silent
        for prefix in prefixes:
            row = rows.get(prefix)
            if row is None:
                silent.append(prefix)
            elif len(row) > 1:
                yield [prefix]
            else:
                kept = row[0].table[prefix]
                if kept is not last[1] or row[0] is not last[0]:
                    last = row[0], kept
                    part = parts.setdefault((row[0], kept), [])
                part.append(prefix)
        yield from parts.values()
        if silent:
            yield silent

    def prefixes(self) -> Iterator[Prefix]:
        return iter(self._rows)

    @property
    def prefix_count(self) -> int:
        """Prefixes that any peer has announced."""
        return len(self._rows)

    def announced(self, prefix: Prefix) -> bool:
        """Whether any peer says anything of a prefix, though it be refused."""
        return prefix in self._rows

    def holding(self, prefix: Prefix) -> Iterator[tuple[Session, Received]]:
        """All that peers say of a prefix, refused paths included."""
        return ((source.session, source.table[prefix].of(prefix)) for source in self._rows.get(prefix, ()))

    def received(self, peer: Address) -> list[Received]:
        """The peer's Adj-RIB-In, refused paths included."""
        return [
            kept.of(prefix)
            for source in self._sources.get(peer, {}).values()
            for prefix, kept in source.table.items()
        ]

    def at(self, peer: Address, prefix: Prefix) -> list[Received]:
        """What the peer has announced of one prefix, refused paths included."""
        found = (source.table.get(prefix) for source in self._sources.get(peer, {}).values())
        return [kept.of(prefix) for kept in found if kept is not None]

    def tables(self, peer: Address) -> Iterator[tuple[str, Collection[Prefix]]]:
        """The prefixes a peer has announced, by path identifier."""
        return ((path_id, source.table.keys()) for path_id, source in self._sources.get(peer, {}).items())

    def entry(self, peer: Address, prefix: Prefix, path_id: str = "") -> Received | None:
        """What a peer says of a prefix."""
        source = self._sources.get(peer, {}).get(path_id)
        kept = source.table.get(prefix) if source is not None else None
        return kept.of(prefix) if kept is not None else None

    def kinds(self, peer: Address) -> list[tuple[Received, int]]:
        """The peer's Adj-RIB-In by what paths have in common: one of each kind, and how many there are."""
        found: list[tuple[Received, int]] = []
        for source in self._sources.get(peer, {}).values():
            one = {kept: prefix for prefix, kept in source.table.items()}
            found += [(kept.of(one[kept]), count) for kept, count in Counter(source.table.values()).items()]
        return found

    def count(self, peer: Address, family: Family) -> int:
        """How many paths of a family a peer has announced."""
        return self._counts.get(peer, {}).get(family.value, 0)

    def _each(self) -> Iterator[_AdjRibIn]:
        return (source for sources in self._sources.values() for source in sources.values())

    def _forget(self, prefixes: Iterable[Prefix], source: _AdjRibIn) -> None:
        for prefix in prefixes:
            row = self._rows[prefix]
            if row is source.alone:
                del self._rows[prefix]
            else:
                left = tuple(each for each in row if each is not source)
                self._rows[prefix] = left if len(left) > 1 else left[0].alone
