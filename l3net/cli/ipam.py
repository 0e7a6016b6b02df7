"""`l3net ipam`: look into the lease store of this node, and mend it."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from l3net.addresses import parse_address
from l3net.attach import rules as cnirules
from l3net.attach.adopting import record_extras
from l3net.attach.there import host_ends, present
from l3net.cli import options
from l3net.cli.output import output_option, print_table, print_value
from l3net.cli.values import known
from l3net.cli.waiting import ask
from l3net.cni.ifname import host_ifname
from l3net.errors import ConfigError, L3netError, NotRunningError
from l3net.ipam.import_host_local import leases_of, parse_reservation
from l3net.ipam.lease import Lease, LeaseKey
from l3net.model import Address
from l3net.naming import AGENT_SOCKET, LEASE_DB, STATE_DIR
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.kernel.netlink import Netlink


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _fields(lease: Lease) -> dict[str, Any]:
    return {
        "network": lease.key.network,
        "containerID": lease.key.container_id,
        "ifname": lease.key.ifname,
        "addresses": [str(leased.address) for leased in lease.addresses],
        "pod": str(lease.pod),
        "podUID": lease.pod.uid,
        "hostInterface": lease.host_ifname,
        "since": _time(lease.assigned_at),
        "sequence": lease.sequence,
    }


def _show(rows: Iterable[dict[str, Any]], columns: list[str], output: str) -> None:
    listed = list(rows)
    if output != "table":
        print_value(listed, output)
        return
    cells = [
        [" ".join(row[name]) if isinstance(row[name], list) else row[name] for name in columns]
        for row in listed
    ]
    print_table("", [_header(name) for name in columns], cells)


def _header(field: str) -> str:
    """`podUID` as `POD UID`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", field).upper()


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as err:
        raise ConfigError(str(err)) from None


@click.group()
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path(STATE_DIR),
    show_default=True,
    help="Directory of leases.db. For configurations with their own ipam: their dataDir, or its `cni`.",
)
@click.pass_context
def ipam(context: click.Context, state_dir: Path) -> None:
    """Show and repair the address leases of this node."""
    context.obj = state_dir / LEASE_DB


def _open(path: Path, *, create: bool = False) -> SqliteLeases:
    if not create and not path.exists():
        beside = path.parent / "cni"
        there = (beside / path.name).exists()
        hint = f"there is one in --state-dir {beside}" if there else "choose another --state-dir"
        raise ConfigError(f"{path} does not exist; {hint}")
    store = SqliteLeases(path, verify=True)
    click.get_current_context().call_on_close(store.close)
    return store


@ipam.command()
@click.option("--network", help="Only this network.")
@output_option
@click.pass_obj
def show(path: Path, network: str | None, output: str) -> None:
    """List the leases."""
    rows = [_fields(lease) for lease in _open(path).leases(network)]
    _show(rows, ["addresses", "pod", "network", "containerID", "ifname", "since"], output)


@ipam.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def backup(path: Path, file: Path) -> None:
    """Copy the whole store into FILE while the agent runs.

    To restore it, stop the agent, replace leases.db with FILE, remove leases.db-wal and leases.db-shm,
    and start the agent. It frees the leases of pods that no longer run.
    """
    if not path.exists():
        _open(path)  # says so
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.touch(mode=0o600, exist_ok=False)
        source = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=10)
        with closing(source) as store, closing(sqlite3.connect(beside)) as copy:
            store.backup(copy)
        beside.replace(file)
    except sqlite3.Error as err:
        raise L3netError(f"{path}: {err}") from None
    finally:
        beside.unlink(missing_ok=True)
    click.echo(f"{file}: {file.stat().st_size / 1024:.0f} KiB")


@ipam.command()
@click.argument("address", shell_complete=known("addresses"))
@output_option
@click.pass_obj
def who(path: Path, address: str, output: str) -> None:
    """Show the pod that has ADDRESS. Exit code 1 if there is none."""
    found = _open(path).holder(_address(address))
    _show(map(_fields, found), ["addresses", "pod", "network", "containerID", "ifname", "since"], output)
    sys.exit(0 if found else 1)


@ipam.command()
@click.argument("address", required=False, shell_complete=known("addresses"))
@click.option("--limit", default=100, show_default=True, help="Rows at most, the newest.")
@output_option
@click.pass_obj
def history(path: Path, address: str | None, limit: int, output: str) -> None:
    """List assignments and releases, the newest first."""
    rows = [
        {
            "at": _time(entry.at),
            "event": entry.event,
            "address": str(entry.address),
            "pod": str(entry.pod),
            "network": entry.key.network,
            "containerID": entry.key.container_id,
            "ifname": entry.key.ifname,
        }
        for entry in _open(path).history(_address(address) if address else None, limit)
    ]
    _show(rows, ["at", "event", "address", "pod", "network", "containerID", "ifname"], output)


@ipam.command()
@options.run_dir("Run directory of the agent, which knows the node's blocks.")
@output_option
@click.pass_obj
def check(path: Path, run_dir: Path, output: str) -> None:
    """Compare leases with this node's interfaces. Changes nothing. Exit code 1 if they differ.

    Interfaces of another store, or without an agent, do not count.
    """
    store = _open(path)
    with Netlink() as netlink:
        there = present(host_ends(netlink), store)
    seen = there.apart(store.identity)
    strangers = [lease for lease in there.unknown() if lease.store != store.identity]
    rows = [
        {"what": "lease without interface", "of": f"{key.network} {key.container_id} {key.ifname}"}
        for key, _ in sorted(seen.leases)
    ]
    rows += [{"what": "interface without lease", "of": name} for name, _ in sorted(seen.links)]
    rows += [
        {"what": "interface of another lease store (--state-dir)", "of": lease.host_ifname}
        for lease in strangers
    ]
    rows += [
        {"what": f"{each['attachments']} attachments in a block the node has lost", "of": each["block"]}
        for each in _lost_blocks(run_dir, store.identity)
    ]
    if not rows and output == "table":
        click.echo(
            f"ok: each of the {len(there.leases)} leases has its interface, "
            "and no interface is without a lease"
        )
        return
    _show(rows, ["what", "of"], output)
    if rows:
        sys.exit(1)


def _lost_blocks(run_dir: Path, identity: str) -> list[dict[str, Any]]:
    """As the agent tells, if it is there and this is its store."""
    try:
        pods = ask(run_dir / AGENT_SOCKET, "status").get("pods") or {}
    except NotRunningError:
        return []
    lost: list[dict[str, Any]] = pods.get("retained") or []
    return lost if identity and pods.get("store") == identity else []


@ipam.command()
@click.argument("address", shell_complete=known("addresses"))
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def release(path: Path, address: str, yes: bool) -> None:
    """Release the attachment that has ADDRESS: all its addresses, after the cool-down.

    It does not change the pod's interface; the runtime's DEL does that.
    """
    store = _open(path)
    found = store.holder(_address(address))
    if not found:
        raise L3netError(f"no one holds {address}")
    for lease in found:
        what = f"{lease.key.network} {lease.key.container_id} {lease.key.ifname} {lease.pod}".rstrip()
        if yes or click.confirm(f"release {what}?"):
            store.release(lease.key, sequence=lease.sequence, event="release")
            click.echo(f"released {what}")


@ipam.command("import-host-local")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--network", help="The network's name [default: the directory's].")
@click.pass_obj
def import_host_local(path: Path, directory: Path, network: str | None) -> None:
    """Import the reservations of the reference plugin host-local: DIRECTORY is /var/lib/cni/networks/NAME."""
    store = _open(path, create=True)
    name = network or directory.resolve().name
    found = [
        parsed
        for entry in sorted(directory.iterdir())
        if entry.is_file()
        and (parsed := parse_reservation(name, entry.name, entry.read_text(errors="replace")))
    ]
    taken = 0
    for lease in leases_of(found):
        if store.find(lease.key) or not store.adopt(lease):
            taken += 1
            click.echo(
                f"skipped {lease.key.container_id} {lease.key.ifname}: it or its address is there", err=True
            )
    click.echo(f"imported {len(leases_of(found)) - taken} of {len(leases_of(found))} attachments into {name}")


@ipam.command()
@click.pass_obj
def rebuild(path: Path) -> None:
    """Build a new store from the interfaces of running pods, after you moved a damaged one away.

    Every host interface of l3net has its attachment and addresses in its alias.
    """
    if path.exists():
        raise ConfigError(f"{path} exists; stop the agent and move it (with -wal and -shm) away first")
    store = _open(path, create=True)
    count, rules = 0, cnirules.listed()
    with Netlink() as netlink:
        for end in host_ends(netlink):
            if end.lease is not None and store.adopt(checked := _checked(end.lease)):
                count += 1
                record_extras(store, rules, replace(checked, host_ifname=end.name))
    click.echo(f"rebuilt {path} with {count} attachments")


def _checked(lease: Lease) -> Lease:
    """The host end's name follows from the attachment; a renamed link must not become another's."""
    key = LeaseKey(lease.key.network, lease.key.container_id, lease.key.ifname)
    return replace(lease, host_ifname=host_ifname(key))
