"""What went wrong in the parts that must go on: said once, counted, kept for the status.

A thread or a step that meets what nobody foresaw sets it aside and goes on with the rest. A fault that is
only logged is overlooked, and one that is logged each time fills the log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from l3net.late import logger

log = logger(__name__)

#: Seconds before a thread that failed is begun anew.
RESTART: Final = 0.5


class Stopping(Protocol):
    """As threading.Event."""

    def wait(self, timeout: float | None = None) -> bool: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """Of one part: how often it failed since the start, what was said last, and whether it still fails."""

    part: str
    count: int
    last: str
    lasting: bool


class Faults:
    """Thread-safe. A part is a name for people, such as `link reaper`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, Fault] = {}

    def note(self, part: str, error: BaseException, *, lasting: bool = True) -> None:
        """Count a failure; the log has each text of a part once, the traceback at debug level.

        `lasting`: until `over`; otherwise it concerned one call, and the next may do better.
        """
        text = str(error) or type(error).__name__
        if not isinstance(error, OSError) and type(error).__module__ in ("builtins", "sqlite3"):
            text = f"{type(error).__name__}: {text}"
        with self._lock:
            before = self._found.get(part)
            self._found[part] = Fault(part, before.count + 1 if before else 1, text, lasting)
        if before is None or before.last != text or (lasting and not before.lasting):
            log.warning("%s: %s", part, text)
        log.debug("%s", part, exc_info=error)

    def over(self, part: str) -> None:
        """It works again."""
        with self._lock:
            before = self._found.get(part)
            if before is not None and before.lasting:
                self._found[part] = Fault(part, before.count, before.last, lasting=False)
                log.info("%s: works again", part)

    def forget(self, part: str) -> None:
        """What it concerned is gone."""
        with self._lock:
            self._found.pop(part, None)

    def only(self, kind: str, parts: Iterable[str]) -> None:
        """Of the parts whose names begin with `kind` there are these: faults of others are gone with what
        they concerned."""
        there = set(parts)
        with self._lock:
            for part in [each for each in self._found if each.startswith(kind) and each not in there]:
                del self._found[part]

    @contextmanager
    def each(self, part: str) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """A part that does the same to many things: what is yielded contains the work on one of them.

        It works again once a round meets no failure, and so also when what it failed at is gone.
        """
        failed = False

        @contextmanager
        def one() -> Iterator[None]:
            nonlocal failed
            try:
                yield
            except Exception as err:  # of one thing: the others are looked at all the same
                failed = True
                self.note(part, err)

        yield one
        if not failed:
            self.over(part)

    @contextmanager
    def contained(self, part: str) -> Iterator[None]:
        """Whatever fails inside is noted and goes no further."""
        try:
            yield
        except Exception as err:
            self.note(part, err)
        else:
            self.over(part)

    def supervised(self, part: str, work: Callable[[], None], stopping: Stopping) -> None:
        """What a thread runs: `work` until it returns, begun anew when it fails."""
        while True:
            try:
                work()
            except Exception as err:
                self.note(part, err, lasting=False)  # nothing tells when it does all its work again
                if stopping.wait(RESTART):
                    return
            else:
                return

    def found(self) -> list[Fault]:
        """Every part that ever failed."""
        with self._lock:
            return sorted(self._found.values(), key=lambda fault: fault.part)
