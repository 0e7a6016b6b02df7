"""Faults of what is declared: a datastore that is away or torn; services, policies, pods and nodes that
change."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from l3net.lab.chaos import churn
from l3net.lab.chaos.busy import rest
from l3net.lab.chaos.cables import off
from l3net.lab.chaos.declared import CLOSED, endpoint_slice, namespace, numbered, policy, service
from l3net.lab.chaos.fault import Allowance, Fault, Ribs, Which, everybody, nodes, routers
from l3net.lab.chaos.ground import Ground
from l3net.lab.chaos.step import Step
from l3net.lab.host import python
from l3net.lab.manifests import Document
from l3net.lab.topology import Topology
from l3net.lab.wait import until
from l3net.naming import CNI_NETWORK, RUN_DIR

_EVERY = 0.4
_CHURNED = "chaos-changing.yaml"
#: Seconds in which every node has followed a change of endpoints, if it is not busy.
FOLLOWED = 2.0
#: Pods a second.
RATE = 20


def _during(step: Step) -> Iterator[int]:
    """Numbers, one each `_EVERY` seconds, as long as the step lasts."""
    end = time.monotonic() + step.seconds
    number = 0
    while time.monotonic() < end:
        yield number
        number += 1
        time.sleep(min(_EVERY, max(0.0, end - time.monotonic())))


@contextmanager
def away(ground: Ground, _step: Step) -> Iterator[None]:
    """The directory of manifests under another name."""
    directory = ground.lab.manifests
    aside = directory.with_name("manifests.away")
    with ground.lock:  # nobody declares anything meanwhile
        try:
            directory.rename(aside)
            yield
        finally:
            if aside.exists():
                aside.rename(directory)


@contextmanager
def torn(ground: Ground, _step: Step) -> Iterator[None]:
    """Files that are half written, no YAML, or of kinds nobody knows."""
    directory = ground.lab.manifests
    bad = {
        "torn-1.yaml": (directory / "nodes.yaml").read_text()[:-40],
        "torn-2.yaml": "{[\0 not YAML",
        "torn-3.yaml": "apiVersion: v1\nkind: Unheard\nmetadata: {name: x}\n---\nkind: Node\n",
    }
    try:
        for name in list(bad)[1:]:
            (directory / name).write_text(bad[name])
        yield
    finally:
        for name in bad:
            (directory / name).unlink(missing_ok=True)


@contextmanager
def services(ground: Ground, step: Step) -> Iterator[None]:
    """Forty services that come, change and go, many times."""
    places = ground.declared.endpoints
    versions = ground.topology.versions
    try:
        for number in _during(step):
            documents: list[Document] = []
            for index in range(number % 3, 40, 1 + number % 2):
                inner = numbered(ground.lab.topology.service_cidrs, 300 + index, versions)
                documents.append(service(f"changing-{index}", inner))
                some = places[: 1 + (index + number) % len(places)]
                documents += [endpoint_slice(f"changing-{index}", version, some) for version in versions]
            ground.declare(_CHURNED, documents)
        yield
    finally:
        (ground.lab.manifests / _CHURNED).unlink(missing_ok=True)


@contextmanager
def policies(ground: Ground, step: Step) -> Iterator[None]:
    """Policies and namespaces that come and go: none is for the probed pods but what says the same again."""
    file = "chaos-policies.yaml"
    peers = [{"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}]}]
    try:
        for number in _during(step):
            documents = [namespace(f"changing-{index}") for index in range(10)]
            documents += [
                policy(f"changing-{index}", f"p{number % 5}", {"podSelector": {}, "ingress": peers})
                for index in range(number % 2, 10)
            ]
            # Of no effect beside the policy that stays: nothing more is let through.
            documents.append(policy(CLOSED, f"again-{number % 3}", {"podSelector": {}, "ingress": peers}))
            ground.declare(file, documents)
        yield
    finally:
        (ground.lab.manifests / file).unlink(missing_ok=True)


@contextmanager
def endpoints(ground: Ground, step: Step) -> Iterator[None]:
    """The endpoints of a node become not ready and ready."""
    try:
        for number in _during(step):
            ground.ready(step.target, bool(number % 2))
        yield
    finally:
        ground.ready(step.target, True)


@contextmanager
def churned(ground: Ground, step: Step) -> Iterator[None]:
    """Twenty pods a second on one node, made and deleted by the plugin."""
    host = ground.host(step.target)
    host.log("churn").unlink(missing_ok=True)
    count = max(1, int(step.seconds * RATE))
    argv = [
        *python(),
        str(Path(churn.__file__)),
        str(ground.plugin),
        CNI_NETWORK,
        str(count),
        str(step.seconds),
    ]
    try:
        host.spawn("churn", argv)
        yield
    finally:
        host.kill("churn", signal.SIGTERM)
        until(lambda: not host.alive("churn"), 60, f"{step.target}: pods are not deleted")
    said = host.read_log("churn")
    try:
        told = json.loads(said.strip().splitlines()[-1])
    except (ValueError, IndexError):
        ground.tell(f"{step.target}: the churn of pods ended early: {said[-300:]!r}")
        return
    for complaint in told["failed"][:3]:
        ground.tell(f"{step.target}: of {count} pods that came and went: {complaint}")


@contextmanager
def drained(ground: Ground, step: Step) -> Iterator[None]:
    """As before maintenance: its endpoints go, all nodes have time to follow, then `l3net node drain`; and
    back, with its endpoints last."""
    host = ground.host(step.target)
    leave = Path(f"/proc/{host.pid}/root{RUN_DIR}/leave")
    try:
        ground.ready(step.target, False)
        rest(FOLLOWED)
        leave.touch(mode=0o600)
        yield
    finally:
        leave.unlink(missing_ok=True)
        until(
            lambda: _routed(ground, step.target), 60, f"{step.target} has no routes of others after a drain"
        )
        ground.ready(step.target, True)


def _routed(ground: Ground, name: str) -> bool:
    """Whether every other node and router has routes to a node's blocks."""
    node = ground.topology.node(name)
    blocks = node.blocks if node is not None else ()
    return all(
        ground.host(other).run(["ip", f"-{block.version}", "route", "show", str(block)], check=False).stdout
        for other in (*nodes(ground.topology), *routers(ground.topology))
        if other != name
        for block in blocks
    )


def of_drain(_topology: Topology, target: str) -> tuple[Allowance, ...]:
    """What ends on the node itself; services that others have as well go on."""
    streams = Allowance(Which.STREAMS, target, begin=FOLLOWED + 1)
    return (Allowance(Which.LOCAL, target, whole=True, end=15), streams)


def of_endpoints(_topology: Topology, target: str) -> tuple[Allowance, ...]:
    """New connections go elsewhere, TCP goes on; an answer that was under way as its flow was moved is
    lost."""
    return (Allowance(Which.STREAMS, target, whole=True, end=1),)


FAULTS = (
    Fault("datastore-away", "declared", "The directory of manifests is not there.", everybody, away, (2, 8)),
    Fault("manifests-torn", "declared", "Files that are half written, no YAML, or of unknown kinds.",
          everybody, torn, (1, 4)),
    Fault("services-change", "declared", "Forty services come, change and go, several times a second.",
          everybody, services, (2, 6)),
    Fault("policies-change", "declared", "Policies and namespaces come and go, several times a second.",
          everybody, policies, (2, 6)),
    Fault("endpoints-flap", "declared", "The endpoints of a node are ready and not ready by turns.",
          nodes, endpoints, (2, 6), of_endpoints),
    Fault("pods-churned", "pods", "Twenty pods a second come and go on a node.", nodes, churned, (2, 8)),
    Fault("node-drained", "declared", "A node's endpoints go, it is drained, and comes back.",
          nodes, drained, (8, 14), of_drain, off, Ribs.LEFT, touches=True, noticed=8, vacates=True),
)  # fmt: skip
