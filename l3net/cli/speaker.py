"""`l3net speaker`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from l3net.cli import options
from l3net.cli.main import configure_logging

#: Seconds for which a speaker in a cluster goes on after SIGTERM before it looks whether the node shuts down:
#: longer than the agent, which hears of that from the API server.
LINGER = 2.0


@click.command(short_help="Run the BGP speaker (ExaBGP) of this node.")
@options.run_dir("Directory shared with the agent: ExaBGP's configuration and the sockets.")
@click.option(
    "--probe",
    type=click.Choice(["ready"]),
    help="Check whether the running speaker serves sessions, and exit with 1 if not.",
)
@options.log_level
@options.log_format
def speaker(run_dir: Path, probe: str | None, log_level: str, log_format: str) -> None:
    """Run the BGP speaker: it runs ExaBGP and restarts it when it ends.

    It runs in the foreground until SIGTERM, separate from the agent: you can stop, upgrade or kill the
    agent while every BGP session stays up. It waits for the agent to write ExaBGP's configuration. On
    SIGTERM it closes the sessions without a NOTIFICATION, so peers with graceful restart keep the routes.
    On a draining node (`l3net node drain`, or its shutdown in a cluster) it first waits for the agent to
    withdraw them.
    """
    if probe is not None:
        from l3net.shell.speaker.config import unserved  # noqa: PLC0415

        why = unserved(run_dir)
        click.echo(f"not ready: {why}" if why else "ready")
        raise SystemExit(1 if why else 0)
    from l3net.shell.speaker.supervisor import Supervisor  # noqa: PLC0415 - after --help

    configure_logging(log_level, log_format)
    in_cluster = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    raise SystemExit(Supervisor(run_dir, LINGER if in_cluster else 0.0).run())
