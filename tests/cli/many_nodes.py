"""Looking glasses of as many nodes as a test wants, behind one real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: Node and question -> what its agent says; None: nobody answers; an integer: that status of HTTP.
Answer = Callable[[str, str], dict[str, Any] | int | None]


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    answer: Answer
    headers: list[dict[str, str]]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        node = split.path.split("/")[1]
        self.server.headers.append(dict(self.headers.items()))
        found = self.server.answer(node, parse_qs(split.query)["question"][0])
        if found is None:
            return  # closed without a word
        status, value = (200, found) if isinstance(found, dict) else (found, {"error": f"status {found}"})
        if "error" in value and status == 200:
            status = 400
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Nodes:
    """`words` are the options that lead there."""

    def __init__(self, server: _Server, names: list[str]) -> None:
        self.headers, self._server = server.headers, server
        where = f"http://127.0.0.1:{server.server_port}"
        self.words = [word for name in names for word in ("--node-url", f"{name}={where}/{name}")]


@contextmanager
def serving(names: list[str], answer: Answer) -> Iterator[Nodes]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.answer, server.headers = answer, []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Nodes(server, names)
        finally:
            server.shutdown()
            thread.join()
