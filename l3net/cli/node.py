"""`l3net node`: take this node out of BGP before it goes, and back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from l3net.cli import options
from l3net.cli.renamed import alias
from l3net.cli.waiting import ask, waiting
from l3net.errors import L3netError, NotRunningError
from l3net.naming import AGENT_SOCKET
from l3net.shell.files.drainfile import ask_to_leave
from l3net.shell.sockets import agentsocket

LOOK = 0.2


class NotYetError(L3netError):
    """The time given was not enough."""


@click.group()
def node() -> None:
    """Drain this node from BGP before it goes down, and undo it; wait for its agent."""


_wait = click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it is done.")
_timeout = click.option(
    "--timeout",
    type=options.Seconds(0),
    default=90.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait.",
)


@node.command("drain", short_help="Tag all routes, withdraw them, close the sessions.")
@_wait
@_timeout
@options.run_dir()
def drain(wait: bool, timeout: float, run_dir: Path) -> None:
    """Drain this node: tag all routes GRACEFUL_SHUTDOWN (RFC 8326), withdraw them after spec.drain.wait,
    close the sessions.

    The drain lasts until `l3net node undrain` or the next boot, even if the agent is restarted. Pods keep
    running and reach each other on the node. Without an agent (exit code 3) the next agent drains.
    """
    ask_to_leave(run_dir, leave=True)
    if wait:
        _until("left", timeout, run_dir)


@node.command("undrain", short_help="Open the sessions and announce everything again.")
@_wait
@_timeout
@options.run_dir()
def undrain(wait: bool, timeout: float, run_dir: Path) -> None:
    """Undo `l3net node drain`. Waits until the agent is ready."""
    ask_to_leave(run_dir, leave=False)
    if wait:
        _until("", timeout, run_dir)


@node.command("wait", short_help="Wait until the agent is ready.")
@_timeout
@options.run_dir()
def wait_ready(timeout: float, run_dir: Path) -> None:
    """Wait until the agent on this node is ready: what is declared is in force, and its sessions are up.

    For what must not start before it, such as containers that podman starts again at boot. Exit code 1: the
    agent is not ready in time; 3: none answers until then.
    """
    deadline = time.monotonic() + timeout
    with waiting(timeout, "the agent is not ready, or does"):
        while True:
            why = ""
            try:
                found = agentsocket.ask(run_dir / AGENT_SOCKET, "ready")
                if found["ready"]:
                    return
                why = found["why"]
            except NotRunningError:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise NotYetError(f"after {timeout:g} s the agent is not ready: {why}")
            time.sleep(LOOK)


alias(node, "leave", "drain")
alias(node, "return", "undrain")


def _until(stage: str, timeout: float, run_dir: Path) -> None:
    """Wait for a stage; empty for any but those of leaving. Raises NotRunningError, NotYetError."""
    deadline = time.monotonic() + timeout
    while True:
        found = ask(run_dir / AGENT_SOCKET, "drain")
        if found["stage"] == stage or (not stage and _returned(found)):
            click.echo(f"drain: {found['stage']}")
            return
        if time.monotonic() > deadline:
            raise NotYetError(
                f"after {timeout:g} s the drain is at: {found['stage']}; it goes on, see `l3net status`"
            )
        time.sleep(LOOK)


def _returned(found: dict[str, Any]) -> bool:
    return found.get("cause") != "leave" and bool(found["ready"])
