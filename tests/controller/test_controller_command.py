"""`l3net controller` as a process: probes, work, SIGTERM, and errors that teach."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver import FakeApiServer
from controller_rig import NAMESPACE, blocks, node, pool, until
from prometheus_client.parser import text_string_to_metric_families

from l3net.controller.metrics import ROWS
from l3net.metering.family import MetricKind

COMMAND = [sys.executable, "-m", "l3net.cli.main", "controller"]
ENVIRONMENT = {
    key: value for key, value in os.environ.items() if key not in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")
}


def ask(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *options], env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture
def metrics_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def running(api: FakeApiServer, tmp_path: Path, metrics_port: int) -> Iterator[subprocess.Popen[str]]:
    api.put(pool("four", "10.244.0.0/16"), node("a"))
    options = [
        f"--kubeconfig={api.kubeconfig(tmp_path / 'kubeconfig', 'canary-token')}",
        f"--run-dir={tmp_path}",
        f"--metrics-address=127.0.0.1:{metrics_port}",
    ]
    process = subprocess.Popen([*COMMAND, *options], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def assert_metrics(port: int) -> None:
    """All that is documented, and as it is."""

    def told() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    # The server has a block before its client has heard the answer to that.
    until(lambda: 'method="PATCH",status="200"' in told(), "the answer to be counted")
    text = told()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} == {
        row.family.name for row in ROWS
    }
    for row in ROWS:
        assert row.family.name.endswith("_total") is (row.family.kind is MetricKind.COUNTER)
    assert found["l3net_controller_leader"].samples[0].value == 1
    assert found["l3net_controller_node_blocks"].samples[0].value == 1
    (free,) = found["l3net_controller_pool_free"].samples
    assert free.labels == {"pool": "four"} and free.value == 255
    answered = {
        (each.labels["method"], each.labels["status"]) for each in found["l3net_api_requests"].samples
    }
    assert ("PATCH", "200") in answered and ("GET", "404") in answered


def test_an_address_of_metrics_that_is_none_is_said(tmp_path: Path) -> None:
    done = ask("--metrics-address=nowhere", "--kubeconfig=/dev/null", f"--run-dir={tmp_path}")
    assert done.returncode == 2 and "--metrics-address nowhere: write ADDRESS:PORT" in done.stderr


def test_works_answers_probes_and_lets_the_lease_go(
    api: FakeApiServer, tmp_path: Path, running: subprocess.Popen[str], metrics_port: int
) -> None:
    until(lambda: blocks(api, "a"), "a block")
    assert_metrics(metrics_port)
    until(lambda: ask("--probe=ready", f"--run-dir={tmp_path}").returncode == 0, "to be ready")
    done = ask("--probe=alive", f"--run-dir={tmp_path}")
    assert done.returncode == 0 and f"pid {running.pid}, leading" in done.stdout
    assert api.get("Lease", "l3net-controller", NAMESPACE)["spec"]["holderIdentity"]
    running.send_signal(signal.SIGTERM)
    _, log = running.communicate(timeout=30)
    assert running.returncode == 0, log
    assert "Traceback" not in log and "canary" not in log
    assert api.get("Lease", "l3net-controller", NAMESPACE)["spec"]["holderIdentity"] == ""


def test_an_api_server_away_is_no_reason_to_end(
    api: FakeApiServer, tmp_path: Path, running: subprocess.Popen[str]
) -> None:
    until(lambda: blocks(api, "a"), "a block")
    api.stop()
    before = (tmp_path / "controller.json").stat().st_mtime_ns
    until(lambda: (tmp_path / "controller.json").stat().st_mtime_ns > before, "a sign of life")
    assert ask("--probe=alive", f"--run-dir={tmp_path}").returncode == 0
    assert running.poll() is None
    api.start()
    api.put(node("b"))
    until(lambda: blocks(api, "b"), "a block for the next node")


def test_probe_without_a_controller(tmp_path: Path) -> None:
    done = ask("--probe=alive", f"--run-dir={tmp_path}")
    assert done.returncode == 3 and "no sign of a controller" in done.stderr


def test_a_hung_controller_is_found(tmp_path: Path) -> None:
    long_ago = time.clock_gettime(time.CLOCK_MONOTONIC) - 500
    sign = f'{{"pid": 1, "at": {long_ago}, "inSync": true, "leading": true, "passes": 1, "problem": ""}}'
    (tmp_path / "controller.json").write_text(sign)
    done = ask("--probe=alive", f"--run-dir={tmp_path}")
    assert done.returncode == 3 and "gave no sign for 5" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--kubeconfig FILE"),
        (["--kubeconfig=/etc/hostname"], "kubeconfig /etc/hostname"),
        (["--kubeconfig=/etc/hostname", "--run-dir=/proc/nothing"], "--run-dir"),
    ],
)
def test_wrong_usage_teaches(options: list[str], message: str, tmp_path: Path) -> None:
    done = ask(f"--run-dir={tmp_path}", *options)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
