"""Says of policies what `policy.complaints` finds, once it has been so for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from l3net.controller.declared import Declared
from l3net.ipam.findings import Contradiction
from l3net.policy.complaints import complaints

#: Seconds for which something must have been so: pods are made after their policies, and replaced one by one.
GRACE: Final = 60.0
#: Seconds between two looks at all policies and pods.
EVERY: Final = 20.0


class Complaining:
    """`clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[Contradiction, float] = {}
        self._looked: float | None = None

    def standing(self, declared: Declared) -> tuple[Contradiction, ...]:
        """Those that have been so for long enough."""
        now = self._clock()
        if self._looked is None or now - self._looked >= EVERY:
            self._looked = now
            policies = (*declared.policies.values(), *declared.cluster_policies.values())
            found = complaints(policies, declared.pods.values(), declared.namespaces) if policies else ()
            self._since = {each: self._since.get(each, now) for each in found}
        return tuple(each for each, since in self._since.items() if now - since >= GRACE)
