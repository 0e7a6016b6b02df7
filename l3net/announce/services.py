"""The addresses of services: ClusterIPs, external and load-balancer addresses.

Not over the mesh: every node serves them itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from l3net.addresses import host_prefix
from l3net.announce.source import Announcement, NodeView, Source
from l3net.model import Prefix


def _prefixes(view: NodeView) -> Collection[Prefix]:
    return view.service_prefixes


def _reasons(view: NodeView) -> Iterator[Announcement]:
    for verdict in view.verdicts():
        refusal = "" if verdict.advertised else verdict.reason.value
        yield Announcement(host_prefix(verdict.address), verdict.kind.value, str(verdict.service), refusal)


SERVICES = Source("services", _prefixes, _reasons, mesh=False)
