"""The manifests of a directory as facts: what is in force, and what changes when files do. Knows no clock."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from l3net.errors import ManifestError
from l3net.kube.registry import KINDS
from l3net.kube.translate import identify, translate
from l3net.kube.unserved import unserved
from l3net.model import Fact, Kind, ObjectName
from l3net.ports import Changed, DatastoreEvent, Mended, Rejected, rejections
from l3net.shell.manifests.documents import (
    Document,
    DocumentError,
    Stamp,
    is_manifest,
    parse,
    read_bytes,
    stamp_of,
)

log = logging.getLogger("l3net.manifests")

Key: TypeAlias = tuple[Kind, ObjectName]
#: A file that changed this short a time (ns) before it was read may change again with the same stamp.
_RACY = 50_000_000


@dataclass(frozen=True, slots=True)
class Claim:
    """An object as a file states it."""

    fact: Fact
    where: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file says: objects, what is wrong, which objects are (None: it is not known which)."""

    claims: dict[Key, Claim] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()
    broken: frozenset[Key | None] = frozenset()
    unread: tuple[str, ...] = ()  # documents of kinds l3net does not read
    unserved: tuple[Rejected, ...] = ()  # what is asked for and not done; the rest of the object is


def interpret(path: str, content: bytes) -> Reading:
    """Translate a file's documents. The first of two that state the same object holds."""
    try:
        documents = parse(content, is_json=path.endswith(".json"))
    except DocumentError as err:
        where = f"{path}:{err.line}" if err.line else path
        return Reading(rejected=(Rejected(where, "", str(err), unknown=True),), broken=frozenset({None}))
    claims: dict[Key, Claim] = {}
    rejected: list[Rejected] = []
    broken: set[Key | None] = set()
    unread: list[str] = []
    undone: list[Rejected] = []
    alone = len(documents) == 1
    for document in documents:
        where = document.where(path, alone=alone)
        skipped: list[ManifestError] = []
        undone += (Rejected(where, each.field, each.why) for each in unserved(document.content))
        try:
            found = translate(document.content, skipped)
        except Exception as err:  # one object that nobody foresaw must not keep the others away
            key = _identity(document)
            broken.add(key)
            named = f"{where} {key[0].value} {key[1]}" if key else where
            if not isinstance(err, ManifestError):
                log.debug("%s", named, exc_info=True)
                err = ManifestError("", f"cannot be read ({type(err).__name__}); please report it")
            nameless = key is None and not _known_and_no_configuration(document.content.get("kind"))
            rejected += (replace(each, unknown=nameless) for each in rejections(named, err, about=key))
            continue
        if found is None:
            unread.append(where)
            continue
        kind, name, fact = found
        rejected += rejections(f"{where} {kind.value} {name}", None, skipped)
        first = claims.setdefault((kind, name), Claim(fact, where))
        if first.where != where:
            rejected.append(duplicate(kind, name, where, first.where))
    return Reading(claims, tuple(rejected), frozenset(broken), tuple(unread), tuple(undone))


def _known_and_no_configuration(kind: object) -> bool:
    """Whether a document of this kind is none of what must be known before anything is decided."""
    return any(str(kind) == known.value for known in KINDS if known is not Kind.BGP_CONFIGURATION)


def printable(path: Path | str) -> str:
    """A path for messages: a name that is no UTF-8 cannot be written out as it is."""
    text = str(path)
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _identity(document: Document) -> Key | None:
    try:
        return identify(document.content)
    except (ManifestError, RecursionError):
        return None


def duplicate(kind: Kind, name: ObjectName, where: str, first: str) -> Rejected:
    """The second of two that state one object, which is not used."""
    return Rejected(where, "metadata.name", f"{kind.value} {name} is already in {first}, which holds")


@dataclass(slots=True)
class _File:
    stamp: Stamp | None = None
    claims: dict[Key, Claim] = field(default_factory=dict)
    rejected: frozenset[Rejected] = frozenset()
    broken: frozenset[Key | None] = frozenset()


class ManifestTree:
    """The files of one directory. Each `look` re-reads what changed and returns what that means."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = str(path)
        self._files: dict[str, _File] = {}
        self._faulty: set[str] = (
            set()
        )  # names of files with something rejected: few, and asked for at every look
        self._claims: dict[Key, dict[str, Claim]] = {}
        self._facts: dict[Key, Fact] = {}
        self._duplicates: dict[Key, frozenset[Rejected]] = {}
        self._gone: Rejected | None = None

    def look(
        self, names: Collection[str] = (), *, everything: bool = True, busy: Collection[str] = ()
    ) -> list[DatastoreEvent]:
        """Re-read the files named, and with `everything` those whose stamp changed, and leave out the busy.

        What a broken file or object said last stays in force, as does everything while the directory is away.
        """
        before = self._standing()
        events = self._look(names, everything=everything, busy=busy)
        mended = before - self._standing()
        return [*(Mended(each) for each in sorted(mended, key=str)), *events]

    @property
    def broken(self) -> frozenset[Key | None]:
        """Objects that are stated and cannot be used; None among them: it is not known which they are."""
        return frozenset().union(*(file.broken for file in self._files.values()))

    def _standing(self) -> set[Rejected]:
        """Everything rejected as of now."""
        found = {rejected for name in self._faulty for rejected in self._files[name].rejected}
        found.update(*self._duplicates.values())
        return found | ({self._gone} if self._gone else set())

    def _look(
        self, names: Collection[str], *, everything: bool, busy: Collection[str]
    ) -> list[DatastoreEvent]:
        try:
            present = self._present() if everything else {name: self._stamp(name) for name in names}
        except OSError as err:
            gone = Rejected(self._text, "", f"cannot be read ({err.strerror}); the last state stays in force")
            events: list[DatastoreEvent] = [] if gone == self._gone else [gone]
            self._gone = gone
            return events
        self._gone = None if everything else self._gone
        touched: set[Key] = set()
        events = []
        for name in sorted(present.keys() | (self._files.keys() if everything else set())):
            if name in busy or not is_manifest(name):
                continue
            stamp, file = present.get(name), self._files.get(name)
            if stamp is None:
                touched |= self._drop(name)
            elif name in names or file is None or file.stamp != stamp:
                events += self._read(name, touched)
        for key in sorted(touched, key=lambda key: (key[0].value, key[1])):
            events += self._settle(key)
        return events

    def size(self, names: Collection[str] | None = None) -> int:
        """Bytes that a look at these files (None: all) may have to parse."""
        try:
            found = self._present().values() if names is None else map(self._stamp, names)
            return sum(stamp[2] for stamp in found if stamp)
        except OSError:
            return 0

    def _present(self) -> dict[str, Stamp | None]:
        with os.scandir(self._path) as entries:
            return {entry.name: self._stamp(entry.name) for entry in entries if is_manifest(entry.name)}

    def _stamp(self, name: str) -> Stamp | None:
        try:
            return stamp_of(os.stat(f"{self._text}/{name}"))  # noqa: PTH116 - a path is made for each change
        except FileNotFoundError:
            return None
        except OSError:
            return (0, 0, 0, 0, 0)  # there, and reading it will say what is wrong

    def _read(self, name: str, touched: set[Key]) -> Iterator[DatastoreEvent]:
        file = self._files.setdefault(name, _File())
        path = f"{self._text}/{name}"
        stamp: Stamp | None = None
        try:
            content, stamp = read_bytes(path)
            if time.time_ns() - max(stamp[3:]) < _RACY:
                stamp = None
            reading = interpret(printable(path), content)
        except Exception as err:  # one file that nobody foresaw must not keep the others away
            why = str(err)
            if not isinstance(err, DocumentError):
                log.debug("%s", path, exc_info=True)
                why = f"cannot be read ({type(err).__name__}); please report it"
            unread = Rejected(printable(path), "", why, unknown=True)
            reading = Reading(rejected=(unread,), broken=frozenset({None}))
        kept = {
            key: claim
            for key, claim in file.claims.items()
            if key not in reading.claims and (key in reading.broken or None in reading.broken)
        }
        claims = {**reading.claims, **kept}
        touched |= file.claims.keys() | claims.keys()
        for key in file.claims.keys() - claims.keys():
            del self._claims[key][name]
        for key, claim in claims.items():
            self._claims.setdefault(key, {})[name] = claim
        before, file.rejected = file.rejected, frozenset(reading.rejected)
        file.stamp, file.claims, file.broken = stamp, claims, reading.broken
        (self._faulty.add if file.rejected else self._faulty.discard)(name)
        return (rejected for rejected in reading.rejected if rejected not in before)

    def _drop(self, name: str) -> set[Key]:
        file = self._files.pop(name, _File())
        self._faulty.discard(name)
        for key in file.claims:
            del self._claims[key][name]
        return set(file.claims)

    def _settle(self, key: Key) -> Iterator[DatastoreEvent]:
        """The claim of the first file by name holds; the others are duplicates."""
        claims = self._claims.get(key) or {}
        kind, name = key
        if not claims:
            self._claims.pop(key, None)
            self._duplicates.pop(key, None)
            if self._facts.pop(key, None) is not None:
                yield Changed(kind, name, None)
            return
        first, *others = sorted(claims)
        duplicates = frozenset(duplicate(*key, claims[other].where, claims[first].where) for other in others)
        new = duplicates - self._duplicates.get(key, frozenset())
        self._duplicates[key] = duplicates
        if not duplicates:
            del self._duplicates[key]
        if self._facts.get(key) != claims[first].fact:
            self._facts[key] = claims[first].fact
            yield Changed(kind, name, claims[first].fact)
        yield from sorted(new, key=str)
