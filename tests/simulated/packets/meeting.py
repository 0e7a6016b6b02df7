"""A packet on its way through a node, with all that rules read and change: it lives for one walk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packets.packet import Packet
from packets.values import INVALID, UNTRACKED

if TYPE_CHECKING:
    from packets.choices import Choices
    from packets.conntrack import Flow
    from packets.routes import Fib

#: A chain and a rule in it, or another step of the kernel.
Step = tuple[str, str]


class Meeting:
    """`flow` is its connection, `state` and `backward` what tracking says of the packet. `bound`: what of a
    new connection is settled: its destination (False), its source (True). `drawn`: the port that chance draws
    for its source (0: any)."""

    __slots__ = (
        "about",
        "anew",
        "arrived",
        "backward",
        "bound",
        "choices",
        "copies",
        "counted",
        "destination",
        "dport",
        "drawn",
        "fib",
        "filled",
        "flags",
        "flow",
        "group",
        "hop_to",
        "icmp",
        "in_window",
        "leaves",
        "logged",
        "mac",
        "mark",
        "mss",
        "new",
        "now",
        "packet",
        "protocol",
        "replaces",
        "source",
        "sport",
        "state",
        "steps",
        "table",
        "ttl",
        "version",
        "wanted",
        "wanted_source",
    )  # fmt: skip

    def __init__(
        self, packet: Packet, fib: Fib, choices: Choices, now: float, arrived: str = "", *, drawn: int = 0
    ) -> None:
        self.packet = packet
        self.anew, self.drawn = False, drawn
        self.fib, self.choices, self.now = fib, choices, now
        self.version = packet.source.version
        self.source, self.destination = int(packet.source), int(packet.destination)
        self.protocol, self.sport, self.dport = packet.protocol, packet.sport, packet.dport
        self.flags, self.ttl, self.icmp, self.mark = packet.flags, packet.ttl, packet.icmp, packet.mark
        self.about, self.group, self.in_window = packet.about, packet.group, packet.in_window
        self.mac, self.mss = packet.mac, packet.mss
        self.arrived, self.leaves = arrived, ""
        self.flow: Flow | None = None
        self.state, self.backward, self.new = INVALID, False, False
        self.bound: set[bool] = set()
        self.replaces: Flow | None = None
        self.wanted: tuple[int, int] | None = None
        self.wanted_source: int | None = None
        self.hop_to: Any = None  # the gateway that masquerade goes by
        self.steps: list[Step] = []
        self.copies: list[Any] = []
        self.counted: list[str] = []
        self.logged: list[tuple[str, int]] = []
        self.filled: list[tuple[Any, Any, float]] = []
        self.table: Any = None  # whose rules it meets

    # --- what statements do to it ------------------------------------------------------------------------

    def lead_to(self, address: int, port: int) -> None:
        """Its connection gets another destination."""
        self.wanted = (address, port)

    def lead_from(self, address: int, *, anew: bool = False) -> None:
        """Its connection gets another source, and (`anew`) a port by chance, though its own may be free."""
        self.wanted_source, self.anew = address, anew

    def copy(self, gateway: int, link: str) -> None:
        """A copy of it as it is now is sent."""
        self.copies.append((self.as_packet(), gateway, link))

    def untrack(self) -> None:
        if self.flow is None:
            self.state = UNTRACKED

    @property
    def pkttype(self) -> str:
        return "multicast" if self.group else "host"

    def set_pkttype(self, kind: str) -> None:
        self.group = kind != "host"

    def as_packet(self) -> Packet:
        """As it is by now."""
        old = self.packet
        made = old.source.__class__
        source = old.source if int(old.source) == self.source else made(self.source)
        same = int(old.destination) == self.destination
        destination = old.destination if same else made(self.destination)
        return Packet(
            source,
            destination,
            self.protocol,
            self.sport,
            self.dport,
            self.flags,
            self.ttl,
            self.icmp,
            self.about,
            self.mark,
            self.group,
            self.in_window,
            self.mac,
            self.mss,
        )
