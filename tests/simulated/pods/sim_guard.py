"""The table `bridge l3net` as the kernel keeps it: sets, elements, and a digest of all else. Beside it the
tables of published ports, which no simulated pod has any of.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Any

from sim_links import SimLinks

from l3net.cni.extras import Extras
from l3net.cni.guard import Element
from l3net.errors import KernelError, RefusedError
from l3net.shell.kernel.nftguard import Shape

_ADD = re.compile(r"add element bridge l3net (\w+) \{ (.*) \}")
_TABLE = "bridge l3net"


def element_of(set_: str, text: str) -> Element:
    """An element as nft reads it."""
    port, _, rest = text.partition(" . ")
    name = port.strip('"').encode().ljust(16, b"\0")
    if not rest:
        return Element(set_, name)
    if set_ == "macs":
        return Element(set_, name + bytes.fromhex(rest.replace(":", "")) + b"\0\0")
    if rest.startswith("0x"):
        return Element(set_, name + bytes.fromhex(rest[2:]))
    first, dash, last = rest.partition("-")
    return Element(set_, name + ip_address(first).packed, name + ip_address(last).packed if dash else b"")


class SimGuardKernel:
    """What the kernel holds; it outlives agents."""

    def __init__(self, kernel: SimLinks) -> None:
        self.kernel = kernel
        self.elements: set[Element] | None = None
        self.rules = ""
        self.generation = 1
        self.strange: list[str] = []  # that touch what is not ours

    def harm(self, what: str) -> None:
        """Somebody else is at it."""
        self.generation += 1
        if what == "other" or self.elements is None:
            return
        if what == "delete":
            self.elements, self.rules = None, ""
        elif what == "flush":
            self.elements.clear()
        elif what == "rules":
            self.rules += "\n# changed"
        elif what == "one" and self.elements:
            self.elements.discard(sorted(self.elements)[self.generation % len(self.elements)])

    def lets(self, port: str) -> bool:
        """Whether a port that is not in the table is let through as the host's own is: nothing guards it."""
        name = port.encode().ljust(16, b"\0")
        return self.elements is None or Element("guarded", name) not in self.elements


class SimGuardTable:
    """l3net.attach.guard.GuardTable."""

    port = 7

    def __init__(self, held: SimGuardKernel) -> None:
        self._held = held

    def close(self) -> None:
        pass

    def _begin(self, what: str) -> None:
        kernel = self._held.kernel
        kernel.step(what)
        kernel.trouble(what, after=False)
        if code := kernel.refusal(what):
            raise KernelError(what, code) if what != "nft" else RefusedError(what, code)

    def _done(self, what: str) -> None:
        kernel = self._held.kernel
        kernel.changes += 1
        kernel.trouble(what, after=True)
        kernel.step(f"{what} done")

    def run(self, script: str) -> None:
        self._begin("nft")
        held = self._held
        lines = script.splitlines()
        held.strange += [line for line in lines if _TABLE not in line]
        elements = set() if f"delete table {_TABLE}" in lines else set(held.elements or ())
        for line in lines:
            if found := _ADD.fullmatch(line):
                elements.update(element_of(found[1], each) for each in found[2].split(", "))
        held.elements = elements
        kept = [line for line in lines if not line.startswith(("add element", "delete table"))]
        held.rules = "\n".join(dict.fromkeys(kept))
        held.generation += 1
        self._done("nft")

    def change(self, put: Collection[Element], delete: Collection[Element] = ()) -> None:
        if not put and not delete:
            return
        self._begin("elements")
        held = self._held
        if held.elements is None or not held.elements.issuperset(delete):
            raise KernelError("elements of table bridge l3net", errno.ENOENT)
        held.elements = (held.elements - set(delete)) | set(put)
        held.generation += 1
        self._done("elements")

    def elements(self) -> frozenset[Element] | None:
        self._begin("dump of elements")
        return frozenset(self._held.elements) if self._held.elements is not None else None

    def shape(self) -> Shape | None:
        self._begin("dump of shape")
        if self._held.elements is None:
            return None
        return Shape(hashlib.sha256(self._held.rules.encode()).digest(), True)

    def generation(self) -> int:
        return self._held.generation

    def has_link(self, name: str) -> bool:
        return self._held.kernel.host.link(name) is not None


class SimRules:
    """l3net.attach.rules.Rules: of pods that publish nothing."""

    def put(self, extras: Extras) -> None:
        assert not extras.ports

    def delete(self, extras: Extras) -> None:
        assert not extras.ports

    def missing(self, extras: Extras, chain: object = None) -> list[str]:
        del extras, chain
        return []

    def listed_chain(self, family: str, chain: str) -> str:
        del family, chain
        return ""

    def listed(self) -> list[dict[str, Any]]:
        return []
