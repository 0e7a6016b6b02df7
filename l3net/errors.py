"""Every error l3net raises on purpose descends from `L3netError`.

A message says what failed, where, and what to do about it; it never holds a secret.
"""

import errno


def refusal(err: OSError, needs: str = "this needs root") -> str:
    """Why something was refused, and what is needed, where it is a lack of rights."""
    return f"{err.strerror}; {needs}" if isinstance(err, PermissionError) else f"{err.strerror}"


class L3netError(Exception):
    """Something l3net can name. The CLI prints it as one line and exits with `exit_code`."""

    exit_code = 1


class ConfigError(L3netError):
    """An option, file or manifest is wrong; nothing was changed."""

    exit_code = 2


class ManifestError(ConfigError):
    """One declared object is wrong.

    `field` is a path such as `spec.cidr`; `why` says what is wrong with it. Where it stands (file, object)
    is added by whoever read it.
    """

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}" if field else why)
        self.field = field
        self.why = why


class ConflictError(L3netError):
    """Somebody else wrote first, and a write made on what was read before is refused; read again."""


class GoneError(L3netError):
    """The object to be changed does not exist (any more)."""


class NotRunningError(L3netError):
    """A process of ours (agent, speaker) cannot be reached."""

    exit_code = 3


class NotPermittedError(NotRunningError):
    """It may not be asked by this user."""


class KernelError(L3netError):
    """The kernel refused an operation. `code` is its errno."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what}: {errno.errorcode.get(code, code)}")
        self.code = code


class StillWiredError(KernelError):
    """A pod's link may still be there, though it was to be deleted: what goes with it has to stay as well."""


class RefusedError(KernelError):
    """A change that is made as a whole or not at all was refused: nothing has changed."""
