"""The combination of policies that a pod has in one direction, as chains: pods of the same share them.

Admin policies come first, in their order. One that passes goes on in the chain of the rest: what
NetworkPolicies accept and nothing else, if any is for the pod, and the Baseline policies otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from l3net.firewall.contents import Rules
from l3net.model import Direction, ObjectName, Policy, Tier
from l3net.policy.rules import chain_name, log_statement, passes
from l3net.policy.sets import digest

#: A policy by what kind it is of and its name.
PolicyKey: TypeAlias = tuple[bool, ObjectName]


def key_of(policy: Policy) -> PolicyKey:
    return policy.tier is Tier.NETWORK_POLICY, policy.name


def counts(policy: Policy, where: str) -> bool:
    """Whether a policy has a say at a map."""
    return policy.rules(Direction(where)) is not None


@dataclass(frozen=True, slots=True)
class Use:
    """A policy's chains of one direction that a combination jumps to; `passing`: see rules.compiled."""

    policy: PolicyKey
    direction: Direction
    passing: str = ""


@dataclass(frozen=True, slots=True)
class Mix:
    """A combination: its chain's name, all its chains, what they jump to, and the counter of what no rule of
    its NetworkPolicies accepts (empty: there are none)."""

    name: str
    chains: dict[str, Rules]
    uses: tuple[Use, ...]
    counter: str


def mix_name(where: str, policies: Sequence[Policy]) -> str:
    return f"mix-{where}-{digest(*map(key_of, policies))}"


def mixed(where: str, policies: Sequence[Policy]) -> Mix:
    """The combination of these policies, which are in their order and all count there."""
    name, direction = mix_name(where, policies), Direction(where)
    admin = [each for each in policies if each.tier is Tier.ADMIN]
    accepting = [each for each in policies if each.tier is Tier.NETWORK_POLICY]
    last = accepting or [each for each in policies if each.tier is Tier.BASELINE]
    rest_name = f"{name}-rest"
    passing = f"goto {rest_name}"
    uses: list[Use] = []
    first: list[str] = []
    for policy in admin:
        to = passing if passes(policy, direction) else ""
        uses.append(Use(key_of(policy), direction, to))
        first.append(f"jump {chain_name(policy, direction, to)}")
    rest: list[str] = []
    for policy in last:
        uses.append(Use(key_of(policy), direction))
        rest.append(f"jump {chain_name(policy, direction)}")
    counter = f"{name}-deny" if accepting else ""
    if accepting:
        if any(each.log_drops for each in accepting):
            rest.append(log_statement(name))
        rest.append(f"counter name {counter} drop")
    else:  # or the packet would go back to the policies after the one that passed it on
        rest.append("accept")
    if any(use.passing for use in uses):
        chains = {name: (*first, passing), rest_name: tuple(rest)}
    else:
        chains = {name: (*first, *rest)}
    return Mix(name, chains, tuple(dict.fromkeys(uses)), counter)
