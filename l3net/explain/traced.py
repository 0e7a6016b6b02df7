"""What a probe met: router after router, and rule after rule where nftables was watched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

#: Answers by which a probe has arrived.
ARRIVED: Final = ("open", "closed", "answered")
_EVENT: Final = re.compile(
    r"^trace id (?P<id>[0-9a-f]+) (?P<family>\w+) (?P<table>\S+) (?P<chain>\S+) "
    r"(?P<kind>packet|rule|policy|unknown)(?P<rest>.*)$"
)
_VERDICT: Final = re.compile(r"\(verdict (?P<verdict>[a-z]+)(?: (?P<to>\S+))?\)\s*$")
_LINKS: Final = re.compile(r'\b(?P<side>[io]if) "(?P<name>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Hop:
    """What answered a probe with this TTL; `address` empty: nobody did. `answer`: `exceeded` (RFC 792: time
    exceeded in transit), one of ARRIVED, or what an ICMP error says."""

    ttl: int
    address: str = ""
    answer: str = ""
    milliseconds: float | None = None

    @classmethod
    def of(cls, row: dict[str, Any]) -> Hop:
        """As the prober tells it."""
        return cls(int(row["ttl"]), str(row["address"]), str(row["answer"]), row["milliseconds"])

    @property
    def arrived(self) -> bool:
        """Whether the destination has answered."""
        return self.answer in ARRIVED


@dataclass(frozen=True, slots=True)
class Met:
    """A rule, or the policy of a chain, that a packet of the flow met on a host. `verdict`: accept, drop,
    continue, jump ... `packet`: which one, as the kernel numbers them."""

    host: str
    table: str
    chain: str
    rule: str
    verdict: str
    packet: str = ""

    def __str__(self) -> str:
        what = f"rule `{self.rule}`" if self.rule else "the policy"
        return f"{what} of chain {self.chain}, table {self.table}: {self.verdict}"

    def row(self) -> dict[str, str]:
        """As plain values."""
        return {
            "host": self.host,
            "table": self.table,
            "chain": self.chain,
            "rule": self.rule,
            "verdict": self.verdict,
        }


def met(host: str, lines: Iterable[str], own: str) -> list[Met]:
    """Rules and policies out of what `nft monitor trace` prints, without those of the table that traces."""
    found = []
    for line in lines:
        event = _EVENT.match(line.strip())
        if event is None or event["table"] == own or event["kind"] in ("packet", "unknown"):
            continue
        table = f"{event['family']} {event['table']}"
        if event["kind"] == "policy":
            found.append(Met(host, table, event["chain"], "", event["rest"].strip(), event["id"]))
            continue
        verdict = _VERDICT.search(event["rest"])
        if verdict is not None:
            rule = _VERDICT.sub("", event["rest"]).strip()
            found.append(Met(host, table, event["chain"], rule, verdict["verdict"], event["id"]))
    return found


def dropping(events: Iterable[Met]) -> list[Met]:
    """Those by which a packet went no further, each once."""
    return [met for met, _ in each_once(event for event in events if event.verdict in ("drop", "reject"))]


def each_once(events: Iterable[Met]) -> list[tuple[Met, int]]:
    """Rules in the order in which they were met first, and how many packets of the flow met each."""
    return list(Counter(map(_apart, events)).items())


def _apart(event: Met) -> Met:
    return replace(event, packet="")


def verdict(hops: list[Hop], drops: list[Met], names: dict[str, str]) -> str:
    """One sentence: whether it arrived, or where it stopped and by what."""
    if drops:
        first = drops[0]
        return f"stopped on {first.host} by {first}"
    last = hops[-1] if hops else None
    if last is not None and last.arrived:
        how = {"open": "accepts connections", "closed": "refuses connections", "answered": "answers"}[
            last.answer
        ]
        named = names.get(last.address, last.address)
        return f"arrives after {last.ttl} hop{'s' * (last.ttl != 1)}: {named} {how}"
    heard = [hop for hop in hops if hop.address]
    if not heard:
        return "no answer: the first hop drops it, or does not report it"
    final = heard[-1]
    named = names.get(final.address, final.address)
    if final.answer not in ("exceeded", ""):
        return f"stopped at {named}: it reports {final.answer}"
    return f"lost behind {named} (hop {final.ttl}): the next hop drops it, or its answer does not come back"
