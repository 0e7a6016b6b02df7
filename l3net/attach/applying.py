"""Applies a plan part by part, asks each part what is missing, and takes what is left of one away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from l3net.attach.timing import Timings, phase_of
from l3net.attach.undoing import Undoing
from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.parts import Held, Part
from l3net.cni.plan import order_of_removal
from l3net.cni.result import Result
from l3net.ipam.lease import LeaseKey, LeaseStore
from l3net.late import logger
from l3net.shell.kernel.links import KernelLink
from l3net.shell.kernel.sandbox import Sandboxes, Wired

log = logger(__name__)


@dataclass(slots=True)
class Place:
    """Where a plan is applied. `sandboxes` opens a thread's sockets when they are first needed.

    `netns` is the pod's namespace, open; -1 where it is not needed. `later`: a link may wait for a batch of
    others to be deleted. `wired` is what came out of wiring.
    """

    key: LeaseKey
    store: LeaseStore
    sandboxes: Callable[[], Sandboxes]
    netns: int = -1
    later: bool = False
    wired: Wired | None = None

    def ends(self, bridge: str) -> tuple[KernelLink, KernelLink, KernelLink]:
        """The bridge, the host end and the pod's end, as they are after wiring. Raises CniError."""
        if self.wired is None:
            raise CniError(failure.INTERNAL, f"{self.key.ifname} is not wired")
        return self.sandboxes().bridge_link(bridge), self.wired.host, self.wired.pod


class Applier(Protocol):
    """Carries out one kind of part. Each of its verbs raises L3netError."""

    @property
    def of(self) -> type[Part]:
        """The kind of part."""
        ...

    def apply(self, part: Any, place: Place) -> None:
        """Make it; on an error nothing of it is left."""
        ...

    def undo(self, undo: Any, place: Place) -> None:
        """Take it away; already gone is success."""
        ...

    def missing(self, part: Any, place: Place, previous: Result) -> list[str]:
        """What is not as it was made, in words. `previous` is what the runtime knows of the attachment."""
        ...


class Appliers:
    """The appliers in the order in which their parts are made. `clock` gives monotonic seconds."""

    def __init__(self, appliers: Sequence[Applier], clock: Callable[[], float]) -> None:
        self.kinds = tuple(each.of for each in appliers)
        self._of = {each.of: each for each in appliers}
        self._phases = {kind: phase_of(kind) for kind in self.kinds}
        self._removal = order_of_removal(self.kinds)
        self.timings = Timings(clock, self._phases.values())

    def apply(self, parts: Sequence[Part], place: Place, undoing: Undoing) -> None:
        """Make the parts in order, each to be undone if what follows in the block fails."""
        for part in parts:
            kind = type(part)
            applier = self._of[kind]
            with self.timings.timed(self._phases[kind]):
                applier.apply(part, place)
            undoing.did(kind.__name__, partial(self._undo, applier, part, place))

    @staticmethod
    def _undo(applier: Applier, part: Part, place: Place) -> None:
        undo = part.undo
        if undo is not None:
            applier.undo(undo, place)

    def missing(self, parts: Sequence[Part], place: Place, previous: Result) -> list[str]:
        """What each part lacks, in order."""
        return [problem for part in parts for problem in self._of[type(part)].missing(part, place, previous)]

    def remove(self, held: Held, place: Place) -> None:
        """Undo whatever is there of an attachment. Raises the first error, when all was tried.

        Only while its traffic cannot be stopped everything else stays as it is.
        """
        first: Exception | None = None
        for kind in self._removal:
            try:
                undo = kind.left(held)
                if undo is not None:
                    self._of[kind].undo(undo, place)
            except Exception as err:
                if kind.stops_traffic:
                    raise
                if first is not None:
                    log.warning("%s: %s", kind.__name__, err)
                first = first or err
        if first is not None:
            raise first
