"""What the agent measures, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from l3net import __version__
from l3net.agent.exposition import Sample, counter, gauge, histogram
from l3net.agent.health import unready
from l3net.agent.loop import Agent
from l3net.agent.policymetrics import policy_metrics
from l3net.agent.tally import Tally
from l3net.kube.registry import KINDS


def metrics(agent: Agent) -> str:
    """Everything, as one scrape."""
    return "".join(_lines(agent))


def _lines(agent: Agent) -> Iterator[str]:
    state = agent.state
    yield from gauge("l3net_build_info", "The version that runs.", [({"version": __version__}, 1)])
    yield from gauge("l3net_in_sync", "Whether the declared state is complete.", [({}, agent.in_sync)])
    yield from gauge("l3net_ready", "Whether the agent is ready.", [({}, not unready(agent))])
    yield from gauge(
        "l3net_speaker_connected", "Whether the speaker is there.", [({}, agent.speaking.connected)]
    )
    yield from gauge(
        "l3net_declared_objects",
        "Declared objects in force.",
        [({"kind": kind.value}, row.count(state)) for kind, row in KINDS.items() if row.absent is None],
    )
    yield from gauge(
        "l3net_rejected_objects",
        "What was declared and cannot be used.",
        [({}, len(agent.declared.rejected))],
    )
    views = {kind.value: view for kind, view in agent.views.items()}
    yield from gauge(
        "l3net_view_list_age_seconds",
        "Time since all objects of a kind were listed.",
        [({"kind": kind}, view.list_age) for kind, view in views.items() if view.list_age is not None],
    )
    yield from gauge(
        "l3net_view_bookmark_age_seconds",
        "Time since the API server last said how far a watch has come.",
        [
            ({"kind": kind}, view.bookmark_age)
            for kind, view in views.items()
            if view.bookmark_age is not None
        ],
    )
    yield from gauge(
        "l3net_drain_stage",
        "0: none, 1: tagged, 2: service addresses withdrawn, 3: all withdrawn, 4: sessions closed.",
        [({}, agent.draining.stage)],
    )
    yield from counter("l3net_passes_total", "Passes of the loop.", [({}, agent.passes)])
    yield from counter(
        "l3net_passes_failed_total", "Passes that met what nobody foresaw.", [({}, agent.failed_passes)]
    )
    yield from histogram("l3net_pass_seconds", "How long a pass of the loop took.", agent.pass_seconds)
    yield from _sessions(agent)
    yield from _collectors(agent)
    yield from _services(agent)
    yield from policy_metrics(agent)
    yield from _kernel(agent)
    yield from counter(
        "l3net_undecodable_lines_total",
        "Lines from ExaBGP that could not be read.",
        [({}, agent.speaking.undecodable)],
    )
    yield from _pods(agent)
    process = agent.shells.process
    yield from counter("process_cpu_seconds_total", "CPU time used.", [({}, process.cpu_seconds())])
    yield from gauge("process_resident_memory_bytes", "Memory resident.", [({}, process.resident())])
    yield from gauge("process_uptime_seconds", "Time since the start.", [({}, process.uptime())])


def _collectors(agent: Agent) -> Iterator[str]:
    """Of BMP; nothing where none is declared."""
    rows = [
        ({"collector": row["name"], "address": row["address"], "port": row["port"]}, row)
        for row in agent.monitoring.status()
    ]
    if not rows:
        return
    yield from gauge(
        "l3net_bmp_connected",
        "Whether the collector is connected.",
        [(labels, row["connected"]) for labels, row in rows],
    )
    yield from gauge(
        "l3net_bmp_waiting_prefixes",
        "Prefixes of which the collector is yet to be told.",
        [(labels, row["waiting"]) for labels, row in rows],
    )
    for name, text, key in (
        ("l3net_bmp_connections_total", "Connections made to the collector.", "connections"),
        ("l3net_bmp_messages_total", "Messages sent to the collector.", "messages"),
        ("l3net_bmp_sent_bytes_total", "Octets of them.", "octets"),
        (
            "l3net_bmp_dropped_total",
            "Times that the collector fell behind, and was told all anew.",
            "dropped",
        ),
    ):
        yield from counter(name, text, [(labels, row[key]) for labels, row in rows])


def _services(agent: Agent) -> Iterator[str]:
    verdicts = Counter((verdict.kind.value, verdict.reason.value) for verdict in agent.verdicts)
    yield from gauge(
        "l3net_service_addresses",
        "Service addresses by kind and verdict.",
        [({"kind": kind, "verdict": reason}, count) for (kind, reason), count in sorted(verdicts.items())],
    )
    servers = len(agent.services.book.servers)
    yield from gauge("l3net_virtual_servers", "Service addresses and ports served.", [({}, servers)])
    yield from gauge(
        "l3net_service_proxy",
        "Whether services are translated by l3net on this node (and not by kube-proxy).",
        [({}, agent.proxying.standing.on)],
    )
    yield from gauge(
        "l3net_health_ports",
        "Ports on which load balancers are answered: open, and those that somebody else has.",
        [({"state": "open"}, len(agent.checks.opened)), ({"state": "refused"}, agent.checks.refused)],
    )
    yield from gauge(
        "l3net_service_proxy_healthy",
        "Whether services are in force as declared, as load balancers are told.",
        [({}, agent.checks.health.healthy)],
    )
    spread = agent.services.spread
    yield from gauge(
        "l3net_consistent_servers",
        "Service addresses and ports for which every node chooses the same endpoint.",
        [({}, spread["servers"])],
    )
    yield from gauge("l3net_consistent_slots", "Slots of their tables.", [({}, spread["slots"])])
    yield from gauge(
        "l3net_consistent_servers_short",
        "Those of them that have fewer slots than their endpoints want.",
        [({}, spread["short"])],
    )
    yield from histogram(
        "l3net_service_change_seconds",
        "From hearing of a changed service or slice until its routes were handed to ExaBGP.",
        agent.services.latency,
    )


def _kernel(agent: Agent) -> Iterator[str]:
    kernel = agent.kernel
    yield from gauge("l3net_routes_wanted", "Kernel routes of ours as wanted.", [({}, len(kernel.desired))])
    yield from gauge("l3net_routes_held", "Kernel routes of ours as held.", [({}, len(kernel.mirror))])
    yield from gauge(
        "l3net_routes_refused", "Kernel routes of ours that the kernel refuses.", [({}, len(kernel.refused))]
    )
    yield from gauge("l3net_kernel_problems", "Parts the kernel refused.", [({}, len(kernel.problems))])


def _pods(agent: Agent) -> Iterator[str]:
    figures = agent.pods.status()
    yield from gauge("l3net_leases", "Attachments with addresses.", [({}, figures["leases"])])
    yield from counter(
        "l3net_attachments_adopted_total",
        "Running attachments that the lease store did not know.",
        [({}, figures["adopted"])],
    )
    yield from gauge(
        "l3net_spool_quarantined", "Spooled deletions nobody can read.", [({}, figures["quarantined"])]
    )
    yield from counter(
        "l3net_faults_total",
        "Failures that a part of the agent went on from.",
        [({"part": fault["part"]}, fault["count"]) for fault in figures["faults"]],
    )


def _sessions(agent: Agent) -> Iterator[str]:
    up: list[Sample] = []
    flaps: list[Sample] = []
    received: list[Sample] = []
    accepted: list[Sample] = []
    announced: list[Sample] = []
    queued: list[Sample] = []
    for address, peer in agent.speaking.peers.items():
        labels = {"peer": peer.session.name, "address": address, "as": peer.session.peer_as}
        tally = Tally.of(agent, peer.session)
        up.append((labels, peer.established))
        flaps.append((labels, peer.flaps))
        received.append((labels, tally.received))
        accepted.append((labels, tally.accepted))
        announced.append((labels, agent.speaking.queues.announced(address)))
        queued.append((labels, agent.speaking.queues.out_queue(address)))
    yield from gauge("l3net_bgp_session_up", "Whether the session is established.", up)
    yield from counter("l3net_bgp_session_flaps_total", "Times an established session ended.", flaps)
    yield from gauge("l3net_bgp_paths_received", "Paths the peer announces.", received)
    yield from gauge(
        "l3net_bgp_paths_accepted",
        "Those of them that are not refused and whose next hop leads somewhere.",
        accepted,
    )
    yield from gauge("l3net_bgp_prefixes_announced", "Prefixes that have been sent to the peer.", announced)
    yield from gauge("l3net_bgp_prefixes_queued", "Prefixes that wait to be sent to the peer.", queued)
