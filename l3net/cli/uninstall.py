"""`l3net uninstall`."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import click

from l3net.cli import options
from l3net.errors import ConfigError, L3netError
from l3net.naming import AGENT_SOCKET, BFD_SOCKET, SPEAKER_SOCKET, STATE_DIR

#: Pods that are named where they keep the host's network from being taken away.
MOST_NAMED = 5


@click.command(short_help="Remove l3net from this host.")
@options.bin_dir
@options.conf_dir
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path(STATE_DIR),
    show_default=True,
    help="Leases and what else outlives a restart.",
)
@click.option("--keep-state", is_flag=True, help="Keep leases and histories in STATE_DIR.")
@click.option("--keep-sysctls", is_flag=True, help="Keep the kernel settings that l3net has set.")
@click.option(
    "--force", is_flag=True, help="Remove l3net even if pods are attached: they lose their network."
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and do nothing else.")
@options.run_dir()
def uninstall(
    bin_dir: Path,
    conf_dir: Path,
    state_dir: Path,
    keep_state: bool,
    keep_sysctls: bool,
    force: bool,
    dry_run: bool,
    run_dir: Path,
) -> None:
    """Remove l3net from this host: CNI plugins and their configuration, routes and rules of protocol 108,
    l3net's interfaces and nftables tables, and its directories.

    First drain the node, delete its pods, and stop agent, speaker and BFD. It changes nothing of other
    software, and keeps the declared state (in a cluster, or in a directory of manifests). It resets kernel
    settings (sysctls) that l3net has changed since the host booted, unless --keep-sysctls is given. It gives
    a network that `l3net migrate node` has put aside its configuration and its bridge's addresses back.
    Exit code 1: a process of l3net runs, or pods are attached. Run it again to remove the rest.
    """
    from l3net.shell.files import cniinstall  # noqa: PLC0415 - after --help
    from l3net.shell.files.journalfile import forget_journal, read_journal  # noqa: PLC0415
    from l3net.shell.kernel import sysctl  # noqa: PLC0415
    from l3net.shell.kernel.removal import attached, leftovers, remove  # noqa: PLC0415

    if os.geteuid() != 0:
        raise ConfigError("this needs root (routes, interfaces, nftables): try again with sudo")
    if running := _running(run_dir):
        raise L3netError(
            f"{' and '.join(running)} of this host still run: stop them first "
            f"(`systemctl stop {' '.join(f'l3net-{name}' for name in running)}`, or delete their pods)"
        )
    pods = attached()
    if pods and not (force or dry_run):
        named = ", ".join(f"{name} ({alias})" if alias else name for name, alias in pods[:MOST_NAMED])
        more = f" and {len(pods) - MOST_NAMED} more" if len(pods) > MOST_NAMED else ""
        raise L3netError(f"pods are attached: {named}{more}. Delete them, or say --force")
    found = leftovers()
    directories = [path for path in (run_dir, *(() if keep_state else (state_dir,))) if path.exists()]
    if dry_run:
        files = (conf_dir / cniinstall.CONFLIST, *(bin_dir / name for name in cniinstall.PLUGINS))
        told = [
            *(str(path) for path in (*files, *directories) if path.exists()),
            *(each.what for each in found),
        ]
        for what in told:
            click.echo(f"would remove {what}")
        for setting, value in () if keep_sysctls else sysctl.noted(run_dir).items():
            click.echo(f"would set {setting} to {value}, as it was")
        click.echo(f"{len(told)} things to remove")
        return
    journal = read_journal(state_dir)
    for path in cniinstall.uninstall(bin_dir, conf_dir):
        click.echo(f"removed {path}")
    remove(found, lambda what: click.echo(f"removed {what}"))
    for setting in () if keep_sysctls else sysctl.restore(run_dir):
        click.echo(f"set {setting} to what it was")
    if journal is not None:
        from l3net.attach.migration import old_network_back  # noqa: PLC0415

        for line in old_network_back(journal, conf_dir):
            click.echo(line)
        forget_journal(state_dir)
    for path in directories:
        _empty(path)
        click.echo(f"removed {path}")


def _empty(directory: Path) -> None:
    """Take it away with what is in it; one that something is mounted on stays, empty."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    try:
        directory.rmdir()
    except OSError as err:
        if err.errno != errno.EBUSY:
            raise


def _running(run_dir: Path) -> list[str]:
    """Which of our processes answer."""
    from l3net.shell.files.cniinstall import agent_answers  # noqa: PLC0415

    sockets = {"agent": AGENT_SOCKET, "speaker": SPEAKER_SOCKET, "bfd": BFD_SOCKET}
    return [name for name, socket in sockets.items() if agent_answers(run_dir / socket)]
