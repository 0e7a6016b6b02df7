"""The executables for arm64, where Debian's cross compiler is installed; run by qemu where that is."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Host

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
EM_AARCH64, PT_INTERP = 183, 3  # elf(5)

pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None,
    reason=f"{COMPILER} is not installed (`make plugin-arm64` installs Debian's)",
)


@pytest.mark.parametrize("name", ["l3net-cni", "l3net-ipam"])
def test_static_executable(plugin_dir: Path, name: str) -> None:
    program = (plugin_dir / "arm64" / name).read_bytes()
    assert program[:6] == b"\x7fELF\x02\x01"
    assert struct.unpack_from("<H", program, 18)[0] == EM_AARCH64
    at, size, count = struct.unpack_from("<32xQ14xHH", program)
    kinds = {struct.unpack_from("<I", program, at + number * size)[0] for number in range(count)}
    assert PT_INTERP not in kinds, "needs a dynamic linker"


@pytest.mark.netns
@pytest.mark.skipif(shutil.which(EMULATOR) is None, reason="qemu-user-static is not installed")
def test_calls(host: Host, tmp_path: Path) -> None:
    """The same frames as from x86-64: a pod is attached and deleted, also with the agent away."""
    program = host.plugin_dir / "arm64" / "l3net-cni"
    wrapped = tmp_path / "arm64"
    wrapped.mkdir()
    (wrapped / "l3net-cni").write_text(f'#!/bin/sh\nexec {EMULATOR} {program} "$@"\n')
    (wrapped / "l3net-cni").chmod(0o755)
    host.plugin_dir = wrapped
    assert "1.1.0" in host.cni("VERSION").json["supportedVersions"]
    pod = host.pod()
    assert host.add("c1", pod)["ips"][0]["address"] == "10.244.0.2/32"
    assert host.cni("DEL", "c1", pod).code == 0
    host.settle()
    assert host.leases() == 0 and host.veths() == []
    host.add("c2", pod)
    host.stop()
    assert host.cni("DEL", "c2", pod).code == 0
    host.start()
    host.settle()
    assert host.leases() == 0 and host.veths() == []
