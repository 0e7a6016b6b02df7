"""The nftables table's owner: what is in force of each section, and how it comes to what is wanted.

All that has changed goes in one transaction. The table is replaced as a whole only where it is not known what
is in force: at the start, after somebody else's change, after a transaction of unknown outcome. What nft
refuses has changed nothing: sections are tried one by one then, and servers by halves, so that what is wrong
with one keeps no other from following. What stays refused is tried again by itself, later each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from l3net.errors import KernelError, RefusedError
from l3net.firewall.facts import FirewallPlan
from l3net.firewall.handing import HANDING
from l3net.firewall.ruleset import table
from l3net.firewall.section import Held, Made, Servers, Step
from l3net.firewall.sections import SECTIONS
from l3net.firewall.services import SERVICES
from l3net.model import ServerKey, VirtualServer
from l3net.ports import Firewall
from l3net.retry import Backoff

log = logging.getLogger("l3net.firewall")

#: Seconds until what was refused is tried again, doubled from the first to the longest.
FIRST: Final = 0.5
LONGEST: Final = 60.0
#: Transactions by which servers that are refused together are told apart: enough for one of 10,000.
TRIES: Final = 32
#: More servers than these are worked out beside the loop.
MANY: Final = 200
#: What may be refused beside a section's own part.
WHOLE: Final = "the whole table"
SERVERS: Final = "servers"


class Table:
    """`follow` brings it along. `in_thread` runs what waits for the kernel, `now` is a clock in seconds."""

    def __init__(
        self,
        firewall: Firewall,
        problems: dict[str, str],
        in_thread: Callable[..., Awaitable[Any]],
        now: Callable[[], float],
    ) -> None:
        self._firewall = firewall
        self._problems = problems
        self._in_thread = in_thread
        self._now = now
        self._held: dict[str, Held] | None = None  # by section; None: what is in force is not known
        self._plan: FirewallPlan | None = None  # as wanted last, without servers
        self._plans: dict[str, FirewallPlan] = {}  # in force, by section
        self._refused: dict[str, str] = {}  # why, by section or by what stands above
        self._backoff: Backoff[str] = Backoff(FIRST, LONGEST)
        self._fresh: dict[ServerKey, VirtualServer | None] = {}  # others than in force, and not tried yet
        self._aside: dict[ServerKey, VirtualServer | None] = {}  # refused
        self.made = 0  # how often it was made anew
        self._looked = -LONGEST  # when a refusal had the table replaced last
        self._torn = False  # since it was made, somebody changed it or took it away
        self._busy = asyncio.Lock()
        #: Called before anything is compared: what changes in place does so now or after `follow`.
        self.prepare: Callable[[], None] = lambda: None
        #: Called after all, with whether the table was made anew, and may not have been in force before.
        self.applied: Callable[[bool, bool], None] = lambda _anew, _torn: None

    @property
    def known(self) -> bool:
        """Whether it is known what is in force."""
        return self._held is not None

    def doubt(self) -> None:
        """What is in force is not known any more."""
        self._held = None

    def touched(self, generation: int | None) -> None:
        """The table was changed, by whomever: see ports.Firewall. What stood against it may have gone."""
        self._firewall.touched(generation)
        self._over(WHOLE)

    def refusal(self, section: str) -> str:
        """Why a section is not in force as wanted; empty if it is."""
        if self._held is None:
            return self._refused.get(WHOLE, "") or "the table is being replaced"
        return self._refused.get(section, "")

    async def say(self, text: str) -> None:
        """A transaction on what no section counts. Raises KernelError."""
        async with self._busy:
            await self._in_thread(self._firewall.amend, text)

    def waits(self, key: ServerKey) -> bool:
        """Whether a server is not in force as it is wanted."""
        return key in self._fresh or key in self._aside

    async def follow(
        self, plan: FirewallPlan, servers: Mapping[ServerKey, VirtualServer], changed: Servers, *, check: bool
    ) -> bool:
        """Bring the table to a plan with these servers, of which `changed` are others than the last time.

        `check`: see whether somebody else changed it. Returns whether the table was made anew.
        """
        async with self._busy:
            self.prepare()
            anew = await self._follow(plan, servers, changed, check=check)
            torn, self._torn = anew and self._torn, self._torn and not anew
        self.applied(anew, torn)
        return anew

    async def _follow(
        self, plan: FirewallPlan, servers: Mapping[ServerKey, VirtualServer], changed: Servers, *, check: bool
    ) -> bool:
        self._plan = self._plan if plan == self._plan else plan
        for key, server in changed.items():
            self._aside.pop(key, None)
            self._fresh[key] = server
        anew = False
        try:
            if check and self.made and not await self._in_thread(self._firewall.intact):
                self._torn = True
                if self.known:
                    log.warning("the nftables table is not as it was left; it is put back")
                    self.doubt()
                    self._over(WHOLE)
            if self._held is not None:
                await self._advance(self._held, self._plan)
            if self._held is None and self._due(WHOLE):
                self._torn |= (gone := not await self._in_thread(self._firewall.there))
                await self._replace(self._plan.serving(servers.values()), gone=gone)
                anew = True
        except KernelError as err:
            self.doubt()
            self._refuse(WHOLE, err)
        self._tell()
        return anew

    # --- by sections -------------------------------------------------------------------------------------

    async def _advance(self, held: dict[str, Held], plan: FirewallPlan) -> None:
        for each in held.values():
            each.hear(self._fresh)
        steps = await self._steps(held, plan)
        text = "".join(step.text for step in steps.values())
        refusal = await self._amend(text)
        if refusal is None:
            for name, step in steps.items():
                self._take(name, step, plan)
            self._fresh.clear()
        elif await self._in_doubt(refusal):
            self.doubt()
            return
        else:
            for name in held:
                if name not in self._refused:
                    await self._alone(held, name, plan)
            await self._serve(held, self._fresh)
        for name in held:
            if name in self._refused and self._due(name):
                await self._alone(held, name, plan)
        if self._aside and self._due(SERVERS):
            await self._serve(held, self._aside)
        if not self._aside:
            self._over(SERVERS)

    async def _steps(self, held: dict[str, Held], plan: FirewallPlan) -> dict[str, Step]:
        """The way of all that is not refused: of the services, at least that of their servers."""

        def steps() -> dict[str, Step]:
            found = {}
            for name, each in held.items():
                if name not in self._refused:
                    found[name] = each.change(plan, self._fresh)
                elif name == SERVICES.name:
                    found[name] = each.change(self._plans[name], self._fresh)
            return found

        few = len(self._fresh) < MANY and not any(each and each.spread for each in self._fresh.values())
        if few and plan is self._plans.get(SERVICES.name):
            return steps()
        found: dict[str, Step] = await self._in_thread(steps)
        return found

    async def _alone(self, held: dict[str, Held], name: str, plan: FirewallPlan) -> None:
        """One section; of the services, what is not its servers."""
        step = held[name].change(plan, {})
        refusal = await self._amend(step.text)
        if refusal is None:
            self._over(name)
            self._take(name, step, plan)
        else:
            self._refuse(name, refusal)

    def _take(self, name: str, step: Step, plan: FirewallPlan) -> None:
        step.take()
        if name not in self._refused:
            self._plans[name] = plan

    async def _serve(self, held: dict[str, Held], servers: Servers) -> None:
        """Servers by halves; those that are refused by themselves wait aside."""
        name = SERVICES.name
        servers = dict(servers)
        parts = [servers] if servers else []
        refused: dict[ServerKey, VirtualServer | None] = {}
        tries = TRIES
        why: RefusedError | None = None
        while parts:
            part = parts.pop()
            if not tries:
                refused |= part
                continue
            tries -= 1
            step: Step = await self._in_thread(held[name].change, self._plans[name], part)
            refusal = await self._amend(step.text)
            if refusal is None:
                step.take()
                continue
            why = refusal
            if len(part) == 1:
                refused |= part
            else:
                keys = list(part)
                half = len(keys) // 2
                parts += ({key: part[key] for key in each} for each in (keys[half:], keys[:half]))
        for key in servers:
            self._fresh.pop(key, None)
        self._aside = {key: each for key, each in self._aside.items() if key not in servers} | refused
        if why is not None and refused:
            self._refuse(SERVERS, why)

    async def _amend(self, text: str) -> RefusedError | None:
        """Why it is refused, if it is."""
        if text:
            try:
                await self._in_thread(self._firewall.amend, text)
            except RefusedError as err:
                return err
        return None

    async def _in_doubt(self, refusal: RefusedError) -> bool:
        """Whether a refusal may come of a table that is not what we take it for."""
        if not await self._in_thread(self._firewall.intact):
            self._torn = True
            return True
        if refusal.code not in (errno.ENOENT, errno.EEXIST) or self._now() < self._looked + LONGEST:
            return False
        self._looked = self._now()
        return True

    # --- as a whole --------------------------------------------------------------------------------------

    async def _replace(self, plan: FirewallPlan, *, gone: bool) -> None:
        """All sections as the plan wants them; where that is refused, all but the one that it is for.

        `gone`: nothing is in force. Policies do not wait for what takes nft long then.
        """
        names = tuple(section.name for section in SECTIONS)
        first: RefusedError | None = None
        held_back: tuple[str, ...] = ()
        if gone and any(server.spread for server in plan.servers):
            late = (SERVICES.name, HANDING.name)  # of one mind: either both are in force, or none
            with contextlib.suppress(RefusedError):
                await self._make(plan, late, bare=late)
        for held_back in ((), *((name,) for name in names), names):
            try:
                held = await self._make(plan, held_back)
            except RefusedError as err:
                first = first or err
                if held_back == names:
                    raise first from None
            else:
                break
        self._held = held
        for name in list(self._refused):
            self._over(name)
        self._fresh, self._aside = {}, {}
        rest = plan.serving(())
        self._plans |= {name: rest for name in names if name not in held_back}
        self._plans.setdefault(SERVICES.name, FirewallPlan(bridge=plan.bridge))  # bare
        for name in held_back:
            held[name].hear({server.key: server for server in plan.servers})
            await self._alone(held, name, rest)
            if name == SERVICES.name:
                await self._serve(held, {server.key: server for server in plan.servers})

    async def _make(
        self, plan: FirewallPlan, held_back: Collection[str], bare: Collection[str] = ()
    ) -> dict[str, Held]:
        """The table as planned, but for what is held back: that is as it was taken last, less its servers, or
        bare where it never was and where `bare` names it."""
        self.doubt()

        def make() -> dict[str, Held]:
            made: dict[str, Made] = {}
            for section in SECTIONS:
                if section.name not in held_back:
                    made[section.name] = section.made(plan)
                elif section.name in self._plans and not section.lives and section.name not in bare:
                    made[section.name] = section.made(self._plans[section.name])
                else:
                    made[section.name] = section.bare(plan)
            filled = {name for each in made.values() for name in each.filled}
            held = {name: each.held for name, each in made.items()}
            text = table(made.values(), self._firewall.clients(filled) if filled else {})
            made.clear()  # some megabytes of lines
            self._firewall.apply(text)
            return held

        held: dict[str, Held] = await self._in_thread(make)
        self.made += 1
        return held

    # --- what is refused ---------------------------------------------------------------------------------

    def _due(self, name: str) -> bool:
        return not self._backoff.waits(name, self._now())

    def _refuse(self, name: str, err: KernelError) -> None:
        self._refused[name] = str(err)
        self._backoff.failed(name, self._now())

    def _over(self, name: str) -> None:
        """It is in force, or what stood against it may have gone."""
        self._refused.pop(name, None)
        self._backoff.forget(name)

    def _tell(self) -> None:
        """The problem there is, under the name of the section that it is for."""
        if not self._refused:
            if (over := self._problems.pop("firewall", None)) is not None:
                log.info("resolved: firewall: %s", over)
            return
        labels = {WHOLE: "", SERVERS: f"{SERVICES.name}: "}
        found = "; ".join(labels.get(name, f"{name}: ") + why for name, why in self._refused.items())
        if self._problems.get("firewall") != found:
            log.error("firewall: %s", found)
        self._problems["firewall"] = found
