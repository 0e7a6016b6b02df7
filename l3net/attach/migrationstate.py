"""What a node's move finds before it begins, and what is left of the old network after it."""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from l3net.errors import ConfigError
from l3net.migrating.journal import MOVED, Journal
from l3net.migrating.ledgers import Claims, by_address
from l3net.migrating.planning import RUNTIME_FILES, SeenPort
from l3net.naming import AGENT_SOCKET, BRIDGE, ENVELOPE
from l3net.shell.files import cniinstall, cniledgers, journalfile
from l3net.shell.kernel import links, podends, takeover
from l3net.shell.kernel.namespaces import open_own
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.removal import attached
from l3net.shell.manifests.documents import DocumentError, parse, read_bytes

#: Where runtimes mount network namespaces.
NETNS_DIRS: Final = ("/run/netns", "/run/docker/netns")
#: Kinds of devices by which networks send packets to other nodes (rtnetlink's).
_TUNNELS: Final = ("vxlan", "ipip", "sit", "ip6tnl", "wireguard", "geneve")


def look(
    cache: Path, host_local: Iterable[Path], calico: Iterable[Path], root: Path
) -> tuple[list[SeenPort], Claims, list[str]]:
    """The pods' interfaces of this host, who has which address, and what of the ledgers cannot be used.

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
    there = podends.namespaces((each.netns for each in attachments if each.netns), NETNS_DIRS, root)
    found = []
    for each in attachments:
        # One that is not here is of a pod that was not deleted in order, or the runtime's mounts are its own.
        which = podends.namespace_of(podends.root_path(root, each.netns)) if each.netns else None
        found.append(replace(each, netns=there.get(which, "") if which is not None else ""))
    return ports_of(there.values(), root), by_address(found), wrong


def ports_of(paths: Iterable[str], root: Path) -> list[SeenPort]:
    """The interfaces in these namespaces whose other end is here. Raises KernelError."""
    home = open_own()
    try:
        with Netlink() as netlink:
            return podends.seen_ports(netlink, paths, home, root)
    finally:
        os.close(home)


def need_our_name() -> None:
    """Raises ConfigError where an interface that is no bridge has the name of l3net's: putting a move
    back would remove it, as l3net's.
    """
    with Netlink() as netlink:
        found = links.get_link(netlink, BRIDGE)
    if found is not None and found.kind != "bridge":
        raise ConfigError(
            f"{BRIDGE} exists and is not a bridge: rename it or remove it, l3net needs that name"
        )


def mentions(bridges: Iterable[str]) -> list[str]:
    """What else of this host names the old network, and will not know l3net's bridge."""
    told = []
    rules = _said("nft", "list", "ruleset") or "".join(_said(each) for each in _SAVERS)
    for bridge in bridges:
        # iptables writes `-i cni0`, nftables `iifname "cni0"`.
        count = sum(bridge in line.replace('"', " ").split() for line in rules.splitlines())
        if count:
            told.append(f"{count} rules of the host's firewall name {bridge}: l3net0 may need the same")
    if count := sum("-j CNI-" in line for line in _old_rules()):
        told.append(f"{count} rules of the old plugins masquerade pods; they stay until `finish`")
    return told


def _documents(path: Path) -> list[Any]:
    """What a dump holds, within the bounds of manifests. Raises ConfigError."""
    try:
        return [each.content for each in parse(read_bytes(path)[0], is_json=path.suffix == ".json")]
    except DocumentError as err:
        raise ConfigError(f"{path}: {err}") from None


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


def finished(journal: Journal, state_dir: Path, conf_dir: Path) -> list[str]:
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
        path = conf_dir / put_aside
        if path.exists():
            path.unlink()
            told.append(f"removed {path}")
    told += _without_masquerading(journal)
    journalfile.forget_journal(state_dir)
    return told


def _without_masquerading(journal: Journal) -> list[str]:
    """Delete the rules by which the old plugins masquerade the pods that were moved: their addresses will be
    others'. A plugin's rules bear the container's ID as a comment, and jump to a chain of the container's."""
    told = []
    containers = [each.container_id for each in journal.pods]
    for saver, restorer in zip(_SAVERS, ("iptables-restore", "ip6tables-restore"), strict=True):
        lines = _old_rules((saver,))
        ours = [line for line in lines if any(f'id: \\"{each}\\"' in line for each in containers)]
        chains = sorted({word for line in ours for word in line.split() if word.startswith("CNI-")})
        jumps = [line for line in ours if not line.startswith("-A CNI-")]
        if not jumps:
            continue
        text = ["*nat", *(f"-D{line[2:]}" for line in jumps)]
        text += [f"{verb} {each}" for verb in ("-F", "-X") for each in chains]
        try:
            subprocess.run(
                [restorer, "--noflush"],
                input="\n".join([*text, "COMMIT", ""]),
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as err:
            told.append(f"rules that masquerade the moved pods stay ({restorer}: {err})")
            continue
        told.append(f"removed the masquerading of {len(chains)} pods ({restorer.partition('-')[0]})")
    return told


_SAVERS: Final = ("iptables-save", "ip6tables-save")


def _old_rules(savers: Iterable[str] = _SAVERS) -> list[str]:
    """Rules of the reference plugins' masquerading, for each family; none where they cannot be listed."""
    told = "".join(_said(saver, "-t", "nat") for saver in savers)
    return [line for line in told.splitlines() if line.startswith("-A") and "CNI-" in line]


def _said(*argv: str) -> str:
    """What a program says; nothing where there is none."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
