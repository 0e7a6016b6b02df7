"""Who waits for a file or a socket of a directory hears of it at once, and looks where nothing tells."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from l3net.shell.files import entries as module
from l3net.shell.files.drainfile import DrainFile, ask_to_leave
from l3net.shell.files.entries import Entries
from l3net.shell.sockets.unixlink import UnixLink

#: Seconds: a poll that nobody could take for a notification, and what a notification takes at most.
POLL = 20.0
SOON = 1.0


async def heard(entries: Entries, cause: Callable[[], object], *, name: str = "leave") -> float:
    """Seconds until who waits for `name` is woken by it; the first wait, which tells nothing, is over."""
    await entries.moved(name, POLL)
    now = asyncio.get_running_loop().time
    waits = asyncio.create_task(entries.moved(name, POLL))
    await asyncio.sleep(0.05)
    assert not waits.done()
    began = now()
    cause()
    async with asyncio.timeout(SOON):
        await waits
    return now() - began


@pytest.mark.parametrize("how", ["made", "renamed", "deleted", "moved away"])
def test_what_comes_or_goes_is_heard_of_at_once(tmp_path: Path, how: str) -> None:
    run, leave = tmp_path / "run", tmp_path / "run" / "leave"
    run.mkdir()
    (tmp_path / "else").touch()
    if how in ("deleted", "moved away"):
        leave.touch()
    causes: dict[str, Callable[[], object]] = {
        "made": leave.touch,
        "renamed": partial((tmp_path / "else").rename, leave),
        "deleted": leave.unlink,
        "moved away": partial(leave.rename, tmp_path / "gone"),
    }
    assert asyncio.run(heard(Entries(run), causes[how])) < 0.2


def test_others_wake_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        entries = Entries(tmp_path)
        await entries.moved("leave", POLL)
        waits = asyncio.create_task(entries.moved("leave", POLL))
        other = asyncio.create_task(entries.moved("bfd.sock", POLL))
        await asyncio.sleep(0.05)
        (tmp_path / "routes.json").touch()
        (tmp_path / "bfd.sock").touch()
        async with asyncio.timeout(SOON):
            await other
        assert not waits.done()
        waits.cancel()

    asyncio.run(scenario())


def test_what_happens_between_the_first_look_and_the_first_wait_is_not_missed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(SOON):
            await Entries(tmp_path).moved("leave", POLL)

    asyncio.run(scenario())


def test_a_directory_that_is_replaced_is_watched_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()

    def replace() -> None:
        shutil.rmtree(run)
        run.mkdir()

    async def scenario() -> None:
        entries = Entries(run)
        await heard(entries, replace)
        assert await heard(entries, (run / "leave").touch) < 0.2

    asyncio.run(scenario())


@pytest.mark.parametrize("why", ["no directory", "no inotify"])
def test_where_nothing_tells_there_are_looks(
    tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted() -> None:
        raise OSError(24, "Too many open files")

    run = tmp_path / "run"
    if why == "no inotify":
        run.mkdir()
        monkeypatch.setattr(module, "Inotify", exhausted)

    async def scenario() -> None:
        entries = Entries(run)
        async with asyncio.timeout(SOON):
            for _ in range(2):
                await entries.moved("leave", 0.1)

    asyncio.run(scenario())


def test_a_wish_to_leave_and_its_end_are_heard_of_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        memory, now = DrainFile(tmp_path, Entries(tmp_path)), asyncio.get_running_loop().time
        await memory.touched()
        for leave in (True, False):
            waits = asyncio.create_task(memory.touched())
            await asyncio.sleep(0.05)
            began = now()
            ask_to_leave(tmp_path, leave=leave)
            await waits
            assert memory.asked() is leave and now() - began < 0.2

    asyncio.run(scenario())


def test_a_process_that_comes_is_connected_to_at_once(tmp_path: Path) -> None:
    """However long it was not there, and however often it goes and comes."""

    async def scenario() -> None:
        connected, lost = asyncio.Event(), asyncio.Event()
        come = partial(Entries(tmp_path).moved, "bfd.sock")
        path = tmp_path / "bfd.sock"
        link = UnixLink(path, connected.set, lambda _: None, lost.set, longest_retry=POLL, come=come)
        running, now = asyncio.create_task(link.run()), asyncio.get_running_loop().time
        for _ in range(2):
            await asyncio.sleep(0.3)
            assert not link.up
            began = now()
            taken = asyncio.Event()
            writers: list[asyncio.StreamWriter] = []

            def take(
                _: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                to: list[asyncio.StreamWriter] = writers,
                told: asyncio.Event = taken,
            ) -> None:
                to.append(writer)
                told.set()

            server = await asyncio.start_unix_server(take, path)
            async with asyncio.timeout(SOON):
                await connected.wait()
            assert now() - began < 0.3
            path.unlink()
            await taken.wait()
            server.close()
            for each in writers:
                each.close()
            async with asyncio.timeout(SOON):
                await lost.wait()
            connected.clear()
            lost.clear()
        running.cancel()

    asyncio.run(scenario())
