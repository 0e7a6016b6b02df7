"""`l3net lab glass`: the looking glass of a lab's nodes, on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from l3net.cli.lab_machines import need_root
from l3net.errors import ConfigError
from l3net.glass.settings import LOOPBACK, settings
from l3net.lab.state import DEFAULT_NAME
from l3net.lab.up import open_lab
from l3net.naming import AGENT_SOCKET, RUN_DIR


@click.command()
@click.option(
    "--name",
    default=DEFAULT_NAME,
    show_default=True,
    metavar="NAME",
    help="Name of the lab; several can run side by side.",
)
@click.option(
    "--listen",
    multiple=True,
    default=LOOPBACK,
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Loopback address of this machine where to serve.",
)
def glass(name: str, listen: tuple[str, ...]) -> None:
    """Serve the looking glass of a lab that is up: open http://127.0.0.1:9179/ in a browser on this machine.

    It runs in the foreground until interrupted. It asks the agents of the lab's nodes, and starts nothing
    on them.
    """
    need_root()
    chosen = settings(listen, "", (), behind_proxy=True)
    if beyond := [str(each) for each in chosen.listen if not each.address.is_loopback]:
        raise ConfigError(f"--listen {beyond[0]}: a lab's page has no access control: serve it on loopback")
    there = open_lab(name)
    from l3net.cli.glass import serving  # noqa: PLC0415 - after --help

    agents = {
        node.name: Path(f"/proc/{there.host(node.name).pid}/root{RUN_DIR}/{AGENT_SOCKET}")
        for node in there.topology.nodes
    }
    raise SystemExit(serving(chosen, agents, "nobody"))
