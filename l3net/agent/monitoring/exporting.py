"""One collector: the connection to it, made again later each time, and what is told over it."""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import Any, Final, Protocol

from l3net import __version__
from l3net.bgp.bmp.feed import Feed, Ribs
from l3net.bgp.bmp.messages import initiation, termination
from l3net.model import BmpCollector
from l3net.ports import Collector, CollectorError, Collectors

log = logging.getLogger("l3net.bmp")

#: Seconds between attempts, doubled from the first to the longest; each is drawn from the upper half.
FIRST: Final = 1.0
LONGEST: Final = 60.0
#: A connection that held for so many seconds was well.
WELL: Final = 60.0
#: Changes gather for so many seconds.
GATHER: Final = 0.1
#: Seconds between statistics.
STATISTICS: Final = 60.0
FIRST_REPORT: Final = 5.0
#: A collector that takes nothing for so many seconds loses its connection.
PATIENCE: Final = 60.0
#: A collector that cannot be reached for so many seconds is a problem to tell.
LONG: Final = 60.0


class Audience(Protocol):
    """Who knows the peers (`l3net.agent.monitoring.monitoring`)."""

    def joins(self, listener: Exporting) -> None:
        """Have it told of all that is up, and of what changes from now on."""
        ...

    def leaves(self, listener: Exporting) -> None: ...

    def statistics(self) -> bytes:
        """Reports of all peers."""
        ...


class Exporting:
    """`run` until cancelled; then it says that it ends."""

    def __init__(
        self,
        me: str,
        declared: BmpCollector,
        collectors: Collectors,
        ribs: Ribs,
        audience: Audience,
        random: Random,
    ) -> None:
        self.declared = declared
        self._me, self._collectors, self._ribs = me, collectors, ribs
        self._audience, self._random = audience, random
        self.feed: Feed | None = None  # while it is connected
        self._changed = asyncio.Event()
        self._since = _now()  # of the last change between connected and not
        self._error = self._logged = ""
        self.connections = self.dropped = 0
        self._told = self._octets = 0  # over the connections before this one

    # --- what is told of it ------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """`waiting`: prefixes; `dropped`: times that it fell behind, and all was told anew."""
        feed = self.feed
        return {
            "name": self.declared.name,
            "address": str(self.declared.address),
            "port": self.declared.port,
            "connected": feed is not None,
            "sinceSeconds": round(_now() - self._since, 1),
            "waiting": feed.waiting if feed is not None else 0,
            "messages": self.messages,
            "octets": self._octets,
            "connections": self.connections,
            "dropped": self.dropped,
            "lastError": self._error,
        }

    @property
    def messages(self) -> int:
        return self._told + (self.feed.told if self.feed is not None else 0)

    def problem(self) -> str:
        """A sentence if it has not been reached for long, empty else."""
        away = _now() - self._since
        if self.feed is not None or away < LONG:
            return ""
        where = f"{self.declared.address} port {self.declared.port}"
        why = f" ({self._error})" if self._error else ""
        return f"BMP collector {self.declared.name}: {where} has not been reached for {away:.0f} s{why}"

    def look(self) -> None:
        """Something has changed."""
        self._changed.set()

    # --- the connection ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connects, and again."""
        delay = FIRST
        while True:
            began = _now()
            try:
                link = await self._collectors.connect(self.declared.address, self.declared.port)
                await self._serve(link)
            except CollectorError as err:
                self._failed(str(err))
            if _now() - began > WELL:
                delay = FIRST
            await asyncio.sleep(delay * (0.5 + self._random.random() / 2))
            delay = min(delay * 2, LONGEST)

    def _failed(self, why: str) -> None:
        if why != self._logged:
            log.warning("collector %s: %s", self.declared.name, why)
        self._error = self._logged = why

    async def _serve(self, link: Collector) -> None:
        feed = self.feed = Feed(self._ribs)
        self._since = _now()
        self._logged = ""
        self.connections += 1
        log.info("collector %s: connected", self.declared.name)
        ended = asyncio.ensure_future(link.ended())
        try:
            feed.say(initiation(self._me, f"l3net {__version__}"))
            self._audience.joins(self)
            await self._tell(link, feed, ended)
        except asyncio.CancelledError:
            link.farewell(termination())
            raise
        finally:
            self._audience.leaves(self)
            ended.cancel()
            link.close()
            self._told += feed.told
            self.feed = None
            self._since = _now()

    async def _tell(self, link: Collector, feed: Feed, ended: asyncio.Future[str]) -> None:
        """Until the connection ends. Raises CollectorError."""
        report = _now() + FIRST_REPORT
        while True:
            self._changed.clear()
            await self._tell_all(link, feed)
            if _now() >= report:
                report = _now() + STATISTICS
                await self._send(link, self._audience.statistics())
            woken = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait(
                (woken, ended), timeout=max(0.0, report - _now()), return_when=asyncio.FIRST_COMPLETED
            )
            woken.cancel()
            if ended.done():
                raise CollectorError(ended.result() or "it closed the connection")
            if self._changed.is_set():
                await asyncio.sleep(GATHER)

    async def _tell_all(self, link: Collector, feed: Feed) -> None:
        while True:
            if feed.overrun:
                self.dropped += 1
                raise CollectorError("it fell behind by too much; everything is sent again")
            octets = feed.next(self._collectors.now())
            if not octets and feed.idle:
                return
            await self._send(link, octets)

    async def _send(self, link: Collector, octets: bytes) -> None:
        if octets:
            try:
                async with asyncio.timeout(PATIENCE):
                    await link.send(octets)
            except TimeoutError:
                raise CollectorError(f"it has taken nothing for {PATIENCE:.0f} s") from None
            self._octets += len(octets)
        await asyncio.sleep(0)  # everybody else's turn


def _now() -> float:
    return asyncio.get_running_loop().time()
