"""The error a CNI call ends with: a code of the CNI specification 1.1.0 ("Error"), a line and details."""

from __future__ import annotations

from typing import Final

from l3net.errors import L3netError

INCOMPATIBLE_VERSION: Final = 1
UNSUPPORTED_FIELD: Final = 2
UNKNOWN_CONTAINER: Final = 3
BAD_ENVIRONMENT: Final = 4
IO_FAILURE: Final = 5
CANNOT_DECODE: Final = 6
INVALID_CONFIG: Final = 7
INVALID_NETNS: Final = 8
TRY_AGAIN_LATER: Final = 11
NOT_AVAILABLE: Final = 50
LIMITED_CONNECTIVITY: Final = 51
#: 100 and above are the plugin's own.
INTERNAL: Final = 100
ALREADY_ATTACHED: Final = 101
NOT_AS_ADDED: Final = 102
ADDRESS_UNAVAILABLE: Final = 103
KERNEL_REFUSED: Final = 104
DELEGATE_FAILED: Final = 105


class CniError(L3netError):
    """A call refused or failed. `code` is one of this module's; `details` says where and what to do."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(f"{message} ({details})" if details else message)
        self.code = code
        self.message = message
        self.details = details


def error_object(error: CniError, version: str) -> dict[str, object]:
    """The JSON object a failing plugin prints on standard output."""
    found: dict[str, object] = {"cniVersion": version, "code": error.code, "msg": error.message}
    if error.details:
        found["details"] = error.details
    return found
