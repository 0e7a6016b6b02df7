"""Services: which addresses are announced, what is served, and how fast a change is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from l3net.agent.measuring.seen import Seen
from l3net.metering.family import Row, Sample, counter, gauge, histogram, one


def _verdicts(seen: Seen) -> Iterator[Sample]:
    found = Counter((verdict.kind.value, verdict.reason.value) for verdict in seen.agent.verdicts)
    return iter(sorted(found.items()))


def _rejudged(seen: Seen) -> Iterator[Sample]:
    apart = seen.apart.services
    for name, count in apart.follow(seen.agent.services.book.rejudged):
        yield (name.namespace, name.name), count
    yield ("", "others"), apart.others


def _health_ports(seen: Seen) -> Iterator[Sample]:
    checks = seen.agent.checks
    yield ("open",), len(checks.opened)
    yield ("refused",), checks.refused


def _connections(seen: Seen) -> Iterator[Sample]:
    apart = seen.apart.connections
    for name, count in apart.follow(seen.agent.services.counting.totals):
        yield (name.namespace, name.name), count
    yield ("", "others"), apart.others


SERVICES: Final[tuple[Row[Seen], ...]] = (
    gauge("l3net_service_addresses", "Service addresses by kind and verdict.", _verdicts, "kind", "verdict"),
    counter(
        "l3net_service_verdict_changes_total",
        "Changes of the verdict on a service's address (announced, or why not) on this node. 200 "
        "services are counted separately; service `others`, without a namespace, is the rest.",
        _rejudged,
        "namespace",
        "service",
    ),
    counter(
        "l3net_service_connections_total",
        "New connections to a service on this node, to its addresses and NodePorts, answered or "
        "not; read every 15 s. 200 services are counted separately; service `others`, without a "
        "namespace, is the rest.",
        _connections,
        "namespace",
        "service",
    ),
    gauge(
        "l3net_virtual_servers",
        "Service addresses and ports served.",
        one(lambda seen: len(seen.agent.services.book.servers)),
    ),
    gauge(
        "l3net_service_proxy",
        "Whether l3net translates services on this node (and not kube-proxy).",
        one(lambda seen: seen.agent.proxying.standing.on),
    ),
    gauge(
        "l3net_service_proxy_healthy",
        "Whether services are in force as declared; load balancers get the same answer.",
        one(lambda seen: seen.agent.checks.health.healthy),
    ),
    gauge(
        "l3net_health_ports",
        "Health check ports for load balancers: open, and those that another process has (`refused`).",
        _health_ports,
        "state",
    ),
    gauge(
        "l3net_consistent_servers",
        "Service addresses and ports for which every node chooses the same endpoint.",
        one(lambda seen: seen.spread["servers"]),
    ),
    gauge(
        "l3net_consistent_slots",
        "Slots of the tables of consistent balancing.",
        one(lambda seen: seen.spread["slots"]),
    ),
    gauge(
        "l3net_consistent_servers_short",
        "Consistently balanced service addresses and ports with fewer slots than their endpoints need.",
        one(lambda seen: seen.spread["short"]),
    ),
    histogram(
        "l3net_service_change_kernel_seconds",
        "Time from receiving a changed service or slice until the kernel's table has it; only "
        "changes that concern the table.",
        one(lambda seen: seen.agent.services.kernel_latency),
    ),
    histogram(
        "l3net_service_change_seconds",
        "Time from receiving a changed service or slice until its routes were given to ExaBGP.",
        one(lambda seen: seen.agent.services.latency),
    ),
)
