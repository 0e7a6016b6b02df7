"""A lab for addresses that move: what is declared of them, and who is asked what."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from l3net.lab import probe
from l3net.lab.host import python
from l3net.lab.topology import RouterKind
from l3net.lab.up import Lab

WELL = 8080
SECONDS = 15.0
KINDS = [
    RouterKind.FRR,
    pytest.param(RouterKind.BIRD, marks=pytest.mark.soak),
    pytest.param(RouterKind.GOBGP, marks=pytest.mark.soak),
]


def own(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "l3net.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def pools(use: str, *cidrs: str) -> list[dict[str, Any]]:
    return [
        own("IPPool", f"{use.lower()}{number}", {"cidr": cidr, "allowedUses": [use]})
        for number, cidr in enumerate(cidrs)
    ]


class Rig:
    """The lab, and what its nodes and hosts say."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def write(self, name: str, documents: Iterable[dict[str, Any]]) -> None:
        """Declare all that is in a file of that name, at once."""
        target = self.lab.manifests / name
        temporary = target.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump_all(list(documents)))
        temporary.rename(target)

    def ask(self, address: str, port: int = WELL, host: str = "client", pod: str | None = None) -> str:
        words = [*python(), str(Path(probe.__file__))]
        asked = json.dumps([[address, port, 1, 0]])
        done = self.lab.host(host).run(words, text=asked, pod=pod, check=False, timeout=20)
        assert done.code == 0, done.stderr
        (answers,) = json.loads(done.stdout)
        return str(answers[0])

    def outside(self, version: int) -> str:
        return str(self.lab.topology.address("client", version))

    def until(self, what: Callable[[], bool], message: str, seconds: float = SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, message
            time.sleep(0.05)

    def announcers(self, address: str, router: str = "tor") -> set[str]:
        """The nodes that the router has a route for the address by."""
        family, length = ("-6", "128") if ":" in address else ("-4", "32")
        text = self.lab.host(router).run(["ip", family, "route", "show", f"{address}/{length}"]).stdout
        return {
            node
            for node in (each.name for each in self.lab.topology.nodes)
            for version in (4, 6)
            if f"via {self.lab.topology.address(node, version)} " in f"{text} "
        } | ({"link-local"} if "via fe80" in text else set())

    def tables(self, node: str) -> str:
        return self.lab.host(node).run(["nft", "list", "ruleset"]).stdout

    def rules(self, node: str) -> str:
        host = self.lab.host(node)
        return "".join(host.run(["ip", family, "rule", "show"]).stdout for family in ("-4", "-6"))
