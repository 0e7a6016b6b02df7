"""Tells the author of an object of ours whether it is used: a condition, and an Event when it is not.

One writer for the whole cluster, the leader: a thousand agents that meet the same mistake say it in their
status and logs alone. What is known already is not written again, and no more than a few a second are.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from l3net.controller.statuses import OfKind
from l3net.controller.writes import BACK_OFF
from l3net.errors import GoneError, L3netError, ManifestError
from l3net.kube.registry import KINDS
from l3net.model import Kind, ObjectName
from l3net.ports import ClusterWriter, Condition
from l3net.retry import Backoff

log = logging.getLogger("l3net.controller")

ACCEPTED: Final = "Accepted"
#: Objects written about in one go, and seconds between two goes.
AT_ONCE: Final = 10
EVERY: Final = 1.0

_Key: TypeAlias = tuple[Kind, ObjectName]


class Verdicts:
    """`judge` hears of each object as it is read (from any thread); `run` writes while `leading`.

    `clock` gives monotonic seconds, `random` values in [0, 1), which spread attempts.
    """

    def __init__(
        self,
        cluster: ClusterWriter,
        leading: Callable[[], bool],
        clock: Callable[[], float],
        random: Callable[[], float],
        every: float = EVERY,
    ) -> None:
        self._cluster, self._leading, self._clock, self._every = cluster, leading, clock, every
        self._backoff: Backoff[_Key] = Backoff(*BACK_OFF, random)
        self._lock = threading.Lock()
        self._due: dict[_Key, Condition] = {}
        self._said: dict[_Key, str] = {}  # the Event posted last

    def judge(
        self, kind: OfKind, name: ObjectName, document: Mapping[str, Any], error: ManifestError | None
    ) -> None:
        """An object has been read, and is wrong or not."""
        if not KINDS[kind.kind].ours:
            return
        standing = _standing(document)
        wanted = Condition(ACCEPTED, True, "Valid")
        if error is not None:
            wanted = Condition(ACCEPTED, False, "Invalid", f"{error}; the last good version stays in force")
        with self._lock:
            # That all is well is said only to whom it was said that it is not.
            known = standing == _text(wanted) or (error is None and not standing.startswith("False"))
            if known:
                self._due.pop((kind.kind, name), None)
                self._backoff.forget((kind.kind, name))
            else:
                if self._due.get((kind.kind, name), wanted) != wanted:
                    self._backoff.change((kind.kind, name), self._clock())
                self._due[kind.kind, name] = wanted
            if error is None:
                self._said.pop((kind.kind, name), None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            if self._leading():
                await asyncio.to_thread(self.write)

    def write(self) -> None:
        """Write what is due, a few at a time; what fails is due again later, and holds up nothing."""
        now = self._clock()
        with self._lock:
            ready = (each for each in self._due.items() if not self._backoff.waits(each[0], now))
            batch = list(islice(ready, AT_ONCE))
        for key, condition in batch:
            if not self._leading():
                return
            try:
                self._cluster.set_status(*key, {}, (condition,))
                if not condition.holds and self._said.get(key) != condition.message:
                    self._cluster.post_event(*key, condition.reason, condition.message)
                    self._said[key] = condition.message
            except GoneError:
                pass  # with it goes what was to be said
            except L3netError as err:
                log.warning("%s %s: condition not written: %s", key[0].value, key[1], err)
                with self._lock:
                    if key in self._due:  # to the end of the line, so that one does not hold up the others
                        self._backoff.failed(key, now)
                        self._due[key] = self._due.pop(key)
                continue
            with self._lock:
                self._backoff.forget(key)
                if self._due.get(key) is condition:
                    del self._due[key]


def _standing(document: Mapping[str, Any]) -> str:
    """What the object's status says of itself."""
    status = document.get("status")
    conditions = status.get("conditions") if isinstance(status, Mapping) else None
    for each in conditions if isinstance(conditions, list) else ():
        if isinstance(each, Mapping) and each.get("type") == ACCEPTED:
            return f"{each.get('status')} {each.get('message', '')}"
    return ""


def _text(condition: Condition) -> str:
    return f"{condition.holds} {condition.message}"
