"""The declared state from a directory of Kubernetes manifests, followed as the files change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from l3net.errors import ConfigError
from l3net.ports import DatastoreEvent, InSync
from l3net.shell.manifests.documents import is_manifest
from l3net.shell.manifests.tree import ManifestTree
from l3net.shell.manifests.watch import DirectoryWatch

#: More bytes than this are parsed in a thread, so that the loop goes on meanwhile.
_LARGE = 512 * 1024


class DirectoryDatastore:
    """A ports.Datastore over the *.yaml, *.yml and *.json files of one directory (not of those below it).

    A file or object that is wrong is reported once, and what it said last stays in force; so does everything
    while the directory itself is missing. `rescan` is the time in seconds after which everything is looked at
    even if no change was heard of. One that is not `required` may be missing from the start; else it raises
    ConfigError then.
    """

    def __init__(
        self, path: Path | str, *, quiet: float = 0.02, rescan: float = 30.0, required: bool = True
    ) -> None:
        self._path = Path(path)
        self._quiet, self._rescan = quiet, rescan
        if required:
            self._look_for_it()

    def _look_for_it(self) -> None:
        try:
            is_dir = self._path.is_dir()
        except OSError as err:
            raise ConfigError(
                f"datastore {self._path}: {err.strerror}; name another with --datastore dir:PATH"
            ) from None
        if not is_dir:
            what = "is not a directory" if self._path.exists() else "does not exist"
            raise ConfigError(
                f"datastore {self._path} {what}: create it, or name another with --datastore dir:PATH"
            )

    async def events(self) -> AsyncIterator[DatastoreEvent]:
        """The current objects, InSync, then every change, for ever."""
        tree = ManifestTree(self._path)
        watch = DirectoryWatch(self._path, relevant=is_manifest, quiet=self._quiet, rescan=self._rescan)
        async with watch:
            for event in await _look(tree):
                yield event
            yield InSync()
            while True:
                look = await watch.changes()
                for event in await _look(tree, look.names, everything=look.everything, busy=look.busy):
                    yield event
                await asyncio.sleep(0)  # who waits for a change goes first, before it is waited for the next


async def _look(
    tree: ManifestTree,
    names: frozenset[str] = frozenset(),
    *,
    everything: bool = True,
    busy: frozenset[str] = frozenset(),
) -> list[DatastoreEvent]:
    def look() -> list[DatastoreEvent]:
        return tree.look(names, everything=everything, busy=busy)

    if tree.size(None if everything else names) > _LARGE:
        return await asyncio.to_thread(look)
    return look()
