"""Run programs of another architecture: qemu's user emulation, for one command and what it starts.

The kernel hands a foreign program to an interpreter (binfmt_misc). The command has a user namespace, in which
every user is itself, with a list of interpreters of its own (Linux 6.7 or newer): that of the computer stays.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

INTERPRETER = "/usr/bin/qemu-aarch64-static"
#: An arm64 executable's first octets, and which bits of them count (as in qemu-user-static's own binfmt.d).
_MAGIC = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
_MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
#: F: the interpreter is opened now, so that a chroot need not hold it.
_LINE = f":l3net-arm64:M::{_MAGIC}:{_MASK}:{INTERPRETER}:F"
#: It waits until its users are mapped.
_START = f"""set -eu
read -r _
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
printf '%s' '{_LINE}' >/proc/sys/fs/binfmt_misc/register
exec "$@"
"""


def needed() -> list[str]:
    """Programs that are not there."""
    return [tool for tool in (INTERPRETER, "arch-test") if shutil.which(tool) is None]


def refused(environment: Mapping[str, str]) -> str:
    """Why programs for arm64 do not run here; empty when they do."""
    done = run(["arch-test", "arm64"], environment)
    if not done.returncode:
        return ""
    return f"{done.stdout.strip()} (it takes root, user namespaces, and Linux 6.7 or newer)"


def run(argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in which programs for arm64 run too. Needs root."""
    apart = ["unshare", "--user", "--mount", "--propagation", "private", "--", "sh", "-c", _START, "sh"]
    child = subprocess.Popen(
        [*apart, *argv], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    place = Path(f"/proc/{child.pid}")
    here = Path("/proc/self/ns/user").readlink()
    while child.poll() is None and (place / "ns/user").readlink() == here:
        time.sleep(0.01)
    refusal = ""
    if child.poll() is None:
        try:
            for name in ("uid_map", "gid_map"):
                (place / name).write_text("0 0 4294967295")
        except OSError as err:
            child.kill()
            refusal = f"users of a user namespace: {err.strerror}\n"
    said, _ = child.communicate("\n")
    said += refusal
    return subprocess.CompletedProcess(argv, child.returncode, said)
