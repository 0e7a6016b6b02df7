"""Consistent balancing: what breaks when nodes come and go and a router's hash changes, and how even it is.

Run as root: `python bench/consistent.py [--flows 1000] [--spread 100000] [-o json]`, in network namespaces
made for the run: a client, a router with ECMP (the kernel's), and nodes with a pod each. What is measured:

- survival: so many long TCP connections and UDP flows of each family, through four nodes; the router's hash
  is another, a node is cut off, is found dead, comes back, a fifth joins with an endpoint; how many are
  answered by another endpoint or by nobody, but for those of the lost node. The control is the same without;
- spread: so many UDP flows over ten endpoints: the fullest against the mean;
- cost: connections one after another, to a pod straight and by the address.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "firewall")]

from spread_net import VIP, SpreadNet, pod_address  # noqa: E402

KINDS = (("TCP", 4), ("TCP", 6), ("UDP", 4), ("UDP", 6))


def survival(flows: int, *, consistent: bool) -> list[dict[str, Any]]:
    """A row a step: of flows whose endpoint was not on the lost node, how many are not as they were."""
    net, rows = SpreadNet(5, consistent=consistent), []
    try:
        four = net.nodes[:4]
        net.declare(four)
        net.route(four)
        with net.serving():
            watched = {kind: net.flows(*kind, flows) for kind in KINDS}
            first = {kind: each.ask() for kind, each in watched.items()}
            for step, act in _steps(net, four):
                act()
                row: dict[str, Any] = {"step": step}
                for kind, each in watched.items():
                    pairs = zip(first[kind], each.ask(), strict=True)
                    others = [one == other for one, other in pairs if one and not one.startswith("n4")]
                    row[f"{kind[0]}/IPv{kind[1]}"] = f"{others.count(False)} of {len(others)}"
                rows.append(row)
            for each in watched.values():
                each.close()
    finally:
        net.close()
    return rows


def _steps(net: SpreadNet, four: list[str]) -> list[tuple[str, Callable[[], None]]]:
    def cut() -> None:
        net.ip("n4", "link set up0 down")
        net.route(four[:3])

    def back() -> None:
        net.rejoin("n4")
        net.declare(four)
        net.route(four)

    def fifth() -> None:
        net.declare(net.nodes)
        net.route(net.nodes)

    return [
        ("nothing", lambda: None),
        ("another hash", lambda: net.route(four[::-1])),
        ("a node is cut off", cut),
        ("it is found dead", lambda: net.declare(four[:3], unready=["n4"], dead=["n4"])),
        ("it is back", back),
        ("a fifth with an endpoint", fifth),
        ("another hash again", lambda: net.route(net.nodes[::-1])),
    ]


def spread(flows: int, nodes: int) -> dict[str, Any]:
    net = SpreadNet(nodes)
    found: Counter[str] = Counter()
    try:
        net.route(net.nodes)
        with net.serving():
            left = flows
            while left > 0:
                some = net.flows("UDP", 4, min(1000, left))
                found.update(answer.split()[0] for answer in some.ask() if answer)
                some.close()
                left -= 1000
    finally:
        net.close()
    mean = sum(found.values()) / nodes
    return {
        "flows": sum(found.values()),
        "endpoints": nodes,
        "fullest": round(max(found.values()) / mean, 3),
        "emptiest": round(min(found.values()) / mean, 3),
    }


def cost(connections: int) -> dict[str, float]:
    """Connections a second, one after another, each with a question and its answer."""
    found = {}
    for name, consistent in (("random", False), ("consistent", True)):
        net = SpreadNet(4, consistent=consistent)
        try:
            net.route(net.nodes)
            with net.serving():
                if not consistent:
                    found["a pod straight"] = _connect(net, pod_address(1)[4], 8080, connections)
                found[name] = _connect(net, VIP[4], 80, connections)
        finally:
            net.close()
    return found


def _connect(net: SpreadNet, address: str, port: int, count: int) -> float:
    def run() -> float:
        began = time.perf_counter()
        for _ in range(count):
            with socket.create_connection((address, port)) as made:
                made.sendall(b"?\n")
                made.recv(100)
        return round(count / (time.perf_counter() - began))

    return net.run("client", run)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flows", type=int, default=1000, help="of each kind")
    parser.add_argument("--spread", type=int, default=100_000)
    parser.add_argument("-o", dest="output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    answer = {
        "consistent": survival(options.flows, consistent=True),
        "random": survival(options.flows, consistent=False),
        "spread": spread(options.spread, 10),
        "cost": cost(2000),
    }
    if options.output == "json":
        print(json.dumps(answer, indent=1))
        return
    for way in ("consistent", "random"):
        print(f"\n{way}: answered by another or by nobody, of those not on the lost node")
        for row in answer[way]:  # type: ignore[attr-defined]
            print(f"  {row.pop('step'):26}" + "".join(f"{kind} {text:18}" for kind, text in row.items()))
    print("\nspread", answer["spread"], "\nconnections a second", answer["cost"])


if __name__ == "__main__":
    main()
