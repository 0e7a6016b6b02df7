"""What pods may send from beside their own addresses: told to the guard as it changes, and only then."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, cast

from l3net.agent.allowing import Allowing
from l3net.cni.guard import Allowed
from l3net.model import ClusterState, Namespace, ObjectName, Pod

VIP = (ip_network("192.0.2.7/32"), ip_network("2001:db8::7/128"))
NAME = ObjectName("shop", "vip")


class Guard:
    def __init__(self) -> None:
        self.told: list[Allowed] = []

    def allow(self, allowed: Allowed) -> None:
        self.told.append(allowed)


def test_the_guard_is_told_what_changes() -> None:
    guard = Guard()
    allowing = Allowing("n1", cast(Any, guard))
    state = ClusterState(namespaces={"shop": Namespace("shop", allowed_sources=VIP)})
    allowing.apply(state)
    assert guard.told == [] and not allowing.due
    allowing.note(ObjectName("shop", "plain"), Pod(ObjectName("shop", "plain"), node="n1"))
    allowing.note(NAME, Pod(NAME, node="n2", allowed_sources=VIP))  # another node's to guard
    assert not allowing.due
    allowing.note(NAME, Pod(NAME, node="n1", allowed_sources=VIP))
    assert allowing.due
    for _ in range(2):
        allowing.apply(state)
    assert guard.told == [Allowed({"shop/vip": VIP})] and allowing.problems() == []
    state.namespaces["shop"] = Namespace("shop", allowed_sources=VIP[:1])
    allowing.apply(state)
    assert guard.told[1:] == [Allowed({"shop/vip": VIP[:1]})]
    assert allowing.problems() == [
        "pod shop/vip: may not send from 2001:db8::7/128: the annotation l3net.io/allowed-addresses of its "
        "Namespace does not allow that"
    ]
    allowing.note(NAME, None)
    assert allowing.due
    allowing.apply(state)
    assert guard.told[2:] == [Allowed()] and allowing.problems() == []
