"""How fast packets are walked and tables amended, by the number of services: run it as a script.

Each service has three endpoints, of which one is a pod of the node; each walk is a new connection.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

_TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(_TESTS / room) for room in ("simulated", "firewall", "policy", "fakes")]

from table_side import InForce  # noqa: E402

from l3net.model import Backend, Placed, Spread, VirtualServer  # noqa: E402
from packets.kernel_node import twin  # noqa: E402 - found by the path above
from packets.packet import packet  # noqa: E402
from packets.random_nodes import RandomNode  # noqa: E402
from packets.stack import SimStack  # noqa: E402
from packets.table import SimTable  # noqa: E402

SECONDS = 1.0  # for each figure


def server(number: int, *, spread: bool) -> VirtualServer:
    places = ("10.1.1.2", "n1"), ("10.1.2.2", "n2"), ("10.1.2.3", "n2")
    backends = tuple(Backend(ip_address(address), 8080 + number % 2) for address, _ in places)
    placed = zip(backends, (node for _, node in places), strict=True)
    ready = Spread(tuple(Placed(backend, node) for backend, node in placed)) if spread else None
    address = ip_address((10 << 24) + (96 << 16) + number + 1)
    return VirtualServer(address, "tcp", 80, backends, backends, spread=ready)


def measured(what: str, do: Callable[[int], object]) -> None:
    """By the time of the processor: others may be busy, too."""
    count, began = 0, time.process_time()
    while time.process_time() - began < SECONDS:
        for _ in range(20):
            do(count)
            count += 1
    each = (time.process_time() - began) / count
    print(f"  {what:52} {1 / each:8.0f}/s {each * 1e6:8.0f} us")  # noqa: T201


def of_so_many(node: RandomNode, services: int, *, spread: int) -> None:
    """`spread` of the services are consistent ones."""
    servers = [server(number, spread=number < spread) for number in range(services)]
    held = InForce(node.plan.serving(servers))
    text = held.text
    chains = len(node.book.contents.chains)
    print(f"{services} services, {spread} of them consistent; {chains} chains of policies")  # noqa: T201
    tables = [SimTable.of(text)]
    measured("tables made anew", lambda _n: SimTable.of(text))
    tables[0].parse()
    stack = SimStack(twin(), lambda: tables[0], dict)
    called = packet("192.0.2.9", f"10.96.0.{spread + 1}", dport=80)
    measured("a service from outside, all three outcomes", lambda _n: stack.receive(called, "up0"))
    plain = packet("10.1.1.3", "10.1.2.4", dport=80)
    measured("a pod to a pod elsewhere", lambda _n: stack.from_pod(plain))
    if spread:
        first = packet("192.0.2.9", "10.96.0.1", dport=80)
        measured("a consistent service, all outcomes", lambda _n: stack.receive(first, "up0"))
        stack.exact = True
        measured("a consistent service, as it is hashed", lambda _n: stack.receive(first, "up0"))
    turning = servers[-1]
    texts = [held.change([(turning, None)]), held.change([(None, turning)])]

    def amend(number: int) -> None:
        tables[0] = tables[0].amended(texts[number % 2])

    measured("amendments (a service goes or comes)", amend)


def main() -> None:
    node = RandomNode(41)
    for services, spread in ((10, 0), (10, 2), (1000, 0), (10000, 0)):
        of_so_many(node, services, spread=spread)


if __name__ == "__main__":
    main()
