"""`l3net agent`: the composition root of the node."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from l3net.cli import options
from l3net.cli.main import configure_logging
from l3net.config import ERROR_RELAY_PORT, HEALTH_PORT, AgentSettings, datastore, listen_address
from l3net.errors import ConfigError, refusal
from l3net.naming import AGENT_SOCKET, STATE_DIR
from l3net.ports import Datastore

if TYPE_CHECKING:
    from l3net.shell.kubernetes.writer import KubeOwnNode


#: Seconds for which an agent in a cluster goes on after SIGTERM.
LINGER = 1.0
#: In RUN_DIR: held by the agent there is, and left by one that ends.
LOCK = "agent.lock"


@click.command(short_help="Run the node agent.")
@options.datastore("Source of the declared state: the Kubernetes API, or a directory of manifests.")
@options.kubeconfig("How to reach the API server. Default in a pod: its service account.")
@click.option(
    "--node-name",
    default=socket.gethostname,
    envvar="NODE_NAME",
    show_default="host name",
    help="Name of this host's Node object.",
)
@options.run_dir("Directory for sockets and ExaBGP's configuration, shared with `l3net speaker`.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=STATE_DIR,
    show_default=True,
    envvar="L3NET_STATE_DIR",
    help="Directory for address leases. It must survive a reboot.",
)
@click.option(
    "--mtu",
    type=click.IntRange(1280, 65535),
    default=None,
    envvar="L3NET_MTU",
    show_default="that of the uplink",
    help="MTU of bridge and pods, in bytes.",
)
@click.option(
    "--cni-conf-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    envvar="L3NET_CNI_CONF_DIR",
    metavar="DIR",
    help="Write the CNI configuration for the container runtime there once the node is up.",
)
@click.option(
    "--metrics-address",
    envvar="L3NET_METRICS_ADDRESS",
    metavar="ADDRESS:PORT",
    help="Serve /metrics, /healthz and /readyz over HTTP there, for example 127.0.0.1:9618. Default: off.",
)
@click.option(
    "--metrics-from-pods",
    is_flag=True,
    envvar="L3NET_METRICS_FROM_PODS",
    help="Let pods reach the port of --metrics-address, for a Prometheus that runs as a pod.",
)
@click.option(
    "--error-relay-port",
    type=click.IntRange(0, 65535),
    default=ERROR_RELAY_PORT,
    show_default=True,
    envvar="L3NET_ERROR_RELAY_PORT",
    metavar="PORT",
    help="UDP port, the same on every node. Nodes use it to forward ICMP errors ('packet too "
    "big') about service connections that another node translates. 0: off.",
)
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    default=HEALTH_PORT,
    show_default=True,
    envvar="L3NET_HEALTH_PORT",
    metavar="PORT",
    help="TCP port for load balancers' health checks: /healthz and /livez as kube-proxy, while "
    "l3net is the node's service proxy. 0: none.",
)
@options.events
@options.log_level
@options.log_format
def agent(
    where: str | None,
    kubeconfig: Path | None,
    node_name: str,
    run_dir: Path,
    state_dir: Path,
    mtu: int | None,
    cni_conf_dir: Path | None,
    metrics_address: str | None,
    metrics_from_pods: bool,
    error_relay_port: int,
    health_port: int,
    events: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Run the node agent: it applies the declared state to pod bridge, routes, service table and BGP.

    It runs in the foreground until SIGTERM, beside `l3net speaker`. Stopping or killing it changes
    nothing in the kernel or at the peers; after a restart it continues from the existing state. On a node
    that shuts down or drains (`l3net node drain`) it finishes the drain first; a second SIGTERM ends it
    at once.

    Examples: l3net agent --datastore dir:/etc/l3net/manifests --node-name n1

    l3net agent --kubeconfig /etc/kubernetes/kubelet.conf
    """
    # Facts hold no cycles: looking for some while tens of thousands arrive would take a third of the time.
    # What is imported holds few, and stays.
    gc.set_threshold(100_000, 20, 100)
    configure_logging(log_level, log_format)
    chosen = datastore(where, kubeconfig, in_cluster=bool(os.environ.get("KUBERNETES_SERVICE_HOST")))
    metrics = listen_address(metrics_address) if metrics_address is not None else None
    told = frozenset({("tcp", metrics[1])} if metrics is not None else ())
    closed, opened_to_pods = (frozenset(), told) if metrics_from_pods else (told, frozenset())
    settings = AgentSettings(
        *(node_name, chosen, run_dir, state_dir, mtu, error_relay_port, health_port, closed, opened_to_pods)
    )
    from l3net.shell.kernel import sysctl  # noqa: PLC0415
    from l3net.shell.kernel.process import give_large_blocks_back  # noqa: PLC0415 - after --help
    from l3net.shell.sockets.onlyagent import only_agent  # noqa: PLC0415

    give_large_blocks_back()

    opened = _open(
        settings, events=events
    )  # all that can be wrong with the options is told before anything is made
    with only_agent(), _only_one(run_dir):
        sysctl.remember(run_dir)
        asyncio.run(_main(settings, opened, cni_conf_dir, metrics, events=events))


@contextlib.contextmanager
def _only_one(run_dir: Path) -> Iterator[None]:
    """Hold RUN_DIR/agent.lock. Raises ConfigError naming the process that has it."""
    from l3net.shell.files.rundir import claim, sweep  # noqa: PLC0415 - after --help

    claim(run_dir)
    try:
        descriptor = os.open(run_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise ConfigError(f"run directory {run_dir}: {refusal(err, 'the agent needs root')}") from err
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise ConfigError(f"an agent already runs with {run_dir}, pid {holder}") from None
        own = f"{os.getpid()}\n".encode()
        try:
            os.pwrite(descriptor, own, 0)
            os.truncate(descriptor, len(own))
        except OSError:  # no space for what only helps people: a node whose /run is full has an agent
            os.truncate(descriptor, 0)
        sweep(run_dir)
        yield
    finally:
        os.close(descriptor)


def _open(settings: AgentSettings, *, events: bool) -> tuple[Datastore, KubeOwnNode | None]:
    """The declared state, and the Node to write to, if there is an API. Raises ConfigError."""
    chosen = settings.datastore
    if chosen.directory is not None:
        from l3net.shell.manifests.store import DirectoryDatastore  # noqa: PLC0415 - after --help

        # Where an agent before us has worked, what it made is held until the directory is back: without an
        # agent, what a link takes along is lost.
        required = not (settings.run_dir / LOCK).exists()
        return DirectoryDatastore(chosen.directory, required=required), None
    from l3net.shell.files.serversfile import ServersFile  # noqa: PLC0415
    from l3net.shell.kubernetes.api import KubeApi  # noqa: PLC0415

    api = KubeApi(chosen.kubeconfig, memory=ServersFile(settings.state_dir))
    from l3net.shell.kubernetes.store import KubernetesDatastore  # noqa: PLC0415 - needs what KubeApi looks for
    from l3net.shell.kubernetes.writer import KubeOwnNode  # noqa: PLC0415

    return KubernetesDatastore(api, settings.node_name), KubeOwnNode(api, settings.node_name, events=events)


async def _main(
    settings: AgentSettings,
    opened: tuple[Datastore, KubeOwnNode | None],
    cni_conf_dir: Path | None,
    metrics: tuple[str, int] | None,
    *,
    events: bool,
) -> None:
    from l3net.agent.arrival import Arrival  # noqa: PLC0415
    from l3net.agent.flowing import Flowing  # noqa: PLC0415
    from l3net.agent.loop import Agent, run_agent  # noqa: PLC0415 - after --help
    from l3net.agent.measuring.seen import Beside  # noqa: PLC0415
    from l3net.agent.recording import Recording  # noqa: PLC0415
    from l3net.agent.status import answer, routes, status  # noqa: PLC0415
    from l3net.agent.supervising import kept_up  # noqa: PLC0415
    from l3net.cli.agent_questions import questions, questions_in_parts  # noqa: PLC0415
    from l3net.cli.agent_shells import node_shells  # noqa: PLC0415
    from l3net.shell.files.cniinstall import put_conflist  # noqa: PLC0415
    from l3net.shell.files.historyfile import HistoryFile  # noqa: PLC0415
    from l3net.shell.kernel.flowlog import KernelFlowLog  # noqa: PLC0415
    from l3net.shell.sockets.agentserver import AgentServer  # noqa: PLC0415

    datastore, own = opened
    node = Agent(settings, node_shells(settings, datastore))
    told = partial(answer, node), partial(status, node), partial(routes, node)
    recording = Recording(node, HistoryFile(settings.run_dir))
    slow = questions(node, recording, settings.state_dir, Flowing(node, KernelFlowLog()))
    server = AgentServer(settings.run_dir / AGENT_SOCKET, *told, node.faults, slow, questions_in_parts(node))
    install = partial(put_conflist, cni_conf_dir) if cni_conf_dir is not None else None
    arrival = Arrival(node, install, own)
    parts: dict[str, Callable[[], Awaitable[None]]] = {
        "agent socket": server.run,
        "arrival": arrival.run,
        "history": recording.run,
    }
    if own is not None:
        from l3net.agent.reporting import Reporting  # noqa: PLC0415

        parts["status of BGPPeers"] = Reporting(node, own).run
    beside = Beside(recording.fullness, lambda: server.asked)
    if own is not None:
        beside = replace(beside, answers=lambda: own.answers)
    if own is not None and events:
        from l3net.agent.eventing import Eventing  # noqa: PLC0415

        eventing = Eventing(node, own)
        parts["Events"], beside = eventing.run, replace(beside, events=eventing.counts)
    if metrics is not None:
        from l3net.agent.health import unready  # noqa: PLC0415
        from l3net.agent.metrics import Metering  # noqa: PLC0415
        from l3net.shell.sockets.web import WebServer  # noqa: PLC0415

        metering = Metering(node, beside)
        parts["metrics"] = WebServer(metrics, metering.text, partial(unready, node)).run
    others = [asyncio.create_task(kept_up(part, run, node.faults)) for part, run in parts.items()]
    running = asyncio.create_task(run_agent(node, *others))
    loop = asyncio.get_running_loop()
    finishing: list[asyncio.Task[None]] = []

    async def finish() -> None:
        if own is not None:  # kubelet tells of a shutdown as it sends the signal: let that arrive
            await asyncio.sleep(LINGER)
        await node.finish()
        running.cancel()

    def stop() -> None:
        if finishing:
            running.cancel()  # asked twice: at once
        else:
            finishing.append(asyncio.create_task(finish()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        await running
