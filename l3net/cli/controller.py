"""`l3net controller`: the composition root of the cluster loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from l3net.cli import options
from l3net.cli.main import configure_logging
from l3net.config import listen_address
from l3net.errors import ConfigError

if TYPE_CHECKING:
    from l3net.controller.decide import Settings
    from l3net.controller.loop import Controller
    from l3net.controller.verdicts import Verdicts
    from l3net.errors import ManifestError
    from l3net.model import ObjectName
    from l3net.shell.kubernetes.api import KubeApi
    from l3net.shell.kubernetes.kinds import Document, KubeKind

#: Where a pod finds its own namespace.
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def _namespace() -> str:
    try:
        return OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return "kube-system"


@click.command(short_help="Run the cluster's controller.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    envvar="KUBECONFIG",
    help="How to reach the API server. Default in a pod: its service account.",
)
@click.option(
    "--namespace",
    default=_namespace,
    envvar="POD_NAMESPACE",
    show_default="the pod's own, else kube-system",
    help="Namespace of the lease and the ledger (a ConfigMap).",
)
@click.option(
    "--blocks/--no-blocks",
    default=True,
    show_default=True,
    envvar="L3NET_BLOCKS",
    help="Assign blocks from the IPPools to nodes to which the cluster assigns no podCIDRs.",
)
@click.option(
    "--load-balancers",
    type=click.Choice(["class", "all"]),
    default="class",
    show_default=True,
    envvar="L3NET_LOAD_BALANCERS",
    help="Which services get addresses: those with loadBalancerClass l3net.io/bgp, or also those "
    "without a class.",
)
@click.option(
    "--grace",
    type=options.Seconds(min=0, max=7 * 86400),
    default=300.0,
    show_default=True,
    envvar="L3NET_BLOCK_GRACE",
    metavar="SECONDS",
    help="How long a node must be gone before another node may get its blocks.",
)
@options.run_dir("Directory of the files that --probe reads.")
@click.option(
    "--probe",
    type=click.Choice(["alive", "ready"]),
    help="Check the controller that runs with this --run-dir, and exit with 0 if it is ok, 3 if not.",
)
@click.option(
    "--metrics-address",
    envvar="L3NET_METRICS_ADDRESS",
    metavar="ADDRESS:PORT",
    help="Serve /metrics, /healthz and /readyz over HTTP there, for example 127.0.0.1:9619. Default: off.",
)
@options.events
@options.log_level
@options.log_format
def controller(
    kubeconfig: Path | None,
    namespace: str,
    blocks: bool,
    load_balancers: str,
    grace: float,
    run_dir: Path,
    probe: str | None,
    metrics_address: str | None,
    events: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Run the controller: it assigns blocks to nodes and addresses to load balancers, from the IPPools.

    It runs in the foreground until SIGTERM. Several may run: one leads, the others stand by.

    Example: l3net controller --kubeconfig ~/.kube/config
    """
    if probe:
        from l3net.shell.files.pulse import probe as look  # noqa: PLC0415

        click.echo(look(run_dir, ready=probe == "ready"))
        return
    from l3net.controller.decide import Settings  # noqa: PLC0415 - after --help
    from l3net.shell.kubernetes.api import KubeApi  # noqa: PLC0415

    configure_logging(log_level, log_format)
    metrics = listen_address(metrics_address) if metrics_address is not None else None
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise ConfigError("no API server: this is not a pod, so name one with --kubeconfig FILE")
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(f"run directory {run_dir}: {err.strerror}; choose another with --run-dir") from err
    settings = Settings(grace, load_balancers == "all", blocks)
    asyncio.run(_main(KubeApi(kubeconfig), namespace, run_dir, settings, metrics, events=events))


async def _main(
    api: KubeApi,
    namespace: str,
    run_dir: Path,
    settings: Settings,
    metrics: tuple[str, int] | None,
    *,
    events: bool,
) -> None:
    from l3net.shell.files.pulse import Pulse  # noqa: PLC0415 - after --help

    identity = f"{socket.gethostname()}_{uuid.uuid4()}"
    cluster, verdicts = composed(api, namespace, identity, settings, Pulse(run_dir), events=events)
    running = asyncio.create_task(together(cluster, verdicts, *_measured(cluster, api, metrics)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


def composed(
    api: KubeApi,
    namespace: str,
    identity: str,
    settings: Settings,
    beat: Callable[[Controller], None],
    *,
    events: bool = True,
) -> tuple[Controller, Verdicts]:
    """The parts of a controller, which wait as the API's callers do. `identity`: its name as a candidate."""
    from l3net.controller.election import Election  # noqa: PLC0415
    from l3net.controller.loop import Controller  # noqa: PLC0415
    from l3net.controller.verdicts import Verdicts  # noqa: PLC0415
    from l3net.kube.registry import KINDS  # noqa: PLC0415
    from l3net.shell.kubernetes.store import KubernetesDatastore  # noqa: PLC0415
    from l3net.shell.kubernetes.writer import KubeLease, KubeWriter  # noqa: PLC0415

    threads = api.threads
    writer = KubeWriter(api, namespace, lambda: cluster.leading, events=events)
    verdicts = Verdicts(writer, lambda: cluster.leading, threads.monotonic, threads.random.random)

    def judge(kind: KubeKind, name: ObjectName, document: Document, error: ManifestError | None) -> None:
        verdicts.judge(kind, name, document, error)
        cluster.seen(kind, name, document)

    kinds = KINDS.watched("controller")
    datastore = KubernetesDatastore(api, "", nodes="all", secrets=False, kinds=kinds, judge=judge)
    cluster = Controller(
        datastore,
        writer,
        Election(KubeLease(api, namespace), identity, threads.monotonic),
        settings,
        threads.monotonic,
        threads.random.random,
        beat,
        datastore.distrust,
        threads.executor,
    )
    return cluster, verdicts


def _measured(
    cluster: Controller, api: KubeApi, address: tuple[str, int] | None
) -> Iterator[Callable[[], Awaitable[None]]]:
    """What serves the metrics, if anybody wants them."""
    if address is None:
        return
    from l3net.controller.metrics import Measured  # noqa: PLC0415
    from l3net.shell.kernel.process import OwnProcess  # noqa: PLC0415
    from l3net.shell.sockets.web import WebServer  # noqa: PLC0415

    measured = Measured(cluster, OwnProcess(), lambda: dict(api.answers))

    def unready() -> str:
        return "" if cluster.in_sync else "the declared state is not complete yet"

    yield WebServer(address, measured.text, unready).run


async def together(cluster: Controller, verdicts: Verdicts, *others: Callable[[], Awaitable[None]]) -> None:
    """Until cancelled, or until one of the others cannot go on: its error is raised."""
    beside = [asyncio.ensure_future(run()) for run in others]
    writing = asyncio.create_task(verdicts.run())
    main = asyncio.create_task(cluster.run())
    try:
        done, _ = await asyncio.wait({main, *beside}, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for task in (writing, main, *beside):
            task.cancel()
        await asyncio.gather(main, *beside, return_exceptions=True)
