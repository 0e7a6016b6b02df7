"""The conformance suite against l3net (with the agent, without) and the reference plugins, in one run.

Run as root: `python bench/cni_conformance.py > docs/cni-conformance.md`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from l3net.conformance.run import default_conf, run_suite
from l3net.conformance.verdict import FAILED, PASSED, CaseVerdict, score
from l3net.shell.files.cniinstall import STANDALONE, standalone_script

REFERENCE = Path("/usr/lib/cni/bridge")
MARKS = {PASSED: "yes", FAILED: "**no**"}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="l3conf") as directory:
        out = Path(directory)
        build = Path(__file__).parents[1] / "plugin" / "build.sh"
        subprocess.run(["sh", str(build), directory], check=True)
        (out / STANDALONE).write_text(standalone_script())
        (out / STANDALONE).chmod(0o755)
        plugin = out / "l3net-cni"
        columns: dict[str, list[CaseVerdict]] = {
            "l3net, agent": run_suite(plugin, default_conf(plugin, standalone=False), directory),
            "l3net, no agent": run_suite(plugin, default_conf(plugin, standalone=True), directory),
        }
        if REFERENCE.exists():
            conf = default_conf(REFERENCE, standalone=True)
            columns["bridge + host-local"] = run_suite(REFERENCE, conf, str(REFERENCE.parent))
    print("# CNI conformance\n")
    print("Written by `python bench/cni_conformance.py`; the same cases against each plugin, in one run.")
    print("A dash: the case does not apply (the reference of Debian 12, version 1.1.1, has no CNI 1.1).\n")
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    print(f"| **passed** | {' | '.join('{} of {}'.format(*score(each)) for each in columns.values())} |")
    for row in zip(*columns.values(), strict=True):
        print(f"| {row[0].point}: {row[0].title} | {' | '.join(MARKS.get(e.verdict, '-') for e in row)} |")
    failures = [(name, each) for name, found in columns.items() for each in found if each.verdict == FAILED]
    if failures:
        print("\n## What failed\n")
        for name, each in failures:
            print(f"- {name}: {each.title}: {each.why.split('{')[0].strip(': ')}")
    sys.exit(0)


if __name__ == "__main__":
    main()
