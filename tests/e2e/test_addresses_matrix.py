"""What may happen to floating and egress addresses, one after the other: at each step the address answers
from one place, and pods leave with the right address or not at all.

`pytest -m soak -s` tells how many requests were answered during each step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from address_cluster import (
    EGRESS,
    FLOATING,
    HOME,
    NOTHING,
    PODS,
    TOPOLOGY,
    Cluster,
    Expected,
    egress_ip,
    floating_ip,
)
from address_rig import own
from small_lab import lab_of

from l3net.lab.chaos.ground import pids
from l3net.lab.errors import LabError
from l3net.lab.nodes import l3net_command, node_environment, start_speaker
from l3net.lab.topology import RouterKind

OTHER = {4: "198.51.100.99", 6: "2001:db8:e::99"}
OUT, PUBLIC, ELSE = (frozenset(each.values()) for each in (EGRESS, FLOATING, OTHER))
#: What keeps the routes of a node whose speaker is away, in the lab.
_HELPERS = (RouterKind.FRR, RouterKind.BIRD)


@contextmanager
def cluster_of(kind: RouterKind, directory: Path) -> Iterator[Cluster]:
    """As it is with both addresses; at the end nothing of them may be left."""
    with lab_of(TOPOLOGY, directory, kind) as lab:
        bgp = lab.manifests / "bgp.yaml"
        bgp.write_text(bgp.read_text().replace("nodeToNodeMesh", "drain: {wait: 0}\n  nodeToNodeMesh"))
        made = Cluster(lab)
        made.base()
        made.declare()
        made.start()
        made.now = nobody_of(made)
        made.settle(made.now, "without either")
        assert made.remains() == {}
        made.claims = [floating_ip(), egress_ip()]
        made.declared("both are declared", base_of(made))
        assert {each.partition(" ")[0] for each in made.remains()} == {
            *("route", "nft", "rule", "kernel", "connection")
        }, "the control: what is looked for at the end is there now"
        # The control of the law: what was right before is found out.
        assert made.offences(base_of(made), base_of(made), 0.0)
        yield made
        made.claims = []
        made.declared("neither is declared any more", nobody_of(made))
        left: dict[str, str] = {}

        def clean() -> bool:
            left.clear()
            left.update(made.remains())
            return not left

        try:
            made.until(clean, "something is left", 20)
        except AssertionError:
            raise AssertionError(f"it is left: {left}") from None


def own_of(made: Cluster, pod: str) -> frozenset[str]:
    return frozenset(made.addresses(pod))


def nobody_of(made: Cluster) -> Expected:
    """Without either, all leave as they are."""
    return Expected(None, None, None, {name: own_of(made, name) for name in PODS})


def base_of(made: Cluster) -> Expected:
    """The second web pod has the floating addresses, n2 holds the egress addresses."""
    leaving = {"out-1": OUT, "out-2": OUT, "web-1": own_of(made, "web-1"), "web-2": PUBLIC}
    return Expected("web-2", made.places["web-2"], HOME, leaving)


def moved(made: Cluster, before: Expected | None = None, **more: Any) -> Expected:
    """The first web pod has them."""
    leaving = {"web-1": PUBLIC, "web-2": own_of(made, "web-2")}
    return (before or made.now).but({**leaving, **more.pop("leaving", {})}, holder="web-1", at="n1", **more)


def back(made: Cluster, what: str) -> None:
    made.base()
    made.declared(f"{what}, and back", base_of(made))


# --- the rows -----------------------------------------------------------------------------------------------


def unready(made: Cluster, what: str) -> None:
    for name in ("web-2", "out-2"):
        made.pods[name].ready = False
    made.declared(what, moved(made, leaving={"out-1": OUT, "out-2": OUT}))


def not_ready(made: Cluster) -> None:
    unready(made, "not ready")
    back(made, "not ready")


def deleted(made: Cluster) -> None:
    def delete() -> None:
        for name in ("web-2", "out-2"):
            made.end(name)
            del made.pods[name]
        made.declare()

    gone = {"web-2": NOTHING, "out-2": NOTHING}
    made.step("deleted", delete, made.now.but({"web-1": PUBLIC, **gone}, holder="web-1", at="n1"))
    _made_again(made, "made again", "n2")


def _made_again(made: Cluster, what: str, node: str) -> None:
    """Both second pods, of which the addresses are not known before."""
    before = made.now

    def make() -> None:
        for name in ("web-2", "out-2"):
            made.make(name, node)
        # A pod is ready, and has the floating address, after it has begun to send.
        made.now = before.but({"web-2": own_of(made, "web-2")})

    with_own = {"web-2": PUBLIC, "out-2": OUT, "web-1": own_of(made, "web-1")}
    expected = before.but(with_own, holder="web-2", at=node, by=HOME)
    made.step(what, make, expected)


def moved_pod(made: Cluster) -> None:
    for name in ("web-1", "out-1"):
        made.pods[name].ready = False
    made.declared("the other is not ready", made.now)

    def delete() -> None:
        for name in ("web-2", "out-2"):
            made.end(name)
            del made.pods[name]
        made.declare()

    gone = {"web-2": NOTHING, "out-2": NOTHING}
    made.step("a pod is to move", delete, made.now.but(gone, holder=None, at=None))
    _made_again(made, "moved", "n1")
    made.step("moved on", delete, made.now.but(gone, holder=None, at=None))
    _made_again(made, "moved back", "n2")
    back(made, "ready both")


def cut_off(made: Cluster) -> None:
    lab = made.lab
    none = {"web-2": NOTHING, "out-2": NOTHING}
    cut = made.now.but(none, holder=None, at=None, by="n1")
    made.step("cut off", lambda: lab.host(HOME).run(["ip", "link", "set", "tor", "down"]), cut)

    def said() -> None:
        for name in ("web-2", "out-2"):
            made.pods[name].ready = False
        made.away = {HOME}
        made.declare_nodes()
        made.declare()

    made.step("cut off, and said so", said, moved(made, leaving=none))

    def mend() -> None:
        lab.host(HOME).run(["ip", "link", "set", "tor", "up"])
        lab.number(HOME)
        made.away = set()
        made.declare_nodes()

    returned = {"out-2": OUT, "web-2": own_of(made, "web-2")}
    made.step("linked again", mend, made.now.but(returned, by=HOME))
    back(made, "cut off")


def cordoned(made: Cluster) -> None:
    made.cordoned = {HOME}
    away = moved(made, by="n1")
    # A node that drains has withdrawn its service addresses by then; its pods are reachable, and leave.
    made.step("cordoned", made.declare_nodes, away)
    made.cordoned = set()
    made.step("uncordoned", made.declare_nodes, base_of(made))


def drained(made: Cluster) -> None:
    lab = made.lab

    def told(word: str) -> Callable[[], object]:
        command = l3net_command("node", word)
        return lambda: lab.host(HOME).run(command, environment=node_environment(), timeout=100)

    unheard = frozenset(("web-2", "out-2"))
    gone = made.now.but(holder=None, at=None, by="n1", unanswered=unheard)
    made.step("drained", told("drain"), gone)
    made.step("undrained", told("undrain"), base_of(made))


def agent_killed(made: Cluster) -> None:
    lab = made.lab

    def kill() -> None:
        for node in ("n1", "n2"):
            lab.kill_agent(node)

    def start() -> None:
        for node in ("n1", "n2"):
            lab.start_agent(node)

    made.step("agents killed", kill, made.now)
    for name in ("web-2", "out-2"):
        made.pods[name].ready = False
    made.declared("nobody hears", made.now)
    made.step("agents are back", start, moved(made))
    back(made, "agents killed")


def speaker_killed(made: Cluster) -> None:
    host = made.lab.host(HOME)

    def kill() -> None:
        # The supervisor first, or it starts another.
        for process in ("speaker", "exabgp", "relay"):
            for pid in pids(host, process):
                host.run(["kill", "-9", str(pid)], check=False)
        made.until(lambda: not pids(host, "exabgp") and not host.alive("speaker"), "they do not die")

    # A router that is no helper of graceful restart forgets the node; other nodes are, and take nothing over.
    unheard = frozenset(("web-2", "out-1", "out-2"))
    gone = made.now.but(holder=None, at=None, by=None, unanswered=unheard)
    helped = made.lab.topology.routers[0].kind in _HELPERS
    made.step("speaker killed", kill, made.now if helped else gone)

    def start() -> None:
        start_speaker(host)
        made.until(lambda: _established(made), "the sessions are not back", 60)

    made.step("speaker is back", start, base_of(made))


def _established(made: Cluster) -> bool:
    peers = made.lab.host(HOME).status()["peers"]
    return bool(peers) and all(each["state"] == "established" for each in peers)


def two_claimants(made: Cluster) -> None:
    first = made.claims
    # Younger ones change nothing.
    made.claims = [
        *first,
        floating_ip("younger", created=9, pod="web-1"),
        egress_ip("younger", OTHER, created=9, pod="out-1"),
    ]
    made.declared("younger claims", made.now)
    # Older ones have what they are for.
    made.claims = [
        *first,
        floating_ip("older", created=1, pod="web-1"),
        egress_ip("older", OTHER, created=1, pod="out-1"),
    ]
    made.declared("older claims", moved(made, leaving={"out-1": ELSE}))
    # Of one address, too: its former pods do not leave at all.
    made.claims = [floating_ip(), egress_ip(), egress_ip("older", created=1, pod="out-1")]
    made.declared("an older claim of the same addresses", base_of(made).but({"out-2": NOTHING}))
    made.claims = first
    made.declared("one claim each", base_of(made))


def pool_removed(made: Cluster) -> None:
    made.pools = False
    nothing = {"out-1": NOTHING, "out-2": NOTHING, "web-2": own_of(made, "web-2")}
    made.declared("pools removed", made.now.but(nothing, holder=None, at=None, by=None))
    made.pools = True
    made.declared("pools are back", base_of(made))


def denied(made: Cluster) -> None:
    deny(made)
    # Only the client is allowed; the pods' own addresses are what they are judged by.
    only = [{"ipBlock": {"cidr": each}} for each in (f"{made.outside(4)}/32", f"{made.outside(6)}/128")]
    made.policies = [_policy("ingress", "web", [{"from": only}]), _policy("egress", "out", [{"to": only}])]
    made.declared("allowed", base_of(made))
    made.policies = []
    made.declared("no policy", base_of(made))


def deny(made: Cluster) -> None:
    """The client may ask none of the pods, and the pods that leave may not go there."""
    everybody = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{made.outside(4)}/32"]}},
        {"ipBlock": {"cidr": "::/0", "except": [f"{made.outside(6)}/128"]}},
    ]
    made.policies = [
        _policy("ingress", "web", [{"from": everybody}]),
        _policy("egress", "out", [{"to": everybody}]),
    ]
    nothing = {"out-1": NOTHING, "out-2": NOTHING}
    made.declared("denied", made.now.but(nothing, holder=None))


def _policy(direction: str, app: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    made = own("NetworkPolicy", direction, {"podSelector": {"matchLabels": {"app": app}}, direction: rules})
    made["apiVersion"] = "networking.k8s.io/v1"
    made["metadata"]["namespace"] = "default"
    made["spec"]["policyTypes"] = [direction.capitalize()]
    return made


ROWS = (
    *(not_ready, deleted, moved_pod, cut_off, cordoned, drained, agent_killed, speaker_killed, two_claimants),
    *(pool_removed, denied),
)


def test_the_commonest_failures(tmp_path: Path) -> None:
    with cluster_of(RouterKind.FRR, tmp_path) as made:
        deny(made)
        # Policies go and pods are not ready, in whichever order a node hears of it.
        made.policies, made.now = [], base_of(made)
        unready(made, "not ready, and nothing is denied")


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "kind", [RouterKind.FRR, RouterKind.BIRD, RouterKind.GOBGP], ids=lambda kind: kind.value
)
def test_whatever_fails(kind: RouterKind, tmp_path: Path) -> None:
    wrong = []
    with cluster_of(kind, tmp_path) as made:
        try:
            for row in ROWS:
                try:
                    row(made)
                except (AssertionError, LabError) as err:
                    wrong.append(f"{row.__name__}: {err}")
                    restore(made)
        finally:
            sys.stdout.write("\n".join([*made.told, *wrong, ""]))  # how many were answered: `pytest -s`
    assert not wrong, "\n".join(wrong)


def restore(made: Cluster) -> None:
    """After a row that failed: all is declared and linked as in the beginning."""
    for name, node in PODS.items():
        if name not in made.pods or made.places[name] != node:
            if name in made.pods:
                made.end(name)
            made.make(name, node)
    made.claims, made.policies, made.pools = [floating_ip(), egress_ip()], [], True
    made.away, made.cordoned = set(), set()
    made.base()
    made.declare_nodes()
    made.declare()
    host = made.lab.host(HOME)
    host.run(["ip", "link", "set", "tor", "up"])
    made.lab.number(HOME)
    for node in ("n1", "n2"):
        if not made.lab.host(node).alive("speaker"):
            start_speaker(made.lab.host(node))
        if not made.lab.host(node).alive("agent"):
            made.lab.start_agent(node)
    host.run(l3net_command("node", "undrain"), environment=node_environment(), timeout=100)
    made.now = base_of(made)
    made.settle(made.now, "as in the beginning")
