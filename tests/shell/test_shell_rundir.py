"""A run directory of somebody else's is not used: it says what ExaBGP runs, and holds passwords."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from l3net.errors import ConfigError
from l3net.shell.files.rundir import claim
from l3net.shell.speaker.supervisor import Supervisor


def test_it_is_made_ours_alone(tmp_path: Path) -> None:
    made = tmp_path / "a" / "run"
    claim(made)
    assert made.stat().st_mode & 0o777 == 0o700
    made.chmod(0o755)
    claim(made)
    assert made.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_somebody_elses_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "run"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to user 65534"):
        Supervisor(theirs).run()


def test_what_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="run directory"):
        claim(tmp_path / "file" / "run")
