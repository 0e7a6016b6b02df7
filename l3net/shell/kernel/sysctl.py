"""Kernel settings, those of the calling thread's network namespace: /proc/sys."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Final

from l3net.errors import KernelError
from l3net.naming import BRIDGE, ENVELOPE

if TYPE_CHECKING:  # the plugin begins with this
    from pathlib import Path

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
    before = read(path)
    if before != value:
        if before is not None:
            _note(path, before)
        write(path, value)


#: In RUN_DIR, which a reboot empties as it resets the settings: what they were before l3net changed them.
RECORD: Final = "sysctls.json"
_OURS: Final = frozenset({BRIDGE, ENVELOPE})
_noted_in: list[Path] = []


def remember(run_dir: Path) -> None:
    """From here on `ensure` notes in RUN_DIR what it changes, for `restore`."""
    _noted_in[:] = [run_dir / RECORD]


def _note(path: str, before: str) -> None:
    """The first value counts. Settings of l3net's own devices go with them."""
    if not _noted_in or not _OURS.isdisjoint(path.split("/")):
        return
    record = _noted_in[0]
    known = noted(record.parent)
    if path not in known:
        from l3net.shell.files.whole import write_whole  # noqa: PLC0415 - a plugin starts with this module

        try:
            write_whole(record, json.dumps({**known, path: before}, indent=1) + "\n")
        except OSError:  # a full disk must not keep pods from their network
            return


def noted(run_dir: Path) -> dict[str, str]:
    """What settings were before l3net changed them; nothing where that is not known."""
    try:
        found = json.loads((run_dir / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return {str(path): str(value) for path, value in found.items()} if isinstance(found, dict) else {}


def restore(run_dir: Path) -> list[str]:
    """Set what l3net changed to what it was; the settings. Raises KernelError."""
    found = noted(run_dir)
    for path, value in found.items():
        write(path, value)
    (run_dir / RECORD).unlink(missing_ok=True)
    return sorted(found)


def enable_forwarding() -> list[KernelError]:
    """Make this host a router for both families, and keep the default route a router advertised to it.

    With forwarding on, the kernel ignores router advertisements unless accept_ra is 2: an uplink that lives
    by them would lose its default route.
    """
    from pathlib import Path  # noqa: PLC0415

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
