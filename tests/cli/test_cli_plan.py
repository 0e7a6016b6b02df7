"""`l3net plan`: what it finds, how it exits; and that agents do what it says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import FakeApiServer
from click.testing import CliRunner, Result
from scene import BLOCKS, CONFIGURATION, NODE, TOR4, TOR6, Scene
from sim_node import configuration, endpoints, node, peer, service
from simloop import simulate

from l3net.cli.plan import PlanError, plan

WEB, SLICE = service("web", "10.96.2.9"), endpoints("web", "10.244.1.9")
OTHER = node("n2", "10.244.2.0/24", addresses=["10.0.0.3", "fd00::3"])
NOW = (NODE, OTHER, CONFIGURATION, TOR4, TOR6, WEB, SLICE)


def write(directory: Path, *documents: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "all.yaml").write_text(yaml.safe_dump_all(documents))
    return directory


def planned(
    tmp_path: Path, now: tuple[Any, ...], *new: Any, more: tuple[str, ...] = ("-o", "json")
) -> Result:
    before, after = write(tmp_path / "now", *now), write(tmp_path / "new", *new)
    return CliRunner().invoke(plan, ["-f", str(after), "--datastore", f"dir:{before}", *more])


def rows(result: Result, name: str = "n1") -> dict[str, Any]:
    return next((each for each in json.loads(result.stdout)["nodes"] if each["node"] == name), {})


def test_what_is_there_already_changes_nothing(tmp_path: Path) -> None:
    found = planned(tmp_path, NOW, WEB, TOR4)
    assert (found.exit_code, json.loads(found.stdout)) == (0, {"nodes": [], "policies": [], "problems": []})
    assert planned(tmp_path, NOW, WEB, more=()).stdout == "nothing changes\n"


def test_a_new_service_is_announced_and_served_and_nothing_is_lost(tmp_path: Path) -> None:
    db, ends = service("db", "10.96.2.10"), endpoints("db", "10.244.1.10")
    found = planned(tmp_path, NOW, db, ends)
    assert found.exit_code == 0
    told = {row["name"]: row for row in rows(found)["sessions"]}
    assert (told["tor4"]["action"], told["tor4"]["announce"], told["tor4"]["withdraw"]) == (
        "soft",
        ["10.96.2.10/32"],
        [],
    )
    assert [row["after"] for row in rows(found)["verdicts"]] == ["advertise"]
    assert [(row["action"], row["endpointsAfter"]) for row in rows(found)["servers"]] == [("added", 1)]
    assert rows(found, "n2"), "of every node"
    assert not rows(planned(tmp_path, NOW, db, ends, more=("-o", "json", "--node", "n1")), "n2")


@pytest.mark.parametrize(
    ("new", "action", "withdrawn"),
    [
        (endpoints("web"), "soft", ["10.96.2.9/32"]),
        (configuration(**CONFIGURATION["spec"], holdTime=30), "reset", []),
        ({**TOR4, "spec": {**TOR4["spec"], "nodes": ["n9"]}}, "removed", ["10.96.2.9/32", "10.244.1.0/24"]),
    ],
)
def test_what_is_reset_or_withdrawn_exits_with_2(
    tmp_path: Path, new: Any, action: str, withdrawn: list[str]
) -> None:
    found = planned(tmp_path, NOW, new)
    row = next(each for each in rows(found)["sessions"] if each["name"] == "tor4")
    assert (found.exit_code, row["action"]) == (2, action)
    assert set(withdrawn) <= set(row["withdraw"])
    assert "something would be reset or withdrawn" in planned(tmp_path, NOW, new, more=()).stdout


def test_the_whole_deletes_what_is_not_stated(tmp_path: Path) -> None:
    assert planned(tmp_path, NOW, *NOW[:-2]).exit_code == 0
    found = planned(tmp_path, NOW, *NOW[:-2], more=("-o", "json", "--whole"))
    assert found.exit_code == 2
    assert [row["after"] for row in rows(found)["verdicts"]] == [""]


def test_policies_and_blocks_and_refusals_are_told(tmp_path: Path) -> None:
    metadata = {"namespace": "default", "name": "closed"}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {"podSelector": {}},
    }
    grown = node("n2", "10.244.2.0/24", "10.244.3.0/24", addresses=["10.0.0.3", "fd00::3"])
    far = peer("far", "203.0.113.1", filters=["nobody"])
    found = planned(tmp_path, NOW, policy, grown, far)
    assert json.loads(found.stdout)["policies"] == [
        {"kind": "NetworkPolicy", "name": "default/closed", "action": "added"}
    ]
    assert rows(found, "n2")["blocksAdded"] == ["10.244.3.0/24"]
    assert found.exit_code == 0


def test_manifests_that_are_wrong_exit_with_1_and_the_rest_is_planned(tmp_path: Path) -> None:
    wrong = {**TOR4, "spec": {**TOR4["spec"], "asNumber": "x"}}
    found = planned(tmp_path, NOW, wrong, service("db", "10.96.2.10"))
    assert found.exit_code == 1
    assert "asNumber" in json.loads(found.stdout)["problems"][0]
    assert rows(found)["verdicts"]


def test_what_cannot_be_planned_exits_with_1_and_wrong_usage_with_2(tmp_path: Path) -> None:
    now, new = write(tmp_path / "now", *NOW), write(tmp_path / "new", WEB)
    for arguments in (
        ["-f", str(new), "--datastore", "dir:/nowhere"],
        ["-f", "/nowhere", "--datastore", f"dir:{now}"],
    ):
        found = CliRunner().invoke(plan, arguments)
        assert isinstance(found.exception, PlanError), arguments
        assert found.exception.exit_code == 1
    for arguments in ([], ["-f", str(new), "--datastore", f"dir:{now}", "--node", "n9"]):
        assert CliRunner().invoke(plan, arguments).exit_code == 2


def test_of_an_api_server_without_reading_a_secret(tmp_path: Path) -> None:
    with FakeApiServer() as api:
        secured = peer(
            "tor9", "10.0.0.9", password={"secretKeyRef": {"namespace": "x", "name": "y", "key": "z"}}
        )
        api.put(*NOW, secured)
        kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")
        new = write(tmp_path / "new", service("db", "10.96.2.10"), endpoints("db", "10.244.1.10"))
        asked = ["-f", str(new), "--kubeconfig", str(kubeconfig), "-o", "json"]
        found = CliRunner().invoke(plan, asked)
        assert found.exit_code == 0, found.output
        assert {row["name"] for row in rows(found)["sessions"]} == {"tor4", "tor9"}
        assert not [call for call in api.calls if call.resource == "secrets"]


@pytest.mark.parametrize(
    "new",
    [
        (service("db", "10.96.2.10"), endpoints("db", "10.244.1.10")),
        (endpoints("web"),),
        (configuration(**{**CONFIGURATION["spec"], "advertise": {"podBlocks": False}}),),
    ],
)
def test_routers_hear_what_was_planned(tmp_path: Path, new: tuple[Any, ...]) -> None:
    found = planned(tmp_path, NOW, *new)
    told = {row["name"]: row for row in rows(found)["sessions"]}

    async def scenario() -> None:
        scene = Scene()
        await scene.begun(*NOW)
        before = scene.heard(scene.tor4)
        assert BLOCKS[0] in before
        scene.datastore.apply(*new)
        await asyncio.sleep(3)
        after = scene.heard(scene.tor4)
        assert after - before == set(told["tor4"]["announce"])
        assert before - after == set(told["tor4"]["withdraw"])

    simulate(scenario())
