"""The addresses that pods leave the cluster with: each from the node that holds it, and from no other."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from l3net.addresses import host_prefix
from l3net.announce.source import Announcement, NodeView, Source
from l3net.model import Kind, Prefix


def _prefixes(view: NodeView) -> Collection[Prefix]:
    return view.egress_prefixes


def _reasons(view: NodeView) -> Iterator[Announcement]:
    for each in view.egress_holdings():
        prefix, of = host_prefix(each.address), f"{Kind.EGRESS_IP.value} {each.by}"
        if not each.held:
            yield Announcement(prefix, "egressIP", of, each.reason.value)
        else:
            here = each.node == view.me and prefix in view.egress_prefixes
            yield Announcement(prefix, "egressIP", of, "" if here else "nodeElsewhere")


EGRESS = Source("egress", _prefixes, _reasons)
