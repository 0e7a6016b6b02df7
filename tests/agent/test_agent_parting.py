"""Old mesh sessions stay until the new topology has taken over, and not for ever."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

from l3net.agent.speaker.parting import LINGER, PATIENCE, REFLECT_ON, Parting
from l3net.bgp.sessions import Session
from l3net.model import Address, Family


def mesh(number: int) -> tuple[Address, Session]:
    address = ip_address(f"10.0.0.{number}")
    return address, Session(
        name=f"mesh:n{number}",
        mesh_node=f"n{number}",
        peer_address=address,
        peer_as=64512,
        local_address=ip_address("10.0.0.1"),
        local_as=64512,
        router_id=ip_address("10.0.0.1"),  # type: ignore[arg-type]
        families=frozenset({Family.IPV4}),
    )


NODES = frozenset(f"n{number}" for number in range(1, 9))
FULL = dict(mesh(number) for number in range(2, 9))
REFLECTED = dict(mesh(number) for number in (2, 3))


def test_old_sessions_stay_until_the_new_ones_have_been_settled_for_a_while() -> None:
    parting = Parting()
    assert parting.merge(REFLECTED, FULL, NODES, 0.0) == FULL
    assert not parting.finished(settled=False, now=5.0)
    assert not parting.finished(settled=True, now=6.0)
    assert not parting.finished(settled=True, now=6.0 + LINGER / 2)
    assert parting.merge(REFLECTED, FULL, NODES, 9.0) == FULL  # a change of something else meanwhile
    assert parting.finished(settled=True, now=6.0 + LINGER)
    assert parting.merge(REFLECTED, FULL, NODES, 20.0) == REFLECTED
    assert not parting.pending


def test_they_go_when_patience_is_over() -> None:
    parting = Parting()
    parting.merge(REFLECTED, FULL, NODES, 0.0)
    assert parting.finished(settled=False, now=PATIENCE)
    assert parting.merge(REFLECTED, FULL, NODES, PATIENCE + 1) == REFLECTED


def test_a_node_that_is_gone_is_gone_at_once() -> None:
    parting = Parting()
    assert set(parting.merge(REFLECTED, FULL, frozenset({"n1", "n2", "n3"}), 0.0)) == set(REFLECTED)


def test_from_reflectors_back_to_the_mesh_nothing_has_to_stay() -> None:
    parting = Parting()
    assert parting.merge(FULL, REFLECTED, NODES, 0.0) == FULL
    assert not parting.pending


def test_a_reflector_goes_on_for_a_while_and_is_believed_meanwhile() -> None:
    address, plain = mesh(2)
    reflector = replace(plain, reflector=True)
    reflecting = replace(plain, client=True, cluster_id=IPv4Address("10.0.0.1"))
    for before in (reflector, reflecting):
        parting = Parting()
        held = parting.merge({address: plain}, {address: before}, NODES, 0.0)
        assert held == {address: before}
        assert parting.merge({address: plain}, held, NODES, REFLECT_ON - 1) == {address: before}
        assert parting.merge({address: plain}, held, NODES, REFLECT_ON + 1) == {address: plain}
        assert parting.reflected_until() is None
