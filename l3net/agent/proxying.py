"""Whether this node's service proxy is l3net: looked at every few seconds, decided with each pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from l3net.agent.shells import Proxies
from l3net.errors import L3netError
from l3net.model import ServiceProxy
from l3net.retry import until_beat
from l3net.services.proxymode import ProxyMode, ProxySeen, Standing

log = logging.getLogger("l3net.services")

#: Seconds between looks whether kube-proxy answers.
LOOK: Final = 3.0


class Proxying:
    """`run` looks, `follow` says what holds for a pass. `changed` is called when a pass would do other."""

    def __init__(self, shells: Proxies, changed: Callable[[], None]) -> None:
        self._shells, self._changed = shells, changed
        self._now = asyncio.get_running_loop().time
        self._mode = ProxyMode(None)
        self._setting = ServiceProxy.AUTO
        self._written: bool | None = None
        self.seen = ProxySeen()
        self.standing = Standing(False, "it is not known yet whether kube-proxy answers")
        self.known = asyncio.Event()  # there was a first look

    def begin(self, *, served: bool) -> bool:
        """`served`: an agent has been here since the boot. Whether it was the service proxy; one of an older
        release, which does not say so, always was."""
        was = self._shells.memory.read()
        if was is None and served:
            was = True
        self._mode = ProxyMode(was)
        return bool(was)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._look()
            finally:  # whatever it was, services do not wait for it
                self.known.set()
            await asyncio.sleep(until_beat(self._now(), LOOK))

    async def _look(self) -> None:
        answers = await self._shells.other.answers()
        tables = ""
        if self._mode.asks_for_tables(self._setting, answers):
            tables = await asyncio.to_thread(self._shells.other.tables)
        self.seen = ProxySeen(answers, tables)
        if self.known.is_set():
            before, now = self.standing, self._mode.decide(self._now(), self._setting, self.seen)
            self._take(now)
            if now.on is not before.on:
                self._changed()

    def follow(self, setting: ServiceProxy) -> bool:
        """Whether l3net is the service proxy, with this setting."""
        self._setting = setting
        self._take(self._mode.decide(self._now(), setting, self.seen))
        return self.standing.on

    def _take(self, now: Standing) -> None:
        if now != self.standing:
            log.info("service proxy: %s: %s", "on" if now.on else "off", now.why)
        self.standing = now
        if now.on is not self._written:
            self._written = now.on
            try:
                self._shells.memory.write(now.on)
            except L3netError as err:
                log.error("%s", err)

    def status(self) -> dict[str, Any]:
        """What is shown of it."""
        return {
            "setting": self._setting.value,
            "on": self.standing.on,
            "why": self.standing.why,
            "kubeProxy": self.seen.answers,
        }
