"""The agent's end of the relay's socket, and the ExaBGP configuration on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from l3net.errors import ConfigError, L3netError
from l3net.naming import EXABGP_CONFIG, SPEAKER_SOCKET
from l3net.shell.supervisor import EXABGP_ENVIRONMENT

#: An ExaBGP that leaves its relay's question unanswered for this many seconds is killed and started again.
HANG_SECONDS = 5
READ_SIZE = 1 << 18
FIRST_RETRY = 0.05
LONGEST_RETRY = 0.25


class SpeakerError(L3netError):
    """ExaBGP would not take our configuration."""


def relay_argv(run_dir: Path) -> list[str]:
    """The relay as ExaBGP runs it."""
    relay = Path(__file__).with_name("relay.py")
    return [sys.executable, "-I", str(relay), str(run_dir / SPEAKER_SOCKET), str(HANG_SECONDS)]


class SpeakerLink:
    """Connects to the relay, again and again, and hands on what arrives.

    `connected` is called with each new connection, `received` with bytes, `lost` when it ends.
    """

    def __init__(
        self,
        run_dir: Path,
        connected: Callable[[], None],
        received: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self._path = run_dir / SPEAKER_SOCKET
        self._connected = connected
        self._received = received
        self._lost = lost
        self._writer: asyncio.StreamWriter | None = None

    @property
    def up(self) -> bool:
        return self._writer is not None

    def send(self, line: str) -> None:
        """Queue a command; nothing happens without a connection."""
        if self._writer is not None:
            self._writer.write(line.encode("ascii") + b"\n")

    async def run(self) -> None:
        """Runs until cancelled."""
        retry = FIRST_RETRY
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(retry)
                retry = min(retry * 2, LONGEST_RETRY)
                continue
            retry = FIRST_RETRY
            self._writer = writer
            self._connected()
            try:
                while data := await reader.read(READ_SIZE):
                    self._received(data)
            except OSError:
                pass
            finally:
                self._writer = None
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                self._lost()


class SpeakerConfig:
    """RUN_DIR/exabgp.conf: mode 0600, since it holds passwords; replaced whole or not at all."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / EXABGP_CONFIG
        self._pending = run_dir / f"{EXABGP_CONFIG}.pending"

    @property
    def unconfirmed(self) -> bool:
        """Whether the file was replaced and ExaBGP has not been seen to take it."""
        return self._pending.exists()

    def confirm(self) -> None:
        self._pending.unlink(missing_ok=True)

    def current(self) -> str | None:
        try:
            return self._path.read_text()
        except FileNotFoundError:
            return None
        except OSError as err:
            raise ConfigError(f"{self._path}: {err.strerror}") from err

    async def replace(self, text: str, *, validate: bool) -> None:
        """Rename into place, `validate`d by ExaBGP itself first. Raises SpeakerError, the old file staying.

        A file that a running ExaBGP cannot parse would make it refuse every later reload too.
        """
        descriptor, name = tempfile.mkstemp(prefix=".exabgp-", suffix=".conf", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if validate:
                await self._validate(name)
            self._pending.touch(mode=0o600)
            Path(name).rename(self._path)
        finally:
            Path(name).unlink(missing_ok=True)

    async def _validate(self, name: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("exabgp")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "exabgp",
            "validate",
            name,
            env=environment | EXABGP_ENVIRONMENT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,  # it repeats the configuration, passwords included
            stderr=asyncio.subprocess.DEVNULL,
            cwd="/",
        )
        if await process.wait() != 0:
            raise SpeakerError("ExaBGP refuses the generated configuration; the sessions stay as they are")
