"""The addresses of services: ClusterIPs, external and load-balancer addresses.

Not over the mesh: every node serves them itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import ip_network

from l3net.announce.source import Announcement, Source, View
from l3net.model import Prefix


def _prefixes(view: View) -> Collection[Prefix]:
    return view.service_prefixes


def _reasons(view: View) -> Iterator[Announcement]:
    for verdict in view.verdicts():
        refusal = "" if verdict.advertised else verdict.reason.value
        yield Announcement(ip_network(verdict.address), verdict.kind.value, str(verdict.service), refusal)


SERVICES = Source("services", _prefixes, _reasons, mesh=False)
