"""A lab of machines for tests: a copy of the working tree with a topology of its own, `vagrant up` from the
boxes of `make vagrant-box` with libvirt in a place of its own (libvirt_place.py), and ssh."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from libvirt_place import Place
from machine_root import TREE, _run

#: Of each test with such a lab.
MARKS = [
    pytest.mark.netns,
    pytest.mark.vm,
    pytest.mark.timeout(10800),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
#: Boxes by the name under which a lab has them.
BOXES = {
    "l3net/lab": TREE / "dist" / "l3net-lab-libvirt.box",
    "l3net/lab-arm64": TREE / "dist" / "l3net-lab-libvirt-arm64.box",
}
#: In the place's own /run, since a socket's path is short; one that is gone is done without.
SHARED = ("-o", "ControlPath=/run/ssh-%C", "-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=10")
#: Emulation on a busy machine.
PATIENCE = "30"
BLOCKS = {"n1": ("10.244.1.0/24", "fd00:10:244:1::/120"), "n2": ("10.244.2.0/24", "fd00:10:244:2::/120")}


class VagrantLab:
    """The machines, as `vagrant` and ssh reach them; `r1` is the router of BLOCKS."""

    def __init__(self, place: Place, tree: Path) -> None:
        self.place, self.tree = place, tree
        self.here = tree / "vagrant"

    def vagrant(
        self, *arguments: str, check: bool = True, box: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        more = {
            "VAGRANT_HOME": str(self.place.directory / "home/.vagrant.d"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_NO_COLOR": "1",
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_NO_PARALLEL": "1",
            "L3NET_DRIVER": "qemu",
            "L3NET_K8S": "0",
            **({"VAGRANT_BOX": box} if box else {}),
        }
        return self.place.run(["vagrant", *arguments], cwd=self.here, more=more, check=check)

    def up(self, hosts: Sequence[str], box: str | None = None) -> None:
        """Bring machines up side by side; each begins when the one before has its disk, since vagrant-libvirt
        copies the box's image for whoever comes first, and others take it as it is by then."""
        with ThreadPoolExecutor() as pool:
            begun = []
            for host in hosts:
                begun.append((host, pool.submit(self.vagrant, "up", host, box=box)))
                until("its disk", lambda b=begun: b[-1][1].done() or self._there(b[-1][0]))  # type: ignore[misc]
            for host, going in begun:
                said = going.result().stdout
                assert f"-- {host}: done" in said, said[-3000:]

    def _there(self, host: str) -> bool:
        return f"vagrant_{host}" in self.place.run(["virsh", "list", "--name"]).stdout.split()

    def connect(self, *hosts: str) -> None:
        """A connection to each that commands share: each login would start a manager of units."""
        (self.here / ".ssh-config").write_text(self.vagrant("ssh-config", *hosts).stdout)
        for host in hosts:
            argv = ["ssh", "-F", str(self.here / ".ssh-config"), *SHARED, "-o", "ControlMaster=yes"]
            argv += ["-o", "ControlPersist=yes", "-o", "ConnectTimeout=60", "-fN", host]
            # It stays, and would hold a pipe open.
            subprocess.run(
                self.place.inside(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, check=True, timeout=600,
            )  # fmt: skip
            state = self.ssh(host, "systemctl is-system-running --wait", check=False).strip()
            assert state == "running", (host, self.ssh(host, "systemctl --failed", check=False))

    def ssh(self, host: str, command: str, *, check: bool = True, seconds: float = 600) -> str:
        argv = ["ssh", "-F", str(self.here / ".ssh-config"), *SHARED, "-o", "ConnectTimeout=60", host]
        argv.append(f"sudo sh -c {shlex.quote(command)}")
        return self.place.run(argv, check=check, seconds=seconds).stdout

    def l3net(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`l3net lab` on the machines, as the Makefile calls it."""
        argv = [sys.executable, "-m", "l3net.cli.main", "lab", *arguments]
        argv += ["--ssh-config", str(self.here / ".ssh-config")]
        argv += ["--topology", str(self.here / "generated/topology.yaml")]
        return self.place.run(argv, check=check, cwd=self.tree)

    def checked(self, *arguments: str) -> None:
        """`make vagrant-check`: every result is ok."""
        said = self.l3net("check", "--patience", PATIENCE, *arguments, check=False)
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-2000:]

    def paths(self, node: str) -> list[str]:
        """How the router has the blocks of a node, of both families: tagged, plain, or not at all."""
        told = []
        for block in BLOCKS[node]:
            kind = "ipv6" if ":" in block else "ipv4"
            said = self.ssh("r1", f'vtysh -c "show bgp {kind} unicast {block}"', check=False)
            told.append("tagged" if "graceful-shutdown" in said else "plain" if "best" in said else "none")
        return told

    def asked(self, name: str, address: str) -> str:
        """What a server says to the client."""
        return self.ssh("client", f"curl -sS -m 20 http://{address}:8080/", check=False)


def until(what: str, true: Callable[[], bool], seconds: float = 1200) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(1)


@contextmanager
def vagrant_lab(directory: Path, topology: str, boxes: Sequence[str]) -> Iterator[VagrantLab]:
    """The lab, no machine of which is up. Skips the test where a box is not there."""
    for box in boxes:
        if not BOXES[box].exists():
            pytest.skip(f"needs {BOXES[box].relative_to(TREE)}: `make vagrant-box`")
    tree = directory / "tree"
    listed = _run(["git", "-C", str(TREE), "ls-files", "-co", "--exclude-standard"], "git ls-files")
    for name in listed.splitlines():
        if (TREE / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TREE / name, tree / name)
    (tree / "small.yaml").write_text(topology)
    argv = [sys.executable, "-m", "l3net.cli.main", "lab", "export", "--to", str(tree / "vagrant/generated")]
    subprocess.run([*argv, str(tree / "small.yaml")], check=True, cwd=TREE, stdout=subprocess.DEVNULL)
    with Place(directory / "place") as place:
        lab = VagrantLab(place, tree)
        for box in boxes:
            lab.vagrant("box", "add", "--name", box, "--provider", "libvirt", str(BOXES[box]))
        yield lab


class Told:
    """Prints how long each step took."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self._start = capsys, time.monotonic()

    def __call__(self, what: str) -> None:
        with self._capsys.disabled():
            print(f"  {time.monotonic() - self._start:6.1f} s  {what}", flush=True)  # noqa: T201
        self._start = time.monotonic()
