"""What a node works out for a large cluster, in this process: decoding, the book, nftables in a namespace."""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from policies import declared

from l3net.firewall.facts import FirewallPlan
from l3net.firewall.policy import POLICY
from l3net.firewall.ruleset import ruleset
from l3net.kube.translate import translate
from l3net.model import Fact, Kind, Namespace, Node, ObjectName, Pod, Policy
from l3net.policy.attached import Attached
from l3net.policy.book import PolicyBook
from l3net.ports import Changed
from l3net.shell.kernel.nft import NftTable
from l3net.shell.kubernetes.kinds import KINDS
from l3net.shell.kubernetes.known import KnownObjects

PAGE = 500


@dataclass
class Cost:
    """Of one kind of change: wall time of each in milliseconds, CPU of this process and of nft in
    milliseconds for each on average, the largest transaction in bytes."""

    what: str
    times: list[float] = field(default_factory=list)
    own: float = 0.0
    nft: float = 0.0
    most: int = 0


class Heard(list[Any]):
    """A hearer of KnownObjects."""

    deliver = list.extend

    def judged(self, *_: object) -> None: ...


def resident() -> float:
    """MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu() -> tuple[float, float]:
    """Seconds of this process, and of its children that have ended."""
    return tuple(  # type: ignore[return-value]
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def pages(documents: Iterable[declared.Document]) -> Iterator[tuple[Kind, bytes]]:
    """As an API server answers lists."""
    by_kind: dict[str, list[bytes]] = {}
    for number, document in enumerate(documents):
        document["metadata"] |= {
            "resourceVersion": str(number),
            "uid": f"00000000-0000-0000-0000-{number:012}",
        }
        by_kind.setdefault(document["kind"], []).append(json.dumps(document, separators=(",", ":")).encode())
    for name, found in by_kind.items():
        head = {"kind": f"{name}List", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}}
        for start in range(0, len(found), PAGE):
            body = json.dumps(head).encode()[:-1] + b',"items":[' + b",".join(found[start : start + PAGE])
            yield Kind(name), body + b"]}"


class Deciding:
    """A book with what is in force of it in this network namespace."""

    def __init__(self) -> None:
        self.book = PolicyBook()
        blocks = frozenset(map(ip_network, declared.BLOCKS))
        self.plan = FirewallPlan(blocks=blocks, policy=self.book.contents)
        self.table = NftTable(followed=True)
        self.held = POLICY.made(self.plan).held
        self.facts: dict[tuple[Kind, ObjectName], Fact] = {}

    def put(self, kind: Kind, name: ObjectName, fact: Fact | None) -> None:
        match fact or kind:
            case Pod() | Kind.POD:
                self.book.put_pod(name, fact if isinstance(fact, Pod) else None)
            case Namespace():
                self.book.put_namespace(name.name, fact.labels)
            case Node():
                self.book.put_node(name.name, fact)
            case _:
                key = kind is Kind.NETWORK_POLICY, name
                self.book.put_policy(key, fact if isinstance(fact, Policy) else None)

    def attach(self, number: int, place: int) -> str:
        """A pod of this node has the addresses of its place."""
        name = ObjectName(*declared.name_of(number))
        found = tuple(ip_network(block)[place + 2] for block in declared.BLOCKS)
        self.book.attach(str(name), Attached(name, found))
        return str(name)

    def bring(self) -> int:
        """What was put into the kernel; bytes of the transaction."""
        self.book.settle()
        step = self.held.change(self.plan, {})
        if step.text:
            self.table.amend(step.text)
        step.take()
        return len(step.text)

    def measure(self, what: str, changes: Iterable[Callable[[], object]]) -> Cost:
        cost = Cost(what)
        before = cpu()
        for change in changes:
            began = time.perf_counter()
            change()
            cost.most = max(cost.most, self.bring())
            cost.times.append((time.perf_counter() - began) * 1000)
        cost.own, cost.nft = (
            (now - then) * 1000 / len(cost.times) for then, now in zip(before, cpu(), strict=True)
        )
        return cost


def first(made: Deciding, answers: Iterable[tuple[Kind, bytes]], pods: int) -> dict[str, float]:
    """From lists to the kernel: seconds of CPU of each step, and MiB that it has taken."""
    gc.set_threshold(100_000, 20, 100)  # as the agent does
    spent = dict.fromkeys(("decode", "translate", "book", "nft text", "nft"), 0.0)
    before = resident()

    def step(what: str, began: tuple[float, float]) -> tuple[float, float]:
        now = cpu()
        spent[what] += sum(now) - sum(began)
        return now

    known: dict[Kind, KnownObjects] = {}
    heard = Heard()
    for kind, data in answers:
        began = cpu()
        _, _, documents = KINDS[kind].page(data)
        began = step("decode", began)
        known.setdefault(kind, KnownObjects(KINDS[kind], heard)).tell(documents, distrusted=False)  # type: ignore[arg-type]
        began = step("translate", began)
        for each in heard:
            if isinstance(each, Changed) and each.fact is not None:
                made.facts[each.kind, each.name] = each.fact
                made.put(each.kind, each.name, each.fact)
        heard.clear()
        step("book", began)
    began = cpu()
    for place, number in enumerate(declared.local(pods)):
        made.attach(number, place)
    made.book.settle()
    began = step("book", began)
    text = ruleset(made.plan)
    made.held = POLICY.made(made.plan).held
    began = step("nft text", began)
    made.table.apply(text)
    step("nft", began)
    return {**spent, "MiB": resident() - before, "text": len(text)}


def changes(made: Deciding, pods: int, turns: int) -> Iterator[Cost]:
    drawn = random.Random(1)  # noqa: S311 - which pods, not secrets
    contents = made.book.contents
    looked_for = {
        element
        for name, live in contents.sets.items()
        if name.startswith("peers4")
        for element in live.elements
    }
    remote = [fact for fact in made.facts.values() if isinstance(fact, Pod) and fact.node != declared.ME]
    chosen = [each for each in remote if str(each.addresses[0]) in looked_for]
    others = [each for each in remote if str(each.addresses[0]) not in looked_for]

    def come_and_go(of: list[Pod]) -> Iterator[Callable[[], object]]:
        for each in drawn.sample(of, min(turns, len(of))):
            yield lambda each=each: made.book.put_pod(each.name, None)  # type: ignore[misc]
            yield lambda each=each: made.book.put_pod(each.name, each)  # type: ignore[misc]

    def of_mine() -> Iterator[Callable[[], object]]:
        for place, number in enumerate(declared.local(pods)):
            key = str(ObjectName(*declared.name_of(number)))
            yield lambda key=key: made.book.detach(key)  # type: ignore[misc]
            yield lambda number=number, place=place: made.attach(number, place)  # type: ignore[misc]

    yield made.measure("pod elsewhere, in a policy's set here", come_and_go(chosen))
    yield made.measure("pod elsewhere, in none", come_and_go(others))
    yield made.measure("pod of this node", of_mine())


def wide(made: Deciding, pods: int) -> Iterator[Cost]:
    """A policy that selects a fifth of all pods as peers comes, changes to another fifth, and goes."""
    for what, shard in (("comes", "s1"), ("changes", "s2"), ("goes", "")):
        found = translate(declared.wide_policy(shard or "s2"))
        assert found is not None
        kind, name, fact = found
        change = lambda fact=fact, shard=shard: made.put(kind, name, fact if shard else None)  # noqa: E731, B023
        yield made.measure(f"policy with {pods // 5} peers {what}", [change])
