"""Run the benchmarks, as root.

`python -m bench [NAME ...]` runs each one after another with what it does unasked (`--list` says which there
are; each is a script of its own with its own options: `python bench/NAME.py --help`).
`python -m bench table [PART ...]` measures the table of docs/performance.md, each figure beside its peer in
the same run. `--record` adds the run to bench/history.jsonl.
`python -m bench compare A B` shows what changed between two runs; it ends with 2 where one of our figures is
worse by more than 10 %, with 1 where it cannot compare. A run is called by its label, the beginning of its
commit, its line in bench/history.jsonl (-1 is the last), or a file that it is in (`table -o json`).
The load of the machine is printed with all of them: figures mean little without it.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import figures  # noqa: E402
import parts  # noqa: E402

#: Of this directory, but no benchmarks.
ROOMS = ("figures", "parts")


def benchmarks() -> dict[str, str]:
    """Names, with the first line of what each says of itself."""
    found = {}
    for script in sorted(HERE.glob("[!_]*.py")):
        if script.stem in ROOMS:
            continue
        told = ast.get_docstring(ast.parse(script.read_text())) or ""
        found[script.stem] = told.partition("\n")[0]
    return found


def run(argv: list[str]) -> int:
    known = benchmarks()
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(known)} (default: all)")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if options.list:
        for name, told in known.items():
            print(f"{name:16} {told}")
        return 0
    needs_root(parser)
    failed = []
    for name in options.names or known:
        load = " ".join(f"{each:.1f}" for each in os.getloadavg())
        print(f"\n=== {name}: {known[name]}\n=== {os.cpu_count()} cores, load {load}\n", flush=True)
        done = subprocess.run([sys.executable, str(HERE / f"{name}.py")], cwd=HERE.parent, check=False)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def table(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench table", description="The table of docs/performance.md, as root."
    )
    known = ", ".join(parts.PARTS)
    parser.add_argument("names", nargs="*", metavar="PART", help=f"of: {known} (default: all)")
    parser.add_argument("--label", default="", help="a name for the run")
    parser.add_argument("--record", action="store_true", help=f"add the run to {figures.HISTORY.name}")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in parts.PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {known}")
    needs_root(parser)
    measured = figures.Run.here(options.label)
    for name in options.names or parts.PARTS:
        print(f"{name}: {' '.join(parts.PARTS[name].argv)} ...", file=sys.stderr, flush=True)
        try:
            measured.figures += parts.PARTS[name].measure()
        except parts.NotRunError as err:
            measured.not_run[name] = str(err)
    if not options.names:
        measured.not_run.update(parts.never_here())
    if options.record:
        with figures.HISTORY.open("a") as history:
            history.write(measured.line() + "\n")
    print(json.dumps(asdict(measured), indent=2) if options.output == "json" else figures.table(measured))
    return 1 if set(measured.not_run) & set(parts.PARTS) else 0


def compare(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench compare",
        description="What changed between two runs. Ends with 2 where one of our figures is worse by more "
        "than 10 %%, beside the same peer where both runs have it.",
    )
    parser.add_argument("before", metavar="A")
    parser.add_argument("now", metavar="B")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(argv)
    try:
        before, now = figures.find(options.before), figures.find(options.now)
    except (figures.UnknownRunError, ValueError, OSError) as err:
        print(f"cannot compare: {err}", file=sys.stderr)
        return 1
    found = figures.changes(before, now)
    if not found:
        print("cannot compare: the two runs have no figure in common", file=sys.stderr)
        return 1
    if options.output == "json":
        print(json.dumps(figures.as_json(found), indent=2))
    else:
        print(figures.comparison(before, now, found))
    return 2 if any(change.worse for change in found) else 0


def needs_root(parser: argparse.ArgumentParser) -> None:
    if os.geteuid() != 0:
        parser.error("needs root: everything happens in network namespaces of its own")


def main() -> int:
    argv = sys.argv[1:]
    doors = {"table": table, "compare": compare}
    return doors[argv[0]](argv[1:]) if argv and argv[0] in doors else run(argv)


if __name__ == "__main__":
    sys.exit(main())
