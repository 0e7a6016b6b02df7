"""What is known of a collection: version, fact and faults of each object; what is new in a list or a change.

An object that means the same as before (a Node's heartbeat) is no change. The last good version of one that
is wrong stays in force.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from typing import Protocol

from l3net.errors import ManifestError
from l3net.kube.translate import translate
from l3net.model import Fact, ObjectName
from l3net.ports import Changed, DatastoreEvent, Mended, Rejected, rejections
from l3net.shell.kubernetes.kinds import UNREADABLE, Document, KubeKind, name_of, version_in

log = logging.getLogger("l3net.kube")


class Hearer(Protocol):
    """Who is told."""

    def deliver(self, events: list[DatastoreEvent]) -> None:
        """Changes, and objects that cannot be used."""
        ...

    def judged(
        self, kind: KubeKind, name: ObjectName, document: Document, error: ManifestError | None
    ) -> None:
        """An object was read; what is wrong with it, if anything."""
        ...


@dataclass(slots=True)
class _Known:
    version: str
    fact: Fact | None  # None: of no meaning to us, or never right so far
    rejected: tuple[Rejected, ...] = ()


class KnownObjects:
    """The objects of one kind that have been told of."""

    def __init__(self, kind: KubeKind, hearer: Hearer) -> None:
        self._kind, self._hearer = kind, hearer
        self._known: dict[ObjectName, _Known] = {}

    def names(self) -> Set[ObjectName]:
        return self._known.keys()

    def tell(self, documents: Iterable[Document], *, distrusted: bool) -> None:
        """Tell what is new in these; they are known once the listener has heard it, not before.

        `distrusted`: versions went back, and one that is known may stand for another content now.
        """
        events: list[DatastoreEvent] = []
        fresh: dict[ObjectName, _Known] = {}
        judged: list[tuple[ObjectName, Document, ManifestError | None]] = []
        for document in documents:
            name = name_of(document)
            if name is None:
                continue
            known = fresh.get(name) or self._known.get(name)
            same = known is not None and known.version == version_in(document) and not known.rejected
            if same and not distrusted:
                continue
            told, now, error = self._judge(name, document, known, events.append)
            fresh[told] = now
            judged.append((told, document, error))
        if events:
            self._hearer.deliver(events)
        self._known.update(fresh)
        for name, document, error in judged:
            self._hearer.judged(self._kind, name, document, error)

    def _judge(
        self,
        name: ObjectName,
        document: Document,
        known: _Known | None,
        emit: Callable[[DatastoreEvent], None],
    ) -> tuple[ObjectName, _Known, ManifestError | None]:
        """Its name, what is known of it now, and what is wrong with it. The name is the one in the fact, as
        there are tens of thousands."""
        kind = self._kind.kind
        error: ManifestError | None = None
        fact: Fact | None = None
        skipped: list[ManifestError] = []
        try:
            if UNREADABLE in document:
                raise ManifestError("", str(document[UNREADABLE]))
            found = translate(document, skipped)
            if found is not None and found[1] == name:
                _, name, fact = found
            else:
                fact = found[2] if found is not None else None
        except ManifestError as err:
            error = err
        except Exception as err:  # one object that nobody foresaw must not keep the others away
            log.debug("%s %s", kind.value, name, exc_info=True)
            error = ManifestError("", f"cannot be read ({type(err).__name__}); please report it")
        if error is not None:
            fact = known.fact if known is not None else None  # the last good one stays in force
        before = known.rejected if known is not None else ()
        rejected = rejections(f"{kind.value} {name}", error, skipped, (kind, name))
        for each in before:
            if each not in rejected:
                emit(Mended(each))
        for each in rejected:
            if each not in before:
                emit(each)
        if (known.fact if known is not None else None) != fact:
            emit(Changed(kind, name, fact))
        elif known is not None:
            fact = known.fact  # equal; one of the two is enough
        return name, _Known(version_in(document), fact, rejected), error

    def forget(self, names: Iterable[ObjectName]) -> None:
        """These are gone."""
        events: list[DatastoreEvent] = []
        gone = [(name, self._known[name]) for name in names if name in self._known]
        for name, known in gone:
            events += [Mended(each) for each in known.rejected]
            if known.fact is not None:
                events.append(Changed(self._kind.kind, name, None))
        if events:
            self._hearer.deliver(events)
        for name, _ in gone:
            self._known.pop(name, None)
