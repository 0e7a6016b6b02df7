"""The ways to other nodes' agents: a lab, looking glasses by their addresses, or the API server's proxy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from l3net.cli import options
from l3net.cli.doors import Door, GlassDoor, NoDoor, SocketDoor, SshDoor
from l3net.cli.values import labs, node_names
from l3net.errors import ConfigError, refusal
from l3net.naming import AGENT_SOCKET, RUN_DIR

if TYPE_CHECKING:
    from l3net.shell.kubernetes.glasspods import GlassPod

_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Ways:
    """What was chosen. `nodes` may be empty: all, or this one."""

    nodes: tuple[str, ...] = ()
    all_nodes: bool = False
    lab: str | None = None
    ssh_config: Path | None = None
    topology: Path | None = None
    node_urls: tuple[str, ...] = ()
    token_file: Path | None = None
    kubeconfig: Path | None = None
    namespace: str = "kube-system"

    @classmethod
    def taken(cls, given: dict[str, Any]) -> Ways:
        """Out of a command's parameters, which are left without them. Raises UsageError."""
        words = {word: given.pop(f"way_{word}") for word in (each.name for each in fields(cls))}
        words["nodes"] = tuple(dict.fromkeys(words["nodes"]))
        ways = cls(**words)
        named = {
            "--lab": ways.lab is not None,
            "--ssh-config": ways.ssh_config is not None,
            "--node-url": bool(ways.node_urls),
        }
        several = [option for option, is_given in named.items() if is_given]
        if len(several) > 1:
            raise click.UsageError(f"{' and '.join(several)} are two ways to the nodes: give one")
        if ways.nodes and ways.all_nodes:
            raise click.UsageError("--node and --all-nodes: give one of them")
        if ways.topology is not None and ways.ssh_config is None:
            raise click.UsageError("--topology goes with --ssh-config")
        if ways.token_file is not None and (ways.lab is not None or ways.ssh_config is not None):
            raise click.UsageError("--node-token-file: agents of a lab ask for no token")
        return ways

    @property
    def given(self) -> str:
        """The option that names a way, if one does; an environment's KUBECONFIG does not."""
        found = {"--lab": self.lab, "--ssh-config": self.ssh_config, "--node-url": self.node_urls}
        return next((option for option, value in found.items() if value), "")

    @property
    def chosen(self) -> bool:
        """Whether others than this node's agent are asked."""
        return bool(self.nodes) or self.all_nodes

    def doors(self) -> Mapping[str, Door]:
        """By name of the node, in order. Raises ConfigError for a node there is not, L3netError."""
        if self.lab is not None:
            found = _of_lab(self.lab)
        elif self.ssh_config is not None:
            found = self._of_ssh(self.ssh_config)
        elif self.node_urls:
            found = self._of_urls()
        else:
            found = self._of_cluster()
        if self.all_nodes:
            if not found:
                raise ConfigError("there is no node to ask")
            return found
        if unknown := [node for node in self.nodes if node not in found]:
            there = ", ".join(list(found)[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
            raise ConfigError(f"there is no node {unknown[0]}; there are: {there or 'none'}")
        return {node: found[node] for node in self.nodes}

    def _of_ssh(self, config: Path) -> dict[str, Door]:
        """Machines by their names in an ssh configuration; which are nodes, a topology says."""
        from l3net.lab.sshlab import SshMachine  # noqa: PLC0415 - only with --ssh-config
        from l3net.lab.state import read_source  # noqa: PLC0415

        if not config.is_file():
            raise ConfigError(f"there is no {config}: `vagrant ssh-config >{config}` writes it")
        names = self.nodes or [node.name for node in read_source(self.topology).topology().nodes]
        # no connection is shared: each machine is asked once or twice
        return {name: SshDoor(SshMachine(name, config, Path("/run/l3net-none"))) for name in names}

    def _of_urls(self) -> dict[str, Door]:
        from l3net.glass.settings import node_urls  # noqa: PLC0415
        from l3net.shell.sockets.glassclient import fetch  # noqa: PLC0415

        headers = self._headers()
        return {
            name: GlassDoor(partial(fetch, url), headers)
            for name, url in sorted(node_urls(self.node_urls).items())
        }

    def _of_cluster(self) -> dict[str, Door]:
        if self.kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
            raise ConfigError(
                "no way to other nodes: name the cluster with --kubeconfig FILE (or KUBECONFIG), looking "
                "glasses with --node-url NAME=URL, or a lab with --lab NAME"
            )
        from l3net.shell.kubernetes.api import KubeApi  # noqa: PLC0415 - a second of imports
        from l3net.shell.kubernetes.glasspods import GlassPods  # noqa: PLC0415

        pods, headers = GlassPods(KubeApi(self.kubeconfig), self.namespace), self._headers()
        found: dict[str, Door] = {pod.node: GlassDoor(partial(_of_pod, pod), headers) for pod in pods.list()}
        why = f"no pod of l3net-glass runs there in namespace {self.namespace}"
        for node in pods.agents():
            found.setdefault(node, NoDoor(f"{why}, though an agent does"))
        if not found:
            raise ConfigError(
                f"no pods of l3net-glass run in namespace {self.namespace}: install them (glass.enabled of "
                "the chart), or name their --namespace"
            )
        return dict(sorted(found.items()))

    def _headers(self) -> dict[str, str]:
        """The token of looking glasses. Raises ConfigError, which never tells it."""
        if self.token_file is None:
            return {}
        from l3net.glass.settings import TOKEN_HEADER, token_of  # noqa: PLC0415

        try:
            return {TOKEN_HEADER: token_of(self.token_file.read_text(encoding="utf-8"), str(self.token_file))}
        except OSError as err:
            raise ConfigError(f"{self.token_file}: {refusal(err)}") from None
        except ValueError:
            raise ConfigError(f"{self.token_file}: is no text") from None


def _of_pod(
    pod: GlassPod, path: str, query: Mapping[str, str], headers: Mapping[str, str], _patience: float
) -> tuple[int, bytes]:
    """The API server's proxy has times of its own."""
    return pod.ask(path, query, headers)


def _of_lab(name: str) -> dict[str, Door]:
    """Agents of a lab on this machine; a host that is gone answers as such."""
    from l3net.lab.host import find_hosts  # noqa: PLC0415 - only with --lab
    from l3net.lab.state import load  # noqa: PLC0415

    directory, topology = load(name)
    hosts = find_hosts(name, directory)
    found: dict[str, Door] = {}
    for node in topology.nodes:
        host = hosts.get(node.name)
        found[node.name] = (
            SocketDoor(host.inside(RUN_DIR) / AGENT_SOCKET)
            if host is not None
            else NoDoor(f"the host is gone; take lab {name} down and up again")
        )
    return found


_OPTIONS: Final = (
    click.option(
        "--node",
        "way_nodes",
        multiple=True,
        metavar="NODE",
        help="Ask this node instead of the local one. Repeatable.",
        shell_complete=node_names,
    ),
    click.option("--all-nodes", "way_all_nodes", is_flag=True, help="Ask every node."),
    click.option(
        "--lab",
        "way_lab",
        metavar="NAME",
        help="Use the nodes of this lab, which is up on this machine.",
        shell_complete=labs,
    ),
    click.option(
        "--ssh-config",
        "way_ssh_config",
        type=_FILE,
        metavar="FILE",
        help="Use machines of this ssh configuration, as printed by `vagrant ssh-config`.",
    ),
    click.option(
        "--topology",
        "way_topology",
        type=_FILE,
        metavar="FILE",
        help="With --ssh-config and --all-nodes: the lab's topology, which names the nodes.",
    ),
    click.option(
        "--node-url",
        "way_node_urls",
        multiple=True,
        metavar="NAME=URL",
        help="Address of a node's looking glass. Repeatable.",
    ),
    click.option(
        "--node-token-file",
        "way_token_file",
        type=_FILE,
        metavar="FILE",
        help="The token for the nodes' looking glasses.",
    ),
    click.option(
        "--kubeconfig",
        "way_kubeconfig",
        type=_FILE,
        envvar="KUBECONFIG",
        metavar="FILE",
        help="Use the nodes of this cluster, through the API server's proxy to the pods of "
        "l3net-glass (needs `list` of pods and `get` of pods/proxy). Default in a pod: its "
        "service account.",
    ),
    click.option(
        "--namespace",
        "way_namespace",
        envvar="POD_NAMESPACE",
        default="kube-system",
        show_default=True,
        metavar="NAME",
        help="Namespace of the pods of l3net-glass.",
    ),
    options.run_dir(),
)


def way_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """All of them, in this order."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
