"""Where the real kernel and the interpreter do not say the same of a packet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from table_side import InForce

from l3net.naming import BRIDGE
from packets.kernel_node import KernelNode, twin
from packets.outcomes import Delivered, Forwarded, Lost, Outcome, Rejected
from packets.packet import ACK, ERRORS, ICMP, ICMPV6, RST, TCP, UDP, Packet
from packets.random_nodes import CLIENTS, PODS, RandomNode
from packets.routes import Fib
from packets.stack import SimStack
from packets.table import SimTable

#: What is heard of one packet, in order: links, and what is compared of the packets; or how it is rejected.
Seen = tuple[Any, ...]
_CODES = {(4, 3): {0: "no-route", 1: "host-unreachable", 3: "port-unreachable"}, (4, 11): {0: "time-exceeded"}}
_CODES |= {(6, 1): {0: "no-route", 3: "host-unreachable", 4: "port-unreachable"}, (6, 3): {0: "time-exceeded"}}


def compared(packet: Packet) -> tuple[Any, ...]:
    about = packet.about
    inside = about and (about.source, about.sport, about.destination, about.dport, about.protocol)
    sport = 0 if about else packet.sport
    ends = (packet.source, sport, packet.destination, packet.dport, packet.protocol)
    return (*ends, packet.flags, packet.ttl, packet.icmp, packet.mss, inside)


def really(sent: Packet, heard: list[tuple[str, Packet]]) -> Seen:
    """What the kernel did."""
    found: list[Any] = []
    for link, packet in heard:
        about, version = packet.about, packet.version
        if about is not None and sent.about is None:
            how = _CODES.get((version, packet.icmp), {}).get(packet.sport, f"code {packet.sport}")
            found.append(("rejected", how))
        elif packet.flags & RST and not sent.flags & RST:
            found.append(("rejected", "tcp reset"))
        else:
            found.append((link, compared(packet)))
    return tuple(sorted(found, key=str))


def said(outcome: Outcome, fib: Fib) -> list[Seen]:
    """What the kernel is to be heard doing by an outcome; one of these."""
    found: list[Any] = []
    refused = ""
    for each in outcome.everywhere():
        match each:
            case Delivered(to=to) if not to:
                found.append(("host", compared(each.packet)))
            case Delivered():
                found.append((BRIDGE, compared(each.packet)))
            case Forwarded():
                found.append((each.interface, compared(each.packet)))
            case Lost(why="no pod has this address"):
                found.append((BRIDGE, compared(each.packet)))
            case Rejected():
                refused = each.how
            case Lost(why="no route"):
                refused = "no-route"
            case _:
                pass
    alone = tuple(sorted(found, key=str))
    if not refused:
        return [alone]
    sent = outcome.packet
    answered = tuple(sorted((*found, ("rejected", refused)), key=str))
    error = sent.protocol in (ICMP, ICMPV6) and sent.icmp in ERRORS[sent.version]
    silent = error or (refused == "tcp reset" and sent.flags & RST)
    if silent:
        return [alone]
    back = fib.route_to(sent.version, int(sent.source))
    unsure = back is None or back.discards or back.local
    return [answered, alone] if unsure else [answered]


@dataclass
class Compared:
    """A node of both kinds, with the same tables.

    The outcome of a hash is calculated; that which the kernel has is among all that it may have.
    """

    node: KernelNode
    wanted: RandomNode
    packets: int = 0
    wrong: list[str] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)  # how often outcomes of a kind were met

    def __post_init__(self) -> None:
        self._held = InForce(self.wanted.plan)
        self._table = SimTable.of(self._held.text)
        self._table.parse()
        self.node.forget()
        self.node.apply(self._held.text)
        self.stack = SimStack(twin(), lambda: self._table, dict)
        self._sport = 20000

    def change(self) -> None:
        text = self._held.follow(self.wanted.change())
        if text:
            self._table = self._table.amended(text)
            self._table.parse()
            self.node.amend(text)

    def try_one(self) -> None:
        """A packet, and as far as it gets through what follows it in its connection."""
        self._sport += 1
        packet, link = self.wanted.packet(self._sport)
        outcome = self._compare(packet, link, answers=False)
        chance = self.wanted.chance
        if outcome is None or packet.flags & (RST | ACK) or packet.protocol not in (TCP, UDP):
            return
        for _ in range(chance.choice((0, 1, 3))):
            if not isinstance(outcome, Delivered | Forwarded | Lost) or self.wrong:
                return
            outcome = self._go_on(packet, link, outcome, chance)

    def _go_on(self, packet: Packet, link: str, outcome: Outcome, chance: Random) -> Outcome | None:
        back = _link_of(outcome)
        if back is None:
            return None
        arrived = outcome.packet
        self._compare(arrived.answer(), back, answers=True)
        if chance.random() < 0.3:
            teller = chance.choice(CLIENTS if back != BRIDGE else PODS)[packet.version]
            sender = type(arrived.source)(teller) if chance.random() < 0.5 else arrived.destination
            kind = chance.choice(sorted(ERRORS[packet.version]))
            if sender != arrived.source and back:
                self._compare(arrived.error(sender, kind), back, answers=False)
        following = packet.following()
        if chance.random() < 0.15 and packet.protocol == TCP:
            # What it leads to is over with that: it is not translated, and meets connections of others.
            self._compare(replace(following, in_window=False), link, answers=False)
            return None
        return self._compare(following, link, answers=False)

    def _outcomes(self, packet: Packet, link: str, *, exact: bool) -> tuple[Outcome, ...]:
        self.stack.exact = exact
        return self.stack.receive(packet, link) if link else self.stack.send(packet)

    def _compare(self, packet: Packet, link: str, *, answers: bool) -> Outcome | None:
        """The outcome that has happened, which is taken; None: there is none such."""
        self.packets += 1
        outcomes = self._outcomes(packet, link, exact=True)
        if link:
            heard = self.node.receive(packet, link, answers=answers)
        else:
            heard = self.node.send(packet, answers=answers)
        real = really(packet, heard)
        fib = self.stack.fib
        possible = ""
        if any(what.startswith("jhash") for each in outcomes for what, _ in each.chosen):
            everything = self._outcomes(packet, link, exact=False)
            if not any(real in said(each, fib) for each in everything):
                outcomes, possible = (), "\n".join(map(str, everything))
        for outcome in outcomes:
            if real in said(outcome, fib):
                for each in outcome.everywhere():
                    name = type(each).__name__
                    self.met[name] = self.met.get(name, 0) + 1
                return self.stack.take(outcome)
        told = "\n".join(map(str, outcomes)) + possible
        self.wrong.append(f"{packet} by {link or 'the host'}: the kernel {real or 'drops it'}, not\n{told}")
        return None


def _link_of(outcome: Outcome) -> str | None:
    """By which link an answer comes back."""
    if outcome.copies:
        return None
    match outcome:
        case Delivered(to=""):
            return ""
        case Forwarded():
            return outcome.interface
        case Delivered() | Lost():
            return BRIDGE
    return None

