"""What the peers have said, kept in ExaBGP's process: an Adj-RIB-In (RFC 4271 section 3.2) for each session.

ExaBGP 5.0.15 tells what it hears once. An agent that comes later would have to ask the peers for it, and not
each answers (RFC 2918 is an offer). Here each session holds its prefixes with their attributes as they were
told, so that `l3net received` can tell them again. It is ours and not ExaBGP's `adj-rib-in`, which loses IPv6
prefixes, outlives the session, and whose mention in the configuration would reset every session.

A table belongs to the session's Negotiated and goes with it. A prefix costs a number and two references, some
90 octets; attributes and next hops are one object for all prefixes that have them, of all peers.
Used inside ExaBGP's process only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from exabgp.bgp.message import _NOP, Action, Update
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.open.capability import Capability
from exabgp.bgp.message.refresh import RouteRefresh
from exabgp.bgp.message.update.attribute import Attribute
from exabgp.bgp.message.update.eor import EOR
from exabgp.protocol.family import SAFI
from exabgp.reactor.protocol import Protocol

from l3net.shell.speaker import exabgp_packed
from l3net.shell.speaker.exabgp_keys import BITS, has_path, key_of, nlris_of, octets_of
from l3net.shell.speaker.exabgp_packed import Whole
from l3net.shell.speaker.exabgp_telling import tell_update

#: Prefixes in one line: fewer make more lines to parse, more let a change wait longer.
PREFIXES_PER_LINE: Final = 400
#: Prefixes that are grouped by what they share at a time, and looked at in one step of some milliseconds.
WINDOW: Final = 16_384
STEP: Final = 4096


class Said:
    """What prefixes have in common: attributes and next hops, as ExaBGP tells them."""

    __slots__ = ("attributes", "hops")

    def __init__(self, attributes: str, hops: tuple[str, ...]) -> None:
        self.attributes, self.hops = attributes, hops


#: One object for these, as long as they were said of late; to keep it for ever would cost more than it saves
#: where each UPDATE has attributes of its own.
said: Final = lru_cache(maxsize=4096)(Said)


@lru_cache(maxsize=1024)
def _one(hop: str) -> tuple[str, ...]:
    return (hop,)


class FamilyRoutes:
    """One family of one session. `held` is what the peer says; `older` what it has not said again yet since a
    refresh of its own began (RFC 7313 section 4), which counts until the refresh ends."""

    def __init__(self) -> None:
        self.held: dict[int, Said] = {}
        self.older: dict[int, Said] = {}

    def __len__(self) -> int:
        return len(self.held) + len(self.older)

    def get(self, key: int) -> Said | None:
        return self.held.get(key) or self.older.get(key)

    def announce(self, keys: Iterable[int], what: Said) -> None:
        self.announce_each(dict.fromkeys(keys, what))

    def announce_each(self, paths: dict[int, Said]) -> None:
        self.held.update(paths)
        if self.older:
            for key in paths:
                self.older.pop(key, None)

    def withdraw(self, keys: Iterable[int]) -> None:
        for table in (self.held, self.older):
            if table:
                for key in keys:
                    table.pop(key, None)

    def refresh_begins(self) -> None:
        """BoRR. Where one has begun before and not ended, both count from now."""
        self.older.update(self.held)
        self.held = {}

    def refresh_ends(self) -> list[int]:
        """EoRR: what was not said again, and is gone by that."""
        gone, self.older = list(self.older), {}
        return gone

    def all_keys(self) -> list[int]:
        return [*self.older, *self.held]


class AdjRibIn:
    """Of one session: a table for each family, and the families whose End-of-RIB has been heard."""

    def __init__(self) -> None:
        self.tables = {family: FamilyRoutes() for family in BITS}
        self.eor: dict[str, None] = {}

    def take(self, update: Any) -> None:
        """An UPDATE as ExaBGP has parsed it: withdrawals first, as its event is read."""
        withdrawn: dict[int, list[int]] = {}
        announced: dict[int, dict[str, list[int]]] = {}
        treat_as_withdraw = Attribute.CODE.INTERNAL_TREAT_AS_WITHDRAW in update.attributes
        announce, unicast = Action.ANNOUNCE, SAFI.unicast
        last: Any = None
        keys: list[int] = []
        for nlri in update.nlris:
            if nlri.safi != unicast or nlri.afi not in BITS:
                continue
            if treat_as_withdraw or nlri.action != announce:
                withdrawn.setdefault(nlri.afi, []).append(key_of(nlri))
                continue
            if nlri.nexthop is not last:
                last = nlri.nexthop
                keys = announced.setdefault(nlri.afi, {}).setdefault(str(last), [])
            keys.append(key_of(nlri))
        for family, gone in withdrawn.items():
            self.tables[family].withdraw(gone)
        if not announced:
            return
        attributes = update.attributes.json() if update.attributes else ""
        for family, by_hop in announced.items():
            if len(by_hop) == 1:
                ((hop, keys),) = by_hop.items()
                self.tables[family].announce(keys, said(attributes, _one(hop)))
                continue
            hops: dict[int, tuple[str, ...]] = {}
            for hop, several in by_hop.items():
                for key in several:
                    hops[key] = (*hops.get(key, ()), hop)
            self.tables[family].announce_each({key: said(attributes, each) for key, each in hops.items()})

    def take_whole(self, update: Whole) -> None:
        """One whose prefixes are keys already."""
        for each in update.gone:
            self.tables[each.family].withdraw(each.keys)
        if update.said:
            attributes = update.attributes.json() if update.attributes else ""
            for each in update.said:
                hops = each.hops if len(each.hops) > 1 else _one(each.hops[0])
                self.tables[each.family].announce(each.keys, said(attributes, hops))

    def end_of_rib(self, afi: Any, safi: Any) -> None:
        if safi == SAFI.unicast and afi in BITS:
            self.eor[f"{afi} {safi}"] = None

    def refresh_begins(self, afi: Any, safi: Any, *, restarts: bool) -> None:
        """BoRR. Ignored while End-of-RIB is due from a peer with graceful restart (RFC 7313 section 4)."""
        if safi == SAFI.unicast and afi in BITS and not (restarts and f"{afi} {safi}" not in self.eor):
            self.tables[afi].refresh_begins()

    def refresh_ends(self, afi: Any, safi: Any) -> Iterator[str]:
        """EoRR: what was not said again is forgotten now. Yields the withdrawals to tell, as in an event."""
        gone = self.tables[afi].refresh_ends() if safi == SAFI.unicast and afi in BITS else []
        return self._withdrawals(int(afi), gone)

    def _withdrawals(self, family: int, gone: list[int]) -> Iterator[str]:
        for start in range(0, len(gone), PREFIXES_PER_LINE):
            keys = [
                key for key in gone[start : start + PREFIXES_PER_LINE] if not self.tables[family].get(key)
            ]
            if keys:
                yield _withdraw(family, keys)

    def events(self) -> Iterator[str]:
        """All of it as it is, in steps, each the "update" of an event, or empty where a step says nothing.

        What has changed since the first step was told when it changed, and is left out.
        """
        for family, table in self.tables.items():
            keys = table.all_keys()
            for start in range(0, len(keys), WINDOW):
                groups: dict[Said, list[int]] = {}
                for number, key in enumerate(keys[start : start + WINDOW], 1):
                    what = table.get(key)
                    if what is not None:
                        groups.setdefault(what, []).append(key)
                    if number % STEP == 0:
                        yield ""
                for what, grouped in groups.items():
                    yield from _lines(family, table, what, grouped)


def _lines(family: int, table: FamilyRoutes, what: Said, keys: list[int]) -> Iterator[str]:
    for start in range(0, len(keys), PREFIXES_PER_LINE):
        still = [key for key in keys[start : start + PREFIXES_PER_LINE] if table.get(key) is what]
        if still:
            yield _announce(family, still, what)


def _told(family: int, keys: list[int]) -> str:
    if exabgp_packed.Form.packed and not any(map(has_path, keys)):
        return f'"{octets_of(keys).hex()}"'
    return nlris_of(family, keys)


def _announce(family: int, keys: list[int], what: Said) -> str:
    return exabgp_packed.said(what.attributes, [(family, what.hops, _told(family, keys))])


def _withdraw(family: int, keys: list[int]) -> str:
    return exabgp_packed.said("", (), exabgp_packed.withdrawn([(family, _told(family, keys))]))


def of(negotiated: Any) -> AdjRibIn:
    """That of a session; it ends with it."""
    held = getattr(negotiated, "l3net_received", None)
    if held is None:
        held = negotiated.l3net_received = AdjRibIn()
    assert isinstance(held, AdjRibIn)  # noqa: S101 - nobody else writes it
    return held


def restarts(negotiated: Any) -> bool:
    """Whether the peer has offered graceful restart, and so will say End-of-RIB (RFC 4724 section 4)."""
    opened = negotiated.received_open
    return opened is not None and opened.capabilities.announced(Capability.CODE.GRACEFUL_RESTART)


#: Given to ExaBGP in place of an UPDATE that has been seen to: it would look at each prefix to do nothing.
_SEEN_TO: Final = Update([], b"")


def install() -> None:
    """Have this process's ExaBGP keep what it hears."""
    unpack = Update.unpack_message.__func__
    read = Protocol.read_message

    def unpack_message(cls: Any, data: bytes, direction: Any, negotiated: Any) -> Any:
        update = unpack(cls, data, direction, negotiated)
        if direction == Direction.IN and type(update) is Whole:
            of(negotiated).take_whole(update)
        elif direction == Direction.IN and type(update) is Update:
            of(negotiated).take(update)
        return update

    def read_message(self: Any) -> Iterator[Any]:
        for message in read(self):
            if message is _NOP:
                yield message
                continue
            kind = type(message)
            if kind is EOR:
                for nlri in message.nlris:
                    of(self.negotiated).end_of_rib(nlri.afi, nlri.safi)
            elif kind is RouteRefresh and message.reserved != RouteRefresh.request:
                _demarcated(self, message)
                yield _SEEN_TO  # ExaBGP would take it for a request, and say all it has
                continue
            yield _SEEN_TO if kind is Update or kind is Whole else message

    Update.unpack_message = classmethod(unpack_message)
    Protocol.read_message = read_message


def _demarcated(proto: Any, message: Any) -> None:
    """BoRR or EoRR of the peer's."""
    held = of(proto.negotiated)
    if message.reserved == RouteRefresh.start:
        held.refresh_begins(message.afi, message.safi, restarts=restarts(proto.negotiated))
    if message.reserved != RouteRefresh.end:
        return
    reactor, neighbor = proto.peer.reactor, proto.peer.neighbor
    lines = held.refresh_ends(message.afi, message.safi)

    def tell() -> Iterator[None]:
        for line in lines:
            tell_update(reactor, neighbor, line)
            yield

    reactor.asynchronous.schedule("l3net", "what a refresh has purged", tell())
