"""What the agent makes of policies: who waits, and that one that cannot be put holds up nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from l3net.agent.policing import PART, Policing
from l3net.agent.table import Table
from l3net.faults import Faults
from l3net.model import Kind, Namespace, ObjectName, Pod, PodSelection, Policy, Tier
from l3net.naming import LABEL_TENANT
from l3net.policy.attached import Attached

POD = ObjectName("x", "a")
ATTACHED = Attached(POD, (ip_address("10.0.0.1"), ip_address("fd00::1")))
DENY = Policy(ObjectName("x", "deny"), Tier.NETWORK_POLICY, PodSelection("x"), ())


def made(*, declares: bool = True) -> tuple[Policing, Faults]:
    faults = Faults()
    kernel = SimpleNamespace(connections=None, drops=Mock(), counters=None)
    policing = Policing("n", cast(Any, kernel), lambda: None, {}, faults, declares=declares)
    table = cast(Table, _Table())

    async def follow() -> None:
        policing.prepare()

    policing.stand_on(table, follow)
    return policing, faults


class _Table:
    refused = ""

    def refusal(self, _section: str) -> str:
        return self.refused


async def admitted(policing: Policing, uid: str = "", attached: Attached = ATTACHED) -> str | None:
    """What the CNI server is answered, asked from a thread as it does; None: it need not wait."""

    def ask() -> str | None:
        future = policing.admit("key", attached, uid)
        return future.result(10) if future is not None else None

    return await asyncio.to_thread(ask)


def test_nobody_waits_where_no_policy_may_be_for_the_pod() -> None:
    async def run() -> None:
        policing, _ = made()
        assert await admitted(policing) is None
        policing.note(Kind.NETWORK_POLICY, DENY.name, DENY)
        elsewhere = Attached(ObjectName("y", "a"), ATTACHED.addresses)
        assert await admitted(policing, attached=elsewhere) is None
        policing.note(Kind.NETWORK_POLICY, DENY.name, None)
        assert await admitted(policing) is None
        policing.note(Kind.NAMESPACE, ObjectName("", "x"), Namespace("x", {LABEL_TENANT: "t"}))
        policing.note(Kind.POD, POD, Pod(POD, node="n"))
        assert await admitted(policing) == ""

    asyncio.run(run())


@pytest.mark.parametrize("declares", [True, False])
def test_a_pod_that_is_not_declared(declares: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Awaited where every pod is declared; not, if the runtime named none."""
    monkeypatch.setattr("l3net.agent.policing.ADMISSION_WAIT", 0.1)

    async def run() -> None:
        policing, _ = made(declares=declares)
        policing.note(Kind.NETWORK_POLICY, DENY.name, DENY)
        answer = await admitted(policing)
        assert answer == (
            "the API server has not reported pod x/a yet, and policies or an EgressIP may be for it"
            if declares
            else ""
        )
        assert await admitted(policing, attached=Attached(POD, ATTACHED.addresses, named=False)) == ""
        assert policing.book.contents.sets["ingress4"].elements

    asyncio.run(run())


def test_a_refusal_of_the_kernel_is_the_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        policing, _ = made()
        policing.note(Kind.NETWORK_POLICY, DENY.name, DENY)
        policing.note(Kind.POD, POD, Pod(POD, node="n", uids=("u",)))
        monkeypatch.setattr(_Table, "refused", "no room")
        assert await admitted(policing, "u") == "the policies for pod x/a are not in force: no room"

    asyncio.run(run())


def failing(policing: Policing, name: str) -> Callable[[Any, Any], None]:
    put = policing.book.put_policy

    def fails(key: Any, policy: Any) -> None:
        if key[1].name == name:
            raise ZeroDivisionError("odd")
        put(key, policy)

    return fails


def test_one_that_cannot_be_put_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, no pod is added meanwhile, and with its next version all is well."""

    async def run() -> None:
        policing, faults = made()
        odd = Policy(ObjectName("x", "odd"), Tier.NETWORK_POLICY, PodSelection("x"), ())
        policing.note(Kind.POD, POD, Pod(POD, node="n"))
        with monkeypatch.context() as patched:
            patched.setattr(policing.book, "put_policy", failing(policing, "odd"))
            policing.note(Kind.NETWORK_POLICY, odd.name, odd)
            policing.note(Kind.NETWORK_POLICY, DENY.name, DENY)
            answer = await admitted(policing)
            assert answer and f"{PART}: NetworkPolicy x/odd failed (ZeroDivisionError)" in answer
            assert [each.lasting for each in faults.found()] == [True]
            assert policing.book.contents.sets["ingress4"].elements, "the other one is in force"
        policing.note(Kind.NETWORK_POLICY, odd.name, odd)
        assert await admitted(policing) == ""
        assert [each.lasting for each in faults.found()] == [False]

    asyncio.run(run())
