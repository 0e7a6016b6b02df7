"""The shells of an agent on a real node (l3net.agent.shells)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from secrets import token_hex

from l3net.agent.shells import Kernel, Proxies, Shells, Speaker
from l3net.attach.server import CniServer
from l3net.config import HEALTH_PORT, AgentSettings
from l3net.errors import ConfigError
from l3net.naming import BFD_SOCKET, CNI_SOCKET, POLICY_LOG_GROUP, RTPROT_L3NET, SPEAKER_SOCKET
from l3net.ports import Connect, Datastore, Stream
from l3net.shell.files.drainfile import DrainFile
from l3net.shell.files.entries import Entries
from l3net.shell.files.proxyfile import ProxyFile
from l3net.shell.files.routefile import RouteFile
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.connections import Conntrack
from l3net.shell.kernel.egress_ways import KernelEgressWays
from l3net.shell.kernel.envelope import KernelEnvelope
from l3net.shell.kernel.errorrelay import ErrorRelay
from l3net.shell.kernel.kubeproxytables import kube_proxy_tables
from l3net.shell.kernel.monitor import KernelMonitor
from l3net.shell.kernel.nft import NftTable
from l3net.shell.kernel.nftcounters import NftCounters
from l3net.shell.kernel.packetlog import PacketLog
from l3net.shell.kernel.process import OwnProcess
from l3net.shell.kernel.router_discovery import RouterDiscovery
from l3net.shell.kernel.routes import KernelRoutes
from l3net.shell.kernel.servicecounts import NftServiceCounts
from l3net.shell.kernel.sysctl import enable_forwarding
from l3net.shell.kernel.underlay import KernelUnderlay
from l3net.shell.manifests.tree import ManifestTree
from l3net.shell.sockets.collectors import TcpCollectors
from l3net.shell.sockets.healthports import HealthListeners
from l3net.shell.sockets.kubeproxy import kube_proxy_answers
from l3net.shell.sockets.unixlink import UnixLink
from l3net.shell.speaker.config import SpeakerConfig
from l3net.shell.speaker.exabgp import release_is_known

#: Seconds between attempts to reach the speaker, and the BFD process; where nothing tells of their sockets,
#: also between looks for these.
SPEAKER_RETRY = 0.25
BFD_RETRY = 1.0


def node_shells(settings: AgentSettings, datastore: Datastore) -> Shells:
    """In the network namespace of this process. Raises KernelError."""
    entries = Entries(settings.run_dir)
    pods = CniServer(settings.run_dir / CNI_SOCKET, settings.state_dir)
    health = HealthListeners()
    return Shells(
        datastore=datastore,
        kernel=_kernel(settings.error_relay_port, lambda: pods.guard_port),
        speaker=Speaker(
            connect=_connect(entries, SPEAKER_SOCKET, SPEAKER_RETRY),
            files=SpeakerConfig(settings.run_dir),
            token=partial(token_hex, 4),
            guarded=release_is_known(),
        ),
        bfd=_connect(entries, BFD_SOCKET, BFD_RETRY),
        pods=pods,
        health=health,
        proxies=Proxies(_KubeProxy(health), ProxyFile(settings.run_dir)),
        collectors=TcpCollectors(),
        drain=DrainFile(settings.run_dir, entries),
        memory=RouteFile(settings.run_dir),
        process=OwnProcess(),
        manifests=manifests,
        random=Random(),  # noqa: S311 - spreads agents, guards nothing
        views=getattr(datastore, "views", dict),  # a directory has none
        detour=getattr(datastore, "detour", str),
        declares_pods=settings.datastore.directory is None,
    )


class _KubeProxy:
    """ports.OtherProxy. `health` has the listeners of this process."""

    def __init__(self, health: HealthListeners) -> None:
        self._health = health

    async def answers(self) -> str:
        return await kube_proxy_answers(health_is_ours=self._health.holds(HEALTH_PORT))

    def tables(self) -> str:
        return kube_proxy_tables()


def _kernel(error_port: int, guard_port: Callable[[], int]) -> Kernel:
    routes, underlay = KernelRoutes(), KernelUnderlay()
    return Kernel(
        routes=routes,
        bridges=KernelBridge(),
        underlay=underlay,
        notices=KernelMonitor(RTPROT_L3NET, routes.port, lambda: underlay.names, guard_port),
        firewall=NftTable(followed=True),
        connections=Conntrack(),
        discovery=RouterDiscovery(),
        errors=ErrorRelay(error_port),
        drops=PacketLog(POLICY_LOG_GROUP),
        counters=NftCounters(),
        service_counters=NftServiceCounts(),
        envelope=KernelEnvelope(),
        egress_ways=KernelEgressWays(),
        enable_forwarding=enable_forwarding,
    )


def _connect(entries: Entries, name: str, longest_retry: float) -> Connect:
    path, come = entries.directory / name, partial(entries.moved, name)

    def connect(
        connected: Callable[[], None], received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> Stream:
        return UnixLink(path, connected, received, lost, longest_retry=longest_retry, come=come)

    return connect


def manifests(directory: Path) -> ManifestTree:
    """Raises ConfigError for what is no directory."""
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a directory of manifests")
    return ManifestTree(directory)
