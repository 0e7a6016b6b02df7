"""From whatever happened to what the runtime reads: error objects, JSON, and the shape of each version."""

from __future__ import annotations

import json

from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.versions import SUPPORTED, WHEN_ABSENT
from l3net.errors import ConfigError, KernelError, L3netError
from l3net.ipam.lease import (
    AddressUnavailableError,
    AlreadyLeasedError,
    ExhaustedError,
    LeaseStoreError,
)


def translated(error: BaseException) -> CniError:
    """Any failure as the error object the runtime gets."""
    match error:
        case CniError():
            return error
        case AlreadyLeasedError():
            return CniError(failure.ALREADY_ATTACHED, str(error), "DEL the attachment first")
        case AddressUnavailableError():
            return CniError(failure.ADDRESS_UNAVAILABLE, str(error))
        case ExhaustedError():
            return CniError(failure.TRY_AGAIN_LATER, str(error))
        case LeaseStoreError():
            return CniError(failure.TRY_AGAIN_LATER if error.try_later else failure.IO_FAILURE, str(error))
        case KernelError():
            return CniError(failure.KERNEL_REFUSED, str(error))
        case ConfigError():
            return CniError(failure.INVALID_CONFIG, str(error))
        case L3netError():
            return CniError(failure.INTERNAL, str(error))
        case MemoryError() | OSError():  # no descriptors, no memory: rolled back, may pass
            return CniError(failure.TRY_AGAIN_LATER, f"{error.__class__.__name__}: {error}")
    return CniError(
        failure.INTERNAL, f"unexpected failure: {error.__class__.__name__}", "see the agent's log"
    )


def shape_version(stdin: bytes) -> str | None:
    """The version to answer in, as far as standard input tells; None if it names none we know."""
    try:
        version = json.loads(stdin).get("cniVersion")
    except (ValueError, AttributeError, RecursionError):
        return None
    return version if version in SUPPORTED else None


def error_version(stdin: bytes) -> str:
    return shape_version(stdin) or WHEN_ABSENT


def printed(value: object) -> bytes:
    """A JSON object as one line."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
