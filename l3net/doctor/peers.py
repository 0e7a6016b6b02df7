"""Why a BGP session is down: what the agent knows, one unsigned connection, and the kernel's counters."""

from __future__ import annotations

from collections.abc import Sequence

from l3net.doctor.findings import Counters, Finding, Peer, PeerLook, Probe, ProbeAnswer, Severity
from l3net.notification import Notification, in_reason

CHECK = "peer"
#: Hold Timer Expired, by us (RFC 4271 section 4.5).
_HOLD_TIMER_EXPIRED = Notification(4, 0, received=False)
#: A router that sends the cluster's own routes back is no reason to worry (RFC 4271 section 9.1.2).
_ECHO = "asPathLoop"
_FLAPS = 3


def judge_peer(
    peer: Peer, look: PeerLook | None, counters: Counters, link: str = "", filtered: Sequence[str] = ()
) -> list[Finding]:
    """The findings on one peer; `look` and `counters` matter only while it is down.

    `link`: that of the session where it is dead. `filtered`: the node's own blocks that it is not told of,
    and why.
    """
    if link:
        until = "" if not peer.established else "; the session ends when the hold time is over"
        return [
            _finding(
                peer,
                Severity.PROBLEM,
                f"its link {link} has no carrier{until}",
                f"look at the cable and the port on the other side: `ip link show {link}`",
            )
        ]
    if not peer.established:
        what, remedy = _down(peer, look, counters)
        last = f" (the session's last word: {peer.reason})" if peer.reason else ""
        return [_finding(peer, Severity.PROBLEM, f"down: {what}{last}", remedy)]
    found = [
        _finding(
            peer,
            Severity.PROBLEM,
            f"announces more {family} prefixes than its limit; additional ones are not imported",
            "find out why it sends so many, or raise maxPrefixes of the BGPPeer",
        )
        for family in peer.over_limit
    ]
    if peer.received and not peer.accepted and set(peer.refused) - {_ECHO}:
        reasons = ", ".join(f"{count} {reason}" for reason, count in peer.refused.items())
        found.append(
            _finding(
                peer,
                Severity.WARNING,
                f"none of its {peer.received} paths is accepted: {reasons}",
                "`l3net bgp routes` shows each with its verdict; noImportPolicy wants import.cidrs or a "
                "filter that accepts it (RFC 8212)",
            )
        )
    if filtered:
        found.append(
            _finding(
                peer,
                Severity.WARNING,
                f"it does not get the node's own {', '.join(filtered)}: pods are not reachable through it",
                "if that is not meant, look at the BGPPeer's filters; `l3net bgp announced` has each verdict",
            )
        )
    elif not peer.announced:
        found.append(
            _finding(
                peer,
                Severity.WARNING,
                "nothing is announced to it",
                "look at `advertise` of the BGPConfiguration, the export filters of the BGPPeer, and whether "
                "the Node has blocks",
            )
        )
    if peer.flaps >= _FLAPS:
        found.append(
            _finding(
                peer,
                Severity.WARNING,
                f"the session went down {peer.flaps} times",
                "the speaker's log and the router's say why each time; look for a lossy link or too "
                "short a holdTime",
            )
        )
    if found:
        return found
    counts = f"{peer.accepted} of {peer.received} paths accepted, {peer.announced} announced"
    return [_finding(peer, Severity.OK, f"established, {counts}")]


def _finding(peer: Peer, severity: Severity, what: str, remedy: str = "") -> Finding:
    return Finding(CHECK, f"{peer.name} ({peer.address})", severity, what, remedy)


def _down(peer: Peer, look: PeerLook | None, counters: Counters) -> tuple[str, str]:
    if look is None:
        return "not probed", "give it a few seconds and look again"
    plain = look.plain
    if plain.answer is ProbeAnswer.UNREACHABLE:
        return (
            f"it cannot be reached: {plain.detail}",
            f"`ip route get {peer.address}` and `ip neigh show {peer.address}`: check the cable, the "
            "link's state, "
            "VLAN and addresses on both sides",
        )
    if peer.passive and plain.answer is not ProbeAnswer.ACCEPTED:
        return _not_connected(peer, look, counters)
    if plain.answer is ProbeAnswer.REFUSED:
        return (
            f"it refuses TCP connections to port {peer.port}",
            f"start BGP on the router, let it listen on {peer.address} port {peer.port}, or let its "
            "firewall pass "
            f"{peer.local_address}",
        )
    if plain.answer is ProbeAnswer.SILENT:
        return _silent(peer, look, counters)
    return _accepted(peer, plain, counters, look.near)


def _not_connected(peer: Peer, look: PeerLook, counters: Counters) -> tuple[str, str]:
    """A peer that has to dial need not listen: that it refuses our connection, or is silent, is no fault."""
    seen = _seen(peer, look, counters)
    if seen is not None:
        return seen
    told = in_reason(peer.reason)
    if told is not None and told.received:
        return _told(peer, told)
    return (
        f"it has not connected to {peer.local_address} port {peer.listen_port}, where the node waits for it "
        "(passive)",
        f"let the router connect: check that it has {peer.local_address} as a neighbour, and that "
        "no firewall "
        "is between; `--watch 130` analyzes its attempts; or remove `passive` from the BGPPeer",
    )


def _seen(peer: Peer, look: PeerLook, counters: Counters) -> tuple[str, str] | None:
    """What is told by the TTL of what it answers, or by what the kernel has dropped."""
    if look.far is not None and look.far.answer is ProbeAnswer.ACCEPTED:
        return (
            "it answers only packets with TTL 255: it demands GTSM (RFC 5082)",
            "set `gtsm: true` in the BGPPeer, or take ttl-security off on the router",
        )
    if peer.gtsm and counters.ttl_too_low:
        return _gtsm_missing(peer)
    if peer.password and (counters.md5_wrong or counters.md5_unexpected):
        # unexpected: it met the listener of --listen, which has no password
        return (
            "the TCP MD5 passwords differ: it signs its packets, and does not take ours",
            "put the same password into the router and into the Secret that the BGPPeer names",
        )
    if peer.password and counters.md5_missing:
        return _no_password_there(peer)
    if not peer.password and counters.md5_unexpected:
        return (
            "it signs its packets (TCP MD5), and we have no password for it",
            "name the Secret with the password in `password` of the BGPPeer, or take it off on the router",
        )
    return None


def _silent(peer: Peer, look: PeerLook, counters: Counters) -> tuple[str, str]:
    seen = _seen(peer, look, counters)
    if seen is not None:
        return seen
    again = "look again with `--listen --watch 130`: when the router tries to connect, the kernel tells which"
    if peer.password:
        return (
            f"packets to its port {peer.port} meet silence, signed or not: most likely the TCP MD5 passwords "
            "differ, or else a firewall is between",
            f"compare the router's password with the Secret that the BGPPeer names; or {again}",
        )
    return (
        f"packets to its port {peer.port} meet silence: it expects a TCP MD5 password, or a firewall is "
        "between",
        f"look at the router's password for {peer.local_address} and at firewalls; or {again}",
    )


def _is_far(near: Probe | None) -> bool:
    """It answered, but not where only TTL 255 counts."""
    return near is not None and near.answer is ProbeAnswer.SILENT


#: What a router complains of, and what to do; for others its log says more.
_REMEDIES = {
    (
        2,
        2,
    ): "the router expects another AS number: compare its remote-as for {local} with `asNumber` here",
    (2, 3): "two routers have one BGP identifier: give the node or the router another router ID",
    (2, 6): "the router does not take the hold time: raise `holdTime` of the BGPPeer",
    (
        2,
        7,
    ): "the router lacks a capability it was offered: see `families` and `extendedNextHop` of the BGPPeer",
    (
        6,
        1,
    ): "the node announces more prefixes than the router allows: raise the limit there, or announce less",
    (6, 2): "the neighbour {local} is shut down on the router: enable it again",
    (6, 3): "configure {local} as a neighbour on the router again",
    (6, 4): "the session was reset on the router: it comes back by itself",
    (6, 5): "the router does not accept connections from {local}: configure it as a neighbour there",
    (6, 8): "the router is out of memory or of other resources",
    (6, 10): "BFD on the router calls the path dead: see `l3net status`, BFD, and the link",
}


#: What the node itself complains of in the router's OPEN, and what to do.
_OWN_COMPLAINTS = {
    (2, 2): (
        "it is not in AS {as_number}, which the BGPPeer says",
        "compare `asNumber` of the BGPPeer with the AS of the router at {address}",
    ),
    (2, 3): (
        "its BGP identifier is not acceptable: most likely it is this node's own",
        "give the node or the router another router ID",
    ),
    (2, 6): (
        "its hold time is not acceptable: 1 or 2 seconds (RFC 4271 section 4.2)",
        "set a hold time of 3 seconds or more on the router",
    ),
}


def _complained(peer: Peer, told: Notification) -> tuple[str, str] | None:
    """What the node found wrong in the router's OPEN: a router that waits after that closes our probe."""
    if told.received or (told.code, told.subcode) not in _OWN_COMPLAINTS:
        return None
    what, remedy = _OWN_COMPLAINTS[told.code, told.subcode]
    return what.format(as_number=peer.as_number), remedy.format(address=peer.address)


def _told(peer: Peer, told: Notification) -> tuple[str, str]:
    remedy = _REMEDIES.get((told.code, told.subcode), "the router's log explains it")
    return f"the router ended the session: {told}", remedy.format(local=peer.local_address)


def _accepted(peer: Peer, plain: Probe, counters: Counters, near: Probe | None) -> tuple[str, str]:
    if peer.password:
        return _no_password_there(peer)
    if peer.gtsm and (counters.ttl_too_low or _is_far(near)):
        return _gtsm_missing(peer)
    told = in_reason(peer.reason)
    if told is not None and told.received:
        return _told(peer, told)
    if plain.as_number is not None and peer.as_number not in (None, plain.as_number):
        return (
            f"it is AS {plain.as_number}, and the BGPPeer says {peer.as_number}",
            f"set `asNumber: {plain.as_number}` in the BGPPeer if that is the router you mean",
        )
    complaint = _complained(peer, told) if told is not None else None
    if complaint is not None:
        return complaint
    if plain.notification is not None or plain.closed:
        code = plain.notification
        how = f" with a NOTIFICATION: {Notification(*code, received=True)}" if code else ""
        return (
            f"it accepts TCP and closes at once{how}: most likely it has no neighbour {peer.local_address}",
            f"configure {peer.local_address} as a neighbour on the router, and see that it is not "
            "shut down there",
        )
    if told == _HOLD_TIMER_EXPIRED and not peer.gtsm:
        return (
            "it comes up, then nothing arrives any more until the hold time is over: the peer "
            "demands GTSM (RFC 5082), or large packets are lost on the way (MTU)",
            f"set `gtsm: true` in the BGPPeer if the router has ttl-security; else try "
            f"`ping -M do -s 1400 {peer.address}`",
        )
    if plain.as_number is not None:
        return (
            "TCP works and its OPEN is in order, so the session fails later or is just coming up",
            "look again in a few seconds; then the last word above, the speaker's log and the "
            "router's say more",
        )
    if peer.passive:
        return _not_connected(peer, PeerLook(plain), Counters())  # those of others accuse none that answers
    return (
        "it accepts TCP and sends nothing",
        "the router may be waiting for us to speak first: look at the speaker's log and the router's",
    )


def _gtsm_missing(peer: Peer) -> tuple[str, str]:
    return (
        "its packets arrive with a TTL below 255, and the BGPPeer has `gtsm: true`",
        "turn ttl-security on for this neighbour on the router; if it is more than one hop away, use "
        "`multihop`",
    )


def _no_password_there(peer: Peer) -> tuple[str, str]:
    return (
        f"it does not sign its packets: it has no TCP MD5 password for {peer.local_address}, and the "
        "BGPPeer has one",
        f"set the password for neighbour {peer.local_address} on the router, or take `password` out "
        "of the BGPPeer",
    )
