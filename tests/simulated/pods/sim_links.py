"""Links, addresses, routes and neighbours of network namespaces, as the kernel keeps them, and what of it
fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from l3net.errors import KernelError
from l3net.model import Address


@dataclass(slots=True)
class Link:
    """A link; `peer` is the other end of a pair."""

    index: int
    name: str
    space: Space
    kind: str = ""
    mac: str = ""
    mtu: int = 1500
    up: bool = False
    master: int = 0
    group: int = 0
    alias: str = ""
    isolated: bool = False
    hairpin: bool = False
    learning: bool = True
    state: int = 3
    peer: Link | None = None


@dataclass(slots=True)
class Space:
    """A network namespace. `number` tells it from others; `removed`: nobody but who has it open keeps it."""

    name: str
    number: int = 0
    descriptor: int = -1
    links: dict[int, Link] = field(default_factory=dict)
    addresses: dict[tuple[int, Address], int] = field(default_factory=dict)  # to the prefix's length
    #: IPv6 addresses whose local route a work queue has yet to put: what comes for them is dropped.
    unheard: set[tuple[int, Address]] = field(default_factory=set)
    routes: dict[tuple[str, int], tuple[int, str]] = field(default_factory=dict)  # to link and gateway
    neighbours: dict[tuple[int, Address], str] = field(default_factory=dict)
    forwarding: dict[tuple[int, str], bool] = field(default_factory=dict)
    last: int = 1
    without_ipv6: bool = False
    removed: bool = False
    gone: bool = False
    users: int = 0

    def link(self, name: str) -> Link | None:
        return next((each for each in self.links.values() if each.name == name), None)


@dataclass(slots=True)
class Trouble:
    """What fails, how likely: `before` anything is done, or `after` it was. `code` is the kernel's errno."""

    code: int
    chance: float
    after: bool = False
    of: str = ""  # "": any; otherwise the beginning of the operation's name


def _nothing(_what: str) -> None:
    pass


class SimLinks:
    """The kernel of one machine since it was started. `step` is called before and after each request."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.step: Callable[[str], None] = _nothing
        self.troubles: list[Trouble] = []
        self.spaces: dict[int, Space] = {}
        self.changes = 0
        self.settings: dict[tuple[str, str], str] = {}
        self.host = self.space("host")

    def space(self, name: str) -> Space:
        """Make a namespace, and have it open."""
        descriptor = os.memfd_create(name)
        made = Space(name, os.fstat(descriptor).st_ino, descriptor)
        made.links[1] = Link(1, "lo", made)
        self.spaces[made.number] = made
        return made

    def remove(self, space: Space) -> None:
        """As `ip netns delete`: it goes when nobody has it open."""
        space.removed = True
        self.settle(space)

    def settle(self, space: Space) -> None:
        if space.removed and not space.users and not space.gone:
            space.gone = True
            for link in list(space.links.values()):
                self.delete(link)
            self.spaces.pop(space.number, None)
            os.close(space.descriptor)

    def close(self) -> None:
        for space in list(self.spaces.values()):
            space.gone = True
            os.close(space.descriptor)
        self.spaces.clear()

    def of(self, descriptor: int) -> Space | None:
        try:
            return self.spaces.get(os.fstat(descriptor).st_ino)
        except OSError:
            return None

    # --- what is done to links ---------------------------------------------------------------------------

    def add(self, space: Space, name: str, kind: str, **more: Any) -> Link:
        space.last += 1
        made = Link(space.last, name, space, kind, **more)
        space.links[made.index] = made
        self.changes += 1
        return made

    def delete(self, link: Link) -> None:
        """And the other end of a pair with it."""
        for each in (link, link.peer):
            if each is None or each.index not in each.space.links:
                continue
            space = each.space
            del space.links[each.index]
            for held in (space.addresses, space.neighbours, space.forwarding):
                for key in [key for key in held if key[0] == each.index]:
                    del held[key]  # type: ignore[attr-defined]
            space.unheard = {key for key in space.unheard if key[0] != each.index}
            for key in [key for key, (at, _) in space.routes.items() if at == each.index]:
                del space.routes[key]
            for port in space.links.values():
                if port.master == each.index:
                    self.leave(port)
        self.changes += 1

    @staticmethod
    def leave(port: Link) -> None:
        port.master, port.isolated, port.hairpin, port.learning = 0, False, False, True
        space = port.space
        for key in [key for key in space.forwarding if key[0] == port.index]:
            del space.forwarding[key]

    def trouble(self, what: str, *, after: bool) -> None:
        for each in self.troubles:
            if each.after == after and what.startswith(each.of) and self.random.random() < each.chance:
                raise KernelError(f"netlink {'receive' if after else 'send'}", each.code)

    def refusal(self, what: str) -> int:
        """The errno of one request, 0 if it is carried out."""
        for each in self.troubles:
            if each.of == f"refuse {what}" and self.random.random() < each.chance:
                return each.code
        return 0
