"""What a whole agent exports: as documented, as Prometheus asks, and bounded."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scene import BLOCKS, Scene
from sim_node import node, service
from simloop import simulate

from l3net.agent.measuring.seen import Apart, Beside, Seen
from l3net.agent.measuring.services import SERVICES
from l3net.agent.metrics import ROWS, Metering, metrics
from l3net.errors import KernelError
from l3net.metering.bounded import MOST, Bounded
from l3net.metering.family import Family, MetricKind, counter, one
from l3net.metering.histogram import FINE, Histogram
from l3net.metering.text import exposition, written
from l3net.model import ObjectName, PortUse


@pytest.fixture(scope="module")
def text() -> str:
    """Of an agent with two peers, that has settled."""
    found: list[str] = []

    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        beside = Beside(lambda: (3, 0), lambda: {"status": 2}, lambda: (1, 0), lambda: {("GET", "200"): 7})
        found.append(Metering(scene.agent, beside).text())
        assert scene.agent.faults.found() == []
        await asyncio.sleep(0)

    simulate(scenario())
    return found[0]


def test_ports_of_source_addresses_are_told_as_of_the_last_look() -> None:
    """Each minute; a look that fails leaves what was seen, and the next one comes."""

    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        own, to = ip_address("10.0.0.2"), ip_address("192.0.2.9")
        told = 'l3net_snat_ports_used{source="10.0.0.2",protocol="tcp"} '
        for used, failing in ((60000, None), (60001, KernelError("dump", 5)), (60002, None)):
            scene.firewall.ports, scene.firewall.failing = [PortUse(own, 6, to, 443, used)], failing
            await asyncio.sleep(61)
            scene.firewall.failing = None
            assert f"{told}{60000 if failing else used}" in metrics(scene.agent)
        assert 'l3net_conntrack_refused_total{kind="insert_failed"} 3' in metrics(scene.agent)
        made = node("n1", *BLOCKS)
        made["metadata"]["annotations"] = {"l3net.io/snat-addresses": "10.0.0.77, 10.0.0.2"}
        assert "l3net_snat_addresses_missing 0" in metrics(scene.agent)
        scene.datastore.apply(made)
        await asyncio.sleep(1)
        assert "l3net_snat_addresses_missing 1" in metrics(scene.agent)

    simulate(scenario())


def refused(name: str, error: Exception) -> None:
    raise AssertionError(name) from error


def test_every_row_is_exported_and_nothing_else(text: str) -> None:
    told = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    names = [row.family.name for row in ROWS]
    former = [row.family.formerly for row in ROWS if row.family.formerly]
    assert sorted(told) == sorted(names + former)
    assert len(set(told)) == len(told)


def test_another_reader_takes_it(text: str) -> None:
    found = {family.name: family for family in text_string_to_metric_families(text)}
    up = {sample.labels["peer"]: sample.value for sample in found["l3net_bgp_session_up"].samples}
    assert up == {"tor4": 1.0, "tor6": 1.0}
    assert found["l3net_pass_duration_seconds"].type == "histogram"
    assert found["l3net_kernel_refused"].samples[0].labels == {"part": "firewall"}
    assert {sample.labels["family"] for sample in found["l3net_block_addresses"].samples} == {"IPv4", "IPv6"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (package prometheus)")
def test_names_are_as_prometheus_asks(text: str) -> None:
    def judged(of: str) -> str:
        run = subprocess.run(
            ["promtool", "check", "metrics"], input=of, capture_output=True, text=True, check=False
        )
        return run.stderr + run.stdout

    assert judged(text) == ""
    bad = "# HELP l3net_waits Waits.\n# TYPE l3net_waits counter\nl3net_waits 1\n"
    assert "_total" in judged(bad), "the control"


def test_kinds_and_names_agree() -> None:
    for row in ROWS:
        family = row.family
        assert family.name.endswith("_total") is (family.kind is MetricKind.COUNTER), family.name
        assert family.about.endswith("."), family.name
        assert "\n" not in family.about


def test_a_row_that_fails_takes_no_other_along() -> None:
    broken = counter("l3net_broken_total", "Broken.", one(lambda _: 1 / 0))
    failed: list[str] = []
    told = exposition(
        [broken, *SERVICES[:0], counter("l3net_well_total", "Well.", one(lambda _: 1))],
        None,
        lambda name, _: failed.append(name),
    )
    assert failed == ["l3net_broken_total"]
    assert "l3net_well_total 1\n" in told
    assert "broken" not in told


def test_odd_names_are_escaped() -> None:
    family = Family("l3net_odd", MetricKind.GAUGE, "Odd.", ("peer",))
    told = written(family, [(('a"b\\c\nd',), 1)])
    (read,) = text_string_to_metric_families(told)
    assert read.samples[0].labels == {"peer": 'a"b\\c\nd'}


@pytest.mark.parametrize("value", [1795971880.125, 0.1, 1e-9, 2.0**70, -3.5, 0])
def test_no_digit_is_lost(value: float) -> None:
    """The time of a start has ten digits before the point."""
    (read,) = text_string_to_metric_families(written(Family("x", MetricKind.GAUGE, "X."), [((), value)]))
    assert read.samples[0].value == value


def test_histograms_count_up() -> None:
    found = Histogram(FINE)
    for seconds in (0.0001, 0.0002, 0.3, 60.0):
        found.observe(seconds)
    assert found.counts[0] == 1 and found.counts[-1] == 3 and found.count == 4
    told = written(Family("l3net_x_seconds", MetricKind.HISTOGRAM, "X.", ("phase",)), [(("all",), found)])
    assert 'l3net_x_seconds_bucket{phase="all",le="+Inf"} 4\n' in told
    assert 'l3net_x_seconds_count{phase="all"} 4\n' in told


# --- bounds ----------------------------------------------------------------------------------------------


def test_who_is_told_apart_stays_so_and_nothing_goes_back() -> None:
    bounded: Bounded[str] = Bounded(2)
    assert dict(bounded.follow({"a": 1, "b": 2, "c": 3, "d": 4})) == {"a": 1, "b": 2}
    assert bounded.others == 7
    assert dict(bounded.follow({"a": 1, "b": 5, "c": 4, "d": 4})) == {"a": 1, "b": 5}
    assert bounded.others == 8
    assert dict(bounded.follow({"b": 5, "c": 4, "e": 1})) == {"b": 5, "e": 1}, "there is room for a new one"
    assert bounded.others == 8, "what is gone stays counted, and c stays among the others"
    assert dict(bounded.follow({"b": 5, "c": 2, "e": 1})) == {"b": 5, "e": 1}
    assert bounded.others == 10, "one that began anew"


def test_a_thousand_services_are_a_bounded_number_of_samples() -> None:
    rejudged = {ObjectName("default", f"s{at}"): 1 for at in range(1000)}
    agent: Any = SimpleNamespace(services=SimpleNamespace(book=SimpleNamespace(rejudged=rejudged)))
    row = next(row for row in SERVICES if row.family.name == "l3net_service_verdict_changes_total")
    told = exposition([row], Seen(agent, Apart(), Beside()), refused)
    assert told.count("\nl3net_service_verdict") == MOST + 1
    assert f'{{namespace="",service="others"}} {1000 - MOST}\n' in told


# --- what is new -----------------------------------------------------------------------------------------


def test_a_changed_service_is_timed_to_the_kernel_and_to_the_speaker() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        services = scene.agent.services
        before = services.kernel_latency.count, services.latency.count
        scene.datastore.apply(service("s", "10.96.0.9", externalIPs=["192.0.2.10"]))
        await asyncio.sleep(2)
        assert (services.kernel_latency.count, services.latency.count) == (before[0] + 1, before[1] + 1)
        assert services.kernel_latency.sum <= services.latency.sum
        scene.datastore.apply(service("s", "10.96.0.9", externalIPs=["192.0.2.11"]))
        await asyncio.sleep(2)
        told = metrics(scene.agent)
        assert 'l3net_service_verdict_changes_total{namespace="default",service="s"} 1\n' in told

    simulate(scenario())


def test_what_the_kernel_refuses_is_told_by_part() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.ready()
        assert 'l3net_kernel_refused{part="firewall"} 0\n' in metrics(scene.agent)
        scene.agent.kernel.problems["firewall"] = "refused"
        assert 'l3net_kernel_refused{part="firewall"} 1\n' in metrics(scene.agent)

    simulate(scenario())
