"""`l3net lab`: a cluster and its fabric in network namespaces."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import click

from l3net.lab import state
from l3net.lab.drawing import FORMATS
from l3net.lab.errors import LabError
from l3net.lab.host import Host
from l3net.lab.state import DEFAULT_NAME, read_source
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab, Progress, bring_up, open_lab, take_down

_name = click.option(
    "--name",
    default=DEFAULT_NAME,
    show_default=True,
    metavar="NAME",
    help="Which lab; several live side by side.",
)
_router_kind = click.option(
    "--router-kind",
    type=click.Choice([kind.value for kind in RouterKind]),
    help="Run this on every router, whatever the topology says.",
)
_topology = click.argument("topology", required=False, type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def lab() -> None:
    """Nodes, routers and clients in network namespaces, made from one topology file.

    Needs root. Nothing outside the lab's namespaces is touched, apart from /run/l3net-lab.
    """


def _progress() -> Progress:
    start = time.monotonic()

    def say(what: str) -> None:
        click.secho(f"{time.monotonic() - start:5.1f} s  ", fg="cyan", nl=False, err=True)
        click.echo(what, err=True)

    return say


def _need_root() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab needs root (network namespaces, mounts): try again with sudo")


@lab.command()
@_topology
@_name
@_router_kind
def up(topology: Path | None, name: str, router_kind: str | None) -> None:
    """Bring a lab up: TOPOLOGY, or two racks, a spine and three nodes."""
    _need_root()
    source = read_source(topology, RouterKind(router_kind) if router_kind else None)
    say = _progress()
    _up_or_down(name, lambda: bring_up(name, source, say))
    say(f"up; see `l3net lab status{_option(name)}`, `l3net lab check{_option(name)}`")


def _up_or_down(name: str, make: Callable[[], Lab]) -> Lab:
    """Bring up; on failure say where the logs are, since the lab stays for inspection."""
    try:
        return make()
    except (LabError, KeyboardInterrupt):
        if state.lab_directory(name).exists():
            click.echo(
                f"what is up stays up: look at {state.lab_directory(name)}/HOST/*.log, "
                f"then `l3net lab down{_option(name)}`",
                err=True,
            )
        raise


@lab.command()
@_name
def down(name: str) -> None:
    """Remove a lab, whatever state it is in."""
    _need_root()
    hosts = take_down(name)
    click.echo(f"lab {name}: {hosts} hosts removed" if hosts else f"lab {name}: nothing left to remove")


@lab.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_name
@click.argument("host")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def exec_(name: str, host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND (a shell, unless given) inside HOST; a pod is POD or NODE/POD."""
    _need_root()
    there = open_lab(name)
    given = command[1:] if command[:1] == ("--",) else command
    argv = [*enter(there, host), *(given or ("sh",))]
    os.chdir("/")
    # We give way to the command: terminal, signals and exit code are its own.
    os.execvpe(argv[0], argv, {**os.environ, **Host.environment()})  # noqa: S606


def enter(there: Lab, target: str) -> list[str]:
    """The start of a command line that runs in a host or pod of a lab."""
    node, slash, pod = target.partition("/")
    pods = there.topology.pods
    if slash:
        if pod not in pods or pods[pod].name != node:
            raise LabError(f"there is no pod {pod!r} on {node!r}: pods are {', '.join(pods) or 'none'}")
        return there.host(node).enter(pod)
    if target in pods and target not in there.hosts:
        return there.host(pods[target].name).enter(target)
    return there.host(target).enter()


@lab.command()
@_topology
@_name
@_router_kind
@click.option("--format", "style", type=click.Choice(list(FORMATS)), default="terminal", show_default=True)
def graph(topology: Path | None, name: str, router_kind: str | None, style: str) -> None:
    """Draw TOPOLOGY, else the lab that is up, else the default."""
    kind = RouterKind(router_kind) if router_kind else None
    if topology is None and kind is None and (state.lab_directory(name) / "lab.json").exists():
        drawn = state.load(name)[1]
    else:
        drawn = read_source(topology, kind).topology()
    click.echo(FORMATS[style](drawn), nl=False)


def _option(name: str) -> str:
    return "" if name == DEFAULT_NAME else f" --name {name}"
