"""Options that the commands of `l3net migrate` share: places of the host, and ledgers of its pods."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from l3net.cli import options
from l3net.cli.options import BIN_DIR, CONF_DIR
from l3net.naming import RUN_DIR, STATE_DIR

#: Where libcni keeps what it knows of attachments.
CNI_CACHE = Path("/var/lib/cni/results")
HOST_LOCAL = Path("/var/lib/cni/networks")

Function = Callable[..., Any]

#: Where a command's context keeps --root.
_ROOT = "l3net.root"


def _kept(context: click.Context, _parameter: click.Parameter, value: Path) -> None:
    context.meta[_ROOT] = value


def root() -> Path:
    found: Path = click.get_current_context().meta[_ROOT]
    return found


def _of_host(context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    return below(context.meta[_ROOT], value)


def below(root: Path, path: Path) -> Path:
    """A path of the host, as this process sees it."""
    return root / path.relative_to("/") if path.is_absolute() else path


def places(function: Function) -> Function:
    def directory(name: str, default: Path, told: str) -> Function:
        kind = click.Path(path_type=Path)
        return click.option(name, type=kind, default=default, show_default=True, callback=_of_host, help=told)

    for each in (
        click.option(
            "--root",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            default=Path("/"),
            callback=_kept,
            is_eager=True,
            expose_value=False,
            help="Where the host's file system is, in a container that sees it: /host in `kubectl debug`. "
            "The other paths are the host's [default: /].",
        ),
        directory("--bin-dir", BIN_DIR, "Where the runtime looks for CNI plugins."),
        directory("--conf-dir", CONF_DIR, "Where it looks for network configurations."),
        directory("--state-dir", Path(STATE_DIR), "Leases, and the journal of the move."),
        directory("--run-dir", Path(RUN_DIR), "Where the agent answers."),
    ):
        function = each(function)
    return function


def sources(function: Function) -> Function:
    """What says which pods and blocks there are."""
    for each in (
        click.option(
            "--calico",
            "calico",
            multiple=True,
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            metavar="FILE",
            help="Calico's IPAMBlocks: `kubectl get ipamblocks.crd.projectcalico.org -o yaml`.",
        ),
        click.option(
            "--host-local",
            "host_local",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="DIR",
            help=f"Reservations of host-local [default: each directory in {HOST_LOCAL}].",
        ),
        click.option(
            "--cni-cache",
            type=click.Path(path_type=Path),
            default=CNI_CACHE,
            show_default=True,
            callback=_of_host,
            help="What the runtime's libcni knows of attachments.",
        ),
        click.option(
            "--block",
            "blocks",
            multiple=True,
            metavar="PREFIX",
            help="A block of this node, such as 10.244.1.0/24, for each family [default: as declared].",
        ),
        options.kubeconfig("How to reach the API server, which knows the node's blocks."),
        options.datastore("Where the node's blocks are declared."),
        click.option(
            "--node-name",
            default=socket.gethostname,
            envvar="NODE_NAME",
            show_default="host name",
            help="The Node object that is this host.",
        ),
    ):
        function = each(function)
    return function
