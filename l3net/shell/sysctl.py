"""Kernel settings of this network namespace, under /proc/sys/net."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from l3net.errors import KernelError

#: A container that is not privileged has /proc/sys read-only; it mounts the host's elsewhere, and says where.
#: Whose settings are shown there depends on the network namespace of who looks, not of who mounted it.
PROC_SYS: Final = os.environ.get("L3NET_PROC_SYS", "/proc/sys")
_ROOT = Path(PROC_SYS) / "net"


def read(name: str) -> str | None:
    """The value of e.g. `ipv4/ip_forward`, None if the kernel has no such setting."""
    try:
        return (_ROOT / name).read_text().strip()
    except OSError:
        return None


def write(name: str, value: str) -> bool:
    """Set it unless it already is so; whether it changed. Raises KernelError."""
    if read(name) == value:
        return False
    try:
        (_ROOT / name).write_text(value)
    except OSError as err:
        raise KernelError(f"set sysctl net/{name} to {value}", err.errno or errno.EIO) from err
    return True


def enable_forwarding() -> list[KernelError]:
    """Make this host a router for both families, and keep the default route a router advertised to it.

    With forwarding on, the kernel ignores router advertisements unless accept_ra is 2: an uplink that lives
    by them would lose its default route.
    """
    failed: list[KernelError] = []
    if read("ipv6/conf/all/forwarding") == "0":
        for setting in _ROOT.glob("ipv6/conf/*/accept_ra"):
            interface = setting.parent.name
            if interface not in ("all", "lo") and read(f"ipv6/conf/{interface}/accept_ra") == "1":
                _try(failed, f"ipv6/conf/{interface}/accept_ra", "2")
    _try(failed, "ipv4/ip_forward", "1")
    if (_ROOT / "ipv6").is_dir():
        _try(failed, "ipv6/conf/all/forwarding", "1")
    # A pod's packet to its neighbour leaves by the bridge it came in on: that is no reason for a redirect.
    _try(failed, "ipv4/conf/all/send_redirects", "0")
    # With br_netfilter (1 in every new namespace where it is loaded) a pod's packet to a service would be
    # translated on the bridge and then bridged to the endpoint, which an isolated port refuses. Pods' packets
    # pass the node's IP layer anyway.
    for family in ("ip", "ip6"):
        if (_ROOT / f"bridge/bridge-nf-call-{family}tables").exists():
            _try(failed, f"bridge/bridge-nf-call-{family}tables", "0")
    return failed


def _try(failed: list[KernelError], name: str, value: str) -> None:
    try:
        write(name, value)
    except KernelError as err:
        failed.append(err)
