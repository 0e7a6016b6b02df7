"""`l3net cni`: put the CNI plugins in place, and take them away."""

from __future__ import annotations

import platform
from pathlib import Path

import click

from l3net.cli import options
from l3net.naming import CNI_SOCKET, RUN_DIR
from l3net.shell.files import cniinstall

#: Where `make plugin` leaves the executables, and where a wheel has them.
BUILT = Path(__file__).parents[2] / "build" / "cni"
PACKED = Path(__file__).parents[1] / "plugins" / platform.machine()


def plugins_of() -> Path:
    """The plugins of this installation: those of its package, or of its source tree."""
    return PACKED if PACKED.is_dir() else BUILT


@click.group()
def cni() -> None:
    """Install or remove the CNI plugin."""


@cni.command()
@options.bin_dir
@options.conf_dir
@click.option(
    "--no-conf", is_flag=True, help="Install only the executables; you configure networks yourself."
)
@click.option("--standalone/--no-standalone", default=True, help="For configurations with their own ipam.")
@click.option(
    "--plugin-dir",
    type=click.Path(path_type=Path),
    help="Directory of the built plugins. Default: those shipped with l3net.",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=Path(RUN_DIR),
    show_default=True,
    help="The agent's run directory.",
)
def install(
    bin_dir: Path, conf_dir: Path, no_conf: bool, standalone: bool, plugin_dir: Path | None, run_dir: Path
) -> None:
    """Install the plugins into BIN_DIR and, if the agent answers, the conflist into CONF_DIR.

    Each file appears as a whole or not at all. Running it again changes nothing.
    """
    source = plugin_dir or plugins_of()
    changed = cniinstall.install(
        source, bin_dir, None if no_conf else conf_dir, run_dir / CNI_SOCKET, standalone=standalone
    )
    for path in changed:
        click.echo(f"wrote {path}")
    if not changed:
        click.echo("everything is in place already")


@cni.command()
@options.bin_dir
@options.conf_dir
def uninstall(bin_dir: Path, conf_dir: Path) -> None:
    """Remove the conflist and the plugins. Running pods keep their network."""
    for path in cniinstall.uninstall(bin_dir, conf_dir):
        click.echo(f"removed {path}")
