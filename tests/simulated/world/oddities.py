"""More that may happen in a world (see happenings.py): what operators and other programs do now and then."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

from packets.outcomes import Delivered
from packets.packet import ACK, SYN, TCP, Packet
from sim_node import node as node_document

from l3net.bgp.damping import FLAPS
from l3net.fib.underlay import InterfaceAddress
from l3net.ports import LinkSeen
from world.calm import calm
from world.happenings import happening, one_node
from world.world import GUARDED, OUTSIDE_ADDRESSES, POD_PORT, World

#: Seconds for which a session that flaps is held down at most, in one minute of it.
LONGEST_HOLD = 90.0


@happening
async def virtual_address(world: World, number: int, seconds: float) -> None:
    """An address in the peers' subnet comes to a node, and goes: no session is to follow it."""
    node = one_node(world, number)
    rack = next(at for at, each in enumerate(world.rack_segments()) if node.name in each.members)
    texts = (f"10.0.{rack}.{3 + number % 5}", 24), (f"fd00:0:0:{rack:x}::{3 + number % 5}", 64)
    more = [InterfaceAddress("up0", ip_address(text), length) for text, length in texts]
    if any(each in node.kernel.addresses for each in more):
        return
    node.kernel.addresses[:0] = more
    node.kernel.notice(LinkSeen("up0"))
    await asyncio.sleep(seconds)
    for each in more:
        node.kernel.addresses.remove(each)
    node.kernel.notice(LinkSeen("up0"))


@happening
async def old_node(world: World, number: int, seconds: float) -> None:
    """The Node of a machine that is no more has the address of one that is there."""
    node = one_node(world, number)
    name = f"a-{node.name}"
    if name in world.odd:
        return
    world.odd.add(name)
    addresses = tuple(map(str, node.addresses))
    old = node_document(name, f"10.246.{number % 100}.0/24", addresses=addresses, ready=False)
    world.declared.apply(old)
    await asyncio.sleep(seconds)
    world.declared.delete(old)
    world.odd.discard(name)


@happening
async def peer_gone(world: World, number: int, seconds: float) -> None:
    """A BGPPeer is deleted, and made anew: meanwhile its router has nothing of the nodes."""
    sessions = world.node_router_sessions()
    before = world.peer_document(sessions[number % len(sessions)][0])
    name = before["metadata"]["name"]
    if name in world.odd:
        return
    world.odd.add(name)
    theirs = [(near, far) for near, far in sessions if str(near.address) == before["spec"]["address"]]
    nodes = [world.nodes[near.name] for near, _ in theirs]
    world.excuse_peer(before, seconds + 60)
    with world.all_impaired(nodes):
        heard = {near.name for near, far in theirs if near.session.up and near.heard}
        free = {node.name for node in nodes if node.running and not world.hindered(node, beside=1)}
        world.declared.delete(before)
        await asyncio.sleep(seconds)
        for near, far in theirs:
            still = seconds >= 10 and world.nodes[near.name].running and free & heard >= {near.name}
            if still and far.learned and not world.hindered(world.nodes[near.name], beside=1):
                what = f"{far.name} has of {near.name}: {', '.join(map(str, far.learned))}"
                world.complain("who is no peer any more has nothing", what)
        world.declared.apply(before)
        await asyncio.sleep(15)
    world.odd.discard(name)


@happening
async def aggregated(world: World, number: int, pause: float) -> None:
    """A router announces a network, then its cover in its place, then the network again."""
    router = world.outsiders[0]
    specific, cover = f"198.18.{4 * (number % 50)}.0/24", f"198.18.{4 * (number % 50)}.0/23"
    router.announce(specific)
    for first, other in ((cover, specific), (specific, cover)):
        await asyncio.sleep(1.0 + pause)
        router.announce(first)
        router.announce(other, gone=True)
    await asyncio.sleep(1.0 + pause)
    router.announce(specific, gone=True)


@happening
async def alone(world: World, number: int, seconds: float) -> None:
    """An agent that starts reaches no API server, and its link flaps: what was in force stays so."""
    node = one_node(world, number)
    segment = world.segment_of(node.name, "up0")
    assert segment is not None
    if not node.power or not node.running or node.view.cut or node.name in segment.down:
        return
    world.excuse_node(node, seconds + 60)
    with world.impaired(node):
        node.view.cut_off()
        await node.kill()
        await asyncio.sleep(1)
        if not node.power or node.running:
            node.view.back(world.declared.objects)
            return
        node.start()
        await asyncio.sleep(seconds)
        before = set(node.kernel.ours)
        if node.name not in segment.down and not world.hindered(node, beside=1):
            node.kernel.set_link("up0", up=False)
            node.kernel.set_link("up0", up=True)
            world.after_link(node)
            await asyncio.sleep(1)
            said = {prefix for side in world.router_sides(node) for prefix in side.said}
            lost = {key for key in before - set(node.kernel.ours) if key[0] in said}
            if lost and node.power and node.running and not world.hindered(node, beside=1):
                what = f"{node.name} has lost {', '.join(sorted(str(key[0]) for key in lost))}"
                world.complain("what nothing is known against stays", what)
        node.view.back(world.declared.objects)
        await asyncio.sleep(5)


@happening
async def session_flaps(world: World, number: int, pause: float) -> None:
    """An operator, or what he does not know of, clears one session again and again."""
    sessions = [side.session for side, _ in world.node_router_sessions()]
    session = sessions[number % len(sessions)]
    node = next(world.nodes[side.name] for side in session.sides if side.name in world.nodes)
    if not session.up:
        return
    times, came_up = 12, 0
    world.excuse_session(session, times * pause + LONGEST_HOLD + 60)
    able = True
    with world.impaired(node, disturbs=True):
        for _ in range(times):
            came_up += session.up
            world.clear(session)
            await asyncio.sleep(pause)
            able = able and node.running and not world.hindered(node, beside=1)
        if came_up > FLAPS + 3 and able:
            what = f"{session.name} came up {came_up} times in {times * pause:.0f} s"
            world.complain("who flaps is held down", what)
        await asyncio.sleep(LONGEST_HOLD)


@happening
async def topology_changes(world: World, seconds: float) -> None:
    """To reflectors, or to a mesh, and back: no route is lost on the way."""
    shape = world.shape
    if not shape.mesh or "topology" in world.options or len(world.nodes) < 2:
        return
    between = [each for each in world.fabric.sessions if all(side.name in world.nodes for side in each.sides)]
    for session in between:
        world.excuse_session(session, seconds + 300)
    world.reflects = True
    world.configure(topology="Mesh" if shape.reflectors else "RouteReflectors")
    await asyncio.sleep(seconds)
    world.configure(topology=None)
    await asyncio.sleep(150)
    world.reflects = shape.reflectors


@happening
async def policy_gone(world: World, seconds: float) -> None:
    """The policy is deleted, connections begin that it forbids, and it is made anew: they are ended."""
    if not world.policed:
        return
    world.disturb()
    world.policed = False
    world.declared.delete(world.policy_document())
    await asyncio.sleep(seconds)
    flows = [each for each in map(partial(_connected, world), list(world.pods)) if each is not None]
    world.disturb()
    world.declared.apply(world.policy_document())
    while not calm(world):  # noqa: ASYNC110 - time is all there is to wait for
        await asyncio.sleep(5)
    world.policed = True
    for pod, packet in flows:
        name, addresses = world.pods.get(pod, ("", ()))
        if pod in world.ending or packet.destination not in addresses or world.hindered(world.nodes[name]):
            continue
        for outcome in world.nodes[name].stack.receive(replace(packet, flags=ACK), "up0"):
            if isinstance(outcome, Delivered):
                world.complain("what is forbidden does not pass", f"an old connection to {pod}: {outcome}")


def _connected(world: World, pod: str) -> tuple[str, Packet] | None:
    """A connection from outside to a pod that is guarded, which has answered; None: there is none."""
    name, addresses = world.pods[pod]
    node = world.nodes[name]
    if world.apps[pod] != GUARDED or pod in world.ending or not node.power:
        return None
    port = world.random.randrange(32768, 60999)
    which = world.random.randrange(2)
    sent = Packet(OUTSIDE_ADDRESSES[which], addresses[which], TCP, port, POD_PORT, SYN)
    there = node.stack.take(node.stack.receive(sent, "up0")[0])
    if not isinstance(there, Delivered):
        return None
    answer = Packet(sent.destination, sent.source, TCP, POD_PORT, port, SYN | ACK)
    node.stack.take(node.stack.from_pod(answer)[0])
    return pod, sent
