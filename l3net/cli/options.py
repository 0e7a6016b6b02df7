"""Options that several commands have, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from l3net.naming import RUN_DIR

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

log_level = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    envvar="L3NET_LOG_LEVEL",
    help="How much to say on standard error.",
)


def run_dir(purpose: str = "The agent's run directory.") -> Decorator:
    """`--run-dir`, with what it is for in this command."""
    return click.option(
        "--run-dir",
        type=click.Path(path_type=Path),
        default=RUN_DIR,
        show_default=True,
        envvar="L3NET_RUN_DIR",
        help=purpose,
    )
