"""A parsed document in, a fact out; the same for a manifest file and for the Kubernetes API."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from l3net.errors import ManifestError
from l3net.kube import schema
from l3net.kube.fields import Field, shown
from l3net.kube.registry import KINDS, DeclaredKind
from l3net.model import Fact, Kind, ObjectName
from l3net.naming import API_GROUP, API_VERSION
from l3net.near import near

# RFC 1123 subdomain, which holds every name the kinds above may have.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def identify(document: Mapping[str, object]) -> tuple[Kind, ObjectName] | None:
    """Which object a document describes; None for a kind l3net does not read.

    Raises ManifestError when the document names no object, or a kind of ours that does not exist.
    """
    whole = Field("", document)
    row = _row(whole)
    return (row.kind, _name(whole, row)) if row else None


def translate(
    document: Mapping[str, object], skipped: list[ManifestError] | None = None
) -> tuple[Kind, ObjectName, Fact] | None:
    """The fact a document states; None for what l3net does not read (another kind, a slice of no service).

    Raises ManifestError naming the field that is wrong, and nothing else, whatever the document holds.
    Elements of lists that can be left out are, and go into `skipped`; without it they are errors too.
    """
    try:
        return _translate(document, Field("", document, skipped))
    except ManifestError:
        raise
    except (RecursionError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as err:
        raise ManifestError("", f"cannot be read ({type(err).__name__}); please report it") from err


def _translate(document: Mapping[str, object], whole: Field) -> tuple[Kind, ObjectName, Fact] | None:
    row = _row(whole)
    if row is None:
        return None
    name = _name(whole, row)
    if row.ours:
        schema.validate(row.kind, document)
    fact = row.read(whole, name)
    return (row.kind, name, fact) if fact is not None else None


def _row(document: Field) -> DeclaredKind | None:
    version, kind = document["apiVersion"].text(), document["kind"].text()
    found = KINDS.find(version, kind)
    if found is not None:
        return found
    group = version.rpartition("/")[0]
    ours = [own.value for own in KINDS.ours()]
    if group == API_GROUP:
        if kind in ours:
            raise ManifestError("apiVersion", f"{shown(version)} is not known; use {API_VERSION}")
        close = near(kind, ours, alike=0.5)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(ours)}"
        raise ManifestError("kind", f"{shown(kind)} is not a kind of {API_GROUP}; {hint}")
    if version == "v1" and kind in ours:
        raise ManifestError("apiVersion", f"{kind} is of {API_VERSION}, not v1")
    for row in KINDS.values():
        if kind == row.kind.value and group == row.group:
            raise ManifestError(
                "apiVersion", f"{shown(version)} is not read for {kind}; use {row.api_version}"
            )
    return None


def _name(document: Field, row: DeclaredKind) -> ObjectName:
    metadata = document["metadata"]
    name = _checked(metadata["name"])
    if row.namespaced:
        space = metadata["namespace"]
        return ObjectName(sys.intern(_checked(space) if space.text(default="") else "default"), name)
    if metadata["namespace"].text(default=""):
        raise metadata["namespace"].wrong(f"a {row.kind.value} has no namespace; remove it")
    return ObjectName("", name)


def _checked(field: Field) -> str:
    text = field.text()
    if not valid_name(text):
        raise field.wrong(f"{shown(text)!r} is not a name: lower case letters, digits, '-' and '.'")
    return text


def valid_name(text: str) -> bool:
    """Whether an object may be called so (RFC 1123)."""
    return len(text) <= 253 and _NAME.fullmatch(text) is not None
