"""`l3net speaker`."""

from __future__ import annotations

from pathlib import Path

import click

from l3net.cli.main import configure_logging
from l3net.naming import RUN_DIR


@click.command(short_help="Run the BGP speaker (ExaBGP) of this node.")
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=RUN_DIR,
    show_default=True,
    envvar="L3NET_RUN_DIR",
    help="Directory shared with the agent: ExaBGP's configuration and the sockets.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much to say on standard error.",
)
def speaker(run_dir: Path, log_level: str) -> None:
    """Run ExaBGP, and start it again whenever it ends.

    Runs in the foreground until SIGTERM. It is a process apart from the agent on purpose: the agent can be
    stopped, upgraded or killed while every BGP session stays up. It waits for the agent to write ExaBGP's
    configuration. Stopped by SIGTERM, it closes the sessions without a NOTIFICATION, so that peers with
    graceful restart keep the routes.
    """
    from l3net.shell.supervisor import Supervisor  # noqa: PLC0415 - after --help

    configure_logging(log_level)
    raise SystemExit(Supervisor(run_dir).run())
