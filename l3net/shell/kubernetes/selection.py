"""Which objects of a collection are followed, and whether all of them have been heard of."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from l3net.model import ObjectName


@dataclass(frozen=True, slots=True)
class OnNode:
    """The Pods of one node."""

    node: str


class Nothing(enum.Enum):
    """No object at all: the API server is not asked."""

    NOTHING = enum.auto()


NOTHING: Final = Nothing.NOTHING
#: One object, whatever its namespace; those of a node; none; or (None) every one.
Selection: TypeAlias = ObjectName | OnNode | Nothing | None


def query(only: Selection) -> Mapping[str, object]:
    """As lists and watches say it."""
    match only:
        case ObjectName(name=name):
            return {"fieldSelector": f"metadata.name={name}"}
        case OnNode(node):
            return {"fieldSelector": f"spec.nodeName={node}"}
    return {}


class Scope:
    """The selection that is followed. `number` counts the changes of it."""

    def __init__(self, only: Selection) -> None:
        self.only = only
        self.number = 0
        self._listed = -1

    def change(self, only: Selection) -> bool:
        """Whether it is another."""
        if only == self.only:
            return False
        self.only = only
        self.number += 1
        return True

    def listed(self, number: int) -> None:
        """Everything that was selected then has been delivered."""
        self._listed = number

    @property
    def known(self) -> int | None:
        """Its number, once everything that it selects has been delivered; None before."""
        return self._listed if self._listed == self.number else None
