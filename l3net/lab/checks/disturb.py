"""Checks that break something, look, and mend it."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from l3net.lab.checks.asking import ask, client, pods, services
from l3net.lab.checks.reach import seen_masqueraded
from l3net.lab.checks.report import CheckResult
from l3net.lab.converge import unconverged, wait_converged
from l3net.lab.errors import LabError
from l3net.lab.machine import CheckedLab, Machine
from l3net.lab.manifests import POD_PORT
from l3net.lab.ribs import SessionSeen, read_sessions, same
from l3net.lab.topology import Node
from l3net.lab.wait import until
from l3net.naming import BRIDGE, NFT_TABLE, RTPROT_L3NET

#: Seconds between the packets of a stream: a gap of 5 ms shows. Times the lab's patience: an emulated machine
#: that stands still for a second loses what comes faster than its wire keeps, whatever the agent does.
_INTERVAL, _LONGEST_INTERVAL = 0.005, 0.2
_HEAL_SECONDS = 1.0
#: How long to look for what is deleted, and for the routers to notice, before calling it a failure.
_HEAL_PATIENCE = 10.0
_ROUTERS_PATIENCE = 60.0


def victim(lab: CheckedLab) -> Node:
    """The node that is disturbed: the last one that runs pods."""
    for node in reversed(lab.topology.nodes):
        if node.pods:
            return node
    raise LabError("this topology has no node with pods")


def masquerade(lab: CheckedLab) -> Iterator[CheckResult]:
    """natOutgoing set on every pool: the outside sees the node, other pods still the pod; and back."""
    with ExitStack() as mend:
        mend.callback(lab.set_nat_outgoing, None)
        lab.set_nat_outgoing(True)
        yield from _settled(lab, lambda: seen_masqueraded(lab, True))
    yield from _settled(lab, lambda: [f for f in seen_masqueraded(lab, False) if not f.ok])


def _settled(lab: CheckedLab, look: Callable[[], list[CheckResult]]) -> list[CheckResult]:
    """Look until all is well, at most so long: a manifest takes a moment to be read and applied."""
    deadline = time.monotonic() + 8 * lab.patience
    while True:
        found = look()
        if all(finding.ok for finding in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def pod_again(lab: CheckedLab) -> Iterator[CheckResult]:
    """A pod deleted leaves nothing; made again it answers, and its services with it."""
    node = victim(lab)
    host, name = lab.host(node.name), node.pods[0]
    old = lab.pod(name)
    ports = _ports(host)
    lab.delete_pod(name)
    left = [
        *(
            f"{address} answers"
            for address in old.addresses
            if not ask(client(lab), [(address, POD_PORT, 1)])[0].failures
        ),
        *(["its veth is still there"] if len(_ports(host)) >= len(ports) else []),
    ]
    yield CheckResult(
        "pod-again", f"{name} deleted", not left, "its addresses and veth are gone", "; ".join(left) or "gone"
    )
    lab.make_pod(name)
    complaint = lab.complaint(name)
    yield CheckResult(
        "pod-again", f"{name} made again", complaint is None, "CNI CHECK is content", complaint or "content"
    )
    for version in lab.topology.versions:
        found = _settled(lab, lambda v=version: [_answers(lab, name, v)])  # type: ignore[misc]
        yield from found
    wait_services(lab, name)


def _answers(lab: CheckedLab, name: str, version: int) -> CheckResult:
    pod = lab.pod(name)
    (answer,) = ask(client(lab), [(pod.address(version), POD_PORT, 1)])
    ok = not answer.failures and set(answer.pods) == {name}
    return CheckResult("pod-again", f"{name} answers the client", ok, name, answer.told(), version)


def wait_services(lab: CheckedLab, pod: str) -> None:
    """Wait until the services a pod backs reach it again."""
    for service in services(lab):
        if pod not in service.pods:
            continue
        for address in service.cluster_ips:
            until(
                lambda a=address, s=service: pod in ask(client(lab), [(a, s.port, 30)])[0].pods,  # type: ignore[misc]
                10 * lab.patience,
                f"{service.name} ({address}) does not reach {pod} again",
            )


def _ports(host: Machine) -> list[str]:
    lines = host.run(["ip", "-o", "link", "show", "master", BRIDGE]).stdout.splitlines()
    return [line.split(":")[1].strip() for line in lines]


def cut_off(lab: CheckedLab) -> Iterator[CheckResult]:
    yield from _cut(lab, silent=False)


def cut_off_silently(lab: CheckedLab) -> Iterator[CheckResult]:
    yield from _cut(lab, silent=True)


_CUT_TABLE = """table inet lab-cut {
  chain in { type filter hook prerouting priority -500; iifname { %s } drop; }
  chain out { type filter hook postrouting priority 500; oifname { %s } drop; }
}
"""


def _cut(lab: CheckedLab, *, silent: bool) -> Iterator[CheckResult]:
    """A node cut off disappears from every router, nothing else does, and it comes back."""
    node = victim(lab)
    host = lab.host(node.name)
    ends = [
        lab.interface(node.name, link.end(node.name).interface) for link in lab.topology.links_of(node.name)
    ]
    name = "node-cut-off-silently" if silent else "node-cut-off"
    with ExitStack() as mend:
        if silent:
            listed = ", ".join(f'"{end}"' for end in ends)
            mend.callback(host.run, ["nft", "delete", "table", "inet", "lab-cut"], check=False)
            host.run(["nft", "-f", "-"], text=_CUT_TABLE % (listed, listed))
        else:
            mend.callback(lab.number, node.name)
            for end in ends:
                host.run(["ip", "link", "set", end, "down"])
        start = time.monotonic()
        gone = _wait_ribs(lab, _ROUTERS_PATIENCE, without=(node.name,))
        yield CheckResult(
            name,
            f"{node.name} disappears from the routers",
            gone is None,
            "gone, all else stays",
            gone or "gone",
            seconds=time.monotonic() - start,
        )
    start = time.monotonic()
    back = _wait_ribs(lab, _ROUTERS_PATIENCE)
    yield CheckResult(
        name,
        f"{node.name} comes back",
        back is None,
        "as before",
        back or "as before",
        seconds=time.monotonic() - start,
    )
    for version in lab.topology.versions:
        there = [pod for pod in pods(lab) if pod.host.name == node.name]
        found = _settled(
            lab,
            lambda v=version, t=there: [  # type: ignore[misc]
                CheckResult(
                    name, f"{pod.name} answers again", not answer.failures, pod.name, answer.told(), v
                )
                for pod, answer in zip(
                    t, ask(client(lab), [(pod.address(v), POD_PORT, 1) for pod in t]), strict=True
                )
            ],
        )
        yield from found


def taken_off(lab: CheckedLab, node: Node) -> str | None:
    """A node's links go down until the routers know, and up again; why not, if they do not follow."""
    host = lab.host(node.name)
    with ExitStack() as mend:
        mend.callback(lab.number, node.name)
        for link in lab.topology.links_of(node.name):
            end = lab.interface(node.name, link.end(node.name).interface)
            host.run(["ip", "link", "set", end, "down"])
        gone = _wait_ribs(lab, _ROUTERS_PATIENCE, without=(node.name,))
    return gone or _wait_ribs(lab, _ROUTERS_PATIENCE)


def _wait_ribs(lab: CheckedLab, seconds: float, without: tuple[str, ...] = ()) -> str | None:
    """Wait for the routers to hold what they should; what they hold instead, None if all is well."""
    try:
        wait_converged(lab, seconds * lab.patience, without)
    except LabError:
        return "; ".join(unconverged(lab, without)[:6]) or None
    return None


_SENT = re.compile(r"(\d+) packets transmitted")
_ANSWERED = re.compile(r"icmp_seq=(\d+) ")


def agent_killed(lab: CheckedLab) -> Iterator[CheckResult]:
    """The agent killed and started again under traffic: no packet lost, no session dropped."""
    node = victim(lab)
    asking = client(lab)
    pod = lab.pod(node.pods[0])
    before = _sessions_with(lab, node.name)
    streams = {version: f"ping-ipv{version}" for version in lab.topology.versions}
    interval = min(_INTERVAL * lab.patience, _LONGEST_INTERVAL)
    for version, stream in streams.items():
        asking.spawn(stream, ["ping", "-i", f"{interval:g}", str(pod.address(version))])
    try:
        time.sleep(0.5)
        lab.kill_agent(node.name)
        time.sleep(0.5)
        start = time.monotonic()
        lab.start_agent(node.name)
        took = time.monotonic() - start
        time.sleep(1.0)
    finally:
        for stream in streams.values():
            asking.kill(stream, signal.SIGINT)
    for version, stream in streams.items():
        until(lambda s=stream: not asking.alive(s), 10 * lab.patience, "ping does not end")  # type: ignore[misc]
        sent, lost = _lost(asking.read_log(stream))
        yield CheckResult(
            "agent-killed",
            f"packets to {pod.name} meanwhile",
            sent > 0 and not lost,
            "none lost",
            f"{lost} of {sent} lost",
            version,
            took,
        )
    after = _sessions_with(lab, node.name)
    changed = [
        f"{key}: {before[key].since} > {after[key].since if key in after else 'gone'}"
        for key in before
        if key not in after or not same(after[key], before[key])
    ]
    yield CheckResult(
        "agent-killed",
        f"sessions of {node.name} at its routers",
        not changed and bool(before),
        f"the same {len(before)}",
        "; ".join(changed) or "the same",
    )
    left = unconverged(lab)
    yield CheckResult(
        "agent-killed", "the routers' RIBs", not left, "as before", "; ".join(left[:6]) or "as before"
    )


def _lost(log: str) -> tuple[int, int]:
    """How many packets the last ping of a log sent, and how many got no answer.

    The very last one may be under way when ping is told to stop: it does not count.
    """
    last = log.rpartition("PING ")[2]
    told = _SENT.search(last)
    sent = int(told[1]) - 1 if told else 0
    return sent, len(set(range(1, sent + 1)) - {int(number) for number in _ANSWERED.findall(last)})


def _sessions_with(lab: CheckedLab, node: str) -> dict[str, SessionSeen]:
    """What routers say about their sessions with a node."""
    found: dict[str, SessionSeen] = {}
    for router in lab.topology.routers:
        seen = read_sessions(lab.topology, lab.host(router.name))
        for session in lab.topology.sessions(router.name):
            if session.remote_host == node and session.remote in seen:
                found[f"{router.name} with {session.remote}"] = seen[session.remote]
    return found


def self_heal(lab: CheckedLab) -> Iterator[CheckResult]:
    """What someone deletes of ours is back within a second."""
    node = victim(lab)
    host = lab.host(node.name)
    for version in lab.topology.versions:
        listing = ["ip", f"-{version}", "route", "show", "proto", str(RTPROT_L3NET)]
        routes = [line for line in host.run(listing).stdout.splitlines() if line and not line[0].isspace()]
        learned = [line for line in routes if not line.startswith("blackhole")]
        for route in (learned[:1], [line for line in routes if line.startswith("blackhole")][:1]):
            for line in route:
                words = line.split()
                target = words[1] if words[0] == "blackhole" else words[0]
                metric = (
                    words[words.index("metric") + 1 : words.index("metric") + 2] if "metric" in words else []
                )
                delete = ["ip", f"-{version}", "route", "del", target, "proto", str(RTPROT_L3NET)]
                delete += ["metric", *metric] if metric else []
                yield _healed(lab, host, f"the route {target}", delete, listing, target, version)
        shown = ["ip", f"-{version}", "-o", "address", "show", "dev", BRIDGE, "scope", "global"]
        for line in host.run(shown).stdout.splitlines()[:1]:
            address = line.split()[3]
            delete = ["ip", "address", "del", address, "dev", BRIDGE]
            yield _healed(lab, host, f"the gateway address {address}", delete, shown, address, version)
    table = ["nft", "list", "table", "inet", NFT_TABLE]
    yield _healed(
        lab, host, "the nftables table", ["nft", "delete", "table", "inet", NFT_TABLE], table, "chain"
    )
    yield _healed(lab, host, "the bridge", ["ip", "link", "del", BRIDGE], ["ip", "-o", "link"], f" {BRIDGE}:")
    for version in lab.topology.versions:
        there = [pod for pod in pods(lab) if pod.host.name == node.name]
        yield from _settled(
            lab,
            lambda v=version, t=there: [  # type: ignore[misc]
                CheckResult(
                    "self-heal",
                    f"{pod.name} answers afterwards",
                    not answer.failures,
                    pod.name,
                    answer.told(),
                    v,
                )
                for pod, answer in zip(
                    t, ask(client(lab), [(pod.address(v), POD_PORT, 1) for pod in t]), strict=True
                )
            ],
        )


def _healed(
    lab: CheckedLab,
    host: Machine,
    what: str,
    delete: list[str],
    look: list[str],
    sign: str,
    version: int | None = None,
) -> CheckResult:
    """Delete something, see it gone or already back, and measure until it is there."""
    host.run(delete)
    start = time.monotonic()

    def back() -> bool:
        return sign in host.run(look, check=False).stdout

    try:
        until(back, _HEAL_PATIENCE * lab.patience, what, every=0.01)
        took = time.monotonic() - start
        seen = f"back after {took * 1000:.0f} ms"
    except LabError:
        took, seen = time.monotonic() - start, f"not back after {time.monotonic() - start:.0f} s"
    limit = _HEAL_SECONDS * lab.patience
    return CheckResult(
        "self-heal",
        f"{what} deleted on {host.name}",
        took < limit,
        f"back within {limit:g} s",
        seen,
        version,
        took,
    )
