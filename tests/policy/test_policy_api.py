"""Pods of a cluster: their policies are in force before they are wired, whatever the API server told when."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from apiserver import FakeApiServer
from firewall_net import inside
from pod_node import Node, node
from test_policy_agent import OPEN, Pod, answers, named, only_open, reaches, served, until
from truth import Document

pytestmark = pytest.mark.netns

STATIC = "11111111222233334444555555555555"
BLOCKS = ("10.244.5.0/24", "fd00:244:5::/120")


@pytest.fixture
def api(host: Node) -> Iterator[FakeApiServer]:
    """In the namespace of the host: a socket stays where it was made."""
    server = FakeApiServer()
    with inside(host.name):
        server.start()
    server.put(node("n", "10.90.0.1", BLOCKS), namespace("default"), namespace("quiet"))
    host.start(kubeconfig=server.kubeconfig(host.base / "kubeconfig"))
    yield server
    server.stop()


def namespace(name: str, **labels: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def scheduled(name: str, **labels: str) -> Document:
    """A Pod as the API server has it once it is bound."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "labels": labels},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Pending"},
    }


class Adding:
    """An ADD that is under way."""

    def __init__(self, host: Node, name: str, args: str) -> None:
        self.netns = host.netns(name)
        self._answers: list[subprocess.CompletedProcess[str]] = []
        self._began = time.monotonic()
        self.took = 0.0

        def run() -> None:
            self._answers.append(host.cni("ADD", name, self.netns, args))
            self.took = time.monotonic() - self._began

        self._thread = threading.Thread(target=run)
        self._thread.start()

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def answer(self) -> tuple[int, Any]:
        self._thread.join()
        done = self._answers[0]
        return done.returncode, json.loads(done.stdout)


def test_add_waits_for_the_pods_labels(host: Node, api: FakeApiServer) -> None:
    """As long as policies may be for it: five seconds, then it is to be tried again."""
    api.put(scheduled("web", app="web"), only_open(role="good"))
    web = Pod(host, "web")
    until(lambda: peers(host), "the policy")
    with served(web.netns):
        late = Adding(host, "late", named("late"))
        never = Adding(host, "never", named("never"))
        elsewhere = Adding(host, "free", named("free").replace("NAMESPACE=default", "NAMESPACE=quiet"))
        time.sleep(1)
        assert late.waits and never.waits and not elsewhere.waits
        assert elsewhere.answer()[0] == 0
        api.put(scheduled("late", role="good"))
        assert late.answer()[0] == 0 and late.took < 4
        assert answers(late.netns, web.v4, OPEN) and answers(late.netns, web.v6, OPEN)
        assert not reaches(elsewhere.netns, web.v4, OPEN)
        code, answer = never.answer()
        assert code and answer["code"] == 11 and "has not reported pod default/never yet" in answer["msg"]
        assert never.took > 4.5
    assert host.status()["pods"]["leases"] == 3


def peers(host: Node) -> bool:
    """Whether any policy is in force."""
    command = ["ip", "netns", "exec", host.name, "nft", "list", "chains", "inet"]
    return "mix-" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


def uid(api: FakeApiServer, name: str) -> str:
    found = api.get("Pod", name, "default")
    assert found is not None
    return str(found["metadata"]["uid"])


def test_a_pod_of_the_same_name_is_another_one(host: Node, api: FakeApiServer) -> None:
    """The labels of the pod that was there before are not the new one's."""
    api.put(scheduled("web", app="web"), scheduled("db-0", role="good"), only_open(role="good"))
    web = Adding(host, "web", f"{named('web')};K8S_POD_UID={uid(api, 'web')}")
    assert web.answer()[0] == 0
    api.remove("Pod", "db-0", "default")
    new = scheduled("db-0", role="bad")
    new["metadata"]["annotations"] = {"kubernetes.io/config.hash": STATIC}  # a static pod's mirror
    again = Adding(host, "db-0", f"{named('db-0')};K8S_POD_UID={STATIC}")
    time.sleep(0.5)
    assert again.waits
    api.put(scheduled("db-0", role="good"))  # another one still
    time.sleep(0.5)
    assert again.waits
    api.remove("Pod", "db-0", "default")
    api.put(new)
    assert again.answer()[0] == 0
    with served(web.netns):
        address = host.ip("-4", "addr", "show", "dev", "eth0", netns=web.netns)[0]["addr_info"][0]["local"]
        assert not reaches(again.netns, address, OPEN)


def test_without_the_api_all_stays_in_force(host: Node, api: FakeApiServer) -> None:
    api.put(scheduled("web", app="web"), scheduled("good", role="good"), scheduled("bad", role="bad"))
    api.put(only_open(role="good"))
    until(lambda: api.watching, "the agent")
    web, good = Pod(host, "web"), Pod(host, "good")
    with served(web.netns):
        until(lambda: reaches(good.netns, web.v4, OPEN), "the policy")
        api.stop()
        bad = Pod(host, "bad")  # known since before
        assert not reaches(bad.netns, web.v4, OPEN) and reaches(good.netns, web.v6, OPEN)
        host.kill()
        assert not reaches(bad.netns, web.v4, OPEN) and reaches(good.netns, web.v6, OPEN)
