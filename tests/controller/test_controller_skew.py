"""Controllers of different releases, one after the other and as two candidates: nothing that was given moves.

The older release is a commit of the repository's own history.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from apiserver import FakeApiServer
from controller_rig import balancer, blocks, ingress, node, pool, until

ROOT = Path(__file__).parents[2]
#: Two days older than the ledger's latest sections (addresses of FloatingIPs and EgressIPs).
BEFORE = "90f31258a7e8b54c0f140b6c8e6eeafa1ec23a0f"

pytestmark = [pytest.mark.soak]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", BEFORE, "l3net"], check=False, capture_output=True
    )
    if archive.returncode:
        pytest.skip(f"commit {BEFORE} is not in this repository: a shallow clone, or no clone at all")
    place = tmp_path / "old"
    place.mkdir()
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    return place


@contextmanager
def controller(api: FakeApiServer, where: Path, tree: Path) -> Iterator[None]:
    directory = where / f"{tree.name}-run"
    directory.mkdir(exist_ok=True)
    options = [f"--kubeconfig={api.kubeconfig(directory / 'kubeconfig')}", f"--run-dir={directory}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
    with (directory / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "l3net.cli.main", "controller", *options],
            env={**environment, "PYTHONPATH": str(tree)},
            cwd=directory,
            stderr=log,
        )
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(30) == 0, (directory / "log").read_text()


def test_what_one_release_gave_the_other_keeps(api: FakeApiServer, old: Path, tmp_path: Path) -> None:
    api.put(pool("four", "10.244.0.0/16"), pool("six", "fd00:10:244::/112"))
    api.put(pool("lb", "192.0.2.0/28", allowedUses=["LoadBalancer"]))
    asked = [sys.executable, "-c", "import l3net; print(l3net.__file__)"]
    where = subprocess.check_output(asked, env={"PYTHONPATH": str(old)}, cwd=old.parent, text=True)
    assert where.startswith(str(old)), "the control"
    given: dict[str, list[str]] = {}
    for number, tree in enumerate((old, ROOT, old, ROOT)):
        name = f"n{number}"
        api.put(node(name), balancer(name))
        with controller(api, tmp_path, tree):
            until(lambda name=name: len(blocks(api, name)) == 2 and ingress(api, name), f"{tree}: {name}", 40)
        now = {each: [*blocks(api, each), *ingress(api, each)] for each in (*given, name)}
        assert given.items() <= now.items(), f"{tree}: what was given has moved"
        given = now
    flat = [each for held in given.values() for each in held]
    assert len(flat) == len({*flat}) == 12
