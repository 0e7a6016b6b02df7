"""A libvirt of its own for a test: daemon, networks and machines in namespaces.

Network, mounts and processes are the place's own, and all that runs there ends with it; so are /run,
/etc/libvirt and what libvirt keeps. Machines are qemu's software emulation.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: No cgroups, users or devices of this machine for qemu.
QEMU_CONF = (
    'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nnamespaces = []\ncgroup_controllers = []\n'
)
START = r"""set -e
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/lock /run/etc
cp -a /etc/libvirt /run/etc/libvirt
rm -f /run/etc/libvirt/qemu/networks/autostart/*
cp "$1/qemu.conf" /run/etc/libvirt/qemu.conf
mount --bind /run/etc/libvirt /etc/libvirt
for name in lib log cache; do
    mkdir -p "$1/$name" "/var/$name/libvirt"
    mount --bind "$1/$name" "/var/$name/libvirt"
done
mkdir -p /var/lib/libvirt/images /var/lib/libvirt/qemu /var/lib/libvirt/dnsmasq /var/lib/libvirt/boot
ip link set lo up
virtlogd -d
libvirtd -d
until virsh -q -c qemu:///system list >/dev/null 2>&1; do sleep 0.2; done
touch "$1/ready"
# The shell is the first process here: it takes what ends and has no parent any more.
sleep infinity & wait $!
"""


class PlaceError(Exception):
    """libvirt does not run in its namespaces; says why."""


class Place:
    """Use as a context; `run` runs a command inside."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pid = 0

    def __enter__(self) -> Place:
        (self.directory / "home").mkdir(parents=True)
        (self.directory / "qemu.conf").write_text(QEMU_CONF)
        argv = ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
        argv += ["--mount-proc", "--propagation", "private", "--", "bash", "-c", START, "place"]
        argv.append(str(self.directory))
        with (self.directory / "said").open("w") as said:
            self._child = subprocess.Popen(argv, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (self.directory / "ready").exists():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self._child.kill()
                raise PlaceError((self.directory / "said").read_text()[-3000:])
            time.sleep(0.2)
        children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
        self._pid = int(children[0])
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, 9)  # the first process of its namespace: all others go with it
        self._child.wait(60)
        shutil.rmtree(self.directory / "lib", ignore_errors=True)

    def inside(self, argv: Sequence[str]) -> list[str]:
        """A command line that runs in the place."""
        return ["nsenter", "-t", str(self._pid), "-m", "-n", "-p", "-i", "-u", "--", *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        more: Mapping[str, str] | None = None,
        seconds: float = 3000,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `more` is added to the environment. Raises PlaceError if it fails."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
            "HOME": str(self.directory / "home"),
            "LIBVIRT_DEFAULT_URI": "qemu:///system",
            **(more or {}),
        }
        wrapped = ["env", "-C", str(cwd or self.directory), *argv]
        done = subprocess.run(
            self.inside(wrapped), env=environment, capture_output=True, text=True, timeout=seconds,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode:
            raise PlaceError(
                f"{' '.join(argv)}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done
