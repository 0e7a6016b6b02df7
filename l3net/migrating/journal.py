"""The journal of a node's move: what was there before, so that all of it can be put back.

It is on the disk before anything is changed. Routes are kept as the kernel tells them, the body of their
netlink message in hexadecimal, as `ip route save` does: what is put back is what was there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from l3net.errors import ConfigError

VERSION: Final = 1
#: What to say of a file that is no journal.
DAMAGED: Final = "the journal is damaged: restore it, or remove it if no pod has been moved"
#: States of a move: its pods are being moved; the old network's daemon is stopped and l3net started; done.
MOVING, HANDED_OVER, MOVED = "moving", "handedOver", "moved"


@dataclass(frozen=True, slots=True)
class PodBefore:
    """A pod's interface before it was moved. `inner` is the index of its own end, `outer` that of the host's.

    `master` is the bridge that the host's end was a port of, empty if none. `host_routes` lead to it from the
    host; `addresses` and `routes` are the pod's own.
    """

    container_id: str
    ifname: str
    pod: str
    netns: str
    inner: int
    mac: str
    outer: int
    host_ifname: str
    new_ifname: str
    alias: str
    master: str
    isolated: bool
    hairpin: bool
    learning: bool
    texts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    host_routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BridgeBefore:
    """A bridge of the old network: its addresses and the routes through it."""

    name: str
    index: int
    addresses: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Journal:
    """One move: its `state`, and when it `started`, in seconds since 1970.

    `aside` are files of the runtime's directory, by their old and their new name. Paths are the host's.
    """

    node: str
    state: str
    started: float
    pods: tuple[PodBefore, ...] = ()
    bridges: tuple[BridgeBefore, ...] = ()
    aside: tuple[tuple[str, str], ...] = ()

    def at(self, state: str) -> Journal:
        return replace(self, state=state)


def encoded(journal: Journal) -> str:
    """As JSON, for the disk."""
    return json.dumps({"version": VERSION, **asdict(journal)}, indent=1) + "\n"


def decoded(text: str) -> Journal:
    """Raises ConfigError for what is no journal, or that of a newer release."""
    try:
        found: Any = json.loads(text)
        if not isinstance(found, dict):
            raise ConfigError(f"{DAMAGED} (it is no JSON object)")
        version = found.pop("version")
        if version != VERSION:
            raise ConfigError(f"the journal is of version {version}, this release knows {VERSION}")
        found["pods"] = tuple(PodBefore(**_tuples(each)) for each in found["pods"])
        found["bridges"] = tuple(BridgeBefore(**_tuples(each)) for each in found["bridges"])
        found["aside"] = tuple((str(old), str(new)) for old, new in found["aside"])
        return Journal(**_tuples(found))
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise ConfigError(f"{DAMAGED} ({type(err).__name__}: {err})") from None


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(each) if isinstance(each, list) else each for key, each in fields.items()}
