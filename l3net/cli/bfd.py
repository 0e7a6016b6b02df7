"""`l3net bfd`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from l3net.cli import options


@click.command(short_help="Run BFD for the BGP peers of this node.")
@options.run_dir("Directory shared with the agent.")
@options.log_format
def bfd(run_dir: Path, log_format: str) -> None:
    """Run BFD: monitor the paths to peers whose BGPPeer has `bfd`, and report failures to the agent.

    It runs in the foreground until SIGTERM, at real-time priority and apart from agent and speaker, so
    neither can make a session flap. It listens on UDP 3784 (one hop) and 4784 (several hops), for both
    families. On SIGTERM it tells the peers, so they see no failure; if it is killed, they do.
    """
    # Afresh, without the command line's libraries: what is locked in memory stays small.
    argv = [sys.executable, "-P", "-m", "l3net.bfdd.daemon", str(run_dir)]
    os.environ["L3NET_LOG_FORMAT"] = log_format
    sys.stderr.flush()
    os.execv(sys.executable, argv)  # noqa: S606 - fixed argv, this interpreter
