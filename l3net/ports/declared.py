"""The declared state, as a stream and as a directory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from l3net.errors import ManifestError
from l3net.model import Fact, Kind, ObjectName


@dataclass(frozen=True, slots=True)
class Changed:
    """A declared object as it is now; `fact` None means it is gone."""

    kind: Kind
    name: ObjectName
    fact: Fact | None


@dataclass(frozen=True, slots=True)
class InSync:
    """Everything that existed when the datastore was opened has been delivered. Sent once."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An object that cannot be used; the last good version stays in force.

    `where` is the file (with document number or line) or API path; `field` a path such as `spec.cidr`.
    `partly`: only the element `field` is left out, and the rest of the object is in force. `about` is the
    object that cannot be used; `unknown`: it cannot be told which objects, as of a file that is unreadable.
    """

    where: str
    field: str
    why: str
    partly: bool = False
    about: tuple[Kind, ObjectName] | None = None
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.field + ': ' if self.field else ''}{self.why}"

    def hides(self, kind: Kind, name: ObjectName) -> bool:
        """Whether this object may be declared in what cannot be used."""
        return self.unknown or self.about == (kind, name)


#: Elements of one object that are named one by one; the rest are counted.
MOST_NAMED: Final = 8


def rejections(
    where: str,
    error: ManifestError | None,
    skipped: Sequence[ManifestError] = (),
    about: tuple[Kind, ObjectName] | None = None,
) -> tuple[Rejected, ...]:
    """What is wrong with an object: all of it, or single elements that are left out."""
    if error is not None:
        return (Rejected(where, error.field, error.why, about=about),)
    named = [Rejected(where, each.field, f"{each.why}; left out, the rest is used", True) for each in skipped]
    if len(named) > MOST_NAMED:
        more = Rejected(where, "", f"{len(named) - MOST_NAMED} more elements are left out", True)
        named = [*named[:MOST_NAMED], more]
    return tuple(dict.fromkeys(named))


@dataclass(frozen=True, slots=True)
class Mended:
    """What was rejected is so no longer."""

    rejected: Rejected


@dataclass(frozen=True, slots=True)
class View:
    """How old what a datastore knows of a kind is: seconds since its last list and its last bookmark.

    None: there was none yet.
    """

    list_age: float | None
    bookmark_age: float | None


DatastoreEvent: TypeAlias = Changed | InSync | Rejected | Mended


class Datastore(Protocol):
    """The declared state, as a stream: the current objects, `InSync`, then every change."""

    def events(self) -> AsyncIterator[DatastoreEvent]: ...


class Manifests(Protocol):
    """A directory of manifests, looked at once."""

    def look(self) -> Iterable[DatastoreEvent]: ...

    @property
    def broken(self) -> Collection[tuple[Kind, ObjectName] | None]:
        """Objects that cannot be used; None: those of a file that cannot be read."""
        ...
