"""What separates the desired state from the actual one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Delta(Generic[K, V]):
    """What to put and what to delete so that actual becomes desired.

    put: key to wanted value, for keys absent or different. delete: key to the value seen, not wanted.
    """

    put: Mapping[K, V] = field(default_factory=dict)
    delete: Mapping[K, V] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.put or self.delete)


def diff(desired: Mapping[K, V], actual: Mapping[K, V]) -> Delta[K, V]:
    """Compare by equality. `actual` must hold only what is ours, or foreign things would be deleted."""
    return Delta(
        put={key: value for key, value in desired.items() if actual.get(key) != value},
        delete={key: value for key, value in actual.items() if key not in desired},
    )
