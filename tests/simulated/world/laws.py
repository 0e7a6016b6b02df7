"""What holds in every world, whatever happens."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from random import Random

from packets.outcomes import Delivered
from packets.packet import SYN, TCP, Packet

from l3net.addresses import host_prefix
from l3net.model import Address, Prefix
from world.calm import calm
from world.case import Broken
from world.flows import Flows
from world.journeys import End, Journeys
from world.moments import Moments
from world.nodes import WorldNode
from world.nodeside import NodeSide
from world.routers import GRACEFUL_SHUTDOWN, RouterSide
from world.routers_hear import Hearing
from world.walk import Walks
from world.world import CLUSTER_AS, GUARDED, LET_IN, OUTSIDE_ADDRESSES, POD_PORT, World

#: What an agent may hold more than in the beginning: a factor, and elements.
GROWS, GROWS_BY = 1.5, 1500
#: Seconds in which a node leaves, with the longest wait.
LEAVES = 100.0


class Judge:
    """Looks at a world, and keeps what was broken; each law is broken once."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.found: list[Broken] = []
        self._drawn = Random(seed)
        self._journeys = Journeys(world)
        world.complain, world.wired = self.broken, self.wired
        self._moments = Moments(world, self.broken)
        self._hearing = Hearing(world, self.broken)
        self._flows = Flows(world, Random(seed), self.broken)
        self._held: dict[str, int] = {}
        for session in world.fabric.sessions:
            session.ended = self._ended

    def broken(self, law: str, what: str) -> None:
        if all(each.law != law for each in self.found):
            self.found.append(Broken(law, round(self.world.now() - 1000, 3), what))

    def _ended(self, session: object, why: str) -> None:
        if self.world.now() > session.excused:  # type: ignore[attr-defined]
            self.broken("no session ends that nobody ended", f"{session.name}: {why}")  # type: ignore[attr-defined]

    # --- packets -----------------------------------------------------------------------------------------

    def look(self, most: int | None = 40) -> None:
        """At `most` ways that packets go, drawn from all."""
        self.forbidden(3 if most is not None else 40)
        self._flows.go_on(well=calm(self.world))
        if not calm(self.world):
            return
        ways = list(self._ways())
        if most is not None and len(ways) > most:
            ways = self._drawn.sample(ways, most)
        walks = Walks(self.world)
        for source, address in ways:
            if found := walks.lost(source, address):
                self.broken("what can be reached is", f"from {source} to {address}: {found}")
        self.travelled(2 if most is not None else 60)
        self.announced()

    # --- policies ----------------------------------------------------------------------------------------

    def forbidden(self, most: int) -> None:
        """What a policy forbids does not pass, whatever else happens."""
        world = self.world
        if not world.policed:
            return
        guarded = [pod for pod in world.pods if world.apps[pod] == GUARDED]
        sources = [pod for pod in world.pods if world.apps[pod] != LET_IN]
        for _ in range(most if guarded and sources else 0):
            self._forbidden(self._drawn.choice(guarded), self._drawn.choice([*sources, ""]))

    def wired(self, pod: str) -> None:
        """A pod's policies are in force before its first packet."""
        world = self.world
        if not world.policed or world.apps[pod] != GUARDED:
            return
        for source in ["", *(each for each in world.pods if world.apps[each] != LET_IN)][:3]:
            self._forbidden(pod, source)

    def _forbidden(self, pod: str, source: str) -> None:
        world = self.world
        name, addresses = world.pods[pod]
        if pod == source or pod in world.ending or world.nodes[name].firewall.broken:
            return
        if source and not world.knows(world.nodes[name], source):
            return
        here = bool(source) and world.pods[source][0] == name
        froms = world.pods[source][1] if source else OUTSIDE_ADDRESSES
        if len(froms) != len(addresses):
            return
        for version, address in enumerate(addresses):
            sent = Packet(froms[version], address, TCP, self._port(), POD_PORT, SYN)
            for outcome in self._journeys.arrives(name, sent, of_pod=here):
                if isinstance(outcome, Delivered):
                    what = f"{source or 'outside'} to {pod}: {outcome}"
                    self.broken("what is forbidden does not pass", what)

    def _port(self) -> int:
        return self._drawn.randrange(32768, 60999)

    def travelled(self, most: int) -> None:
        """Connections to pods and services arrive where they should, if nothing forbids it."""
        world = self.world
        sources = [*world.pods, ""]
        targets: list[tuple[str, tuple[Address, ...], tuple[str, ...]]] = [
            (pod, addresses, (pod,)) for pod, (_, addresses) in world.pods.items()
        ]
        for address, name in world.services.items():
            if name not in world.gone and world.members[name] and name not in world.local:
                targets.append((name, (address,), tuple(world.members[name])))
        for _ in range(most if targets else 0):
            source = self._drawn.choice(sources)
            name, addresses, ends = self._drawn.choice(targets)
            for address in addresses:
                self._travels(source, name, address, ends)

    def _travels(self, source: str, name: str, address: Address, ends: tuple[str, ...]) -> None:
        world = self.world
        homes = {world.pods[pod][0] for pod in ends}
        begins = world.pods[source][0] if source else world.outsiders[0].name
        if begins not in world.nodes and not world.outsiders[0].forwards:
            return
        if not all(self._told(begins, home) for home in homes) or not self._serves(begins, homes):
            return
        froms = world.pods[source][1] if source else OUTSIDE_ADDRESSES
        own = next(each for each in froms if each.version == address.version)
        if address in froms:
            return
        sent = Packet(own, address, TCP, self._port(), 80 if name in world.members else POD_PORT, SYN)
        travel = self._journeys.of_pod if source else self._journeys.from_outside
        for end in travel(begins, sent):
            if self._well(end, source, ends):
                continue
            self.broken("connections arrive", f"{source or 'outside'} to {name} ({address}): {end}")

    def _well(self, end: End, source: str, ends: tuple[str, ...]) -> bool:
        world = self.world
        guarded = {pod for pod in ends if world.apps[pod] == GUARDED and pod != source}
        if world.shape.policies and not world.policed:
            return not end.lost or "dropped" in end.why  # by whether it is in force already
        forbidden = world.shape.policies and (not source or world.apps[source] != LET_IN)
        if end.lost:
            return forbidden and bool(guarded) and "dropped" in end.why
        return end.pod in ends and not (forbidden and end.pod in guarded)

    def _ways(self) -> Iterator[tuple[str, Address]]:
        world, fabric = self.world, self.world.fabric
        sources = [node.name for node in world.nodes.values() if node.power]
        outside = [router.name for router in world.outsiders if router.forwards][:1]
        pods = [(node, address) for node, addresses in world.pods.values() for address in addresses]
        for node, address in pods:
            for source in (*sources, *outside):
                if self._told(source, node) and self._in_service(source, node):
                    yield source, address
        for address, name in world.services.items():
            members = world.members[name]
            homes = {world.pods[pod][0] for pod in members}
            if not members or name in world.gone:
                continue
            for source in (*sources, *outside):
                if source in sources and name in world.local and source not in homes:
                    continue
                if source not in sources and name in world.local and homes <= world.cordoned | world.unready:
                    continue
                if all(self._told(source, home) for home in homes) and self._serves(source, homes):
                    yield source, address
        for source in sources:
            if outside and fabric.reaches(source, outside[0]):
                for address in OUTSIDE_ADDRESSES:
                    if self._in_service(source):
                        yield source, address

    def _told(self, source: str, node: str) -> bool:
        """Whether there is a way, and somebody who tells of it."""
        world = self.world
        if not world.fabric.reaches(source, node):
            return False
        if world.reflects:
            return all(world.fabric.reaches(one, name) for one in (source, node) for name in world.nodes)
        if world.shape.mesh or source == node or source not in world.nodes:
            return True
        segment = world.segment_of(source, "up0")
        assert segment is not None
        return any(name in segment.members and each.forwards for name, each in world.fabric.routers.items())

    def _in_service(self, *names: str) -> bool:
        """Whether none of them was told to leave."""
        return not any(name in self.world.left for name in names)

    def _serves(self, source: str, homes: Iterable[str]) -> bool:
        """Whether a service is reached from here: by nodes that are all connected, and none has left."""
        world = self.world
        if source not in world.nodes and not all(
            world.fabric.reaches(source, name) for name, node in world.nodes.items() if node.power
        ):
            return False
        if source not in world.nodes and world.cordoned | set(world.left) | world.unready >= set(world.nodes):
            return False
        return not set(world.left) & set(homes) and self._in_service(source)

    # --- what routers hold -------------------------------------------------------------------------------

    def announced(self) -> None:
        """Each router has learned of each node what is its own, and nothing else."""
        for mine, theirs in self.world.node_router_sessions():
            node = self.world.nodes[mine.name]
            self._gone(node, theirs)
            if not mine.session.up or theirs.router.deferring or not node.running or node.speaker.begins:
                continue
            wanted = set(self._own(node, theirs))
            heard = set(theirs.learned)
            self._attributes(node, theirs)
            if wanted != heard:
                what = f"{theirs.name} has of {node.name}: "
                missing, more = wanted - heard, heard - wanted
                words = [f"not {each}" for each in sorted(missing, key=str)]
                words += [f"{each}, which it should not" for each in sorted(more, key=str)]
                self.broken("routers have what is declared", what + "; ".join(words))

    def _gone(self, node: WorldNode, theirs: RouterSide) -> None:
        """Who has left stays away until it shall be back."""
        world = self.world
        left = world.left.get(node.name, world.now())
        if not node.memory.leave or world.now() - left < LEAVES or not node.running or world.hindered(node):
            return
        if theirs.session.up or any(not path.stale for path in theirs.learned.values()):
            has = f"it has {', '.join(map(str, theirs.learned))}"
            why = "its session is up" if theirs.session.up else has
            self.broken("who has left is gone", f"{theirs.name} and {node.name}: {why}")

    def _attributes(self, node: WorldNode, theirs: RouterSide) -> None:
        """Each path leads to the node itself, and is the last choice if the node is about to go."""
        going = node.name in self.world.cordoned | set(self.world.left)
        for prefix, path in theirs.learned.items():
            wrong = (
                (path.hop not in node.addresses and f"next hop {path.hop}")
                or (set(path.as_path) != {CLUSTER_AS} and f"AS path {path.as_path}")
                or ((len(path.as_path) > 1) is not going and f"AS path {path.as_path}")
                or (path.stale and "stale")
                or (
                    (GRACEFUL_SHUTDOWN in path.communities) is not going
                    and f"communities {set(path.communities)}"
                )
            )
            if wrong:
                self.broken(
                    "paths are as they should be", f"{theirs.name} has {prefix} of {node.name}: {wrong}"
                )

    def _own(self, node: WorldNode, theirs: RouterSide) -> Iterator[Prefix]:
        world, version = self.world, theirs.address.version
        if node.name in world.left:
            yield from theirs.learned
            return
        lost = [node.lost] if node.lost and node.uses(node.lost) else []
        for block in map(ip_network, (*lost, *node.blocks)):
            if block.version == version:
                yield block
        if node.name in world.unready:
            return
        others = set(world.nodes) - world.cordoned - world.unready - {node.name}
        for address, name in world.services.items():
            homes = {world.pods[pod][0] for pod in world.members[name]}
            if address.version != version or name in world.gone or not homes:
                continue
            if node.name in world.cordoned and (others & homes if name in world.local else others):
                continue  # as the last choice it stays where nobody else serves it
            if name not in world.local or node.name in homes:
                yield host_prefix(address)

    # --- the end -----------------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """All is well, and everybody says so."""
        if not calm(self.world):
            self.broken("the world settles", f"disturbed at {self.world.since}")
            return
        self.look(None)
        for node in self.world.nodes.values():
            problems = [
                each for each in node.status()["problems"] if "lines from ExaBGP" not in each
            ]  # counts
            if problems:
                self.broken("no problem is left", f"{node.name}: {problems[0]}")
            if node.firewall.broken:
                self.broken("the table is there", node.name)
            self._bounded(node)
            self._says(node)
        for session in self.world.fabric.sessions:
            if not session.up and all(side.ready for side in session.sides):
                self.broken("sessions are up", session.name)

    def _says(self, node: WorldNode) -> None:
        """The status says what is so."""
        for peer in node.status()["peers"]:
            side = node.speaker.routers[ip_address(peer["address"])]
            assert isinstance(side, NodeSide)
            said = len([prefix for prefix in side.heard if prefix])
            wrong = [
                f"{name} {peer[name]}"
                for name, right in (
                    ("state", "established"),
                    ("syncing", []),
                    ("stale", 0),
                    ("unansweredRefresh", []),
                    ("outQueue", 0),
                    ("received", len(side.announces)),
                    ("announced", said),
                )
                if peer[name] != right
            ]
            bfd = peer["bfd"]
            if bfd is not None and (bfd["state"], bfd["failed"]) != ("Up", False):
                wrong.append(f"BFD {bfd['state']}, failed {bfd['failed']}")
            if wrong:
                self.broken("the status says what is so", f"{node.name}, {peer['name']}: {', '.join(wrong)}")

    def weigh(self) -> None:
        """How much agents hold in the beginning."""
        self._held = {node.name: holds(node.agent) for node in self.world.nodes.values()}

    def _bounded(self, node: WorldNode) -> None:
        """What has happened is not kept: an agent holds about as much as in the beginning."""
        before, now = self._held[node.name], holds(node.agent)
        if now > before * GROWS + GROWS_BY:
            self.broken("memory is bounded", f"{node.name}: {before} elements in the beginning, {now} now")


def holds(agent: object) -> int:
    """Elements in all that an agent holds of its own: in dicts, lists, sets and queues."""
    seen: set[int] = set()
    left: list[object] = [agent]
    count = 0
    while left:
        at = left.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        if isinstance(at, dict):
            count += len(at)
            left += at.values()
        elif isinstance(at, list | set | frozenset | tuple | deque):
            count += len(at)
            left += at
        elif type(at).__module__.startswith("l3net."):
            left += vars(at).values() if hasattr(at, "__dict__") else ()
            left += [
                getattr(at, name, None) for of in type(at).__mro__ for name in getattr(of, "__slots__", ())
            ]
    return count


class Quiet:
    """What agents have done until now; `since` tells what was too much since then."""

    def __init__(self, world: World) -> None:
        self._nodes = list(world.nodes.values())
        self._began = world.now()
        self._done = [self._of(node) for node in self._nodes]

    @staticmethod
    def _of(node: WorldNode) -> tuple[int, int, int, int, int]:
        changes = sum(1 for batch in node.kernel.batches if batch.put or batch.delete)
        said = sum(1 for line in node.speaker.commands if " announce " in line or " withdraw " in line)
        changed = len(node.firewall.amended)
        return node.agent.passes, changes, said, node.firewall.replaced, changed

    def since(self, world: World) -> str:
        """What was not quiet; empty if all was."""
        seconds = world.now() - self._began
        for node, before in zip(self._nodes, self._done, strict=True):
            after = self._of(node)
            passes, *rest = (now - then for now, then in zip(after, before, strict=True))
            if any(rest) or passes > seconds / 30 + 2:
                routes, said, tables, changes = rest
                return (
                    f"{node.name}: {passes} passes, {routes} changes of routes, {said} words to peers,"
                    f" {tables} tables, {changes} amendments in {seconds:.0f} s"
                )
        return ""


class Unforeseen(logging.Handler):
    """Log records with a traceback: nobody has thought of these."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(logging.WARNING)
        self._judge = judge

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            err = record.exc_info[1]
            where = err.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            at = f"{where.tb_frame.f_code.co_filename.rpartition('/')[2]}:{where.tb_lineno}" if where else ""
            self._judge.broken(
                "nothing is unforeseen", f"{type(err).__name__} {err} at {at} ({record.getMessage()})"
            )
