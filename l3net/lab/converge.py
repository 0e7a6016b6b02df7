"""Whether the routers of a lab hold what its topology wants, and waiting until they do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from l3net.lab.errors import LabError
from l3net.lab.expected import difference, expected_ribs
from l3net.lab.machine import CheckedLab
from l3net.lab.ribs import read_rib
from l3net.lab.wait import until


def unconverged(lab: CheckedLab, without: tuple[str, ...] = ()) -> list[str]:
    """How the routers' RIBs differ from what the topology wants, in words."""
    expected = expected_ribs(lab.topology, without)

    def compare(router: str) -> list[str]:
        try:
            seen = read_rib(lab.topology, lab.host(router))
        except LabError as err:
            return [str(err)]
        return [f"{router}: {line}" for line in difference(expected[router], seen)]

    with ThreadPoolExecutor(max_workers=4) as pool:
        return [line for lines in pool.map(compare, expected) for line in lines]


def wait_converged(lab: CheckedLab, seconds: float = 45, without: tuple[str, ...] = ()) -> float:
    """Wait until every router holds exactly what it should; how long it took. Raises LabError."""
    left: list[str] = []

    def done() -> bool:
        left[:] = unconverged(lab, without)
        return not left

    return until(
        done,
        seconds,
        lambda: "the routers have not learned everything:\n  " + "\n  ".join(left[:12]),
        every=0.3,
    )
