"""The nftables chains of others on this host, which may drop what is forwarded (l3net.explain.foreign)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from l3net.cni.extras import TABLE
from l3net.errors import L3netError
from l3net.explain.foreign import HOOKS, Chain
from l3net.naming import NFT_TABLE, RTPROT_L3NET
from l3net.shell.kernel.nftcommand import find_nft

#: Tables of ours: they are explained by what is decided.
OURS: Final = (NFT_TABLE, TABLE)
_PATIENCE: Final = 20.0
_OF_IPTABLES: Final = {
    "DNAT": "dnat",
    "REDIRECT": "redirect",
    "CT": "notrack",
    "TPROXY": "tproxy",
    "NFQUEUE": "queue",
}
_READ_AS_TEXT: Final = ("DNAT", "CT")
_TABLE: Final = re.compile(r"^table (?P<family>\w+) (?P<name>\S+) \{")
_XT_TARGET: Final = re.compile(
    r" (?:dnat to (?:\[(?P<six>[0-9a-f:]+)\](?::(?P<port>\d+))?|(?P<four>[0-9.]+)(?::(?P<port4>\d+))?"
    r"|(?P<bare>[0-9a-f:]+))|notrack)\s+"
    r"# handle (?P<handle>\d+)$"
)
#: Rules of a chain that are read; of more, it is not known what they do.
MOST_RULES: Final = 2000


def _listed() -> list[Mapping[str, Any]]:
    """All that nftables has; nothing where it cannot be read."""
    try:
        listed: list[Mapping[str, Any]] = json.loads(_nft("-j", "list", "ruleset"))["nftables"]
        # A table at a time: of the whole ruleset nft leaves out such targets of all families but one.
        for family, table in sorted(set(_with_xt_targets(listed))):
            text = _nft("-a", "list", "table", family, table).decode(errors="replace")
            listed = with_targets(listed, text)
    except (OSError, ValueError, KeyError, L3netError, subprocess.SubprocessError):
        return []
    return listed


def _nft(*words: str) -> bytes:
    return subprocess.run(
        [find_nft(), *words], capture_output=True, timeout=_PATIENCE, check=True, env={"LC_ALL": "C"}
    ).stdout


def _with_xt_targets(listed: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for row in listed:
        rule = row.get("rule", {})
        if any((each.get("xt") or {}).get("name") in _READ_AS_TEXT for each in rule.get("expr", ())):
            yield rule["family"], rule["table"]


def with_targets(listed: Iterable[Mapping[str, Any]], text: str) -> list[Mapping[str, Any]]:
    """The same with iptables' targets DNAT and CT, of which `nft -j` says no more than the name."""
    found: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    table = "", ""
    for line in text.splitlines():
        if head := _TABLE.match(line):
            table = head["family"], head["name"]
        elif (rule := _XT_TARGET.search(line)) and (table[0], table[1]) != ("", ""):
            address, port = rule["six"] or rule["four"] or rule["bare"], rule["port"] or rule["port4"]
            to = {"dnat": {"addr": address, "port": int(port) if port else None}}
            found[*table, int(rule["handle"])] = to if address else {"notrack": None}
    return [_with_target(row, found) for row in listed]


def _with_target(
    row: Mapping[str, Any], targets: Mapping[tuple[str, str, int], Mapping[str, Any]]
) -> Mapping[str, Any]:
    rule = row.get("rule")
    target = targets.get((rule["family"], rule["table"], rule["handle"])) if rule else None
    if rule is None or target is None:
        return row
    expr = [target if (each.get("xt") or {}).get("name") in _READ_AS_TEXT else each for each in rule["expr"]]
    return {"rule": {**rule, "expr": expr}}


def chains_of(listed: Iterable[Mapping[str, Any]]) -> tuple[Chain, ...]:
    """Those chains, of what `nft -j list ruleset` lists."""
    rows = list(listed)
    rules: dict[tuple[str, str, str], list[Any]] = {}
    for entry in rows:
        if (rule := entry.get("rule")) is not None and rule["table"] not in OURS:
            kept = rules.setdefault((rule["family"], rule["table"], rule["chain"]), [])
            if len(kept) < MOST_RULES:
                kept.append(rule.get("expr", []))
    elements = {
        (each["family"], each["table"], each["name"]): tuple(each.get("elem", ()))
        for entry in rows
        if (each := entry.get("set") or entry.get("map")) and each["table"] not in OURS
    }
    found = []
    for entry in rows:
        chain = entry.get("chain")
        if (
            not chain
            or chain["table"] in OURS
            or chain.get("type") not in ("filter", "nat")
            or chain.get("hook") not in HOOKS
        ):
            continue
        key = chain["family"], chain["table"], chain["name"]
        called = {
            name: tuple(its) for (family, table, name), its in rules.items() if (family, table) == key[:2]
        }
        own = tuple(rules.get(key, ()))
        priority = chain.get("prio", 0)
        priority = priority if isinstance(priority, int) else 0
        policy = chain.get("policy", "accept")
        sets = {name: its for (family, table, name), its in elements.items() if (family, table) == key[:2]}
        found.append(Chain(*key, chain["hook"], policy, own, priority, called, chain["type"], sets))
    return tuple(found)


def unjudged(listed: Iterable[Mapping[str, Any]]) -> list[str]:
    """What of others' rules is not judged, and may stop packets or send them elsewhere, in words."""
    found: dict[str, None] = {}
    for entry in listed:
        chain, rule = entry.get("chain"), entry.get("rule")
        if (
            chain
            and chain["table"] not in OURS
            and chain["family"] in ("netdev", "bridge")
            and "hook" in chain
        ):
            found[f"chain {chain['name']} of table {chain['family']} {chain['table']}"] = None
        if rule and rule["table"] not in OURS:
            words = {_word(each) for each in rule.get("expr", []) if isinstance(each, Mapping)}
            for word in sorted(words & {"dnat", "redirect", "notrack", "tproxy", "queue"}):
                found[f"a {word} rule in chain {rule['chain']} of table {rule['family']} {rule['table']}"] = (
                    None
                )
    return list(found)


def _word(statement: Mapping[str, Any]) -> str:
    """Of a statement, that of nftables for what iptables calls otherwise."""
    word = next(iter(statement), "")
    return _OF_IPTABLES.get((statement[word] or {}).get("name", ""), word) if word == "xt" else word


def others() -> tuple[tuple[Chain, ...], tuple[str, ...]]:
    """The chains of others that are judged, and what is not: rules, old iptables, policy routing."""
    listed = _listed()
    return chains_of(listed), (*unjudged(listed), *_old_iptables(), *_policy_routing())


def _old_iptables() -> Iterator[str]:
    for name in ("ip_tables_names", "ip6_tables_names"):
        with suppress(OSError):
            if Path(f"/proc/self/net/{name}").read_text().split():
                yield f"tables of iptables-legacy ({name.partition('_')[0]})"


def _policy_routing() -> Iterator[str]:
    """Rules beside ours and the three that every host has (ip-rule(8))."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - as in way.py

    with suppress(Exception), IPRoute() as ip:  # what cannot be read is not told of
        for family, name in ((2, "ip rule"), (10, "ip -6 rule")):
            own = (0, 32766, 32767)
            if more := sum(
                (rule.get_attr("FRA_PRIORITY") or 0) not in own
                for rule in ip.get_rules(family=family)
                if rule.get_attr("FRA_PROTOCOL") != RTPROT_L3NET
            ):
                yield f"{more} routing rules (`{name}`)"
