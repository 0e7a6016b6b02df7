"""How long a floating address does not answer while it moves from a pod to a pod of another node, and what
many of them cost.

Run as root: `python bench/floating.py [--moves 20] [-o table|json]`. A lab of two nodes, a client and one
router (FRR, then BIRD) in network namespaces: a UDP probe asks every 4 ms, and a pod that becomes not ready
hands the address to the other node, back and forth. The time runs from the last answer before the move to the
first after it, for a pod that goes on answering until then. Then, by themselves: a book of 5,000 addresses in
which one pod changes, and a kernel table of 500 in which one address moves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]

from l3net.firewall.facts import FirewallPlan  # noqa: E402 - found by the path above
from l3net.firewall.floating import FLOATING  # noqa: E402
from l3net.firewall.ruleset import ruleset  # noqa: E402
from l3net.floating.book import FloatingBook  # noqa: E402
from l3net.model import FloatingIp, IpPool, ObjectName, Pod, PoolUse, Requirement, Selector  # noqa: E402


def moves(count: int, kind: str) -> dict[str, Any]:
    """Milliseconds without an answer, of each move, by family."""
    # ruff: noqa: PLC0415 - the lab is of no use to who asks for help
    from small_lab import RACK, lab_of
    from test_floating_e2e import ECHO, Floating
    from test_floating_e2e import FLOATING as ADDRESSES

    from l3net.lab.chaos import echo
    from l3net.lab.host import python
    from l3net.lab.topology import RouterKind

    probe = ROOT / "tests" / "e2e" / "floating_probe.py"
    found: dict[str, list[float]] = {"IPv4": [], "IPv6": []}
    with tempfile.TemporaryDirectory() as directory, lab_of(RACK, Path(directory), RouterKind(kind)) as lab:
        for name in ("web-1", "web-2"):
            host = lab.topology.pods[name].name
            lab.host(host).spawn(f"echo-{name}", [*python(), str(Path(echo.__file__)), str(ECHO)], pod=name)
        rack = Floating(lab)
        rack.more = [rack.claim(*ADDRESSES.values())]
        rack.declare()
        time.sleep(2)
        for number in range(count):
            leaves, stays = ("web-1", "web-2") if number % 2 == 0 else ("web-2", "web-1")
            rack.ready(stays)
            rack.declare()
            time.sleep(0.5)
            enter = lab.host("client").enter()
            running = [
                subprocess.Popen(
                    [*enter, *python(), str(probe), address, str(ECHO), "2.5"],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for address in ADDRESSES.values()
            ]
            time.sleep(0.7)
            rack.ready(leaves, is_ready=False)
            rack.declare()
            for family, each in zip(found, running, strict=True):
                out = each.communicate(timeout=30)[0]
                found[family].append(json.loads(out.splitlines()[-1])["longest"])
    return {family: summary(times) for family, times in found.items()}


def summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(statistics.median(ordered), 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "most": round(ordered[-1], 1),
        "moves": len(ordered),
    }


def book(size: int) -> dict[str, float]:
    """Milliseconds to decide all, and one pod's change."""
    pool = IpPool("p", ip_network("198.18.0.0/15"), 32, allowed_uses=frozenset({PoolUse.FLOATING}))
    made = FloatingBook()
    made.put_pools([pool])
    first = int(ip_address("198.18.0.0"))
    pods = []
    for number in range(size):
        label = f"web-{number}"
        key = ObjectName("default", label)
        selector = Selector((Requirement("app", "In", (label,)),))
        made.put_floating(key, FloatingIp(key, selector, wanted=(ip_address(first + number),)))
        for copy in range(2):
            pods.append(
                Pod(
                    ObjectName("default", f"{label}-{copy}"),
                    {"app": label},
                    (ip_address(first + 100_000 + 2 * number + copy),),
                    f"n{(number + copy) % 100}",
                )
            )
            made.put_pod(pods[-1].name, pods[-1])
    began = time.perf_counter()
    made.settle()
    whole = (time.perf_counter() - began) * 1000
    times = []
    for pod in pods[:400:2]:
        began = time.perf_counter()
        made.put_pod(pod.name, replace(pod, ready_since=None))
        assert len(made.settle()) == 1
        times.append((time.perf_counter() - began) * 1000)
    return {"all": round(whole, 1), **{f"one, {key}": value for key, value in summary(times).items()}}


def table(size: int) -> dict[str, float]:
    """Milliseconds of nft for a table with so many addresses, and for one that moves."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        public, own = int(ip_address("198.18.0.0")), int(ip_address("10.244.1.0"))
        pairs = [(ip_address(public + number), ip_address(own + number)) for number in range(size)]

        def plan(those: list[Any]) -> FirewallPlan:
            back = frozenset((pod, address) for address, pod in those)
            inside = frozenset({ip_network("10.244.0.0/16")})
            return FirewallPlan(floating=frozenset(those), floating_sources=back, inside=inside)

        def nft(text: str) -> float:
            began = time.perf_counter()
            subprocess.run(["ip", "netns", "exec", name, "nft", "-f", "-"], input=text, text=True, check=True)
            return (time.perf_counter() - began) * 1000

        whole = nft(ruleset(plan(pairs)))
        held = FLOATING.made(plan(pairs)).held
        times = []
        for number in range(30):
            pairs[number] = (pairs[number][0], ip_address(own + size + number))
            step = held.change(plan(pairs), {})
            times.append(nft(step.text))
            step.take()
        return {"whole table": round(whole, 1), **{f"one, {k}": v for k, v in summary(times).items()}}
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for kind in ("frr", "bird"):
        for family, row in moves(arguments.moves, kind).items():
            found[f"a move, {kind}, {family}, ms"] = row
    found["5,000 addresses decided, ms"] = book(5000)
    found["500 addresses in the kernel, ms"] = table(500)
    if arguments.output == "json":
        json.dump(found, sys.stdout, indent=1)
        return
    for name, row in found.items():
        print(f"{name:40} " + "  ".join(f"{key} {value:g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
