"""Reads what others have written down of containers' addresses, from files. Nothing of theirs is changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from l3net.errors import ConfigError
from l3net.ipam.import_host_local import parse_reservation
from l3net.migrating.ledgers import Attachment, cached, calico_block

#: Octets of a file that are read at most: a result of ADD is a few thousand.
_MOST: Final = 1 << 20


def of_cache(directory: Path) -> tuple[list[Attachment], list[str]]:
    """libcni's cache (/var/lib/cni/results), and what of it cannot be read. None of it if there is none."""
    found, wrong = [], []
    for path in _files(directory):
        try:
            text = json.loads(_read(path))
            attachment = cached(text) if isinstance(text, Mapping) else None
        except (ValueError, OSError, RecursionError, ConfigError) as err:
            wrong.append(f"{path}: {err}")
            continue
        if attachment is not None:
            found.append(attachment)
    return found, wrong


def of_host_local(directory: Path) -> list[Attachment]:
    """The reservations of host-local for a network: DIRECTORY is /var/lib/cni/networks/NAME. Raises
    ConfigError."""
    found = []
    for path in _files(directory):
        try:
            reservation = parse_reservation(directory.name, path.name, _read(path))
        except OSError as err:
            raise ConfigError(f"{path}: {err.strerror}") from None
        if reservation is not None:
            key, address = reservation
            found.append(Attachment(key.network, key.container_id, key.ifname, (address,)))
    return found


def of_calico(documents: Iterable[Any]) -> tuple[list[Attachment], list[str]]:
    """The IPAMBlocks among documents, and what of them is wrong."""
    found, wrong = [], []
    for each in documents:
        items = each.get("items") if isinstance(each, Mapping) and "items" in each else [each]
        for item in items if isinstance(items, list) else ():
            if not isinstance(item, Mapping) or item.get("kind") != "IPAMBlock":
                continue
            try:
                found += calico_block(item)
            except (ConfigError, AttributeError, TypeError) as err:
                metadata = item.get("metadata")
                name = metadata.get("name") if isinstance(metadata, Mapping) else "?"
                wrong.append(f"IPAMBlock {name}: {err}")
    return found, wrong


def host_local_networks(directory: Path = Path("/var/lib/cni/networks")) -> list[Path]:
    """The networks for which host-local has reserved something."""
    return sorted(each for each in directory.iterdir() if each.is_dir()) if directory.is_dir() else []


def _files(directory: Path) -> list[Path]:
    return sorted(each for each in directory.iterdir() if each.is_file()) if directory.is_dir() else []


def _read(path: Path) -> str:
    with path.open(errors="replace") as file:
        return file.read(_MOST)
