"""`l3net node`: take this node out of BGP before it goes, and back."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Any, Final

import click

from l3net.cli import options
from l3net.cli.renamed import alias
from l3net.cli.waiting import SILENCE, ask, waiting
from l3net.errors import L3netError, NotPermittedError, NotRunningError
from l3net.naming import AGENT_SOCKET
from l3net.shell.files.drainfile import ask_to_leave
from l3net.shell.sockets import agentsocket

#: Seconds between two questions.
LOOK: Final = 0.2
#: Seconds that one answer may take, however little is left of --timeout.
LEAST: Final = 1.0


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
@click.option(
    "--for",
    "what",
    type=click.Choice(["ready", "pods"]),
    default="ready",
    show_default=True,
    help="ready: as `l3net status --ready`. pods: pods can be attached, and the BGP sessions are up or had"
    " 30 s for it.",
)
@click.option(
    "--pid",
    type=click.IntRange(1, 1 << 22),
    metavar="PID",
    help="Stop waiting when this process has ended, such as systemd's $MAINPID.",
)
@_timeout
@options.run_dir()
def wait_ready(what: str, pid: int | None, timeout: float, run_dir: Path) -> None:
    """Wait until the agent on this node is ready: what is declared is in force, and its sessions are up.

    --for pods is for what must not start before the agent, such as containers that podman starts again at
    boot: a router that is down delays them by 30 s at most.

    Exit code 1: the agent is not ready in time; 3: none answers until then, or --pid has ended.
    """
    deadline = time.monotonic() + timeout
    first = time.monotonic() + SILENCE
    told = ""
    process = _Process(pid)
    with waiting(timeout) as comes:
        while True:
            left = deadline - time.monotonic()
            failure, why = _not_yet(run_dir / AGENT_SOCKET, what, min(agentsocket.TIMEOUT, max(left, LEAST)))
            if not why:
                return
            comes()
            if process.ended:
                raise NotRunningError(f"process {pid} has ended: {failure or why}")
            if time.monotonic() >= deadline:
                raise failure or NotYetError(f"after {timeout:g} s the agent is not ready: {why}")
            if why != told and time.monotonic() >= first:
                click.echo(f"l3net: {why}; waiting, at most {timeout:g} s", err=True)
                told = why
            time.sleep(max(min(LOOK, deadline - time.monotonic()), 0))


def _not_yet(socket: Path, what: str, patience: float) -> tuple[NotRunningError | None, str]:
    """Why the agent is not as waited for, empty when it is; and whether that is because none answers. Raises
    L3netError where that does not change by itself."""
    try:
        found = agentsocket.ask(socket, "ready", patience)
        why = "" if found["ready"] else str(found["why"])
        return None, str(found.get("unreachable", why)) if what == "pods" else why
    except NotPermittedError:
        raise
    except NotRunningError as err:
        return err, str(err)
    except KeyError:
        raise _other_release(socket) from None


def _other_release(socket: Path) -> L3netError:
    return L3netError(f"{socket}: the agent's answer is not understood: is it of another release? Restart it")


class _Process:
    """Whether a process has ended; one that is not asked for has not."""

    def __init__(self, pid: int | None) -> None:
        self._poll = select.poll()
        self._gone = False
        if pid is not None:
            try:
                self._poll.register(os.pidfd_open(pid), select.POLLIN)
            except ProcessLookupError:
                self._gone = True

    @property
    def ended(self) -> bool:
        return self._gone or bool(self._poll.poll(0))


alias(node, "leave", "drain")
alias(node, "return", "undrain")


def _until(stage: str, timeout: float, run_dir: Path) -> None:
    """Wait for a stage; empty for any but those of leaving. Raises NotRunningError, L3netError."""
    deadline = time.monotonic() + timeout
    while True:
        found = ask(run_dir / AGENT_SOCKET, "drain")
        if "stage" not in found:
            raise _other_release(run_dir / AGENT_SOCKET)
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
