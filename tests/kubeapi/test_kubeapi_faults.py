"""Whatever happens to the connections and the history, the datastore ends with what the API server holds."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from apiserver import FakeApiServer
from kube_follower import Follower, configuration, endpoints, node, peer, service

from l3net.kube.translate import translate
from l3net.model import Fact, Kind, ObjectName
from l3net.ports import Changed

Connect = Callable[..., Follower]
KINDS = ("Node", "Service", "EndpointSlice", "BGPPeer", "BGPConfiguration")


def held(api: FakeApiServer) -> dict[tuple[Kind, ObjectName], Fact]:
    """What the API server holds, as facts."""
    found: dict[tuple[Kind, ObjectName], Fact] = {}
    for kind in KINDS:
        for document in api.objects(kind):
            translated = translate({**document, "status": document.get("status", {})})
            assert translated is not None
            found[translated[0], translated[1]] = translated[2]
    return found


def happen(api: FakeApiServer, chance: random.Random) -> None:
    """One thing that users, networks and API servers do."""
    number = chance.randrange(4)
    match chance.randrange(12):
        case 0 | 1 | 2:
            api.put(service(f"s{number}", f"10.96.0.{chance.randrange(1, 250)}"))
        case 3 | 4 | 5:
            api.put(endpoints(f"s{number}", *(f"10.244.1.{chance.randrange(5, 250)}" for _ in range(2))))
        case 6:
            for kind, name in (("Service", f"s{number}"), ("EndpointSlice", f"s{number}-abc")):
                if chance.random() < 0.5 and api.get(kind, name):
                    api.remove(kind, name)
        case 7:
            wrong = {"gtsm": True, "multihop": 3} if chance.random() < 0.4 else {}
            api.put(peer(f"p{number}", asNumber=chance.randrange(1, 9), **wrong))
        case 8:
            api.cut()
        case 9:
            api.compact()
        case 10:
            api.bookmark()
        case 11:
            api.stop()
            if chance.random() < 0.5:
                api.compact()
            if chance.random() < 0.5 and api.get("Service", f"s{number}"):
                api.remove("Service", f"s{number}")
            api.start()


@pytest.mark.parametrize("gone_as_http", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_it_ends_with_what_is_there(
    api: FakeApiServer, connect: Connect, seed: int, gone_as_http: bool
) -> None:
    chance = random.Random(seed)
    api.gone_as_http = gone_as_http
    api.put(node("n2", "10.0.0.2"), configuration())
    follower = connect()
    for _ in range(60):
        happen(api, chance)
    for number in range(4):  # what is wrong is put right, or the last good version would be what holds
        api.put(peer(f"p{number}", asNumber=number + 1))
    follower.synced()
    wanted = held(api)
    follower.until(lambda: follower.state == wanted, "the state of the API server")
    follower.until(lambda: not follower.rejected, "everything to be mended")
    assert follower.in_sync == 1

    # Everything listed once more: not one event.
    mark = follower.mark()
    api.compact()
    api.cut()
    api.put(service("last", "10.96.1.1"))
    follower.until(lambda: "last" in follower.names(Kind.SERVICE), "the last")
    changes = [event for event in follower.since(mark) if isinstance(event, Changed)]
    assert [event.name.name for event in changes] == ["last"]
