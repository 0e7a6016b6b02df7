"""What a node's move finds before it begins, and what is left of the old network after it."""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from l3net.errors import ConfigError
from l3net.migrating.journal import MOVED, Journal
from l3net.migrating.ledgers import Attachment, by_address
from l3net.migrating.planning import RUNTIME_FILES, SeenPort
from l3net.model import Address
from l3net.naming import AGENT_SOCKET, BRIDGE, ENVELOPE
from l3net.shell.files import cniinstall, cniledgers, journalfile
from l3net.shell.kernel import links, podends, takeover
from l3net.shell.kernel.namespaces import open_own
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.removal import attached

#: Kinds of devices by which networks send packets to other nodes (rtnetlink's).
_TUNNELS: Final = ("vxlan", "ipip", "sit", "ip6tnl", "wireguard", "geneve")


def look(
    cache: Path, host_local: Iterable[Path], calico: Iterable[Path], netns_dirs: Iterable[Path]
) -> tuple[list[SeenPort], Mapping[Address, Attachment], list[str]]:
    """The pods' interfaces of this host, who has which address, and what of the ledgers could not be read.

    Raises KernelError, ConfigError.
    """
    attachments, wrong = cniledgers.of_cache(cache)
    for directory in host_local:
        attachments += cniledgers.of_host_local(directory)
    for path in calico:
        blocks, faults = cniledgers.of_calico(_documents(path))
        attachments += blocks
        wrong += [f"{path}: {each}" for each in faults]
        if not blocks and not faults:
            wrong.append(f"{path}: it holds no IPAMBlock with addresses of pods")
    home = open_own()
    try:
        with Netlink() as netlink:
            paths = podends.namespaces((each.netns for each in attachments if each.netns), netns_dirs)
            ports = podends.seen_ports(netlink, paths, home)
    finally:
        os.close(home)
    return ports, by_address(attachments), wrong


def _documents(path: Path) -> list[Any]:
    import yaml  # noqa: PLC0415 - only who has Calico's blocks

    try:
        with path.open() as file:
            return list(yaml.load_all(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise ConfigError(f"{path}: {' '.join(str(err).split())[:300]}") from None


def standing(journal: Journal | None, conf_dir: Path, run_dir: Path) -> dict[str, Any]:
    """Where this node stands: `state` is `none` (never moved), `unfinished` or `moved`."""
    files = [each.name for each in conf_dir.iterdir()] if conf_dir.is_dir() else []
    first = min((name for name in files if name.endswith(RUNTIME_FILES)), default="")
    runs = cniinstall.agent_answers(run_dir / AGENT_SOCKET)
    ends = {name for name, _ in attached()}
    moved = [each for each in journal.pods if each.new_ifname in ends] if journal else []
    with Netlink() as netlink:
        bridges = [
            each.name for each in links.all_links(netlink) if each.kind == "bridge" and each.name != BRIDGE
        ]
    state = "none" if journal is None else "moved" if journal.state == MOVED else "unfinished"
    return {
        "state": state,
        "node": journal.node if journal else "",
        "since": _time(journal.started) if journal else "",
        "runtimeTakes": str(conf_dir / first) if first else "",
        "agentRuns": runs,
        "podsOfL3net": len(ends),
        "podsMoved": len(moved),
        "bridges": sorted(bridges),
        "remains": _remains(state, runs=runs),
    }


def _remains(state: str, *, runs: bool) -> str:
    match state:
        case "unfinished":
            return "`l3net migrate node --undo`: a move was begun and not ended"
        case "moved" if not runs:
            return "start l3net's agent"
        case "moved":
            return "`l3net migrate finish`, when all nodes are moved"
        case _ if runs:
            return ""
        case _:
            return "`l3net migrate plan`"


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def finished(journal: Journal, state_dir: Path) -> list[str]:
    """Take away what is left of the old network; what was done, and what stays. Raises L3netError."""
    told = []
    with Netlink() as netlink:
        there = links.all_links(netlink)
        for before in journal.bridges:
            link = next((each for each in there if each.name == before.name), None)
            if link is None or link.index != before.index:
                continue
            if ports := [each.name for each in there if each.master == link.index]:
                told.append(f"bridge {link.name} stays: {', '.join(ports[:5])} are still on it")
                continue
            netlink.request(links.delete_link(link.index), f"delete {link.name}")
            told.append(f"removed bridge {link.name}")
        for each in there:
            if each.kind not in _TUNNELS or each.name == ENVELOPE:
                continue
            if count := takeover.leave_tunnel(netlink, each.index):
                told.append(
                    f"removed {count} routes through {each.name}: l3net has its own for these prefixes"
                )
            told.append(
                f"{each.kind} device {each.name} stays, for what other nodes send by it: remove it when all "
                "nodes have finished"
            )
    for _, put_aside in journal.aside:
        path = Path(put_aside)
        if path.exists():
            path.unlink()
            told.append(f"removed {path}")
    if chains := _old_rules():
        told.append(
            f"{chains} rules of CNI plugins stay in iptables' nat table: `iptables-save -t nat | grep CNI-`"
        )
    journalfile.forget_journal(state_dir)
    return told


def _old_rules() -> int:
    """Rules of the reference plugins' masquerading and published ports, for each family; 0 where none can be
    listed."""
    count = 0
    for program in ("iptables-save", "ip6tables-save"):
        try:
            done = subprocess.run(
                [program, "-t", "nat"], capture_output=True, text=True, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        count += sum(line.startswith("-A CNI-") for line in done.stdout.splitlines())
    return count
