"""Puts and deletes the nftables elements of attachments (table `l3net_cni`), by the nft command."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from l3net.cni import failure
from l3net.cni.extras import TABLE, Extras, delete_commands, put_script, stale_connections
from l3net.cni.failure import CniError
from l3net.errors import KernelError
from l3net.late import logger
from l3net.shell.kernel import sysctl
from l3net.shell.kernel.linkaddresses import local_addresses
from l3net.shell.kernel.netlink import Netlink
from l3net.shell.kernel.nftcommand import find_nft

if TYPE_CHECKING:  # a plugin begins with this, for each pod where no agent runs
    import subprocess

log = logger(__name__)

PATIENCE: Final = 20.0
#: Family and name of a chain to its rules as nft lists them.
Chain: TypeAlias = Callable[[str, str], str]


class Rules(Protocol):
    """What this module does."""

    def put(self, extras: Extras) -> None: ...

    def delete(self, extras: Extras) -> None: ...

    def missing(self, extras: Extras, chain: Chain | None = None) -> list[str]: ...

    def listed_chain(self, family: str, chain: str) -> str: ...

    def listed(self) -> list[dict[str, Any]]: ...


def _run(*arguments: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
    """The nft command in the calling thread's namespace. Raises OSError."""
    import subprocess  # noqa: PLC0415

    try:
        return subprocess.run(
            [find_nft(), *arguments],
            input=script,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={"PATH": os.defpath},
        )
    except subprocess.TimeoutExpired as err:
        raise TimeoutError(errno.ETIMEDOUT, str(err)) from None


def _nft(script: str) -> str:
    """Run a script as one transaction; nft's complaint, '' if none."""
    try:
        done = _run("-f", "-", script=script)
    except OSError as err:
        return f"nft: {err}"
    return done.stderr.strip() if done.returncode else ""


def put(extras: Extras) -> None:
    """Publish ports, masquerade, pin: all elements or none.

    Raises CniError, and KernelError where the elements are there and a setting was refused.
    """
    script = put_script(extras)
    if complaint := _nft(script) if script.strip() else "":
        if "File exists" in complaint and extras.ports:
            ports = ", ".join(f"{each.host_port}/{each.protocol}" for each in extras.ports)
            raise CniError(failure.INVALID_CONFIG, f"a host port of {ports} is published by another pod")
        raise CniError(failure.KERNEL_REFUSED, "nftables refused the rules", complaint.splitlines()[0])
    if extras.ports:  # so that 127.0.0.1:port of the host works too
        sysctl.write(f"net/ipv4/conf/{extras.bridge}/route_localnet", "1")
    _forget_stale(extras, published=True)


def delete(extras: Extras) -> None:
    """Take an attachment's elements away; what is gone already is success. Raises KernelError."""
    commands = delete_commands(extras)
    if commands and _nft("\n".join(commands) + "\n"):
        for command in commands:
            complaint = _nft(command + "\n")
            if complaint and "No such file" not in complaint and "not found" not in complaint:
                raise KernelError(f"nft {command}: {complaint.splitlines()[0]}", 5)
    _forget_stale(extras, published=False)


def _forget_stale(extras: Extras, *, published: bool) -> None:
    """After the table changed, so that the next packet of a stream meets what is in force now."""
    if all(each.protocol == "tcp" for each in extras.ports):
        return
    from l3net.shell.kernel.conntrack import forget_stale  # noqa: PLC0415

    try:
        with Netlink() as netlink:
            local = local_addresses(netlink)
        forget_stale(stale_connections(extras, local, published=published))
    except KernelError as err:  # the ports are as they should be; streams that were there before are not
        log.warning("forget connections to the host ports of %s: %s", extras.port, err)


def missing(extras: Extras, chain: Chain | None = None) -> list[str]:
    """The elements and chains of an attachment that are not there, for CHECK. A chain without its rules is
    none. `chain` reads one, for whoever asks of many attachments."""
    return [*_missing_elements(extras), *_missing_chains(extras, chain or listed_chain)]


def _missing_chains(extras: Extras, chain: Chain) -> list[str]:
    wanted = []
    if extras.ports or extras.masquerade:
        wanted += [("inet", "publish", "dnat"), ("inet", "postrouting", "masquerade")]
        wanted += [("inet", "prerouting", "publish"), ("inet", "output", "publish")]
    if extras.mac:
        wanted.append(("bridge", "prerouting", "drop"))
    return [f"{family} {TABLE} {name}" for family, name, word in wanted if word not in chain(family, name)]


def listed_chain(family: str, chain: str) -> str:
    """The rules of a chain as nft lists them; empty if there is none."""
    try:
        done = _run("list", "chain", family, TABLE, chain)
    except OSError:
        return ""
    return done.stdout.partition("{")[2].partition("{")[2] if done.returncode == 0 else ""


def _missing_elements(extras: Extras) -> list[str]:
    commands = [command.replace("delete element", "get element", 1) for command in delete_commands(extras)]
    if not commands or not _nft("\n".join(commands) + "\n"):
        return []
    return [command.removeprefix("get element ") for command in commands if _nft(command + "\n")]


def listed() -> list[dict[str, Any]]:
    """What the tables hold, as nft tells in JSON; nothing where there are none. Raises KernelError."""
    found: list[dict[str, Any]] = []
    for family in ("inet", "bridge"):
        try:
            done = _run("-j", "list", "table", family, TABLE)
            if done.returncode == 0:
                found += json.loads(done.stdout)["nftables"]
        except (OSError, ValueError, KeyError) as err:
            raise KernelError(f"nft list table {family} {TABLE}: {err}", errno.EIO) from err
    return found
