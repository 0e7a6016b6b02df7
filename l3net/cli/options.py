"""Options that several commands have, each written once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from l3net.naming import RUN_DIR


class Seconds(click.FloatRange):
    """A length of time: a range alone lets `nan` pass, which is neither more nor less than anything."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        found: float = super().convert(number, param, ctx)
        return found


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

log_level = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    envvar="L3NET_LOG_LEVEL",
    help="Log level, for standard error.",
)

events = click.option(
    "--events/--no-events",
    default=True,
    show_default=True,
    envvar="L3NET_EVENTS",
    help="Post Kubernetes Events on the objects concerned.",
)

log_format = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="L3NET_LOG_FORMAT",
    help="Log format: text, or one JSON object per line.",
)


#: Where runtimes look unless they are told otherwise (CNI, containerd, CRI-O).
BIN_DIR = Path("/opt/cni/bin")
CONF_DIR = Path("/etc/cni/net.d")

bin_dir = click.option(
    "--bin-dir",
    type=click.Path(path_type=Path),
    default=BIN_DIR,
    show_default=True,
    help="Where the runtime looks for CNI plugins.",
)

conf_dir = click.option(
    "--conf-dir",
    type=click.Path(path_type=Path),
    default=CONF_DIR,
    show_default=True,
    help="Where the runtime looks for network configurations.",
)


def datastore(purpose: str) -> Decorator:
    """`--datastore`, passed as `where`."""
    return click.option(
        "--datastore",
        "where",
        envvar="L3NET_DATASTORE",
        metavar="kubernetes|dir:PATH",
        show_default="kubernetes in a cluster or with --kubeconfig",
        help=purpose,
    )


def kubeconfig(purpose: str) -> Decorator:
    """`--kubeconfig`."""
    return click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="KUBECONFIG",
        metavar="FILE",
        help=purpose,
    )


def run_dir(purpose: str = "The agent's run directory.") -> Decorator:
    """`--run-dir`, with what it is for in this command."""
    return click.option(
        "--run-dir",
        type=click.Path(path_type=Path, readable=False),  # who may not read it is told so when it is asked
        default=RUN_DIR,
        show_default=True,
        envvar="L3NET_RUN_DIR",
        help=purpose,
    )
