"""Commands read a line at a time; tests/interop/test_interop_exabgp_quick.py compares what comes of them."""

from __future__ import annotations

import pytest
from exabgp.bgp.message import Action, Update
from exabgp.bgp.message.update.attribute import Attributes
from exabgp.bgp.message.update.attribute.origin import Origin
from exabgp.bgp.message.update.nlri.cidr import CIDR
from exabgp.bgp.message.update.nlri.inet import INET
from exabgp.protocol.family import AFI, SAFI
from exabgp.protocol.ip import IP
from exabgp.rib.change import Change

from l3net.shell.speaker.exabgp_queueing import IN_ONE_UPDATE, Reader, grouped, packed

HEAD = "attributes next-hop 10.0.0.1 origin igp community [ 65001:7 ]"


class Api:
    """In ExaBGP's place; counts what it is asked to read."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def api_attributes(self, command: str, _peers: object) -> list[Change]:
        self.asked.append(command)
        attributes = Attributes()
        attributes.add(Origin(Origin.IGP))
        return [Change(inet(command.rpartition(" ")[2]), attributes)]


def inet(prefix: str, action: int = Action.ANNOUNCE) -> INET:
    address, length = prefix.split("/")
    nlri = INET(AFI.ipv6 if ":" in address else AFI.ipv4, SAFI.unicast, action)
    nlri.cidr = CIDR(IP.pton(address), int(length))
    nlri.nexthop = IP.create("fd00::1")
    return nlri


def test_the_same_attributes_are_read_once() -> None:
    api = Api()
    reader = Reader(api)
    for verb in ("announce", "withdraw"):
        for number in range(9):
            order = reader.read(f"neighbor 10.0.0.2 {verb} {HEAD} nlri 10.{number}.0.0/16 10.1.0.0/24")
            assert order is not None
            assert [length for length, *_ in order.prefixes] == [16, 24]
    assert len(api.asked) == 1
    assert reader.read(f"neighbor 10.0.0.2 announce {HEAD} nlri fd00::/64") is not None
    assert len(api.asked) == 2  # of another family: ExaBGP reads a next hop by it


@pytest.mark.parametrize(
    "line",
    [
        "version",
        "l3net peers",
        "neighbor 10.0.0.2 announce eor ipv4 unicast",
        f"announce {HEAD} nlri 10.0.0.0/8",  # to whoever there is
        f"neighbor 10.0.0.2 announce {HEAD} nlri 10.0.0.0/8 fd00::/8",
        f"neighbor 10.0.0.2 announce {HEAD} nlri 10.0.0.1/8",
        f"neighbor 10.0.0.2 announce {HEAD} nlri 224.0.0.0/24",
        f"neighbor 10.0.0.2 announce {HEAD} nlri 10.0.0.0/8 ",
        f"neighbor 10.0.0.2 announce {HEAD} watchdog x nlri 10.0.0.0/8",
        "neighbor 10.0.0.2 announce attributes next-hop self nlri 10.0.0.0/8",
        f"neighbor 10.0.0.2 announce {HEAD} label 7 nlri 10.0.0.0/8",
    ],
)
def test_everything_else_is_left_to_exabgp(line: str) -> None:
    api = Api()
    assert Reader(api).read(line) is None
    assert api.asked == []


@pytest.mark.parametrize(
    "text", ["10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/8x", "", "/8"]
)
def test_what_is_no_prefix_is_not_packed(text: str) -> None:
    assert packed([text]) is None
    assert packed(["10.0.0.0/8", "fd00::/8"]) is None


def test_routes_of_ipv6_share_an_update_with_those_alike() -> None:
    one, other = Attributes(), Attributes()
    many = [Update([inet(f"fd00:{number:x}::/32")], one) for number in range(IN_ONE_UPDATE + 1)]
    updates = [
        *many,
        Update([inet("fd01::/32")], other),
        Update([inet("10.0.0.0/8"), inet("11.0.0.0/8")], other),
        Update([inet("10.0.0.0/8")], other),
        Update([inet("fd02::/32")], other),
    ]
    made = list(grouped(iter(updates)))
    assert [len(update.nlris) for update in made] == [IN_ONE_UPDATE, 1, 1, 2, 1, 1]
    assert [nlri for update in made for nlri in update.nlris] == [
        nlri for update in updates for nlri in update.nlris
    ]
    assert [update.attributes is other for update in made] == [False, False, True, True, True, True]
