"""Answers what another declared state would do to this node's sessions, without making it so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l3net.addresses import prefix_order
from l3net.agent.declared import objects, take
from l3net.agent.loop import Agent
from l3net.announce.source import NodeView
from l3net.announce.sources import desired
from l3net.bgp.adj_rib_out import AdjRibOut
from l3net.bgp.drain import Stage
from l3net.bgp.impact import SessionPlan, plan
from l3net.bgp.policy import ImportJudge
from l3net.bgp.sessions import Session, Sessions
from l3net.egress.declared import announced_by as egress_announced
from l3net.egress.declared import book_of as egress_book
from l3net.errors import ConfigError
from l3net.floating.declared import announced_by, book_of
from l3net.model import Address, ClusterState
from l3net.ports import Changed, Manifests, Rejected
from l3net.services.verdicts import advertised, announced


def plan_for(agent: Agent, directory: Path) -> dict[str, Any]:
    """Sessions, announcements and verdicts now against those the manifests in `directory` would give."""
    try:
        tree = agent.shells.manifests(directory)
    except ConfigError as err:
        return {"error": str(err)}
    state, problems = _read(tree, agent.state)
    if agent.node_name not in state.nodes:
        return {
            "error": f"{directory} declares no Node named {agent.node_name}; the agent would hold everything"
        }
    agent.podnet.with_retained(state)
    after = agent.held.of(state)
    steps = plan(_with_ribs(agent, agent.state, agent.sessions), _with_ribs(agent, state, after))
    return {
        "node": agent.node_name,
        "sessions": [
            {**_row(step), "learned": _judged_otherwise(agent, state, after, step)} for step in steps
        ],
        "problems": [*problems, *map(str, after.refusals)],
    }


def _read(tree: Manifests, now: ClusterState) -> tuple[ClusterState, list[str]]:
    """What would be in force, and what is wrong. As when it is followed, of what cannot be used the last good
    version stays: that of now."""
    state, problems = ClusterState(), []
    stated = set()
    for event in tree.look():
        if isinstance(event, Changed):
            take(state, event)
            stated.add((event.kind, event.name))
        elif isinstance(event, Rejected):
            problems.append(str(event))
    broken = tree.broken
    for event in objects(now) if broken else ():
        key = (event.kind, event.name)
        if key not in stated and (key in broken or None in broken):
            take(state, event)
    if None in broken:
        problems.append(
            "what stands in a file that cannot be read is not known: all that no other file states is taken "
            "to stay as it is"
        )
    return state, problems


def _with_ribs(
    agent: Agent, state: ClusterState, found: Sessions
) -> dict[Address, tuple[Session, AdjRibOut]]:
    stage = agent.draining.stage
    draining = stage >= Stage.SERVICES_WITHDRAWN
    prefixes = announced(advertised(state, agent.node_name, draining=draining))
    book = book_of(state)
    leaving = egress_book(state, said=agent.shells.declares_pods)
    view = NodeView(
        *(state, agent.node_name, prefixes),
        floating_prefixes=announced_by(book, agent.node_name),
        egress_prefixes=egress_announced(leaving, agent.node_name),
    )
    return {
        address: (session, desired(view, session, drain=stage))
        for address, session in found.by_address.items()
    }


def _judged_otherwise(
    agent: Agent, state: ClusterState, after: Sessions, step: SessionPlan
) -> list[dict[str, str]]:
    """Paths the peer has announced already, of which another verdict would be given."""
    session = after.by_address.get(step.peer)
    if session is None:
        return []
    judge = ImportJudge(agent.held.protected(state), state.filters)
    changed = []
    for entry in sorted(agent.rib.received(step.peer), key=lambda entry: prefix_order(entry.raw.prefix)):
        judgement, _ = judge(session, entry.raw)
        if judgement != entry.judgement:
            changed.append(
                {
                    "prefix": str(entry.raw.prefix),
                    "before": str(entry.judgement),
                    "after": str(judgement),
                }
            )
    return changed


def _row(step: SessionPlan) -> dict[str, Any]:
    return {
        "peer": str(step.peer),
        "name": step.name,
        "action": step.action,
        "fields": list(step.fields),
        "announce": [str(prefix) for prefix in step.announce],
        "withdraw": [str(prefix) for prefix in step.withdraw],
    }
