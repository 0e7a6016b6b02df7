"""A lab's agents scraped by a real Prometheus: all that is documented, the alerts that are due and no other.

With L3NET_PICTURE=FILE.png the dashboard is drawn, filled with what was scraped (docs/images/dashboard.webp).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard_page import page, plain
from prometheus_client.parser import text_string_to_metric_families

from l3net.agent.metrics import ROWS
from l3net.lab.host import Host, find_hosts
from l3net.lab.pods import add_pod, find_plugin

pytestmark = [pytest.mark.soak, pytest.mark.netns]

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
PORT = 9618
L3NET = [sys.executable, "-m", "l3net.cli.main"]


class Watched:
    """A lab, with Prometheus on the client's host; the rules wait for no time, but for their conditions."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.hosts: dict[str, Host] = find_hosts(name, Path("/run/l3net-lab") / name)
        self.targets = {node: self._address(node) for node in ("n1", "n2", "n3")}
        rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule.pop("for", None)
        (path / "alerts.yaml").write_text(yaml.safe_dump(rules))
        targets = [
            {"targets": [f"{address}:{PORT}"], "labels": {"instance": node}}
            for node, address in self.targets.items()
        ]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path / "alerts.yaml")],
            "scrape_configs": [{"job_name": "l3net", "static_configs": targets}],
        }
        (path / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = [
            *self._at("client"),
            "prometheus",
            f"--config.file={path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={path / 'data'}",
            "--web.listen-address=127.0.0.1:9090",
        ]
        log = (path / "prometheus.log").open("w")
        self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def _at(self, host: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.hosts[host].pid}/ns/net", "--"]

    def _address(self, node: str) -> str:
        told = subprocess.run(
            [*self._at(node), "ip", "-4", "-o", "address"], check=True, capture_output=True, text=True
        ).stdout
        found: str = re.findall(r"inet (10\.0\.[\d.]+)/31", told)[0]
        return found

    def fetch(self, url: str) -> str:
        done = subprocess.run(
            [*self._at("client"), "curl", "-s", "-m", "5", url], capture_output=True, text=True, check=False
        )
        return done.stdout

    def ask(self, what: str, **query: object) -> list[Any]:
        told = self.fetch(f"http://127.0.0.1:9090/api/v1/{what}?{urllib.parse.urlencode(query)}")
        try:
            found: list[Any] = json.loads(told)["data"]["result"]
        except ValueError:
            return []
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Alerts by name and instance."""
        found = self.ask("query", query='ALERTS{alertstate="firing"}')
        return {(each["metric"]["alertname"], each["metric"].get("instance", "")) for each in found}

    def run(self, node: str, *command: str) -> None:
        subprocess.run([*L3NET, "lab", "exec", "--name", self.name, node, "--", *command], check=True)

    def declare(self, name: str, *documents: dict[str, Any]) -> None:
        """In a file of its own, put there whole."""
        file = Path("/run/l3net-lab") / self.name / "manifests" / f"{name}.yaml"
        new = file.with_suffix(".new")
        new.write_text(yaml.safe_dump_all(documents))
        new.rename(file)

    def bustle(self) -> None:
        """Some pods, a policy, and a service that changes, so that there is something to measure."""
        plugin = find_plugin()
        ingress = [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]
        policy = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "extra", "namespace": "default"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress},
        }
        for at in range(1, 7):
            add_pod(self.hosts[f"n{1 + at % 3}"], f"extra-{at}", plugin)
            service = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "extra", "namespace": "default"},
                "spec": {
                    "clusterIP": "10.96.0.77",
                    "clusterIPs": ["10.96.0.77"],
                    "externalIPs": [f"203.0.113.{100 + at}"],
                    "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                },
            }
            slice_ = {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "extra",
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "extra"},
                },
                "addressType": "IPv4",
                "endpoints": [{"addresses": [f"10.244.1.{100 + at}"], "nodeName": "n1"}],
                "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            }
            self.declare("extra", policy, service, slice_)
            time.sleep(1.5)

    def measured(self, query: str) -> float:
        """The only value there is; 0 without one."""
        found = self.ask("query", query=query)
        return float(found[0]["value"][1]) if found else 0.0

    def picture(self, file: Path) -> None:
        """The dashboard, drawn by Chromium."""

        def ask(query: str) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
            now = time.time()
            found = self.ask("query_range", query=query, start=now - 150, end=now, step=1)
            return [
                (row["metric"], [(float(at), float(value)) for at, value in row["values"]]) for row in found
            ]

        board = json.loads((MONITORING / "dashboard.json").read_text())
        about = (
            "The queries of deploy/monitoring/dashboard.json, answered by a Prometheus that scrapes a lab's"
            " agents. A node was drained and came back; then a router shut one session."
        )
        (self.path / "page.html").write_text(page(board, ask, about))
        subprocess.run(
            [
                *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={self.path / 'chromium'}", "--window-size=1320,1790"),
                *(f"--screenshot={file}", f"file://{self.path / 'page.html'}"),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def until(holds: Callable[[], object], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.5)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Watched]:
    if shutil.which("prometheus") is None:
        pytest.skip("needs package prometheus")
    name = f"m{uuid.uuid4().hex[:7]}"
    environment = os.environ | {"L3NET_METRICS_ADDRESS": f"0.0.0.0:{PORT}"}
    watched: Watched | None = None
    try:
        subprocess.run([*L3NET, "lab", "up", "--name", name], check=True, env=environment)
        watched = Watched(name, tmp_path)
        yield watched
    finally:
        if watched is not None:
            watched.process.terminate()
            watched.process.wait(30)
        subprocess.run([*L3NET, "lab", "down", "--name", name], check=False)


def test_alerts_are_told_of_what_is_and_of_nothing_else(lab: Watched) -> None:
    for address in lab.targets.values():
        text = lab.fetch(f"http://{address}:{PORT}/metrics")
        told = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
        assert told == {name for row in ROWS for name in (row.family.name, row.family.formerly) if name}, (
            "what docs/metrics.md has"
        )
        found = {family.name: family for family in text_string_to_metric_families(text)}
        phases = {
            each.labels["phase"]: each.value
            for each in found["l3net_cni_add_duration_seconds"].samples
            if each.name.endswith("_count")
        }
        assert {phases[each] for each in ("all", "configuration", "addresses", "guard", "sandbox")} == {2}
        assert found["l3net_service_change_kernel_seconds"].samples
    until(lambda: len(lab.ask("query", query="l3net_ready == 1")) == 3, "three agents that are ready")
    until(lambda: lab.ask("query", query="l3net_passes_total offset 15s"), "some scrapes")
    assert lab.firing() == set(), "all is well"
    before = lab.measured("max(l3net_service_change_kernel_seconds_count)")
    lab.bustle()
    until(
        lambda: lab.measured('sum(l3net_cni_add_duration_seconds_count{phase="all"})') == 12, "six ADDs more"
    )
    until(lambda: lab.measured("min(l3net_service_change_kernel_seconds_count)") > before + 3, "changes")
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            assert "error" not in lab.fetch(
                "http://127.0.0.1:9090/api/v1/query?"
                + urllib.parse.urlencode({"query": plain(target["expr"])})
            )
    lab.run("n1", *L3NET, "node", "drain")
    until(lambda: ("L3netDrainForgotten", "n1") in lab.firing(), "the drain is told")
    assert not {each for each in lab.firing() if each[0] == "L3netSessionDown"}, "as it was asked to"
    lab.run("n1", *L3NET, "node", "undrain")
    until(lambda: lab.firing() == set(), "it is over")
    neighbor = f"neighbor {lab.targets['n3']}"

    def shut(no: str) -> None:
        commands = ("configure terminal", "router bgp 65002", f"{no}{neighbor} shutdown")
        lab.hosts["tor2"].run(["vtysh", *(word for each in commands for word in ("-c", each))])

    shut("")
    until(lambda: ("L3netSessionDown", "n3") in lab.firing(), "a session that its router has shut")
    assert {name for name, _ in lab.firing()} == {"L3netSessionDown"}, "others are up"
    shut("no ")
    until(lambda: lab.firing() == set(), "back")
    if picture := os.environ.get("L3NET_PICTURE"):
        lab.picture(Path(picture))
