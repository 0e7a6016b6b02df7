"""Puts the plugins and the network configuration where a runtime looks, so that it never sees half a file.

Executables first; the conflist last and only when the agent is ready, because a runtime calls a node ready
as soon as it finds one. Everything is written beside its place, synced, renamed, and the directory synced.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final

from l3net.errors import ConfigError, L3netError, NotRunningError
from l3net.naming import CNI_NETWORK, CNI_PLUGIN

IPAM_PLUGIN: Final = "l3net-ipam"
STANDALONE: Final = "l3net-standalone"
#: First in the directory's order, which is what runtimes take.
CONFLIST: Final = "05-l3net.conflist"
PLUGINS: Final = (CNI_PLUGIN, IPAM_PLUGIN, STANDALONE)


def conflist() -> dict[str, Any]:
    """The network configuration list for nodes with the agent.

    `cniVersions` lets libcni 1.3 pick the newest it knows; older ones take `cniVersion`.
    """
    return {
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "name": CNI_NETWORK,
        "plugins": [
            {
                "type": CNI_PLUGIN,
                "capabilities": {
                    "portMappings": True,
                    "bandwidth": True,
                    "ips": True,
                    "mac": True,
                    "dns": True,
                },
            }
        ],
    }


#: Without `site` an interpreter starts in half the time, and what it loads is no garbage. The package is
#: where it was when this was written, or else where the interpreter finds packages.
_SCRIPT: Final = """\
import gc, sys
gc.disable()
sys.path.append({room!r})
try:
    from l3net.cli.standalone import main
except ImportError:
    import site
    site.main()
    from l3net.cli.standalone import main

main()
"""


def standalone_script(python: str = sys.executable, room: Path = Path(__file__).parents[3]) -> str:
    """The program l3net-cni becomes when a configuration brings its own addresses. `room`: where l3net is."""
    body = _SCRIPT.format(room=str(room))
    if len(python) > 120 or any(letter.isspace() for letter in python):
        # the kernel reads 127 bytes of a first line, and splits at white space
        return f"#!/bin/sh\nexec {_quoted(python)} -IS -c {_quoted(body)}\n"
    return f"#!{python} -IS\n{body}"


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def put_file(path: Path, content: bytes, mode: int) -> bool:
    """Write a file atomically and durably; False if it is there already, the same. Raises L3netError."""
    try:
        if path.is_file() and path.read_bytes() == content and path.stat().st_mode & 0o777 == mode:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        # a dot and no suffix: runtimes read *.conf, *.conflist and *.json
        temp = path.parent / f".{path.name}.{os.getpid()}"
        descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temp.rename(path)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as err:
        raise L3netError(f"write {path}: {err.strerror}") from err
    return True


def put_conflist(conf_dir: Path) -> str:
    """Keep the network configuration there; its path if it was missing or another, else empty. Raises
    L3netError."""
    path = conf_dir / CONFLIST
    content = json.dumps(conflist(), indent=2).encode() + b"\n"
    return str(path) if put_file(path, content, 0o644) else ""


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def agent_answers(path: Path) -> bool:
    """Whether the agent accepts calls."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def install(
    source: Path, bin_dir: Path, conf_dir: Path | None, agent_socket: Path, *, standalone: bool
) -> list[Path]:
    """Put executables, then (if the agent answers) the conflist; what changed. Raises L3netError."""
    try:
        content = (source / CNI_PLUGIN).read_bytes()
    except OSError as err:
        why = f"{source / CNI_PLUGIN}: {err.strerror}; build the plugins with `make plugin`"
        raise ConfigError(f"{why}, or name their directory with --plugin-dir") from err
    # One program, which goes by the name that it is called by.
    plugins = (bin_dir / CNI_PLUGIN, bin_dir / IPAM_PLUGIN)
    changed = [path for path in plugins if put_file(path, content, 0o755)]
    if standalone and put_file(bin_dir / STANDALONE, standalone_script().encode(), 0o755):
        changed.append(bin_dir / STANDALONE)
    if conf_dir is None:
        return changed
    if not agent_answers(agent_socket):
        raise NotRunningError(
            f"the agent does not answer at {agent_socket}: the plugins are in place, "
            f"{conf_dir / CONFLIST} is not written; start `l3net agent` and repeat"
        )
    content = json.dumps(conflist(), indent=2).encode() + b"\n"
    if put_file(conf_dir / CONFLIST, content, 0o644):
        changed.append(conf_dir / CONFLIST)
    return changed


def uninstall(bin_dir: Path, conf_dir: Path) -> list[Path]:
    """The conflist first, so that no runtime calls for a plugin that is gone. Raises L3netError."""
    removed = []
    paths = [conf_dir / CONFLIST, *(bin_dir / name for name in PLUGINS)]
    for path in paths:
        try:
            path.unlink()
            sync_directory(path.parent)
        except FileNotFoundError:
            continue
        except OSError as err:
            raise L3netError(f"remove {path}: {err.strerror}") from err
        removed.append(path)
    return removed
