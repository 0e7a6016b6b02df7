"""Who may read, and what a client may cost."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from typing import Any

import glass_answers as answers
import pytest
from glass_server import Glass, served

from l3net.errors import ConfigError
from l3net.glass.settings import Settings, allowed_host, node_urls, settings, token_of
from l3net.glass.web import Web

TOKEN = "b3c1f0" * 8


@pytest.fixture(scope="module")
def glass() -> Iterator[Glass]:
    with served(answers.answer, Settings((), hosts=frozenset({"glass.example"}))) as there:
        yield there


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:9179", 200),
        ("localhost", 200),
        ("[::1]:9179", 200),
        ("192.0.2.7", 200),
        ("glass.example", 200),
        ("GLASS.example.:443", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost:80.evil", 421),
        ("", 421),
    ],
)
def test_a_name_that_was_bound_to_us_reads_nothing(glass: Glass, host: str, code: int) -> None:
    """DNS rebinding: a browser sends the name of the page that was loaded, wherever it leads now."""
    for path in ("/", "/api/v1/fabric", "/birdwatcher/status"):
        assert glass.ask(path, headers={"Host": host})[0] == code, path


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"]
)
def test_nothing_but_get(glass: Glass, method: str) -> None:
    code, headers, _ = glass.ask("/api/v1/fabric", method)
    assert code == 405
    assert headers["Allow"] == "GET, HEAD"
    assert not any(name.lower().startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    "path",
    [
        "/../settings.py",
        "/%2e%2e/settings.py",
        "/..%2fsettings.py",
        "//etc/passwd",
        "/etc/passwd",
        "/page/index.html",
        "/index.html/",
        "/./index.html%00",
        "/api/v1/../../index.html",
        "/api/v1/nodes/..%2f..%2fetc/status",
    ],
)
def test_no_path_names_a_file(glass: Glass, path: str) -> None:
    code, _, body = glass.ask(path)
    assert code in (400, 404)
    assert b"def " not in body
    assert b"root:" not in body


def test_the_page_runs_nothing_but_its_own_files(glass: Glass) -> None:
    code, headers, body = glass.ask("/")
    assert code == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
    text = body.decode()
    assert "http://" not in text
    assert "https://" not in text
    assert " style=" not in text
    assert " onclick" not in text
    assert "<script>" not in text


def test_another_sites_page_may_not_ask(glass: Glass) -> None:
    for site, code in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert glass.ask("/api/v1/fabric", headers={"Sec-Fetch-Site": site})[0] == code


def test_huge_questions_are_refused(glass: Glass) -> None:
    assert glass.ask("/api/v1/search?q=" + "x" * 600)[0] == 400
    assert glass.ask("/api/v1/search?q=" + "x" * 3000)[0] == 414
    assert glass.ask("/api/v1/search?q=" + "x" * 30000)[0] == 400
    assert glass.ask("/api/v1/fabric", headers={"X-Long": "x" * 30000})[0] == 400
    assert glass.ask("/api/v1/fabric")[0] == 200


def test_who_has_no_token_reads_no_facts() -> None:
    with served(answers.answer, Settings((), TOKEN)) as glass:
        assert glass.ask("/")[0] == 200  # the page's files hold none
        for path in ("/api/v1/fabric", "/api/v1/events", "/birdwatcher/status", "/api/v1/openapi.json"):
            assert glass.ask(path)[0] == 401, path
            for wrong in ("", TOKEN[:-1], TOKEN + "0", "é"):
                headers = {"Authorization": f"Bearer {wrong}".encode().decode("latin-1")}
                assert glass.ask(path, headers=headers)[0] == 401, path
        assert glass.ask("/api/v1/fabric", headers={"Authorization": f"bearer {TOKEN}"})[0] == 200
        assert glass.ask("/api/v1/fabric", headers={"X-L3net-Token": TOKEN})[0] == 200
        assert TOKEN not in repr(Settings((), TOKEN))


def small(web: Web) -> None:
    """With bounds that a test reaches."""
    web.bounds = (8, 0.3)


def test_who_sends_half_a_request_is_closed_and_holds_up_nobody() -> None:
    with served(answers.answer, prepare=small) as glass:
        slow = [socket.create_connection(("127.0.0.1", glass.port)) for _ in range(8)]
        for each in slow:
            each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        # The ninth is closed at once, as all are taken; the eight when their time is over.
        for each in slow:
            each.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1000) == b""
            each.close()
        assert glass.ask("/api/v1/fabric")[0] == 200


def test_who_does_not_read_the_answer_is_closed() -> None:
    rows = [answers.route(f"10.{n >> 8}.{n & 255}.0/24") for n in range(65536)]

    def agent(question: str) -> dict[str, Any]:
        return {"routes": rows} if question == "routes" else answers.answer(question)

    with served(agent, prepare=small) as glass:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", glass.port))
        client.sendall(b"GET /birdwatcher/routes/table/master4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read = client.recv(100)
        assert read.startswith(b"HTTP/1.1 200")
        poller = select.poll()
        poller.register(client, select.POLLHUP | select.POLLERR)
        assert poller.poll(20_000)  # though nothing more was read
        client.close()
        assert glass.ask("/api/v1/fabric")[0] == 200


def test_listeners_are_bounded() -> None:
    from l3net.glass import events

    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(events, "MOST", 3)
        with served(answers.answer) as glass:
            listening = []
            for _ in range(3):
                each = socket.create_connection(("127.0.0.1", glass.port))
                each.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200 OK" in each.recv(2000)
                listening.append(each)
            assert glass.ask("/api/v1/events")[0] == 503
            assert glass.ask("/api/v1/fabric")[0] == 200
            for each in listening:
                each.close()


# --- settings ----------------------------------------------------------------------------------------------


def test_beyond_loopback_only_with_a_token_or_something_in_front() -> None:
    assert settings(["127.0.0.1:9179", "[::1]:9179"], "", ())
    for where in ("0.0.0.0:9179", "[::]:9179", "192.0.2.1:80", "[fd00::1]:80"):
        with pytest.raises(ConfigError, match="--token-file"):
            settings([where], "", ())
        assert settings([where], TOKEN, ())
        assert settings([where], "", (), behind_proxy=True)


@pytest.mark.parametrize(
    "where",
    [
        "9179",
        ":9179",
        "::1:9179",
        "[127.0.0.1]:1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "x:1",
        "[fe80::1%eth0]:1",
    ],
)
def test_wrong_addresses_are_refused(where: str) -> None:
    with pytest.raises(ConfigError, match="--listen"):
        settings([where], TOKEN, ())


def test_tokens() -> None:
    assert token_of(f"{TOKEN}\n", "file") == TOKEN
    for wrong in ("", "short", "x" * 31, "a b" * 20, "é" * 40):
        with pytest.raises(ConfigError) as told:
            token_of(wrong, "file")
        assert len(wrong) < 3 or wrong not in str(told.value)


def test_urls_of_nodes() -> None:
    assert node_urls(["n1=http://192.0.2.1:9179/"]) == {"n1": "http://192.0.2.1:9179"}
    for wrong in (
        "n1",
        "=http://x",
        "n1=ftp://x",
        "n1=http://",
        "n/1=http://x",
        "n1=http://u:p@x",
        "n1=http://x?q",
    ):
        with pytest.raises(ConfigError, match="--node-url"):
            node_urls([wrong])
    with pytest.raises(ConfigError, match="twice"):
        node_urls(["n1=http://a", "n1=http://b"])


def test_hosts() -> None:
    assert allowed_host("[::1]", frozenset())
    assert not allowed_host("[::1]x", frozenset())
    assert not allowed_host("example", frozenset())
