"""Which nodes are away, by what routers and nodes announce."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from l3net.agent.reachable import Reachable
from l3net.model import Prefix

BLOCKS: dict[str, list[Prefix]] = {name: [ip_network(f"10.244.{at}.0/24")] for at, name in enumerate("abc")}
ROUTERS, MESH = False, True


class Told(Reachable):
    """By whom each node's block is announced now, and which sessions are up."""

    def __init__(self, *up: bool) -> None:
        self.by: dict[Prefix, set[bool]] = {}
        self.up = set(up)
        super().__init__(lambda prefix: self.by.get(prefix, ()), lambda: self.up)
        self.follow(BLOCKS)

    def announce(self, **by: tuple[bool, ...]) -> set[str]:
        """By routers, nodes, both or nobody; who is lost then."""
        for name, ways in by.items():
            self.by[BLOCKS[name][0]] = set(ways)
            self.look(BLOCKS[name])
        return set(self.lost)


def test_who_was_never_heard_of_is_not_lost() -> None:
    assert Told(ROUTERS, MESH).announce(a=(ROUTERS,), b=()) == set()


@pytest.mark.parametrize("way", [ROUTERS, MESH])
def test_who_is_heard_of_no_more_is_lost_until_it_is_again(way: bool) -> None:
    told = Told(way)
    assert told.announce(a=(way,), b=(way,)) == set()
    assert told.announce(a=()) == {"a"}
    assert told.announce(a=(way,)) == set()


def test_a_router_knows_it_before_the_nodes_own_session_ends() -> None:
    told = Told(ROUTERS, MESH)
    both = (ROUTERS, MESH)
    assert told.announce(a=both, b=both) == set()
    assert told.announce(a=(MESH,)) == {"a"}
    assert told.announce(a=()) == {"a"}


def test_a_router_that_announces_no_node_any_more_is_another_router_now() -> None:
    """Were it believed, every node would hold all addresses."""
    told = Told(ROUTERS, MESH)
    both = (ROUTERS, MESH)
    told.announce(a=both, b=both, c=both)
    assert told.announce(a=(MESH,), b=(MESH,), c=(MESH,)) == set()
    assert told.announce(c=()) == {"c"}, "of whom the nodes' sessions say the same"


def test_that_the_session_of_a_node_ends_says_nothing_while_routers_have_it() -> None:
    told = Told(ROUTERS, MESH)
    both = (ROUTERS, MESH)
    told.announce(a=both, b=both)
    assert told.announce(a=(ROUTERS,)) == set()


def test_without_a_peer_it_is_this_node_that_is_cut_off() -> None:
    told = Told(ROUTERS)
    told.announce(a=(ROUTERS,), b=(ROUTERS,))
    told.up.clear()
    assert told.announce(a=(), b=()) == set()


def test_a_node_that_is_deleted_is_forgotten() -> None:
    told = Told(ROUTERS)
    told.announce(a=(ROUTERS,), b=(ROUTERS,))
    assert told.announce(a=()) == {"a"}
    told.follow({"b": BLOCKS["b"]})
    assert told.lost == set()
