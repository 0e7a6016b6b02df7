"""A path as a peer reads it: what ExaBGP 5.0.15 adds to, and leaves out of, what it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from l3net.bgp.exabgp.commands import as_path_on_wire
from l3net.bgp.path import Path
from l3net.bgp.sessions import Session

#: What ExaBGP says to an iBGP peer where nothing else is said.
LOCAL_PREFERENCE: Final = 100


def as_sent(session: Session, path: Path) -> Path:
    """What `l3net.bgp.exabgp.commands.announce` comes to in an UPDATE."""
    attributes = path.attributes
    if session.external:
        as_path = as_path_on_wire(session, attributes) or (session.local_as,)
        sent = replace(
            attributes,
            as_path=as_path,
            as_path_length=len(as_path),
            segments=(),
            local_preference=None,
            originator=None,
            clusters=(),
        )
    else:
        preference = attributes.local_preference
        sent = replace(
            attributes,
            as_path_length=len(attributes.as_path),
            segments=(),
            local_preference=LOCAL_PREFERENCE if preference is None else preference,
        )
    return replace(path, attributes=sent)
