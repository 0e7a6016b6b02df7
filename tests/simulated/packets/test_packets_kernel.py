"""The interpreter says of a packet what the real kernel does, with the very text that is rendered; and wrong
interpreters, each with one thing of nftables amiss, are found out by the same packets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from packets import chains, hashing, sets, stack, statements, terms, tracking
from packets.conntrack import Conntrack, Flow
from packets.differences import Compared, Event, Judge, really
from packets.kernel_node import KernelNode
from packets.random_nodes import RandomNode
from packets.routes import Fib
from packets.small_tables import ANEW, TABLES
from packets.statements import Verdict
from packets.table import SimTable

pytestmark = pytest.mark.netns
#: Nodes for `make test`, and packets of each before their answers.
SEEDS, PACKETS = 20, 90
#: Nodes of a batch of `make soak`, of which there are so many.
BATCH, BATCHES = 25, 40


@pytest.fixture(scope="module")
def node() -> Iterator[KernelNode]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/net/tun")
    made = KernelNode()
    yield made
    made.close()


@pytest.fixture(scope="module")
def small(node: KernelNode) -> list[list[Event]]:
    """What the kernel does by small tables."""
    found = []
    for text, packets in TABLES:
        node.forget()
        node.publish("")
        whole = f"{ANEW}{text}\n}}\n"
        node.apply(whole)
        events = [Event(whole)]
        events += (Event("", each, link, really(each, node.receive(each, link))) for each, link in packets)
        found.append(events)
    return found


@pytest.fixture(scope="module")
def compared(node: KernelNode) -> list[Compared]:
    found = []
    for seed in range(SEEDS):
        one = Compared(node, RandomNode(seed))
        one.run(PACKETS)
        found.append(one)
    return found


def test_the_kernel_does_as_is_said(compared: list[Compared]) -> None:
    wrong = [f"seed {seed}: {each}" for seed, one in enumerate(compared) for each in one.judge.wrong]
    assert not wrong, "\n".join(wrong[:2])
    met = sum((one.judge.met for one in compared), Counter[str]())
    assert min(met[each] for each in ("Delivered", "Forwarded", "Dropped", "Rejected", "Lost")) > 50
    assert met["copies"] > 5
    assert sum(one.packets for one in compared) > 1000


def test_small_tables_are_taken_for_what_they_are(small: list[list[Event]]) -> None:
    wrong = [each for events in small for each in Judge().again(events)]
    assert not wrong, wrong[0]
    assert {len(event.seen) for events in small for event in events if event.packet} == {0, 1}


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(BATCHES))
def test_the_kernel_does_as_is_said_for_longer(node: KernelNode, batch: int) -> None:
    for seed in range(1000 + batch * BATCH, 1000 + (batch + 1) * BATCH):
        one = Compared(node, RandomNode(seed))
        wrong = one.run(PACKETS)
        assert not wrong, f"seed {seed}: {wrong[0]}"


# --- controls --------------------------------------------------------------------------------------------


class _Either:
    """Equal to two numbers."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers

    def __eq__(self, other: object) -> bool:
        return other in self._numbers

    __hash__ = None  # type: ignore[assignment]


def _goto_as_jump(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chains, "JUMP", _Either(statements.JUMP, statements.GOTO))


def _return_goes_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chains, "CONTINUE", _Either(statements.RETURN))
    patch.setattr(chains, "RETURN", None)


def _accept_ends_the_hook(patch: pytest.MonkeyPatch) -> None:
    real, over = chains.chain_verdict, set[tuple[int, str]]()

    def verdict(met: Any, tables: Any, stage: Any) -> Any:
        where = (id(met), stage.hook.where)
        if where in over:
            return None
        before = len(met.steps)
        found = real(met, tables, stage)
        if found is None and any(step[1].endswith("accept") for step in met.steps[before:]):
            over.add(where)
            met.choices.kept = met  # else another has its number
        return found

    patch.setattr(stack, "chain_verdict", verdict)


def _any_family(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        terms.AddressTerm, "read", lambda self, met: met.source if self.of_source else met.destination
    )


def _missing_is_unequal(patch: pytest.MonkeyPatch) -> None:
    def run(self: statements.Equals, met: Any) -> bool:
        return (self.term.read(met) == self.value) is not self.negated

    patch.setattr(statements.Equals, "run", run)


def _answers_stay(patch: pytest.MonkeyPatch) -> None:
    real = tracking.translate

    def translate(met: Any, *rest: Any, of_source: bool) -> Any:
        return None if met.backward else real(met, *rest, of_source=of_source)

    patch.setattr(stack, "translate", translate)


def _errors_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tracking, "_translate_error", lambda *_args, **_more: None)


def _nothing_is_invalid(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Conntrack, "begins", lambda *_args: True)


def _mid_stream_is_invalid(patch: pytest.MonkeyPatch) -> None:
    real = Conntrack.begins
    patch.setattr(Conntrack, "begins", lambda self, ends, flags: flags != 16 and real(self, ends, flags))


def _nothing_is_known(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Conntrack, "find", lambda *_args: None)


def _always_answered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Flow, "answered", property(lambda _self: True))


def _sources_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(statements.Masquerades, "run", lambda _self, _met: statements.ACCEPTED)


def _other_source(patch: pytest.MonkeyPatch) -> None:
    real = Fib.source_for
    patch.setattr(Fib, "source_for", lambda self, version, _link, *rest: real(self, version, "up1", *rest))


def _first_slot(patch: pytest.MonkeyPatch) -> None:
    real = terms.slots_of
    first = lambda held, key, size, now: real(held, key, 1, now)  # noqa: E731
    for module in (sets, statements):
        patch.setattr(module, "slots_of", first)


def _other_hash(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(terms, "spread", lambda octets, seed, size: hashing.spread(octets, seed + 1, size))


def _no_copies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(statements.Duplicates, "run", lambda _self, _met: True)


def _nobody_is_remembered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sets.NamedSet, "fill", lambda *_args: None)


def _first_route_alone(patch: pytest.MonkeyPatch) -> None:
    def hop(met: Any, route: Any) -> Any:
        met.leaves = route.hops[0].interface
        return route.hops[0]

    patch.setattr(stack, "_hop", hop)


def _drops_are_accepted(patch: pytest.MonkeyPatch) -> None:
    real = chains._meet

    def meet(*args: Any) -> Verdict | None:
        found = real(*args)
        return None if found is not None and found.kind == statements.DROP else found

    patch.setattr(chains, "_meet", meet)


def _earlier_first(patch: pytest.MonkeyPatch) -> None:
    real = SimTable._staged

    def staged(self: SimTable, *args: Any) -> Any:
        for table in self.tables.values():
            hooks = {name: turned(hook) for name, hook in table.hooks.items()}
            table.hooks = hooks
        found = list(real(self, *args))
        for table in self.tables.values():
            table.hooks = {name: turned(hook) for name, hook in table.hooks.items()}
        return found

    def turned(hook: Any) -> Any:
        from dataclasses import replace

        return replace(hook, order=-hook.order)

    patch.setattr(SimTable, "_staged", staged)


def _no_bits(patch: pytest.MonkeyPatch) -> None:
    def run(self: statements.HasBit, met: Any) -> bool:
        found = self.term.read(met)
        return found is not None and (found == self.bits) is not self.negated

    patch.setattr(statements.HasBit, "run", run)


def _no_ways(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stack.SimStack, "_way", lambda _self, _met: None)


def _ways_from_any_link(patch: pytest.MonkeyPatch) -> None:
    real = stack.SimStack._way

    def way(self: stack.SimStack, met: Any) -> Any:
        arrived, met.arrived = met.arrived, "l3net0"
        try:
            return real(self, met)
        finally:
            met.arrived = arrived

    patch.setattr(stack.SimStack, "_way", way)


def _ways_for_the_host(patch: pytest.MonkeyPatch) -> None:
    real = stack.SimStack._way

    def way(self: stack.SimStack, met: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Fib, "type_of", lambda *_args: "unicast")
            return real(self, met)

    patch.setattr(stack.SimStack, "_way", way)


def _no_masks(patch: pytest.MonkeyPatch) -> None:
    def run(self: statements.Marks, met: Any) -> bool:
        if not self.tracked:
            met.mark = self.bits
        return True

    patch.setattr(statements.Marks, "run", run)


def _all_are_original(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(terms.DirectionTerm, "read", lambda _self, met: met.flow and "original")


def _ports_stay(patch: pytest.MonkeyPatch) -> None:
    real = Conntrack.free

    def free(self: Conntrack, *args: Any, anew: bool, **more: Any) -> Flow:
        return real(self, *args, anew=False, **more)

    patch.setattr(Conntrack, "free", free)


WRONG = (
    _goto_as_jump,
    _return_goes_on,
    _accept_ends_the_hook,
    _any_family,
    _missing_is_unequal,
    _answers_stay,
    _errors_stay,
    _nothing_is_invalid,
    _mid_stream_is_invalid,
    _nothing_is_known,
    _always_answered,
    _sources_stay,
    _other_source,
    _first_slot,
    _other_hash,
    _no_copies,
    _nobody_is_remembered,
    _first_route_alone,
    _drops_are_accepted,
    _earlier_first,
    _no_bits,
    _no_ways,
    _ways_from_any_link,
    _ways_for_the_host,
    _no_masks,
    _all_are_original,
    _ports_stay,
)


def test_wrong_interpreters_are_found_out(compared: list[Compared], small: list[list[Event]]) -> None:
    """All in one test: what was heard of the kernel is judged once more, and that is heard once."""
    heard = [*small, *(one.events for one in compared)]
    for events in heard[::4]:
        assert not Judge().again(events), "else the rest says nothing"
    unseen = []
    for wrong in WRONG:
        with pytest.MonkeyPatch.context() as patch:
            wrong(patch)
            if not any(Judge().again(events) for events in heard):
                unseen.append(wrong.__name__)
    assert not unseen
