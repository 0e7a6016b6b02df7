"""Floating addresses: each from the node of the pod that has it, and from no other.

Over the mesh too: other nodes' pods go to that node straight, where they share a link with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from l3net.addresses import host_prefix
from l3net.announce.source import Announcement, NodeView, Source
from l3net.model import Prefix


def _prefixes(view: NodeView) -> Collection[Prefix]:
    return view.floating_prefixes


def _reasons(view: NodeView) -> Iterator[Announcement]:
    for each in view.holdings():
        prefix = host_prefix(each.address)
        if each.held and each.node == view.me and prefix in view.floating_prefixes:
            yield Announcement(prefix, "floatingIP", str(each.by))
        elif each.held:
            yield Announcement(prefix, "floatingIP", str(each.by), "podElsewhere")
        else:
            yield Announcement(prefix, "floatingIP", str(each.by), each.reason.value)


FLOATING = Source("floating", _prefixes, _reasons)
