"""What an agent says of its node once the network is up, and how a full node comes by another block."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apiserver import Call, FakeApiServer
from controller_rig import Running, blocks, node, pool, until

from l3net.agent.arrival import Arrival, wanted_blocks
from l3net.agent.health import PATIENCE
from l3net.errors import L3netError
from l3net.ipam.lease import Usage
from l3net.ipam.ranges import block_sets
from l3net.ipam.reserved import ReservedPool
from l3net.model import Node, Prefix
from l3net.naming import ANNOTATION_TAKES_PART
from l3net.shell.files.cniinstall import CONFLIST, put_conflist
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.writer import KubeOwnNode


class Own:
    """Keeps what it was told; refuses while `away`."""

    def __init__(self) -> None:
        self.available = 0
        self.wanted: list[Mapping[int, int]] = []
        self.pools: list[Mapping[str, int]] = []
        self.away = False
        self.warnings: list[tuple[str, str]] = []
        self.said: list[str] = []

    def warn(self, reason: str, message: str) -> None:
        self.warnings.append((reason, message))

    def set_network_available(self) -> None:
        if self.away:
            raise L3netError("no answer")
        self.available += 1

    def want_blocks(self, wanted: Mapping[int, int]) -> None:
        self.wanted.append(wanted)

    def want_pools(self, wanted: Mapping[str, int]) -> None:
        self.pools.append(wanted)

    def take_part(self, said: str) -> None:
        self.said.append(said)


def agent(
    found: Node | None,
    *,
    leased: int = 0,
    in_sync: bool = True,
    pools: tuple[ReservedPool, ...] = (),
    lost: Sequence[tuple[Prefix, int, str]] = (),
    handed_on: bool = False,
    peers: Sequence[bool] = (),
) -> Any:
    """`peers`: whether the session with each is established."""
    holds: list[str] = []
    return SimpleNamespace(
        declared=SimpleNamespace(holding=lambda: ""),
        speaking=SimpleNamespace(
            peers={
                f"192.0.2.{number}": SimpleNamespace(established=up, flaps=0)
                for number, up in enumerate(peers, 1)
            },
            parted=False,
            settled=lambda _grace: all(peers),
        ),
        node_name="n1",
        in_sync=in_sync,
        passes=1,
        state=SimpleNamespace(nodes={"n1": found} if found else {}, pools={}),
        podnet=SimpleNamespace(
            reserved_pools=lambda _state: pools,
            missing_pools={"tenant"},
            pool_missing=asyncio.Event(),
            retained_blocks=lambda _state: lost,
        ),
        pods=SimpleNamespace(
            usage=lambda _sets: Usage(leased, 0),
            hold=lambda: holds.append("hold"),
            release=lambda: holds.append("release"),
            holds=holds,
        ),
        services=SimpleNamespace(takes_handed_on=handed_on),
    )


def run_for(arrival: Arrival, condition: Callable[[], bool]) -> None:
    async def main() -> None:
        task = asyncio.create_task(arrival.run())
        for _ in range(500):
            if condition():
                break
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(main())


N1 = Node("n1", blocks=(ip_network("10.244.1.0/24"),))


def test_configuration_and_condition_when_up(tmp_path: Path) -> None:
    own = Own()
    run_for(Arrival(agent(N1), partial(put_conflist, tmp_path), own), lambda: bool(own.available))
    assert json.loads((tmp_path / CONFLIST).read_text())["name"] == "l3net"
    assert own.available == 1 and own.wanted == []


def test_nothing_before(tmp_path: Path) -> None:
    """Not in sync, no Node, no block: a runtime must not call the node ready."""
    for not_up in (agent(N1, in_sync=False), agent(None), agent(Node("n1"))):
        own = Own()
        arrival = Arrival(not_up, partial(put_conflist, tmp_path), own)

        async def main(arrival: Arrival = arrival) -> None:
            task = asyncio.create_task(arrival.run())
            for _ in range(5):
                await asyncio.sleep(0)
            task.cancel()

        asyncio.run(main())
        assert list(tmp_path.iterdir()) == [] and own.available == 0


def test_not_before_the_peers_have_heard_of_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Service would lead to its pods as soon as they run, and nobody have a route to them."""
    monkeypatch.setattr("l3net.agent.arrival.UNHEARD", 0.01)
    caplog.set_level("INFO", "l3net.agent.arrival")
    own, found, looks = Own(), agent(N1, leased=210, peers=(True, False)), []

    def heard(_grace: float) -> bool:
        looks.append(list(tmp_path.iterdir()) or own.available)
        if len(looks) == 5:
            found.speaking.peers["192.0.2.2"].established = True
        return bool(len(looks) > 5)

    found.speaking.settled = heard
    run_for(Arrival(found, partial(put_conflist, tmp_path), own), lambda: bool(own.available))
    assert (tmp_path / CONFLIST).exists() and own.available == 1 and not any(looks)
    assert found.pods.holds == ["hold", "release"], "nor is a pod wired before, as after a reboot"
    assert own.wanted, "what else is told of the node does not wait"
    (waits,) = [text for text in caplog.messages if "not declared up yet: waiting for the sessions" in text]
    assert "192.0.2.2" in waits and "192.0.2.1" not in waits


def test_a_router_that_is_down_is_not_waited_for_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, found = Own(), agent(N1, peers=(False,))
    found.speaking.settled = lambda grace: grace == PATIENCE
    run_for(Arrival(found, partial(put_conflist, tmp_path), own), lambda: bool(own.available))
    assert (tmp_path / CONFLIST).exists() and "nobody outside of the node can reach its pods" in caplog.text


def test_without_api_the_configuration_is_written_all_the_same(tmp_path: Path) -> None:
    own = Own()
    own.away = True
    run_for(Arrival(agent(N1), partial(put_conflist, tmp_path), own), (tmp_path / CONFLIST).exists)
    assert (tmp_path / CONFLIST).exists()


def test_a_full_node_asks_once(tmp_path: Path) -> None:
    own = Own()
    arrival = Arrival(agent(N1, leased=210), None, own)
    arrival._tell()
    assert own.wanted == [{4: 2}]
    asked = Node("n1", blocks=N1.blocks, annotations={"l3net.io/wants-blocks": "IPv4=2"})
    Arrival(agent(asked, leased=210), None, own)._tell()
    assert own.wanted == [{4: 2}], "it waits for the controller"
    two = (*N1.blocks, ip_network("10.244.2.0/24"))
    more = Node("n1", blocks=two, annotations=asked.annotations)
    Arrival(agent(more, leased=210), None, own)._tell()
    assert own.wanted == [{4: 2}], "two blocks are not full"
    Arrival(agent(more, leased=420), None, own)._tell()
    assert own.wanted == [{4: 2}, {4: 3}]


def test_a_pool_that_a_pod_waits_for_is_asked_for_once() -> None:
    own, tenant = Own(), ip_network("10.20.0.0/24")
    missing = (
        ReservedPool("tenant", 4, (), frozenset({"red"})),
        ReservedPool("unused", 4, (), frozenset({"blue"})),
    )
    Arrival(agent(N1, pools=missing), None, own)._tell()
    assert own.pools == [{"tenant": 1}], "and no other"
    asked = Node("n1", blocks=N1.blocks, annotations={"l3net.io/wants-pools": "tenant=1"})
    Arrival(agent(asked, pools=missing), None, own)._tell()
    has = (ReservedPool("tenant", 4, (tenant,), frozenset({"red"})),)
    Arrival(agent(asked, pools=has, leased=10), None, own)._tell()
    assert own.pools == [{"tenant": 1}]
    Arrival(agent(asked, pools=has, leased=210), None, own)._tell()
    assert own.pools == [{"tenant": 1}, {"tenant": 2}], "nearly full"


def test_a_wish_wakes_it(tmp_path: Path) -> None:
    """A pod waits: not until the next look."""
    own, pools = Own(), (ReservedPool("tenant", 4, (), frozenset({"red"})),)

    async def main() -> None:
        found = agent(N1, pools=pools)
        found.podnet.missing_pools.clear()
        task = asyncio.create_task(Arrival(found, partial(put_conflist, tmp_path), own).run())
        for _ in range(500):
            await asyncio.sleep(0.01)
            if own.available:
                break
        assert own.available and own.pools == []
        found.podnet.missing_pools.add("tenant")
        found.podnet.pool_missing.set()
        for _ in range(300):
            await asyncio.sleep(0.01)
            if own.pools:
                break
        task.cancel()

    asyncio.run(main())
    assert own.pools == [{"tenant": 1}]


def test_a_lost_block_with_pods_is_told_once() -> None:
    own, lost = Own(), [(ip_network("10.244.5.0/24"), 3, "")]
    has = Node("n1", blocks=(*N1.blocks, lost[0][0]), retained=(lost[0][0],))
    arrival = Arrival(agent(has, lost=lost), None, own)
    arrival._tell()
    arrival._tell()
    ((reason, message),) = own.warnings
    assert reason == "BlockStillInUse" and "10.244.5.0/24" in message and "3 pod attachments" in message
    lost.clear()
    arrival._agent.state.nodes["n1"] = N1
    arrival._tell()
    arrival._agent.state.nodes["n1"] = has
    lost.append((ip_network("10.244.5.0/24"), 1, ""))
    arrival._tell()
    assert len(own.warnings) == 2, "lost anew"


def test_families_fill_up_apart() -> None:
    sets = block_sets((ip_network("10.244.1.0/24"), ip_network("fd00::/120")))
    assert wanted_blocks(sets, (250, 3)) == {4: 2}
    assert wanted_blocks(sets, (10, 3)) == {}


def test_on_an_api_server(api: FakeApiServer, tmp_path: Path, start: Callable[..., Running]) -> None:
    """The condition beside kubelet's, the wish, and the controller that fulfils it."""
    found = node("n1")
    found["status"]["conditions"] = [
        {"type": "Ready", "status": "True"},
        {"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"},
    ]
    api.put(found, pool("four", "10.244.0.0/16"))
    own = KubeOwnNode(KubeApi(api.kubeconfig(tmp_path / "kubeconfig")), "n1")
    own.set_network_available()
    conditions = {each["type"]: each for each in api.get("Node", "n1")["status"]["conditions"]}
    assert conditions["Ready"]["status"] == "True"
    assert (conditions["NetworkUnavailable"]["status"], conditions["NetworkUnavailable"]["reason"]) == (
        "False",
        "L3netIsUp",
    )
    before = api.calls[Call("patch", "", "nodes", "status")]
    own.set_network_available()
    assert api.calls[Call("patch", "", "nodes", "status")] == before, "it is so already"
    start()
    until(lambda: blocks(api, "n1"), "a block")
    own.want_blocks({4: 2})
    until(lambda: len(blocks(api, "n1")) == 2, "another")
    own.want_blocks({4: 1, 6: 1})
    assert api.get("Node", "n1")["metadata"]["annotations"]["l3net.io/wants-blocks"] == "IPv4=2,IPv6=1"
    api.put(pool("tenant", "10.20.0.0/16", namespaceSelector={"matchLabels": {"tenant": "a"}}))
    own.want_pools({"tenant": 1})
    until(lambda: "10.20.0.0/24" in blocks(api, "n1"), "a block of the pool for some namespaces")
    assert len(blocks(api, "n1")) == 3


def test_a_node_says_whether_it_takes_what_others_hand_on() -> None:
    """Nothing, where nobody ever asked; and once, not with every look."""
    own = Own()
    took = replace(N1, annotations={ANNOTATION_TAKES_PART: "true"})
    for found, handed_on in ((N1, False), (took, True)):
        Arrival(agent(found, handed_on=handed_on), None, own)._tell()
        assert own.said == []
    Arrival(agent(N1, handed_on=True), None, own)._tell()
    assert own.said == ["true"]
    Arrival(agent(took, handed_on=False), None, own)._tell()
    assert own.said == ["true", "false"]
    left = replace(N1, annotations={ANNOTATION_TAKES_PART: "false"})
    Arrival(agent(left, handed_on=False), None, own)._tell()
    Arrival(agent(left, handed_on=True), None, own)._tell()
    assert own.said == ["true", "false", "true"]


def test_it_looks_again_as_soon_as_that_has_changed() -> None:
    found = agent(N1)
    Arrival(found, None, Own())
    assert not found.podnet.pool_missing.is_set()
    found.services.on_taking()
    assert found.podnet.pool_missing.is_set()
