"""`l3net plan`."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import click

from l3net.agent.declared import take
from l3net.cli import options
from l3net.cli.output import output_option, print_table, print_value
from l3net.cli.validate import files_of, read_manifests
from l3net.cli.values import known
from l3net.config import datastore
from l3net.errors import ConfigError, L3netError
from l3net.explain.change import NodeChange, changes, policy_changes
from l3net.model import ClusterState, Kind, Secret
from l3net.ports import Changed, Datastore, InSync, Rejected

#: Seconds in which an API server lists all there is.
PATIENCE: Final = 60.0
#: Prefixes that are named in a cell of the table.
_NAMED: Final = 8


class PlanError(L3netError):
    """Nothing can be said of what would be: other than usage, which exits with 2, as what is found does."""

    exit_code = 1


@click.command(short_help="Show what manifests would change, on every node, before they are applied.")
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE|DIR|-",
    help="Manifests: a file, a directory, or - for standard input. Repeatable.",
)
@options.datastore(
    "The declared state: the Kubernetes API, or a directory of manifests (for example of the main branch)."
)
@options.kubeconfig("How to reach the API server.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NODE",
    help="Only this node. Repeatable.",
    shell_complete=known("nodes"),
)
@click.option(
    "--whole",
    is_flag=True,
    help="The manifests are complete: objects missing in them would be deleted.",
)
@output_option
def plan(
    paths: tuple[Path, ...],
    where: str | None,
    kubeconfig: Path | None,
    nodes: tuple[str, ...],
    whole: bool,
    output: str,
) -> None:
    """Show what applying manifests would announce, withdraw, reset, serve and refuse, for each node and
    peer. It changes nothing and asks no node.

    The manifests are added to the declared state, as `kubectl apply` does. Sessions are assumed to use
    the addresses of each Node; `l3net bgp plan` on a node uses its real links and received routes.
    Addresses of load balancers are the current ones.

    Exit code 0: nothing would be reset or withdrawn; 2: something would be; 1: the manifests are wrong or
    the declared state cannot be read. Use it in pipelines.

    \b
    l3net plan -f peers.yaml
    l3net plan -f new/ --datastore dir:old/ --whole
    git show main:net.yaml > before/net.yaml; l3net plan -f net.yaml --datastore dir:before
    """
    try:
        chosen = datastore(where, kubeconfig, in_cluster=bool(os.environ.get("KUBERNETES_SERVICE_HOST")))
        claims, refused = read_manifests(files_of(paths))
        before = declared_now(chosen.directory, chosen.kubeconfig)
    except L3netError as err:
        raise PlanError(str(err)) from err
    after = ClusterState() if whole else _copied(before)
    for (kind, name), claim in claims.items():
        take(after, Changed(kind, name, claim.fact))
    unknown = sorted(set(nodes) - {*before.nodes, *after.nodes})
    if unknown:
        raise click.UsageError(f"no Node named {', '.join(unknown)} is declared")
    for state in (before, after):
        _put_secrets(state)
    found = [each for each in changes(before, after) if not nodes or each.node in nodes]
    policies = policy_changes(before, after)
    problems = [str(each) for each in refused]
    if output == "table":
        _show(found, policies, problems)
    else:
        rows = [each.row() for each in found]
        print_value({"nodes": rows, "policies": policies, "problems": problems}, output)
    if any(each.cuts for each in found):
        sys.exit(2)
    sys.exit(1 if problems else 0)


def declared_now(directory: Path | None, kubeconfig: Path | None) -> ClusterState:
    """All that is declared. Raises L3netError."""
    from l3net.shell.manifests.store import DirectoryDatastore  # noqa: PLC0415 - after --help

    if directory is not None:
        return asyncio.run(_listed(DirectoryDatastore(directory)))
    from l3net.shell.kubernetes.api import KubeApi  # noqa: PLC0415
    from l3net.shell.kubernetes.store import KubernetesDatastore  # noqa: PLC0415 - needs what KubeApi looks for

    kinds = (kind for kind in Kind if kind not in (Kind.POD, Kind.SECRET))
    return asyncio.run(
        _listed(KubernetesDatastore(KubeApi(kubeconfig), "", nodes="all", secrets=False, kinds=kinds))
    )


async def _listed(store: Datastore) -> ClusterState:
    state = ClusterState()
    try:
        async with asyncio.timeout(PATIENCE):
            async for event in store.events():
                match event:
                    case Changed():
                        take(state, event)
                    case Rejected():
                        click.echo(f"declared now: {event}", err=True)
                    case InSync():
                        return state
    except TimeoutError:
        raise ConfigError(f"the API server has not sent everything within {PATIENCE:g} s") from None
    return state


def _copied(state: ClusterState) -> ClusterState:
    found = ClusterState()
    for each in fields(state):
        value = getattr(state, each.name)
        setattr(found, each.name, dict(value) if isinstance(value, dict) else value)
    return found


def _put_secrets(state: ClusterState) -> None:
    """Passwords are not read from an API server: a session that has one is planned as if it were known."""
    wanted = [peer.password for peer in state.peers.values() if peer.password is not None]
    for each in wanted:
        known = state.secrets.get(each.secret)
        if known is None or each.key not in known.values:
            state.secrets[each.secret] = Secret(each.secret, {each.key: b"not-read"})


def _show(found: list[NodeChange], policies: list[dict[str, str]], problems: list[str]) -> None:
    sessions = [
        (each.node, row["name"], row["peer"], row["action"], _prefixes(row), ", ".join(row["fields"]))
        for each in found
        for row in each.row()["sessions"]
    ]
    if sessions:
        columns = ["NODE", "PEER", "ADDRESS", "ACTION", "ROUTES", "FIELDS"]
        print_table("Sessions and announcements", columns, sessions)
    _show_services(found)
    blocks = [
        (
            each.node,
            " ".join(
                [*(f"+{block}" for block in each.blocks[0]), *(f"-{block}" for block in each.blocks[1])]
            ),
        )
        for each in found
        if any(each.blocks)
    ]
    if blocks:
        print_table("\nBlocks", ["NODE", "BLOCKS"], blocks)
    if policies:
        print_table("\nPolicies", ["KIND", "NAME", "ACTION"], [tuple(row.values()) for row in policies])
    for problem in [*(f"node {each.node}: {text}" for each in found for text in each.refusals), *problems]:
        click.echo(f"refused: {problem}", err=True)
    if not (found or policies):
        click.echo("nothing changes")
    elif any(each.cuts for each in found):
        click.echo("\nsomething would be reset or withdrawn")
    else:
        click.echo("\nnothing would be reset or withdrawn")


def _show_services(found: list[NodeChange]) -> None:
    """One row for all nodes that would do alike."""
    verdicts: dict[tuple[Any, ...], list[str]] = {}
    servers: dict[tuple[Any, ...], list[str]] = {}
    for each in found:
        row = each.row()
        for one in row["verdicts"]:
            key = one["service"], one["address"], one["before"] or "-", one["after"] or "-"
            verdicts.setdefault(key, []).append(each.node)
        for one in row["servers"]:
            name = f"{one['address']}:{one['port']}/{one['protocol']}"
            key = name, one["action"], one["endpointsBefore"], one["endpointsAfter"]
            servers.setdefault(key, []).append(each.node)
    if verdicts:
        columns = ["SERVICE", "ADDRESS", "BEFORE", "AFTER", "NODES"]
        print_table(
            "\nService addresses", columns, [(*key, _nodes(nodes)) for key, nodes in verdicts.items()]
        )
    if servers:
        columns = ["ADDRESS", "ACTION", "ENDPOINTS BEFORE", "AFTER", "NODES"]
        print_table("\nService table", columns, [(*key, _nodes(nodes)) for key, nodes in servers.items()])


def _nodes(several: list[str]) -> str:
    names = list(dict.fromkeys(several))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _prefixes(row: dict[str, Any]) -> str:
    told = [*(f"-{prefix}" for prefix in row["withdraw"]), *(f"+{prefix}" for prefix in row["announce"])]
    return " ".join(told[:_NAMED]) + (f" and {len(told) - _NAMED} more" if len(told) > _NAMED else "")
