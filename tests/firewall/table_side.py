"""A table brought along by its sections' steps, as the agent does it, and what the kernel lists of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from typing import Any

from l3net.firewall.facts import FirewallPlan
from l3net.firewall.ruleset import table
from l3net.firewall.section import Servers
from l3net.firewall.sections import SECTIONS
from l3net.model import ServerKey, VirtualServer

Change = tuple[VirtualServer | None, VirtualServer | None]


class InForce:
    """What is in force of all sections; `text` makes the table anew, as it was when this was made."""

    def __init__(self, plan: FirewallPlan) -> None:
        made = [section.made(plan) for section in SECTIONS]
        self.text = table(made)
        self.filled = {name for each in made for name in each.filled}
        self.held = {section.name: each.held for section, each in zip(SECTIONS, made, strict=True)}
        self.plan = plan

    def steps(self, plan: FirewallPlan, servers: Servers) -> dict[str, str]:
        """The transaction of each section to the plan, as if the kernel took all."""
        found = {}
        for name, held in self.held.items():
            step = held.change(plan, servers)
            step.take()
            found[name] = step.text
        return found

    def follow(self, plan: FirewallPlan) -> str:
        """The transaction to the plan, servers and all."""
        servers = differences(self.plan.servers, plan.servers)
        self.plan = plan
        return "".join(self.steps(plan, servers).values())

    def change(self, changes: Iterable[Change]) -> str:
        """The transaction where servers alone are others."""
        servers = {(now or before).key: now for before, now in changes if now or before}  # type: ignore[union-attr]
        return "".join(self.steps(self.plan, servers).values())


def differences(
    before: Iterable[VirtualServer], now: Iterable[VirtualServer]
) -> dict[ServerKey, VirtualServer | None]:
    old, new = ({server.key: server for server in servers} for servers in (before, now))
    return {
        key: new.get(key) for key in sorted(old.keys() | new.keys(), key=str) if old.get(key) != new.get(key)
    }


def listed() -> dict[str, Any]:
    """Elements of each set and map, and the rules of each chain."""
    out = subprocess.run(["nft", "-j", "list", "table", "inet", "l3net"], capture_output=True, check=True)
    found: dict[str, Any] = {}
    for entry in json.loads(out.stdout)["nftables"]:
        for kind in ("set", "map"):
            if kind in entry:
                elements = entry[kind].get("elem", [])
                found[entry[kind]["name"]] = {json.dumps(element, sort_keys=True) for element in elements}
        if "chain" in entry:
            hook = [entry["chain"].get(key) for key in ("hook", "prio", "type", "policy")]
            found.setdefault(f"chain {entry['chain']['name']}", [json.dumps(hook)])
        if "rule" in entry:
            expression = json.dumps(entry["rule"]["expr"], sort_keys=True)
            found[f"chain {entry['rule']['chain']}"].append(expression)
    return found


def same(one: dict[str, Any], afresh: dict[str, Any]) -> bool:
    """Whether two listings are alike. Spare chains are those of the largest number of backends so far."""
    differing = one.keys() ^ afresh.keys()
    assert all(name.startswith("chain lb") for name in differing), differing
    for name in afresh.keys() - differing:
        assert one[name] == afresh[name], name
    return True
