"""Rows out of large tables: filtered, found by longest match, a page at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final

from l3net.addresses import parse_host_or_prefix
from l3net.errors import ConfigError
from l3net.model import Prefix

Row = Mapping[str, Any]
PAGE: Final = 100
MOST: Final = 1000


def number(text: str, name: str, default: int, most: int) -> int:
    """Raises ConfigError for what is no number between 0 and `most`."""
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) > most:
        raise ConfigError(f"{name}={text[:20]}: write a number, {most} at most")
    return int(text)


def seconds(text: str) -> float:
    """A time in seconds since 1970; none is the beginning. Raises ConfigError."""
    try:
        at = float(text or 0)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise ConfigError(f"after={text[:20]}: write seconds since 1970")
    return at


def page(rows: Sequence[Row], query: Mapping[str, str], tell: Callable[[Row], Any] = dict) -> dict[str, Any]:
    """`total`, and the rows that `limit` and `offset` choose. Raises ConfigError."""
    limit = number(query.get("limit", ""), "limit", PAGE, MOST)
    offset = number(query.get("offset", ""), "offset", 0, 100_000_000)
    chosen = rows[offset : offset + limit]
    return {"total": len(rows), "offset": offset, "rows": [tell(row) for row in chosen]}


def prefix_of(text: str) -> Prefix:
    """An address (as a prefix of full length) or a prefix. Raises ConfigError."""
    try:
        return parse_host_or_prefix(text.strip())
    except ValueError:
        raise ConfigError(f"{text[:60]} is neither an address nor a prefix") from None


def is_prefix(text: str) -> bool:
    """Whether `prefix_of` takes it."""
    try:
        prefix_of(text)
    except ConfigError:
        return False
    return True


def covering(prefix: Prefix) -> list[str]:
    """The prefix and all that hold it, the longest first, as they are written."""
    return [
        str(ip_network((int(prefix.network_address) >> shift << shift, prefix.max_prefixlen - shift)))
        if prefix.version == 4
        else str(_six(int(prefix.network_address) >> shift << shift, prefix.max_prefixlen - shift))
        for shift in range(prefix.max_prefixlen - prefix.prefixlen, prefix.max_prefixlen + 1)
    ]


def _six(number_: int, length: int) -> Prefix:
    return ip_network((number_.to_bytes(16, "big"), length))


def matches(rows: Iterable[Row], prefix: Prefix, most: int = 50) -> list[Row]:
    """Rows whose prefix is that or holds it, the longest first: what a look-up would see."""
    order = {text: place for place, text in enumerate(covering(prefix))}
    found: list[Row] = [dict(row) for row in rows if row["prefix"] in order]
    return sorted(found, key=lambda row: order[row["prefix"]])[:most]


def filtered(rows: Sequence[Row], query: Mapping[str, str]) -> Sequence[Row]:
    """By `peer` (address or name), `verdict` (`used`, `unused`, or one by name) and `q` (an address or
    prefix: what holds it, longest first; else a part of any text of the row)."""
    if peer := query.get("peer", ""):
        rows = [row for row in rows if peer in (row.get("peer"), row.get("name"))]
    if verdict := query.get("verdict", ""):
        rows = [row for row in rows if _judged(row, verdict)]
    if text := query.get("q", "").strip().lower():
        if is_prefix(text):
            return matches(rows, prefix_of(text), MOST)
        rows = [row for row in rows if any(text in part for part in _texts(row))]
    return rows


USED: Final = frozenset({"accepted", "announced"})


def _judged(row: Row, verdict: str) -> bool:
    said = row.get("verdict", "")
    if verdict in ("used", "unused"):
        return (said in USED) is (verdict == "used")
    return bool(said == verdict or said.partition(":")[0] == verdict)


def _texts(row: Row) -> Iterable[str]:
    for value in row.values():
        if isinstance(value, str):
            yield value.lower()
        elif isinstance(value, list | tuple):
            yield " ".join(map(str, value)).lower()
