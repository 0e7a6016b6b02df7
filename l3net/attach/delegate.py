"""Executes another plugin as this one's IPAM, found along CNI_PATH (CNI specification 1.1.0, section 4)."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.request import Request
from l3net.cni.result import Result, decode_result

if TYPE_CHECKING:  # the plugin begins with this
    from pathlib import Path

PATIENCE: Final = 40.0


def find_plugin(name: str, cni_path: str) -> Path:
    """The executable of a plugin. Raises CniError 7."""
    from pathlib import Path  # noqa: PLC0415

    if not name or "/" in name or name in {".", ".."}:
        raise CniError(failure.INVALID_CONFIG, f"{name!r} is not a plugin's name")
    for directory in filter(None, cni_path.split(":")):
        path = Path(directory) / name
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise CniError(failure.INVALID_CONFIG, f"no plugin {name} in CNI_PATH", cni_path)


def execute(name: str, request: Request, command: str | None = None) -> dict[str, Any] | None:
    """Run a plugin with this call's environment and configuration; its answer, None without one.

    Raises CniError: the delegate's own code and message where it gave them.
    """
    import subprocess  # noqa: PLC0415 - most plugins have addresses of their own

    path = find_plugin(name, request.environment.get("CNI_PATH", ""))
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        **request.environment,
        "CNI_COMMAND": command or request.command,
    }
    try:
        done = subprocess.run(
            [str(path)],
            input=json.dumps(request.conf).encode(),
            capture_output=True,
            env=environment,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise CniError(failure.DELEGATE_FAILED, f"IPAM plugin {name}: {err}") from None
    try:
        answer = json.loads(done.stdout) if done.stdout.strip() else None
    except ValueError:
        answer = None
    if done.returncode == 0:
        return answer if isinstance(answer, dict) else None
    if isinstance(answer, dict) and isinstance(answer.get("code"), int):
        raise CniError(
            answer["code"], f"IPAM plugin {name}: {answer.get('msg', '')}", str(answer.get("details", ""))
        )
    said = done.stderr.decode(errors="replace").strip()[-200:]
    raise CniError(failure.DELEGATE_FAILED, f"IPAM plugin {name} exited with {done.returncode}", said)


def delegated_addresses(name: str, request: Request) -> Result:
    """ADD of the delegate. When it fails, or gives no address, its DEL is called. Raises CniError."""
    try:
        answer = execute(name, request, "ADD")
        if answer is None:
            raise CniError(failure.DELEGATE_FAILED, f"IPAM plugin {name} gave no result")
        result = decode_result(answer)
        if not result.addresses:
            raise CniError(failure.DELEGATE_FAILED, f"IPAM plugin {name} gave no address")
    except CniError:
        release(name, request)
        raise
    return result


def release(name: str, request: Request) -> CniError | None:
    """DEL of the delegate; its failure is returned, not raised."""
    try:
        execute(name, request, "DEL")
    except CniError as err:
        return err
    return None


#: Codes with which a plugin that does not know STATUS or GC answers.
UNKNOWN_VERB: Final = frozenset({failure.INCOMPATIBLE_VERSION, failure.BAD_ENVIRONMENT})


def forward(name: str, request: Request) -> None:
    """STATUS or GC of the delegate, tolerating one that is older than the verb. Raises CniError."""
    try:
        execute(name, request)
    except CniError as err:
        if err.code not in UNKNOWN_VERB:
            raise
