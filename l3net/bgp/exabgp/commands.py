"""Commands to ExaBGP 5.0.15, made from typed values only.

ExaBGP finds a command by substring and dies of some words in free text (`shutdown`, `json`), so that nothing
a user wrote ever reaches a command: addresses, prefixes and numbers are all there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

from l3net.bgp.path import Attributes
from l3net.bgp.sessions import Session
from l3net.community import Community, ExtendedCommunity
from l3net.model import Address, Family, Prefix

SHOW_NEIGHBORS = "show neighbor json"
#: Tell prefixes as octets. Of ours (l3net.shell.speaker.exabgp_packed); another ExaBGP refuses it.
PACKED = "l3net form packed"
SHOW_ADJ_RIB_OUT = "show adj-rib out json"
RELOAD = "reload"
#: Of ours (l3net.shell.speaker.exabgp), which another ExaBGP refuses: what waits to be sent to each peer.
SHOW_QUEUES = "l3net peers"
#: Likewise: both sides' OPENs of each session that is up.
SHOW_OPENS = "l3net opens"
#: For the relay, not for ExaBGP: end it, so that its supervisor starts it afresh.
RESTART = "!restart"

#: Prefixes in one line: the fastest of 1, 100 and 1000 with ExaBGP 5.0.15.
PREFIXES_PER_LINE = 100


def _selector(peers: Iterable[Address]) -> str:
    return " , ".join(f"neighbor {peer}" for peer in peers)


def _text(prefix: Prefix) -> str:
    """As `str` has it, in half the time."""
    address = prefix.network_address
    if type(address) is not IPv4Address:  # of ours, the text is known
        return f"{address}/{prefix.prefixlen}"
    first, second, third, fourth = address.packed
    return f"{first}.{second}.{third}.{fourth}/{prefix.prefixlen}"


def _texts(prefixes: Iterable[Prefix]) -> str:
    return " ".join(map(_text, prefixes))


def as_path_on_wire(session: Session, attributes: Attributes) -> tuple[int, ...]:
    """The AS_PATH to hand to ExaBGP, which sends an explicit one as it is (RFC 4271 section 5.1.2)."""
    if session.external and attributes.as_path:
        return (session.local_as, *attributes.as_path)
    return attributes.as_path


def announce(session: Session, next_hop: Address, attributes: Attributes, prefixes: Sequence[Prefix]) -> str:
    """Announce prefixes that share next hop and attributes to one peer."""
    return (
        f"{_selector([session.peer_address])} announce {_described(session, next_hop, attributes, prefixes)}"
    )


def _described(
    session: Session, next_hop: Address, attributes: Attributes, prefixes: Sequence[Prefix]
) -> str:
    words = [f"attributes next-hop {next_hop}"]
    words.append(f"origin {attributes.origin.name.lower()}")
    as_path = as_path_on_wire(session, attributes)
    if as_path:
        words.append(f"as-path [ {' '.join(map(str, as_path))} ]")
    if attributes.local_preference is not None and not session.external:
        words.append(f"local-preference {attributes.local_preference}")
    if attributes.med is not None:
        words.append(f"med {attributes.med}")
    if attributes.originator is not None and not session.external:
        words.append(f"originator-id {attributes.originator}")
    if attributes.clusters and not session.external:
        words.append(f"cluster-list [ {' '.join(map(str, attributes.clusters))} ]")
    numeric = sorted(each for each in attributes.communities if isinstance(each, Community))
    standard = [str(community) for community in numeric if len(community.parts) == 2]
    large = [str(community) for community in numeric if len(community.parts) == 3]
    # In octets: ExaBGP 5.0.15's own words give a route target of a four-octet AS the type of an IPv4 address.
    extended = sorted(
        f"0x{each.octets.hex()}" for each in attributes.communities if isinstance(each, ExtendedCommunity)
    )
    if standard:
        words.append(f"community [ {' '.join(standard)} ]")
    if large:
        words.append(f"large-community [ {' '.join(large)} ]")
    if extended:
        words.append(f"extended-community [ {' '.join(extended)} ]")
    words.append("nlri " + _texts(prefixes))
    return " ".join(words)


def withdraw(
    session: Session,
    prefixes: Sequence[Prefix],
    next_hop: Address | None = None,
    attributes: Attributes | None = None,
) -> str:
    """Withdraw prefixes of one family from one peer, with what they were announced with, if that is known.

    The peer hears nothing of it. But ExaBGP 5.0.15 queues by attributes: a withdrawal queued under others
    than the announcement that follows it may be sent after that, and the peer ends without the route.
    """
    if next_hop is not None and attributes is not None:
        described = _described(session, next_hop, attributes, prefixes)
        return f"{_selector([session.peer_address])} withdraw {described}"
    # ExaBGP wants a next hop of the prefixes' family here and does not use it.
    hop = "0.0.0.0" if prefixes[0].version == 4 else "::"  # noqa: S104 - a placeholder, nothing binds it
    return f"{_selector([session.peer_address])} withdraw attributes next-hop {hop} nlri {_texts(prefixes)}"


def end_of_rib(peer: Address, family: Family) -> str:
    """End-of-RIB (RFC 4724 section 2); ExaBGP refuses it for a session that is not established."""
    return f"{_selector([peer])} announce eor ipv{family.value} unicast"


def teardown(peer: Address, subcode: int) -> str:
    """Close the session and dial again: Cease with this subcode.

    ExaBGP sends no NOTIFICATION when it has offered graceful restart: withdraw first. Ours does for
    ADMINISTRATIVE_SHUTDOWN (`l3net.shell.speaker.exabgp`).
    """
    return f"{_selector([peer])} teardown {subcode}"


def received(token: str, peer: Address) -> str:
    """Tell all that a peer has announced on its session, between a begin and an end with this token.

    Of ours (l3net.shell.speaker.exabgp); another ExaBGP refuses it.
    """
    return f"l3net received {token} neighbor {peer}"


def route_refresh(peer: Address, family: Family) -> str:
    """Ask the peer to announce again all it has (RFC 2918)."""
    return f"{_selector([peer])} announce route-refresh ipv{family.value} unicast"
