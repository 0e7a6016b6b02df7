"""`l3net glass`: the composition root of the looking glass."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from l3net.cli import options
from l3net.cli.main import configure_logging
from l3net.errors import ConfigError, refusal
from l3net.glass.settings import LOOPBACK, Settings, node_urls, settings, token_of
from l3net.naming import AGENT_SOCKET

if TYPE_CHECKING:
    from l3net.glass.cluster import Place, Places


@click.command(short_help="Serve the looking glass, a web page.")
@click.option(
    "--listen",
    multiple=True,
    default=LOOPBACK,
    show_default=True,
    envvar="L3NET_GLASS_LISTEN",
    metavar="ADDRESS:PORT",
    help="Where to serve. Repeatable. Beyond loopback only with --token-file or --behind-proxy.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="L3NET_GLASS_TOKEN_FILE",
    metavar="FILE",
    help="Answer only requests with the token in this file, as `Authorization: Bearer TOKEN`.",
)
@click.option(
    "--behind-proxy",
    is_flag=True,
    envvar="L3NET_GLASS_BEHIND_PROXY",
    help="Require no token beyond loopback: a proxy in front of the page authenticates.",
)
@click.option(
    "--allow-host",
    multiple=True,
    envvar="L3NET_GLASS_ALLOW_HOST",
    metavar="NAME",
    help="A host name that browsers may use for the page, such as an Ingress's. Addresses and "
    "localhost are always allowed.",
)
@click.option(
    "--user",
    default="nobody",
    show_default=True,
    envvar="L3NET_GLASS_USER",
    metavar="NAME",
    help="User of the web server. Only the process that connects to the agent's socket stays root.",
)
@click.option(
    "--cluster",
    is_flag=True,
    help="Serve the page of the whole cluster, by asking its nodes' looking glasses.",
)
@click.option(
    "--node-url",
    multiple=True,
    metavar="NAME=URL",
    help="With --cluster: address of a node's looking glass. Repeatable. Default: the pods of "
    "l3net-glass in the cluster.",
)
@click.option(
    "--node-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="L3NET_GLASS_NODE_TOKEN_FILE",
    metavar="FILE",
    help="With --cluster: the token for the nodes' looking glasses.",
)
@click.option(
    "--through-api-server",
    is_flag=True,
    envvar="L3NET_GLASS_THROUGH_API_SERVER",
    help="With --cluster: reach the nodes through the API server's proxy (needs `get` of pods/proxy).",
)
@options.kubeconfig("With --cluster: how to reach the API server. Default in a pod: its service account.")
@click.option(
    "--namespace",
    envvar="POD_NAMESPACE",
    default="kube-system",
    show_default=True,
    help="With --cluster: namespace of the pods of l3net-glass.",
)
@options.run_dir()
@options.log_level
@options.log_format
def glass(
    listen: tuple[str, ...],
    token_file: Path | None,
    behind_proxy: bool,
    allow_host: tuple[str, ...],
    user: str,
    cluster: bool,
    node_url: tuple[str, ...],
    node_token_file: Path | None,
    through_api_server: bool,
    kubeconfig: Path | None,
    namespace: str,
    run_dir: Path,
    log_level: str,
    log_format: str,
) -> None:
    """Serve a read-only web page and JSON API of this node, or with --cluster of all nodes: fabric, routes,
    search, history, services, policies, drops.

    It runs in the foreground until SIGTERM, in processes of its own. The agent serves no web page, and is
    not affected when this process ends.

    Examples: l3net glass

    l3net glass --cluster --node-url n1=http://192.0.2.1:9179 --node-url n2=http://192.0.2.2:9179
    """
    configure_logging(log_level, log_format)
    if not cluster and (node_url or node_token_file or through_api_server):
        raise click.UsageError("--node-url, --node-token-file and --through-api-server go with --cluster")
    chosen = settings(listen, _token(token_file), allow_host, behind_proxy=behind_proxy)
    if cluster:
        _installed()
        places = _places(node_urls(node_url), kubeconfig, namespace, through=through_api_server)
        _serve_cluster(chosen, places, _token(node_token_file), user)
        return
    raise SystemExit(serving(chosen, {"": run_dir / AGENT_SOCKET}, user))


def _installed() -> None:
    """Raises ConfigError where the extra is missing."""
    try:
        import aiohttp  # noqa: F401, PLC0415 - after --help
    except ImportError as err:
        raise ConfigError(f"{err}: install l3net[glass] for the looking glass") from None


def serving(chosen: Settings, agents: Mapping[str, Path], user: str) -> int:
    """Serve what agents on this machine say, by name of the node, until told to stop; the exit code."""
    _installed()
    from l3net.glass.rights import known_user  # noqa: PLC0415
    from l3net.glass.running import listening, serve_agents  # noqa: PLC0415
    from l3net.glass.web import page_files  # noqa: PLC0415

    who = known_user(user)
    sockets, files = listening(chosen.listen), page_files()
    _tell(chosen)
    return serve_agents(chosen, sockets, files, agents, who)


def _token(path: Path | None) -> str:
    """Raises ConfigError, which never tells it."""
    if path is None:
        return ""
    try:
        return token_of(path.read_text(encoding="utf-8"), str(path))
    except OSError as err:
        raise ConfigError(f"{path}: {refusal(err)}") from None
    except ValueError:
        raise ConfigError(f"{path}: is no text") from None


def _places(urls: Mapping[str, str], kubeconfig: Path | None, namespace: str, *, through: bool) -> Places:
    """Where the nodes are: as given, or as the API server knows. Raises ConfigError."""
    from l3net.glass.cluster import Place  # noqa: PLC0415

    if urls:
        named = {name: Place(url) for name, url in urls.items()}

        async def given() -> Mapping[str, Place]:
            return named

        return given
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise ConfigError(
            "no nodes to ask: name each with --node-url NAME=URL or, where this is not a pod, the cluster "
            "with --kubeconfig FILE"
        )
    from l3net.shell.kubernetes.api import KubeApi  # noqa: PLC0415
    from l3net.shell.kubernetes.glasspods import GlassPods  # noqa: PLC0415

    pods = GlassPods(KubeApi(kubeconfig), namespace)

    async def found() -> Mapping[str, Place]:
        return {
            each.node: Place(each.url, ask=each.ask if through else None)
            for each in await asyncio.to_thread(pods.list)
        }

    return found


def _serve_cluster(chosen: Settings, places: Places, token: str, user: str) -> None:
    from l3net.glass.rights import give_up, known_user  # noqa: PLC0415
    from l3net.glass.running import cluster_of, listening, serve  # noqa: PLC0415
    from l3net.glass.web import page_files  # noqa: PLC0415

    who = known_user(user)
    sockets, files = listening(chosen.listen), page_files()
    _tell(chosen)
    give_up(*who)
    asyncio.run(serve(chosen, sockets, files, cluster_of(places, token)))


def _tell(chosen: Settings) -> None:
    for each in chosen.listen:
        click.echo(f"looking glass: http://{each}/", err=True)
