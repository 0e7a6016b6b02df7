"""Kernel settings, those of the calling thread's network namespace: /proc/sys."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from l3net.errors import KernelError

#: A container that is not privileged has /proc/sys read-only; it mounts the host's elsewhere, and says where.
#: Whose settings are shown there depends on the network namespace of who looks, not of who mounted it.
PROC_SYS: Final = os.environ.get("L3NET_PROC_SYS", "/proc/sys")


def read(path: str) -> str | None:
    """The value of e.g. `net/ipv4/ip_forward`, None if the kernel has no such setting."""
    try:
        with open(f"{PROC_SYS}/{path}") as file:  # noqa: PTH123 - a pod's ADD waits for it
            return file.read().strip()
    except OSError:
        return None


def write(path: str, value: str) -> None:
    """Set it; a setting that the kernel lacks (no IPv6) is no error. Raises KernelError."""
    try:
        descriptor = os.open(f"{PROC_SYS}/{path}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as err:
        raise KernelError(f"set sysctl {path} to {value}", err.errno or errno.EIO) from err
    try:
        os.write(descriptor, value.encode())
    except OSError as err:
        raise KernelError(f"set sysctl {path} to {value}", err.errno or errno.EIO) from err
    finally:
        os.close(descriptor)


def ensure(path: str, value: str) -> None:
    """Set it unless it is so: a write that changes nothing still takes the kernel's locks."""
    if read(path) != value:
        write(path, value)


def enable_forwarding() -> list[KernelError]:
    """Make this host a router for both families, and keep the default route a router advertised to it.

    With forwarding on, the kernel ignores router advertisements unless accept_ra is 2: an uplink that lives
    by them would lose its default route.
    """
    failed: list[KernelError] = []
    if read("net/ipv6/conf/all/forwarding") == "0":
        for setting in Path(PROC_SYS).glob("net/ipv6/conf/*/accept_ra"):
            interface = setting.parent.name
            if interface not in ("all", "lo") and read(f"net/ipv6/conf/{interface}/accept_ra") == "1":
                _try(failed, f"net/ipv6/conf/{interface}/accept_ra", "2")
    _try(failed, "net/ipv4/ip_forward", "1")
    _try(failed, "net/ipv6/conf/all/forwarding", "1")
    # A pod's packet to its neighbour leaves by the bridge it came in on: that is no reason for a redirect.
    _try(failed, "net/ipv4/conf/all/send_redirects", "0")
    # With br_netfilter (1 in every new namespace where it is loaded) a pod's packet to a service would be
    # translated on the bridge and then bridged to the endpoint, which an isolated port refuses. Pods' packets
    # pass the node's IP layer anyway.
    for family in ("ip", "ip6"):
        _try(failed, f"net/bridge/bridge-nf-call-{family}tables", "0")
    return failed


def _try(failed: list[KernelError], path: str, value: str) -> None:
    try:
        ensure(path, value)
    except KernelError as err:
        failed.append(err)
