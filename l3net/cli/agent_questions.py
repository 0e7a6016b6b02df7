"""What the agent's socket answers beside its status: a row a question, by its first word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from l3net.agent.completing import completions
from l3net.agent.dumping import dump_answer
from l3net.agent.flowing import Flowing
from l3net.agent.loop import Agent
from l3net.agent.neighbors import neighbors
from l3net.agent.policyanswers import policy_answer
from l3net.agent.recording import Recording
from l3net.agent.ribs import routes_answer
from l3net.agent.servicemap import services_answer
from l3net.shell.sockets.agentserver import InParts


def questions(
    node: Agent, recording: Recording, state_dir: Path, flowing: Flowing
) -> Mapping[str, Callable[[str], Awaitable[dict[str, Any]]]]:
    """In whose answers others have their turn."""
    return {
        "policy": partial(policy_answer, node),
        "history": recording.answer,
        "explain": partial(_explained, node, state_dir, recording.last),
        "complete": partial(completions, node),
        "neighbors": partial(neighbors, node),
        "flows": flowing.answer,
        "services": partial(services_answer, node),
    }


def questions_in_parts(node: Agent) -> Mapping[str, InParts]:
    """Whose rows are told as they are put into words."""
    return {"routes": partial(routes_answer, node), "dump": partial(dump_answer, node)}


async def _explained(
    node: Agent, state_dir: Path, last: Callable[[str], dict[str, Any] | None], question: str
) -> dict[str, Any]:
    """See agent.explaining. Most agents are never asked, and two MiB of code come with the first question."""
    explain = await asyncio.to_thread(_explaining, state_dir)
    return await explain(node, last=last, question=question)


def _explaining(state_dir: Path) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Blocks the first time."""
    from l3net.agent.explaining import explain_answer  # noqa: PLC0415
    from l3net.shell.probes.sight import HostSight  # noqa: PLC0415

    return partial(explain_answer, sight=HostSight(state_dir))
