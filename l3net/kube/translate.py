"""A parsed document in, a fact out; the same for a manifest file and for the Kubernetes API."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from l3net.errors import ManifestError
from l3net.kube import core, resources, schema
from l3net.kube.fields import Field, shown
from l3net.model import Fact, Kind, ObjectName
from l3net.naming import API_GROUP, API_VERSION

_Reader: TypeAlias = Callable[[Field, ObjectName], Fact | None]

_CORE: Mapping[tuple[str, str], tuple[Kind, _Reader]] = {
    ("v1", "Node"): (Kind.NODE, core.node),
    ("v1", "Namespace"): (Kind.NAMESPACE, core.namespace),
    ("v1", "Secret"): (Kind.SECRET, core.secret),
    ("v1", "Service"): (Kind.SERVICE, core.service),
    ("discovery.k8s.io/v1", "EndpointSlice"): (Kind.ENDPOINT_SLICE, core.endpoint_slice),
}
_OWN: Mapping[str, tuple[Kind, _Reader]] = {
    "BGPConfiguration": (Kind.BGP_CONFIGURATION, resources.bgp_configuration),
    "BGPPeer": (Kind.BGP_PEER, resources.bgp_peer),
    "BGPFilter": (Kind.BGP_FILTER, resources.bgp_filter),
    "IPPool": (Kind.IP_POOL, resources.ip_pool),
}
_NAMESPACED = frozenset({Kind.SECRET, Kind.SERVICE, Kind.ENDPOINT_SLICE})
# RFC 1123 subdomain, which holds every name the kinds above may have.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def identify(document: Mapping[str, object]) -> tuple[Kind, ObjectName] | None:
    """Which object a document describes; None for a kind l3net does not read.

    Raises ManifestError when the document names no object, or a kind of ours that does not exist.
    """
    whole = Field("", document)
    found = _reader(whole)
    return (found[0], _name(whole, found[0])) if found else None


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
    found = _reader(whole)
    if found is None:
        return None
    kind, read = found
    name = _name(whole, kind)
    if kind in schema.OWN_KINDS:
        schema.validate(kind, document)
    fact = read(whole, name)
    return (kind, name, fact) if fact is not None else None


def _reader(document: Field) -> tuple[Kind, _Reader] | None:
    version, kind = document["apiVersion"].text(), document["kind"].text()
    group = version.rpartition("/")[0]
    if group == API_GROUP:
        if kind not in _OWN:
            close = difflib.get_close_matches(kind, list(_OWN), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_OWN)}"
            raise ManifestError("kind", f"{shown(kind)} is not a kind of {API_GROUP}; {hint}")
        if version != API_VERSION:
            raise ManifestError("apiVersion", f"{shown(version)} is not known; use {API_VERSION}")
        return _OWN[kind]
    if (version, kind) in _CORE:
        return _CORE[version, kind]
    if version == "v1" and kind in _OWN:
        raise ManifestError("apiVersion", f"{kind} is of {API_VERSION}, not v1")
    for right, known in _CORE:
        if kind == known and group == right.rpartition("/")[0]:
            raise ManifestError("apiVersion", f"{shown(version)} is not read for {kind}; use {right}")
    return None


def _name(document: Field, kind: Kind) -> ObjectName:
    metadata = document["metadata"]
    name = _checked(metadata["name"])
    if kind in _NAMESPACED:
        space = metadata["namespace"]
        return ObjectName(_checked(space) if space.text(default="") else "default", name)
    if metadata["namespace"].text(default=""):
        raise metadata["namespace"].wrong(f"a {kind.value} has no namespace; remove it")
    return ObjectName("", name)


def _checked(field: Field) -> str:
    text = field.text()
    if not valid_name(text):
        raise field.wrong(f"{shown(text)!r} is not a name: lower case letters, digits, '-' and '.'")
    return text


def valid_name(text: str) -> bool:
    """Whether an object may be called so (RFC 1123)."""
    return len(text) <= 253 and _NAME.fullmatch(text) is not None
