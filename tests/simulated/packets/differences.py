"""Where the real kernel and the interpreter do not say the same of a packet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from table_side import InForce

from l3net.model import Address
from l3net.naming import BRIDGE
from packets.kernel_node import WAYS, KernelNode, twin
from packets.outcomes import Delivered, Forwarded, Lost, Outcome, Rejected
from packets.packet import ACK, ERRORS, FIN, ICMP, ICMPV6, RST, TCP, UDP, Packet
from packets.random_nodes import CLIENTS, PODS, RandomNode
from packets.routes import Fib
from packets.stack import SimStack
from packets.table import SimTable

#: What is heard of one packet, in order: links, and what is compared of the packets; or how it is rejected.
Seen = tuple[Any, ...]
_CODES = {
    (4, 3): {0: "no-route", 1: "host-unreachable", 3: "port-unreachable"},
    (4, 11): {0: "time-exceeded"},
}
_CODES |= {
    (6, 1): {0: "no-route", 2: "beyond-scope", 3: "host-unreachable", 4: "port-unreachable"},
    (6, 3): {0: "time-exceeded"},
}


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
    # What is sent to a link-local address is sent by a link, of which routes do not know.
    unsure = back is None or back.discards or back.local or _link_local(sent.source)
    return [answered, alone] if unsure else [answered]


@dataclass(frozen=True)
class Event:
    """What has happened to a node: a transaction (`text`), or a packet by a link, and what the kernel did."""

    text: str = ""
    packet: Packet | None = None
    link: str = ""
    seen: Seen = ()


class Judge:
    """An interpreter that goes along with the kernel: of what may have happened it takes what has.

    The outcome of a hash is calculated; what the kernel does has to be among all that it may do, too.
    """

    def __init__(self) -> None:
        self.table = SimTable()
        self.stack = SimStack(twin(), lambda: self.table, dict, ways=lambda: WAYS)
        self.wrong: list[str] = []
        self.met: Counter[str] = Counter()  # outcomes by their kind

    def amend(self, text: str) -> None:
        self.table = self.table.amended(text)
        self.table.parse()

    def judge(self, packet: Packet, link: str, seen: Seen) -> Outcome | None:
        """The outcome that has happened, which is taken; None: there is none such."""
        self.stack.drawn = next((each[1][1] for each in seen if each[0] != "rejected"), 0)
        outcomes = self._outcomes(packet, link, exact=True)
        fib = self.stack.fib
        possible = outcomes
        if any(what.startswith("jhash") for each in outcomes for what, _ in each.chosen):
            possible = self._outcomes(packet, link, exact=False)
        found = next((each for each in outcomes if seen in said(each, fib)), None)
        if found is None or not any(seen in said(each, fib) for each in possible):
            told = "\n".join(map(str, outcomes))
            by = link or "the host"
            self.wrong.append(f"{packet} by {by}: the kernel {seen or 'drops it'}, not\n{told}")
            return None
        self.met.update(type(each).__name__ for each in found.everywhere())
        self.met["copies"] += len(found.copies)
        return self.stack.take(found)

    def _outcomes(self, packet: Packet, link: str, *, exact: bool) -> tuple[Outcome, ...]:
        self.stack.exact = exact
        return self.stack.receive(packet, link) if link else self.stack.send(packet)

    def again(self, events: Iterable[Event]) -> list[str]:
        """What was heard of the kernel once more; until the first difference."""
        for event in events:
            if event.packet is None:
                self.amend(event.text)
            elif self.judge(event.packet, event.link, event.seen) is None:
                break
        return self.wrong


class Compared:
    """A node of the real kernel and an interpreter, with the same tables. `events` is all that happened."""

    def __init__(self, node: KernelNode, wanted: RandomNode) -> None:
        self._node, self._wanted, self._chance = node, wanted, wanted.chance
        self._held = InForce(wanted.plan)
        self.judge = Judge()
        self.events: list[Event] = []
        published = wanted.extras()
        node.forget()
        node.publish(published)
        node.apply(self._held.text)
        for text in (published, self._held.text):
            self._happens(Event(text))
        self._sport = 20000
        self._old: list[tuple[Packet, str, Outcome | None]] = []

    @property
    def packets(self) -> int:
        return sum(1 for each in self.events if each.packet is not None)

    def run(self, packets: int, changes: int = 2) -> list[str]:
        """So many packets (and their answers), with changes in between; where both differ."""
        for change in range(changes + 1):
            if change:
                self.change()
                self._go_on_with_old_ones()
            for _ in range(packets // (changes + 1)):
                self.try_one()
        return self.judge.wrong

    def _happens(self, event: Event) -> Outcome | None:
        self.events.append(event)
        if event.packet is None:
            self.judge.amend(event.text)
            return None
        return self.judge.judge(event.packet, event.link, event.seen)

    def change(self) -> None:
        text = self._held.follow(self._wanted.change())
        if text:
            self._node.amend(text)
            self._happens(Event(text))

    def try_one(self) -> None:
        """A packet, and as far as it gets through what follows it in its connection."""
        self._sport += 1
        packet, link = self._wanted.packet(self._sport)
        outcome = self._compare(packet, link)
        if outcome is None or packet.flags & (RST | ACK) or packet.protocol not in (TCP, UDP):
            return
        if self._chance.random() < 0.15:
            self._old.append((packet, link, None))
            return
        for _ in range(self._chance.choice((0, 1, 3))):
            if not isinstance(outcome, Delivered | Forwarded | Lost) or self.judge.wrong:
                return
            outcome = self._go_on(packet, link, outcome)
            if outcome is not None and outcome.effects.noted is None:
                return  # it is invalid, and who is answered is nobody's connection
        if isinstance(outcome, Delivered | Forwarded | Lost) and not packet.flags & FIN:
            self._old.append((packet, link, outcome))

    def _go_on_with_old_ones(self) -> None:
        """Connections of before a change: those that nobody has answered begin once more."""
        for packet, link, outcome in self._old[-12:]:
            if self.judge.wrong:
                return
            if outcome is None:
                self._compare(packet, link)
            else:
                self._go_on(packet, link, outcome)
        self._old = []

    def _go_on(self, packet: Packet, link: str, outcome: Outcome) -> Outcome | None:
        back = _link_of(outcome)
        if back is None or _link_local(packet.source):
            return None
        arrived, chance = outcome.packet, self._chance
        self._compare(arrived.answer(), back, answers=True)
        if chance.random() < 0.3:
            teller = chance.choice(CLIENTS if back != BRIDGE else PODS)[packet.version]
            sender = type(arrived.source)(teller) if chance.random() < 0.5 else arrived.destination
            kind = chance.choice(sorted(ERRORS[packet.version]))
            if sender != arrived.source and back:
                self._compare(arrived.error(sender, kind), back)
        following = packet.following()
        if chance.random() < 0.15 and packet.protocol == TCP:
            # What it leads to is over with that: it is not translated, and meets connections of others.
            self._compare(replace(following, in_window=False), link)
            return None
        return self._compare(following, link)

    def _compare(self, packet: Packet, link: str, *, answers: bool = False) -> Outcome | None:
        if link:
            heard = self._node.receive(packet, link, answers=answers)
        else:
            heard = self._node.send(packet, answers=answers)
        return self._happens(Event(packet=packet, link=link, seen=really(packet, heard)))


def _link_local(address: Address) -> bool:
    return address.version == 6 and address.is_link_local


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
