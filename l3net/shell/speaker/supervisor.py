"""The speaker process: keeps ExaBGP running with the configuration the agent writes.

It outlives the agent, so that an agent restart leaves every session up. When ExaBGP ends it is started again
at once; graceful restart (RFC 4724) keeps the routes at the peers meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from l3net.naming import EXABGP_CONFIG, SPEAKER_VERSION
from l3net.ratelimit import RateLimit
from l3net.shell.files.drainfile import leaving
from l3net.shell.files.rundir import claim
from l3net.shell.files.whole import write_whole
from l3net.shell.speaker.release import release_here

log = logging.getLogger("l3net.speaker")
exabgp_log = logging.getLogger("l3net.speaker.exabgp")

#: What ExaBGP reads instead of a configuration file of its own.
EXABGP_ENVIRONMENT = {
    "exabgp.api.ack": "true",
    "exabgp.api.chunk": "100",
    "exabgp.api.cli": "false",
    "exabgp.api.show-routes-format": "v2",
    "exabgp.cache.attributes": "true",
    "exabgp.daemon.drop": "false",
    "exabgp.daemon.user": "root",
    "exabgp.log.destination": "stderr",
    "exabgp.log.level": "WARNING",
    "exabgp.log.processes": "false",
    "exabgp.log.routes": "false",
    "exabgp.log.short": "true",
    "exabgp.log.statistics": "false",
    "exabgp.tcp.bind": "",
}
#: All ExaBGP may do as root: bind port 179, and bind a socket to an interface.
CAPABILITIES = "-all,+net_bind_service,+net_raw"

FIRST_DELAY = 0.05
LONGEST_DELAY = 5.0
#: An ExaBGP that ran this long was healthy: the next restart is immediate again.
HEALTHY = 30.0
#: Seconds for which a speaker that was told to stop waits for the agent to take the node out of BGP.
LEAVE_LIMIT = 75.0


def exabgp_argv(config: Path) -> Sequence[str]:
    """ExaBGP in this interpreter, as root with only `CAPABILITIES` (setpriv(1) of util-linux)."""
    argv = [sys.executable, "-P", "-m", "l3net.shell.speaker.exabgp", "server", str(config)]
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.getuid() != 0:
        return argv
    limits = ["--bounding-set", CAPABILITIES, "--inh-caps", "-all", "--pdeathsig", "TERM"]
    return [setpriv, *limits, "--", *argv]


class Supervisor:
    """Runs until SIGTERM; `run` returns the exit code of the process.

    `linger`: seconds it goes on before it looks whether the node is leaving.
    """

    def __init__(self, run_dir: Path, linger: float = 0.0) -> None:
        self._run_dir = run_dir
        self._linger = linger
        self._config = run_dir / EXABGP_CONFIG
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._asked = False

    def run(self) -> int:
        claim(self._run_dir)
        with contextlib.suppress(OSError):  # the disk may be full: it is for `l3net version` alone
            write_whole(self._run_dir / SPEAKER_VERSION, release_here())
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        delay = FIRST_DELAY
        waiting = False
        while not self._stopping:
            if not self._config.exists():
                if not waiting:
                    log.info("waiting for the agent to write %s", self._config)
                    waiting = True
                time.sleep(0.1)
                continue
            waiting = False
            started = time.monotonic()
            code = self._run_exabgp()
            if self._stopping:
                break
            lived = time.monotonic() - started
            delay = FIRST_DELAY if lived > HEALTHY else min(delay * 2, LONGEST_DELAY)
            log.warning("ExaBGP ended with %s after %.1f s; starting it again in %.2f s", code, lived, delay)
            time.sleep(delay)
        return 0

    def _run_exabgp(self) -> int:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("exabgp")}
        environment |= EXABGP_ENVIRONMENT
        self._child = subprocess.Popen(
            exabgp_argv(self._config),
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
        )
        log.info("ExaBGP started, pid %d", self._child.pid)
        if self._stopping:  # asked for while the child was being made: `_end` has not seen it
            self._child.terminate()
        if self._child.stderr is not None:
            limit = RateLimit()
            for line in self._child.stderr:
                text = line.decode(errors="replace").rstrip()
                if not text or text.startswith("advice"):  # it misses a file that it does not need
                    continue
                passed, left_out = limit.take(time.monotonic())
                if left_out:
                    exabgp_log.warning("%d lines left out", left_out)
                if passed:
                    exabgp_log.info("%s", text)
        return self._child.wait()

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        """To stop when the node has left, if it is leaving; at once else, or when asked twice."""
        if self._asked:
            self._end()
            return
        self._asked = True
        threading.Thread(target=self._end_when_left, daemon=True).start()

    def _end_when_left(self) -> None:
        time.sleep(self._linger)
        deadline = time.monotonic() + LEAVE_LIMIT
        if leaving(self._run_dir):
            log.info("the node is leaving; ExaBGP goes on until it has left")
        while leaving(self._run_dir) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._end()

    def _end(self) -> None:
        """A planned stop: ExaBGP closes without a NOTIFICATION, so that graceful restart holds."""
        self._stopping = True
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
