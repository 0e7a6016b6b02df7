"""A view never stays stale: the API server goes back in time, a watch falls silent, 410 comes late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from apiserver import Call, FakeApiServer
from kube_follower import Follower, configuration, endpoints, node, peer, service

from l3net.model import Kind, ObjectName
from l3net.ports import Changed, Mended, Rejected
from l3net.shell.kubernetes.api import KubeApi
from l3net.shell.kubernetes.freshness import DOUBT, Freshness
from l3net.shell.kubernetes.kinds import KINDS
from l3net.shell.kubernetes.reflector import Reflector
from l3net.shell.kubernetes.versions import behind
from l3net.shell.kubernetes.writer import KubeLease, KubeOwnNode

Connect = Callable[..., Follower]
SERVICES = Call("list", "", "services")
WATCHED = 14


def past_and_present(api: FakeApiServer, connect: Connect, *, check: bool = False) -> Follower:
    """A follower of a present that is gone: `new` was made, `old` deleted, endpoints of `a` changed.

    `check`: whether it may ask for the version after its connections broke.
    """
    api.put(node("n2", "10.0.0.2"), service("a"), service("old", "10.96.0.2"), endpoints("a", "10.244.1.5"))
    snapshot = api.snapshot()
    api.remove("Service", "old", "default")
    api.put(service("new", "10.96.0.3"), endpoints("a", "10.244.1.5", "10.244.1.6"))
    for _ in range(30):
        api.touch("Node", "n2")
    follower = connect().synced()
    follower.has(Kind.SERVICE, "a", "new")
    follower.until(lambda: api.watching == WATCHED, "every watch")
    before = watches(api)
    if check:
        api.restore(snapshot)
        return follower
    follower._datastore._api.versions.check_due = lambda now: False  # type: ignore[method-assign]
    api.restore(snapshot)
    follower.until(
        lambda: watches(api) >= before + WATCHED and api.watching == WATCHED, "every watch to be resumed"
    )
    return follower


def test_after_a_break_one_asks_where_the_store_stands(api: FakeApiServer, connect: Connect) -> None:
    """Neither bookmark nor event nor silence tells here: within a moment all the same."""
    follower = past_and_present(api, connect, check=True)
    past_is_present(follower)
    asked = [path for _, path in list(api.requests) if "limit=1&" in path or path.endswith("limit=1")]
    assert len(asked) == 1, "one for all its watches"


@pytest.mark.parametrize("kind", [Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE, Kind.BGP_PEER])
def test_one_that_heard_nothing_since_the_snapshot_asks_for_all(
    api: FakeApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """Whichever watch asks. Of its own collection it may know nothing that is newer than the snapshot."""
    api.put(service("a"), service("old", "10.96.0.2"))
    follower = connect().synced()
    follower.until(lambda: api.watching == WATCHED, "every watch")
    snapshot = api.snapshot()
    api.remove("Service", "old", "default")
    api.put(service("new", "10.96.0.3"))
    follower.has(Kind.SERVICE, "a", "new")
    reflectors = follower._datastore._feeds._by_kind  # type: ignore[union-attr]
    follower.until(lambda: api.watching == WATCHED, "every watch")
    asked: list[str] = []
    due = follower._datastore._api.versions.check_due

    def one(now: float) -> bool:
        asking = threading.current_thread() is reflectors[kind]._thread
        return asking and due(now) and not asked.append(kind.value)  # type: ignore[func-returns-value]

    monkeypatch.setattr(follower._datastore._api.versions, "check_due", one)
    api.restore(snapshot)
    follower.has(Kind.SERVICE, "a", "old")
    assert asked[0] == kind.value


def watches(api: FakeApiServer) -> int:
    """How many were ever asked for."""
    return sum(count for call, count in api.calls.copy().items() if call.verb == "watch")


def past_is_present(follower: Follower) -> None:
    follower.has(Kind.SERVICE, "a", "old")

    def endpoints_of_a() -> int:
        found = follower.state[Kind.ENDPOINT_SLICE, ObjectName("default", "a-abc")]
        return len(found.endpoints)  # type: ignore[union-attr]

    follower.until(lambda: endpoints_of_a() == 1, "the endpoints of before")
    assert follower.in_sync == 1


def test_a_bookmark_from_behind_has_everything_listed(api: FakeApiServer, connect: Connect) -> None:
    api.bookmarks_from_behind = True
    follower = past_and_present(api, connect)
    api.bookmark()
    past_is_present(follower)


def test_a_silent_watch_is_not_believed(
    api: FakeApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l3net.shell.kubernetes.api.WATCH_TIMEOUT", 1.0)
    past_is_present(past_and_present(api, connect))


@pytest.mark.parametrize(("silent", "doubted"), [(70.0, False), (80.0, True)])
def test_a_watch_that_fell_silent_broke_then(silent: float, doubted: bool) -> None:
    """Who is cut off is told so by the kernel, once he is no longer: the break was no short one."""
    now = [0.0]
    threads: Any = SimpleNamespace(monotonic=lambda: now[0], random=Random(1))
    fresh = Freshness((2400.0, 4800.0), threads)
    fresh.listed(1)
    now[0] = 1000.0
    fresh.heard()
    now[0] += silent
    fresh.broke()
    now[0] += 1.0
    fresh.resumed()
    now[0] += DOUBT[1]
    assert fresh.due is doubted


def test_it_is_listed_now_and_then_and_from_the_cache(api: FakeApiServer, connect: Connect) -> None:
    follower = connect(relist=(0.0, 0.0)).synced()
    follower.until(lambda: api.watching == WATCHED, "every watch")
    mark = follower.mark()
    api.cut()  # a watch that ended, as each does after some minutes
    follower.until(lambda: api.calls[SERVICES] >= 2, "another list")
    asked = [path for _, path in list(api.requests) if "/services?" in path and "watch=1" not in path]
    assert "resourceVersion=0" not in asked[0]
    assert "resourceVersion=0" in asked[1]
    assert not follower.since(mark), "the same state is no news"


def test_a_list_from_the_cache_that_is_behind_is_not_taken(api: FakeApiServer, connect: Connect) -> None:
    """Of several API servers one may lag: only a list from the store itself says that it went back."""
    api.put(service("a"))
    behind_us = api.snapshot()
    api.put(service("b", "10.96.0.2"))
    follower = connect(relist=(0.0, 0.0)).synced()
    follower.until(lambda: api.watching == WATCHED, "every watch")
    answer, lagging = api.list, []

    def lag(resource, namespace, query):  # type: ignore[no-untyped-def]
        if query.get("resourceVersion") == "0" and resource.plural == "services":
            lagging.append(query)
            return (
                b'{"metadata":{"resourceVersion":"%d"},"items":[' % behind_us.version
                + behind_us.encoded["", "services", "default", "a"]
                + b"]}"
            )
        return answer(resource, namespace, query)

    api.list = lag  # type: ignore[method-assign]
    mark, lists = follower.mark(), api.calls[SERVICES]
    api.cut()
    follower.until(lambda: api.calls[SERVICES] >= lists + 2, "the list after the one that lags")
    assert lagging
    api.put(service("c", "10.96.0.3"))
    follower.has(Kind.SERVICE, "a", "b", "c")
    assert [event.name.name for event in follower.since(mark) if isinstance(event, Changed)] == ["c"]


def test_an_event_from_behind(api: FakeApiServer, connect: Connect) -> None:
    follower = past_and_present(api, connect)
    # As from an API server that does not hold its watches to the version they asked for.
    with api._changed:
        api._since = lambda version: api._history  # type: ignore[method-assign]
    api.put(service("a", "10.96.0.9"))
    past_is_present(follower)


def test_the_answer_to_a_write_tells(api: FakeApiServer, tmp_path: Path) -> None:
    """Of any collection that we write to: the leader's Lease is written every few seconds."""
    client = KubeApi(api.kubeconfig(tmp_path / "kubeconfig"))
    told: list[int] = []
    client.versions.on_rewound = lambda: told.append(1)
    lease = KubeLease(client, "kube-system")
    lease.write(lease.read())
    snapshot = api.snapshot()
    lease.write(lease.read())
    own = KubeOwnNode(client, "n1")
    own.want_blocks({4: 2})
    assert not told
    api.restore(snapshot)
    lease.write(lease.read())
    assert told == [1]
    lease.write(lease.read())
    own.want_blocks({4: 2})
    assert told == [1], "told once: what was heard before is forgotten"


def test_a_write_that_changes_nothing_tells_nothing(api: FakeApiServer, tmp_path: Path) -> None:
    client = KubeApi(api.kubeconfig(tmp_path / "kubeconfig"))
    told: list[int] = []
    client.versions.on_rewound = lambda: told.append(1)
    own = KubeOwnNode(client, "n1")
    own.set_network_available()
    client.versions.heard("/api/v1/nodes", "999999")
    own.set_network_available()
    assert not told


def test_writes_have_the_datastore_list(api: FakeApiServer, connect: Connect) -> None:
    follower = past_and_present(api, connect)
    follower._datastore._api.versions.on_rewound()
    past_is_present(follower)


def test_views_tell_their_age(api: FakeApiServer, connect: Connect) -> None:
    follower = connect().synced()
    follower.until(lambda: api.watching == WATCHED, "every watch")
    views = follower._datastore.views()
    assert {kind.value for kind in views} >= {"Node", "Service", "BGPPeer"}
    assert views[Kind.SERVICE].list_age is not None
    assert 0 <= views[Kind.SERVICE].list_age < 60
    assert views[Kind.SERVICE].bookmark_age is None
    api.bookmark()
    follower.until(lambda: follower._datastore.views()[Kind.SERVICE].bookmark_age is not None, "a bookmark")


def test_gone_is_an_answer_and_waits_for_nothing(api: FakeApiServer, connect: Connect) -> None:
    """An outage long enough for the wait to grow; then 410, and the list comes at once."""
    follower = connect(backoff=(0.05, 3.0)).synced()
    follower.until(lambda: api.watching == WATCHED, "every watch")
    api.stop()
    time.sleep(3.0)  # the next wait would be 1.5 to 3 s, and one more after the 410
    api.put(service("a"))
    api.compact()
    answered: list[float] = []
    gone: list[float] = []
    admit = api.admit

    def note(call: Call, token: str) -> None:
        if call.resource == "services":
            (gone if call.verb == "watch" and not gone else answered).append(time.monotonic())
        admit(call, token)

    api.admit = note  # type: ignore[method-assign]
    api.start()
    follower.has(Kind.SERVICE, "a")
    assert answered[0] - gone[0] < 1.0


def test_versions_compare_as_numbers() -> None:
    assert behind("999", "1000")
    assert not behind("1000", "999")
    assert not behind("7", "7")
    assert not behind("", "7")
    assert not behind("7", "")
    assert not behind("abc", "7")
    assert not behind("²", "7")


# --- the reflector alone -----------------------------------------------------------------------------------


class Deaf:
    """A listener that fails once, in the midst of it."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.fails = 0

    def deliver(self, events: list[object]) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("not now")
        self.heard += events

    def listed(self, reflector: Reflector) -> None: ...
    def trouble(self, reflector: Reflector, why: str) -> None: ...
    def judged(self, *_: object) -> None: ...
    def rewound(self, reflector: Reflector) -> None: ...


def test_what_was_not_delivered_is_not_known(api: FakeApiServer, tmp_path: Path) -> None:
    api.put(service("a"), service("b", "10.96.0.2"))
    listener = Deaf()
    reflector = Reflector(
        KubeApi(api.kubeconfig(tmp_path / "kubeconfig")), KINDS[Kind.SERVICE], listener, backoff=(0.02, 0.1)
    )
    listener.fails = 1
    reflector.start()

    def wait(names: set[str]) -> None:
        deadline = time.monotonic() + 20
        while {e.name.name for e in listener.heard if isinstance(e, Changed) and e.fact} != names:
            assert time.monotonic() < deadline, listener.heard
            time.sleep(0.02)

    try:
        wait({"a", "b"})
        listener.fails = 1
        api.put(service("c", "10.96.0.3"))
        wait({"a", "b", "c"})
        listener.fails = 1
        api.remove("Service", "c", "default")
        deadline = time.monotonic() + 20
        while not any(isinstance(e, Changed) and e.fact is None for e in listener.heard):
            assert time.monotonic() < deadline, listener.heard
            time.sleep(0.02)
    finally:
        reflector.stop()
        reflector.join(10)


# --- elements --------------------------------------------------------------------------------------------


def test_one_bad_element_costs_that_element_alone(api: FakeApiServer, connect: Connect) -> None:
    bad = node("n2", "10.0.0.2")
    bad["status"]["addresses"].insert(0, {"type": "InternalIP", "address": "node.example.internal"})
    api.put(bad, service("a", externalIPs=["198.051.100.009", "198.51.100.9"]))
    follower = connect().synced()
    follower.has(Kind.NODE, "n1", "n2")
    follower.has(Kind.SERVICE, "a")
    told = {(each.where, each.field, each.partly) for each in follower.rejected}
    assert told == {
        ("Node n2", "status.addresses[0].address", True),
        ("Service default/a", "spec.externalIPs[0]", True),
    }
    api.put(service("a", externalIPs=["198.51.100.9"]))
    follower.until(lambda: len(follower.rejected) == 1, "it to be mended")
    api.remove("Node", "n2")
    follower.until(lambda: not follower.rejected, "the other to go with its Node")
    assert sum(isinstance(event, Mended) for event in follower.events) == 2
    assert all(isinstance(event, Rejected | Mended) or event for event in follower.events)


def test_our_own_resources_stay_whole(api: FakeApiServer, connect: Connect) -> None:
    """Their lists allow and restrict: with an element left out more might be allowed."""
    api.put(configuration(**{"import": {"cidrs": ["10.0.0.0/8"]}}), peer("tor"))
    follower = connect().synced()
    good = follower.state[Kind.BGP_CONFIGURATION, ObjectName("", "default")]
    api.put(configuration(**{"import": {"cidrs": ["10.0.0.0/8", "10.0.0.1/8"]}}))
    follower.until(lambda: follower.rejected, "the refusal")
    (told,) = follower.rejected
    assert told.field == "spec.import.cidrs[1]"
    assert not told.partly
    assert follower.state[Kind.BGP_CONFIGURATION, ObjectName("", "default")] == good
