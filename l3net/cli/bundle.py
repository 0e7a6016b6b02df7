"""`l3net bundle`."""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import click

from l3net import __version__
from l3net.cli import options
from l3net.cli.waiting import ask
from l3net.errors import ConfigError, L3netError, refusal
from l3net.naming import AGENT_SOCKET, STATE_DIR
from l3net.shell.bundling import BundleError, commands, read_tail, run, scrubbed, secrets_of, sysctls

#: Questions of the agent, each a file.
_QUESTIONS: Final = {
    "status": "status",
    "routes": "routes",
    "exports": "exports",
    "neighbors": "neighbors",
    "names": "names",
    "history": 'history {"limit": 10000}',
    "policies": "policy list",
    "drops": "policy drops",
}
_PATIENCE: Final = 60.0
_PACKAGES: Final = ("exabgp", "pyroute2", "kubernetes", "click", "netaddr", "msgspec", "scapy", "aiohttp")
#: Seconds for the doctor, which watches peers that are down.
_DOCTOR: Final = 120.0
_README: Final = """The state of this node as l3net knows it, for support. Passwords are removed.

agent/     what the agent answers: status, routes learned and announced, peers, history, policies, drops
doctor.json   `l3net doctor --no-probe`, as of then
kernel/    links, addresses, routes, rules, neighbours, bridge, nftables, sysctls, connections
leases.json   `l3net ipam show`
logs/      the end of each log that was found or named
exabgp.conf   without passwords
versions.json

"""


@dataclass
class Archive:
    """A tar file in the making. `hidden` are texts that stand nowhere in it; `failed`: what is missing."""

    tar: tarfile.TarFile
    root: str
    hidden: frozenset[str]
    failed: list[str] = field(default_factory=list)

    def put(self, name: str, text: str) -> None:
        """One file, without what is hidden."""
        data = scrubbed(text, self.hidden).encode(errors="backslashreplace")
        entry = tarfile.TarInfo(f"{self.root}/{name}")
        entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
        self.tar.addfile(entry, io.BytesIO(data))


@click.command(short_help="Collect the state of this node in one archive.")
@click.option(
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The archive to write, readable only by its owner. Default: l3net-bundle-NODE-TIME.tar.gz.",
)
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A log file to add to those of journald (units l3net-*). Repeatable.",
)
@click.option(
    "--lines",
    type=click.IntRange(1, 1_000_000),
    default=5000,
    show_default=True,
    help="Number of lines from the end of each log.",
)
@click.option(
    "--doctor/--no-doctor", default=True, show_default=True, help="Also run `l3net doctor --no-probe`."
)
@options.run_dir()
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path(STATE_DIR),
    show_default=True,
    help="Leases and what else outlives a restart.",
)
def bundle(
    target: Path | None,
    logs: tuple[Path, ...],
    lines: int,
    doctor: bool,
    run_dir: Path,
    state_dir: Path,
) -> None:
    """Collect versions, status, routes, RIBs, history, policies, leases, the kernel's links, routes,
    nftables and sysctls, logs and the doctor's findings in one archive, for support.

    It changes nothing. Passwords of BGP and BFD are removed from ExaBGP's configuration and blacked out
    everywhere else. Check the archive before you send it: it contains addresses, names of pods and
    services, and policies.

    README.txt in the archive and standard error name what could not be collected, for example without an
    agent. Exit code 0: the archive was written; 1: it could not be written.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    node = platform.node() or "node"
    chosen = target or Path(f"l3net-bundle-{node}-{stamp}.tar.gz")
    try:
        descriptor = os.open(chosen, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{chosen} is there already; name another file with --output") from None
    except OSError as err:
        raise BundleError(f"{chosen}: {refusal(err, 'name another file with --output')}") from err
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            archive = Archive(tar, f"l3net-bundle-{node}-{stamp}", secrets_of(run_dir))
            _fill(archive, run_dir, state_dir, logs, lines, doctor=doctor)
    except BaseException as err:
        chosen.unlink(missing_ok=True)  # half an archive is none
        if isinstance(err, OSError):
            raise BundleError(f"{chosen}: {refusal(err)}") from err
        raise
    for text in archive.failed:
        click.echo(f"l3net: not in the archive: {text}", err=True)
    click.echo(str(chosen))


def _fill(
    archive: Archive, run_dir: Path, state_dir: Path, logs: tuple[Path, ...], lines: int, *, doctor: bool
) -> None:
    leases = ["ipam", "--state-dir", str(state_dir), "show", "-o", "json"]
    parts: list[tuple[str, Callable[[], Iterator[tuple[str, str]]]]] = [
        ("versions", _versions),
        ("agent", lambda: _agent(archive, run_dir)),
        ("kernel", lambda: _kernel(archive)),
        ("leases", lambda: _own(archive, "leases.json", leases)),
        ("configuration of ExaBGP", lambda: _exabgp(archive, run_dir)),
        ("logs", lambda: _logs(archive, logs, lines)),
    ]
    if doctor:
        asked = [
            "doctor",
            "--no-probe",
            "--run-dir",
            str(run_dir),
            "--state-dir",
            str(state_dir),
            "-o",
            "json",
        ]
        parts.append(("doctor", lambda: _own(archive, "doctor.json", asked)))
    for name, make in parts:
        if sys.stderr.isatty():
            click.echo(f"{name} ...", err=True)
        for file, text in make():
            archive.put(file, text)
    missing = "".join(f"missing: {text}\n" for text in archive.failed)
    archive.put("README.txt", _README + missing)


def _versions() -> Iterator[tuple[str, str]]:
    found: dict[str, Any] = {
        "l3net": __version__,
        "python": sys.version,
        "kernel": platform.uname()._asdict(),
    }
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    try:
        found["system"] = platform.freedesktop_os_release()
    except OSError:
        found["system"] = None
    yield "versions.json", json.dumps(found, indent=1)


def _agent(archive: Archive, run_dir: Path) -> Iterator[tuple[str, str]]:
    for name, question in _QUESTIONS.items():
        try:
            answer = ask(run_dir / AGENT_SOCKET, question, _PATIENCE)
        except L3netError as err:
            archive.failed.append(f"agent/{name}.json: {err}")
            if name == "status":  # nobody answers: the others would only take their time
                return
            continue
        yield f"agent/{name}.json", json.dumps(answer, indent=1)


def _kernel(archive: Archive) -> Iterator[tuple[str, str]]:
    for name, command in commands().items():
        try:
            yield f"kernel/{name}", run(command)
        except BundleError as err:
            archive.failed.append(f"kernel/{name}: {err}")
    yield "kernel/sysctls.txt", sysctls()


def _own(archive: Archive, name: str, arguments: list[str]) -> Iterator[tuple[str, str]]:
    """What a command of ours prints; it may well exit with 1."""
    try:
        yield name, run([sys.executable, "-m", "l3net.cli.main", *arguments], _DOCTOR, codes=(0, 1, 3))
    except BundleError as err:
        archive.failed.append(f"{name}: {err}")


def _exabgp(archive: Archive, run_dir: Path) -> Iterator[tuple[str, str]]:
    path = run_dir / "exabgp.conf"
    try:
        yield "exabgp.conf", path.read_text(errors="backslashreplace")
    except OSError as err:
        archive.failed.append(f"exabgp.conf: {path}: {err.strerror}")


def _logs(archive: Archive, logs: tuple[Path, ...], lines: int) -> Iterator[tuple[str, str]]:
    for number, path in enumerate(logs):
        try:
            yield f"logs/{number}-{path.name}", read_tail(path, lines)
        except OSError as err:
            archive.failed.append(f"logs: {path}: {err.strerror}")
    for unit in ("l3net-agent", "l3net-speaker", "l3net-bfd", "l3net-controller", "l3net-glass"):
        try:
            text = run(["journalctl", "--no-pager", "-o", "short-iso-precise", "-u", unit, "-n", str(lines)])
        except BundleError as err:
            archive.failed.append(f"logs of journald: {err}")
            return
        if text.strip() and "-- No entries --" not in text:
            yield f"logs/{unit}.log", text
