"""A world as a case says it: nodes, routers and what is declared, and what is true of it when all is well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

from sim_node import configuration, document, endpoints, node, peer, service
from sim_policies import pod as pod_document
from sim_policies import policy

from l3net.model import Address, ObjectName, Prefix
from l3net.naming import BRIDGE, METRIC_BGP
from l3net.policy.attached import Attached
from world.case import Shape
from world.declared import Declared
from world.fabric import Fabric, Segment
from world.nodes import WorldNode
from world.nodeside import NodeSide
from world.routers import Router, RouterSide
from world.sessions import End, Path, Session

CLUSTER_AS = 64512
#: Pods of which app are reached by those of which other alone, where there are policies.
GUARDED, LET_IN = "a0", "a1"
POD_PORT = 8080
OUTSIDE = ("203.0.113.0/24", "2001:db8::/48")
OUTSIDE_ADDRESSES = tuple(map(ip_address, ("203.0.113.9", "2001:db8::9")))
#: Seconds until what somebody takes away is back.
BACK = 3.0
#: Seconds in which an agent has followed what it has heard.
KNOWN = 1.0
SERVICE_RANGES = ("10.96.0.0/16", "fd96::/112")


class World:
    """`broken` collects what nobody foresaw."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape = shape
        self.random = Random(seed)
        self.declared = Declared()
        self.fabric = Fabric(lambda name: name in self.nodes and self.nodes[name].power)
        self.nodes: dict[str, WorldNode] = {}
        self.services: dict[Address, str] = {}
        self.members: dict[str, list[str]] = {}  # of services: names of pods
        self.local: set[str] = set()  # services with internalTrafficPolicy Local
        self.pods: dict[str, tuple[str, tuple[Address, ...]]] = {}  # name to node and addresses
        self.apps: dict[str, str] = {}
        self.heirs: dict[
            str, float
        ] = {}  # pods whose address was another's, and since when they are declared
        self._had: set[Address] = set()  # that a pod has had
        self.ending: set[str] = set()  # pods that are being deleted
        self.gone: set[str] = set()  # services that were deleted
        self._pods_made = 0
        self._taken: set[Address] = set()
        self._gateways: dict[str, tuple[str, str]] = {}  # by segment
        self._segments: dict[tuple[str, str], Segment] = {}
        self.cordoned: set[str] = set()
        self.unready: set[str] = set()
        self.left: dict[str, float] = {}  # by node, since when it is told to leave
        self.options: dict[str, Any] = {}  # of the configuration, for a while
        self.reflects = shape.reflectors  # whether nodes may hear of one another by reflectors alone
        self.policed = shape.policies  # whether the policy is declared, and all may be held to it
        self.without_links: set[str] = set()  # nodes whose link was down once: it takes others' routes along
        self.complain: Callable[[str, str], None] = lambda _law, _what: None
        self.wired: Callable[[str], None] = lambda _pod: None  # called with each pod that comes
        self.flushed: Callable[[WorldNode], None] = lambda _node: None  # with each whose table is gone
        self.going: set[Address] = set()  # of services that go now, while all else is well
        self.odd: set[str] = set()  # objects that are there for a while, or not
        self.since = 0.0  # when what forwards, or what is declared, changed last
        self.disturbed = 0  # how often it has
        #: Nodes that cannot follow: whether something has changed since. How much of that is steady.
        self._impaired: dict[str, list[bool]] = {}
        self._steady: dict[str, int] = {}
        self._build()

    # --- what is held against nobody ---------------------------------------------------------------------

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def disturb(self, longer: float = 0.0) -> None:
        """What forwards, or what is declared, changes now. All may take `longer` to follow, in seconds."""
        self.since = max(self.since, self.now() + longer)
        self.disturbed += 1
        for each in self._impaired.values():
            each[:] = [True] * len(each)

    @contextlib.contextmanager
    def impaired(
        self, one: WorldNode | Router, *, disturbs: bool = False, steady: bool = False
    ) -> Iterator[None]:
        """Around what keeps one from following changes. What it has stays, unless this `disturbs`; if it is
        `steady`, not a word of it changes."""
        marks = self._impaired.setdefault(one.name, [])
        self._steady[one.name] = self._steady.get(one.name, 0) + steady
        unsettled = self.now() - self.since < self.shape.hold + 12  # it has not followed all that was before
        marks.append(disturbs or unsettled)
        if disturbs:
            self.disturb()
        try:
            yield
        finally:
            self._steady[one.name] -= steady
            if marks.pop():
                self.since = max(self.since, self.now())
                marks[:] = [True] * len(marks)

    def hindered(self, one: WorldNode | Router, beside: int = 0) -> bool:
        """Whether something keeps a node from following; `beside` so many that the asker knows of."""
        return len(self._impaired.get(one.name, ())) > beside

    def unsteady(self, one: WorldNode) -> bool:
        """Whether something may change what a node has and says."""
        return self.hindered(one, self._steady.get(one.name, 0))

    def keeps(self, node: WorldNode, beside: int = 0, *, of_nodes: bool = True) -> Callable[[], None]:
        """What a node has learned is there, and what routers have of it; what this returns complains if it is
        not any more, and nothing else has happened meanwhile. `beside`: as in `hindered`, of now. Without
        `of_nodes` what other nodes say does not count."""
        before, disturbed = set(node.kernel.ours), self.disturbed
        others = {block for each in self.nodes.values() if each is not node for block in each.blocks}
        if not of_nodes:
            before = {key for key in before if str(key[0]) not in others}
        well = node.running and self.able and not self.hindered(node, beside)
        of_it = [
            (side, prefix)
            for side in self.router_sides(node)
            for prefix in side.learned
            if not self.hindered(side.router)
        ]

        def look() -> None:
            missing = [str(key[0]) for key in before - set(node.kernel.ours)]
            missing += [
                f"{prefix} at {side.name}"
                for side, prefix in of_it
                if prefix not in side.learned and not self.hindered(side.router) and side.router.running
            ]
            as_before = disturbed == self.disturbed and node.running and node.power
            if missing and well and as_before and not self.hindered(node, beside=max(1, beside)):
                what = f"{node.name} has lost {', '.join(sorted(missing))}"
                self.complain("what nothing is known against stays", what)

        return look

    def back_soon(self, node: WorldNode, missing: Callable[[], str]) -> None:
        """What somebody has taken away of a node is back a little later, if nothing else is wrong."""
        if not self.able or self.now() - self.since < self.shape.hold + 12 or not self._free(node):
            return
        disturbed = self.disturbed + 1  # by who takes it away

        def look() -> None:
            if self.disturbed == disturbed and self._free(node) and (what := missing()):
                self.complain("what is taken away is put back", f"{node.name}: {what}")

        asyncio.get_running_loop().call_later(BACK, look)

    @contextlib.contextmanager
    def goes(self, name: str) -> Iterator[None]:
        """Around what takes a service away from everywhere; call before it disturbs."""
        well = self.able and self.now() - self.since > self.shape.hold + 12
        addresses = {each for each, service in self.services.items() if service == name} if well else set()
        self.going |= addresses
        try:
            yield
        finally:
            self.going -= addresses

    def knows(self, node: WorldNode, pod: str) -> bool:
        """Whether a node can have heard who has a pod's address by now."""
        since = self.heirs.get(pod)
        return since is None or (not self.hindered(node) and self.now() - since > node.view.lag + KNOWN)

    def _free(self, node: WorldNode) -> bool:
        return node.power and node.running and not self.hindered(node)

    def nobody_has(self, prefixes: Iterable[Prefix]) -> None:
        """What somebody lies about draws nothing."""
        for one in self.nodes.values():
            for prefix in prefixes:
                if (prefix, METRIC_BGP) in one.kernel.ours:
                    self.complain("who lies draws nothing", f"{one.name} has a route to {prefix}")

    @contextlib.contextmanager
    def all_impaired(self, nodes: Iterable[WorldNode]) -> Iterator[None]:
        """Several at once, by what disturbs."""
        with contextlib.ExitStack() as stack:
            for node in nodes:
                stack.enter_context(self.impaired(node, disturbs=True))
            yield

    @property
    def able(self) -> bool:
        """Whether all nodes can follow, or nothing has changed since they cannot."""
        return not any(any(marks) for marks in self._impaired.values())

    @property
    def changes(self) -> tuple[object, ...]:
        """Other than before as soon as anything that forwards is, or has been disturbed."""
        nodes = [
            (
                node.kernel.ours.version,
                node.kernel.others.version,
                node.firewall.replaced,
                len(node.firewall.amended),
                len(node.pods.wired),
            )
            for node in self.nodes.values()
        ]
        return self.since, nodes, [router.changes for router in self.fabric.routers.values()]

    def excuse_session(self, session: Session, seconds: float) -> None:
        session.excused = max(session.excused, self.now() + seconds)

    def excuse_node(self, node: WorldNode, seconds: float) -> None:
        for session in self.fabric.sessions:
            if any(isinstance(side, NodeSide) and side.speaker is node.speaker for side in session.sides):
                self.excuse_session(session, seconds)

    def peer_document(self, side: NodeSide) -> Mapping[str, Any]:
        """The BGPPeer that a session is of."""
        return next(each for each in self.peer_documents() if each["spec"]["address"] == str(side.address))

    def excuse_peer(self, document: Mapping[str, Any], seconds: float) -> None:
        for near, _ in self.node_router_sessions():
            if str(near.address) == document["spec"]["address"]:
                self.excuse_session(near.session, seconds)

    def excuse_mesh(self, node: WorldNode, seconds: float) -> None:
        """Of its sessions those with other nodes."""
        for side in node.sides():
            if side.internal:
                self.excuse_session(side.session, seconds)

    def excuse_router(self, router: Router, seconds: float) -> None:
        for session in self.fabric.sessions:
            if any(isinstance(side, RouterSide) and side.router is router for side in session.sides):
                self.excuse_session(session, seconds)

    def excuse_all(self, seconds: float) -> None:
        for session in self.fabric.sessions:
            self.excuse_session(session, seconds)

    def backed(self, name: str) -> bool:
        """Whether a service is declared and has an endpoint."""
        return name not in self.gone and bool(self.members[name]) and name not in self.local

    # --- what is done to it ------------------------------------------------------------------------------

    def sides_of(self, router: Router) -> list[NodeSide]:
        """The nodes' sides of a router's sessions."""
        return [other for mine in router.sides for other in mine.session.sides if isinstance(other, NodeSide)]

    def rack_segments(self) -> list[Segment]:
        return [each for each in self.fabric.segments.values() if set(each.members) & set(self.nodes)]

    def node_router_sessions(self) -> list[tuple[NodeSide, RouterSide]]:
        found = []
        for session in self.fabric.sessions:
            left, right = session.sides
            if isinstance(left, NodeSide) and isinstance(right, RouterSide):
                found.append((left, right))
        return found

    def router_sides(self, node: WorldNode) -> list[RouterSide]:
        """The routers' sides of a node's sessions that are up."""
        return [
            theirs
            for mine, theirs in self.node_router_sessions()
            if mine.name == node.name and mine.session.up
        ]

    def clear(self, session: Session) -> None:
        """The far end ends a session by a NOTIFICATION."""
        side = session.sides[1]
        if isinstance(side, RouterSide):
            session.close(End.NOTIFIED, by=side)
            side.closed(End.NOTIFIED)
        elif isinstance(side, NodeSide):
            side.speaker.notify(side, 6, 4, received=False)

    def lie(
        self, side: RouterSide, prefix: str, hop: Address | None = None
    ) -> list[tuple[RouterSide, Prefix]]:
        found = ip_network(prefix)
        if not side.session.up or found.version != side.address.version:
            return []
        side.session.says(side, found, Path(hop or side.address, (side.router.as_number,)))
        return [(side, found)]

    @staticmethod
    def lie_no_more(side: RouterSide, prefix: Prefix) -> None:
        if side.session.up:
            side.session.says(side, prefix, side.said.get(prefix))

    def after_link(self, node: WorldNode) -> None:
        """The host's own routes come back with its link."""
        segment = self._segments[node.name, "up0"]
        self._default_routes(node, segment)

    # --- building ----------------------------------------------------------------------------------------

    def _build(self) -> None:
        shape, fabric = self.shape, self.fabric
        spines = [
            fabric.router(Router(f"spine{number + 1}", 65100 + number, bfd=shape.bfd))
            for number in range(shape.spines)
        ]
        names = iter(shape.names)
        link = 0
        for rack in range(shape.racks):
            segment = fabric.segment(f"rack{rack + 1}", f"10.0.{rack}.0/24", f"fd00:0:0:{rack:x}::/64")
            for number in range(shape.tors):
                tor = fabric.router(
                    Router(f"tor{rack + 1}{'ab'[number]}", 65001 + rack * 2 + number, bfd=shape.bfd)
                )
                fabric.attach(
                    tor.name, segment, f"10.0.{rack}.{number + 1}", f"fd00:0:0:{rack:x}::{number + 1}"
                )
                for subnet in segment.subnets:
                    tor.own.add(subnet)
                for spine in spines:
                    wire = fabric.segment(
                        f"{tor.name}-{spine.name}", f"10.1.{link}.0/30", f"fd01:{link:x}::/64"
                    )
                    fabric.attach(tor.name, wire, f"10.1.{link}.1", f"fd01:{link:x}::1")
                    fabric.attach(spine.name, wire, f"10.1.{link}.2", f"fd01:{link:x}::2")
                    fabric.link_routers(tor, spine, wire, shape.hold)
                    link += 1
            pair = [fabric.routers[name] for name in segment.members]
            if len(pair) == 2:
                fabric.link_routers(pair[0], pair[1], segment, shape.hold)
            for number in range(shape.nodes):
                self._add_node(next(names), rack, number, segment)
            self._add_gateway(rack, segment)
        self.outsiders = spines or [fabric.routers[f"tor1{'ab'[number]}"] for number in range(shape.tors)]
        for router in self.outsiders:
            router.own |= set(map(ip_network, OUTSIDE))
        for one in self.nodes.values():
            self._sessions(one)

    def _add_node(self, name: str, rack: int, number: int, segment: Segment) -> None:
        addresses = f"10.0.{rack}.{10 + number}", f"fd00:0:0:{rack:x}::{10 + number:x}"
        one = WorldNode(name, self.random.getrandbits(32), CLUSTER_AS, addresses, (24, 64))
        one.declares_pods = self.shape.policies and self.shape.lag > 0
        one.view.lag = self.shape.lag
        index = len(self.nodes) + 1
        one.blocks = (f"10.244.{index}.0/24", f"fd00:244:{index:x}::/120")
        self.nodes[name] = one
        self._segments[name, "up0"] = segment
        self.fabric.attach(name, segment, *addresses)
        self.declared.views.append(one.view)
        one.bfd.meets = lambda peer: self._meets(one, peer)
        # What was in force before is not what a new agent can have of an nft that refuses some.
        one.starts = lambda: self.disturb() if one.refusing else None

    def _add_gateway(self, rack: int, segment: Segment) -> None:
        """Where BGP does not say all: an address that one of the rack's living routers has (VRRP)."""
        if self.shape.mesh and self.shape.racks == 1:
            return
        gateways = f"10.0.{rack}.254", f"fd00:0:0:{rack:x}::fe"
        self.fabric.add_gateway(segment, *gateways)
        self._gateways[segment.name] = gateways
        for name in segment.members:
            if name in self.nodes:
                self._default_routes(self.nodes[name], segment)

    def _default_routes(self, node: WorldNode, segment: Segment) -> None:
        for gateway, prefix in zip(self._gateways.get(segment.name, ()), ("0.0.0.0/0", "::/0"), strict=False):
            node.kernel.other_route(prefix, "up0", gateway)

    @staticmethod
    def _meets(one: WorldNode, peer: Address) -> bool:
        """Whether both ends of a session hear one another; the other one does from now on, too."""
        side = one.speaker.routers.get(peer)
        if not isinstance(side, NodeSide) or not side.session.passes():
            return False
        if not all(each.bfd for each in side.session.sides):
            return False
        for each in side.session.sides:
            if each is not side:
                each.path_is(up=True)
        return True

    def _sessions(self, one: WorldNode) -> None:
        """With the rack's routers, and with nodes made before."""
        segment = self._segments[one.name, "up0"]
        for name in segment.members:
            router = self.fabric.routers.get(name)
            if router is None:
                continue
            for near, far in zip(one.addresses, segment.members[name], strict=True):
                session = Session(
                    f"{one.name}-{name}-{far.version}",
                    lambda name=name: self.fabric.adjacent(one.name, name, segment),
                    self.shape.hold,
                )
                side = NodeSide(one.speaker, session, far, router.as_number)
                theirs = RouterSide(router, session, far, restart=self.shape.graceful)
                session.sides = side, theirs
                one.speaker.routers[far] = side
                router.sides.append(theirs)
                self.fabric.sessions.append(session)
                del near
        for other in self.nodes.values():
            if other is one:
                break
            for mine, theirs_address in zip(one.addresses, other.addresses, strict=True):
                session = Session(
                    f"{one.name}-{other.name}-{mine.version}",
                    lambda other=other: self.fabric.reaches(one.name, other.name),
                    self.shape.hold,
                )
                left = NodeSide(one.speaker, session, theirs_address, CLUSTER_AS)
                right = NodeSide(other.speaker, session, mine, CLUSTER_AS)
                session.sides = left, right
                one.speaker.routers[theirs_address] = left
                other.speaker.routers[mine] = right
                self.fabric.sessions.append(session)

    def segment_of(self, name: str, interface: str) -> Segment | None:
        return self._segments.get((name, interface)) if interface != BRIDGE else None

    # --- what is declared --------------------------------------------------------------------------------

    def node_document(self, name: str, **more: Any) -> dict[str, Any]:
        one = self.nodes[name]
        if name in self.cordoned:
            more["unschedulable"] = True
        if name in self.unready:
            more["ready"] = False
        reflects = one in list(self.nodes.values())[: 1 + (len(self.nodes) > 3)]
        labels = {"reflects": "yes"} if reflects else {}
        return node(
            name, *one.blocks, addresses=tuple(map(str, one.addresses)), metadata={"labels": labels}, **more
        )

    def configuration(self, **more: Any) -> dict[str, Any]:
        shape = self.shape
        spec: dict[str, Any] = {
            "nodeToNodeMesh": shape.mesh,
            "holdTime": shape.hold,
            "serviceCIDRs": list(SERVICE_RANGES),
            "gracefulRestart": {"enabled": bool(shape.graceful), "restartTime": shape.graceful or 120},
        }
        if shape.reflectors:
            spec["topology"] = "RouteReflectors"
        spec["routeReflector"] = {"nodeSelector": {"matchLabels": {"reflects": "yes"}}}
        if shape.bfd:
            spec["bfd"] = {"enabled": True}
        return configuration(**spec | more)

    def configure(self, **options: Any) -> None:
        """Have options in the configuration beside the others; None takes one away."""
        self.options = {name: value for name, value in (self.options | options).items() if value is not None}
        self.declared.apply(self.configuration(**self.options))

    def peer_documents(self) -> list[dict[str, Any]]:
        found = []
        for segment in self.fabric.segments.values():
            members = [name for name in segment.members if name in self.nodes]
            for name, addresses in segment.members.items():
                router = self.fabric.routers.get(name)
                if router is None or not members:
                    continue
                for address in addresses:
                    bfd = {"bfd": {"enabled": True}} if self.shape.bfd else {}
                    found.append(
                        peer(
                            f"{name}-{address.version}", str(address), router.as_number, nodes=members, **bfd
                        )
                    )
        return found

    def service_documents(self, name: str) -> list[dict[str, Any]]:
        """A Service and its EndpointSlices, as they are now."""
        number = int(name.removeprefix("s"))
        addresses = (f"10.96.0.{number + 10}", f"fd96::{number + 10:x}")
        spec = {"internalTrafficPolicy": "Local"} if name in self.local else {}
        ports = ({"name": "web", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"})
        found = [service(name, *addresses, ports=ports, **spec)]
        for version in (4, 6):
            slice_ = endpoints(name, *(["10.0.0.0"] if version == 4 else ["::"]))
            slice_["ports"] = [
                {"name": name, "port": POD_PORT, "protocol": protocol}
                for name, protocol in (("web", "TCP"), ("dns", "UDP"))
            ]
            slice_["endpoints"] = [
                {"addresses": [str(each)], "conditions": {"ready": True}, "nodeName": self.pods[pod][0]}
                for pod in self.members.get(name, ())
                for each in self.pods[pod][1]
                if each.version == version
            ]
            found.append(slice_)
        return found

    def policy_document(self) -> dict[str, Any]:
        return policy("guarded", {"app": GUARDED}, {"app": LET_IN}, port=POD_PORT)

    def say_node(self, name: str) -> None:
        self.declared.apply(self.node_document(name))

    def say_services(self, *names: str) -> None:
        for name in names:
            if name not in self.gone:
                self.declared.apply(*self.service_documents(name))

    def begin(self) -> None:
        """Declare all there is and start all agents."""
        shape = self.shape
        self.declared.apply(self.configuration(), *(self.node_document(name) for name in self.nodes))
        self.declared.apply(*self.peer_documents())
        for cidr, name in zip(("10.244.0.0/16", "fd00:244::/32"), ("four", "six"), strict=True):
            self.declared.apply(
                document("IPPool", name, spec={"cidr": cidr, "blockSize": 24 if name == "four" else 120})
            )
        for number in range(shape.services):
            name = f"s{number}"
            self.members[name] = []
            for address in (f"10.96.0.{number + 10}", f"fd96::{number + 10:x}"):
                self.services[ip_address(address)] = name
            if number % 3 == 2:
                self.local.add(name)
            self.say_services(name)
        if shape.policies:
            self.declared.apply(self.policy_document())
        for one in self.nodes.values():
            one.start()
        self.fabric.changed()

    # --- pods --------------------------------------------------------------------------------------------

    async def add_pod(self, name: str) -> None:
        """A runtime asks for a pod, until it has one or the node is away."""
        one = self.nodes[name]
        if not one.power or not one.running or one.lost:
            return
        network = [ip_network(block) for block in one.blocks[:2]]
        taken = self._taken  # by who is being wired
        number = next(
            each
            for each in range(10, 200)
            if not one.wires(network[0][each]) and network[0][each] not in taken
        )
        addresses = tuple(each[number] for each in network)
        if any(one.wires(each) for each in addresses):
            return
        self._pods_made += 1
        made = self._pods_made
        pod, app = f"p{made}", f"a{made % 3}"
        labels = {} if one.declares_pods else {"app": app}
        attached = Attached(ObjectName("default", pod), addresses, labels)
        said = pod_document(pod, *map(str, addresses), on=name, app=app)
        if not self._had.isdisjoint(addresses):
            self.heirs[pod] = self.now()
        self._had |= set(addresses)
        if one.declares_pods:  # and its ADD waits for that
            self.declared.apply(said)
        taken |= set(addresses)
        why = await one.attach(pod, attached)
        taken -= set(addresses)
        if why or not one.power:
            one.detach(pod)
            if one.declares_pods:
                self.declared.delete(said)
            return
        self.pods[pod], self.apps[pod] = (name, addresses), app
        if pod in self.heirs and not one.declares_pods:
            self.heirs[pod] = self.now()
        self.wired(pod)
        if self.shape.policies:
            self.declared.apply(said)
        await asyncio.sleep(0.3)
        if pod not in self.pods or pod in self.ending:
            return
        for number, service_name in enumerate(self.members):
            if made % max(1, len(self.members)) == number:
                self.members[service_name].append(pod)
                self.say_services(service_name)

    async def delete_pod(self, pod: str) -> None:
        """Its endpoint goes first, as of a pod that is terminating."""
        if pod not in self.pods or pod in self.ending:
            return
        self.ending.add(pod)
        touched = [name for name, members in self.members.items() if pod in members]
        for name in touched:
            self.members[name].remove(pod)
        self.say_services(*touched)
        await asyncio.sleep(1.0)
        if pod in self.pods:
            self.nodes[self.pods[pod][0]].detach(pod)
            self._forget(pod, self.random.choice((0.0, 0.5, 10.0)))

    def _forget(self, pod: str, later: float = 0.0) -> None:
        """Its object goes `later`: its address may be another pod's by then."""
        if self.shape.policies:
            document = self._pod_document(pod)
            asyncio.get_running_loop().call_later(later, self.declared.delete, document)
        del self.pods[pod]

    def _pod_document(self, pod: str) -> dict[str, Any]:
        name, addresses = self.pods[pod]
        return pod_document(pod, *map(str, addresses), on=name, app=self.apps[pod])

    def lose_pods(self, name: str) -> None:
        """A node is gone, and its pods with it."""
        lost = {pod for pod, (on, _) in self.pods.items() if on == name}
        touched = []
        for service_name, members in self.members.items():
            if lost & set(members):
                members[:] = [pod for pod in members if pod not in lost]
                touched.append(service_name)
        for pod in sorted(lost):
            self._forget(pod)
        self.say_services(*touched)
