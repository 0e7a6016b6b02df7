"""What the agent answers about policies (`l3net policy`), and what its status says of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from l3net.agent.loop import Agent
from l3net.errors import ConfigError
from l3net.kube.scope import any_policy
from l3net.policy.catalog import find, one, rows
from l3net.policy.matrix import Matrix
from l3net.policy.mixing import key_of
from l3net.policy.places import PORT, port_of
from l3net.policy.trial import trial
from l3net.policy.verdict import shown
from l3net.policy.view import Whereabouts

#: Rows put into words before the loop has its turn, and seconds of work on a matrix.
AT_ONCE: Final = 50
TURN: Final = 0.005
#: Why not every pod is known.
OWN_ALONE: Final = (
    "no policy is declared, so that the agent follows the pods of its own node alone; any pod reaches any"
)


async def policy_answer(agent: Agent, question: str) -> dict[str, Any]:
    """`question` is a word and, for some, a JSON object of what is asked for."""
    word, _, rest = question.partition(" ")
    try:
        asked = json.loads(rest) if rest else {}
        if not isinstance(asked, dict):
            raise ValueError
        return await _answer(agent, word, {str(key): str(value) for key, value in asked.items()})
    except ConfigError as err:
        return {"error": str(err)}
    except (ValueError, RecursionError):
        return {"error": "the question is not a JSON object"}


async def _answer(agent: Agent, word: str, asked: Mapping[str, str]) -> dict[str, Any]:
    policing = agent.policing
    match word:
        case "list":
            found = []
            for number, row in enumerate(rows(view_of(agent))):
                found.append(row)
                if number % AT_ONCE == AT_ONCE - 1:
                    await asyncio.sleep(0)
            return {"policies": found, "refused": _refused(agent)}
        case "show":
            return await _show(agent, asked)
        case "test":
            ends = asked.get("source", ""), asked.get("destination", "")
            return {**trial(view_of(agent), *ends, asked.get("port", "")), "refused": _refused(agent)}
        case "matrix":
            matrix = Matrix(view_of(agent), asked.get("namespace", ""), port_of(asked.get("port") or PORT))
            now = asyncio.get_running_loop().time
            until = now() + TURN
            for _ in matrix.steps():
                if now() > until:
                    await asyncio.sleep(0)
                    until = now() + TURN
            return {**matrix.answer(), "refused": _refused(agent)}
        case "drops":
            after = asked.get("after", "0")
            return {
                "drops": policing.drops.rows(int(after) if after.isdecimal() else 0),
                "seen": policing.drops.seen,
                "logging": policing.drops.logging,
                "problem": policing.drops.problem,
            }
        case _:
            return {"error": "ask for: list, show, test, matrix, drops"}


def _refused(agent: Agent) -> str:
    """Why what is answered is not what packets meet; empty if it is."""
    return agent.policing.refusal if agent.policing.book.policies else ""


async def _show(agent: Agent, asked: Mapping[str, str]) -> dict[str, Any]:
    counting = agent.policing.counting
    view = view_of(agent)
    policy = find(view, asked.get("name", ""), asked.get("kind", ""))
    await counting.read()
    key = key_of(policy)
    found = one(view, policy, counting.of(key))
    known = {key_of(each): shown(each.name, each.tier) for each in view.policies}
    found["notAccepted"] = [
        {
            "direction": counter.direction.value,
            "policies": [known.get(each, str(each[1])) for each in counter.policies],
            "packets": packets,
        }
        for counter, packets in sorted(
            counting.defaults((key,)), key=lambda item: (item[0].direction.value, item[0].policies)
        )
    ]
    found["refused"] = agent.policing.refusal
    return found


def view_of(agent: Agent) -> Whereabouts:
    """What the agent knows, as it is in force on this node."""
    book, state = agent.policing.book, agent.state
    here = list(book.here())
    partial = agent.shells.declares_pods and not any_policy(state)
    return Whereabouts(
        book,
        state,
        tuple(sorted(book.policies, key=lambda policy: policy.order)),
        agent.node_name,
        {name: addresses for name, addresses, _ in here},
        {name: policies for name, _, policies in here},
        OWN_ALONE if partial else "",
    )


def policy_status(agent: Agent) -> dict[str, Any]:
    """Counts, and what stands in the way."""
    policing = agent.policing
    here = list(policing.book.here())
    found = len(policing.book.policies)
    return {
        "policies": found,
        "pods": len(here),
        "podsWithPolicies": sum(1 for _, _, policies in here if policies),
        "connectionsEnded": policing.ending.ended,
        "dropsLogged": policing.drops.seen,
        "refused": _refused(agent),
        "waiting": list(map(str, policing.awaited)),
    }


def policy_problems(agent: Agent) -> list[str]:
    """Beside what nftables refuses, which is told with the firewall."""
    policing = agent.policing
    found = [policing.drops.problem] if policing.drops.problem else []
    if policing.counting.problem:
        found.append(f"counters of policies cannot be read: {policing.counting.problem}")
    return found
