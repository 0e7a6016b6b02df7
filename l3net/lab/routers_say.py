"""What a lab's routers made of what a node has told them: the part of an explanation that no node can see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias

from l3net.explain.steps import Step, bad, note, ok
from l3net.lab.errors import LabError
from l3net.lab.expected import Rib
from l3net.lab.machine import CheckedLab
from l3net.lab.ribs import Forwarded, read_forwarding, read_paths
from l3net.model import Address, Prefix

#: Of the best paths to a prefix.
Neighbours: TypeAlias = frozenset[Address]


def with_routers(lab: CheckedLab, node: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a node, with a step for each router about what the node has told. Raises LabError."""
    steps = list(router_steps(lab, node, answer))
    rows = [*answer["steps"], *(step.row() for step in steps)]
    found = next((step for step in steps if step.mark.value == "bad"), None)
    more: dict[str, Any] = {"steps": rows}
    if found is not None and answer["healthy"]:
        more |= {
            "healthy": False,
            "sure": True,
            "outside": False,
            "cause": found.cause,
            "advice": found.advice,
        }
        more["answer"] = f"{found.where}: {found.seen}"
    return {**answer, **more}


def router_steps(lab: CheckedLab, node: str, answer: Mapping[str, Any]) -> Iterator[Step]:
    """Routers that were told first, then those that should have heard of it from them: what each has in BGP,
    and whether it forwards by that."""
    sessions = {session.remote: session for session in lab.topology.sessions(node)}

    @cache
    def ask(router: str) -> Rib | LabError:
        try:
            return read_paths(lab.topology, lab.host(router))
        except LabError as err:
            return err

    @cache
    def forwards(router: str, prefix: Prefix) -> Step | None:
        rib = ask(router)
        if isinstance(rib, LabError) or not rib.get(prefix):
            return None
        try:
            return _forwards(router, prefix, rib[prefix], read_forwarding(lab, router, prefix))
        except LabError as err:
            return note(f"forwarding of {prefix}", f"router {router}", f"could not be asked: {err}")

    told: dict[Prefix, set[str]] = {}
    for row in answer["steps"]:
        if not row.get("prefix") or row["verdict"] != "ok":
            continue
        session = sessions.get(ip_address(row["peer"]))
        if session is None:
            continue
        prefix = ip_network(row["prefix"])
        told.setdefault(prefix, set()).add(session.remote_host)
        yield _asked(session.remote_host, ask(session.remote_host), prefix, session.local)
        if step := forwards(session.remote_host, prefix):
            yield step
    for prefix, routers in told.items():
        for router in lab.topology.routers:
            if router.name not in routers:
                yield _asked(router.name, ask(router.name), prefix)
                if step := forwards(router.name, prefix):
                    yield step


def _asked(router: str, rib: Rib | LabError, prefix: Prefix, local: Address | None = None) -> Step:
    """What a router has. `local`: where this node has told it, if it has."""
    what, where = f"route to {prefix}", f"router {router}"
    if isinstance(rib, LabError):
        return note(what, where, f"could not be asked: {rib}")
    neighbours = rib.get(prefix)
    if local is None:
        return _heard(neighbours, what, where, prefix)
    return _taken(neighbours, what, where, prefix, local)


def _taken(neighbours: Neighbours | None, what: str, where: str, prefix: Prefix, local: Address) -> Step:
    """Of a router that was told by this node, at its address `local`."""
    if neighbours is None:
        return bad(
            what,
            where,
            f"was sent {prefix} by {local} and does not use it: its own filter, a limit, or "
            "a static route refuses it",
            "look at the router's import policy for this neighbour, and at its rejected routes",
            "routerRefused",
        )
    if local not in neighbours:
        others = ", ".join(sorted(map(str, neighbours)))
        return note(what, where, f"has it, and prefers the way by {others}", cause="routerPrefersAnother")
    return ok(what, where, f"has it in BGP, by {local}")


def _forwards(router: str, prefix: Prefix, neighbours: Neighbours, found: Forwarded | None) -> Step:
    """Whether a router that has a prefix in BGP, by these neighbours, sends what is for it there."""
    what, where = f"forwarding of {prefix}", f"router {router}"
    has = f"has {prefix} in BGP, by {', '.join(sorted(map(str, neighbours)))}"
    advice = "remove the route that comes before BGP: `ip route`, or the router's `show ip route`"
    if found is None or found.prefix.prefixlen < prefix.prefixlen:
        seen = f"{has}, and its kernel has {'no route' if found is None else f'only {found.text}'}"
        log = "see in the router's log why its kernel does not have it"
        return bad(what, where, seen, log, "routerNotInstalled")
    drops = found.kind != "unicast"
    if drops or not found.by & neighbours:
        seen = f"{has}, and {'drops its packets' if drops else 'forwards elsewhere'}: {found.text}"
        return bad(what, where, seen, advice, "routerForwardsElsewhere")
    return ok(what, where, found.text)


def _heard(neighbours: Neighbours | None, what: str, where: str, prefix: Prefix) -> Step:
    """Of a router that should have heard from others."""
    if neighbours is None:
        return bad(
            what,
            where,
            f"has no route to {prefix}: the routers that have it do not pass it on to this one",
            "look at the sessions and filters between the routers",
            "routerMissing",
        )
    return ok(what, where, f"has it in BGP, by {', '.join(sorted(map(str, neighbours)))}")
