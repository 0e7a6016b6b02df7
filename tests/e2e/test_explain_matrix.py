"""`l3net explain` names the cause where packets do not pass, and says so where they do: each is measured."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from explain_around import BROKEN_AROUND, FIRST, HEALTHY_AROUND
from explain_bench import TOPOLOGY, Bench, Case, fill
from explain_broken import BROKEN, more, network_policy
from explain_healthy import HEALTHY
from small_lab import lab_of

from l3net.lab.errors import LabError

pytestmark = [
    pytest.mark.netns,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with lab_of(TOPOLOGY, tmp_path, kind=None) as lab:
        made = Bench(lab)
        made.begin()
        well = Case("before", "", "service default/web", targets=(("192.0.2.10", 80), ("2001:db8:2::a", 80)))
        assert made.until(lambda: passes(made, well)), "nothing is broken, and nothing passes"
        yield made


def passes(bench: Bench, case: Case) -> bool:
    targets = [(fill(bench, address), port) for address, port in case.targets]
    return bench.passes(case.source, targets, case.size)


def broken(bench: Bench, case: Case) -> None:
    said: list[str] = []

    def named() -> bool:
        answer = bench.explain(case.node, fill(bench, case.subject), case.routers)
        said[:] = [f"{answer['cause'] or 'healthy'}: {answer['answer']}"]
        return bool(answer["cause"] == case.cause) and bool(answer["advice"])

    try:
        if case.change is not None:
            bench.declare(case.change)
        if case.act is not None:
            case.act(bench)
        assert bench.until(named), f"{case.name}: {case.cause} is to be said, and {said} is"
        assert bench.until(lambda: not passes(bench, case)), f"{case.name}: nothing is broken"
    finally:
        if case.undo is not None:
            case.undo(bench)
        bench.mend()


def healthy(bench: Bench, case: Case) -> None:
    said: list[str] = []

    def well() -> bool:
        answer = bench.explain(case.node, fill(bench, case.subject), case.routers)
        said[:] = [f"{answer['cause']}: {answer['answer']}"]
        return bool(answer["healthy"])

    try:
        if case.change is not None:
            bench.declare(case.change)
        if case.act is not None:
            case.act(bench)
        assert bench.until(lambda: passes(bench, case)), f"{case.name}: nothing passes"
        assert bench.until(well), f"{case.name}: it is well, and {said} is said"
    finally:
        if case.undo is not None:
            case.undo(bench)
        bench.mend()


def wrong(bench: Bench, cases: tuple[Case, ...], judge: Callable[[Bench, Case], None]) -> list[str]:
    """What is wrong with each case; the next one is looked at all the same."""
    found = []
    for case in cases:
        try:
            judge(bench, case)
        except (AssertionError, LabError) as err:
            found.append(str(err).splitlines()[0])
    return found


@pytest.mark.first
def test_a_tenth_of_the_set_ups(bench: Bench) -> None:
    """All of them take ten minutes, which they wait."""
    assert wrong(bench, (*BROKEN[::10], *chosen(BROKEN_AROUND)), broken) == []
    assert wrong(bench, (*HEALTHY[::10], *chosen(HEALTHY_AROUND)), healthy) == []
    bundling(bench)
    tracing(bench)


def chosen(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    return tuple(each for each in cases if each.name in FIRST)


@pytest.mark.soak
def test_what_lies_around_is_named_or_does_no_harm(bench: Bench) -> None:
    """Links, other programs, what has run out."""
    assert wrong(bench, BROKEN_AROUND, broken) == []
    assert wrong(bench, HEALTHY_AROUND, healthy) == []


@pytest.mark.soak
def test_in_forty_set_ups_that_are_broken_it_names_the_cause(bench: Bench) -> None:
    assert len(BROKEN) >= 40
    assert wrong(bench, BROKEN, broken) == []


@pytest.mark.soak
def test_in_forty_set_ups_that_are_well_it_says_so(bench: Bench) -> None:
    assert len(HEALTHY) >= 40
    assert wrong(bench, HEALTHY, healthy) == []


def bundling(bench: Bench) -> None:
    """Nothing in it tells the password that a session has; the control is that ExaBGP has it."""
    case = next(each for each in BROKEN if each.name.startswith("another password"))
    assert case.change is not None
    bench.declare(case.change)
    host = bench.host("n1")
    coded = base64.b64encode(b"not-the-routers").decode()
    assert bench.until(lambda: coded in host.run(["cat", "/run/l3net/exabgp.conf"]).stdout)
    host.run(["sh", "-c", "echo it is not-the-routers >/tmp/of-a-log"])
    words = [
        sys.executable,
        "-m",
        "l3net.cli.main",
        "bundle",
        "--output",
        "/tmp/bundle.tar.gz",
        "--log",
        "/tmp/of-a-log",
    ]
    try:
        host.run(words, timeout=60)
        with tarfile.open(fileobj=io.BytesIO(host.inside("/tmp/bundle.tar.gz").read_bytes())) as tar:
            files = {entry.name.partition("/")[2]: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    finally:
        host.run(["rm", "-f", "/tmp/bundle.tar.gz", "/tmp/of-a-log"])
        bench.mend()
    assert not [
        name for name, content in files.items() if b"not-the-routers" in content or coded.encode() in content
    ]
    assert files["logs/0-of-a-log"] == b"it is [left out]\n"
    missing = [line for line in files["README.txt"].decode().splitlines() if line.startswith("missing")]
    assert all("journald" in line for line in missing), missing
    assert json.loads(files["agent/status.json"])["node"] == "n1"
    assert json.loads(files["doctor.json"])
    assert b"table inet l3net" in files["kernel/nftables.txt"]
    assert b"net.ipv4.ip_forward = 1" in files["kernel/sysctls.txt"]
    assert {"agent/routes.json", "agent/history.json", "kernel/links.json", "leases.json"} <= files.keys()


def traced(bench: Bench, source: str, destination: str) -> dict[str, Any]:
    words = ["trace", "--lab", bench.lab.name, "--from", source, destination, "--wait", "0.5", "-o", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "l3net.cli.main", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["arrived"] is (done.returncode == 0)
    return answer


def tracing(bench: Bench) -> None:
    """From outside, and from a pod; then with a policy that denies it, whose rule is named."""
    changed = bench.explain("n1", "service default/web")["changed"]
    assert (changed["kind"], changed["subject"]) == ("service", "default/web") or changed[
        "what"
    ] == "announced"
    found = traced(bench, "client", "[2001:db8:2::a]:80")
    assert found["arrived"]
    assert [hop["name"] for hop in found["hops"][:2]] == ["edge", "tor"]
    local = f"{bench.pod('web-1', 4)}:8080"
    assert traced(bench, "shell-1", local)["arrived"]
    bench.declare(more(network_policy(policyTypes=["Ingress"], ingress=[])))
    assert bench.until(lambda: not traced(bench, "shell-1", local)["arrived"])
    found = traced(bench, "shell-1", local)
    assert [(each["host"], each["table"]) for each in found["drops"]] == [("n1", "inet l3net")]
    assert found["explain"]["cause"] == "policy"
    bench.mend()
