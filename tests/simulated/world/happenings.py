"""What may happen in a world, each under its name in a step.

Each happening tells the world what it disturbs: `world.disturb()` where forwarding or what is to be
announced changes, `world.impaired(node)` around what keeps an agent from following that, `world.excuse_...`
for sessions that it may end. What is not said here is held against l3net.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from l3net.errors import KernelError, RefusedError
from l3net.model import Prefix
from l3net.naming import METRIC_BGP

if TYPE_CHECKING:
    from world.nodes import WorldNode
    from world.routers import Router, RouterSide
    from world.world import World

Happening = Callable[..., Awaitable[None]]


def no_care() -> None:
    """In place of what looks whether something has stayed, where it need not."""


HAPPENINGS: dict[str, Happening] = {}
#: Seconds in which a node has left.
AWAY = 100.0


def happening(do: Happening) -> Happening:
    HAPPENINGS[do.__name__] = do
    return do


def one_node(world: World, number: int) -> WorldNode:
    return list(world.nodes.values())[number % len(world.nodes)]


def one_router(world: World, number: int) -> Router:
    return list(world.fabric.routers.values())[number % len(world.fabric.routers)]


# --- processes -------------------------------------------------------------------------------------------


@happening
async def agent_killed(world: World, number: int, seconds: float) -> None:
    node = one_node(world, number)
    if not node.power or not node.running:
        return
    with world.impaired(node, steady=True):
        await node.kill()
        await asyncio.sleep(seconds)
        if node.power and not node.running:
            node.start()
            await asyncio.sleep(2)


@happening
async def agent_stopped(world: World, number: int, seconds: float) -> None:
    node = one_node(world, number)
    if not node.power or not node.running or node.memory.leave:
        return
    with world.impaired(node, steady=True):
        await node.terminate()
        await asyncio.sleep(seconds)
        if node.power and not node.running:
            node.start()
            await asyncio.sleep(2)


@happening
async def exabgp_killed(world: World, number: int) -> None:
    node = one_node(world, number)
    if not node.power or not node.speaker.running:
        return
    world.excuse_node(node, 20)
    if not node.running or not node.agent.in_sync:  # nobody tells the new one what to say
        world.disturb()
    stays = world.keeps(node) if world.shape.graceful else no_care
    graceful = bool(world.shape.graceful)
    with world.impaired(node, disturbs=not graceful, steady=graceful):
        node.speaker.late = world.random.choice((0.0, 0.5, 1.5, 2.5))
        node.speaker.kill()
        await asyncio.sleep(0.3)  # it is not back yet
        stays()
        await asyncio.sleep(11.7)


@happening
async def exabgp_hangs(world: World, number: int, seconds: float) -> None:
    """It answers nothing, and its relay has it killed."""
    node = one_node(world, number)
    if not node.power or not node.speaker.running:
        return
    world.excuse_node(node, seconds + 20)
    if not node.running or not node.agent.in_sync:
        world.disturb()
    with world.impaired(node, disturbs=not world.shape.graceful):
        node.speaker.deaf = True
        await asyncio.sleep(seconds)
        node.speaker.deaf = False
        if node.power and node.speaker.running:
            node.speaker.kill()
        await asyncio.sleep(12)


@happening
async def reload_put_off(world: World, number: int, seconds: float) -> None:
    """A session changes, and ExaBGP says that it has loaded it and has not."""
    node = one_node(world, number)
    routers = [side for side, _ in world.node_router_sessions() if side.speaker is node.speaker]
    if not routers or not node.power:
        return
    side = routers[number % len(routers)]
    before = world.peer_document(side)
    name = before["metadata"]["name"]
    if name in world.odd:
        return
    world.odd.add(name)
    world.excuse_peer(before, seconds + 600)  # whoever is cut off hears of it later
    world.excuse_node(node, seconds + 90)  # ExaBGP is started anew for it in the end
    with world.impaired(node, disturbs=True):
        node.speaker.puts_off = True
        world.declared.apply({**before, "spec": {**before["spec"], "holdTime": world.shape.hold + 3}})
        await asyncio.sleep(seconds)
        node.speaker.puts_off = False
        await asyncio.sleep(60)
        loaded = node.speaker.neighbours.get(side.address, "")
        able = node.power and node.running and node.speaker.running and not world.hindered(node, beside=1)
        if able and node.name not in world.left and f"hold-time {world.shape.hold + 3};" not in loaded:
            world.complain("ExaBGP does what is declared", f"{node.name}: {side.address} as before")
        world.disturb()
        world.declared.apply(before)
        await asyncio.sleep(10)
    world.odd.discard(name)


@happening
async def relay_garbles(world: World, number: int, times: int) -> None:
    """Lines that are none."""
    node = one_node(world, number)
    for each in range(times):
        lines = (b'{"type": "update", "neigh', b"\xff\xfe", b'{"type": "state"}', b"[" * 300, b"null")
        node.speaker.garble(lines[each % len(lines)])
        await asyncio.sleep(0.1)


@happening
async def bfd_killed(world: World, number: int, seconds: float) -> None:
    """Its process dies, which says nothing of any path; the other ends see it go down administratively."""
    node = one_node(world, number)
    if not node.power or not node.bfd.running or not node.bfd.up:
        return
    node.bfd.stop()
    await asyncio.sleep(seconds)
    node.bfd.running = True


# --- machines and wires ----------------------------------------------------------------------------------


@happening
async def node_off(world: World, number: int, seconds: float) -> None:
    """Power is lost; its pods are gone. After 40 s the cluster says so."""
    node = one_node(world, number)
    if not node.power:
        return
    world.excuse_node(node, seconds + 60)
    with world.impaired(node):
        world.disturb()
        await node.power_off()
        world.fabric.changed()
        await asyncio.sleep(min(seconds, 40))
        world.lose_pods(node.name)
        world.disturb()
        await asyncio.sleep(max(0, seconds - 40))
        node.power_on()
        world.fabric.changed()
        world.disturb()
        await asyncio.sleep(15)


async def _cut(world: World, node: WorldNode, seconds: float, *, carrier: bool) -> None:
    """Its uplink carries nothing to it for a while; without the `carrier` nothing from it either."""
    segment = world.segment_of(node.name, "up0")
    assert segment is not None
    ports = segment.deaf if carrier else segment.down
    if node.name in ports:
        return
    world.excuse_node(node, seconds + 30)
    world.disturb()
    ports.add(node.name)
    if not carrier:
        world.without_links.add(node.name)
        node.kernel.set_link("up0", up=False)
    world.fabric.changed()
    await asyncio.sleep(seconds)
    world.disturb()
    ports.discard(node.name)
    if not carrier:
        node.kernel.set_link("up0", up=True)
        world.after_link(node)
    world.fabric.changed()


@happening
async def path_fails(world: World, number: int, seconds: float, way: str) -> None:
    """Frames between a node and one of its routers are lost on the way, and no other: those `to` the router,
    `from` it, or both."""
    node = one_node(world, number)
    segment = world.segment_of(node.name, "up0")
    assert segment is not None
    routers = [name for name in segment.members if name in world.fabric.routers]
    router = routers[number % len(routers)]
    holes = {(node.name, router)} if way != "from" else set()
    holes |= {(router, node.name)} if way != "to" else set()
    if holes & segment.holes:
        return
    world.disturb()
    segment.holes |= holes
    world.fabric.changed()
    for session in world.fabric.sessions:
        if not session.passes():
            world.excuse_session(session, seconds + 30)
    await asyncio.sleep(seconds)
    world.disturb()
    segment.holes -= holes
    world.fabric.changed()


@happening
async def uplink_down(world: World, number: int, seconds: float) -> None:
    """Both ends lose the carrier."""
    await _cut(world, one_node(world, number), seconds, carrier=False)


@happening
async def uplink_deaf(world: World, number: int, seconds: float) -> None:
    """The node hears nothing, with the carrier there."""
    await _cut(world, one_node(world, number), seconds, carrier=True)


@happening
async def wire_down(world: World, number: int, seconds: float) -> None:
    """Between two routers."""
    wires = [each for each in world.fabric.segments.values() if not set(each.members) & set(world.nodes)]
    if not wires:
        return
    wire = wires[number % len(wires)]
    if wire.down:
        return
    world.excuse_all(seconds + 30)
    world.disturb()
    wire.down |= set(wire.members)
    world.fabric.changed()
    await asyncio.sleep(seconds)
    world.disturb()
    wire.down.clear()
    world.fabric.changed()


@happening
async def router_restarts(world: World, number: int, seconds: float, gracefully: bool) -> None:
    """`gracefully` counts for a restart that is over before its peers' patience is."""
    router = one_router(world, number)
    if not router.running or not router.alive:
        return
    gracefully = gracefully and seconds < 100
    (world.excuse_router(router, seconds + 30) if gracefully else world.excuse_all(seconds + 30))
    if not gracefully or not world.shape.graceful:
        world.disturb()
    with world.impaired(router):  # what its peers have of it lasts only if nothing else happens
        for side in world.sides_of(router):
            side.restarting = gracefully
        router.stop(gracefully=gracefully)
        world.fabric.changed()
        await asyncio.sleep(seconds)
        if router.alive and not router.running:
            router.start()
        if not gracefully or not world.shape.graceful:
            world.disturb()
        world.fabric.changed()
        await asyncio.sleep(10)
        for side in world.sides_of(router):
            side.restarting = False
    world.disturb()


@happening
async def router_off(world: World, number: int, seconds: float) -> None:
    """Power is lost."""
    router = one_router(world, number)
    if not router.alive:
        return
    world.excuse_all(seconds + 30)
    # Of one that restarts, whose power is lost before that is over, nobody hears without BFD.
    world.disturb(0 if router.running or world.shape.bfd else 120)
    router.alive = False
    world.fabric.changed()
    await asyncio.sleep(seconds)
    router.stop(gracefully=False)
    router.alive = True
    router.start()
    world.disturb()
    world.fabric.changed()


@happening
async def session_reset(world: World, number: int) -> None:
    """An operator clears it on the other end."""
    sessions = [each for each in world.fabric.sessions if each.up]
    if sessions:
        session = sessions[number % len(sessions)]
        world.excuse_session(session, 20)
        world.disturb()
        world.clear(session)


# --- the kernel ------------------------------------------------------------------------------------------


@happening
async def table_flushed(world: World, number: int) -> None:
    node = one_node(world, number)
    world.back_soon(node, lambda: "its table" if node.firewall.broken else "")
    world.disturb()
    node.firewall.flush()
    world.flushed(node)


@happening
async def routes_deleted(world: World, number: int, told: bool) -> None:
    node = one_node(world, number)
    found = sorted((key for key in node.kernel.ours if key[1] == METRIC_BGP), key=str)
    if found:
        gone = world.random.sample(found, min(3, len(found)))
        if told:
            world.back_soon(
                node, lambda: ", ".join(str(key[0]) for key in gone if key not in node.kernel.ours)
            )
        world.disturb(0 if told else 31)
        node.kernel.delete_ours(*gone, told=told)


@happening
async def bridge_deleted(world: World, number: int) -> None:
    node = one_node(world, number)
    world.back_soon(node, lambda: "its bridge" if node.kernel.bridge is None else "")
    world.disturb()
    node.kernel.bridge = None
    node.lose_notices()


@happening
async def kernel_fails(world: World, number: int, seconds: float) -> None:
    """Reads, routes and tables fail, and notices are lost."""
    node = one_node(world, number)
    part = world.random.choice(("read", "bridge", "underlay"))
    with world.impaired(node):
        node.kernel.failing[part] = KernelError(f"{part} is broken", 5)
        node.firewall.failing = KernelError("nft cannot change table inet l3net (x)", 105)
        node.kernel.refuses = lambda route: KernelError(f"put route {route.prefix}", 22)
        node.lose_notices()
        await asyncio.sleep(seconds)
        node.kernel.failing.clear()
        node.firewall.failing = None
        node.kernel.refuses = lambda _route: None
        await asyncio.sleep(65)  # until what was refused most often is tried again


@happening
async def table_refuses(world: World, number: int, seconds: float) -> None:
    """What is about one service is refused, and nothing else."""
    node = one_node(world, number)
    if not world.services or node.refusing:
        return
    address = str(list(world.services)[number % len(world.services)])
    with world.impaired(node):
        refusal = RefusedError("nft cannot change table inet l3net (in use)", errno.EBUSY)
        node.firewall.refuses = lambda text: refusal if address in text else None
        node.refusing = True
        await asyncio.sleep(seconds)
        node.firewall.refuses = lambda _text: None
        node.refusing = False
        await asyncio.sleep(65)


@happening
async def foreign_route(world: World, number: int, seconds: float) -> None:
    """Somebody puts a route in the place of one of ours; it leads to the same."""
    node = one_node(world, number)
    found = sorted((key for key in node.kernel.ours if key[1] == METRIC_BGP), key=str)
    if not found:
        return
    key = found[number % len(found)]
    route = node.kernel.ours[key]
    hop = min(route.next_hops, key=str)
    if key in node.kernel.others:
        return
    node.kernel.other_route(str(key[0]), hop.interface, str(hop.gateway), key[1])
    theirs = node.kernel.others[key]
    node.kernel.delete_ours(key)
    world.disturb()
    with world.impaired(node):
        await asyncio.sleep(seconds)
        world.disturb()
        if node.kernel.others.get(key) is theirs:
            node.kernel.delete_other(str(key[0]), key[1])
        elif node.power and node.name not in world.without_links:
            world.complain("nothing of others is touched", f"{node.name} has taken {key[0]} away")
        await asyncio.sleep(2)


# --- the API ---------------------------------------------------------------------------------------------


@happening
async def api_cut(world: World, number: int, seconds: float) -> None:
    """One node reaches no API server; an agent of it that starts has to wait."""
    node = one_node(world, number)
    if node.view.cut:
        return
    disturbed = world.disturbed
    with world.impaired(node, steady=True):
        node.view.cut_off()
        await asyncio.sleep(seconds)
        stays = world.keeps(node, beside=1) if world.disturbed == disturbed else no_care
        node.view.back(world.declared.objects)
        for pause in (*[0.01] * 20, 0.3, 0.5):
            await asyncio.sleep(pause)
            stays()


@happening
async def api_fails(world: World, number: int) -> None:
    """The stream ends in an error."""
    node = one_node(world, number)
    with world.impaired(node):
        node.view.fail()
        await asyncio.sleep(40)


@happening
async def api_slow(world: World, number: int, lag: float, seconds: float) -> None:
    node = one_node(world, number)
    with world.impaired(node):
        before, node.view.lag = node.view.lag, lag
        await asyncio.sleep(seconds)
        node.view.lag = before
        await asyncio.sleep(lag)


@happening
async def api_doubles(world: World, number: int, seconds: float) -> None:
    """Events come twice, and older ones between them."""
    node = one_node(world, number)
    node.view.doubled = True
    await asyncio.sleep(seconds)
    node.view.doubled = False


# --- what is declared ------------------------------------------------------------------------------------


@happening
async def pod_added(world: World, number: int) -> None:
    world.disturb()
    await world.add_pod(one_node(world, number).name)
    world.disturb()


@happening
async def pod_deleted(world: World, number: int) -> None:
    if world.pods:
        world.disturb()
        await world.delete_pod(list(world.pods)[number % len(world.pods)])
        world.disturb()


@happening
async def service_deleted(world: World, number: int, seconds: float) -> None:
    """And made anew."""
    name = f"s{number % world.shape.services}" if world.shape.services else ""
    if not name or name in world.gone:
        return
    world.gone.add(name)
    with world.goes(name):
        world.disturb()
        world.declared.delete(world.service_documents(name)[0])
        await asyncio.sleep(min(seconds, 1.0))
    await asyncio.sleep(seconds - min(seconds, 1.0))
    world.gone.discard(name)
    world.disturb()
    world.say_services(name)


@happening
async def endpoints_flap(world: World, number: int, times: int) -> None:
    name = f"s{number % world.shape.services}" if world.shape.services else ""
    if not name or name in world.gone or not world.members[name]:
        return
    members = world.members[name]
    for _ in range(times):
        world.disturb()
        world.members[name] = []
        world.say_services(name)
        await asyncio.sleep(world.random.choice((0.001, 0.05, 1.0)))
        now = [pod for pod in members if pod in world.pods and pod not in world.ending]
        world.members[name] = now + [pod for pod in world.members[name] if pod not in now]
        world.say_services(name)
        await asyncio.sleep(world.random.choice((0.001, 0.05, 1.0)))
    world.disturb()


@happening
async def block_added(world: World, number: int, seconds: float) -> None:
    """The Node has one block more, for a while."""
    node = one_node(world, number)
    more = f"10.245.{number % 100}.0/24"
    if more in node.blocks:
        return
    world.disturb()
    node.blocks = (*node.blocks, more)
    world.say_node(node.name)
    await asyncio.sleep(seconds)
    world.disturb()
    node.blocks = tuple(each for each in node.blocks if each != more)
    world.say_node(node.name)


@happening
async def block_lost(world: World, number: int, seconds: float) -> None:
    """The Node has its first block no longer; pods that run in it keep it."""
    node = one_node(world, number)
    if len(node.blocks) < 2 or node.lost:
        return
    world.disturb()
    node.lost, before = node.blocks[0], node.blocks
    node.blocks = before[1:]
    world.say_node(node.name)
    await asyncio.sleep(seconds)
    world.disturb()
    node.blocks, node.lost = (before[0], *node.blocks), ""
    world.say_node(node.name)


@happening
async def cordoned(world: World, number: int, seconds: float) -> None:
    node = one_node(world, number)
    if node.name in world.cordoned:
        return
    world.disturb(15)
    world.cordoned.add(node.name)
    world.say_node(node.name)
    await asyncio.sleep(seconds)
    world.disturb(15)
    world.cordoned.discard(node.name)
    world.say_node(node.name)


@happening
async def leaves(world: World, number: int, seconds: float) -> None:
    """`l3net node drain`, and undrain."""
    node = one_node(world, number)
    if node.memory.leave or not node.power:
        return
    world.excuse_node(node, seconds + 90)
    world.disturb(40)
    node.memory.leave = True
    world.left[node.name] = world.now()
    await asyncio.sleep(min(seconds, AWAY))
    passes, agent, disturbed = node.agent.passes, node.agent, world.disturbed
    await asyncio.sleep(seconds - min(seconds, AWAY))
    more = node.agent.passes - passes
    undisturbed = world.disturbed == disturbed and node.running and node.agent is agent
    if seconds > AWAY and undisturbed and not world.hindered(node) and more > (seconds - AWAY) / 30 + 3:
        world.complain("who has left is quiet", f"{node.name}: {more} passes in {seconds - AWAY:.0f} s")
    node.memory.leave = False
    world.disturb(40)
    await asyncio.sleep(50)
    del world.left[node.name]
    world.disturb()


@happening
async def communities_change(world: World, seconds: float) -> None:
    """Which resets no session."""
    world.configure(advertise={"communities": ["64512:7"]})
    await asyncio.sleep(seconds)
    world.configure(advertise=None)


@happening
async def drain_waits_longer(world: World, seconds: float) -> None:
    """Nodes that drain wait longer from now on: what they have withdrawn stays so."""
    world.configure(drain={"wait": 60})
    await asyncio.sleep(seconds)
    world.configure(drain=None)


@happening
async def unready(world: World, number: int, seconds: float) -> None:
    """Its kubelet is not heard: it serves no services, and keeps its pods."""
    node = one_node(world, number)
    if node.name in world.unready:
        return
    world.disturb()
    world.unready.add(node.name)
    world.say_node(node.name)
    await asyncio.sleep(seconds)
    world.disturb()
    world.unready.discard(node.name)
    world.say_node(node.name)


# --- routers' words --------------------------------------------------------------------------------------


@happening
async def prefix_flaps(world: World, times: int, pause: float) -> None:
    router = world.outsiders[0]
    for number in range(times):
        router.announce(f"198.51.{number % 3}.0/24")
        await asyncio.sleep(pause)
        router.announce(f"198.51.{number % 3}.0/24", gone=True)
        await asyncio.sleep(pause)


@happening
async def prefixes_burst(world: World, count: int, seconds: float) -> None:
    router = world.outsiders[0]
    many = [f"172.{16 + each // 256}.{each % 256}.0/24" for each in range(count)]
    for each in many:
        router.announce(each)
    await asyncio.sleep(seconds)
    for each in many:
        router.announce(each, gone=True)


@happening
async def hijack(world: World, number: int, seconds: float) -> None:
    """A router says that it has what is the nodes' own: a part of a block, a service, all there is; or that
    somebody else on the link has what is outside."""
    node = one_node(world, number)
    kind = number % 5
    hops = {4: ip_address("10.0.0.200"), 6: ip_address("fd00::200")} if kind == 4 else {}
    if kind == 0 and node.blocks:
        block = node.blocks[0].removesuffix("0/24")
        wrong = [f"{block}0/25"]
    elif kind == 1:
        wrong = ["10.96.0.10/32", "fd96::a/128"]
    elif kind == 2:
        wrong = ["10.96.0.0/17"]
    elif kind == 4:
        # Who knows of no other node takes whatever is on its link for one.
        wrong = ["203.0.113.0/25", "2001:db8::/49"] if len(world.nodes) > 1 else []
    else:
        wrong = [str(segment.subnets[0]).replace("/24", "/25") for segment in world.rack_segments()[:1]]
    sides = [theirs for _, theirs in world.node_router_sessions()]
    lying: list[tuple[RouterSide, Prefix]] = []
    for side in sides[number % len(sides) :: 3]:
        for prefix in wrong:
            lying += world.lie(side, prefix, hops.get(side.address.version))
    await asyncio.sleep(min(seconds, 3.0))
    if kind:
        world.nobody_has({prefix for _, prefix in lying})
    await asyncio.sleep(seconds - min(seconds, 3.0))
    for side, prefix in lying:
        world.lie_no_more(side, prefix)
