"""`l3net lab export`: the files that virtual machines are provisioned from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from l3net.lab.errors import LabError
from l3net.lab.machines import machine_files
from l3net.lab.state import read_source


@click.command()
@click.argument("topology", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--to",
    "directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory to write. Obsolete files of an earlier export are removed.",
)
def export(topology: Path | None, directory: Path) -> None:
    """Write the files for virtual machines of TOPOLOGY, as vagrant/ reads them.

    For every host: its interfaces, addresses, routes and sysctls. For routers: the configuration of FRR,
    BIRD, OpenBGPD and VyOS. For nodes: manifests and kubeadm's configuration. Needs no root.
    """
    files = machine_files(read_source(topology))
    try:
        gone = write_export(directory, files)
    except OSError as err:
        raise LabError(f"{err.filename or directory}: cannot be written: {err.strerror}") from None
    click.echo(f"{directory}: {len(files)} files written{f', {gone} removed' if gone else ''}")


def write_export(directory: Path, files: dict[str, str]) -> int:
    """Write the files of an export and remove what an earlier one had beside; how many were removed."""
    record = directory / "lab.json"
    if directory.exists() and any(directory.iterdir()) and not record.exists():
        raise LabError(f"{directory} is neither empty nor an export: name another directory with --to")
    try:
        before = json.loads(record.read_text())["files"] if record.exists() else []
    except (ValueError, KeyError):
        raise LabError(f"{record} is damaged: remove {directory} and export again") from None
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    stale = [directory / str(name) for name in before if name not in files]
    for path in stale:
        path.unlink(missing_ok=True)
        if path.parent != directory and path.parent.exists() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    return len(stale)
