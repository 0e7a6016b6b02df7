"""Carries out the parts of an attachment: one applier a kind, and the list that orders them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from l3net.attach import rules as cnirules
from l3net.attach.applying import Applier, Place
from l3net.attach.rules import Rules
from l3net.attach.undoing import Undoing
from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.parts import (
    Bridge,
    Elements,
    Guard,
    Pins,
    Policed,
    Sandbox,
    Unguard,
    Unpin,
    Unpoliced,
    Unwire,
)
from l3net.cni.result import Result
from l3net.errors import KernelError
from l3net.shell.kernel.bridge import KernelBridge

if TYPE_CHECKING:
    from l3net.attach.guard import Guard as PortGuard
    from l3net.attach.reaper import Reaper
    from l3net.attach.removal import Removal
    from l3net.ports import Admission

#: Seconds that ADD waits for the agent to say whether a pod's policies are in force; the agent's limit is
#: shorter.
ADMISSION_PATIENCE: Final = 8.0


def appliers(
    reaper: Reaper | Removal | None,
    admission: Callable[[], Admission | None],
    guard: PortGuard | None = None,
    rules: Rules = cnirules,
) -> Sequence[Applier]:
    """Of an attachment's parts, in the order in which they are made: a port is guarded before it is there."""
    return (
        BridgeApplier(),
        PoliciesApplier(admission),
        GuardApplier(guard),
        SandboxApplier(reaper),
        PinsApplier(),
        ElementsApplier(rules),
    )


class BridgeApplier:
    """Makes the bridge of a network without an agent."""

    of: ClassVar = Bridge

    def apply(self, part: Bridge, place: Place) -> None:
        del place
        bridge = KernelBridge()
        try:
            bridge.ensure(part.plan, force_address=part.force_address, promiscuous=part.promiscuous)
        finally:
            bridge.close()

    def undo(self, undo: object, place: Place) -> None:
        """It stays."""

    def missing(self, part: Bridge, place: Place, previous: Result) -> list[str]:
        """A bridge that is gone is told by its port."""
        del part, place, previous
        return []


class GuardApplier:
    """Guards ports. Without a guard, as where no agent is, there is none."""

    of: ClassVar = Guard

    def __init__(self, guard: PortGuard | None) -> None:
        self._guard = guard

    def apply(self, part: Guard, place: Place) -> None:
        del place
        if self._guard is None:
            return
        try:
            self._guard.put(part.port)
        except KernelError as err:
            raise CniError(failure.KERNEL_REFUSED, f"cannot guard {part.port.name}", str(err)) from err

    def undo(self, undo: Unguard, place: Place) -> None:
        if self._guard is None:
            return
        if place.later:  # the link is stopped, and waits to be deleted
            self._guard.close_port(undo.host_ifname)
        else:
            self._guard.forget(undo.host_ifname)

    def missing(self, part: Guard, place: Place, previous: Result) -> list[str]:
        """Nothing to complain about of a pod of an older release of which too little is known: the status
        names it."""
        del place, previous
        if self._guard is None or part.port.name in self._guard.unguarded:
            return []
        return self._guard.missing(part.port)


class SandboxApplier:
    """Wires pods. With a reaper, links are deleted in batches where that may be; without, at once."""

    of: ClassVar = Sandbox

    def __init__(self, reaper: Reaper | Removal | None) -> None:
        self._reaper = reaper

    def apply(self, part: Sandbox, place: Place) -> None:
        sandboxes = place.sandboxes()
        try:
            place.wired = sandboxes.wire(part, place.netns)
        except CniError as err:
            # the name may belong to an attachment just deleted, whose link waits for its batch
            if err.code != failure.ALREADY_ATTACHED or self._reaper is None:
                raise
            self._reaper.flush()
            place.wired = sandboxes.wire(part, place.netns)

    def undo(self, undo: Unwire, place: Place) -> None:
        sandboxes = place.sandboxes()
        if place.later and self._reaper is not None:
            self._reaper.doom(sandboxes.host, undo.host_ifname)
        else:
            sandboxes.unwire(undo.host_ifname)

    def missing(self, part: Sandbox, place: Place, previous: Result) -> list[str]:
        from l3net.cni.check import problems  # noqa: PLC0415 - of CHECK alone

        sandboxes = place.sandboxes()
        port, pod = sandboxes.look_port(part.host_ifname), sandboxes.look(place.netns, part.key.ifname)
        return problems(part, previous, port, pod)


class PinsApplier:
    """Pins a wired pod's MAC and addresses."""

    of: ClassVar = Pins

    def apply(self, part: Pins, place: Place) -> None:
        if place.wired is None:
            raise KernelError(f"pin {part.mac}", errno.ENODEV)
        try:
            place.sandboxes().pin(part, place.wired.host)
        except KernelError as err:
            self.undo(part.undo, place)
            raise CniError(failure.KERNEL_REFUSED, f"cannot set up {place.key.ifname}", str(err)) from err

    def undo(self, undo: Unpin, place: Place) -> None:
        place.sandboxes().unpin(undo.bridge, undo.addresses)

    def missing(self, part: Pins, place: Place, previous: Result) -> list[str]:
        """Nothing to complain about: a pod of an older release has none, and the agent puts them back."""
        del part, place, previous
        return []


class PoliciesApplier:
    """Has the policies for a pod in force before it is wired, where somebody enforces any."""

    of: ClassVar = Policed

    def __init__(self, admission: Callable[[], Admission | None]) -> None:
        self._admission = admission

    def apply(self, part: Policed, place: Place) -> None:
        if (admission := self._admission()) is None:
            return
        from concurrent.futures import CancelledError  # noqa: PLC0415 - where an agent runs

        from l3net.attach.admitting import attached, attachment  # noqa: PLC0415

        key = attachment(part.key)
        waiting = admission.admit(
            key, attached(part.key, part.pod, part.addresses, part.labels, part.mac), part.pod.uid
        )
        if waiting is None:
            return
        try:
            why = waiting.result(ADMISSION_PATIENCE)
        except (TimeoutError, CancelledError):
            why = "the agent did not come to the pod's policies in time"
        if why:
            admission.release(key)
            raise CniError(failure.TRY_AGAIN_LATER, why, "see `l3net status`")

    def undo(self, undo: Unpoliced, place: Place) -> None:
        if (admission := self._admission()) is not None:
            from l3net.attach.admitting import attachment  # noqa: PLC0415

            admission.release(attachment(undo.key))

    def missing(self, part: Policed, place: Place, previous: Result) -> list[str]:
        """What is in force is the agent's to keep."""
        del part, place, previous
        return []


class ElementsApplier:
    """Records what the firewall must know of an attachment, then puts it."""

    of: ClassVar = Elements

    def __init__(self, rules: Rules = cnirules) -> None:
        self._rules = rules

    def apply(self, part: Elements, place: Place) -> None:
        with Undoing() as undoing:
            place.store.keep_record(place.key, part.extras.encode())
            undoing.did("record", lambda: place.store.drop_record(place.key))
            try:
                self._rules.put(part.extras)
            except KernelError:  # the elements are there, what goes with them is not
                self._rules.delete(part.extras)
                raise

    def undo(self, undo: Elements, place: Place) -> None:
        self._rules.delete(undo.extras)
        place.store.drop_record(place.key)

    def missing(self, part: Elements, place: Place, previous: Result) -> list[str]:
        del place, previous
        return [f"rule {rule} is missing" for rule in self._rules.missing(part.extras)]
