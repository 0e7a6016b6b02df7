"""The whole table of a node as one nftables transaction (nft 1.0.6 and later, kernel 5.15 and later).

Nothing outside the tables `l3net` of families inet, ip and ip6 is read or written, so that kube-proxy, Docker
or a firewall of the host may stand beside it.

No packet may be lost while the table is replaced. Rules change at once for every packet, but on some kernels
(seen on 6.18) a set of ranges that is made in the same transaction is empty for most of a millisecond to the
rules that look something up in it. So what decides whether a packet is dropped, and mostly also whether it is
masqueraded, is compared in rules; there are few such prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from l3net.firewall.facts import FirewallPlan
from l3net.firewall.section import Made
from l3net.firewall.sections import SECTIONS
from l3net.naming import NFT_TABLE

#: Of the table that all sections share, and of those beside it (section.Made).
FAMILIES: Final = ("inet", "ip", "ip6")


def ruleset(plan: FirewallPlan, clients: Mapping[str, Sequence[str]] | None = None) -> str:
    """The table that a plan wants; see `table`."""
    return table((section.made(plan) for section in SECTIONS), clients)


def table(sections: Iterable[Made], clients: Mapping[str, Sequence[str]] | None = None) -> str:
    """The text for `nft -f -` that replaces the table by these sections, all or nothing.

    `clients` are the members of sets that packets fill, by the set's name: they are put back.
    """
    beside: dict[str, list[str]] = {}
    lines = [*_gone(), f"table inet {NFT_TABLE} {{"]
    for made in sections:
        lines += made.lines
        for family, its in made.beside.items():
            beside.setdefault(family, []).extend(its)
    lines.append("}")
    for family, theirs in beside.items():
        lines += (f"table {family} {NFT_TABLE} {{", *theirs, "}")
    lines += (
        f"add element inet {NFT_TABLE} {name} {{ {', '.join(found)} }}"
        for name, found in sorted((clients or {}).items())
        if found
    )
    return "\n".join((*lines, ""))


def deletion() -> str:
    """The text that removes the table and those beside it, if they are there."""
    return "\n".join((*_gone(), ""))


def _gone() -> list[str]:
    """Declared first, or deleting would fail where there is none yet."""
    tables = [f"table {family} {NFT_TABLE}" for family in FAMILIES]
    return [line for table in tables for line in (table, f"delete {table}")]
