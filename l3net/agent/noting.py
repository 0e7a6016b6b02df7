"""Tells what looks at single objects of each that is another now, and has a pass look at the rest."""

from __future__ import annotations

from l3net.agent.allowing import Allowing
from l3net.agent.dirty import Marks
from l3net.agent.egress import KINDS as LEAVING
from l3net.agent.egress import Egress
from l3net.agent.floating import KINDS as FLOATED
from l3net.agent.floating import Floating
from l3net.agent.policing import ALONE, Policing
from l3net.agent.policing import KINDS as POLICED
from l3net.agent.servicing import Servicing
from l3net.model import Kind
from l3net.ports import Changed


class Noting:
    """Of one agent."""

    def __init__(
        self,
        services: Servicing,
        policing: Policing,
        allowing: Allowing,
        floating: Floating,
        egress: Egress,
        marks: Marks,
    ) -> None:
        self._services, self._policing = services, policing
        self._allowing, self._floating, self._egress = allowing, floating, egress
        self._marks = marks

    def heard(self, event: Changed) -> None:
        """An object was put into the declared state, or taken out of it."""
        kind, name, fact = event.kind, event.name, event.fact
        if kind in (Kind.SERVICE, Kind.ENDPOINT_SLICE):
            self._services.note(kind, name, fact)
            self._marks.wake()
            return
        if kind is Kind.NODE:
            self._services.note_node(name.name, fact)
        if kind in POLICED:
            self._policing.note(kind, name, fact)
        if kind in FLOATED:
            self._floating.note(kind, name, fact)
        if kind in LEAVING:
            self._egress.note(kind, name, fact)
        if kind is Kind.POD:
            self._allowing.note(name, fact)
        if kind in ALONE or kind is Kind.FLOATING_IP:
            self._marks.wake()
        else:
            self._marks.look_again()
