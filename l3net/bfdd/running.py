"""One BFD session as the process runs it: the machine, where it sends to, and what the agent has to know."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from l3net.bfd.control import SessionState, WantedSession, decode_command, encode_wanted
from l3net.bfd.intervals import Timing
from l3net.bfd.packet import Packet, PacketError, State, diagnostic_text
from l3net.bfd.session import BfdSession, Random
from l3net.bfdd.echo import EchoSender
from l3net.bfdd.sockets import MAX_TTL, Datagram, Sender


def timing(wanted: WantedSession) -> Timing:
    interval = wanted.min_interval * 1000
    echo = (0, 0) if wanted.multihop else (wanted.echo_transmit * 1000, wanted.echo_receive * 1000)
    return Timing(interval, interval, wanted.multiplier, wanted.passive, *echo)


@dataclass(slots=True, eq=False)
class Running:
    """`failed`: it was up and went down by itself, and nobody has forgiven it since."""

    wanted: WantedSession
    machine: BfdSession
    sender: Sender
    failed: bool = False
    flaps: int = 0
    remote_diagnostic: int = 0
    shares_fate: bool = False
    queued: float | None = None  # the time it stands in the process's heap for
    problem: str = ""
    echo_sender: EchoSender | None = None
    told: tuple[object, ...] | None = None  # what the agent was told beside the state

    def receive(self, packet: Packet, datagram: Datagram, multihop: bool, now: float) -> None:
        """Raises PacketError for a packet that is not this session's, or to be discarded."""
        if not self._came_its_way(datagram, multihop):
            raise PacketError("not from where the session's packets come")
        self.machine.handle(packet, datagram.payload, now)
        self.remote_diagnostic = packet.diagnostic
        self.shares_fate = not packet.control_plane_independent

    def _came_its_way(self, datagram: Datagram, multihop: bool) -> bool:
        wanted = self.wanted
        if (wanted.peer, wanted.local, wanted.multihop) != (datagram.source, datagram.destination, multihop):
            return False
        if not multihop and datagram.ttl != MAX_TTL:
            return False  # RFC 5881 section 5: from farther away than the link
        if wanted.interface is None:
            return True
        try:
            return socket.if_nametoindex(wanted.interface) == datagram.interface
        except OSError:
            return False

    def send(self) -> str:
        """Send what the machine wants sent; what newly keeps it from being sent, empty if nothing does."""
        for payload in self.machine.take():
            self.sender.send(payload)
        for payload in self.machine.echo.take():
            if self.echo_sender is None:
                self.echo_sender = EchoSender(self.wanted)
            self.echo_sender.send(payload)
        problem = self.sender.problem
        if not problem and self.echo_sender is not None and self.echo_sender.problem:
            problem = f"Echo: {self.echo_sender.problem}"
        if problem == self.problem:
            return ""
        self.problem = problem
        return problem

    def close(self) -> None:
        """Close its sockets."""
        self.sender.close()
        if self.echo_sender is not None:
            self.echo_sender.close()

    def takes_echo(self, datagram: Datagram) -> bool:
        """Whether an Echo packet is the peer's, and to be given back (RFC 5880 section 6.8.8)."""
        up = self.machine.state is State.UP and self.wanted.echo_receive > 0
        return up and self._came_its_way(datagram, multihop=False)

    @property
    def _echo(self) -> str:
        machine = self.machine
        if not self.wanted.echo_transmit or self.wanted.multihop:
            return ""
        if machine.echo_lost:
            return "lost"
        if machine.echo.works:
            return "works"
        return "unanswered" if machine.echo.interval else "refused"

    @property
    def _detection_time(self) -> float:
        """By whatever gives the path up first."""
        machine = self.machine
        return min(
            machine.detection_time, machine.echo.detection_time if machine.echo.works else float("inf")
        )

    def news(self) -> list[str]:
        """Take in the changes of state; a line for the log on each."""
        lines = []
        for change in self.machine.take_changes():
            if change.after is State.UP:
                self.failed = False
            elif change.before is State.UP:
                self.flaps += 1
                self.failed = change.failure
            lines.append(f"{self.wanted.peer}: {change.after.text} ({change.diagnostic.text})")
        return lines

    def untold(self) -> bool:
        """Whether timers or the peer's state are others than the agent was told, which it now will be."""
        machine = self.machine
        times = self._detection_time, machine.transmit_interval
        shown = (machine.remote_state, *times, self._echo, machine.echo_lost)
        before, self.told = self.told, shown
        return before != shown

    def state(self) -> SessionState:
        machine = self.machine
        return SessionState(
            peer=self.wanted.peer,
            state=machine.state.text,
            remote_state=machine.remote_state.text,
            since=machine.since,
            diagnostic=machine.diagnostic.text,
            remote_diagnostic=diagnostic_text(self.remote_diagnostic),
            detection_time=round(self._detection_time * 1000, 3),
            transmit_interval=round(machine.transmit_interval * 1000, 3),
            failed=self.failed,
            shares_fate=self.shares_fate,
            flaps=self.flaps,
            echo=self._echo,
            echo_lost=machine.echo_lost,
        )

    # --- handing over ------------------------------------------------------------------------------------

    def handed_over(self) -> dict[str, Any]:
        """What the process that follows needs of it; it may hold a key. The socket becomes inheritable."""
        return {
            "wanted": encode_wanted([self.wanted]).decode(),
            "machine": self.machine.snapshot(),
            "failed": self.failed,
            "flaps": self.flaps,
            "sharesFate": self.shares_fate,
            "remoteDiagnostic": self.remote_diagnostic,
            "socket": self.sender.handed_over(),
        }

    @classmethod
    def taken_over(cls, row: Mapping[str, Any], now: float, random: Random) -> Running:
        """Raises ControlError, PacketError, KeyError, TypeError, ValueError or OSError if it cannot be."""
        command = decode_command(row["wanted"].encode())
        if not isinstance(command, tuple):
            raise TypeError("no session")
        [wanted] = command
        machine = BfdSession.resumed(row["machine"], timing(wanted), now, random, wanted.key)
        return cls(
            wanted,
            machine,
            Sender(wanted, row["socket"]),
            failed=row["failed"],
            flaps=row["flaps"],
            remote_diagnostic=row["remoteDiagnostic"],
            shares_fate=row["sharesFate"],
        )
