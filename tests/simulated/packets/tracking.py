"""A packet at connection tracking and at translation."""

from __future__ import annotations

from dataclasses import replace

from packets.chains import chain_verdict
from packets.conntrack import Conntrack, Ends, Flow, ends_of
from packets.meeting import Meeting, Step
from packets.packet import ACK, ERRORS, ICMP, ICMPV6, PORTED, RST, SYN, TCP, Packet
from packets.routes import address
from packets.statements import Verdict
from packets.table import SimTable, Stage
from packets.values import DNAT, ESTABLISHED, INVALID, NEW, RELATED, SNAT, UNTRACKED

#: Router and neighbour discovery: nobody tracks it.
_DISCOVERY = range(133, 138)


def track(met: Meeting, tracking: Conntrack) -> None:
    """Which connection it belongs to, and as what."""
    if met.state == UNTRACKED or met.flow is not None:
        return
    if met.protocol == ICMPV6 and met.icmp in _DISCOVERY:
        met.state = UNTRACKED
        return
    met.state = INVALID
    if met.about is not None and met.icmp in ERRORS[met.version]:
        found = tracking.find(ends_of(met.about).turned(), met.now)
        if found is not None:
            met.flow, forward = found
            met.state, met.backward = RELATED, not forward
        return
    port = met.dport if met.protocol in PORTED else met.icmp
    ends = Ends(met.version, met.protocol, met.source, met.sport, met.destination, port)
    found = tracking.find(ends, met.now)
    begins = met.protocol == TCP and met.flags & (SYN | ACK) == SYN
    if found is not None and not (found[0].closed and begins):
        flow, forward = found
        early = forward and flow.opening and not met.flags & (SYN | RST)
        if met.in_window and not early:
            met.flow = flow
            met.backward = not forward
            met.state = ESTABLISHED if met.backward or met.flow.answered else NEW
    elif tracking.begins(ends, met.flags):
        met.flow, met.state, met.new = Flow(ends, ends.turned()), NEW, True
        met.replaces = found[0] if found is not None else None


def translate(
    met: Meeting, tracking: Conntrack, tables: SimTable, stage: Stage, *, of_source: bool
) -> tuple[Verdict, Step] | None:
    """Its destination, or its source, by its connection, which a new one's rules decide first. What refuses
    it, if anything does."""
    flow = met.flow
    if flow is None:
        return None
    if met.state == RELATED:
        _translate_error(met, flow, of_source=of_source)
        return None
    if met.new and of_source not in met.bound:
        met.wanted = met.wanted_source = None
        for chain in stage.chains:
            refused = chain_verdict(met, tables, chain)
            if refused is not None:
                return refused
            if met.wanted is not None or met.wanted_source is not None:
                break
        met.bound.add(of_source)
        if of_source or met.wanted is not None:
            source, to = met.wanted_source, met.wanted
            flow = tracking.free(flow, met.now, source=source, to=to, anew=met.anew, drawn=met.drawn)
            met.flow = flow
    ends = flow.back() if met.backward else flow.forth()
    if of_source:
        met.source, met.sport = ends.source, ends.sport
    else:
        met.destination = ends.destination
        if met.protocol in PORTED:
            met.dport = ends.dport
    return None


def _translate_error(met: Meeting, flow: Flow, *, of_source: bool) -> None:
    """An ICMP error about a connection, and the packet in it, to what the latter's sender knows."""
    bit = SNAT if of_source is not met.backward else DNAT
    if not flow.status & bit or met.about is None:
        return
    ends = flow.back() if met.backward else flow.forth()
    inside = flow.original if met.backward else flow.reply
    about = met.about
    if of_source:
        met.source = ends.source
        met.about = _inside(about, inside, of_source=False)
    else:
        met.destination = ends.destination
        met.about = _inside(about, inside, of_source=True)


def _inside(about: Packet, ends: Ends, *, of_source: bool) -> Packet:
    if of_source:
        return replace(about, source=address(ends.version, ends.source), sport=ends.sport)
    made = replace(about, destination=address(ends.version, ends.destination))
    return made if about.protocol in (ICMP, ICMPV6) else replace(made, dport=ends.dport)
