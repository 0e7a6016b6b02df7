"""Entering network namespaces for a moment, to open a socket or set a sysctl there."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.errors import KernelError

CLONE_NEWNET: Final = 0x40000000
NS_GET_NSTYPE: Final = 0xB703  # ioctl_ns(2)

_libc = ctypes.CDLL(None, use_errno=True)


def unshare() -> None:
    """unshare(2): a network namespace of its own for the calling thread. Raises KernelError."""
    if _libc.unshare(CLONE_NEWNET) != 0:
        raise KernelError("make network namespace", ctypes.get_errno())


def setns(descriptor: int) -> None:
    """setns(2) for the calling thread. Raises KernelError."""
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise KernelError("enter network namespace", ctypes.get_errno())


def open_own() -> int:
    """A descriptor of the calling thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(descriptor: int, home: int) -> Iterator[None]:
    """Run a few statements in a namespace. A thread that cannot come home must not run on: it aborts."""
    setns(descriptor)
    try:
        yield
    finally:
        try:
            setns(home)
        except KernelError:  # pragma: no cover - would need the kernel out of memory at this very place
            os.abort()


def is_network_namespace(descriptor: int) -> bool:
    try:
        return fcntl.ioctl(descriptor, NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:
        return False


def identity(descriptor: int) -> tuple[int, int]:
    """What tells namespaces apart: device and inode."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def check_sandbox(descriptor: int, path: str, home: int, *, own_allowed: bool) -> None:
    """Refuse what is no netns, and the plugin's own (CNI_NETNS_OVERRIDE allows it). CniError 8."""
    if not is_network_namespace(descriptor):
        raise CniError(failure.INVALID_NETNS, f"{path!r} is not a network namespace")
    if not own_allowed and identity(descriptor) == identity(home):
        raise CniError(failure.INVALID_NETNS, f"{path!r} is the host's own network namespace")
