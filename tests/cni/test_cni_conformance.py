"""Our plugin against the whole conformance suite, with the agent and without; the reference as control."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from l3net.cli.conformance import conformance
from l3net.conformance.run import default_conf, run_suite
from l3net.conformance.verdict import FAILED, PASSED, CaseVerdict, score

pytestmark = pytest.mark.netns

REFERENCE = Path("/usr/lib/cni/bridge")


def failures(verdicts: list[CaseVerdict]) -> list[str]:
    return [f"{each.point}: {each.title}: {each.why}" for each in verdicts if each.verdict == FAILED]


def test_with_the_agent(plugin_dir: Path) -> None:
    plugin = plugin_dir / "l3net-cni"
    verdicts = run_suite(plugin, default_conf(plugin, standalone=False), str(plugin_dir))
    assert failures(verdicts) == []
    assert score(verdicts)[1] > 45


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("helper", [True, False])
def test_without_an_agent(plugin_dir: Path, helper: bool) -> None:
    plugin = plugin_dir / "l3net-cni"
    verdicts = run_suite(plugin, default_conf(plugin, standalone=True), str(plugin_dir), resident=helper)
    assert failures(verdicts) == []
    assert score(verdicts)[1] > 50


@pytest.mark.skipif(not REFERENCE.exists(), reason="reference plugins are not installed")
def test_the_suite_can_fail() -> None:
    """The control: known shortcomings of the reference are found, and what it does well passes."""
    conf = default_conf(REFERENCE, standalone=True)
    found = run_suite(REFERENCE, conf, str(REFERENCE.parent), only="CNI_NETNS empty takes")
    assert [each.verdict for each in found] == [FAILED]
    words = [str(REFERENCE), "--standalone", "--only", "VERSION answers", "-o", "json"]
    told = json.loads(CliRunner().invoke(conformance, words).stdout)
    assert [each["verdict"] for each in told["cases"]] == [PASSED, PASSED]
    assert logging.getLogger("l3net").level == logging.NOTSET, "it is silent for as long as it tries alone"
