"""`l3net router-config`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Final

import click

from l3net.cli import options
from l3net.cli.plan import declared_now
from l3net.cli.values import known
from l3net.config import datastore
from l3net.errors import L3netError

DIALECTS: Final = ("frr", "bird", "gobgp", "vyos", "nxos", "eos", "junos")


class NoRouterError(L3netError):
    """There is nothing to write."""

    exit_code = 1


@click.command(name="router-config", short_help="Write the configuration for the routers.")
@click.argument("dialect", type=click.Choice(DIALECTS))
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME",
    help="Only this BGPPeer. If repeated, all of them count as one router.",
    shell_complete=known("peers"),
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NODE",
    help="Only the sessions of this node. Repeatable.",
    shell_complete=known("nodes"),
)
@options.datastore("The declared state: the Kubernetes API, or a directory of manifests.")
@options.kubeconfig("How to reach the API server.")
def router_config(
    dialect: str, peers: tuple[str, ...], nodes: tuple[str, ...], where: str | None, kubeconfig: Path | None
) -> None:
    """Write the configuration for the routers that BGPPeers name: the nodes as neighbors, filters for their
    prefixes, multipath, graceful restart, BFD and limits. Merge it into the router's existing
    configuration.

    Passwords are not read: placeholders name the Secret of each. Sessions over IPv4 and IPv6 with the
    same AS and the same nodes count as one router. The configurations for VyOS, NX-OS, EOS and Junos
    follow the vendors' documents and were not run on a device. l3net's tests load those for FRR, BIRD and
    GoBGP and peer with them.

    Omitted parts, such as routers that nodes find on an interface, are reported on standard error. Exit
    code 1: there is no router to write for.

    \b
    l3net router-config frr --peer tor-a
    l3net router-config junos --node n1 --datastore dir:net/
    """
    from l3net.routerconfig.facts import routers  # noqa: PLC0415 - after --help

    chosen = datastore(where, kubeconfig, in_cluster=bool(os.environ.get("KUBERNETES_SERVICE_HOST")))
    state = declared_now(chosen.directory, chosen.kubeconfig)
    for what, names, there in (("BGPPeer", peers, state.peers), ("Node", nodes, state.nodes)):
        if unknown := sorted(set(names) - there.keys()):
            raise click.UsageError(f"no {what} named {', '.join(unknown)} is declared")
    found = routers(state, peers, nodes)
    for note in found.notes:
        click.echo(f"left out: {note}", err=True)
    if not state.nodes:
        raise NoRouterError(
            "no Node is declared, so there is nothing to peer with: a directory needs the "
            "cluster's Nodes too "
            "(kubectl get nodes -o yaml)"
        )
    if not found.routers:
        raise NoRouterError("no BGPPeer names a router by its address, with a session of any node")
    write = importlib.import_module(f"l3net.routerconfig.{dialect}").write
    click.echo("\n".join(write(each) for each in found.routers), nl=False)
