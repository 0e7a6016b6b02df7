"""One question to many nodes at once: each answers for itself, and none waits for another."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from l3net.cli.doors import Door
from l3net.cli.output import Progress
from l3net.errors import ConfigError, L3netError, NotRunningError

#: Nodes asked at a time.
AT_ONCE: Final = 64
#: Seconds without any answer after which those that are missing are given up.
SILENCE: Final = 90.0

Answer = TypeVar("Answer")
Value = TypeVar("Value")
#: A question for all, or by name of the node.
Question = str | Callable[[str], str]


def ask_all(
    doors: Mapping[str, Door], question: Question, patience: float, read: Callable[[dict[str, Any]], Answer]
) -> tuple[dict[str, Answer], dict[str, L3netError]]:
    """What `read` makes of each node's answer, and why there is none of the others, both in order of `doors`.
    `patience` in seconds, as of a Door."""
    results: queue.SimpleQueue[tuple[str, Answer | L3netError]] = queue.SimpleQueue()
    waiting = deque(doors)

    def work() -> None:
        while True:
            try:
                node = waiting.popleft()
            except IndexError:
                return
            results.put((node, _one(doors[node], question, node, patience, read)))

    for _ in range(min(AT_ONCE, len(doors))):  # daemons: who interrupts the command waits for none of them
        threading.Thread(target=work, daemon=True).start()
    found = _collected(results, len(doors))
    answers: dict[str, Answer] = {}
    failures: dict[str, L3netError] = {}
    for node in doors:
        result = found.get(node, NotRunningError(f"no answer within {SILENCE:.0f} s"))
        if isinstance(result, L3netError):
            failures[node] = result
        else:
            answers[node] = result
    return answers, failures


def _collected(
    results: queue.SimpleQueue[tuple[str, Answer | L3netError]], count: int
) -> dict[str, Answer | L3netError]:
    progress, found = Progress("asking", f"of {count} nodes"), dict[str, Answer | L3netError]()
    until = time.monotonic() + SILENCE
    while len(found) < count and time.monotonic() < until:
        try:
            node, result = results.get(timeout=0.5)
        except queue.Empty:
            pass
        else:
            found[node] = result
            until = time.monotonic() + SILENCE
        progress(len(found))
    progress.done()
    return found


def _one(
    door: Door, question: Question, node: str, patience: float, read: Callable[[dict[str, Any]], Answer]
) -> Answer | L3netError:
    try:
        return understood(door.ask(question(node) if callable(question) else question, patience), read)
    except L3netError as err:
        return err
    except MemoryError:
        return L3netError("its answer is too large")


def understood(answer: Value, read: Callable[[Value], Answer], whose: str = "") -> Answer:
    """What `read` makes of an answer. Raises what `read` says, and L3netError of one that it cannot read."""
    try:
        return read(answer)
    except L3netError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as err:
        raise misunderstood(err, whose) from None


def misunderstood(err: Exception, whose: str = "") -> L3netError:
    """Of an answer that lacks something, or has it in another shape."""
    kind = type(err).__name__
    return L3netError(f"{whose}its answer is not understood ({kind}): is it of another release?")


def alike(failures: Mapping[str, L3netError]) -> ConfigError | None:
    """What all of them say where that is one thing, wrong with the question itself."""
    said = {str(err) for err in failures.values()}
    first = next(iter(failures.values()), None)
    return ConfigError(said.pop()) if len(said) == 1 and isinstance(first, ConfigError) else None
