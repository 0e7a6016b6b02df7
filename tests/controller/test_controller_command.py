"""`l3net controller` as a process: probes, work, SIGTERM, and errors that teach."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver import FakeApiServer
from controller_rig import NAMESPACE, blocks, node, pool, until

COMMAND = [sys.executable, "-m", "l3net.cli.main", "controller"]
ENVIRONMENT = {
    key: value for key, value in os.environ.items() if key not in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")
}


def ask(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *options], env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture
def running(api: FakeApiServer, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    api.put(pool("four", "10.244.0.0/16"), node("a"))
    options = [
        f"--kubeconfig={api.kubeconfig(tmp_path / 'kubeconfig', 'canary-token')}",
        f"--run-dir={tmp_path}",
    ]
    process = subprocess.Popen([*COMMAND, *options], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_works_answers_probes_and_lets_the_lease_go(
    api: FakeApiServer, tmp_path: Path, running: subprocess.Popen[str]
) -> None:
    until(lambda: blocks(api, "a"), "a block")
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
