"""A pod with raw sockets sends from its own addresses and MAC alone, and claims no other."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from guard_frames import Said, honest, link_lies, made, routed_lies, udp
from guard_net import GATEWAY, GATEWAY_MAC, NODE, OUTSIDE, PATIENCE, World, inside, run_in, world
from scapy.layers.l2 import Ether

if TYPE_CHECKING:
    from conftest import Host

pytestmark = pytest.mark.netns


@pytest.fixture
def there(host: Host) -> World:
    return world(host)


def unguard(there: World) -> None:
    there.host.stop()  # it would put the table back
    there.nft("delete table bridge l3net")


def told(there: World, said: list[Said], *, awaited: bool) -> tuple[list[str], list[str]]:
    """Say all of it, and something honest at the end: what arrived at the bridge, and what where it went."""
    ends = [each for each in honest(there) if each.name.startswith("UDP, IPv")]
    until: dict[str, set[int]] = {place: set() for place in there.ears.places}
    for each in (*ends, *(said if awaited else ())):
        until["node"].add(each.mark)
        if each.place:
            until[each.place].add(each.mark)
    there.say(each.frame for each in (*said, *ends))
    heard = there.ears.listen(until)
    assert all(each.mark in heard["node"] for each in ends), "not even what is true arrives"
    arrived = [each.name for each in said if each.mark in heard["node"]]
    further = [each.name for each in said if each.place and each.mark in heard[each.place]]
    return arrived, further


def test_every_lie_is_dropped_and_each_would_arrive(there: World) -> None:
    """To the node, the gateway, a pod of the block, another node's pod and outside, in both families."""
    lies = [*routed_lies(there), *link_lies(there)]
    assert len({each.name for each in lies}) == len(lies) > 200
    assert told(there, lies, awaited=False) == ([], [])
    unguard(there)
    # the control: the same frames
    lies = [*routed_lies(there), *link_lies(there)]
    arrived, further = told(there, lies, awaited=True)
    assert [each.name for each in lies if each.name not in arrived] == []
    assert [each.name for each in lies if each.place and each.name not in further] == []
    # and all the same, what the node believes of the neighbour's addresses is what it was told by the plan
    for address in there.theirs.values():
        (entry,) = there.host.ip("neigh", "show", address, "dev", "l3net0")
        assert (entry["lladdr"], entry["state"]) == (there.their_mac, ["PERMANENT"])


@pytest.mark.parametrize("last", [0x00, 0x02, 0x03, 0x0E])
def test_nothing_comes_by_the_addresses_of_a_bridge(there: World, last: int) -> None:
    """Such a frame goes to the host by the port, LLDP's past every hook of the bridge, and on to a socket."""
    aimed = Ether(src=there.mac, dst=f"01:80:c2:00:00:{last:02x}")
    with inside(there.host.name):
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    there.host.undo.callback(ear.close)
    ear.bind((NODE[4], 4002))

    def arrives() -> bool:
        """In its turn: what is true comes after it."""
        (said,) = made("to the bridge itself", aimed / udp(there.own[4], NODE[4]))
        (true,) = made("true", Ether(src=there.mac, dst=GATEWAY_MAC) / udp(there.own[4], NODE[4]))
        there.say([said.frame, true.frame])
        ear.settimeout(PATIENCE)
        heard = {int(ear.recv(100)[-4:])}
        if heard == {said.mark}:
            heard.add(int(ear.recv(100)[-4:]))
        assert true.mark in heard
        return said.mark in heard

    assert not arrives()
    # the control: a bridge as it is by default, without the guard
    run_in(there.host.name, "ip", "link", "set", "l3net0", "type", "bridge", "group_fwd_mask", "0")
    assert arrives() == (last == 0x0E), "by the port, whatever the guard"
    unguard(there)
    assert arrives()


def test_what_is_true_passes(there: World) -> None:
    said = [*honest(there)]
    arrived, further = told(there, said, awaited=True)
    assert [each.name for each in said if each.name not in arrived] == []
    assert [each.name for each in said if each.place and each.name not in further] == []


def test_the_pods_own_stack_gets_on(there: World) -> None:
    """Addresses found free by itself, neighbours asked for, large packets in pieces."""
    run_in(there.liar, "ip", "neigh", "flush", "dev", "eth0")
    for target in (*there.theirs.values(), *GATEWAY.values(), *NODE.values(), *OUTSIDE.values()):
        run_in(there.liar, "ping", "-c1", "-W5", "-s3000", target)
    shown = run_in(there.liar, "ip", "-6", "addr", "show", "dev", "eth0")
    assert "dadfailed" not in shown and "fe80::" in shown
