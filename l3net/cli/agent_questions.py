"""What the agent's socket answers beside its status: a row a question, by its first word."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from l3net.agent.completing import completions
from l3net.agent.dumping import dump_answer
from l3net.agent.explaining import explain_answer
from l3net.agent.flowing import Flowing
from l3net.agent.loop import Agent
from l3net.agent.neighbors import neighbors
from l3net.agent.policyanswers import policy_answer
from l3net.agent.recording import Recording
from l3net.agent.ribs import routes_answer
from l3net.agent.servicemap import services_answer
from l3net.shell.probes.sight import HostSight
from l3net.shell.sockets.agentserver import InParts


def questions(
    node: Agent, recording: Recording, sight: HostSight, flowing: Flowing
) -> Mapping[str, Callable[[str], Awaitable[dict[str, Any]]]]:
    """In whose answers others have their turn."""
    return {
        "policy": partial(policy_answer, node),
        "history": recording.answer,
        "explain": partial(explain_answer, node, sight, recording.last),
        "complete": partial(completions, node),
        "neighbors": partial(neighbors, node),
        "flows": flowing.answer,
        "services": partial(services_answer, node),
    }


def questions_in_parts(node: Agent) -> Mapping[str, InParts]:
    """Whose rows are told as they are put into words."""
    return {"routes": partial(routes_answer, node), "dump": partial(dump_answer, node)}
