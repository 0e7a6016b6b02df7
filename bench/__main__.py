"""Run the benchmarks, one after another: `python -m bench [NAME ...]`, as root. `--list` says which.

Each is a script of its own in this directory with its own options (`python bench/NAME.py --help`); here they
run with what they do unasked. The load of the machine is printed before each: figures mean little without it.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """Names, with the first line of what each says of itself."""
    found = {}
    for script in sorted(HERE.glob("[!_]*.py")):
        told = ast.get_docstring(ast.parse(script.read_text())) or ""
        found[script.stem] = told.partition("\n")[0]
    return found


def main() -> int:
    known = benchmarks()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Side-by-side benchmarks, as root.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(known)} (default: all)")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if options.list:
        for name, told in known.items():
            print(f"{name:16} {told}")
        return 0
    if os.geteuid() != 0:
        parser.error("needs root: everything happens in network namespaces of its own")
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


if __name__ == "__main__":
    sys.exit(main())
