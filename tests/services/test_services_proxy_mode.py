"""Who is the service proxy of a node, as kube-proxy comes and goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3net.model import ServiceProxy
from l3net.services.proxymode import PATIENCE, ProxyMode, ProxySeen

AUTO = ServiceProxy.AUTO
NONE = ProxySeen()
REMAINS = ProxySeen("", "table ip kube-proxy")
ANSWERS = ProxySeen("nftables")
BOTH = ProxySeen("nftables", "table ip kube-proxy")


def run(mode: ProxyMode, *seen: tuple[float, ProxySeen], setting: ServiceProxy = AUTO) -> list[bool]:
    return [mode.decide(now, setting, each).on for now, each in seen]


@pytest.mark.parametrize("was", [None, True, False])
def test_what_is_set_holds_whatever_is_seen(was: bool | None) -> None:
    every = [(float(now), seen) for now, seen in enumerate((NONE, REMAINS, ANSWERS, BOTH))]
    assert run(ProxyMode(was), *every, setting=ServiceProxy.ENABLED) == [True] * 4
    assert run(ProxyMode(was), *every, setting=ServiceProxy.DISABLED) == [False] * 4


@pytest.mark.parametrize(
    ("was", "seen", "on"),
    [
        (None, NONE, True),
        (None, ANSWERS, False),
        (None, REMAINS, False),  # it may be starting
        # An agent goes on as the one before it.
        (True, NONE, True),
        (True, REMAINS, True),
        (True, BOTH, False),
        (True, ANSWERS, True),  # it starts, and translates nothing yet
        (False, NONE, True),  # its tables were removed
        (False, REMAINS, False),
        (False, ANSWERS, False),
    ],
)
def test_the_first_look(was: bool | None, seen: ProxySeen, on: bool) -> None:
    assert run(ProxyMode(was), (100.0, seen)) == [on]


def test_tables_that_nobody_keeps_are_waited_for_and_no_longer() -> None:
    for was in (None, False):
        looks = [(0.0, REMAINS), (PATIENCE - 1, REMAINS), (PATIENCE, REMAINS), (PATIENCE + 3, REMAINS)]
        assert run(ProxyMode(was), *looks) == [False, False, True, True]


def test_an_upgrade_of_kube_proxy_is_waited_for() -> None:
    mode = ProxyMode(None)
    assert run(mode, (0.0, ANSWERS), (3.0, REMAINS), (20.0, REMAINS), (23.0, BOTH)) == [False] * 4
    assert run(mode, (26.0, REMAINS), (55.0, REMAINS), (56.0, REMAINS)) == [False, False, True]
    assert run(mode, (60.0, BOTH)) == [False], "it is back"


def test_one_whose_tables_are_gone_is_not_waited_for() -> None:
    assert run(ProxyMode(None), (0.0, ANSWERS), (3.0, NONE)) == [False, True]


def test_one_that_comes_is_left_the_services_when_it_has_tables_or_says_so_for_long() -> None:
    assert run(ProxyMode(True), (0.0, NONE), (3.0, ANSWERS), (6.0, ANSWERS), (9.0, BOTH)) == [
        True, True, True, False,
    ]  # fmt: skip
    looks = (3.0, ANSWERS), (3.0 + PATIENCE - 1, ANSWERS), (3.0 + PATIENCE, ANSWERS)
    assert run(ProxyMode(True), *looks) == [True, True, False], "in iptables-legacy they are not seen"


def test_tables_are_looked_for_where_it_comes_or_goes_alone() -> None:
    mode = ProxyMode(None)
    assert mode.asks_for_tables(AUTO, "") and not mode.asks_for_tables(AUTO, "ipvs")
    mode.decide(0.0, AUTO, NONE)
    assert not mode.asks_for_tables(AUTO, "") and mode.asks_for_tables(AUTO, "ipvs")
    for setting in (ServiceProxy.ENABLED, ServiceProxy.DISABLED):
        assert not mode.asks_for_tables(setting, "") and not mode.asks_for_tables(setting, "ipvs")


SIGHTS = (NONE, REMAINS, ANSWERS, BOTH)


@given(st.lists(st.sampled_from(SIGHTS), max_size=40), st.sampled_from([None, True, False]))
def test_in_the_end_it_is_as_what_lasts(history: list[ProxySeen], was: bool | None) -> None:
    """Whatever was: after patience with one sight, whoever answers is the one."""
    for last in SIGHTS:
        mode = ProxyMode(was)
        for number, seen in enumerate(history):
            mode.decide(3.0 * number, AUTO, seen)
        after = 3.0 * len(history)
        mode.decide(after, AUTO, last)
        assert mode.decide(after + PATIENCE, AUTO, last).on is not bool(last.answers)
