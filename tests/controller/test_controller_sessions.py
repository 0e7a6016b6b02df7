"""Sessions in the status of BGPPeers: agents say their own, the controller takes out those of gone nodes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from apiserver import Call, FakeApiServer
from controller_rig import Running, node, until, with_sessions

from l3net.agent.reporting import Reporting, SessionSeen
from l3net.errors import L3netError
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.writer import MOST_SESSIONS, KubeOwnNode

UP: SessionSeen = ("10.0.0.9", True, "")


def sessions(api: FakeApiServer, name: str = "tor") -> dict[str, str]:
    return {each["node"]: each["state"] for each in api.get("BGPPeer", name)["status"].get("sessions", ())}


def own(api: FakeApiServer, path: Path, name: str) -> KubeOwnNode:
    return KubeOwnNode(KubeApi(api.kubeconfig(path / f"kubeconfig-{name}")), name)


def test_agents_at_once_lose_nothing_of_each_other(api: FakeApiServer, tmp_path: Path) -> None:
    api.put(with_sessions("tor"))
    agents = [own(api, tmp_path, f"n{index}") for index in range(12)]

    def report(agent: KubeOwnNode) -> None:
        for _ in range(50):  # a conflict that outlasts all attempts is told again at the next tick
            try:
                return agent.report_sessions("tor", [UP])
            except L3netError:
                continue
        raise AssertionError("never came through")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(report, agents))
    assert sessions(api) == {f"n{index}": "Established" for index in range(12)}
    assert api.get("BGPPeer", "tor")["status"]["established"] == "12/12"


def test_down_comes_first_with_its_reason_and_time_stays_with_state(
    api: FakeApiServer, tmp_path: Path
) -> None:
    api.put(with_sessions("tor", "a", "b"))
    agent = own(api, tmp_path, "b")
    agent.report_sessions("tor", [UP])
    before = api.get("BGPPeer", "tor")
    assert before["status"]["sessions"][1]["since"] == "2020-01-01T00:00:00Z"
    assert api.calls[Call("patch", "l3net.io", "bgppeers", "status")] == 0, "it is so already"
    agent.report_sessions("tor", [("10.0.0.9", False, "hold timer expired")])
    status = api.get("BGPPeer", "tor")["status"]
    assert status["established"] == "1/2"
    assert status["sessions"][0] | {"since": ""} == {
        "node": "b",
        "address": "10.0.0.9",
        "state": "Down",
        "since": "",
        "reason": "hold timer expired",
    }
    assert status["sessions"][0]["since"] > "2020-01-01T00:00:00Z"
    agent.report_sessions("tor", [])
    assert sessions(api) == {"a": "Established"}


def test_the_list_has_a_bound(api: FakeApiServer, tmp_path: Path) -> None:
    api.put(with_sessions("tor", *(f"n{index:04}" for index in range(MOST_SESSIONS))))
    own(api, tmp_path, "z").report_sessions("tor", [("10.0.0.9", False, "refused")])
    status = api.get("BGPPeer", "tor")["status"]
    assert len(status["sessions"]) == MOST_SESSIONS
    assert status["sessions"][0]["node"] == "z", "what is down is not the one left out"
    assert status["established"] == f"{MOST_SESSIONS - 1}/{MOST_SESSIONS}+"


def test_many_nodes_at_one_router_do_not_cost_the_square_of_their_number(
    api: FakeApiServer, tmp_path: Path
) -> None:
    """Each write goes to each of them: what is written in all has a bound, however many they are."""
    api.put(with_sessions("tor"))
    client = KubeApi(api.kubeconfig(tmp_path / "kubeconfig"))
    agents = [KubeOwnNode(client, f"n{index:04}") for index in range(4 * MOST_SESSIONS)]
    random.Random(1).shuffle(agents)

    def told(up: bool) -> list[int]:
        """Sizes of the versions written while all of them report."""
        before = len(api._history)
        for agent in agents:
            agent.report_sessions("tor", [("10.0.0.9", up, "" if up else "hold timer expired")])
        return [len(change.encoded) for change in api._history[before:]]

    for up in (True, False, True):
        sizes = told(up)
        assert len(sizes) <= MOST_SESSIONS + 1
        assert max(sizes) < 200 * MOST_SESSIONS
    status = api.get("BGPPeer", "tor")["status"]
    assert status["established"] == f"{MOST_SESSIONS}/{MOST_SESSIONS}+"
    # One that goes down is seen all the same, whoever it is, and gives its place back.
    last = agents[-1]
    last.report_sessions("tor", [("10.0.0.9", False, "refused")])
    status = api.get("BGPPeer", "tor")["status"]
    assert (status["sessions"][0]["node"], status["sessions"][0]["state"]) == (last._node, "Down")
    assert status["established"] == f"{MOST_SESSIONS - 1}/{MOST_SESSIONS}+"


def test_a_deleted_nodes_sessions_are_taken_out(api: FakeApiServer, start: Callable[..., Running]) -> None:
    api.put(node("a"), node("b"), with_sessions("tor", "a", "b", "gone before"))
    start()
    until(lambda: sessions(api) == {"a": "Established", "b": "Established"}, "what a former leader left")
    api.remove("Node", "b")
    until(lambda: sessions(api) == {"a": "Established"}, "b's session to go")
    assert api.get("BGPPeer", "tor")["status"]["established"] == "1/1"


class Recorded:
    def __init__(self) -> None:
        self.calls: list[tuple[str, Sequence[SessionSeen]]] = []
        self.away = False

    def report_sessions(self, peer: str, found: Sequence[SessionSeen]) -> None:
        if self.away:
            raise L3netError("no answer")
        self.calls.append((peer, found))


def agent(**established: bool) -> Any:
    peers = {
        f"10.0.0.{index}": SimpleNamespace(
            session=SimpleNamespace(name=name.replace("_", ":")),
            established=up,
            reason="" if up else "refused",
        )
        for index, (name, up) in enumerate(established.items())
    }
    named = {name: None for name in established if not name.startswith("mesh")}
    return SimpleNamespace(speaking=SimpleNamespace(peers=peers), state=SimpleNamespace(peers=named))


def test_only_changes_are_told_and_never_the_mesh() -> None:
    recorded = Recorded()
    reporting = Reporting(agent(tor=True, mesh_n2=True), recorded)
    reporting.tell(reporting.seen())
    reporting.tell(reporting.seen())
    assert recorded.calls == [("tor", (("10.0.0.0", True, ""),))]
    reporting._agent = agent(tor=False)
    recorded.away = True
    reporting.tell(reporting.seen())
    recorded.away = False
    reporting.tell(reporting.seen())
    assert recorded.calls[1:] == [("tor", (("10.0.0.0", False, "refused"),))], "told once it can be"
    reporting._agent = agent()
    reporting.tell(reporting.seen())
    assert recorded.calls[2:] == [("tor", ())]
    assert reporting.seen() == {}
