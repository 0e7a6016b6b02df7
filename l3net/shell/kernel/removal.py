"""What l3net has in a host's kernel, found as others would find it, and taken away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from l3net.errors import L3netError
from l3net.naming import BRIDGE, ENVELOPE, NFT_TABLE, RTPROT_L3NET, VETH_PREFIX

#: Interfaces that are there once.
_LINKS: Final = (BRIDGE, ENVELOPE)


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something of l3net's, and the command that takes it away."""

    what: str
    argv: tuple[str, ...]


def attached() -> list[tuple[str, str]]:
    """Host ends of pods: the interface, and which pod it is of (its alias)."""
    return [
        (row["ifname"], str(row.get("ifalias", "")))
        for row in _json("ip", "-j", "-d", "link", "show")
        if row["ifname"].startswith(VETH_PREFIX)
        and row["ifname"] not in _LINKS
        and row.get("linkinfo", {}).get("info_kind") == "veth"
    ]


def leftovers() -> list[Leftover]:
    """Routes and rules of protocol 108, interfaces and nftables tables, in the order in which they may go.
    Raises L3netError where the kernel does not say."""
    found = []
    protocol = str(RTPROT_L3NET)
    for family in ("-4", "-6"):
        # `ip rule show` takes a protocol to choose by, and shows all.
        told = _json("ip", "-N", "-j", family, "rule", "show")
        rules = [each for each in told if each.get("protocol") == protocol]
        if rules:
            flush = ("ip", family, "rule", "flush", "protocol", protocol)
            found.append(Leftover(f"{len(rules)} rules (IPv{family[1]})", flush))
        routes = _said("ip", family, "route", "show", "table", "all", "proto", protocol).splitlines()
        if routes:
            argv = ("ip", family, "route", "flush", "table", "all", "proto", protocol)
            found.append(Leftover(f"{len(routes)} routes (IPv{family[1]})", argv))
    links = {row["ifname"] for row in _json("ip", "-j", "link", "show")}
    pods = [name for name, _ in attached()]
    found += [
        Leftover(f"interface {name}", ("ip", "link", "delete", "dev", name))
        for name in (*pods, *_LINKS)
        if name in links
    ]
    for row in _json("nft", "-j", "list", "tables").get("nftables", ()):
        table = row.get("table", {})
        name = str(table.get("name", ""))
        if name == NFT_TABLE or name.startswith(f"{NFT_TABLE}_"):
            delete = ("nft", "delete", "table", str(table["family"]), name)
            found.append(Leftover(f"table {table['family']} {name}", delete))
    return found


def remove(found: Sequence[Leftover], say: Callable[[str], object]) -> None:
    """Take it away. One that fails keeps none of the others; then L3netError tells of them all."""
    failed = []
    for each in found:
        try:
            _said(*each.argv)
        except L3netError as err:
            failed.append(str(err))
            continue
        say(each.what)
    if failed:
        raise L3netError("; ".join(failed))


def _json(*argv: str) -> Any:
    return json.loads(_said(*argv) or "[]")


def _said(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise L3netError(f"{' '.join(argv)}: {err}") from None
    # A flush of a table that is not there, or of nothing, is none.
    if done.returncode and "does not exist" not in done.stderr:
        raise L3netError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
