"""The declared state of a world, which each node hears of in its own time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from random import Random
from typing import Any

from sim_node import SimDatastore

from l3net.kube.translate import translate
from l3net.ports import Changed, DatastoreEvent


class View(SimDatastore):
    """What one node hears: each change up to `lag` seconds late, and nothing while it is `cut` off.

    `doubled`: events come twice, and old ones again between them.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.lag = 0.0
        self.cut = False
        self.doubled = False
        self._random = Random(seed)
        self._late: deque[Changed] = deque()
        self._last = 0.0  # when what was said before is heard

    async def events(self) -> AsyncIterator[DatastoreEvent]:
        """Who begins while it is cut off is answered some lists, and none of the rest until it is not."""
        if self.cut:
            kinds = sorted({kind for kind, _ in self.objects}, key=str)
            answered = self._random.sample(kinds, self._random.randint(0, len(kinds) - 1))
            told = [event for (kind, _), event in self.objects.items() if kind in answered]
            for event in told:
                yield event
            while self.cut:  # noqa: ASYNC110 - as long as a test says
                await asyncio.sleep(0.1)
            for event in told:
                if (event.kind, event.name) not in self.objects:
                    yield Changed(event.kind, event.name, None)
        async for event in super().events():
            yield event

    def hear(self, event: Changed) -> None:
        """The API server tells everybody."""
        if self.cut:
            return
        now = asyncio.get_running_loop().time()
        self._last = max(self._last, now + self._random.uniform(0, self.lag))
        if self._last <= now and not self._late:
            self._takes(event)
        else:
            self._late.append(event)  # timers of one instant have no order
            asyncio.get_running_loop().call_at(self._last, lambda: self._takes(self._late.popleft()))

    def _takes(self, event: Changed) -> None:
        if self.cut:
            return
        before = self.objects.get((event.kind, event.name))
        self._put(event)
        if self.doubled:
            if before is not None and event.fact is not None:
                self._put(before)
                self._put(event)
            self._put(event)

    def cut_off(self) -> None:
        """No API server can be reached."""
        self.cut = self.away = True

    def back(self, objects: Mapping[Any, Changed]) -> None:
        """It can be: a list says what has changed since."""
        self.cut = self.away = False
        for key in list(self.objects):
            if key not in objects:
                self._put(Changed(*key, None))
        for key, event in objects.items():
            if self.objects.get(key) != event:
                self._put(event)


class Declared:
    """All objects as the API server has them."""

    def __init__(self) -> None:
        self.objects: dict[Any, Changed] = {}
        self.views: list[View] = []

    def apply(self, *documents: Mapping[str, Any]) -> None:
        for document in documents:
            found = translate(document)
            assert found is not None
            self._tell(Changed(*found))

    def delete(self, document: Mapping[str, Any]) -> None:
        found = translate(document)
        assert found is not None
        self._tell(Changed(found[0], found[1], None))

    def _tell(self, event: Changed) -> None:
        key = event.kind, event.name
        if event.fact is None:
            if self.objects.pop(key, None) is None:
                return
        elif self.objects.get(key) == event:
            return
        else:
            self.objects[key] = event
        for view in self.views:
            view.hear(event)
