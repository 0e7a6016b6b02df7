"""What must come about in time once faults are over, and whether anything is still to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster_views import View, blocks_of, fact_of, ingress_of
from sim_etcd import Change

from l3net.model import Kind

if TYPE_CHECKING:
    from cluster_laws import Laws

#: Seconds after a short fault within which all have what they are to have: another leads, and what failed is
#: tried again, of which the waits double.
SOON = 30.0
DOUBLED = 2.5
#: Seconds after a restore within which who has a connection knows of it, and its versions by which a store
#: must have gone back to be sure that it can be told.
SEEN = 30.0
FAR = 12
#: Seconds without a word after which a watch is believed no longer, with those between two bookmarks; and
#: those in which who was cut off for longer has listed everything when he is so no more.
SILENT = 195.0
BACK = 60.0
#: Steps that are no faults to those who ask the API server, or are over at once.
HARMLESS = frozenset({"compact", "skew", "start"})


class Timely:
    """Of one run. `faults`: names of steps that are any."""

    def __init__(self, laws: Laws, faults: frozenset[str]) -> None:
        self._laws, self._faults = laws, faults - HARMLESS
        self._since = self._until = self._touched = -1e9
        self._struck = self._struck_hard = -1e9
        self._changed: dict[tuple[Any, ...], float] = {}  # by kind, namespace and name

    @property
    def _calm_at(self) -> float:
        """When what came of the last faults is over."""
        return self._until + SOON + DOUBLED * (self._until - self._since)

    @property
    def calm(self) -> bool:
        return self._laws.now > self._calm_at

    def struck(self, what: str, args: tuple[Any, ...]) -> None:
        """A step is taken."""
        if what not in self._faults:
            return
        now = self._laws.now
        lasts = max((each for each in args if isinstance(each, float) and 0 < each <= 300), default=0.0)
        lasts += {"stop": 20.0, "restore": 20.0, "ledger": 30.0}.get(what, 1.0)
        if what == "ledger" and args[0] != "broken":
            return  # which delays nothing
        if now > self._calm_at:
            self._since = now
        self._until, self._struck = max(self._until, now + lasts), now
        if what != "restore":
            self._struck_hard = now
        if what == "apart" and lasts > SILENT and self._calm_before:
            laws = self._laws
            views = [view for view in laws.views.values() if view.client.name == args[0] and view.in_sync]
            laws.world.threads.loop.call_at(now + lasts + BACK, self._look_at_views, views, now, now + lasts)

    def changed(self, kind: str, change: Change, writing: str) -> None:
        """Something is written."""
        self._changed[kind, *change.name] = now = self._laws.now
        came_or_went = change.before is None or change.after is None
        if (kind in ("Service", "IPPool") and not writing) or (kind == "Node" and came_or_went):
            self._touched = now

    def look(self) -> None:
        """Now and then."""
        laws = self._laws
        if laws.now < max(self._calm_at, self._touched + SOON) or not laws.leads():
            return
        families = laws.families()
        for node in laws.objects("Node"):
            missing = families - {int(":" in block) for block in blocks_of(node)}
            if missing and fact_of(node) is not None:
                laws.broken("every node has its blocks in time", node["metadata"]["name"])
        for service in laws.objects("Service"):
            wants = service["spec"].get("type") == "LoadBalancer" and fact_of(service) is not None
            if wants and not ingress_of(service):
                laws.broken("every service has its address in time", service["metadata"]["name"])

    # --- restores ----------------------------------------------------------------------------------------

    def restored(self, versions: int) -> None:
        """The store was put back by so many versions."""
        laws, when = self._laws, self._laws.now
        if versions < FAR or not self._calm_before:
            return
        views = [view for view in laws.views.values() if view.in_sync and view.client.running]
        laws.world.threads.loop.call_at(when + SEEN, self._look_at_views, views, when, when)

    def _look_at_views(self, views: list[View], struck: float, when: float) -> None:
        """Whether these views have all that did not change since `when`, where nothing but restores came
        after `struck`, and none of these after `when`."""
        laws, now = self._laws, self._laws.usable()
        if self._struck_hard > struck or laws.world.restored > when:
            return
        for view in views:
            if laws.views.get(view.client.name) is not view or not view.client.running:
                continue
            for (kind, name), what in laws.untrue(view, now):
                changed = self._changed.get((kind.value, name.namespace, name.name), 0.0)
                if changed < when and kind is not Kind.POD:
                    laws.broken("who has a connection again knows of a restore", what)

    @property
    def _calm_before(self) -> bool:
        """Whether nothing was wrong when the step began that is being taken."""
        return self._since == self._struck

    # --- whether all is over -----------------------------------------------------------------------------

    def at_rest(self) -> bool:
        """Whether all is as it is to be, and nobody waits to do something more."""
        laws, world = self._laws, self._laws.world
        if world.insisting or laws.objects("NetworkPolicy"):  # of which something may be said after a while
            return False
        if not laws.holds():
            return False
        for client in world.clients.values():
            controller: Any = client.controller
            if controller is None or not controller.leading:
                continue
            if controller.problem or controller.writes._entries or client.verdicts._due:  # type: ignore[union-attr]
                return False
        return laws.ledger_names() <= {each["metadata"]["name"] for each in laws.objects("Node")}
