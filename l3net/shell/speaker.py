"""The relay as ExaBGP runs it, and the ExaBGP configuration on disk."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from l3net.errors import ConfigError, L3netError
from l3net.naming import EXABGP_CONFIG, SPEAKER_SOCKET
from l3net.shell.supervisor import EXABGP_ENVIRONMENT

#: An ExaBGP that leaves its relay's question unanswered for this many seconds is killed and started again.
HANG_SECONDS = 5


class SpeakerError(L3netError):
    """ExaBGP would not take our configuration."""


def relay_argv(run_dir: Path) -> list[str]:
    """The relay as ExaBGP runs it."""
    relay = Path(__file__).with_name("relay.py")
    return [sys.executable, "-I", str(relay), str(run_dir / SPEAKER_SOCKET), str(HANG_SECONDS)]


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
