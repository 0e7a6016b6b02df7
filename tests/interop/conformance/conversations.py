"""Every row against one device under test, all at the same time."""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Sequence

from duts import Dut, Place, Ribs, Wanted, started
from row import Row
from talk import Refused, Talk

from l3net.shell.kernel.namespaces import setns

#: Rows that talk at the same time; what one asks of the machine must not be another's delay.
AT_ONCE = 40
CRASHED = "a process of it dies"
#: What l3net says to a peer when it has met an error of its own.
OWN_FAULT = "NOTIFICATION 6/0"
#: A row and an IP version.
Case = tuple[Row, int]
Outcomes = dict[tuple[str, int], str]


class Died(Exception):  # noqa: N818 - it is an answer
    """A process of the device under test has died, and what it was told meanwhile says nothing."""


def cases(rows: Sequence[Row], versions: Sequence[int] = (4, 6)) -> list[Case]:
    return [(row, version) for row in rows for version in row.versions if version in versions]


def converse(kind: str, rows: Sequence[Row], versions: Sequence[int] = (4, 6)) -> tuple[Outcomes, str]:
    """The outcome of each row with each IP version, and the version of the device under test."""
    outcomes: Outcomes = {}
    together = cases([row for row in rows if not row.alone], versions)
    told = _converse(kind, together, outcomes) if together else ""
    for case in cases([row for row in rows if row.alone], versions):
        told = _converse(kind, [case], outcomes)
    return outcomes, told


def _converse(kind: str, those: Sequence[Case], outcomes: Outcomes) -> str:
    """Half of them at a time, if one kills it: until it is alone."""
    wanted = [Wanted(number, version, row.peering) for number, (row, version) in enumerate(those, start=1)]
    with started(kind, wanted) as (place, dut):
        told = dut.version()
        try:
            outcomes |= _in_the_speaker(place, dut, those)
            return told
        except Died:
            if len(those) == 1:
                outcomes[those[0][0].key, those[0][1]] = CRASHED
                return told
    half = len(those) // 2
    _converse(kind, those[:half], outcomes)
    return _converse(kind, those[half:], outcomes)


def _in_the_speaker(place: Place, dut: Dut, those: Sequence[Case]) -> Outcomes:
    """In a thread of its own in the speaker's network namespace, as are those that it starts."""
    outcomes: Outcomes = {}
    failure: list[BaseException] = []

    def run() -> None:
        namespace = os.open(f"/proc/{place.tor.pid}/ns/net", os.O_RDONLY)
        try:
            setns(namespace)
            asyncio.run(_all(dut, those, outcomes))
        except BaseException as err:
            failure.append(err)
        finally:
            os.close(namespace)

    thread = threading.Thread(target=run, name="speaker")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    for case, outcome in outcomes.items():
        if OWN_FAULT in outcome and dut.kind == "l3net":  # no row asks for that: what it was is in the log
            said = place.node.read_log("speaker").splitlines()
            outcomes[case] = "\n".join([outcome, *(line for line in said if "rror" in line)][-20:])
    return outcomes


async def _all(dut: Dut, those: Sequence[Case], outcomes: Outcomes) -> None:
    ribs = Ribs(dut)
    looking = asyncio.create_task(ribs.run())
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, row: Row, version: int) -> None:
        async with places:
            outcomes[row.key, version] = await _one(Talk(dut, ribs, number, version, row.peering), row)

    talking = asyncio.gather(
        *(one(number, row, version) for number, (row, version) in enumerate(those, start=1))
    )
    dying = asyncio.create_task(_death(dut))
    alone = any(row.alone for row, _ in those)
    try:
        await asyncio.wait({talking} if alone else {talking, dying}, return_when=asyncio.FIRST_COMPLETED)
        if not talking.done() or not (alone or await asyncio.to_thread(dut.alive)):
            raise Died
        talking.result()
    finally:
        for task in (talking, dying, looking):
            task.cancel()
        await asyncio.gather(talking, dying, looking, return_exceptions=True)


async def _death(dut: Dut) -> None:
    alive = True
    while alive:
        await asyncio.sleep(0.5)
        alive = await asyncio.to_thread(dut.alive)


async def _one(talk: Talk, row: Row) -> str:
    try:
        return await asyncio.wait_for(row.script(talk), 900 if row.slow else 120)
    except Refused as err:
        return f"no session: {err}"
    except TimeoutError:
        return "no end"
    except Exception:
        return f"fault: {traceback.format_exc(limit=-2)}"
    finally:
        await talk.close()
