"""Gives up the rights that a web server has no use for."""

from __future__ import annotations

import ctypes
import importlib
import os
import pwd
from typing import Final

from l3net.errors import ConfigError

_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS (prctl(2))

#: What is imported where it is first used. Who has no rights any more may not be able to read it: an
#: interpreter or a virtual environment can be in a home that is closed to others.
_LATE: Final = (
    "concurrent.futures.thread",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_8_sig",
    "html.entities",
    "mimetypes",
    "traceback",
)


def known_user(name: str) -> tuple[int, int]:
    """Its number and that of its group. Raises ConfigError."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"--user {name}: there is no such user") from None
    return found.pw_uid, found.pw_gid


def give_up(user: int, group: int) -> None:
    """Become that user, without other groups, for good. Nothing to give up where this is not root.

    Raises ConfigError where it is and may not (a container without CAP_SETUID and CAP_SETGID).
    """
    for module in _LATE:
        importlib.import_module(module)
    if os.geteuid() == 0 and user != 0:
        try:
            os.setgroups([])
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
        except OSError as err:
            raise ConfigError(
                f"the web server cannot become another user ({err.strerror}): allow it CAP_SETUID and "
                "CAP_SETGID, or have it stay root with --user root"
            ) from err
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
