"""The patches of docs/upstream apply to the ExaBGP that is pinned, and their tests fail without them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

PATCHES = sorted((Path(__file__).parents[2] / "docs" / "upstream").glob("*.patch"))


def test_each_patch_applies_and_is_needed_by_its_test(tmp_path: Path) -> None:
    spec = find_spec("exabgp")
    assert spec is not None and spec.origin is not None
    with_it, without = tmp_path / "with", tmp_path / "without"
    for tree in (with_it, without):
        shutil.copytree(Path(spec.origin).parent, tree / "src" / "exabgp")
    assert len(PATCHES) == 2
    for patch in PATCHES:
        apply(with_it, patch)
        apply(without, patch, "--include=tests/*")
    passed, said = outcome(with_it, with_it)
    assert passed, said
    for file in sorted((without / "tests").iterdir()):
        assert not outcome(without, file)[0], f"{file.name} passes without its patch"


def apply(tree: Path, patch: Path, *options: str) -> None:
    subprocess.run(["git", "apply", "--whitespace=error", *options, str(patch)], cwd=tree, check=True)


def outcome(tree: Path, what: Path) -> tuple[bool, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tree), str(what)],
        cwd=tree,
        env={"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0, done.stdout + done.stderr
