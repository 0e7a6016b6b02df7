"""What becomes of packets for a service that others take before the service table does."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from l3net.explain.facts import Way
from l3net.explain.foreign import Diverted, Target
from l3net.explain.steps import Step, bad, doubt, note
from l3net.model import Address, ServerKey


@dataclass(frozen=True, slots=True)
class Diversion:
    """Of one address and port of a service: who takes what is for it, and the kernel's way to that address.
    `listens`: whether a program of this host has the port there."""

    key: ServerKey
    by: Diverted
    way: Way
    listens: bool = False


def diversion_steps(found: Diversion, endpoints: Collection[Target], name: str, node: str) -> Iterator[Step]:
    """`endpoints`: those of the service by which translation would be right all the same."""
    address, protocol, port = found.key
    where = f"{_shown(address, port)}/{protocol} on {node}"
    if found.by.to:
        yield _translated(found, endpoints, name, where)
        return
    taken = f"{found.by.by} keeps it from being tracked (notrack), so that it is never translated"
    if found.way.kind != "local":
        yield bad(
            "services",
            where,
            f"{taken} and goes on to {address} itself: {found.way}",
            "remove that rule: `nft list ruleset`; find who put it in",
            "untracked",
        )
    elif found.listens:
        yield note(
            "services",
            where,
            f"a program of this host answers, as NodeLocal DNS does, and not {name}'s endpoints: {taken}",
            cause="heldLocally",
        )
    else:
        yield bad(
            "services",
            where,
            f"this host has {address} itself, and no program of it has port {port}: {taken}",
            "start the service that should answer there (NodeLocal DNS), or remove its address and "
            "its notrack rules",
            "heldLocally",
        )


def _translated(found: Diversion, endpoints: Collection[Target], name: str, where: str) -> Step:
    to = ", ".join(_shown(*each) for each in found.by.to[:5])
    elsewhere = [each for each in found.by.to if each not in endpoints]
    if not any(address for address, _ in found.by.to):
        seen = f"{found.by.by} translates it first, where to cannot be read"
        return doubt("services", where, seen, "`l3net trace` sends real packets", "translatedElsewhere")
    if not elsewhere:
        return note("services", where, f"{found.by.by} translates it, to {to}", cause="otherProxy")
    those = (
        "that is not an endpoint" if len(found.by.to) == 1 else f"{_shown(*elsewhere[0])} is not an endpoint"
    )
    return bad(
        "services",
        where,
        f"{found.by.by} translates it first, to {to}: {those} of {name}",
        "remove that table, and what puts it in: for kube-proxy stop it, then `kube-proxy --cleanup`",
        "translatedElsewhere",
    )


def _shown(address: Address | None, port: int | None) -> str:
    text = str(address) if address is not None else "another address"
    if port is None:
        return text
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
