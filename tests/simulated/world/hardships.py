"""What is hard (see happenings.py): several things at once that belong together, or a part that fails alone,
each with a look of its own at what must hold meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable
from ipaddress import ip_network

from packets.outcomes import Delivered
from packets.packet import SYN, TCP, Packet

from l3net.errors import KernelError, RefusedError
from l3net.model import Route
from l3net.naming import METRIC_BGP
from l3net.ports import RouteKey, RouteSeen
from world.calm import calm
from world.happenings import HAPPENINGS, happening, one_node, one_router
from world.nodes import WorldNode
from world.nodeside import NodeSide
from world.sessions import DIALS, Path
from world.world import GUARDED, LET_IN, POD_PORT, World

#: Seconds until what failed a moment ago is tried again, and until all that is tried later has been.
AGAIN, AT_LAST = 8.0, 65.0
#: Seconds after which an agent knows which sessions there are.
SEEN = 6.0
#: How often a table is made anew in some seconds in which a part of it is refused.
MOST_TABLES = 3
COMMUNITY = "64512:7"


def _free(world: World, node: WorldNode, beside: int = 0) -> bool:
    return node.power and node.running and not world.hindered(node, beside=beside)


# --- what is declared ------------------------------------------------------------------------------------


@happening
async def rollout(world: World, number: int, pause: float) -> None:
    """A node's pods are replaced, one after the other. What is new may have an address whose old owner is
    still declared."""
    node = one_node(world, number)
    for pod in [name for name, (on, _) in world.pods.items() if on == node.name]:
        if not node.power:
            return
        world.disturb()
        await world.delete_pod(pod)
        await world.add_pod(node.name)
        world.disturb()
        await asyncio.sleep(pause)


@happening
async def node_deleted(world: World, number: int, seconds: float) -> None:
    """Somebody deletes a Node whose machine is there; its kubelet registers it again. Until then its own
    agent changes nothing, and the others have no session with it."""
    node = one_node(world, number)
    if node.name in world.odd or node.name in world.cordoned | world.unready or not node.power:
        return
    world.odd.add(node.name)
    world.excuse_mesh(node, seconds + 60)
    world.disturb()
    document = world.node_document(node.name)
    stays = world.keeps(node, of_nodes=False)
    with world.impaired(node):
        world.declared.delete(document)
        await asyncio.sleep(min(seconds, 2.0))
        stays()
        await asyncio.sleep(seconds - min(seconds, 2.0))
        world.say_node(node.name)
        world.disturb()
        await asyncio.sleep(5)
    world.odd.discard(node.name)


@happening
async def hold_time_changes(world: World, seconds: float) -> None:
    """Of all sessions with routers, which are made anew for it: by us, so that nothing that was learned goes,
    be it by routers that keep nothing over a restart of their own."""
    if not world.shape.graceful or "holdTime" in world.options or not calm(world):
        return
    world.excuse_all(seconds + 60)
    nodes = list(world.nodes.values())
    sides = [side for side, _ in world.node_router_sessions()]
    for side in sides:
        side.forwarding = False
    for router in world.fabric.routers.values():
        router.slow = 0.5
    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(world.impaired(node, steady=True))
        for hold in (world.shape.hold + 5, None):
            looks = [world.keeps(node, beside=1) for node in nodes]
            world.configure(holdTime=hold)
            for _ in range(10):
                await asyncio.sleep(0.2)
                for look in looks:
                    look()
            await asyncio.sleep(max(10.0, seconds))
    world.disturb()
    for side in sides:
        side.forwarding = True
    for router in world.fabric.routers.values():
        router.slow = 0.0


@happening
async def shut_down(world: World, number: int, seconds: float) -> None:
    """A node is told to leave, and its agent to stop, which ends when routers have nothing of it any more."""
    node = one_node(world, number)
    if node.memory.leave or not _free(world, node):
        return
    world.excuse_node(node, 60 + seconds + 90)
    world.disturb(60 + seconds)
    node.memory.leave = True
    world.left[node.name] = world.now()
    with world.impaired(node):
        await node.terminate()
        await asyncio.sleep(0.5)
        left = [side for _, side in world.node_router_sessions() if side.far == node.name and side.learned]
        if left and node.power and not world.hindered(node, beside=1):
            what = f"{left[0].name} has of {node.name}: {', '.join(map(str, left[0].learned))}"
            world.complain("who has left is gone", what)
        await asyncio.sleep(seconds)
        node.memory.leave = False
        if node.power and not node.running:
            node.start()
        world.disturb(40)
        await asyncio.sleep(50)
    world.left.pop(node.name, None)
    world.disturb()


# --- routers ---------------------------------------------------------------------------------------------


@happening
async def rack_dark(world: World, number: int, seconds: float) -> None:
    """All routers of a rack lose power at once."""
    segment = world.rack_segments()[number % len(world.rack_segments())]
    names = list(world.fabric.routers)
    off = [names.index(name) for name in segment.members if name in world.fabric.routers]
    await asyncio.gather(*(HAPPENINGS["router_off"](world, each, seconds) for each in off))


@happening
async def routing_dies(world: World, number: int, seconds: float) -> None:
    """A router's BGP dies without a word and does not come back, and with it what it forwards by: its peers
    wait for it, as long as it has asked for, and no longer."""
    router = one_router(world, number)
    if not router.running or not router.alive:
        return
    world.excuse_all(seconds + 60)
    world.disturb(125)
    router.stop(gracefully=True)
    router.deferring = False
    router.fib.clear()
    router.changes += 1
    world.fabric.changed()
    await asyncio.sleep(seconds)
    if router.alive and not router.running:
        router.start()
    world.disturb()
    world.fabric.changed()


@happening
async def node_lies(world: World, number: int, seconds: float) -> None:
    """A node announces to the others what is not its own."""
    liar = one_node(world, number)
    others = [each for each in world.nodes.values() if each is not liar]
    wrong = ["203.0.113.0/25", "2001:db8::/49", "0.0.0.0/0", "::/0"]
    wrong += [others[-1].blocks[0].replace("0/24", "128/25")] if others and others[-1].blocks else []
    prefixes = [ip_network(each) for each in wrong]
    told = []
    for side in liar.sides():
        if side.internal and side.session.up:
            hop = next(each for each in liar.addresses if each.version == side.address.version)
            for prefix in prefixes:
                if prefix.version == hop.version:
                    side.session.says(side, prefix, Path(hop))
                    told.append((side, prefix))
    await asyncio.sleep(min(3.0, seconds))
    world.nobody_has([prefix for prefix in prefixes if prefix.prefixlen])
    await asyncio.sleep(seconds - min(3.0, seconds))
    for side, prefix in told:
        if side.session.up:
            side.session.says(side, prefix, None)


@happening
async def speaker_refuses(world: World, number: int, seconds: float) -> None:
    """ExaBGP takes no announcement for a while, in which the node gets another block."""
    node = one_node(world, number)
    more = f"10.248.{number % 100}.0/24"
    if not _free(world, node) or more in node.blocks:
        return
    with world.impaired(node):
        node.speaker.refuses_routes = True
        world.disturb()
        node.blocks = (*node.blocks, more)
        world.say_node(node.name)
        await asyncio.sleep(seconds)
        node.speaker.refuses_routes = False
        await asyncio.sleep(AT_LAST)
    await asyncio.sleep(40)
    world.disturb()
    node.blocks = tuple(each for each in node.blocks if each != more)
    world.say_node(node.name)


@happening
async def missed(world: World, number: int, seconds: float) -> None:
    """A session comes up, and maybe goes again, in the moment in which an agent finds its speaker, and a
    router has much to say just then."""
    node = one_node(world, number)
    sides = world.router_sides(node)
    if not sides or not _free(world, node):
        return
    side, drawn = sides[number % len(sides)], world.random
    world.excuse_node(node, 60)
    with world.impaired(node, disturbs=True):
        await node.kill()
        await asyncio.sleep(seconds)
        world.clear(side.session)
        await asyncio.sleep(DIALS + drawn.uniform(0.01, 0.9))
        if node.power and not node.running:
            node.start()
        name = f"198.51.{100 + number % 100}.0/24"
        await asyncio.sleep(drawn.uniform(0.003, 0.1))
        world.outsiders[0].announce(name)
        await asyncio.sleep(drawn.uniform(0.01, 0.4))
        if drawn.random() < 0.6:
            world.clear(side.session)
        await asyncio.sleep(drawn.choice((0.0, 0.0, 2.0)))
        world.outsiders[0].announce(name, gone=True)
        await asyncio.sleep(SEEN)
        own = next(each for each in side.session.sides if isinstance(each, NodeSide))
        if own.session.up and own.speaker.lasted(own) > SEEN - 2 and _free(world, node, beside=1):
            said = [row for row in node.status()["peers"] if row["address"] == str(own.address)]
            wrong = [
                row for row in said if (row["state"], row["received"]) != ("established", len(own.announces))
            ]
            if wrong:
                what = f"{node.name}: {own.address} is {wrong[0]['state']}, {wrong[0]['received']} received"
                world.complain("the status says what is so", what)
        await asyncio.sleep(10)


# --- the kernel ------------------------------------------------------------------------------------------


@happening
async def route_refused(world: World, number: int, seconds: float) -> None:
    """A router announces one network in place of another, and the kernel does not take its route. The other
    one goes all the same, those beside it follow, and all is not read again and again for it."""
    node, router = one_node(world, number), world.outsiders[0]
    before, now = (f"198.51.{third + number % 50}.0/24" for third in (100, 150))
    if not _free(world, node):
        return
    old, key = (ip_network(before), METRIC_BGP), (ip_network(now), METRIC_BGP)
    with world.impaired(node):
        world.disturb()
        router.announce(before)
        await asyncio.sleep(2)
        node.kernel.refuses = _refusing(key)
        there, disturbed = old in node.kernel.ours, world.disturbed
        router.announce(before, gone=True)
        router.announce(now)
        await asyncio.sleep(2)
        reads = node.kernel.reads
        for _ in range(3):
            node.kernel.notice(RouteSeen(None, gone=False))
            await asyncio.sleep(1)
        well = there and world.disturbed == disturbed and _free(world, node, beside=1)
        reads = node.kernel.reads - reads
        if well and (old in node.kernel.ours or reads > 1):
            stays = f"has {old[0]}, which is gone, " if old in node.kernel.ours else ""
            what = f"{node.name}: {stays}has read {reads} times in 3 s while {key[0]} is refused"
            world.complain("one refusal stops no other", what)
        await asyncio.sleep(seconds)
        node.kernel.refuses = lambda _route: None
        await asyncio.sleep(2 * seconds + AGAIN)
        well = there and world.disturbed == disturbed and _free(world, node, beside=1)
        if well and router.running and router.alive and key not in node.kernel.ours:
            world.complain("what failed is tried again soon", f"{node.name}: no route to {key[0]}")
        router.announce(now, gone=True)
        await asyncio.sleep(5)
        world.disturb()


def _refusing(key: RouteKey) -> Callable[[Route], KernelError | None]:
    def refuses(route: Route) -> KernelError | None:
        return KernelError(f"put route {route.prefix}", 22) if (route.prefix, route.metric) == key else None

    return refuses


@happening
async def bridge_fails(world: World, number: int, seconds: float) -> None:
    """The bridge cannot be changed while the node gets another block: routers are told the rest."""
    node = one_node(world, number)
    more = f"10.247.{number % 100}.0/24"
    if more in node.blocks or "bridge" in node.kernel.failing or not _free(world, node):
        return
    with world.impaired(node):
        node.kernel.failing["bridge"] = KernelError("bridge is broken", 5)
        node.blocks = (*node.blocks, more)
        world.disturb()
        world.say_node(node.name)
        await asyncio.sleep(3)
        disturbed = world.disturbed
        world.configure(advertise={"communities": [COMMUNITY]})
        await asyncio.sleep(3)
        sides = [
            side for side in world.router_sides(node) if side.router.running and not side.router.deferring
        ]
        well = world.disturbed == disturbed and _free(world, node, beside=1)
        for side in sides if well and world.options.get("advertise") else ():
            for prefix, path in side.learned.items():
                if str(prefix) in node.blocks and COMMUNITY not in path.communities:
                    what = f"{node.name} has not told {side.name} of {prefix}, and the bridge alone fails"
                    world.complain("one refusal stops no other", what)
        world.configure(advertise=None)
        await asyncio.sleep(seconds)
        node.kernel.failing.pop("bridge", None)
        node.blocks = tuple(each for each in node.blocks if each != more)
        world.disturb()
        world.say_node(node.name)
        await asyncio.sleep(AT_LAST)


@happening
async def fails_for_a_moment(world: World, number: int, seconds: float) -> None:
    """nft fails as somebody flushes its table, and then does not any more: the table is soon back."""
    node = one_node(world, number)
    if not _free(world, node) or node.firewall.failing is not None:
        return
    world.disturb()
    with world.impaired(node):
        node.firewall.failing = KernelError("nft cannot change table inet l3net (x)", 105)
        node.firewall.flush()
        world.flushed(node)
        await asyncio.sleep(seconds)
        node.firewall.failing = None
        await asyncio.sleep(seconds + AGAIN)
        if node.firewall.broken and _free(world, node, beside=1):
            what = f"{node.name}: its table is not back {seconds + AGAIN} s after {seconds} s of failures"
            world.complain("what failed is tried again soon", what)
        await asyncio.sleep(AT_LAST)


@happening
async def flushed_and_refused(world: World, number: int, seconds: float, policies: bool) -> None:
    """Somebody flushes the table, and nft refuses a part of what is to be put back: one service, or all that
    is judged by `policies`. The other services are served; what cannot be judged is closed."""
    node = one_node(world, number)
    if not world.services or node.refusing or not _free(world, node):
        return
    address = list(world.services)[number % len(world.services)]
    words = f"dport {POD_PORT}" if policies else str(address)
    with world.impaired(node, disturbs=True):
        refusal = RefusedError("nft cannot change table inet l3net (in use)", errno.EBUSY)
        node.firewall.refuses = lambda text: refusal if words in text else None
        node.refusing = True
        node.firewall.flush()
        world.flushed(node)
        await asyncio.sleep(3)
        replaced = node.firewall.replaced
        for _ in range(8):
            await HAPPENINGS["endpoints_flap"](world, world.random.randrange(9), 1)
            await asyncio.sleep(0.3)
        if _free(world, node, beside=1) and not node.firewall.broken:
            more = node.firewall.replaced - replaced
            if more > MOST_TABLES:
                what = f"{node.name}: {more} tables in place of one another while nft refuses {words}"
                world.complain("one refusal stops no other", what)
        await asyncio.sleep(8)
        for other, name in world.services.items() if _free(world, node, beside=1) else ():
            if not policies and other != address and world.backed(name) and not node.serves(other):
                what = f"{node.name} does not serve {other}, and {address} alone is refused"
                world.complain("one refusal stops no other", what)
        await asyncio.sleep(seconds)
        node.firewall.refuses = lambda _text: None
        node.refusing = False
        await asyncio.sleep(AT_LAST)


@happening
async def refused_once(world: World, number: int, policies: bool) -> None:
    """nft refuses a part of a table that is made anew, and a moment later it does not any more."""
    node = one_node(world, number)
    if not world.services or node.refusing or not _free(world, node):
        return
    words = f"dport {POD_PORT}" if policies else str(list(world.services)[number % len(world.services)])
    with world.impaired(node, disturbs=True):
        refusal = RefusedError("nft cannot change table inet l3net (in use)", errno.EBUSY)
        node.firewall.refuses = lambda text: refusal if words in text else None
        node.refusing, disturbed = True, world.disturbed
        node.firewall.flush()
        world.flushed(node)
        await asyncio.sleep(0.2)
        node.firewall.refuses = lambda _text: None
        node.refusing = False
        await asyncio.sleep(AGAIN)
        closed = _closed(world, node)
        if closed and world.disturbed == disturbed and _free(world, node, beside=1) and world.policed:
            world.complain("what failed is tried again soon", f"{node.name}: {closed}")
        await asyncio.sleep(AT_LAST)


def _closed(world: World, node: WorldNode) -> str:
    """Why nobody comes to a pod of this node who may."""
    sources = [
        pod for pod, (name, _) in world.pods.items() if world.apps[pod] == LET_IN and name != node.name
    ]
    for pod, (name, addresses) in world.pods.items():
        if name == node.name and world.apps[pod] == GUARDED and sources and pod not in world.ending:
            sent = Packet(world.pods[sources[0]][1][0], addresses[0], TCP, 40000, POD_PORT, SYN)
            for outcome in node.stack.receive(sent, "up0"):
                if not isinstance(outcome, Delivered):
                    return f"{sources[0]} does not reach {pod}: {outcome.words}"
    return ""


@happening
async def link_bounces(world: World, number: int, times: int) -> None:
    """A link goes down and up again within milliseconds, as a bad plug has it: nobody else hears of that. Its
    agent may find it down."""
    node = one_node(world, number)
    before = set(node.kernel.ours)
    world.excuse_node(node, 20)
    world.back_soon(node, lambda: ", ".join(str(key[0]) for key in before - set(node.kernel.ours)))
    world.disturb()
    for _ in range(times):
        await asyncio.sleep(world.random.uniform(0.001, 0.3))
        for _ in range(3):
            node.kernel.set_link("up0", up=False)
            await asyncio.sleep(world.random.uniform(0.001, 0.008))
            node.kernel.set_link("up0", up=True)
            await asyncio.sleep(world.random.uniform(0.001, 0.008))
        world.after_link(node)


@happening
async def evicted(world: World, number: int) -> None:
    """A node has no pods any more."""
    node = one_node(world, number)
    world.disturb()
    await asyncio.gather(*(world.delete_pod(pod) for pod, (on, _) in world.pods.items() if on == node.name))
    world.disturb()
    await asyncio.sleep(2 * AT_LAST)
    left = [each for each in node.status()["problems"] if "counters" in each] if _free(world, node) else []
    if left and all(on != node.name for on, _ in world.pods.values()):
        world.complain("no problem is left", f"{node.name}: {left[0]}")


@happening
async def ranges_unknown(world: World, seconds: float) -> None:
    """Nobody says which addresses services may have: those that are not served go where the others go."""
    if "serviceCIDRs" in world.options:
        return
    world.disturb()
    world.configure(serviceCIDRs=[])
    await asyncio.sleep(seconds)
    world.disturb()
    world.configure(serviceCIDRs=None)
