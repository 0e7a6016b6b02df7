"""`l3net trace`."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from l3net.cli import options
from l3net.cli.output import output_option, print_table, print_value
from l3net.cli.waiting import ask
from l3net.errors import ConfigError, KernelError, L3netError
from l3net.explain.flows import Names
from l3net.explain.traced import Hop, Met, dropping, each_once, met, verdict
from l3net.naming import AGENT_SOCKET, LEASE_DB, RUN_DIR, STATE_DIR
from l3net.shell.probes.nfttrace import TABLE, NftTrace

if TYPE_CHECKING:
    from l3net.lab.up import Lab

_PATIENCE: Final = 30.0
_PROBER: Final = [sys.executable, "-m", "l3net.shell.probes.prober"]
#: Ports of the probes: above those that the kernel gives clients by itself (ip_local_port_range).
_PORTS: Final = (61_000, 65_000)


@dataclass
class Scene:
    """Where probes leave from and where rules are watched: words before a command, by host; which agent
    explains; who has which address."""

    run_dir: Path
    enter: list[str]
    watched: dict[str, list[str]]
    names: dict[str, str] = field(default_factory=dict)


@click.command(short_help="Send probes, and show where they stop and why.")
@click.argument("words", nargs=-1, required=True, metavar="[SOURCE] DESTINATION[:PORT[/PROTOCOL]]")
@click.option("--max-hops", type=click.IntRange(1, 64), default=16, show_default=True, help="Maximum TTL.")
@click.option(
    "--wait",
    type=options.Seconds(0.1, 30),
    default=1.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@click.option("--tries", type=click.IntRange(1, 10), default=2, show_default=True, help="Probes per hop.")
@click.option(
    "--rules", is_flag=True, help="Show every rule that the probes matched, not only those that dropped them."
)
@click.option("--lab", "lab_name", metavar="NAME", help="Use a lab that is up on this machine.")
@click.option(
    "--from", "host", metavar="HOST", help="With --lab: the host or pod to send from, instead of SOURCE."
)
@options.run_dir()
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path(STATE_DIR),
    show_default=True,
    help="Leases and what else outlives a restart.",
)
@output_option
def trace(
    words: tuple[str, ...],
    max_hops: int,
    wait: float,
    tries: int,
    rules: bool,
    lab_name: str | None,
    host: str | None,
    run_dir: Path,
    state_dir: Path,
    output: str,
) -> None:
    """Send probes from SOURCE to DESTINATION with a TTL of 1, 2, 3 ... Show who answers each, at which hop
    and by which nftables rule of this node they stop, and what `l3net explain` says.

    SOURCE is a pod of this node (probes leave from its network namespace), or by default this node.
    DESTINATION is as for `l3net explain`; the default is TCP port 80, and `/icmp` instead of a port sends
    echo requests. All probes have the same ports, so they take one path. TCP probes are SYNs: no
    connection is opened.

    With --lab, probes leave from any host of the lab (client, router, node or pod), and rules are
    recorded on every node. It needs root and scapy (`pip install 'l3net[trace]'`). The table that marks
    packets for tracing is removed when the command ends, however it ends.

    Exit code 0: the destination answers; 1: it does not.

    \b
    l3net trace default/shell default/web:80
    l3net trace 198.51.100.7/icmp
    l3net trace --lab lab --from client 10.96.0.10:80
    """
    lab = _lab(lab_name) if lab_name is not None else None
    if lab is None and host is not None:
        raise click.UsageError("--from needs --lab")
    if len(words) > 2:
        raise click.UsageError("say [SOURCE] DESTINATION[:PORT]")
    text = words[-1]
    icmp = text.endswith("/icmp")
    text = text.removesuffix("/icmp")
    scene, source = _lab_scene(lab, words, host) if lab is not None else _here(run_dir, words)
    answer, ends = _explained(scene, source, text)
    if lab is None:
        scene.enter = _enter(scene, ends["source"], state_dir, source)
    asked = {
        **ends,
        "sourcePort": _PORTS[0] + secrets.randbelow(_PORTS[1] - _PORTS[0]),
        "maxHops": max_hops,
        "tries": tries,
        "wait": wait,
    }
    if icmp:
        asked["protocol"] = "icmp"
    if sys.stderr.isatty():
        click.echo(f"sending from {ends['source']} to {ends['destination']} ...", err=True)
    hops, events, untraced = _probe(scene, asked)
    _tell(scene, answer, asked, hops, events, untraced, rules=rules, output=output)
    sys.exit(0 if _arrived(hops, events) else 1)


# --- where -----------------------------------------------------------------------------------------------


def _lab(name: str) -> Lab:
    from l3net.lab.up import open_lab  # noqa: PLC0415 - only with --lab

    return open_lab(name)


def _here(run_dir: Path, words: Sequence[str]) -> tuple[Scene, str]:
    answer = ask(run_dir / AGENT_SOCKET, "names", _PATIENCE)
    scene = Scene(run_dir, [], {str(answer.get("node", "")): []}, _named(answer))
    return scene, words[0] if len(words) == 2 else ""


def _named(answer: Mapping[str, Any]) -> dict[str, str]:
    names = Names.of(answer)
    peers = {address: f"peer {name}" for address, name in answer.get("peers", {}).items()}
    return {**peers, **{address: f"node {node}" for address, node in names.nodes.items()}, **names.pods}


def _lab_scene(lab: Lab, words: Sequence[str], host: str | None) -> tuple[Scene, str]:
    pods, topology = lab.topology.pods, lab.topology
    sender = host or (words[0] if len(words) == 2 else topology.nodes[0].name)
    sender = sender.rpartition("/")[2]
    if sender in pods:
        enter, node = lab.host(pods[sender].name).enter(sender), pods[sender].name
        source = f"default/{sender}"
    elif sender in topology.hosts:
        enter = lab.host(sender).enter()
        node = sender if topology.node(sender) is not None else topology.nodes[0].name
        source = " ".join(str(topology.address(sender, version)) for version in topology.versions)
    else:
        raise ConfigError(
            f"lab {lab.name} has no host or pod {sender}: {', '.join([*topology.hosts, *pods])}"
        )
    names = {str(address): each for each in topology.hosts for address in topology.addresses(each)}
    for pod in pods:
        with contextlib.suppress(L3netError):
            names |= {str(address): f"default/{pod}" for address in lab.pod(pod).addresses}
    watched = {
        each.name: ["nsenter", f"--net=/proc/{lab.host(each.name).pid}/ns/net", "--"]
        for each in topology.nodes
    }
    return Scene(lab.host(node).inside(RUN_DIR), enter, watched, names), source


def _explained(scene: Scene, source: str, destination: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the agent says of the way, and both ends as addresses. Of several addresses of the source, the one
    of the destination's family."""
    me = next(iter(scene.watched))
    sources = source.split() or [address for address, name in scene.names.items() if name == f"node {me}"]
    answer: dict[str, Any] = {"error": f"node {me} has no address"}
    for each in sources:
        question = f"explain {json.dumps({'subject': f'{each} {destination}'})}"
        answer = ask(scene.run_dir / AGENT_SOCKET, question, _PATIENCE)
        if "error" not in answer:
            break
    if "error" in answer:
        raise ConfigError(answer["error"])
    ends = answer["ends"]
    number, _, protocol = (ends["port"] or "80/tcp").partition("/")
    return answer, {
        "source": ends["source"],
        "destination": ends["destination"],
        "port": int(number) if number.isdecimal() else 0,
        "protocol": protocol
        if protocol in ("tcp", "udp")
        else "icmp"
        if not number.isdecimal()
        else protocol,
    }


def _enter(scene: Scene, source: str, state_dir: Path, text: str) -> list[str]:
    """The words by which a command runs where an address of this node is."""
    me = next(iter(scene.watched))
    if not text or scene.names.get(source) == f"node {me}":
        return []
    from l3net.shell.files.leases import SqliteLeases  # noqa: PLC0415

    address = ip_address(source)
    for lease in SqliteLeases(state_dir / LEASE_DB).leases():
        if any(each.address == address for each in lease.addresses) and lease.netns:
            return ["nsenter", f"--net={lease.netns}", "--"]
    raise ConfigError(
        f"{text} is neither a pod of this node nor the node itself: run the command on the source's node"
    )


# --- probes ----------------------------------------------------------------------------------------------


def _probe(scene: Scene, asked: dict[str, Any]) -> tuple[list[Hop], list[Met], list[str]]:
    """Hops, rules met, and the hosts on which rules could not be watched."""
    traces: dict[str, NftTrace] = {}
    untraced: list[str] = []
    try:
        for name, enter in scene.watched.items():
            traces[name] = NftTrace(enter)
            try:
                traces[name].start(asked["protocol"], asked["sourcePort"])
            except KernelError as err:
                untraced.append(f"{name}: {err}")
        hops = list(_hops(scene, asked))
    finally:
        events = [each for name, one in traces.items() for each in met(name, one.stop(), TABLE)]
    return hops, events, untraced


def _hops(scene: Scene, asked: dict[str, Any]) -> Iterator[Hop]:
    done = subprocess.run(
        [*scene.enter, *_PROBER],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=10 + asked["maxHops"] * asked["tries"] * (asked["wait"] + 1),
        check=False,
    )
    if done.returncode == 3:
        raise ConfigError(
            "`l3net trace` sends packets with scapy, which is not installed: pip install 'l3net[trace]'"
        )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ProbeError(
            f"no probe can be sent from {asked['source']}: {said[-1] if said else 'it needs root'}"
        )
    yield from (Hop.of(json.loads(line)) for line in done.stdout.splitlines())


class ProbeError(L3netError):
    """Nothing can be sent."""


# --- what is told ----------------------------------------------------------------------------------------


def _tell(
    scene: Scene,
    answer: dict[str, Any],
    asked: dict[str, Any],
    hops: list[Hop],
    events: list[Met],
    untraced: list[str],
    *,
    rules: bool,
    output: str,
) -> None:
    arrived = _arrived(hops, events)
    drops = [] if arrived else dropping(events)
    said = verdict(hops, drops, scene.names)
    advice = "" if arrived else answer["advice"]
    if output != "table":
        rows = [
            {
                "ttl": hop.ttl,
                "address": hop.address,
                "name": scene.names.get(hop.address, ""),
                "answer": hop.answer,
                "milliseconds": hop.milliseconds,
            }
            for hop in hops
        ]
        value = {"arrived": arrived, "answer": said, "advice": advice, "probe": asked, "hops": rows}
        value["drops"] = [each.row() for each in drops]
        value["rules"] = [{**each.row(), "packets": count} for each, count in each_once(events)]
        print_value({**value, "explain": answer, "untraced": untraced}, output)
        return
    port = f"{asked['port']}/{asked['protocol']}" if asked["protocol"] != "icmp" else "icmp"
    click.echo(f"{asked['source']} -> {asked['destination']} {port}: {said}")
    print_table(
        "",
        ["HOP", "ADDRESS", "NAME", "ANSWER", "TIME"],
        [_row(scene, hop, asked["destination"]) for hop in hops],
    )
    for each, count in each_once(events) if rules else [(each, 1) for each in drops]:
        click.echo(f"{each.host}: {each}" + (f" ({count} packets)" if count > 1 else ""))
    for step in answer["steps"]:
        if step["verdict"] == "bad" and not arrived:
            click.echo(f"{answer['node']}: {step['what']}: {step['detail']}")
    for line in untraced:
        click.echo(f"l3net: rules are not watched on {line}", err=True)
    if advice:
        click.echo(f"-> {advice}")


def _arrived(hops: list[Hop], events: list[Met]) -> bool:
    """Whether the destination has answered: not where a rule has rejected in its name."""
    return bool(hops) and hops[-1].arrived and not (hops[-1].answer == "closed" and dropping(events))


def _row(scene: Scene, hop: Hop, destination: str) -> tuple[object, ...]:
    took = f"{hop.milliseconds:g} ms" if hop.milliseconds is not None else ""
    name = scene.names.get(hop.address, "")
    if hop.address == destination and hop.answer == "exceeded":
        name = "behind the service's translation"  # by which what it says comes from the service, too
    return hop.ttl, hop.address or "*", name, hop.answer or "no answer", took
