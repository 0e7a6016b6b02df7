"""Connections that live while a node goes and comes, and the routers spread them anew."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from l3net.lab import hold
from l3net.lab.checks.asking import ask, client, services
from l3net.lab.checks.disturb import taken_off, victim
from l3net.lab.checks.report import CheckResult
from l3net.lab.machine import CheckedLab, Machine
from l3net.lab.topology import ServiceSpec
from l3net.lab.wait import until
from l3net.model import Address

#: Connections through each address.
COUNT = 100
_HOLD = Path(hold.__file__).read_text(encoding="utf-8")


def connections_survive(lab: CheckedLab) -> Iterator[CheckResult]:
    """With consistent balancing: a node without an endpoint of the service goes and comes back."""
    asking, gone = client(lab), victim(lab)
    held = {
        f"hold-{service.name}-ipv{address.version}": (service, address)
        for service in services(lab)
        if not service.internal_local and not {*service.pods} & {*gone.pods}
        for address in service.cluster_ips
    }
    with ExitStack() as mend:
        mend.callback(lab.set_consistent, False)
        lab.set_consistent(True)
        for service, address in held.values():
            seen = partial(_seen, lab, service, address)
            until(seen, 20 * lab.patience, f"{service.name} is not balanced so")
        for name, (service, address) in held.items():
            argv = [*asking.python, "-c", _HOLD, str(address), str(service.port), str(COUNT)]
            asking.spawn(name, argv)
            mend.callback(asking.kill, name)
        for name in held:
            until(partial(_open, asking, name), 20 * lab.patience, "connections do not open")
        trouble = taken_off(lab, gone)
        for name, (service, address) in held.items():
            asking.kill(name, signal.SIGINT)
            until(lambda n=name: not asking.alive(n), 60 * lab.patience, "connections are not answered")  # type: ignore[misc]
            mine = str(lab.topology.address(asking.name, address.version))
            answers = asking.read_log(name).splitlines()[1:]
            good = [each for each in answers if each.endswith(f"client={mine}")]
            yield CheckResult(
                "connections-survive",
                f"{service.name} ({address}) while {gone.name} goes and comes",
                len(good) == COUNT and trouble is None,
                f"{COUNT} of {COUNT} answer, and see {mine}",
                trouble or f"{len(good)} of {COUNT}",
                address.version,
            )


def _open(asking: Machine, name: str) -> bool:
    return f"open {COUNT}" in asking.read_log(name)


def _seen(lab: CheckedLab, service: ServiceSpec, address: Address) -> bool:
    """Whether every endpoint sees the client itself."""
    host = client(lab)
    (answer,) = ask(host, [(address, service.port, 40)])
    mine = str(lab.topology.address(host.name, address.version))
    return not answer.failures and set(answer.pods) == set(service.pods) and answer.clients == {mine}
