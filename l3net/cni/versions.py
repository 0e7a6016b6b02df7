"""Versions of the CNI specification: which ones are spoken and what each of them has."""

from __future__ import annotations

from typing import Final

SUPPORTED: Final = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
#: "If the cniVersion field is absent, 0.1.0 is assumed" (libcni, and the reference skeleton).
WHEN_ABSENT: Final = "0.1.0"
LATEST: Final = SUPPORTED[-1]


def number(version: str) -> tuple[int, ...]:
    """A supported version as numbers that compare."""
    return tuple(int(part) for part in version.split("."))


#: The version each verb came with.
VERB_SINCE: Final = {"CHECK": "0.4.0", "STATUS": "1.1.0", "GC": "1.1.0"}


def has_verb(version: str, verb: str) -> bool:
    return number(version) >= number(VERB_SINCE.get(verb, WHEN_ABSENT))


def version_object(asked: str | None) -> dict[str, object]:
    """The answer to VERSION."""
    return {"cniVersion": asked or LATEST, "supportedVersions": list(SUPPORTED)}
