"""Alerts and dashboard: valid, firing when they should and not otherwise, on what is exported and no more."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_chart import DEPLOY, ROOT, documents, find, workloads

from l3net.agent.metrics import ROWS as OF_AGENT
from l3net.cli.main import COMMANDS
from l3net.controller.metrics import ROWS as OF_CONTROLLER
from l3net.metering.family import MetricKind

ALERTS = DEPLOY / "monitoring" / "alerts.yaml"
DASHBOARD = DEPLOY / "monitoring" / "dashboard.json"
RUNBOOK = ROOT / "docs" / "alerts.md"
FAMILIES = {row.family.name: row.family for row in (*OF_AGENT, *OF_CONTROLLER)}
NAME = re.compile(r"\b(?:l3net|process)_[a-z0-9_]+\b")

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs package prometheus")

#: Of each alert: series with which it fires after a time, and such with which it does not. Series end in what
#: they are from minute to minute (promtool's notation); `@` stands for the labels of the target.
Case = tuple[list[str], list[str]]
UP = "l3net_drain_stage{@} 0x60"
CASES: dict[str, Case] = {
    "L3netAgentAway": (["up{@} 1x10 0x50", "l3net_ready{@} 1x10"], ["up{@} 0x60"]),
    "L3netAgentNotReady": (["l3net_ready{@} 0x60"], ["l3net_ready{@} 1x50 0x10", "l3net_ready{@} 1x60"]),
    "L3netNotInSync": (["l3net_in_sync{@} 0x60"], ["l3net_in_sync{@} 1x60"]),
    "L3netApiSilent": (
        ['l3net_view_bookmark_age_seconds{@,kind="Service"} 0+60x60'],
        ['l3net_view_bookmark_age_seconds{@,kind="Service"} 60x60'],
    ),
    "L3netRejectedObjects": (["l3net_rejected_objects{@} 1x60"], ["l3net_rejected_objects{@} 0x60"]),
    "L3netPassesFailing": (["l3net_passes_failed_total{@} 0+1x60"], ["l3net_passes_failed_total{@} 7x60"]),
    "L3netFaults": (
        ['l3net_faults_total{@,part="audit"} 0+1x60'],
        ['l3net_faults_total{@,part="audit"} 0x40 1x20'],
    ),
    "L3netDrainStuck": (["l3net_drain_stage{@} 1x60"], ["l3net_drain_stage{@} 2x60"]),
    "L3netDrainForgotten": (["l3net_drain_stage{@} 2x1500"], ["l3net_drain_stage{@} 0x1500"]),
    "L3netSpeakerAway": (["l3net_speaker_connected{@} 0x60"], ["l3net_speaker_connected{@} 1x60"]),
    "L3netSessionDown": (
        ['l3net_bgp_session_up{@,peer="a",address="::1"} 0x60', UP],
        ['l3net_bgp_session_up{@,peer="a",address="::1"} 0x60', "l3net_drain_stage{@} 4x60"],
    ),
    "L3netNoSession": (
        ['l3net_bgp_session_up{@,peer="a"} 0x60', 'l3net_bgp_session_up{@,peer="b"} 0x60', UP],
        ['l3net_bgp_session_up{@,peer="a"} 0x60', 'l3net_bgp_session_up{@,peer="b"} 1x60', UP],
    ),
    "L3netSessionFlapping": (
        ['l3net_bgp_session_flaps_total{@,peer="a"} 0+1x60'],
        ['l3net_bgp_session_flaps_total{@,peer="a"} 0x55 1x5'],
    ),
    "L3netPrefixLimit": (
        ['l3net_bgp_prefix_limit_exceeded{@,peer="a",family="IPv6"} 1x60'],
        ['l3net_bgp_prefix_limit_exceeded{@,peer="a",family="IPv6"} 0x60'],
    ),
    "L3netPeerTakesNothing": (
        [
            'l3net_bgp_prefixes_queued{@,peer="a",address="::1"} 9x60',
            'l3net_bgp_prefixes_announced{@,peer="a",address="::1"} 7x60',
        ],
        [
            'l3net_bgp_prefixes_queued{@,peer="a",address="::1"} 900-9x60',
            'l3net_bgp_prefixes_announced{@,peer="a",address="::1"} 0+9x60',
        ],
    ),
    "L3netBfdDown": (
        ['l3net_bfd_session_up{@,peer="a"} 0x60', UP],
        ['l3net_bfd_session_up{@,peer="a"} 1x60', UP],
    ),
    "L3netBfdAway": (["l3net_bfd_connected{@} 0x60"], ["l3net_bfd_connected{@} 1x60"]),
    "L3netCollectorAway": (
        ['l3net_bmp_connected{@,collector="c"} 0x60'],
        ['l3net_bmp_connected{@,collector="c"} 1x54 0x6'],
    ),
    "L3netRoutesRefused": (["l3net_routes_refused{@} 3x60"], ["l3net_routes_refused{@} 0x60"]),
    "L3netTableRefused": (
        ['l3net_kernel_refused{@,part="firewall"} 1x60'],
        ['l3net_kernel_refused{@,part="firewall"} 0x60', 'l3net_kernel_refused{@,part="bridge"} 1x60'],
    ),
    "L3netKernelRefuses": (
        ['l3net_kernel_refused{@,part="bridge"} 1x60'],
        ['l3net_kernel_refused{@,part="firewall"} 1x60', 'l3net_kernel_refused{@,part="routes"} 1x60'],
    ),
    "L3netServicesUnhealthy": (
        ["l3net_service_proxy_healthy{@} 0x60", "l3net_service_proxy{@} 1x60"],
        ["l3net_service_proxy_healthy{@} 0x60", "l3net_service_proxy{@} 0x60"],
    ),
    "L3netServiceChangesSlow": (
        [
            'l3net_service_change_seconds_bucket{@,le="1.0"} 0x60',
            'l3net_service_change_seconds_bucket{@,le="5.0"} 0+9x60',
            'l3net_service_change_seconds_bucket{@,le="+Inf"} 0+9x60',
        ],
        [
            'l3net_service_change_seconds_bucket{@,le="1.0"} 0+9x60',
            'l3net_service_change_seconds_bucket{@,le="5.0"} 0+9x60',
            'l3net_service_change_seconds_bucket{@,le="+Inf"} 0+9x60',
        ],
    ),
    "L3netHealthPortTaken": (
        ['l3net_health_ports{@,state="refused"} 1x60'],
        ['l3net_health_ports{@,state="refused"} 0x60', 'l3net_health_ports{@,state="open"} 9x60'],
    ),
    "L3netBlocksFull": (
        [
            'l3net_block_addresses{@,family="IPv4"} 100x60',
            'l3net_block_addresses_taken{@,family="IPv4",state="leased"} 90x60',
            'l3net_block_addresses_taken{@,family="IPv4",state="cooling"} 7x60',
        ],
        [
            'l3net_block_addresses{@,family="IPv4"} 100x60',
            'l3net_block_addresses_taken{@,family="IPv4",state="leased"} 90x60',
            'l3net_block_addresses_taken{@,family="IPv4",state="cooling"} 1x60',
        ],
    ),
    "L3netDuplicateAddress": (["l3net_lease_conflicts{@} 1x60"], ["l3net_lease_conflicts{@} 0x60"]),
    "L3netSpoolQuarantined": (["l3net_spool_quarantined{@} 1x60"], ["l3net_spool_quarantined{@} 0x60"]),
    "L3netAddSlow": (
        [
            'l3net_cni_add_duration_seconds_bucket{@,phase="all",le="0.5"} 0x60',
            'l3net_cni_add_duration_seconds_bucket{@,phase="all",le="+Inf"} 0+9x60',
            'l3net_cni_add_duration_seconds_bucket{@,phase="all",le="5.0"} 0+9x60',
        ],
        [
            'l3net_cni_add_duration_seconds_bucket{@,phase="all",le="0.5"} 0+9x60',
            'l3net_cni_add_duration_seconds_bucket{@,phase="all",le="+Inf"} 0+9x60',
        ],
    ),
    "L3netNoLeader": (
        ["l3net_controller_leader{@} 0x60"],
        ["l3net_controller_leader{@} 0x60", 'l3net_controller_leader{job="l3net",instance="b"} 1x60'],
    ),
    "L3netSeveralLeaders": (
        ["l3net_controller_leader{@} 1x60", 'l3net_controller_leader{job="l3net",instance="b"} 1x60'],
        ["l3net_controller_leader{@} 1x60", 'l3net_controller_leader{job="l3net",instance="b"} 0x60'],
    ),
    "L3netControllerFailing": (
        ["l3net_controller_failing{@} 1x60", "l3net_controller_leader{@} 1x60"],
        ["l3net_controller_failing{@} 1x60", "l3net_controller_leader{@} 0x60"],
    ),
    "L3netPoolNearlyExhausted": (
        ['l3net_controller_pool_free{@,pool="p"} 2x60', 'l3net_controller_pool_used{@,pool="p"} 98x60'],
        ['l3net_controller_pool_free{@,pool="p"} 20x60', 'l3net_controller_pool_used{@,pool="p"} 80x60'],
    ),
    "L3netPoolExhausted": (
        ['l3net_controller_pool_free{@,pool="p"} 0x60'],
        ['l3net_controller_pool_free{@,pool="p"} 1x60'],
    ),
    "L3netDeclaredConflict": (
        ['l3net_controller_findings{@,kind="Service",reason="AddressInUse"} 1x60'],
        ['l3net_controller_findings{@,kind="Service",reason="AddressInUse"} 0x60'],
    ),
}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


# --- alerts ----------------------------------------------------------------------------------------------


def test_each_has_all_that_people_need() -> None:
    headings = set(re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.M))
    names = [rule["alert"] for rule in rules()]
    assert set(names) == headings == CASES.keys() and len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        notes = rule["annotations"]
        assert notes["summary"].endswith(".")
        assert notes["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"


def promtool_test(path: Path, cases: dict[str, Case]) -> subprocess.CompletedProcess[str]:
    """Each alert fires with the first series and does not with the others."""

    def part(name: str, series: list[str], fires: bool) -> dict[str, Any]:
        last = 1500 if name == "L3netDrainForgotten" else 59
        found = []
        for each in series:
            selector, _, values = each.replace("@", 'job="l3net",instance="a"').partition("} ")
            found.append({"series": selector + "}", "values": values})
        asked = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > 0'
        return {
            "interval": "1m",
            "name": f"{name} {'fires' if fires else 'does not'}",
            "input_series": found,
            "promql_expr_test": [
                {
                    "expr": f"{asked} or vector(0)",
                    "eval_time": f"{last}m",
                    "exp_samples": [{"labels": "{}", "value": int(fires)}],
                }
            ],
        }

    files = []
    for name, (fire, quiet) in cases.items():
        # Each beside its own rule alone: every rule of the file is worked out every minute.
        own = [rule for rule in rules() if rule["alert"] == name]
        (path / f"{name}.yaml").write_text(yaml.safe_dump({"groups": [{"name": name, "rules": own}]}))
        tests = [part(name, fire, True), part(name, quiet, False)]
        files.append(path / f"{name}_test.yaml")
        files[-1].write_text(yaml.safe_dump({"rule_files": [f"{name}.yaml"], "tests": tests}))
    return subprocess.run(
        ["promtool", "test", "rules", *map(str, files)], capture_output=True, text=True, check=False
    )


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_each_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    done = promtool_test(tmp_path, CASES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_one_that_did_not_fire_would_be_found(tmp_path: Path) -> None:
    fire, quiet = CASES["L3netRoutesRefused"]
    done = promtool_test(tmp_path, {"L3netRoutesRefused": (quiet, fire)})
    assert done.returncode != 0


# --- names -----------------------------------------------------------------------------------------------


def unknown(expression: str) -> set[str]:
    """Names of metrics that nobody exports; and labels that theirs do not have."""
    found = set()
    for name in NAME.findall(expression):
        family = FAMILIES.get(name)
        if family is None and (bare := FAMILIES.get(re.sub(r"_(bucket|sum|count)$", "", name))) is not None:
            family = bare if bare.kind is MetricKind.HISTOGRAM else None
        if family is None:
            found.add(name)
            continue
        for labels in re.findall(rf"\b{name}\{{([^}}]*)\}}", expression):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels))
            found |= {f"{name}: {each}" for each in asked - {*family.labels, "le", "job", "instance"}}
    return found


def expressions() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]


def test_every_name_is_one_that_is_exported() -> None:
    assert {each for expression in expressions() for each in unknown(expression)} == set()


def test_a_name_or_label_that_is_not_would_be_found() -> None:
    assert unknown("l3net_no_such == 1") == {"l3net_no_such"}
    assert unknown("l3net_ready_bucket == 1") == {"l3net_ready_bucket"}
    assert unknown('l3net_kernel_refused{port="x"}') == {"l3net_kernel_refused: port"}


def test_commands_of_the_runbook_are_there() -> None:
    named = set(re.findall(r"`l3net ([a-z]+)", RUNBOOK.read_text().replace("\n", " ")))
    assert named <= COMMANDS.keys() and len(named) > 5


# --- dashboard -------------------------------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    return [each for each in json.loads(DASHBOARD.read_text())["panels"] if each["type"] != "row"]


def test_the_dashboard_asks_a_data_source_that_one_chooses() -> None:
    board = json.loads(DASHBOARD.read_text())
    variables = {each["name"]: each["type"] for each in board["templating"]["list"]}
    assert variables["datasource"] == "datasource"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"] and panel["targets"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@needs_promtool
def test_every_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    plain = [re.sub(r"\$__rate_interval", "5m", each).replace("$instance", ".*") for each in asked]
    file = tmp_path / "rules.yaml"
    recorded = [{"record": f"r{at}", "expr": each} for at, each in enumerate(plain)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": recorded}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- the chart -------------------------------------------------------------------------------------------


def test_the_chart_makes_nothing_of_it_unless_asked() -> None:
    assert not [each for each in documents({}) if each["apiVersion"] == "monitoring.coreos.com/v1"]


def test_the_rule_is_the_file() -> None:
    wanted = {"enabled": True, "labels": {"release": "p"}, "runbook": "https://wiki/x.md"}
    made = find(documents({"monitoring": {"rules": wanted}}), "PrometheusRule", "l3net")
    assert made["metadata"]["labels"]["release"] == "p"
    text = json.dumps(yaml.safe_load(ALERTS.read_text())["groups"])
    assert made["spec"]["groups"] == json.loads(text.replace("docs/alerts.md#", "https://wiki/x.md#"))


def test_the_monitor_finds_the_ports() -> None:
    values = {
        "monitoring": {"podMonitor": {"enabled": True}},
        "agent": {"metricsAddress": "[::]:9618"},
        "controller": {"metricsAddress": "0.0.0.0:9619"},
    }
    found = documents(values)
    monitor = find(found, "PodMonitor", "l3net")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    ports = {}
    for name, workload in workloads(found):
        template = workload["spec"]["template"]
        assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        for container in template["spec"]["containers"]:
            for port in container.get("ports", ()):
                if port["name"] == endpoint["port"]:
                    ports[name] = port["containerPort"]
    assert ports == {
        "l3net-agent": 9618,
        "l3net-controller": 9619,
    }
