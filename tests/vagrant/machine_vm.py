"""A virtual machine in software emulation (qemu's TCG): its disk, and a shell on its second serial line.

The disk is the base root with Debian's kernel and systemd; it is made once and never written. The working
tree is a second disk, so that a machine has what is being worked on.
"""

from __future__ import annotations

import fcntl
import shlex
import shutil
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from machine_root import _HOME, _RECIPE, TREE, _run, base, entered, release

from l3net.lab.errors import LabError
from l3net.lab.host import Host
from l3net.lab.machine import Output
from l3net.lab.machines import mac_address
from l3net.lab.up import Lab

_VM_RECIPE = f"{_RECIPE}.2"
_KERNELS = {"debian": "linux-image-cloud-amd64", "ubuntu": "linux-image-virtual"}
_PACKAGES = ["initramfs-tools", "systemd-sysv", "udev", "dbus", "kmod"]
#: Emulation on a busy machine: commands get this many times the time they would get elsewhere.
_SLOWER = 10
#: A shell on the second serial line, for the test, beside the console on the first.
_SHELL_UNIT = """[Unit]
Description=Shell of the test
DefaultDependencies=no
After=basic.target
[Service]
ExecStart=/bin/sh
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
TTYReset=yes
Environment=HOME=/root TERM=dumb
Restart=always
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Disk:
    """What a machine boots from."""

    image: Path
    kernel: Path
    initrd: Path


def vm_disk() -> Disk:
    """The disk all machines share, made if it is not there. Raises RootError."""
    root = base(more=True)
    distribution, codename = release()
    disk = Disk(*(_HOME / f"vm-{codename}.{kind}" for kind in ("ext4", "kernel", "initrd")))
    done = _HOME / f"vm-{codename}.{_VM_RECIPE}"
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _make_disk(root, _KERNELS[distribution], disk)
            done.touch()
    return disk


def _make_disk(base_root: Path, kernel: str, disk: Disk) -> None:
    root = _HOME / "vm-root"
    shutil.rmtree(root, ignore_errors=True)
    _run(["cp", "-a", "--reflink=auto", str(base_root), str(root)], "cp")
    try:
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(f"/etc/{name}", root / "etc" / name)
        install = "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends"
        settings = (
            "mkdir -p /etc/initramfs-tools/conf.d; echo MODULES=most >/etc/initramfs-tools/conf.d/modules"
        )
        script = f"{settings}; {install} {' '.join(_PACKAGES)} && {install} {kernel}"
        _run(entered(root, ["sh", "-c", script], network=True), "apt-get for the machine")
        _settle(root)
        for pattern, path in (("vmlinuz-*", disk.kernel), ("initrd.img-*", disk.initrd)):
            (found,) = (root / "boot").glob(pattern)
            shutil.copyfile(found, path)
        disk.image.unlink(missing_ok=True)
        _run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk.image), "3G"], "mke2fs")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _settle(root: Path) -> None:
    """What makes a root a machine: units, and no waiting for what is not there."""
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/hostname").write_text("machine\n")
    # Emulation on a busy machine needs more than the 90 s after which systemd gives a device up.
    options = "ro,x-systemd.device-timeout=30min"
    (root / "etc/fstab").write_text(f"/dev/vda / ext4 defaults 0 0\n/dev/vdb /vagrant ext4 {options} 0 0\n")
    (root / "usr/sbin/policy-rc.d").unlink()
    (root / "vagrant").mkdir(exist_ok=True)
    units = root / "etc/systemd/system"
    (units / "test-shell.service").write_text(_SHELL_UNIT)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/test-shell.service").symlink_to(
        "/etc/systemd/system/test-shell.service"
    )
    for idle in ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer"):
        (units / idle).symlink_to("/dev/null")


def tree_disk(directory: Path) -> Path:
    """The working tree as a disk."""
    tree, image = directory / "tree", directory / "tree.ext4"
    left_out = shutil.ignore_patterns(".*", "build", "__pycache__", "*.egg-info", "dist", "report")
    shutil.copytree(TREE, tree, ignore=left_out)
    _run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image), "128M"], "mke2fs")
    return image


def taps(lab: Lab, host: Host) -> list[tuple[str, str]]:
    """A tap device bridged to each link of a host, which gives up its addresses; with the MAC addresses."""
    made: list[tuple[str, str]] = []
    for number, link in enumerate(lab.topology.links, start=1):
        if host.name not in (link.ends[0].host, link.ends[1].host):
            continue
        end, tap, bridge = link.end(host.name), f"tap{number}", f"br{number}"
        for line in (
            f"link add {bridge} type bridge mcast_snooping 0",
            f"tuntap add {tap} mode tap",
            f"address flush dev {end.interface}",
            f"link set {end.interface} master {bridge}",
            f"link set {tap} master {bridge}",
            f"link set {tap} up",
            f"link set {bridge} up",
        ):
            host.run(["ip", *line.split()])
        for device in (end.interface, tap, bridge):
            host.run(["sysctl", "-q", "-w", f"net.ipv6.conf.{device}.disable_ipv6=1"])
        made.append((tap, mac_address(number, link.ends.index(end))))
    return made


def qemu(
    disk: Disk, tree: Path, console: Path, shell: Path, taps: Sequence[tuple[str, str]], memory: int = 640
) -> list[str]:
    """The command line of a machine: `taps` are pairs of a device and a MAC address, `memory` is in MiB."""
    argv = [
        "qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-cpu", "max", "-smp", "1",
        "-m", str(memory),
        "-nodefaults", "-no-user-config", "-display", "none",
        "-kernel", str(disk.kernel), "-initrd", str(disk.initrd),
        "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 systemd.show_status=1 mitigations=off",
        "-drive", f"file={disk.image},if=virtio,format=raw,snapshot=on",
        "-drive", f"file={tree},if=virtio,format=raw,readonly=on",
        "-serial", f"file:{console}", "-serial", f"unix:{shell},server=on,wait=off",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip
    for number, (tap, mac) in enumerate(taps):
        argv += ["-netdev", f"tap,id=net{number},ifname={tap},script=no,downscript=no"]
        argv += ["-device", f"virtio-net-pci,netdev=net{number},mac={mac}"]
    return argv


@dataclass(slots=True)
class SerialShell:
    """Commands by way of a shell on a serial line, one at a time."""

    name: str
    path: Path
    _socket: socket.socket | None = None
    _buffer: bytes = b""

    def connect(self, seconds: float) -> None:
        """Wait until the shell answers. Raises LabError."""
        deadline = time.monotonic() + seconds
        self._buffer = b""  # what was said before, such as by a shell that has ended
        while time.monotonic() < deadline:
            if self._socket is None and self.path.exists():
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.connect(str(self.path))
            if self._socket is not None and self._answers():
                with suppress(LabError):  # the shell that answered was about to end
                    self.execute("stty -F /dev/ttyS1 -echo -onlcr cols 9999; PS1=; PS2=", 60)
                    return
            time.sleep(2)
        raise LabError(f"{self.name}: no shell after {seconds:g} s")

    def _answers(self) -> bool:
        """Whether a shell works a sum out. A line cut short on the way must not leave it waiting for more."""
        assert self._socket is not None
        self._socket.settimeout(2)
        try:
            self._socket.sendall(b"\necho $((20 + 22))\n")  # nobody reads while the machine starts
            self._buffer += self._socket.recv(65536).replace(b"\r", b"")
        except TimeoutError:
            return False
        return b"\n42\n" in self._buffer

    def execute(self, command: str, seconds: float) -> tuple[int, str]:
        """Run one line of shell; its exit code and what it said."""
        assert self._socket is not None
        mark = uuid.uuid4().hex
        half = len(mark) // 2
        # The mark is put together by the shell, so that an echo of the line is not taken for the answer. A
        # command has no input, since that would be what comes after it.
        line = f"{{ {command}; }} </dev/null\nprintf '\\n%s%s %s\\n' {mark[:half]} {mark[half:]} $?\n"
        self._buffer = b""
        deadline = time.monotonic() + seconds
        try:
            self._socket.sendall(line.encode())
        except TimeoutError:
            raise LabError(f"{self.name}: nobody reads the line") from None
        self._socket.settimeout(1)
        sign = f"\n{mark} ".encode()
        while sign not in self._buffer or not self._buffer.rpartition(sign)[2].endswith(b"\n"):
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.name}: `{command[:60]}` took more than {seconds:g} s: {self._buffer[-300:]!r}"
                )
            try:
                received = self._socket.recv(65536)
            except TimeoutError:
                continue
            if not received:
                raise LabError(f"{self.name}: the machine is gone")
            self._buffer += received.replace(b"\r", b"")
        before, _, after = self._buffer.rpartition(sign)
        return int(after.split()[0]), before.decode(errors="replace")


@dataclass(slots=True)
class SerialMachine:
    """A machine as the checks of the lab see one, by way of its serial shell."""

    name: str
    shell: SerialShell

    def run(
        self,
        argv: Sequence[str],
        *,
        text: str | None = None,
        pod: str | None = None,
        timeout: float = 30,
        check: bool = True,
    ) -> Output:
        assert text is None and pod is None
        code, said = self.shell.execute(shlex.join(argv), timeout * _SLOWER)
        if check and code != 0:
            raise LabError(f"{self.name}: `{' '.join(argv)}` failed ({code}): {said[-600:]}")
        return Output(code, said, "")
