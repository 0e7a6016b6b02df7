"""The journal of a node's move on the disk, and the runtime's files that are put aside meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from l3net.errors import ConfigError, L3netError
from l3net.migrating.journal import DAMAGED, Journal, decoded, encoded
from l3net.migrating.planning import ASIDE
from l3net.shell.files.cniinstall import put_file, sync_directory

NAME: Final = "migration.json"


def read_journal(state_dir: Path) -> Journal | None:
    """None if there is none. Raises ConfigError for one that cannot be read."""
    path = state_dir / NAME
    try:
        return decoded(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: {DAMAGED} (byte {err.start} is not UTF-8)") from None
    except (OSError, ConfigError) as err:
        raise ConfigError(f"{path}: {err}") from None


def write_journal(state_dir: Path, journal: Journal) -> None:
    """It is on the disk when this returns. Raises L3netError."""
    put_file(state_dir / NAME, encoded(journal).encode(), 0o600)


def forget_journal(state_dir: Path) -> None:
    (state_dir / NAME).unlink(missing_ok=True)
    sync_directory(state_dir)


def aside(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The names of the runtime's files, and those that they get."""
    return tuple((name, f"{name}{ASIDE}") for name in names)


def put_aside(conf_dir: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Rename the old network's files, so that the runtime takes l3net's. Raises L3netError."""
    _rename(conf_dir, pairs)


def put_back(conf_dir: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """The way back; a file that has its old name already stays. Raises L3netError."""
    _rename(conf_dir, ((new, old) for old, new in pairs if not (conf_dir / old).exists()))


def _rename(conf_dir: Path, pairs: Iterable[tuple[str, str]]) -> None:
    for source, target in pairs:
        try:
            (conf_dir / source).rename(conf_dir / target)
            sync_directory(conf_dir)
        except FileNotFoundError:
            continue
        except OSError as err:
            raise L3netError(f"{conf_dir}: rename {source} to {target}: {err.strerror}") from err
