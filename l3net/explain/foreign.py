"""What the nftables chains of others do with the first packet of a connection, as far as their rules can be
read: a rule that cannot may match or not."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final, TypeAlias

from l3net.model import Address
from l3net.naming import PROTOCOL_NUMBERS

#: Where packets pass that are forwarded; in chains of these hooks others may drop them.
HOOKS: Final = ("prerouting", "forward", "postrouting")
#: A port as clients have them, which no rule means.
EPHEMERAL: Final = 50_000
#: Where destinations are translated (NF_IP_PRI_NAT_DST).
_DSTNAT: Final = -100
#: Calls within calls that are followed.
_DEEPEST: Final = 8
_NUMBERS: Final = {str(number): name for name, number in PROTOCOL_NUMBERS.items()}


Rules: TypeAlias = tuple[Sequence[Mapping[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class Packet:
    """The first of a connection, behind any translation; what is None is not known."""

    source: Address | None
    destination: Address
    protocol: str = "tcp"
    port: int | None = None
    source_port: int | None = None
    state: str = "new"

    def answer(self) -> Packet | None:
        """The packet that comes back, where the source is known."""
        if self.source is None:
            return None
        back = EPHEMERAL if self.port is not None else None
        return Packet(self.destination, self.source, self.protocol, back, self.port, "established")


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain of somebody else's: its rules as `nft -j` has them, each a list of statements, and those
    of the chains of its table that rules may call."""

    family: str
    table: str
    name: str
    hook: str
    policy: str
    rules: Rules = ()
    priority: int = 0
    called: Mapping[str, Rules] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"chain {self.name} of table {self.family} {self.table} (hook {self.hook})"


class _Match(enum.Enum):
    YES = 1
    NO = 2
    MAYBE = 3


def drops(chains: Sequence[Chain], packet: Packet, asked: Packet | None = None) -> tuple[str, bool]:
    """What drops the packet or its answer, in words, and whether it surely does; empty: nothing does.

    `asked`: the packet as it comes, before any translation, which chains before that meet.
    """
    early = [chain for chain in chains if chain.hook == "prerouting" and chain.priority < _DSTNAT]
    chains = [chain for chain in chains if chain not in early]
    if early:
        said, surely = _one(early, asked or packet)
        if surely:
            return said, True
    said, surely = _one(chains, packet)
    answer = packet.answer()
    if surely or answer is None:
        return said, surely
    back, surely = _one(chains, answer)
    if surely:
        return f"{back}: the answer", True
    return said or back, False


def _one(chains: Sequence[Chain], packet: Packet) -> tuple[str, bool]:
    possible = ""
    for chain in chains:
        if chain.hook not in HOOKS or not _of_family(chain.family, packet.destination.version):
            continue
        said, surely = _chain(chain, packet)
        if said and surely:
            return said, True
        possible = possible or said
    return possible, False


def _of_family(family: str, version: int) -> bool:
    return family in ("inet", "ip" if version == 4 else "ip6")


@dataclass(slots=True)
class _Walk:
    """One packet on its way through a chain. `unsure`: a rule that cannot be read may have taken it."""

    chain: Chain
    packet: Packet
    unsure: bool = False
    possible: str = ""

    def go(self, rules: Iterable[Sequence[Mapping[str, Any]]], name: str, depth: int = 0) -> str:
        """`drop` (in `possible`, what drops it), `accept`, or empty: it goes on behind these rules."""
        for number, statements in enumerate(rules, 1):
            match, verdict, target = _rule(statements, self.packet)
            if match is _Match.NO or not verdict:
                continue
            surely = match is _Match.YES and not self.unsure
            if verdict == "drop":
                where = "" if name == self.chain.name else f"chain {name}, called from "
                said = f"rule {number} of {where}{self.chain} drops it"
                if surely:
                    self.possible = said
                    return verdict
                self.possible = self.possible or said.replace("drops it", "may drop it")
            elif verdict == "accept" and match is _Match.YES:
                return verdict
            elif verdict in ("jump", "goto") and target in self.chain.called and depth < _DEEPEST:
                self.unsure = self.unsure or match is _Match.MAYBE
                found = self.go(self.chain.called[target], target, depth + 1)
                if found:
                    return found
                if verdict == "goto" and match is _Match.YES:
                    return ""
            elif verdict == "return" and match is _Match.YES:
                return ""
            else:
                self.unsure = True
        return ""


def _chain(chain: Chain, packet: Packet) -> tuple[str, bool]:
    walk = _Walk(chain, packet)
    match walk.go(chain.rules, chain.name):
        case "drop":
            return walk.possible, True
        case "accept":
            return walk.possible, False
    if chain.policy == "drop":
        said = f"the policy of {chain} drops what no rule of its takes"
        if walk.unsure or walk.possible:
            return walk.possible or said.replace("drops", "may drop"), False
        return said, True
    return walk.possible, False


def _rule(statements: Sequence[Mapping[str, Any]], packet: Packet) -> tuple[_Match, str, str]:
    """Whether a rule matches, its verdict (drop, accept, jump, goto, return, other), and which chain it
    calls."""
    match, verdict, target = _Match.YES, "", ""
    for statement in statements:
        word = next(iter(statement), "")
        if word == "match":
            found = _statement(statement["match"], packet)
            if found is _Match.NO:
                return found, "", ""
            match = found if found is _Match.MAYBE else match
        elif word in ("drop", "reject"):
            verdict = "drop"
        elif word in ("accept", "return"):
            verdict = word
        elif word in ("jump", "goto"):
            verdict, target = word, statement[word]["target"]
        elif word in ("vmap", "queue", "xt"):
            verdict = "other"
        elif word == "limit":
            match = _Match.MAYBE
    return match, verdict, target


def _statement(match: Mapping[str, Any], packet: Packet) -> _Match:
    known, value = _left(match.get("left"), packet)
    if not known:
        return _Match.MAYBE
    holds = _in(value, match.get("right"))
    if holds is None:
        return _Match.MAYBE
    wanted = match.get("op", "==") != "!="
    return _Match.YES if holds is wanted else _Match.NO


def _left(left: Any, packet: Packet) -> tuple[bool, Any]:
    """What is compared: whether it is known, and its value."""
    if not isinstance(left, Mapping):
        return False, None
    if "payload" in left:
        payload = left["payload"]
        field, protocol = payload.get("field"), payload.get("protocol")
        if protocol in ("ip", "ip6"):
            if (protocol == "ip") != (packet.destination.version == 4):
                return True, None  # of the other family: nothing equals that
            if field == "daddr":
                return True, packet.destination
            if field == "saddr":
                return packet.source is not None, packet.source
            return False, None
        if protocol in ("tcp", "udp", "sctp") and field in ("dport", "sport"):
            if protocol != packet.protocol:
                return True, None
            port = packet.port if field == "dport" else packet.source_port
            return port is not None, port
        return (True, None) if protocol in PROTOCOL_NUMBERS and protocol != packet.protocol else (False, None)
    if left.get("meta", {}).get("key") in ("l4proto", "protocol"):
        return True, packet.protocol if left["meta"]["key"] == "l4proto" else None
    if left.get("ct", {}).get("key") == "state":
        return True, packet.state
    return False, None


def _in(value: Any, right: Any) -> bool | None:
    """Whether a value equals what stands on the right, or is in it; None: that cannot be read."""
    if isinstance(right, Mapping) and "set" in right:
        right = right["set"]
    if isinstance(right, list):
        found = [_in(value, each) for each in right]
        return True if True in found else None if None in found else False
    if value is None:
        return False
    if isinstance(right, Mapping):
        return _in_mapping(value, right)
    if isinstance(right, str) and right.startswith("@"):
        return None
    if isinstance(value, int):
        return bool(right == value)
    if isinstance(value, str):
        return _NUMBERS.get(str(right), str(right)) == value
    try:
        return bool(ip_address(right) == value)
    except ValueError:
        return None


def _in_mapping(value: Any, right: Mapping[str, Any]) -> bool | None:
    if "prefix" in right and not isinstance(value, int | str):
        return bool(value in ip_network(f"{right['prefix']['addr']}/{right['prefix']['len']}", strict=False))
    if "range" in right:
        low, high = right["range"]
        if isinstance(value, int):
            return bool(low <= value <= high)
        try:
            return bool(ip_address(low) <= value <= ip_address(high))
        except (ValueError, TypeError):
            return None
    return None
