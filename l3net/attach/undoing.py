"""Undoing what was done, in reverse order, when a later step fails."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from l3net.errors import StillWiredError
from l3net.late import logger

log = logger(__name__)


class Undoing:
    """A block that leaves nothing behind if it fails. What fails to be undone is logged, and not raised.

    What was done before a link that cannot be deleted stays as well: its guard, and the address that it has.
    Whoever deletes the link takes them away.
    """

    __slots__ = ("_done",)

    def __init__(self) -> None:
        self._done: list[tuple[str, Callable[[], object]]] = []

    def did(self, what: str, undo: Callable[[], object]) -> None:
        """Something is done now; `what` names it for the log."""
        self._done.append((what, undo))

    def __enter__(self) -> Undoing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del trace
        if kind is None or isinstance(error, StillWiredError):
            return
        for what, undo in reversed(self._done):
            try:
                undo()
            except StillWiredError as err:
                log.warning("undo of %s: %s; what goes with it stays", what, err)
                return
            except Exception as err:  # the rest is undone all the same
                log.warning("undo of %s: %s", what, err)
