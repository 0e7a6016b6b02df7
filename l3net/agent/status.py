"""What the agent says of itself, as plain values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from l3net import __version__
from l3net.addresses import prefix_order
from l3net.agent.exports import exports
from l3net.agent.health import unreachable, unready
from l3net.agent.loop import Agent
from l3net.agent.names import names
from l3net.agent.neighbors import REFUSED, peer_rows
from l3net.agent.planning import plan_for
from l3net.agent.policyanswers import policy_problems, policy_status
from l3net.agent.servicemap import pods_of
from l3net.agent.swallowed import swallowed_blocks
from l3net.agent.tally import Tally
from l3net.agent.unresolved import peers_off_link
from l3net.announce.blocks import own_blocks
from l3net.bgp.sessions import node_as_number, router_id
from l3net.bgp.verdict import Verdict
from l3net.firewall.ranking import TOTAL
from l3net.firewall.sticky import MOST, MOST_ENDS
from l3net.ipam.crosscheck import crosscheck_state
from l3net.ipam.findings import FindingReason
from l3net.model import Address, NextHop

#: Routes put into words before the loop has its turn.
AT_ONCE = 1000
#: A peer that takes nothing for this long, in seconds, is a problem to tell.
STUCK = 15.0
#: Contradictions between declared objects that are told one by one.
MOST_CONTRADICTIONS = 20


def status(agent: Agent) -> dict[str, Any]:
    """The status but for its `routes`: node, peers, services, problems. No secret is ever part of it."""
    why = unready(agent)
    tallies = {address: Tally.of(agent, peer.session) for address, peer in agent.speaking.peers.items()}
    node = agent.state.nodes.get(agent.node_name)
    return {
        "version": __version__,
        "node": agent.node_name,
        "routerID": str(router_id(node)) if node is not None else "",
        "asNumber": node_as_number(agent.state, node) if node is not None else None,
        "pid": agent.shells.process.pid,
        "inSync": agent.in_sync,
        "ready": not why,
        "unready": why,  # why not
        "reconciled": agent.in_sync and agent.passes > 0,  # the node is as declared, whatever its peers do
        "speakerConnected": agent.speaking.connected,
        "drain": agent.draining.status(),
        "memoryMiB": round(agent.shells.process.resident() / (1 << 20), 1),
        "memoryPeakMiB": round(agent.shells.process.peak_memory() / (1 << 20), 1),
        "blocks": [str(block) for block in own_blocks(agent.state, agent.node_name)],
        "peers": peer_rows(agent, tallies),
        "services": [
            {
                "service": str(verdict.service),
                "address": str(verdict.address),
                "kind": verdict.kind.value,
                "reason": verdict.reason.value,
                "lost": list(verdict.lost),
            }
            for verdict in agent.verdicts
        ],
        "serviceProxy": agent.proxying.status(),
        "consistent": agent.services.spread,
        "floating": agent.floating.status(),
        "egress": agent.egress.status(),
        "pods": {
            **agent.pods.status(),
            "retained": [
                {"block": str(block), "attachments": count, "claimedBy": other}
                for block, count, other in agent.podnet.retained_blocks(agent.state)
            ],
        },
        "policy": policy_status(agent),
        "monitoring": {"bmp": agent.monitoring.status()},
        "views": views(agent),
        "problems": _problems(agent, tallies),
    }


def views(agent: Agent) -> list[dict[str, Any]]:
    """How old what is known of each kind is, in seconds; empty over a directory."""

    def rounded(age: float | None) -> float | None:
        return None if age is None else round(age, 1)

    return [
        {
            "kind": kind.value,
            "listedSeconds": rounded(view.list_age),
            "bookmarkSeconds": rounded(view.bookmark_age),
        }
        for kind, view in sorted(agent.views.items(), key=lambda item: item[0].value)
    ]


async def routes(agent: Agent) -> AsyncIterator[list[dict[str, Any]]]:
    """Those of the kernel in order, some at a time: between them the loop serves everything else."""
    wanted, held = dict(agent.kernel.desired), dict(agent.kernel.mirror)
    order = await asyncio.to_thread(sorted, wanted, key=lambda key: (*prefix_order(key[0]), key[1]))
    for start in range(0, len(order), AT_ONCE):
        rows = []
        for key in order[start : start + AT_ONCE]:
            route = wanted[key]
            rows.append(
                {
                    "prefix": str(route.prefix),
                    "kind": route.kind.name.lower(),
                    "metric": route.metric,
                    "nextHops": sorted(map(_hop, route.next_hops)),
                    "inKernel": held.get(key) == route,
                }
            )
        yield rows
        await asyncio.sleep(0)


def _hop(hop: NextHop) -> str:
    return f"dev {hop.interface}" if hop.gateway is None else f"{hop.gateway} dev {hop.interface}"


def _service_problems(agent: Agent) -> list[str]:
    problems = [
        f"service {verdict.service}: {verdict.address}: {'; '.join(verdict.lost)}"
        for verdict in agent.verdicts
        if verdict.lost
    ]
    problems += [
        f"services: NodePort {port}/{protocol.upper()} is not served: the node itself uses that port"
        for protocol, port in agent.services.withheld
    ]
    if forgetful := agent.services.forgetful:
        problems.append(
            f"services: of {forgetful} ports with sessionAffinity clients are not remembered "
            f"(a node does so for {MOST}, and {MOST_ENDS} endpoints of theirs): a change of their "
            "endpoints may move clients"
        )
    if short := agent.services.spread["short"]:
        problems.append(
            f"services: {short} ports with consistent load balancing have fewer slots than their endpoints "
            f"want (a node has {TOTAL} in all): they spread less evenly"
        )
    if apart := agent.enveloping.apart:
        named = ", ".join(apart[:5]) + (f" and {len(apart) - 5} more" if len(apart) > 5 else "")
        problems.append(
            f"services: nothing is forwarded to {named}: it does not take part in consistent load "
            "balancing (another "
            "service proxy, an older release, or no device); connections to endpoints there do not survive"
        )
    return problems


def _problems(agent: Agent, tallies: Mapping[Address, Tally]) -> list[str]:
    problems = sorted(str(rejected) for rejected in agent.declared.rejected)
    problems += [str(refusal) for refusal in agent.sessions.refusals]
    problems += contradictions(agent)
    problems += [
        f"peer {peer.session.name}: {count} routes refused for lack of an import policy (RFC 8212); "
        "name them in import.cidrs of the BGPConfiguration or in a filter of the peer"
        for address, peer in agent.speaking.peers.items()
        if (count := tallies[address].refused.get(Verdict.NO_POLICY.value, 0))
    ]
    problems += [
        f"peer {peer.session.name}: over its limit of {peer.session.max_prefixes} IPv{family.value} prefixes"
        for peer in agent.speaking.peers.values()
        for family in peer.over_limit
    ]
    problems += [
        f"peer {peer.session.name}: has accepted nothing for {stuck:.0f} s of its queue "
        f"({agent.speaking.queues.out_queue(address)} prefixes)"
        for address, peer in agent.speaking.peers.items()
        if (stuck := agent.speaking.queues.stuck(address)) > STUCK
    ]
    problems += [
        f"peer {peer.session.name}: has not answered the ROUTE-REFRESH for IPv{family.value} yet"
        for peer in agent.speaking.peers.values()
        for family in peer.unanswered
    ]
    problems += _service_problems(agent)
    problems += [f"{part}: {text}" for part, text in agent.kernel.problems.items()]
    problems += agent.checks.problems()
    problems += [detour] if (detour := agent.shells.detour()) else []
    problems += [agent.errors.problem] if agent.errors.problem else []
    problems += policy_problems(agent)
    problems += agent.pods.problems()
    problems += agent.allowing.problems()
    problems += agent.moving.snat.problems()
    problems += retained_problems(agent)
    problems += swallowed_blocks(agent)
    problems += peers_off_link(agent)
    if agent.in_sync and (why := agent.declared.holding()):
        problems.append(why)
    problems += [
        f"peer {peer.session.name}: {REFUSED}, and it is left out; the other sessions are not touched"
        for address, peer in agent.speaking.peers.items()
        if address in agent.speaking.refused
    ]
    down = [peer.session.name for peer in agent.speaking.peers.values() if not peer.established]
    if agent.kernel.unheard and down and agent.in_sync:
        problems.append(
            f"{agent.kernel.unheard} learned routes of the previous agent are kept until every session "
            f"has sent its routes, for at most two minutes: {', '.join(sorted(down)[:5])} is down"
        )
    if agent.speaking.unguarded:
        problems.append(
            "the running speaker is older than the agent: it accepts incoming connections without checking "
            "the session's MD5 password and TTL; restart it"
        )
    if agent.speaking.problem:
        problems.append(agent.speaking.problem)
    if not agent.speaking.connected:
        problems.append("the speaker cannot be reached; is `l3net speaker` running?")
    problems += sorted(agent.shells.kernel.discovery.problems.values())
    problems += [
        f"peer {peer.session.name}: does not support IPv6 next hops for IPv4 prefixes (RFC 8950), so "
        "it gets none of them"
        for peer in agent.speaking.peers.values()
        if peer.established and not peer.takes_its_next_hops
    ]
    problems += agent.bfd.problems()
    problems += agent.monitoring.problems()
    if agent.draining.problem:
        problems.append(agent.draining.problem)
    if agent.speaking.undecodable:
        problems.append(f"{agent.speaking.undecodable} lines from ExaBGP could not be read")
    return problems


def retained_problems(agent: Agent) -> list[str]:
    """A sentence for each block that the node has lost while pods run in it."""
    return [
        f"block {block} is no longer this node's, and {count} pod attachments have addresses in it: it "
        + (
            f"is node {other}'s by now and is not announced from here, so that only this node reaches them; "
            if other
            else "keeps its gateway and its announcement until they are gone; "
        )
        + "delete these pods (`l3net ipam show`), or give the node its block back"
        for block, count, other in agent.podnet.retained_blocks(agent.state)
    ]


def contradictions(agent: Agent) -> list[str]:
    """What declared objects say against one another. A missing filter is among the refusals already."""
    found = [
        str(finding)
        for finding in crosscheck_state(agent.state)
        if finding.reason is not FindingReason.MISSING_FILTER
    ]
    more = [f"{len(found) - MOST_CONTRADICTIONS} more contradictions"] * (len(found) > MOST_CONTRADICTIONS)
    return found[:MOST_CONTRADICTIONS] + more


def answer(agent: Agent, question: str) -> dict[str, Any]:
    """What the agent's socket answers at once; `status` and `routes` are told in parts."""
    word, _, rest = question.partition(" ")
    match word:
        case "alive":
            return {"alive": True}
        case "ready":
            why = unready(agent)
            return {"ready": not why, "why": why, "unreachable": unreachable(agent)}
        case "drain":
            return {**agent.draining.status(), "ready": not unready(agent)}
        case "plan":
            return plan_for(agent, Path(rest))
        case "exports":
            return exports(agent)
        case "names":
            return names(agent)
        case "brief":
            return status(agent)
        case "pods":
            return pods_of(agent)
        case _:
            return {
                "error": "ask for: alive, status, brief, ready, drain, neighbors, routes, dump, complete, "
                "exports, names, services, pods, flows, plan DIRECTORY, policy ..."
            }
