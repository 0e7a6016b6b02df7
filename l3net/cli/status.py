"""`l3net status`."""

from __future__ import annotations

import sys
from typing import Any

import click

from l3net.cli.bgp_neighbors import RETURNED_WORDS, fsm
from l3net.cli.bgp_routes import PATIENCE
from l3net.cli.nodes import Agents, agents_option, checked, here_alone
from l3net.cli.output import duration, output_option, print_table

_PEER_COLUMNS = [
    "PEER",
    "ADDRESS",
    "AS",
    "STATE",
    "SINCE",
    "RECEIVED",
    "ACCEPTED",
    "RETURNED",
    "SENT",
    "QUEUED",
    "REFUSED",
]
_BFD_COLUMNS = [
    "PEER",
    "ADDRESS",
    "STATE",
    "SINCE",
    "DETECTION",
    "ECHO",
    "HOPS",
    "DIAGNOSTIC",
    "PEER SAYS",
    "FLAPS",
]


@click.command(short_help="Show the state of this node.")
@agents_option
@click.option("--ready", is_flag=True, help="Print only whether the agent is ready; exit with 1 if not.")
@click.option("--alive", is_flag=True, help="Print only whether the agent answers, for a liveness probe.")
@output_option
def status(agents: Agents, ready: bool, alive: bool, output: str) -> None:
    """Show problems, peers with their state, routes in the kernel, and the verdict on every service address.

    RETURNED counts the cluster's own routes that a peer passes back, and its nodes' links: they are
    refused, and this is normal. REFUSED shows all others.

    For several nodes it shows the problems and one line per node, those with problems first; for one node
    given with --node everything. Exit code 3: no agent answers.
    """
    if alive or ready:
        here_alone(agents, "--alive" if alive else "--ready")
    if alive:
        agents.each("alive", bool)
        click.echo("alive")
        return
    if ready:
        ((_, why),) = agents.each("ready", lambda answer: "" if answer["ready"] else str(answer["why"]))
        click.echo(f"not ready: {why}" if why else "ready")
        sys.exit(1 if why else 0)
    if agents.several and output == "table":
        show_nodes(agents)
        return
    answers = agents.each("status", _told, PATIENCE)
    if output != "table":
        agents.print(answers, output)
    else:
        agents.rendered(answers, show)


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    return checked(answer, "problems", "no status is told")


def show_nodes(agents: Agents) -> None:
    """The problems, then a line a node. Of each no more is kept: it may have 100,000 routes."""

    def line(answer: dict[str, Any]) -> tuple[bool, tuple[object, ...], list[str]]:
        return bool(_told(answer)["ready"]), _node_cells(answer), _troubles(answer)

    found = agents.each("status", line, PATIENCE)
    ranked = sorted(found, key=lambda each: (each[1][0], not each[1][2]))
    columns = ("NODE", "STATE", "PEERS UP", "BLOCKS", "ROUTES", "MISSING", "PODS", "PROBLEMS", "VERSION")
    told = [f"{node}: problem: {problem}" for node, (_, _, problems) in ranked for problem in problems]
    if told:
        click.echo("\n".join(told) + "\n")
    print_table("", columns, [(node, *cells) for node, (_, cells, _) in ranked])


def _node_cells(answer: dict[str, Any]) -> tuple[object, ...]:
    peers, routes = answer["peers"], answer["routes"]
    state = "ready" if answer["ready"] else f"not ready: {answer['unready']}"
    return (
        f"drains: {answer['drain']['stage']}" if "cause" in answer["drain"] else state,
        f"{sum(peer['state'] == 'established' for peer in peers)} of {len(peers)}",
        " ".join(answer["blocks"]),
        len(routes),
        sum(not route["inKernel"] for route in routes),
        (answer.get("pods") or {}).get("leases", ""),
        len(_troubles(answer)),
        answer["version"],
    )


def _troubles(answer: dict[str, Any]) -> list[str]:
    """Problems, and peers that are down, unless the node leaves."""
    leaves = "cause" in answer["drain"]
    down = [
        f"peer {peer['name']} ({peer['address']}) is down{': ' * bool(peer['reason'])}{peer['reason']}"
        for peer in answer["peers"]
        if peer["state"] == "down" and not leaves
    ]
    return [*map(str, answer["problems"]), *down]


def show(answer: dict[str, Any]) -> None:
    """One node, for people."""
    state = "ready" if answer["ready"] else "not ready"
    click.echo(f"node {answer['node']}: {state}, {answer['memoryMiB']} MiB, l3net {answer['version']}")
    if answer.get("routerID"):
        click.echo(f"AS {answer['asNumber']}, router ID {answer['routerID']}")
    for problem in _troubles(answer):
        click.echo(f"problem: {problem}")
    drain = answer["drain"]
    if "cause" in drain:
        click.echo(f"drains ({drain['cause']}) since {duration(drain['sinceSeconds'])}: {drain['stage']}")
    if proxy := answer.get("serviceProxy"):
        click.echo(f"service proxy {'on' if proxy['on'] else 'off'}: {proxy['why']}")
    click.echo()
    print_table(
        "BGP peers",
        _PEER_COLUMNS,
        [_peer(peer) for peer in answer["peers"]],
    )
    click.echo()
    watched = [(peer, peer["bfd"]) for peer in answer["peers"] if peer.get("bfd")]
    if watched:
        print_table(
            "BFD",
            _BFD_COLUMNS,
            [_bfd(peer, bfd) for peer, bfd in watched],
        )
        click.echo()
    print_table(
        "Routes of l3net",
        ["PREFIX", "KIND", "NEXT HOPS", "IN KERNEL"],
        [
            (
                route["prefix"],
                route["kind"],
                ", ".join(route["nextHops"]),
                "yes" if route["inKernel"] else "no",
            )
            for route in answer["routes"]
        ],
    )
    click.echo()
    print_table(
        "Service addresses",
        ["SERVICE", "ADDRESS", "KIND", "VERDICT"],
        [(row["service"], row["address"], row["kind"], row["reason"]) for row in answer["services"]],
    )
    if held := answer.get("floating", {}).get("held"):
        click.echo()
        print_table(
            "Floating addresses",
            ["ADDRESS", "POD", "POD ADDRESS", "BY"],
            [(row["address"], row["pod"], row["podAddress"], row["by"]) for row in held],
        )
    if held := answer.get("egress", {}).get("held"):
        click.echo()
        print_table(
            "Egress addresses",
            ["ADDRESS", "EGRESSIP", "CONNECTIONS"],
            [(row["address"], row["by"], row["connections"]) for row in held],
        )
    if (spread := answer.get("consistent")) and spread["servers"]:
        click.echo(
            f"\n{spread['servers']} of their ports are balanced consistently, by {spread['slots']} slots"
        )
    if pods := answer.get("pods"):
        click.echo(f"\n{pods['leases']} pod attachments have addresses" + _notes(pods))
    if policy := answer.get("policy"):
        click.echo(_policy(policy))
    for collector in answer.get("monitoring", {}).get("bmp", ()):
        click.echo(_collector(collector))
    if answer.get("views"):
        click.echo(f"\n{_views(answer['views'])}")


def _collector(row: dict[str, Any]) -> str:
    """One collector of BMP messages."""
    where = f"BMP collector {row['name']} ({row['address']} port {row['port']}):"
    since = duration(row["sinceSeconds"])
    if row["connected"]:
        again = f", {row['dropped']} full dumps sent again" if row["dropped"] else ""
        sent = f"{row['messages']} messages, {row['waiting']} prefixes wait"
        return f"{where} connected for {since}, {sent}{again}"
    why = f": {row['lastError']}" if row["lastError"] else ""
    return f"{where} not connected for {since}{why}"


def _policy(policy: dict[str, Any]) -> str:
    """What policies do here."""
    text = f"{policy['policies']} policies, for {policy['podsWithPolicies']} of {policy['pods']} pods here"
    if policy["connectionsEnded"]:
        text += f"; {policy['connectionsEnded']} connections ended"
    if policy["refused"]:
        text += "; not in force as declared"
    if policy["waiting"]:
        text += f"; {len(policy['waiting'])} pods wait until the API server reports them"
    return text


def _views(views: list[dict[str, Any]]) -> str:
    """How old what is known is, at most."""
    lists = [row["listedSeconds"] for row in views if row["listedSeconds"] is not None]
    marks = [row["bookmarkSeconds"] for row in views if row["bookmarkSeconds"] is not None]
    text = f"{len(lists)} of {len(views)} kinds listed"
    text += f", the longest ago {duration(max(lists))}" if lists else ""
    return text + (f"; last bookmark of a kind at most {duration(max(marks))} ago" if marks else "")


def _notes(pods: dict[str, Any]) -> str:
    """What is out of the ordinary on the pods' side."""
    notes = []
    if pods["adopted"]:
        notes.append(f"{pods['adopted']} were adopted at the start")
    if pods["quarantined"]:
        notes.append(f"{pods['quarantined']} deletions are in quarantine")
    notes += [f"{fault['part']} failed {fault['count']} times" for fault in pods["faults"]]
    return "".join(f"; {note}" for note in notes)


def _peer(peer: dict[str, Any]) -> tuple[object, ...]:
    refused = {reason: count for reason, count in peer["refused"].items() if reason not in RETURNED_WORDS}
    state = fsm(peer) if not peer["reason"] else f"{fsm(peer)} ({peer['reason']})"
    since = duration(peer["sinceSeconds"])
    return (
        peer["name"],
        peer["address"],
        "" if peer["asNumber"] is None else peer["asNumber"],
        state,
        since,
        peer["received"],
        peer["accepted"],
        sum(peer["refused"].values()) - sum(refused.values()),
        peer["announced"],
        peer.get("outQueue", ""),
        ", ".join(f"{count} {reason}" for reason, count in refused.items()),
    )


def _bfd(peer: dict[str, Any], bfd: dict[str, Any]) -> tuple[object, ...]:
    if "sinceSeconds" not in bfd:
        return (peer["name"], peer["address"], bfd["state"], "", "", "", "", "", "", "")
    return (
        peer["name"],
        peer["address"],
        bfd["state"],
        duration(bfd["sinceSeconds"]),
        f"{bfd['detectionTimeMs']:g} ms",
        bfd["echo"] or "none",
        "several" if bfd["multihop"] else "one",
        bfd["diagnostic"],
        bfd["remoteState"],
        bfd["flaps"],
    )
