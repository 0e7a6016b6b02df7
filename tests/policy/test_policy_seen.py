"""What a real agent tells of its policies: drops as the kernel logs them, counters, and that what is answered
beforehand is what happens."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from pod_node import Node
from test_policy_agent import BLOCKS, CLOSED, OPEN, Pod, only_open, pod, reaches, served, until

from l3net.naming import POLICY_LOG_GROUP
from l3net.shell.kernel import nft, nftcounters, packetlog

pytestmark = pytest.mark.netns

LOGS = {"l3net.io/log-drops": "true"}


def logging(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "annotations": LOGS}}


def ask(host: Node, *arguments: str) -> tuple[int, Any]:
    done = host.l3net("policy", *arguments, "--run-dir", str(host.base / "run"), "-o", "json")
    assert done.returncode < 2, done.stderr
    return done.returncode, json.loads(done.stdout)


class Follower:
    """`l3net policy drops --follow`, and the packets it has told of."""

    def __init__(self, host: Node) -> None:
        argv = ["ip", "netns", "exec", host.name, sys.executable, "-m", "l3net.cli.main", "policy", "drops"]
        argv += ["--follow", "-o", "json", "--run-dir", str(host.base / "run")]
        self._out = host.base / "drops"
        with self._out.open("wb") as out:
            process = subprocess.Popen(argv, stdout=out)
        host.undo.callback(process.wait)
        host.undo.callback(process.kill)

    def found(self) -> set[tuple[str, str, str, int, str]]:
        rows = [
            json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line[-1] == "\n"
        ]
        return {
            (
                row["direction"],
                row["source"]["name"],
                row["destination"]["address"],
                row["destination"]["port"],
                row["reason"],
            )
            for row in rows
        }


def test_what_is_dropped_is_told_and_counted(host: Node) -> None:
    """With names, in both families, by each of both directions; what is allowed is not; and the answer
    beforehand is what happens."""
    pods = [pod("web", app="web"), pod("good", role="good"), pod("bad", role="bad")]
    no_way_out = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "closed", "annotations": LOGS},
        "spec": {
            "tier": "Admin",
            "priority": 1,
            "subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": "good"}}}},
            "egress": [
                {
                    "name": "no",
                    "action": "Deny",
                    "to": [{"namespaces": {}}],
                    "protocols": [{"tcp": {"destinationPort": {"number": CLOSED}}}],
                }
            ],
        },
    }
    host.declare(*BLOCKS, more=[*pods, logging(only_open(role="good")), no_way_out])
    host.start()
    web, good, bad = (Pod(host, name) for name in ("web", "good", "bad"))
    follower = Follower(host)
    with served(web.netns):
        for name, place in (("good", good), ("bad", bad)):
            for port in (OPEN, CLOSED):
                code, told = ask(host, "test", f"default/{name}", "default/web", "--port", str(port))
                assert (code == 0) is told["allowed"] is ((name, port) == ("good", OPEN))
                assert len(told["connections"]) == 2
                for version in (4, 6):
                    if told["allowed"]:
                        until(lambda: reaches(place.netns, web.address(version), port), "an answer")  # noqa: B023
                    else:
                        assert not reaches(place.netns, web.address(version), port)
    accepting = "no rule of NetworkPolicy default/web accepts it"
    denying = "rule egress[0] (no) of ClusterNetworkPolicy closed (Admin)"
    wanted = {
        *(
            ("ingress", "default/bad", web.address(v), port, accepting)
            for v in (4, 6)
            for port in (OPEN, CLOSED)
        ),
        *(("egress", "default/good", web.address(v), CLOSED, denying) for v in (4, 6)),
    }
    until(lambda: follower.found() >= wanted, "drops")
    assert follower.found() == wanted
    assert f"dropped: ingress: default/bad ({bad.v4}:" in (host.base / "log").read_text()

    _, shown = ask(host, "show", "default/web")
    (accepted,) = shown["packets"]
    assert (accepted["direction"], accepted["action"]) == ("ingress", "accept") and accepted["packets"] >= 2
    (default,) = shown["notAccepted"]
    assert default["packets"] >= 4 and default["policies"] == ["NetworkPolicy default/web"]
    _, shown = ask(host, "show", "closed")
    (denied,) = shown["packets"]
    assert (denied["direction"], denied["action"]) == ("egress", "deny") and denied["packets"] >= 2
    assert shown["pods"] == ["default/good"]
    _, listed = ask(host, "list")
    assert [(row["name"], row["pods"]) for row in listed] == [
        ("closed", ["default/good"]),
        ("web", ["default/web"]),
    ]
    _, seen = ask(host, "matrix", "default", "--port", str(OPEN))
    place = [column["name"] for column in seen["columns"]].index("web")
    assert {row["from"]: row["to"][place]["IPv6"] for row in seen["rows"]} == {
        "web": "yes",
        "good": "yes",
        "bad": "no",
        "outside": "no",
    }
    status = host.status()["policy"]
    assert (status["policies"], status["podsWithPolicies"], status["pods"]) == (2, 2, 3)
    assert status["dropsLogged"] >= 6

    # The control: without the annotation nobody is told, and the log is somebody else's to read.
    until(lambda: "1081" in nflog(host), "the group")
    host.declare(*BLOCKS, more=[*pods, only_open(role="good")])
    until(lambda: "1081" not in nflog(host), "the group's end")
    with served(web.netns):
        assert not reaches(bad.netns, web.v4, OPEN)
    assert host.status()["policy"]["dropsLogged"] == status["dropsLogged"]


def nflog(host: Node) -> str:
    """The groups that somebody reads."""
    argv = ["ip", "netns", "exec", host.name, "cat", "/proc/net/netfilter/nfnetlink_log"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_counters_are_read(own_netns: object) -> None:
    counters = nftcounters.NftCounters()
    assert counters.read() == {}
    find = nft.find_nft()
    rules = "table inet l3net { counter a { packets 3 bytes 9 }\n counter b { }\n }\n"
    rules += "table inet other { counter a { packets 5 bytes 9 }\n }\n"
    subprocess.run([find, "-f", "-"], input=rules.encode(), check=True)
    assert counters.read() == {"a": 3, "b": 0}


def test_a_group_that_somebody_reads(own_netns: object) -> None:
    """Is told, and may be had later."""

    async def scenario() -> None:
        first, second = packetlog.PacketLog(POLICY_LOG_GROUP), packetlog.PacketLog(POLICY_LOG_GROUP)
        first.start(lambda _: None)
        first.start(lambda _: None)
        second.start(lambda _: None)
        assert (first.problem, "NFLOG group 1081" in second.problem) == ("", True)
        first.stop()
        first.stop()
        second.start(lambda _: None)
        assert second.problem == ""
        second.stop()

    asyncio.run(scenario())
