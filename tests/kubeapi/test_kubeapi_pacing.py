"""Whatever a watch says, the API server is asked ever more seldom, and what is known stays in force."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from apiserver import Call, FakeApiServer, StatusError, _encode, _line
from kube_follower import Follower, endpoints, service

from l3net.model import Kind

Connect = Callable[..., Follower]
WATCHED = 14
#: At MOST lists of a kind within SECONDS, as the waits begin at 0.05 to 0.1 s and double.
BACKOFF, SECONDS, MOST = (0.1, 10.0), 1.5, 8

GONE = _line("ERROR", _encode(StatusError(410, "Expired", "too old").document()))
BEHIND = b'{"type":"BOOKMARK","object":{"kind":"X","metadata":{"resourceVersion":"5"}}}\n'
AHEAD = BEHIND.replace(b'"5"', b'"99999"')
MEBI = b"x" * (1 << 20)

LINES = {
    "gone": [GONE],
    "no JSON": [b"<html>Bad Gateway</html>\n"],
    "half a line": [b'{"type":"ADD'],
    "a line without end": [MEBI] * 40,
    "a line of one chunk": [MEBI * 40],
    "a bookmark from behind": [BEHIND],
    "a bookmark, then no JSON": [AHEAD, b"\x00\n"],
}


def lists(api: FakeApiServer) -> int:
    return sum(count for call, count in api.calls.copy().items() if call.verb == "list")


@pytest.mark.parametrize("said", LINES)
def test_a_watch_that_is_of_no_use_makes_no_storm(
    api: FakeApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """With each list that succeeded the waits began anew: up to 1,300 lists of everything a second."""
    api.put(service("a"), endpoints("a", "10.244.1.5"))
    follower = connect(backoff=BACKOFF).synced()
    follower.until(lambda: api.watching == WATCHED, "every watch")

    def watch(*_: object) -> Iterator[bytes]:
        return iter(LINES[said])

    mark, before = follower.mark(), lists(api)
    with monkeypatch.context() as patched:
        patched.setattr(api, "watch", watch)
        api.cut()
        time.sleep(SECONDS)
        asked = lists(api) - before
        api.put(service("b", "10.96.0.2"))
        follower.has(Kind.SERVICE, "a", "b")
    assert 0 < asked <= WATCHED * MOST
    assert not [event for event in follower.since(mark) if getattr(event, "fact", event) is None]

    def watching() -> bool:
        api.bookmark()  # the server sees only as it writes that a watch was left in favour of a list
        return api.watching == WATCHED

    follower.until(watching, "every watch again")
    follower.until(lambda: api.bookmark() or not follower.rejected, "all well")  # type: ignore[func-returns-value]


def test_what_is_wrong_with_watches_is_said_although_lists_succeed(
    api: FakeApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = connect().synced()
    follower.until(lambda: api.watching == WATCHED, "every watch")
    before = api.calls[Call("list", "", "services")]
    monkeypatch.setattr(api, "watch", lambda *_: iter([b"<html>\n"]))
    api.cut()
    follower.until(lambda: any("unreadable" in str(each) for each in follower.rejected), "the reason")
    mark = follower.mark()
    follower.until(lambda: api.calls[Call("list", "", "services")] > before + 6, "more lists")
    assert not follower.since(mark) or all("watch" in str(each) for each in follower.since(mark))
    assert follower.rejected, "said for as long as it is so"


def test_one_gone_after_a_while_is_answered_at_once(api: FakeApiServer, connect: Connect) -> None:
    """The waits are for watches that fail again and again."""
    follower = connect(backoff=(3.0, 3.0)).synced()
    follower.until(lambda: api.watching == WATCHED, "every watch")
    for reflector in follower._datastore._feeds._by_kind.values():  # type: ignore[union-attr]
        reflector._fresh._listed_at -= 100
    began = time.monotonic()
    api.gone_as_http = True
    api.compact()
    api.cut()
    api.put(service("late"))
    follower.has(Kind.SERVICE, "late")
    assert time.monotonic() - began < 10
