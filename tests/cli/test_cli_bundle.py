"""`l3net bundle`: whole or not at all, its owner's alone, without secrets, also where nothing runs."""

from __future__ import annotations

import base64
import json
import os
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from l3net.cli.bundle import bundle
from l3net.errors import ConfigError
from l3net.shell.bundling import BundleError, scrubbed, secrets_of, sysctls

SECRET = "hunter2-hunter2"  # noqa: S105 - of nothing
CODED = base64.b64encode(SECRET.encode()).decode()


def packed(tmp_path: Path, *arguments: str) -> Result:
    options = ["--no-doctor", "--run-dir", str(tmp_path), "--state-dir", str(tmp_path)]
    return CliRunner().invoke(bundle, ["--output", str(tmp_path / "b.tar.gz"), *options, *arguments])


def files(tmp_path: Path) -> dict[str, bytes]:
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        return {each.name.partition("/")[2]: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


def test_without_an_agent_there_is_an_archive_that_says_what_is_missing(tmp_path: Path) -> None:
    found = packed(tmp_path)
    assert (found.exit_code, found.stdout.strip()) == (0, str(tmp_path / "b.tar.gz"))
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    assert b"missing: agent/status.json: no agent answers" in files(tmp_path)["README.txt"]
    assert "not in the archive: agent/status.json" in found.stderr
    assert json.loads(files(tmp_path)["versions.json"])["exabgp"]


def test_a_password_stands_nowhere(tmp_path: Path) -> None:
    (tmp_path / "exabgp.conf").write_text(
        f'neighbor 10.0.0.1 {{\n  md5-password "{CODED}";\n  md5-base64 true;\n}}\n'
    )
    (tmp_path / "a.log").write_text(f"x {SECRET} {CODED}\n" * 3)
    assert secrets_of(tmp_path) == {SECRET, CODED}
    assert packed(tmp_path, "--log", str(tmp_path / "a.log"), "--lines", "2").exit_code == 0
    found = files(tmp_path)
    assert not [
        name for name, content in found.items() if SECRET.encode() in content or CODED.encode() in content
    ]
    assert found["logs/0-a.log"] == b"x [left out] [left out]\n" * 2
    assert b'md5-password "[left out]";' in found["exabgp.conf"]


def test_a_short_password_is_left_out_of_the_configuration_and_blots_nothing_else() -> None:
    text = '  md5-password "YQ==";\nab a ba\n'
    assert scrubbed(text, {"a"}) == '  md5-password "[left out]";\nab a ba\n'


def test_what_is_there_stays_and_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.tar.gz").write_text("mine")
    found = packed(tmp_path)
    assert isinstance(found.exception, ConfigError)
    assert (tmp_path / "b.tar.gz").read_text() == "mine"
    found = CliRunner().invoke(bundle, ["--output", str(tmp_path / "no" / "b.tar.gz")])
    assert isinstance(found.exception, BundleError)


def test_an_archive_that_breaks_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("l3net.cli.bundle.sysctls", broken)
    found = packed(tmp_path)
    assert isinstance(found.exception, BundleError)
    assert "No space left" in str(found.exception)
    assert not (tmp_path / "b.tar.gz").exists()


def test_sysctls_have_the_names_that_people_set_them_by(tmp_path: Path) -> None:
    place = tmp_path / "net" / "ipv4" / "conf" / "eth0.5"
    place.mkdir(parents=True)
    (place / "rp_filter").write_text("1\n")
    neighbours = tmp_path / "net" / "ipv4" / "neigh" / "eth0"
    neighbours.mkdir(parents=True)
    (neighbours / "gc_stale_time").write_text("60\n")
    assert sysctls(tmp_path) == "net.ipv4.conf.eth0/5.rp_filter = 1\n"
