"""Which lab a command means: one in namespaces, or machines over ssh; and `l3net lab break` and `mend`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from l3net.cli.values import labs
from l3net.errors import ConfigError
from l3net.lab.breaking import chosen_links, cut, mend
from l3net.lab.errors import UnknownNameError
from l3net.lab.machine import CheckedLab
from l3net.lab.sshlab import close_ssh_lab, open_ssh_lab
from l3net.lab.state import DEFAULT_NAME, load, read_source
from l3net.lab.topology import Link, Topology
from l3net.lab.up import open_lab

_Command = Callable[..., Any]


def need_root() -> None:
    if os.geteuid() != 0:
        raise ConfigError("a lab needs root (network namespaces, mounts): try again with sudo")


def which_lab(command: _Command) -> _Command:
    """The options that say which lab: `--name`, or `--ssh-config` with `--topology`."""
    for option in (
        click.option(
            "--topology",
            type=click.Path(path_type=Path, dir_okay=False),
            help="With --ssh-config: the topology of the machines.",
        ),
        click.option(
            "--ssh-config",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Use virtual machines: an ssh configuration, as printed by `vagrant ssh-config`.",
        ),
        click.option(
            "--name",
            default=DEFAULT_NAME,
            show_default=True,
            metavar="NAME",
            help="Name of the lab in namespaces.",
            shell_complete=labs,
        ),
    ):
        command = option(command)
    return command


@contextmanager
def opened(
    name: str,
    ssh_config: Path | None,
    topology: Path | None,
    patience: float = 1.0,
    first: Callable[[Topology], object] = lambda _: None,
) -> Iterator[CheckedLab]:
    """The lab that `which_lab` chose; machines get `patience` times the limits of time. Raises LabError, and
    what `first` says of the topology, before any machine is asked."""
    if ssh_config is None:
        if topology is not None:
            raise click.UsageError("--topology goes with --ssh-config: a lab in namespaces knows its own")
        if patience != 1:
            raise click.UsageError("--patience goes with --ssh-config: a lab in namespaces is not emulated")
        need_root()
        here = open_lab(name)
        first(here.topology)
        yield here
        return
    machines = read_source(topology).topology()
    first(machines)
    # In /tmp, for a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="l3net-ssh-", dir="/tmp") as control:
        lab = open_ssh_lab(machines, ssh_config, Path(control), patience)
        try:
            yield lab
        finally:
            close_ssh_lab(lab)


def _pair(text: str) -> tuple[str, str]:
    first, comma, second = text.partition(",")
    if not (comma and first and second):
        raise click.BadParameter(f"{text!r} is not two hosts: n1,tor1", param_hint="--link")
    return first, second


def known_topology(context: click.Context) -> Topology | None:
    """For completion: of the lab that the line names so far, else the default one; None where there is none,
    and nothing is said of why."""
    try:
        return load(context.params.get("name") or DEFAULT_NAME)[1]
    except Exception:  # whoever types is told nothing, least of all why
        return None


def _links(context: click.Context, _parameter: click.Parameter, begin: str) -> list[CompletionItem]:
    topology = known_topology(context)
    pairs = [[end.host for end in link.ends] for link in topology.links] if topology else []
    found = dict.fromkeys(",".join(pair) for both in pairs for pair in (both, both[::-1]))
    return [CompletionItem(pair) for pair in found if pair.startswith(begin)]


def _named(hosts: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(context: click.Context, _parameter: click.Parameter, begin: str) -> list[CompletionItem]:
        found = getattr(known_topology(context), hosts, ())
        return [CompletionItem(host.name) for host in found if host.name.startswith(begin)]

    return complete


@click.command(name="break")
@which_lab
@click.option(
    "--link",
    "links",
    multiple=True,
    metavar="HOST,HOST",
    help="Cut the links between two hosts.",
    shell_complete=_links,
)
@click.option(
    "--node", "nodes", multiple=True, metavar="NODE", help="Cut a node off.", shell_complete=_named("nodes")
)
@click.option(
    "--router",
    "routers",
    multiple=True,
    metavar="ROUTER",
    help="Cut a router off.",
    shell_complete=_named("routers"),
)
def break_(
    name: str,
    ssh_config: Path | None,
    topology: Path | None,
    links: tuple[str, ...],
    nodes: tuple[str, ...],
    routers: tuple[str, ...],
) -> None:
    """Cut links: both ends go down until `l3net lab repair`."""
    if not (links or nodes or routers):
        raise click.UsageError("say what to break: --link n1,tor1, --node n1 or --router tor1")
    pairs = [_pair(text) for text in links]

    def choose(of: Topology) -> tuple[Link, ...]:
        for node in nodes:
            if of.node(node) is None:
                raise UnknownNameError(f"{node!r} is not a node: {', '.join(each.name for each in of.nodes)}")
        for router in routers:
            if of.router(router) is None:
                known = ", ".join(each.name for each in of.routers)
                raise UnknownNameError(f"{router!r} is not a router: {known}")
        return chosen_links(of, pairs, (*nodes, *routers))

    with opened(name, ssh_config, topology, first=choose) as lab:
        chosen = choose(lab.topology)
        cut(lab, chosen)
    for link in chosen:
        click.echo(f"cut: {link.ends[0].host} - {link.ends[1].host}")


@click.command(name="repair")
@which_lab
def repair_(name: str, ssh_config: Path | None, topology: Path | None) -> None:
    """Restore all links, with their addresses and routes."""
    with opened(name, ssh_config, topology) as lab:
        mend(lab)
        click.echo(f"repaired: the links of {len(lab.topology.hosts)} hosts")
