"""The relay as ExaBGP runs it, and the ExaBGP configuration on disk."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from l3net.errors import ConfigError, L3netError
from l3net.naming import EXABGP_CHECKED, EXABGP_CONFIG, SPEAKER_SOCKET
from l3net.shell.files.whole import write_whole
from l3net.shell.relay import ALIVE_SUFFIX
from l3net.shell.speaker.release import release_here
from l3net.shell.speaker.supervisor import EXABGP_ENVIRONMENT

#: An ExaBGP that leaves its relay's question unanswered for this many seconds is killed and started again.
HANG_SECONDS = 5


class SpeakerError(L3netError):
    """ExaBGP would not take our configuration."""


def relay_argv(run_dir: Path) -> list[str]:
    """The relay as ExaBGP runs it: the same path in every release, as a speaker of another may read it."""
    relay = Path(__file__).parent.with_name("relay.py")
    return [sys.executable, "-I", str(relay), str(run_dir / SPEAKER_SOCKET), str(HANG_SECONDS)]


def unserved(run_dir: Path) -> str:
    """Why sessions are not served on this node, as a probe asks; empty if they are.

    They are while ExaBGP answers its relay, which it does only with a configuration that it has taken. Asks
    nobody: the relay has one client, the agent.
    """
    alive = run_dir / f"{SPEAKER_SOCKET}{ALIVE_SUFFIX}"
    try:
        age = time.time() - alive.stat().st_mtime
    except OSError as err:
        return f"no ExaBGP has answered yet ({alive}: {err.strerror})"
    if age > HANG_SECONDS + 2 or age < -HANG_SECONDS:
        return f"ExaBGP last answered {age:.0f} s ago"
    return ""


class SpeakerConfig:
    """RUN_DIR/exabgp.conf: mode 0600, since it holds passwords; replaced whole or not at all."""

    def __init__(self, run_dir: Path) -> None:
        self.relay = relay_argv(run_dir)
        self._alive = run_dir / f"{SPEAKER_SOCKET}{ALIVE_SUFFIX}"
        self._path = run_dir / EXABGP_CONFIG
        self._pending = run_dir / f"{EXABGP_CONFIG}.pending"
        self._asked = run_dir / EXABGP_CHECKED
        # Blocks that ExaBGP has been asked about, by digest; and those of them that it refuses.
        self._read, self._bad = self._remembered()

    def alive(self) -> bool:
        """Whether a speaker of this release has ever answered."""
        return self._alive.exists()

    @property
    def unconfirmed(self) -> bool:
        """Whether the file was replaced and ExaBGP has not been seen to take it."""
        return self._pending.exists()

    def confirm(self) -> None:
        with contextlib.suppress(OSError):  # it is confirmed once more then
            self._pending.unlink(missing_ok=True)

    def current(self) -> str | None:
        try:
            return self._path.read_text()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            return ""  # not a file of ours, and as good as another one
        except OSError as err:
            raise ConfigError(f"{self._path}: {err.strerror}") from err

    async def refused(self, head: str, blocks: Sequence[str]) -> frozenset[str]:
        """Which blocks ExaBGP itself refuses to read. Raises SpeakerError if that cannot be found out, or
        if it refuses all of them together and none alone.

        One process for all of them, and none for what has been read before, by an agent before this one too.
        """
        told = [hashlib.sha256(f"{head}\n{block}".encode()).digest() for block in blocks]
        if not self._read.issuperset(told):
            found = await self._check([head, *blocks])
            if -1 in found:
                raise SpeakerError(
                    "ExaBGP refuses the generated configuration; the sessions stay as they are"
                )
            self._bad = {told[number] for number in found}
            self._read = set(told)
            self._remember()
        return frozenset(block for block, digest in zip(blocks, told, strict=True) if digest in self._bad)

    def _remembered(self) -> tuple[set[bytes], set[bytes]]:
        """What an agent before this one has asked this release of ExaBGP."""
        try:
            found = json.loads(self._asked.read_bytes())
            if found["release"] != release_here():
                return set(), set()
            read, bad = (set(map(bytes.fromhex, found[name])) for name in ("read", "refused"))
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return set(), set()
        return read, bad

    def _remember(self) -> None:
        """For the next agent. The digests are of blocks that may hold passwords, and as secret as these."""
        read, bad = ([each.hex() for each in sorted(found)] for found in (self._read, self._bad))
        with contextlib.suppress(OSError):  # the next one asks again
            write_whole(self._asked, json.dumps({"release": release_here(), "read": read, "refused": bad}))

    async def replace(self, text: str) -> None:
        """Rename into place. Raises SpeakerError, the old file staying."""
        try:
            descriptor, name = tempfile.mkstemp(prefix=".exabgp-", suffix=".conf", dir=self._path.parent)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                self._pending.touch(mode=0o600)
                Path(name).rename(self._path)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as err:
            raise SpeakerError(f"{self._path} cannot be written ({err.strerror}); the sessions stay") from err

    async def _check(self, parts: Sequence[str]) -> list[int]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("exabgp")}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "l3net.shell.speaker.exabgp",
                "check",
                env=environment | EXABGP_ENVIRONMENT | {"exabgp.log.enable": "false"},
                stdin=asyncio.subprocess.PIPE,  # passwords are part of it
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # it repeats what it cannot read
                cwd="/",
            )
            answer, _ = await process.communicate(json.dumps(list(parts)).encode())
            found: list[int] = json.loads(answer)
        except (OSError, ValueError) as err:
            why = err.strerror if isinstance(err, OSError) and err.strerror else "it gave no answer"
            raise SpeakerError(f"ExaBGP cannot be asked about its configuration: {why}") from None
        return found
