"""Fields that a neighbour has in both of MetalLB's forms."""

from __future__ import annotations

from dataclasses import replace

from l3net.community import AnyCommunity, parse_community
from l3net.importing.source import SourceObject, as_number, seconds
from l3net.kube.fields import Field
from l3net.model import BfdSettings, BgpPeer, ObjectName, SecretKey


def community(at: Field) -> AnyCommunity:
    """MetalLB writes `large:` before large ones."""
    try:
        return parse_community(at.text().removeprefix("large:"))
    except ValueError as err:
        raise at.wrong(str(err)) from None


def peer_as(each: SourceObject, spec: Field, field: str, own: int, interface: str | None) -> int | None:
    """The peer's AS number; None: any other than ours, of a peer on an interface."""
    if spec[field].value:
        return as_number(spec[field])
    dynamic = spec["dynamicASN"].text(default="")
    if dynamic == "internal":
        each.carried(spec["dynamicASN"], "spec.asNumber, the node's own")
        return own
    if dynamic == "external" and interface:
        each.carried(spec["dynamicASN"], "no asNumber: whatever AS the peer is of, but the node's")
        return None
    if dynamic == "external":
        raise spec["dynamicASN"].wrong("a peer with an address has to have an AS number")
    raise spec[field].wrong("is required")


def hold_time(at: Field) -> int | None:
    """None: nothing is said."""
    if not at.present:
        return None
    found = seconds(at)
    if found in (1, 2) or found > 65535:
        raise at.wrong(f"{found} s is no hold time: 0, or 3 to 65535 seconds (RFC 4271 section 4.2)")
    return found


def told_of_timers(each: SourceObject, spec: Field) -> None:
    """Keepalives and the time between attempts, which l3net works out itself."""
    keepalive, hold = spec["keepaliveTime"], spec["holdTime"]
    if keepalive.present and hold.present and seconds(keepalive) * 3 == seconds(hold):
        each.carried(keepalive, "a third of holdTime, as ever")
    else:
        each.changed(keepalive, "keepalives go out at a third of holdTime")
    each.changed(spec["connectTime"], "l3net dials anew by a timer of its own")


def password(each: SourceObject, spec: Field, name: str, namespace: str) -> SecretKey | None:
    """A reference. Of a password that stands in the object itself nothing is told but that it is there."""
    ref = spec["passwordSecret"]
    if ref["name"].text(default=""):
        where = ref["namespace"].text(default="") or namespace
        each.carried(ref, f"password.secretKeyRef {where}/{ref['name'].text()}, key password")
        return SecretKey(ObjectName(where, ref["name"].text()), "password")
    if spec["password"].value not in (None, ""):  # of whatever type: an error of one would quote it
        each.unsaid(
            spec["password"],
            f"the password stands in the object: put it into Secret kube-system/{name}, key password, to "
            "which the BGPPeer refers; without it the session stays down",
        )
        return SecretKey(ObjectName("kube-system", name), "password")
    return None


def without_echo(each: SourceObject, at: Field, peer: BgpPeer) -> BgpPeer:
    """A peer over several hops without BFD's echo, which is for one hop."""
    if peer.multihop is None or peer.bfd is None or not peer.bfd.echo_transmit:
        return peer
    each.changed(at, "without echo, which BFD does not have over several hops (RFC 5883)")
    return replace(peer, bfd=replace(peer.bfd, echo_transmit=0, echo_receive=0))


def bfd(each: SourceObject, at: Field) -> BfdSettings:
    """One interval is for both directions in l3net, and 50 ms the least."""
    receive = at["receiveInterval"].integer(10, 60_000, default=300)
    transmit = at["transmitInterval"].integer(10, 60_000, default=300)
    interval = max(receive, transmit, 50)
    for field, value in (("receiveInterval", receive), ("transmitInterval", transmit)):
        if value == interval:
            each.carried(at[field], "spec.bfd.minInterval")
        else:
            each.changed(
                at[field], f"one interval is for both directions, and 50 ms the least: {interval} ms"
            )
    echo = 0
    if at["echoMode"].flag(default=False):
        echo = max(at["echoInterval"].integer(10, 60_000, default=50), 50)
        each.carried(at["echoInterval"], "spec.bfd.echo")
    else:
        each.carried(at["echoInterval"], "not used: echoMode is off")
    for field, into in (("echoMode", "echo"), ("passiveMode", "passive"), ("detectMultiplier", "multiplier")):
        each.carried(at[field], f"spec.bfd.{into}")
    each.unsaid(at["minimumTtl"], "BFD over several hops takes packets of any TTL")
    return BfdSettings(
        min_interval=interval,
        multiplier=at["detectMultiplier"].integer(1, 255, default=3),
        passive=at["passiveMode"].flag(default=False),
        echo_transmit=echo,
        echo_receive=echo,
    )
