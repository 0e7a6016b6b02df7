"""What must hold of a cluster, at every step and at the end. It knows Kubernetes' objects, and nothing of how
l3net decides.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from cluster_case import CONTROLLERS, FAULTS
from cluster_ledger import LedgerLaws
from cluster_timely import Timely
from cluster_views import GRACE, Key, View, blocks_of, fact_of, ingress_of, is_wrong, overlapping
from sim_api import Request
from sim_etcd import Change, Object, place_of
from stepped import Broken

from l3net.errors import L3netError
from l3net.ipam.ledger import Ledger, decode
from l3net.kube.registry import KINDS
from l3net.model import Fact, Kind, ObjectName
from l3net.shell.kubernetes.writer import LEDGER

if TYPE_CHECKING:
    from cluster_world import Client, ClusterWorld

#: Requests of one client in a minute, whatever happens; and while nothing does, its lease's aside.
MOST_REQUESTS = 700
MOST_QUIET = 12
#: An API server may be behind by this many seconds (cluster_case.py).
BEHIND = 110.0
#: Seconds for which a kind that is not known may be one that is not known yet.
UNSURE = 59.0
#: Seconds that one must have been cut off for it to be sure that he noticed (freshness.SAYS, a probe).
BLIND = 90.0
#: Seconds in which a controller has read the lease for sure, and for which one leads by a lease that is gone.
KNOWS = 5.0
UNLED = 25.0
#: Threads of one process.
MOST_THREADS = 60
#: What is followed by need, so that objects may leave a view without being gone.
BY_NEED = frozenset({Kind.POD, Kind.SECRET})
KINDS_BY_NAME = frozenset(each.value for each in Kind)


class Laws:
    """Hears of every change and request of a world."""

    def __init__(self) -> None:
        self.found: list[Broken] = []
        self.views: dict[str, View] = {}
        self.hot = False
        self.quiet_since: float | None = None
        self._gone: dict[Key, float] = {}  # when an object ceased to be, or to be usable, last
        self.made: dict[tuple[str, str], float] = {}  # by kind and name: when, last
        self.ledger = LedgerLaws(self)
        self.timely = Timely(self, FAULTS)
        self._left: dict[str, tuple[float, set[str]]] = {}  # nodes: when they went, and their blocks
        self._promised: dict[str, tuple[float, set[str]]] = {}
        self._minutes: Counter[tuple[str, int]] = Counter()
        self._quiet: Counter[tuple[str, str, str]] = Counter()
        self._said: set[str] = set()

    def follow(self, world: ClusterWorld) -> None:
        self.world = world
        self.began = world.now
        world.etcd.hears.append(self._changed)
        world.api.hears.append(self._asked)

    @property
    def now(self) -> float:
        return self.world.now

    def broken(self, law: str, what: str) -> None:
        if (key := f"{law} {what}") not in self._said:
            self._said.add(key)
            self.found.append(Broken(law, round(self.now - self.began, 3), what))

    def watch(self, client: Client) -> View:
        view = self.views[client.name] = View(self, client)
        return view

    # --- at every change ---------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        before, after = (each and each.document for each in (change.before, change.after))
        kind = (before or after or {})["kind"]
        self.timely.changed(kind, change, self.world.api.writing)
        if kind in KINDS_BY_NAME:
            key = Kind(kind), ObjectName(change.name[0], change.name[1])
            if before is not None and (after is None or fact_of(after) is None):
                self._gone[key] = self.now
        if after is None:
            if kind == "Node" and before is not None and blocks_of(before):
                name = change.name[1]
                self._left[name] = self.now, set(blocks_of(before))
                self._promised.pop(name, None)
            return
        if before is None:
            self.made[kind, change.name[1]] = self.now
        if kind == "Node":
            self._back(before, after)
            self._node(before, after)
        elif kind == "Service":
            self._service(after)
        elif kind == "ConfigMap" and change.name[1] == LEDGER and self.world.api.writing:
            self.ledger.wrote(change)
        elif kind == "Event":
            self._event(change)
        if self.quiet_since is not None and kind not in ("Lease",) and self.world.api.writing:
            self.broken("quiet", f"{self.world.api.writing} writes {kind} {change.name[1]}")

    def _node(self, before: Object | None, after: Object) -> None:
        held, name = blocks_of(after), after["metadata"]["name"]
        if before is not None and set(blocks_of(before)) - set(held):
            self.broken("a node keeps its blocks", f"{name} had {blocks_of(before)} and has {held}")
        if before is not None and held == blocks_of(before):
            return
        for other in self.objects("Node"):
            if other["metadata"]["name"] != name:
                for block in blocks_of(other):
                    for mine in held:
                        if overlapping(block, mine):
                            self.broken(
                                "no block has two nodes", f"{mine} of {name}, {other['metadata']['name']}"
                            )

    def _back(self, before: Object | None, after: Object) -> None:
        """A node that comes back within the grace time has what it had."""
        name, held = after["metadata"]["name"], set(blocks_of(after))
        if before is None and name in self._left:
            went, had = self._left.pop(name)
            if self.now - went < 0.7 * GRACE:
                self._promised[name] = went, had
        elif name in self._promised and held:
            went, had = self._promised.pop(name)
            if max(self.world.edited, self.world.restored) < went - 200 and not (held <= had or had <= held):
                self.broken(
                    "a node that comes back has its blocks", f"{name} had {sorted(had)}, has {sorted(held)}"
                )

    def _service(self, after: Object) -> None:
        mine = set(ingress_of(after)) if self.world.api.writing else set()
        for other in self.objects("Service") if mine else ():
            if other["metadata"]["name"] != after["metadata"]["name"] and mine & set(ingress_of(other)):
                names = sorted([after["metadata"]["name"], other["metadata"]["name"]])
                self.broken("no address has two services", f"{mine & set(ingress_of(other))} of {names}")

    def _event(self, change: Change) -> None:
        assert change.after is not None
        if change.before is None:
            new = _said(change.after.document)
            found = [each for each in self.objects("Event") if _said(each) == new]
            if len(found) > 1:
                self.broken("an Event is one, however often", f"{new}")

    # --- at every request --------------------------------------------------------------------------------

    def _asked(self, request: Request) -> None:
        minute = int((self.now - self.began) / 60)
        self._minutes[request.client, minute] += 1
        count = self._minutes[request.client, minute]
        if count > MOST_REQUESTS:
            self.broken("no hot loop", f"{request.client} asks more than {MOST_REQUESTS} times a minute")
            self.hot = self.hot or count > 3 * MOST_REQUESTS
        self.ledger.asked(request)
        leads = self.leads()
        if len(leads) > 1 and not self._may_not_know():
            self.broken("one leader", f"{leads} lead")
        lease = "/leases" in request.target
        writes = request.method != "GET" and not lease
        if writes and request.client in CONTROLLERS and request.client not in leads:
            self.broken("who writes leads", f"{request.client} {request.method} {request.target}")
        if self.quiet_since is not None and not lease:
            path = request.target.partition("?")[0]
            self._quiet[request.client, request.method, path] += 1

    def _may_not_know(self) -> bool:
        """Whether a controller never saw the lease that was deleted or put back, by which another leads."""
        back = self.world.lease_back
        fresh = any(self.world.clients[name].started > back - KNOWS for name in CONTROLLERS)
        return fresh and back < self.now < back + UNLED

    # --- of views ----------------------------------------------------------------------------------------

    def objects(self, kind: str) -> list[Object]:
        return [found.document for found in self.world.etcd.objects[place_of(kind)].values()]

    def usable(self) -> dict[Key, Fact]:
        """Every object there is that can be used."""
        found: dict[Key, Fact] = {}
        for kind in KINDS:
            for document in self.objects(kind.value):
                fact = fact_of(document)
                if fact is not None:
                    metadata = document["metadata"]
                    found[kind, ObjectName(metadata.get("namespace") or "", metadata["name"])] = fact
        return found

    def restored(self, before: dict[Key, Fact]) -> None:
        for key in before.keys() - self.usable().keys():
            self._gone[key] = self.now
        for name, (since, until) in self.world.apart_for.items():
            if since <= self.now < until < since + BLIND and name in self.views:
                self.views[name].blind = True

    def judge_gone(self, view: View, key: Key) -> None:
        kind, name = key
        own = view.client.name not in CONTROLLERS
        if kind in BY_NEED or (own and kind is Kind.NODE) or self._undefined(kind, UNSURE):
            return
        there = self.world.etcd.get(kind.value, name.name, name.namespace)
        same = self.made.get((kind.value, name.name), 0.0) < view.told[key] and not self.world.restored
        if there is not None and is_wrong(there) and same:
            what = f"{view.client.name} is told that {kind.value} {name} is gone"
            self.broken("the last good version stays in force", what)
        if key in self.usable() and self._gone.get(key, -1e9) < view.told[key] - BEHIND:
            self.broken(
                "nothing goes that is there", f"{view.client.name} is told that {kind.value} {name} is gone"
            )

    def _undefined(self, kind: Kind, seconds: float) -> bool:
        """Whether the kind is or was not known, first so many seconds ago."""
        faults, plural = self.world.faults.refusals, KINDS[kind].plural
        return any(
            each.code == 404 and each.plural == plural and each.began <= self.now - seconds for each in faults
        )

    def judge_policy(self, view: View, name: ObjectName) -> None:
        """The first that it is told of: by now it knows the Pods that there were before, of which the policy
        may speak."""
        since = max(self.made.get((Kind.NETWORK_POLICY.value, name.name), 0.0), view.began)
        if view.client.name in CONTROLLERS or self.world.restored:
            return
        for key in self.usable():
            made = self.made.get((key[0].value, key[1].name), 0.0)
            if (
                key[0] is Kind.POD
                and made < since
                and self._gone.get(key, 0.0) < since
                and key not in view.facts
            ):
                self.broken(
                    "a policy is told once all Pods are known", f"{view.client.name}: {name}, {key[1]}"
                )

    def judge_sync(self, view: View) -> None:
        """All of it that there was when it began, and still is, has been told."""
        now = self.usable()
        for key in view.first:
            kind, name = key
            if kind not in view.kinds or kind in BY_NEED or self._undefined(kind, 0.0):
                continue
            if kind is Kind.NODE and view.client.name not in CONTROLLERS:
                continue
            if key in now and self._gone.get(key, -1e9) < view.began - BEHIND and key not in view.facts:
                self.broken("in sync", f"{view.client.name} is in sync without {kind.value} {name}")

    # --- now and then, and at the end --------------------------------------------------------------------

    def look(self) -> None:
        """At what must be bounded, and what must be there by now."""
        self.timely.look()
        objects = sum(map(len, self.world.etcd.objects.values()))
        for client in self.world.clients.values():
            if client.process is None or not client.running:
                continue
            if len(client.process.alive) > MOST_THREADS:
                self.broken("bounded", f"{client.name} has more than {MOST_THREADS} threads")
            feeds: Any = getattr(client.store, "_feeds", None)
            waiting = len(feeds._inbox._waiting) if feeds is not None else 0
            if waiting > 4 * objects + 50:
                self.broken("bounded", f"{client.name} has {waiting} events that nobody takes")
            controller: Any = client.controller
            if controller is not None and len(controller.writes._entries) > 4 * objects + 50:
                self.broken("bounded", f"{client.name} has {len(controller.writes._entries)} writes")

    def end(self) -> None:
        """Long after the last fault."""
        now = self.usable()
        for view in self.views.values():
            self._view_is_true(view, now)
        leads = self.leads()
        if any(self.world.clients[name].running for name in CONTROLLERS) and len(leads) != 1:
            self.broken("one leads in the end", str(leads))
        if leads:
            self._all_have(now)
            self._all_is_said(now)
        for (client, method, path), count in self._quiet.items():
            if count > MOST_QUIET or method != "GET":
                self.broken("quiet", f"{client} {method} {path} {count} times")

    def holds(self) -> bool:
        """Whether all is as it has to be in the end."""
        kept = self.found, self._said
        self.found, self._said = [], set()
        try:
            self.end()
            return not self.found
        finally:
            self.found, self._said = kept

    def leads(self) -> list[str]:
        """Who believes to lead."""
        found = ((name, self.world.clients[name].controller) for name in CONTROLLERS)
        return [name for name, controller in found if controller is not None and controller.leading]

    def true_views(self) -> bool:
        now = self.usable()
        return not any(
            self.untrue(view, now) for view in self.views.values() if view.client.running and not view.blind
        )

    def _view_is_true(self, view: View, now: dict[Key, Fact]) -> None:
        client = view.client
        if not client.running:
            return
        if not view.in_sync:
            self.broken("in sync in the end", client.name)
        for _, what in self.untrue(view, now) if not view.blind else ():
            self.broken("a view is true in the end", what)

    def untrue(self, view: View, now: dict[Key, Fact]) -> list[tuple[Key, str]]:
        """What a view has otherwise than it is, and in words."""
        client, found = view.client, list[tuple[Key, str]]()
        wanted = {
            key: fact
            for key, fact in now.items()
            if (key[0] in view.kinds or (key[0] is Kind.NODE and client.name in CONTROLLERS))
            and key[0] not in BY_NEED
        }
        if client.name not in CONTROLLERS:
            wanted.pop((Kind.NODE, ObjectName("", client.name)), None)
        if client.name in CONTROLLERS or any(key[0] is Kind.NETWORK_POLICY for key in now):
            pods = client.name not in CONTROLLERS or any(key[0] is Kind.NETWORK_POLICY for key in now)
            wanted |= {key: fact for key, fact in now.items() if key[0] is Kind.POD and pods}
        unusable = {
            key for key in view.facts if key not in now and self._there(key)
        }  # the last good version stays
        seen = {
            key: fact
            for key, fact in view.facts.items()
            if key not in unusable and (key in wanted or key[0] not in (*BY_NEED, Kind.NODE))
        }
        for key in sorted(wanted.keys() | seen.keys(), key=str):
            if wanted.get(key) != seen.get(key):
                kind, name = key
                what = "not" if key not in seen else "still" if key not in wanted else "in another state"
                found.append((key, f"{client.name} knows {kind.value} {name} {what}"))
        return found

    def _all_is_said(self, now: dict[Key, Fact]) -> None:
        """Statuses and conditions."""
        for kind in ("IPPool", "BGPPeer", "BGPConfiguration"):
            for found in self.objects(kind):
                status = found.get("status") or {}
                said = {each["type"]: each for each in status.get("conditions") or ()}
                name, usable = found["metadata"]["name"], fact_of(found) is not None
                accepted = said.get("Accepted", {"status": "True"})["status"] == "True"
                if accepted != usable:
                    self.broken("authors are told", f"{kind} {name}: usable {usable}, {said.get('Accepted')}")
                if kind == "IPPool" and usable and "Ready" not in said:
                    self.broken("authors are told", f"{kind} {name} has no condition Ready")
        nodes = {found["metadata"]["name"] for found in self.objects("Node")}
        for found in self.objects("BGPPeer"):
            peer = found["metadata"]["name"]
            listed = (found.get("status") or {}).get("sessions") or ()
            if {each["node"] for each in listed} - nodes and fact_of(found) is not None:
                self.broken("no sessions of nodes that are gone", f"{peer}: {listed}")
            states = {each["node"]: each["state"] == "Established" for each in listed}
            for (of, node), (up, when) in self.world.reported.items():
                since = max(
                    self.world.restored + 200,
                    self.made.get(("Node", node), 0),
                    self.made.get(("BGPPeer", peer), 0),
                )
                if of == peer and when > since and node in nodes and states.get(node) is not up:
                    self.broken(
                        "sessions are as reported", f"{peer}, {node}: {states.get(node)} and not {up}"
                    )

    def _there(self, key: Key) -> bool:
        return self.world.etcd.get(key[0].value, key[1].name, key[1].namespace) is not None

    def families(self) -> set[int]:
        """Of which there are pools for pods; 1: IPv6."""
        pools = [found["spec"] for found in self.objects("IPPool") if fact_of(found) is not None]
        return {
            int(":" in spec["cidr"]) for spec in pools if "LoadBalancer" not in spec.get("allowedUses", ())
        }

    def _ledger(self) -> Ledger:
        found = self.world.etcd.get("ConfigMap", LEDGER, "kube-system")
        try:
            return decode((found or {}).get("data") or {})
        except L3netError:
            return Ledger()

    def ledger_names(self) -> set[str]:
        """Nodes that have something by it."""
        return set(self._ledger().blocks)

    def _all_have(self, now: dict[Key, Fact]) -> None:
        families, ledger = self.families(), self._ledger()
        for node in self.objects("Node"):
            name, held = node["metadata"]["name"], blocks_of(node)
            missing = families - {int(":" in block) for block in held}
            if missing and fact_of(node) is not None:
                self.broken("every node has its blocks", f"{name} has {held}")
            if set(map(str, ledger.blocks.get(name, ()))) != set(held) and fact_of(node) is not None:
                self.broken("the ledger says what nodes carry", f"{name}: {ledger.blocks.get(name)}, {held}")
        for service in self.objects("Service"):
            if service["spec"].get("type") == "LoadBalancer" and fact_of(service) is not None:
                if not ingress_of(service):
                    self.broken("every service has its address", service["metadata"]["name"])
                held_addresses = {
                    str(each)
                    for each in ledger.addresses.get(ObjectName("default", service["metadata"]["name"]), ())
                }
                if {str(ip_address(each)) for each in ingress_of(service)} != held_addresses:
                    self.broken("the ledger says what services have", service["metadata"]["name"])


def _said(event: Object) -> tuple[str, str, str, str, str]:
    about = event["involvedObject"]
    return about["kind"], about["name"], about.get("uid", ""), event["reason"], event["message"]
