"""Checks that ask servers and look at who answered, and whom they saw."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from l3net.lab.checks.asking import ask, client, pods, services
from l3net.lab.checks.report import CheckResult
from l3net.lab.machine import CheckedLab, LabPod
from l3net.lab.manifests import POD_PORT

_TRIES = 50


def pods_of_one_node(lab: CheckedLab) -> Iterator[CheckResult]:
    there = pods(lab)
    for pod in there:
        yield from _pod_to_pods(lab, pod, there, same_node=True, check="pod-to-pod-same-node")


def pods_of_other_nodes(lab: CheckedLab) -> Iterator[CheckResult]:
    there = pods(lab)
    for pod in there:
        yield from _pod_to_pods(lab, pod, there, same_node=False, check="pod-to-pod-across-nodes")


def _pod_to_pods(
    lab: CheckedLab, asking: LabPod, there: Sequence[LabPod], *, same_node: bool, check: str
) -> Iterator[CheckResult]:
    """A pod asks its neighbours, or the pods of other nodes; each must see the pod's own address."""
    name = asking.name
    others = [p for p in there if p.name != name and (p.host.name == asking.host.name) is same_node]
    for version in lab.topology.versions:
        if not others:
            continue
        targets = [(pod.address(version), POD_PORT, 1) for pod in others]
        answers = ask(asking.host, targets, name)
        mine = str(asking.address(version))
        wrong = [
            f"{pod.name}: {answer.told()}"
            for pod, answer in zip(others, answers, strict=True)
            if answer.failures or set(answer.pods) != {pod.name} or answer.clients != {mine}
        ]
        want = f"{', '.join(pod.name for pod in others)} see {mine}"
        yield CheckResult(
            check,
            f"{name} to its {'neighbours' if same_node else 'remote peers'}",
            not wrong,
            want,
            "; ".join(wrong) or "so it is",
            version,
        )


def client_to_pods(lab: CheckedLab) -> Iterator[CheckResult]:
    host, there = client(lab), pods(lab)
    for version in lab.topology.versions:
        mine = str(lab.topology.address(host.name, version))
        answers = ask(host, [(pod.address(version), POD_PORT, 1) for pod in there])
        for pod, answer in zip(there, answers, strict=True):
            ok = not answer.failures and set(answer.pods) == {pod.name} and answer.clients == {mine}
            yield CheckResult(
                "client-to-pods",
                f"{host.name} to {pod.name}",
                ok,
                f"{pod.name}, from {mine}",
                answer.told(),
                version,
            )


def client_to_services(lab: CheckedLab) -> Iterator[CheckResult]:
    """Every endpoint answers over 50 tries; with internalTrafficPolicy Local it sees the client itself."""
    host = client(lab)
    for service in services(lab):
        for address in service.cluster_ips:
            (answer,) = ask(host, [(address, service.port, _TRIES)])
            mine = str(lab.topology.address(host.name, address.version))
            ok = not answer.failures and set(answer.pods) == set(service.pods)
            want = f"{_TRIES} answers, {' and '.join(service.pods)} among them"
            if service.internal_local:
                ok = ok and answer.clients == {mine}
                want += f", from {mine}"
            yield CheckResult(
                "client-to-service",
                f"{host.name} to {service.name} ({address})",
                ok,
                want,
                answer.told(),
                address.version,
            )


def pods_to_services(lab: CheckedLab) -> Iterator[CheckResult]:
    """A pod reaches a service it backs, itself included (hairpin)."""
    for service in services(lab):
        name = service.pods[0]
        pod = lab.pod(name)
        here = {p for p in service.pods if lab.topology.pods[p].name == pod.host.name}
        want = here if service.internal_local else set(service.pods)
        for address in service.cluster_ips:
            (answer,) = ask(pod.host, [(address, service.port, _TRIES)], name)
            ok = not answer.failures and set(answer.pods) == want
            yield CheckResult(
                "pod-to-own-service",
                f"{name} to {service.name}, which it backs",
                ok,
                f"{_TRIES} answers, from {' and '.join(sorted(want))}",
                answer.told(),
                address.version,
            )


def pods_to_client(lab: CheckedLab) -> Iterator[CheckResult]:
    """What a pod sends to the outside carries the pod's own address, unless its pool says natOutgoing."""
    yield from _seen_by_client(lab, "pod-keeps-address", masqueraded=None)


def _seen_by_client(lab: CheckedLab, check: str, masqueraded: bool | None) -> Iterator[CheckResult]:
    host, there = client(lab), pods(lab)
    for version in lab.topology.versions:
        nat = masqueraded
        if nat is None:
            nat = any(pool.nat_outgoing for pool in lab.topology.pools if pool.cidr.version == version)
        for pod in there:
            (answer,) = ask(pod.host, [(lab.topology.address(host.name, version), POD_PORT, 1)], pod.name)
            own = {str(pod.address(version))}
            nodes = {str(a) for a in lab.topology.addresses(pod.host.name) if a.version == version}
            ok = not answer.failures and bool(answer.clients) and answer.clients <= (nodes if nat else own)
            want = " or ".join(sorted(nodes if nat else own))
            yield CheckResult(check, f"{pod.name} to {host.name}", ok, f"from {want}", answer.told(), version)


def seen_masqueraded(lab: CheckedLab, masqueraded: bool) -> list[CheckResult]:
    """The same, with the pools' natOutgoing set by hand; other pods always see the pod itself."""
    found = list(_seen_by_client(lab, "masquerade", masqueraded))
    there = pods(lab)
    for pod in there:
        seen = _pod_to_pods(lab, pod, there, same_node=False, check="masquerade")
        found += [finding for finding in seen if not finding.ok]
    return found


_HOP = re.compile(r"^\s*\d+\s+(?P<hop>\S+)")


def traceroute(lab: CheckedLab) -> Iterator[CheckResult]:
    """From the client, every hop is a host of the topology, linked to the one before it: nothing tunnels."""
    host = client(lab)
    owner = {str(address): name for name in lab.topology.hosts for address in lab.topology.addresses(name)}
    linked = {frozenset(end.host for end in link.ends) for link in lab.topology.links}
    for pod in pods(lab):
        for version in lab.topology.versions:
            target = str(pod.address(version))
            argv = ["traceroute", f"-{version}", "-n", "-q1", "-w1", "-m12", target]
            lines = host.run(argv).stdout.splitlines()[1:]
            hops = [match["hop"] for line in lines if (match := _HOP.match(line))]
            # A node may answer from its pod bridge.
            gateways = {str(next(iter(b.hosts()))): n.name for n in lab.topology.nodes for b in n.blocks}
            way = [{**gateways, **owner}.get(hop, hop) for hop in hops]
            steps = list(zip([host.name, *way], [*way, ""], strict=True))[:-1]
            links = [frozenset(step) in linked for step in steps[:-1]]
            ok = way[-1:] == [target] and way[-2:-1] == [pod.host.name] and all(links) and len(way) >= 3
            yield CheckResult(
                "traceroute",
                f"{host.name} to {pod.name}",
                ok,
                f"routers linked one to the next, {pod.host.name}, {pod.name}",
                " > ".join(way),
                version,
            )
