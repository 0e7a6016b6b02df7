"""Which entries somebody asks for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from l3net.addresses import contains, parse_prefix
from l3net.history.entry import Entry, EntryKind
from l3net.model import Prefix


def matching(subject: str) -> Callable[[Entry], bool]:
    """Whether an entry is about a subject: a prefix or address (with all prefixes that contain it), a service
    NAMESPACE/NAME, a peer by name or address, or a declared object `KIND NAME` or its name alone."""
    wanted = subject.strip().lower()
    if not wanted:
        return lambda _entry: True
    prefix = _prefix(wanted)

    def about(entry: Entry) -> bool:
        subject, peer = entry.subject.lower(), entry.peer.lower()
        if wanted in (subject, peer) or subject.endswith(f" {wanted}") or _parts(peer, wanted):
            return True
        return prefix is not None and any(contains(each, prefix) for each in entry.prefixes)

    return about


def _parts(peer: str, wanted: str) -> bool:
    """A peer is written as `name (address)`."""
    name, _, address = peer.partition(" (")
    return wanted in (name, address.rstrip(")")) and bool(peer)


def _prefix(text: str) -> Prefix | None:
    try:
        return parse_prefix(text, strict=True)
    except ValueError:
        return None


def select(
    entries: Iterable[Entry],
    subject: str = "",
    kinds: Collection[EntryKind] = (),
    since: float = 0.0,
    limit: int | None = None,
) -> list[Entry]:
    """The last `limit` of those that are asked for, the oldest first. `since`: seconds since 1970."""
    about = matching(subject)
    found = [
        entry for entry in entries if entry.at > since and (not kinds or entry.kind in kinds) and about(entry)
    ]
    return found if limit is None else found[max(0, len(found) - limit) :]
