"""The journal of a node's move on the disk, and the runtime's files that are put aside meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from l3net.errors import ConfigError, L3netError
from l3net.migrating.journal import Journal, decoded, encoded
from l3net.migrating.planning import ASIDE
from l3net.shell.files.cniinstall import put_file, sync_directory

NAME: Final = "migration.json"


def read_journal(state_dir: Path) -> Journal | None:
    """None if there is none. Raises ConfigError for one that cannot be read."""
    path = state_dir / NAME
    try:
        return decoded(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ConfigError) as err:
        raise ConfigError(f"{path}: {err}") from None


def write_journal(state_dir: Path, journal: Journal) -> None:
    """It is on the disk when this returns. Raises L3netError."""
    put_file(state_dir / NAME, encoded(journal).encode(), 0o600)


def forget_journal(state_dir: Path) -> None:
    (state_dir / NAME).unlink(missing_ok=True)
    sync_directory(state_dir)


def aside(conf_dir: Path, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Where the runtime's files are and where they go."""
    return tuple((str(conf_dir / name), str(conf_dir / f"{name}{ASIDE}")) for name in names)


def put_aside(pairs: Iterable[tuple[str, str]]) -> None:
    """Rename the old network's files, so that the runtime takes l3net's. Raises L3netError."""
    _rename(pairs)


def put_back(pairs: Iterable[tuple[str, str]]) -> None:
    """The way back; a file that is in its old place already stays. Raises L3netError."""
    _rename((new, old) for old, new in pairs if not Path(old).exists())


def _rename(pairs: Iterable[tuple[str, str]]) -> None:
    for source, target in pairs:
        try:
            Path(source).rename(target)
            sync_directory(Path(target).parent)
        except FileNotFoundError:
            continue
        except OSError as err:
            raise L3netError(f"rename {source} to {target}: {err.strerror}") from err
