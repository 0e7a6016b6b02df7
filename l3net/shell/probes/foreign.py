"""The nftables chains of others on this host, which may drop what is forwarded (l3net.explain.foreign)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, Final

from l3net.cni.extras import TABLE
from l3net.errors import L3netError
from l3net.explain.foreign import HOOKS, Chain
from l3net.naming import NFT_TABLE
from l3net.shell.kernel.nftcommand import find_nft

#: Tables of ours: they are explained by what is decided.
OURS: Final = (NFT_TABLE, TABLE)
_PATIENCE: Final = 20.0
#: Rules of a chain that are read; of more, it is not known what they do.
MOST_RULES: Final = 2000


def foreign_chains() -> tuple[Chain, ...]:
    """Base chains of type filter at the hooks of forwarding; none where they cannot be read."""
    try:
        done = subprocess.run(
            [find_nft(), "-j", "list", "ruleset"],
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
            env={"LC_ALL": "C"},
        )
        listed: list[Mapping[str, Any]] = json.loads(done.stdout)["nftables"]
    except (OSError, ValueError, KeyError, L3netError, subprocess.SubprocessError):
        return ()
    return chains_of(listed)


def chains_of(listed: Iterable[Mapping[str, Any]]) -> tuple[Chain, ...]:
    """Those chains, of what `nft -j list ruleset` lists."""
    rows = list(listed)
    rules: dict[tuple[str, str, str], list[Any]] = {}
    for entry in rows:
        if (rule := entry.get("rule")) is not None and rule["table"] not in OURS:
            kept = rules.setdefault((rule["family"], rule["table"], rule["chain"]), [])
            if len(kept) < MOST_RULES:
                kept.append(rule.get("expr", []))
    found = []
    for entry in rows:
        chain = entry.get("chain")
        if (
            not chain
            or chain["table"] in OURS
            or chain.get("type") != "filter"
            or chain.get("hook") not in HOOKS
        ):
            continue
        key = chain["family"], chain["table"], chain["name"]
        called = {
            name: tuple(its) for (family, table, name), its in rules.items() if (family, table) == key[:2]
        }
        own = tuple(rules.get(key, ()))
        found.append(Chain(*key, chain["hook"], chain.get("policy", "accept"), own, called))
    return tuple(found)
