"""`l3net doctor`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from l3net.cli import options
from l3net.cli.nodes import Agents, any_agents_option
from l3net.cli.output import output_option, print_value
from l3net.cli.waiting import ask
from l3net.doctor.findings import Counters, Finding, PeerLook, Severity
from l3net.doctor.node import (
    cut_off,
    filtered_blocks,
    judge_agent,
    judge_data_path,
    judge_node,
    peers_of,
    speaker_away,
)
from l3net.doctor.peers import judge_peer
from l3net.errors import NotRunningError
from l3net.naming import AGENT_SOCKET, CNI_SOCKET, STATE_DIR
from l3net.shell.probes.node import look_at_node, look_at_peers
from l3net.shell.probes.pods import look_at_pods

COLOURS = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.PROBLEM: "red"}


@click.command(short_help="Find problems on this node, and what to do about them.")
@click.option(
    "--cluster",
    is_flag=True,
    help="Check all nodes (or those of --node) by asking their agents; one row per problem.",
)
@any_agents_option
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path(STATE_DIR),
    show_default=True,
    help="Leases and what else outlives a restart.",
)
@options.bin_dir
@options.conf_dir
@click.option(
    "--watch",
    type=options.Seconds(0, 600),
    default=5.0,
    show_default=True,
    help="Seconds to watch the kernel's TCP counters while a peer is down. A router connects only"
    " now and then: a longer time distinguishes a wrong password from a firewall.",
)
@click.option(
    "--listen",
    is_flag=True,
    help="Listen on the BGP port meanwhile if no process does, so that the kernel checks and "
    "counts the router's own attempts. Nothing is accepted. Do not use it while you "
    "configure peers: the speaker may need the port.",
)
@click.option(
    "--probe/--no-probe",
    default=True,
    show_default=True,
    help="Create two pods for a moment, as a runtime would, and test the traffic between them and the node.",
)
@output_option
@click.pass_context
def doctor(
    context: click.Context,
    cluster: bool,
    agents: Agents,
    state_dir: Path,
    bin_dir: Path,
    conf_dir: Path,
    watch: float,
    listen: bool,
    probe: bool,
    output: str,
) -> None:
    """Check agent, peers, routes, pods, kernel and CNI files; say what is wrong, why, and what to do.

    It creates two pods for a moment and removes them (not with --no-probe); it changes nothing else. To
    each peer whose session is down it makes one TCP connection from the session's own address, without a
    password. The result and the kernel's counters distinguish a wrong password from a firewall, a wrong
    AS number from a missing neighbor, and so on.

    With --cluster it asks the agents of all nodes, and probes nothing. Findings that differ only in
    names, addresses and numbers become one row. Only --cluster finds contradictions between nodes: a
    block or address of two nodes, an incomplete mesh, agents of different releases, a node that knows
    other services than the rest, a block to which no other node has a route.

    Exit code 0: no problem (there may be warnings); 1: a problem; 3: no agent answers.

    \b
    l3net doctor
    l3net doctor --cluster --kubeconfig ~/.kube/config
    l3net doctor --cluster --lab lab -o json
    """
    if cluster:
        _whole(context, agents, output)
    if agents.ways.given or not agents.here:
        raise click.UsageError("the doctor looks at other nodes with --cluster")
    run_dir = agents.run_dir
    try:
        status = ask(run_dir / AGENT_SOCKET, "status")
    except NotRunningError as err:
        # the host is worth a look all the same
        findings = [
            Finding("agent", "-", Severity.PROBLEM, str(err), "see its log: `journalctl -u l3net-agent`")
        ]
        findings += judge_node(look_at_node(state_dir, bin_dir, conf_dir, wants_pods=True), ecmp=False)
        _print(findings, output)
        sys.exit(err.exit_code)
    peers = peers_of(status)
    mute = speaker_away(status)
    down = [peer for peer in peers if not (peer.established or mute)]
    looks: dict[str, PeerLook] = {}
    counters = Counters()
    if down:
        if sys.stderr.isatty():
            many = "peer that is" if len(down) == 1 else f"{len(down)} peers that are"
            click.echo(
                f"looking at the {many} down, for {max(watch, 5):g} seconds or a little more ...", err=True
            )
        looks, counters = look_at_peers(down, watch, listen=listen)
    findings = judge_agent(status)
    services = _some_services(status)
    host = look_at_node(state_dir, bin_dir, conf_dir, bool(status["blocks"]), status["peers"], services)
    exports = ask(run_dir / AGENT_SOCKET, "exports")["routes"]
    for peer in peers:
        if mute and peer.address not in host.dead_links:
            continue  # that its session is down says nothing of the peer
        link, filtered = host.dead_links.get(peer.address, ""), filtered_blocks(exports, peer.address)
        findings += judge_peer(peer, looks.get(peer.address), counters, link, filtered)
    findings += cut_off(status, host.dead_links)
    if probe and status["blocks"] and status["reconciled"]:
        findings += judge_data_path(look_at_pods(run_dir / CNI_SOCKET), host.dropping)
    ecmp = any(len(route["nextHops"]) > 1 for route in status["routes"])
    findings += judge_node(host, ecmp)
    _print(findings, output)
    sys.exit(1 if any(each.severity is Severity.PROBLEM for each in findings) else 0)


def _whole(context: click.Context, agents: Agents, output: str) -> NoReturn:
    from l3net.cli.doctor_cluster import examine, show  # noqa: PLC0415 - only with --cluster

    for word in ("state_dir", "bin_dir", "conf_dir", "watch", "listen", "probe"):
        if context.get_parameter_source(word) is ParameterSource.COMMANDLINE:
            option = "--" + word.replace("_", "-")
            raise click.UsageError(f"{option} is of this node alone: without --cluster")
    if agents.here:
        agents.ways = replace(agents.ways, all_nodes=True)
    rows, answered = examine(agents.doors)
    show(rows, output)
    if not answered:
        sys.exit(NotRunningError.exit_code)
    sys.exit(1 if any(row.severity is Severity.PROBLEM for row in rows) else 0)


def _some_services(status: Mapping[str, Any]) -> list[str]:
    """One ClusterIP of each family."""
    found = {
        ":" in row["address"]: row["address"]
        for row in reversed(status["services"])
        if row["kind"] == "clusterIP"
    }
    return [found[family] for family in sorted(found)]


def _print(findings: Sequence[Finding], output: str) -> None:
    if output != "table":
        print_value([{**asdict(each), "severity": each.severity.value} for each in findings], output)
        return
    colour = sys.stdout.isatty()
    for each in findings:
        word = (
            click.style(f"{each.severity.value:8}", fg=COLOURS[each.severity])
            if colour
            else f"{each.severity.value:8}"
        )
        click.echo(f"{word} {each.check}: {each.subject}: {each.what}")
        if each.remedy:
            click.echo(f"         -> {each.remedy}")
    counts = {severity: sum(1 for each in findings if each.severity is severity) for severity in Severity}
    click.echo(f"\nproblems: {counts[Severity.PROBLEM]}, warnings: {counts[Severity.WARNING]}")
