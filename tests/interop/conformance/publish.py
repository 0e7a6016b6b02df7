"""docs/bgp-conformance.md: the same table against l3net, FRR, BIRD, GoBGP and OpenBGPD, in one run.

Run as root: `python tests/interop/conformance/publish.py`, or `make conformance`. The rows that take long, up
to ten minutes, are asked of all at the same time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
TREE = HERE.parents[2]
for room in (HERE, HERE.parent, HERE.parents[1] / "agent"):
    if str(room) not in sys.path:
        sys.path.insert(0, str(room))

from conversations import Outcomes, converse  # noqa: E402 - found by the path above
from deviations import DEVIATIONS  # noqa: E402
from duts import OTHERS  # noqa: E402
from row import NOT_OFFERED, Row  # noqa: E402
from table import PARTS, TABLE  # noqa: E402

DOCUMENT = TREE / "docs" / "bgp-conformance.md"
KINDS = ("l3net", *OTHERS)
#: Others are asked as often, since what some answer depends on the moment.
ROUNDS = 2
SHORT = (
    ("NOTIFICATION ", ""),
    ("session kept, route ", ""),
    ("session kept, ", "kept; "),
    ("session established", "session"),
    (NOT_OFFERED, "-"),
)
HEAD = """# BGP conformance

Written by `make conformance`: one scripted speaker (`tests/interop/conformance`) brings about the same
situations in each implementation, every one over IPv4 and over IPv6, in one run. l3net is its whole node:
agent, ExaBGP and kernel routes, and each of its cells is a test. The others run as the tests configure them
(`tests/interop/far_sides.py`): both families, hold time 9 s, graceful restart on, no policy; FRR with `bgp
graceful-restart`, so that it takes its own start for a restart. Their columns are what they did, twice, and
no judgement of them: the versions are those of Debian 12, and later ones differ.

`1/2` is a NOTIFICATION of code 1, subcode 2, with its data in brackets where the row is about them;
`closed`, that the connection was closed without one. Otherwise the session was kept, and the route `used`
or `withdrawn`: not used any more, or never. Every such answer was taken when a later route had come
through. `-`: it does not have the option. **Bold** is what the RFC does not ask for. Where IPv4 and IPv6
differ, or one round from the other, both answers stand there.
"""


def told(row: Row, outcome: str) -> str:
    """An outcome as a cell has it."""
    short = outcome
    for long, brief in SHORT:
        short = short.replace(long, brief)
    return short if row.asked(outcome) else f"**{short}**"


def cell(row: Row, rounds: Sequence[Outcomes]) -> str:
    """IPv4's and IPv6's outcomes, each of every round."""
    had = {
        version: list(dict.fromkeys(told(row, outcomes[row.key, version]) for outcomes in rounds))
        for version in row.versions
    }
    answers = {version: " or ".join(found) for version, found in had.items()}
    if len(set(answers.values())) == 1:
        return next(iter(answers.values()))
    return "; ".join(f"IPv{version}: {answer}" for version, answer in answers.items())


def document(columns: dict[str, tuple[list[Outcomes], str]]) -> Iterator[str]:
    yield HEAD
    yield f"| | {' | '.join(version for _, version in columns.values())} |"
    yield f"|---|{'---|' * len(columns)}"
    counts = []
    for rounds, _ in columns.values():
        told_all = [(row, outcomes[row.key, v]) for row in TABLE for outcomes in rounds for v in row.versions]
        asked = sum(row.asked(outcome) for row, outcome in told_all)
        counts.append(f"{100 * asked / len(told_all):.0f} %")
    yield f"| as the RFC asks | {' | '.join(counts)} |"
    for heading, rows in PARTS.items():
        yield f"\n## {heading}\n"
        yield f"| situation | RFC | asks | {' | '.join(columns)} |"
        yield f"|---|---|---|{'---|' * len(columns)}"
        for row in rows:
            cells = [cell(row, rounds) for rounds, _ in columns.values()]
            section = row.section.replace("section ", "")
            yield f"| {row.situation} | {section} | {row.asks} | {' | '.join(cells)} |"
    yield "\n## Where l3net does something else\n"
    situations = {row.key: row for row in TABLE}
    for key, (outcome, why) in DEVIATIONS.items():
        row = situations[key]
        yield f"- {row.situation} ({row.section}): {told(row, outcome).strip('*')}. {why}."


def main() -> None:
    quick, slow = ([row for row in TABLE if row.slow is late] for late in (False, True))
    columns: dict[str, tuple[list[Outcomes], str]] = {}
    for kind in KINDS:
        rounds = []
        for _ in range(1 if kind == "l3net" else ROUNDS):
            outcomes, version = converse(kind, quick)
            rounds.append(outcomes)
        columns[kind] = (rounds, version)
        print(f"{version}: {len(rounds)} rounds of {len(quick)} rows", file=sys.stderr)  # noqa: T201
    with ThreadPoolExecutor(len(KINDS)) as pool:
        for kind, (outcomes, _) in zip(KINDS, pool.map(lambda k: converse(k, slow), KINDS), strict=True):
            for had in columns[kind][0]:
                had.update(outcomes)
    DOCUMENT.write_text("\n".join(document(columns)) + "\n")


if __name__ == "__main__":
    main()
