"""What the nftables chains of others do with the first packet of a connection, as far as their rules can be
read: drop it, send it elsewhere, keep it from being tracked. A rule that cannot be read may match or not."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
#: Where connections are tracked (NF_IP_PRI_CONNTRACK): what is untracked before that is never translated.
_CONNTRACK: Final = -200
#: Extensions of iptables (nft says no more of them) that match what the rest of the rule matches, or do
#: nothing to a packet that matters here.
_IDLE: Final = frozenset({"comment", "tcp", "udp", "MARK", "CONNMARK", "LOG", "NFLOG"})
#: Calls within calls that are followed.
_DEEPEST: Final = 8
_NUMBERS: Final = {str(number): name for name, number in PROTOCOL_NUMBERS.items()}


Rules: TypeAlias = tuple[Sequence[Mapping[str, Any]], ...]
#: Where a packet is sent instead; None: an address of this host, or what cannot be read.
Target: TypeAlias = tuple[Address | None, int | None]


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
    of the chains of its table that rules may call. `kind`: filter or nat; `sets`: elements of the sets and
    maps of its table."""

    family: str
    table: str
    name: str
    hook: str
    policy: str
    rules: Rules = ()
    priority: int = 0
    called: Mapping[str, Rules] = field(default_factory=dict, hash=False)
    kind: str = "filter"
    sets: Mapping[str, Sequence[Any]] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"chain {self.name} of table {self.family} {self.table} (hook {self.hook})"


@dataclass(frozen=True, slots=True)
class Diverted:
    """A packet that others take before the service table. `by`: their chain; `to`: where it may be sent,
    empty: it is kept from being tracked, and so from any translation."""

    by: str
    to: tuple[Target, ...] = ()


def diverted(chains: Sequence[Chain], packet: Packet, before: int | None) -> Diverted | None:
    """What surely takes a packet, as it comes, before the service table does. `before`: the priority at which
    that translates destinations; None: there is none of ours, and any chain counts."""
    version = packet.destination.version
    own = [each for each in chains if each.hook == "prerouting" and _of_family(each.family, version)]
    for chain in own:
        if chain.kind == "filter" and chain.priority < _CONNTRACK:
            seek = _Seek(chain, packet, "notrack")
            if seek.go(chain.rules)[0] == "notrack":
                return Diverted(str(chain))
    for chain in sorted(own, key=lambda each: each.priority):
        if chain.kind == "nat" and (before is None or chain.priority < before):
            seek = _Seek(chain, packet, "dnat")
            word, targets = seek.go(chain.rules)
            if word == "dnat":
                return Diverted(str(chain), tuple(dict.fromkeys((*seek.possible, *targets))))
    return None


@dataclass(slots=True)
class _Seek:
    """A packet on its way through a chain, until a verdict is met that is sought. `possible`: where rules may
    send it that cannot be read, such as one of several at random."""

    chain: Chain
    packet: Packet
    sought: str
    possible: list[Target] = field(default_factory=list)

    def go(self, rules: Rules, depth: int = 0) -> tuple[str, tuple[Target, ...]]:
        """The verdict that surely ends it here, and where it is sent; empty: it goes on behind the rules."""
        for statements in rules:
            read = _rule(statements, self.packet, self.chain.sets)
            sure = read.match is _Match.YES
            if read.match is _Match.NO or not read.verdict:
                continue
            found: tuple[str, tuple[Target, ...]] = ("", ())
            if read.verdict == self.sought:
                found = read.verdict, (read.to,)
            elif read.verdict in ("jump", "goto") and depth < _DEEPEST:
                inner = [self.go(self.chain.called.get(name, ()), depth + 1) for name in read.calls]
                if {word for word, _ in inner} == {self.sought}:
                    found = self.sought, tuple(each for _, targets in inner for each in targets)
                else:
                    self.possible += [each for word, targets in inner if word for each in targets]
                if not found[0] and read.verdict == "goto" and sure:
                    return found
            elif read.verdict in ("accept", "drop", "return") and sure:
                return (read.verdict if read.verdict != "return" else ""), ()
            if found[0] and sure:
                return found
            self.possible += found[1]
        return "", ()


class _Match(enum.Enum):
    YES = 1
    NO = 2
    MAYBE = 3


def drops(chains: Sequence[Chain], packet: Packet, asked: Packet | None = None) -> tuple[str, bool]:
    """What drops the packet or its answer, in words, and whether it surely does; empty: nothing does.

    `asked`: the packet as it comes, before any translation, which chains before that meet.
    """
    chains = [chain for chain in chains if chain.kind == "filter"]
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
            read = _rule(statements, self.packet, self.chain.sets)
            match, verdict = read.match, read.verdict
            if match is _Match.NO or not verdict:
                continue
            target = read.calls[0] if len(read.calls) == 1 else ""
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


@dataclass(frozen=True, slots=True)
class _Read:
    """Whether a rule matches, its verdict (drop, accept, jump, goto, return, dnat, notrack, other), which
    chains it may call, and where it sends packets."""

    match: _Match
    verdict: str = ""
    calls: tuple[str, ...] = ()
    to: Target = (None, None)


def _rule(
    statements: Sequence[Mapping[str, Any]], packet: Packet, sets: Mapping[str, Sequence[Any]]
) -> _Read:
    read = _Read(_Match.YES)
    for statement in statements:
        word = next(iter(statement), "")
        value: Any = statement.get(word)
        if word == "match":
            found = _statement(value, packet, sets)
            if found is _Match.NO:
                return _Read(found)
            read = replace(read, match=found if found is _Match.MAYBE else read.match)
        elif word in ("drop", "reject"):
            read = replace(read, verdict="drop")
        elif word in ("accept", "return", "notrack"):
            read = replace(read, verdict=word)
        elif word in ("jump", "goto"):
            read = replace(read, verdict=word, calls=(value["target"],))
        elif word in ("dnat", "redirect"):
            read = replace(read, verdict="dnat", to=_target(value or {}))
        elif word == "xt" and (value or {}).get("name") in ("DNAT", "REDIRECT"):
            read = replace(read, verdict="dnat")  # where to, nft does not tell
        elif word == "vmap":
            read = _mapped(read, value, packet, sets)
            if read.match is _Match.NO:
                return read
        elif word == "limit":
            read = replace(read, match=_Match.MAYBE)
        elif word in ("queue", "tproxy") or (word == "xt" and (value or {}).get("name") not in _IDLE):
            matches = word == "xt" and (value or {}).get("type") == "match"
            read = replace(read, match=_Match.MAYBE) if matches else replace(read, verdict="other")
    return read


def _target(value: Mapping[str, Any]) -> Target:
    address, port = None, value.get("port")
    with suppress(ValueError, TypeError):
        address = ip_address(value.get("addr", ""))
    return address, port if isinstance(port, int) else None


def _mapped(
    read: _Read, value: Mapping[str, Any], packet: Packet, sets: Mapping[str, Sequence[Any]]
) -> _Read:
    """By the verdict that a map has for the packet; for what cannot be read, all that it might call."""
    elements = _elements(value.get("data"), sets)
    if elements is None:
        return replace(read, verdict="other")
    known, key = _left(value.get("key"), packet)
    pairs = [each for each in elements if isinstance(each, Sequence) and len(each) == 2]
    if known:
        held = [(_in(key, _bare(left)), verdict) for left, verdict in pairs]
        found = [verdict for holds, verdict in held if holds]
        if not found and any(holds is None for holds, _ in held):
            return replace(read, verdict="other")
        if not found:
            return replace(read, match=_Match.NO)
        return _rule_of(read, found[:1])
    return _rule_of(read, [verdict for _, verdict in pairs])


def _rule_of(read: _Read, verdicts: Sequence[Mapping[str, Any]]) -> _Read:
    """One of these verdicts."""
    words = {next(iter(each), "") for each in verdicts}
    if words <= {"jump", "goto"} and words:
        calls = tuple(each[word]["target"] for each in verdicts for word in each)
        return replace(read, verdict="goto" if words == {"goto"} else "jump", calls=calls)
    if len(words) == 1:
        return replace(read, verdict={"reject": "drop"}.get(word := words.pop(), word))
    return replace(read, verdict="other")


def _elements(data: Any, sets: Mapping[str, Sequence[Any]]) -> Sequence[Any] | None:
    """Those of a set or map, named or not; None: they are not known."""
    if isinstance(data, str) and data.startswith("@"):
        return sets.get(data[1:])
    if isinstance(data, Mapping) and isinstance(data.get("set"), list):
        listed: list[Any] = data["set"]
        return listed
    return None


def _bare(element: Any) -> Any:
    """Without counter, timeout and comment."""
    return element["elem"]["val"] if isinstance(element, Mapping) and "elem" in element else element


def _statement(match: Mapping[str, Any], packet: Packet, sets: Mapping[str, Sequence[Any]]) -> _Match:
    known, value = _left(match.get("left"), packet)
    if not known:
        return _Match.MAYBE
    right = match.get("right")
    named = _elements(right, sets) if isinstance(right, str) else None
    holds = _in(value, right if named is None else list(named))
    if holds is None:
        return _Match.MAYBE
    wanted = match.get("op", "==") != "!="
    return _Match.YES if holds is wanted else _Match.NO


def _left(left: Any, packet: Packet) -> tuple[bool, Any]:
    """What is compared: whether it is known, and its value."""
    if not isinstance(left, Mapping):
        return False, None
    if "concat" in left:
        parts = [_left(each, packet) for each in left["concat"]]
        return all(known for known, _ in parts), tuple(value for _, value in parts)
    if "numgen" in left and left["numgen"].get("mod") == 1:
        return True, int(left["numgen"].get("offset", 0))
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
        if protocol == "th" and packet.protocol in ("tcp", "udp", "sctp"):
            protocol = packet.protocol
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
    right = _bare(right)
    if isinstance(right, Mapping) and "set" in right:
        right = right["set"]
    if isinstance(value, tuple):
        return _in_concat(value, right)
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


def _in_concat(value: tuple[Any, ...], right: Any) -> bool | None:
    """Of several values at once, each has to be equal."""
    if isinstance(right, list):
        found = [_in_concat(value, _bare(each)) for each in right]
        return True if True in found else None if None in found else False
    if not isinstance(right, Mapping) or len(right.get("concat", ())) != len(value):
        return None
    found = [_in(one, other) for one, other in zip(value, right["concat"], strict=True)]
    return False if False in found else None if None in found else True


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
