"""What a topology's author is warned of, and how a link that is cut is drawn."""

from __future__ import annotations

import pytest
from test_lab_topology import SMALL

from l3net.lab.advice import warnings
from l3net.lab.drawing import FORMATS
from l3net.lab.parse import parse_topology
from l3net.lab.state import read_source


def fabric(first: int, second: int, *links: tuple[str, str]) -> list[str]:
    """Two racks with a node each below a spine; the ASes of their routers."""
    topology = parse_topology(
        {
            "routers": [
                {"name": "spine", "asNumber": 65000},
                {"name": "tor1", "asNumber": first},
                {"name": "tor2", "asNumber": second},
            ],
            "nodes": [{"name": "n1", "pods": ["web"]}, {"name": "n2"}],
            "links": [
                {"between": list(pair)}
                for pair in (("spine", "tor1"), ("spine", "tor2"), ("tor1", "n1"), ("tor2", "n2"), *links)
            ],
            "services": SMALL["services"],
        }
    )
    return warnings(topology)


def test_two_racks_of_one_as_hear_nothing_of_one_another() -> None:
    (told,) = fabric(65001, 65001)
    assert told.startswith(
        "tor1 and tor2 are both in AS 65001: tor1 gets no route from n2; tor2 gets no route from n1."
    )
    assert "asNumber of its own" in told


@pytest.mark.parametrize(
    "links",
    [
        pytest.param((("tor1", "n2"), ("tor2", "n1")), id="both nodes hang from both"),
        pytest.param((("tor1", "tor2"),), id="iBGP between the two"),
    ],
)
def test_two_routers_of_one_rack_may_share_an_as(links: tuple[tuple[str, str], ...]) -> None:
    assert fabric(65001, 65001, *links) == []


def test_no_warning_where_they_differ_or_are_in_the_cluster_s() -> None:
    assert fabric(65001, 65002) == []
    assert fabric(64512, 64512) == []
    assert warnings(read_source(None).topology()) == []


def test_a_link_that_is_cut_is_seen_in_every_picture() -> None:
    topology = read_source(None).topology()
    link = topology.links[-1]
    marks = {"terminal": "╳", "svg": 'class="cut"', "dot": "style=dashed", "mermaid": "-.-x"}
    for style, draw in FORMATS.items():
        whole, apart = draw(topology), draw(topology, [link])
        assert marks[style] not in whole
        assert apart.count(marks[style]) == 1
    assert "cut: tor2 - n3" in FORMATS["terminal"](topology, [link])
    assert all(str(subnet) in FORMATS["svg"](topology) for each in topology.links for subnet in each.subnets)
