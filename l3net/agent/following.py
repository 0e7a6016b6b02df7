"""Follows the declared state: events of the datastore into facts, and what of them cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from l3net.agent.declared import take
from l3net.faults import Faults
from l3net.model import ClusterState, Kind, ObjectName
from l3net.ports import Changed, Datastore, DatastoreEvent, InSync, Mended, Rejected

log = logging.getLogger("l3net.agent")

#: The part of the agent whose faults are of one object each: named after it, and gone with it.
DECLARED: Final = "declared state"


class Following:
    """`changed` is called with each object after it was put into `state` or taken out of it, `told` with all
    else that a decision may look at: the state is complete, or something rejected is mended."""

    def __init__(
        self,
        datastore: Datastore,
        me: str,
        faults: Faults,
        changed: Callable[[Changed], None],
        told: Callable[[], None],
    ) -> None:
        self._datastore = datastore
        self._me = me
        self._faults = faults
        self._changed, self._told = changed, told
        #: Called with each change before it is taken over.
        self.on_heard: Callable[[Changed], None] = lambda _event: None
        self._known: set[tuple[Kind, ObjectName]] = set()  # declared objects in force
        self._held_for: str | None = None
        self._configured = False  # it is known what the BGPConfiguration says, or that there is none
        self.state = ClusterState()
        self.in_sync = False
        self.rejected: set[Rejected] = set()

    async def run(self) -> None:
        """Begun anew after a fault, it hears of everything again: what it does not hear of is gone."""
        before, self._known = self._known, set()
        try:
            async for event in self._datastore.events():
                try:
                    self._absorb(event)
                except Exception as err:  # of one object, which stays as it was
                    self._faults.note(f"{DECLARED}: {_named(event)}", err, lasting=False)
                else:
                    self._forget_faults(event)
                if isinstance(event, Changed):
                    (self._known.discard if event.fact is None else self._known.add)((event.kind, event.name))
                    before.discard((event.kind, event.name))
                elif isinstance(event, InSync):
                    for kind, name in before:
                        gone = Changed(kind, name, None)
                        self._absorb(gone)
                        self._forget_faults(gone)
                    before.clear()
        finally:
            self._known |= before

    def _forget_faults(self, event: DatastoreEvent) -> None:
        """Those of an object go with it."""
        if isinstance(event, Changed) and event.fact is None:
            self._faults.forget(f"{DECLARED}: {_named(event)}")

    def _absorb(self, event: DatastoreEvent) -> None:
        match event:
            case InSync():
                self.in_sync = True
                sizes = len(self.state.nodes), len(self.state.services)
                log.info("initial sync complete: %d nodes, %d services", *sizes)
                self._told()
            case Rejected():
                log.error("%s", event)
                self.rejected.add(event)
            case Mended(rejected=rejected):
                log.info("resolved: %s", rejected)
                self.rejected.discard(rejected)
                if self._held_for:  # by that, maybe
                    self._told()
            case Changed():
                self.on_heard(event)
                take(self.state, event)
                self._changed(event)

    # --- whether anything can be decided -----------------------------------------------------------------

    def holding(self) -> str:
        """Why nothing can be decided, so that everything stays as it is; empty when it can."""
        if self._me not in self.state.nodes:
            return f"no Node named {self._me} is declared; see --node-name"
        if not self._configured and (hidden := self._hidden_configuration()):
            return (
                f"the BGPConfiguration cannot be read, and there is no earlier version: {hidden}; nothing is "
                "changed until that is mended, since its defaults are another AS number and other policies"
            )
        return ""

    def _hidden_configuration(self) -> str:
        """What a BGPConfiguration that is declared, but not known, stands in."""
        default = Kind.BGP_CONFIGURATION, ObjectName("", "default")
        if default in self._known:
            return ""
        return next((str(each) for each in sorted(self.rejected, key=str) if each.hides(*default)), "")

    def look_whether_to_hold(self) -> bool:
        """Whether everything stays as it is, which is told once."""
        held_for = self.holding()
        if held_for != self._held_for:
            self._held_for = held_for
            if held_for:
                log.error("nothing is changed: %s", held_for)
        self._configured |= not held_for
        return bool(held_for)


def _named(event: DatastoreEvent) -> str:
    return f"{event.kind.value} {event.name}" if isinstance(event, Changed) else type(event).__name__
