"""Names that nothing has: said instead of an empty answer, as far as it can be known."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from ipaddress import ip_address
from typing import Any, Final

from l3net.cli.nodes import Agents
from l3net.errors import ConfigError, L3netError
from l3net.near import near

#: Names in a message.
_NAMED: Final = 8


def no_such(what: str, name: str, known: Collection[str], where: str = "here") -> ConfigError:
    """`what`: peer, pod ... `known` are the names that there are."""
    close = near(name, known, most=3)
    mean = f"; did you mean {' or '.join(close)}?" if close else ""
    # Addresses after names.
    shown = sorted(known, key=lambda each: (each[0].isdigit() or ":" in each.partition("/")[0], each))[
        :_NAMED
    ]
    rest = f" and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
    there = f"there are {', '.join(shown)}{rest}" if shown else "there is none"
    return ConfigError(f"no {what} named {name[:100]} {where}{mean or ':'} {there}")


def refuse_unknown(agents: Agents, what: str, name: str, kinds: Iterable[str], others: str = "") -> None:
    """After an empty answer: raises ConfigError where no node has anything of that name among `kinds`
    (l3net.agent.completing), or of the kinds `others`, which are not listed. Where a node does not answer, or
    is too old to tell, it cannot be known, and nothing is raised."""
    from l3net.agent.completing import MOST  # noqa: PLC0415 - asyncio, which no answer that is there needs

    kinds = list(kinds)
    if agents.failures:
        return
    try:
        alike = _names(agents, [*kinds, *others.split()], _spelt(name))
        if len(alike) >= MOST or _spelt(name) in alike:
            return
        known = _names(agents, kinds, "")
    except L3netError:
        return
    where = "on any node that answers" if agents.several else "on this node"
    raise no_such(what, name, known, where)


def _names(agents: Agents, kinds: list[str], begin: str) -> set[str]:
    def read(answer: dict[str, Any]) -> list[str]:
        if "names" not in answer:
            raise ConfigError("it cannot tell")
        return list(answer["names"])

    question = f"complete {json.dumps({'kinds': kinds, 'begin': begin})}"
    return {name for _, names in agents.each(question, read) for name in names}


def _spelt(name: str) -> str:
    """Addresses as agents spell them."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name
