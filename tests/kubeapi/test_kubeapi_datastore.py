"""What the Kubernetes datastore promises: complete before InSync, no churn, last good, nothing lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from apiserver import Call, FakeApiServer
from kube_follower import Follower, configuration, endpoints, node, own, peer, secret, service

from l3net.errors import ConfigError
from l3net.model import Kind, ObjectName, Secret
from l3net.ports import Changed, InSync, Mended, Rejected
from l3net.shell.kubernetes.api import KubeApi

Connect = Callable[..., Follower]
SERVICE_A = ObjectName("default", "a")

#: All that an agent watches but Secrets: nine kinds, Nodes and Pods.
KINDS_WATCHED = 14


def test_everything_comes_before_in_sync(api: FakeApiServer, connect: Connect) -> None:
    api.put(*(service(f"s{number}", f"10.96.{number // 250}.{number % 250 + 1}") for number in range(1200)))
    api.put(*(endpoints(f"s{number}", "10.244.1.5") for number in range(1200)))
    follower = connect().synced()
    before = follower.events[: follower.events.index(InSync())]
    changed = [event for event in before if isinstance(event, Changed)]
    assert sum(event.kind is Kind.SERVICE for event in changed) == 1200
    assert sum(event.kind is Kind.ENDPOINT_SLICE for event in changed) == 1200
    assert follower.names(Kind.NODE) == {"n1"}
    assert api.calls[Call("list", "", "services")] == 3, "pages of 500"


def test_not_in_sync_while_one_kind_is_missing(api: FakeApiServer, connect: Connect) -> None:
    api.refuse(403, "Forbidden", resource="ippools")
    follower = connect()
    follower.until(lambda: follower.rejected, "the refusal to be told")
    follower.has(Kind.NODE, "n1")
    assert "ippools" in str(next(iter(follower.rejected)))
    assert follower.in_sync == 0
    api.allow()
    follower.synced()
    follower.until(lambda: not follower.rejected, "the refusal to be over")


def test_missing_crds_are_named(api: FakeApiServer, connect: Connect) -> None:
    api.refuse(404, "NotFound", resource="bgpfilters")
    follower = connect()
    follower.until(lambda: follower.rejected, "the problem")
    assert "apply l3net's CRDs" in str(next(iter(follower.rejected)))


def test_changes_arrive(api: FakeApiServer, connect: Connect) -> None:
    follower = connect().synced()
    api.put(service("a"), endpoints("a", "10.244.1.5"))
    follower.has(Kind.SERVICE, "a")
    follower.has(Kind.ENDPOINT_SLICE, "a-abc")
    api.remove("EndpointSlice", "a-abc", "default")
    follower.has(Kind.ENDPOINT_SLICE)


def test_heartbeats_are_no_change(api: FakeApiServer, connect: Connect) -> None:
    follower = connect().synced()
    mark = follower.mark()
    for _ in range(5):
        api.touch("Node", "n1")
    api.put(node("n1", "10.0.0.2"))  # the control: this one is
    follower.until(lambda: follower.since(mark), "the change")
    assert len(follower.since(mark)) == 1


def test_relist_after_gone_brings_only_differences(api: FakeApiServer, connect: Connect) -> None:
    api.put(service("a"), service("b", "10.96.0.2"), service("c", "10.96.0.3"))
    follower = connect().synced()
    mark = follower.mark()
    api.stop()
    api.remove("Service", "b", "default")
    api.put(service("c", "10.96.0.4"), service("d", "10.96.0.5"))
    api.compact()
    api.start()
    follower.has(Kind.SERVICE, "a", "c", "d")
    changed = {event.name.name for event in follower.since(mark) if isinstance(event, Changed)}
    assert changed == {"b", "c", "d"}


@pytest.mark.parametrize("as_http", [False, True], ids=["event", "status"])
def test_gone_is_listed_again(api: FakeApiServer, connect: Connect, as_http: bool) -> None:
    api.gone_as_http = as_http
    follower = connect().synced()
    lists = api.calls[Call("list", "", "services")]
    api.compact()
    api.cut()
    api.put(service("a"))
    follower.has(Kind.SERVICE, "a")
    assert api.calls[Call("list", "", "services")] > lists
    assert not follower.rejected


def test_a_broken_watch_is_resumed_without_a_list(api: FakeApiServer, connect: Connect) -> None:
    follower = connect().synced()
    lists = whole_lists(api)
    for number in range(3):
        api.cut()
        api.put(service(f"s{number}"))
        follower.until(lambda number=number: f"s{number}" in follower.names(Kind.SERVICE), "the change")
    assert whole_lists(api) == lists


def whole_lists(api: FakeApiServer) -> int:
    """Lists but those of one object, which ask for the version."""
    return sum(1 for _, path in list(api.requests) if "limit=500" in path)


def test_bookmarks_spare_the_list(api: FakeApiServer, connect: Connect) -> None:
    """The kind that never changes would be too old after a compaction, but for its bookmark."""
    follower = connect().synced()
    # A watch that opened after what follows would be too old itself, and list.
    follower.until(lambda: api._watching == KINDS_WATCHED, "every watch to be open")
    api.put(service("a"))
    follower.has(Kind.SERVICE, "a")
    api._oldest = api._version  # what came before is forgotten, what comes now is not
    lists = whole_lists(api)
    watches = api.calls[Call("watch", "", "namespaces")]
    sent = api.bookmarks_sent
    api.bookmark()
    # What a connection took before it is cut, its reader gets before the end.
    follower.until(lambda: api.bookmarks_sent >= sent + KINDS_WATCHED, "a bookmark on every watch")
    api.cut()
    follower.until(lambda: api.calls[Call("watch", "", "namespaces")] > watches, "the watch to be resumed")
    api.put(service("b", "10.96.0.2"))
    follower.has(Kind.SERVICE, "a", "b")
    assert whole_lists(api) == lists


def test_server_away_changes_nothing_and_does_not_spin(api: FakeApiServer, connect: Connect) -> None:
    api.put(service("a"))
    follower = connect(backoff=(0.05, 0.4)).synced()
    mark = follower.mark()
    api.stop()
    follower.until(lambda: follower.rejected, "the outage to be told")
    spent = time.process_time()
    time.sleep(1.5)
    assert time.process_time() - spent < 0.75, "busy while there is nothing to do"
    assert not [event for event in follower.since(mark) if isinstance(event, Changed)]
    (told,) = follower.rejected
    assert "stays in force" in str(told)
    api.start()
    api.put(service("b", "10.96.0.2"))
    follower.has(Kind.SERVICE, "a", "b")
    follower.until(lambda: not follower.rejected, "the outage to be over")


def test_attempts_grow_rare(api: FakeApiServer, connect: Connect) -> None:
    api.refuse(500, resource="services")
    follower = connect(backoff=(0.05, 30.0))
    follower.until(lambda: follower.rejected, "the problem")
    time.sleep(2)
    attempts = sum(1 for _, path in api.requests if "/services" in path)
    assert attempts <= 8, "0.05 doubled each time, its upper half: at most 7 in two seconds"


def test_retry_after_is_heeded(api: FakeApiServer, connect: Connect) -> None:
    api.refuse(429, "TooManyRequests", resource="services", times=1, headers={"Retry-After": "1"})
    began = time.monotonic()
    connect().synced()
    assert time.monotonic() - began >= 1


def test_silent_host_is_noticed(
    api: FakeApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l3net.shell.kubernetes.api.WATCH_TIMEOUT", 0.3)
    follower = connect().synced()
    api.freeze()
    follower.until(lambda: api.watching, "watches")
    time.sleep(0.5)
    api.thaw()
    api.put(service("a"))
    follower.has(Kind.SERVICE, "a")


# --- nodes -----------------------------------------------------------------------------------------------


def test_mesh_needs_every_node(api: FakeApiServer, connect: Connect) -> None:
    api.put(node("n2", "10.0.0.2"))
    connect().synced().has(Kind.NODE, "n1", "n2")


def test_without_mesh_only_our_node_is_watched(api: FakeApiServer, connect: Connect) -> None:
    api.put(node("n2", "10.0.0.2"), configuration(nodeToNodeMesh=False), peer("tor"))
    follower = connect().synced()
    assert follower.names(Kind.NODE) == {"n1"}
    nodes = [path for _, path in api.requests if "/nodes" in path]
    assert nodes
    assert all("fieldSelector=metadata.name%3Dn1" in path for path in nodes)
    mark = follower.mark()
    api.put(node("n2", "10.0.0.3"))
    api.put(node("n1", "10.0.0.4"))
    follower.until(lambda: follower.since(mark), "our node's change")
    assert [event.name.name for event in follower.since(mark) if isinstance(event, Changed)] == ["n1"]


def test_scope_follows_the_configuration(api: FakeApiServer, connect: Connect) -> None:
    api.put(node("n2", "10.0.0.2"))
    follower = connect().synced()
    follower.has(Kind.NODE, "n1", "n2")
    api.put(configuration(nodeToNodeMesh=False))
    follower.has(Kind.NODE, "n1")
    api.put(peer("reflectors", address=None, asNumber=None, peerSelector={"matchLabels": {"rr": "yes"}}))
    follower.has(Kind.NODE, "n1", "n2")
    api.remove("BGPPeer", "reflectors")
    follower.has(Kind.NODE, "n1")
    api.put(node("n1", "10.0.0.1", **{"node.kubernetes.io/exclude-from-external-load-balancers": ""}))
    follower.has(Kind.NODE, "n1", "n2")
    api.put(node("n1", "10.0.0.1"))
    follower.has(Kind.NODE, "n1")
    cordoned = node("n1", "10.0.0.1")
    cordoned["spec"]["unschedulable"] = True
    api.put(cordoned)  # whether another node serves what it is to withdraw
    follower.has(Kind.NODE, "n1", "n2")
    assert follower.in_sync == 1


# --- secrets ---------------------------------------------------------------------------------------------


def password(name: str = "bgp") -> dict[str, object]:
    return {"secretKeyRef": {"name": name, "key": "password"}}


def test_only_named_secrets_are_read(api: FakeApiServer, connect: Connect) -> None:
    api.put(secret("bgp", "canary-one"), secret("other", "not ours"), peer("tor", password=password()))
    follower = connect().synced()
    found = follower.state[Kind.SECRET, ObjectName("kube-system", "bgp")]
    assert isinstance(found, Secret)
    assert found.values == {"password": b"canary-one"}
    assert follower.names(Kind.SECRET) == {"bgp"}

    def verbs() -> set[str]:
        return {call.verb for call in list(api.calls) if call.resource == "secrets"}

    follower.until(lambda: len(verbs()) > 1, "the watch, which begins after the secret is known")
    assert verbs() == {"get", "watch"}
    assert all("bgp" in path for _, path in api.requests if "secrets" in path)


def test_secret_rotates_vanishes_and_returns(api: FakeApiServer, connect: Connect) -> None:
    api.put(peer("tor", password=password()))
    follower = connect().synced()
    name = Kind.SECRET, ObjectName("kube-system", "bgp")
    assert name not in follower.state

    def value() -> object:
        found = follower.state.get(name)
        return found.values["password"] if isinstance(found, Secret) else None

    api.put(secret("bgp", "one"))
    follower.until(lambda: value() == b"one", "the secret")
    api.put(secret("bgp", "two"))
    follower.until(lambda: value() == b"two", "the new password")
    api.remove("Secret", "bgp", "kube-system")
    follower.until(lambda: value() is None, "the secret to be gone")
    api.put(secret("bgp", "three"))
    follower.until(lambda: value() == b"three", "the secret to be back")
    api.remove("BGPPeer", "tor")
    follower.until(lambda: value() is None, "the secret nobody names any more")
    assert "three" not in repr(follower.events)


def test_forbidden_secret_holds_up_nothing_else(api: FakeApiServer, connect: Connect) -> None:
    api.put(secret("bgp", "one"), peer("tor", password=password()))
    api.refuse(403, "Forbidden", resource="secrets")
    follower = connect().synced()
    follower.until(lambda: "secrets" in str(follower.rejected), "the refusal")
    assert follower.names(Kind.SECRET) == set()


def test_secrets_of_bfd_are_read_too(api: FakeApiServer, connect: Connect) -> None:
    def bfd(name: str) -> dict[str, object]:
        return {"authentication": {"type": "KeyedSHA1", "secretKeyRef": {"name": name, "key": "k"}}}

    api.put(secret("one", "1"), secret("two", "2"), secret("none", "3"), secret("password", "4"))
    api.put(peer("tor", bfd=bfd("one")))
    follower = connect().synced()
    assert follower.names(Kind.SECRET) == {"one"}
    api.put(peer("tor", bfd=bfd("two"), password=password("password")))
    follower.has(Kind.SECRET, "two", "password")


def test_secret_name_cannot_leave_its_place(api: FakeApiServer, connect: Connect) -> None:
    api.put(peer("tor", password=password("..")), secret("x", "y"))
    connect().synced()
    assert not [path for _, path in api.requests if "secrets" in path]


# --- bad input -------------------------------------------------------------------------------------------


def test_last_good_version_stays(api: FakeApiServer, connect: Connect) -> None:
    api.put(peer("tor"))
    follower = connect().synced()
    good = follower.state[Kind.BGP_PEER, ObjectName("", "tor")]
    api.put(peer("tor", gtsm=True, multihop=3))
    follower.until(lambda: follower.rejected, "the refusal")
    (rejected,) = follower.rejected
    assert (rejected.where, rejected.field) == ("BGPPeer tor", "spec.gtsm")
    assert follower.state[Kind.BGP_PEER, ObjectName("", "tor")] == good
    api.put(peer("tor", gtsm=True))
    follower.until(lambda: not follower.rejected, "it to be mended")
    assert follower.state[Kind.BGP_PEER, ObjectName("", "tor")] != good
    api.put(peer("tor", gtsm=True, multihop=3))
    follower.until(lambda: follower.rejected, "the refusal")
    api.remove("BGPPeer", "tor")
    follower.until(lambda: not follower.rejected, "the deletion to end it")
    assert follower.names(Kind.BGP_PEER) == set()


def test_one_monster_does_not_stop_the_rest(api: FakeApiServer, connect: Connect) -> None:
    """Objects that do not have the shape of their kind: in a list, and in a watch."""
    api.put(service("a"), service("b", ports={"port": 80}), service("c", "10.96.0.3"))
    follower = connect().synced()
    assert follower.names(Kind.SERVICE) == {"a", "c"}
    assert "Service default/b: spec.ports" in str(next(iter(follower.rejected)))
    api.put(service("d", ports="none"), service("e", "10.96.0.5"))
    follower.has(Kind.SERVICE, "a", "c", "e")
    api.put(service("d"), service("b"))
    follower.has(Kind.SERVICE, "a", "b", "c", "d", "e")
    follower.until(lambda: not follower.rejected, "both to be mended")


# --- access ----------------------------------------------------------------------------------------------


def test_token_rotation(api: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l3net.shell.kubernetes.api.RELOAD_EVERY", 0.0)
    api.tokens = {"first"}
    token = tmp_path / "token"
    token.write_text("first")
    client = KubeApi(api.kubeconfig(tmp_path / "kubeconfig", token_file=token))
    client.get("/api/v1/nodes")
    api.tokens = {"second"}
    token.write_text("second")
    client.get("/api/v1/nodes")


def test_no_configuration_teaches(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--kubeconfig"):
        KubeApi(tmp_path / "missing")
    with pytest.raises(ConfigError, match="--kubeconfig"):
        KubeApi()


def test_rejections_never_quote_a_token(api: FakeApiServer, connect: Connect) -> None:
    api.tokens = {"right"}
    follower = connect("canary-token")
    follower.until(lambda: follower.rejected, "the refusal")
    assert "not accepted" in str(follower.rejected)
    assert "canary" not in repr(follower.events)


def test_events_pair_up(api: FakeApiServer, connect: Connect) -> None:
    """Whatever order things happen in, a Mended follows its Rejected and nothing is left over."""
    follower = connect().synced()
    for number in range(20):
        api.put(peer("tor", gtsm=True, multihop=3) if number % 2 else peer("tor"))
    api.put(own("BGPPeer", "last", address="10.0.0.8", asNumber=1))
    follower.until(lambda: "last" in follower.names(Kind.BGP_PEER), "the last")
    open_now: set[Rejected] = set()
    for event in follower.since(0):
        if isinstance(event, Rejected):
            assert event not in open_now
            open_now.add(event)
        elif isinstance(event, Mended):
            assert event.rejected in open_now
            open_now.discard(event.rejected)
    assert len(open_now) == 1
