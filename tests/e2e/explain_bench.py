"""A lab whose set-ups are broken one after another: what packets do, and what `l3net explain` says of it."""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import yaml

from l3net.lab.checks.asking import ask
from l3net.lab.errors import LabError
from l3net.lab.host import Host
from l3net.lab.up import Lab

#: Two routers in a row before one node; a second node that announces no external addresses.
TOPOLOGY = {
    "routers": [
        {"name": "edge", "asNumber": 65000, "kind": "bird"},
        {"name": "tor", "asNumber": 65001, "kind": "frr"},
        {"name": "tor2", "asNumber": 65002, "kind": "frr"},
    ],
    "clients": [{"name": "client"}],
    "nodes": [{"name": "n1", "pods": ["web-1", "shell-1"]}, {"name": "n2", "pods": ["web-2", "shell-2"]}],
    "links": [
        {"between": ["edge", "client"]},
        {"between": ["edge", "tor"]},
        {"between": ["edge", "tor2"]},
        {"between": ["tor", "n1"]},
        {"between": ["tor2", "n2"]},
    ],
    "services": [
        {
            "name": "web",
            "clusterIPs": ["10.96.0.10", "fd00:10:96::a"],
            "port": 80,
            "pods": ["web-1", "web-2"],
        },
        {"name": "other", "clusterIPs": ["10.96.0.20", "fd00:10:96::14"], "port": 80, "pods": ["web-2"]},
    ],
}
EXTERNAL = ("192.0.2.10", "2001:db8:2::a")
OTHER = ("192.0.2.20", "2001:db8:2::14")
Documents = dict[str, list[dict[str, Any]]]
_SECONDS = 12.0


@dataclass
class Bench:
    """The lab, and what it is declared to be when nothing is broken."""

    lab: Lab
    base: Documents = field(default_factory=dict)

    def begin(self) -> None:
        """Declare what all set-ups begin from."""
        self.base = {
            file.name: [each for each in yaml.safe_load_all(file.read_text()) if each]
            for file in sorted(self.lab.manifests.glob("*.yaml"))
        }
        self.base["matrix.yaml"] = []
        configuration = self.of(self.base, "BGPConfiguration", "default")
        configuration["spec"]["advertise"] = {
            "clusterIPs": {"enabled": False},
            "externalIPs": {"enabled": True, "cidrs": ["192.0.2.0/24", "2001:db8:2::/64"]},
        }
        # A router that keeps what a node has announced for two minutes would make many a truth wait.
        configuration["spec"]["gracefulRestart"] = {"enabled": False}
        excluded = "node.kubernetes.io/exclude-from-external-load-balancers"
        self.of(self.base, "Node", "n2")["metadata"].setdefault("labels", {})[excluded] = "true"
        self.of(self.base, "Service", "web")["spec"]["externalIPs"] = list(EXTERNAL)
        self.write(self.base)

    @staticmethod
    def of(documents: Documents, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        found = (each for docs in documents.values() for each in docs)
        return next(each for each in found if each["kind"] == kind and each["metadata"]["name"] == name)

    @staticmethod
    def all_of(documents: Documents, kind: str) -> list[dict[str, Any]]:
        """Every object of a kind."""
        return [each for docs in documents.values() for each in docs if each["kind"] == kind]

    def write(self, documents: Mapping[str, list[dict[str, Any]]]) -> None:
        """Write the files that are others than what is there, each whole."""
        for name, docs in documents.items():
            target = self.lab.manifests / name
            text = yaml.safe_dump_all(docs) if docs else "# nothing\n"
            if target.exists() and target.read_text() == text:
                continue
            temporary = target.with_suffix(".tmp")
            temporary.write_text(text)
            temporary.rename(target)

    def declare(self, change: Callable[[Documents], None]) -> None:
        """What is declared, with a change."""
        documents = copy.deepcopy(self.base)
        change(documents)
        self.write(documents)

    def mend(self) -> None:
        """As it was."""
        self.write(self.base)

    # --- hosts -------------------------------------------------------------------------------------------

    def host(self, name: str) -> Host:
        return self.lab.host(name)

    def run(self, host: str, text: str, check: bool = True) -> str:
        """A command of words."""
        return self.host(host).run(text.split(), check=check).stdout

    def vtysh(self, router: str, *commands: str) -> None:
        words = [word for command in commands for word in ("-c", command)]
        self.host(router).run(["vtysh", *words])

    def client(self, version: int) -> str:
        """The client's address."""
        return str(self.lab.topology.address("client", version))

    def pod(self, name: str, version: int) -> str:
        """A pod's address."""
        return str(self.lab.pod(name).address(version))

    # --- truth and explanation ---------------------------------------------------------------------------

    def passes(self, source: str, targets: list[tuple[str, int]], size: int = 0) -> bool:
        """Whether every target answers a few connections in a row. `source`: a host, or a pod by its name;
        `size`: bytes of a request, beside its own."""
        from ipaddress import ip_address

        pods = self.lab.topology.pods
        host, pod = (pods[source].name, source) if source in pods else (source, None)
        wanted = [(ip_address(address), port, 4) for address, port in targets]

        def one(target: Any) -> bool:
            try:
                answers = ask(self.host(host), [target], pod, size)[0]
            except LabError:
                return False
            return not answers.failures and sum(answers.pods.values()) == 4

        with ThreadPoolExecutor(4) as pool:
            return all(pool.map(one, wanted))

    def explain(self, node: str, subject: str, routers: bool = False) -> dict[str, Any]:
        """What the command says, asked from outside of the lab."""
        words = [sys.executable, "-m", "l3net.cli.main", "explain", "--lab", self.lab.name, "--node", node]
        if routers:
            words.append("--ask-router")
        import subprocess

        done = subprocess.run(
            [*words, "-o", "json", *subject.split()], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 1), (subject, done.stderr)
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["healthy"] is (done.returncode == 0)
        return answer

    def until(self, condition: Callable[[], bool]) -> bool:
        """Whether it comes about in time; what decides is asserted by whoever asks."""
        deadline = time.monotonic() + _SECONDS
        while True:
            with suppress(LabError):
                if condition():
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)


Act = Callable[[Bench], None]


@dataclass(frozen=True)
class Case:
    """One set-up. `change` is declared, or `act` done and then `undo`. `subject` asks, `source` sends to
    `targets`; `cause` is what has to be said (empty: that all is well); `size` of a request. Words in braces:
    see `fill`."""

    name: str
    cause: str
    subject: str
    source: str = "client"
    targets: tuple[tuple[str, int], ...] = ()
    change: Callable[[Documents], None] | None = None
    act: Act | None = None
    undo: Act | None = None
    node: str = "n1"
    routers: bool = False
    size: int = 0


def fill(bench: Bench, text: str) -> str:
    """`{client4}`, `{web-1.4}` and the like."""
    for version in (4, 6):
        text = text.replace(f"{{client{version}}}", bench.client(version))
        for node in bench.lab.topology.nodes:
            text = text.replace(
                f"{{{node.name}.{version}}}", str(bench.lab.topology.address(node.name, version))
            )
        for pod in bench.lab.topology.pods:
            with suppress(LabError):
                text = text.replace(f"{{{pod}.{version}}}", bench.pod(pod, version))
    return text
