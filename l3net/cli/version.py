"""`l3net version`."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

from l3net import __version__
from l3net.cli import options
from l3net.cli.output import output_option, print_table, print_value
from l3net.errors import L3netError
from l3net.naming import AGENT_SOCKET, SPEAKER_VERSION

#: Seconds for which the agent may think.
PATIENCE = 2.0


@click.command(short_help="Show the release of this command and of running processes.")
@click.option(
    "--all", "everything", is_flag=True, help="Also show agent, speaker, ExaBGP, peers, Python and kernel."
)
@options.run_dir()
@output_option
def version(everything: bool, run_dir: Path, output: str) -> None:
    """Show the release of this command; with --all also of agent, speaker, ExaBGP, Python and kernel on this
    node.

    A process has the release with which it was started: one that is older than this command needs a
    restart. The release of a peer is what it says on the session (FRR from 9.0 on, with
    `neighbor X capability software-version`). The exit code is 0 even if none runs.
    """
    found = {"l3net": __version__, **(_running(run_dir) | _beside() if everything else {})}
    if output != "table":
        print_value(found, output)
        return
    if not everything:
        click.echo(f"l3net {__version__}")
        return
    peers = [(f"peer {name}", told) for name, told in found.pop("peers").items()]
    rows = [(part, told or "does not run") for part, told in found.items()]
    print_table("", ["PART", "VERSION"], [*rows, *peers])
    for part in ("agent", "speaker"):
        if found[part] not in ("", __version__):
            click.echo(f"the {part} that runs is another release: `systemctl restart l3net-{part}`", err=True)


def _running(run_dir: Path) -> dict[str, Any]:
    """Of agent and speaker, and of the ExaBGP that the speaker runs; empty where none does. `peers`: by name,
    what those that say it run."""
    from l3net.shell.sockets.agentsocket import ask  # noqa: PLC0415 - only with --all

    found: dict[str, Any] = {"agent": "", "speaker": "", "exabgp": "", "peers": {}}
    try:
        answer = ask(run_dir / AGENT_SOCKET, "brief", PATIENCE)
        found["agent"] = str(answer.get("version", ""))
        if not answer.get("speakerConnected"):
            return found
        exabgp, _, speaker = (run_dir / SPEAKER_VERSION).read_text().partition(" ")
        for row in ask(run_dir / AGENT_SOCKET, "neighbors", PATIENCE).get("neighbors", ()):
            if software := (row.get("negotiated") or {}).get("software"):
                found["peers"][row["name"]] = software
    except (L3netError, OSError, ValueError):
        return found
    return {**found, "speaker": speaker, "exabgp": exabgp}


def _beside() -> dict[str, str]:
    """Of what l3net stands on; packages that are not installed are left out."""
    from importlib import metadata  # noqa: PLC0415 - only with --all

    found = {"python": platform.python_version(), "kernel": platform.release()}
    for package in ("pyroute2", "kubernetes", "scapy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if nft := shutil.which("nft", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"):
        done = subprocess.run([nft, "--version"], capture_output=True, text=True, check=False, timeout=5)
        found["nftables"] = done.stdout.split()[1].removeprefix("v") if done.stdout else ""
    return found
