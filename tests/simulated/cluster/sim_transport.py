"""The way to a simulated API server, as urllib3 would have it: what KubeApi asks and reads of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sim_api import END, RESET, Answer, Request, SimApi, Watch
from sim_faults import REASONS
from threads import Process, sleep
from urllib3.exceptions import (
    ConnectTimeoutError,
    IncompleteRead,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from l3net.shell.kubernetes.transport import Configure, Transport

HOST = "https://10.96.0.1:443"


@dataclass
class Configuration:
    """As much of the client's as KubeApi reads."""

    token: str
    host: str = HOST

    def auth_settings(self) -> Mapping[str, Mapping[str, str]]:
        return {"BearerToken": {"in": "header", "key": "authorization", "value": f"Bearer {self.token}"}}


@dataclass
class Link:
    """A client's way to the API: its name, and the server that its connections lead to."""

    api: SimApi
    process: Process
    server: int = 0
    sent: int = 0

    def configure(self) -> Configure:
        def made(_kubeconfig: Path | None, _context: str | None) -> Transport:
            return Transport(Configuration(f"{self.process.name}-{self.sent}"), Pool(self), None)

        return made


class Pool:
    """As urllib3.PoolManager."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None,
        headers: dict[str, str],
        timeout: Any,
        **_more: object,
    ) -> Response:
        link, process = self._link, self._link.process
        process.check()
        api, faults = link.api, link.api.faults
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        request = Request(process.name, method, target, headers, body)
        api.note(request)
        link.sent += 1
        connect, read = timeout.connect_timeout, timeout.read_timeout
        if faults.lost(process.name):
            sleep(process, connect)
            raise ConnectTimeoutError(self, "no answer")
        takes = faults.answer_takes()
        sleep(process, min(takes, read) / 2)
        if api.threads.loop.time() < faults.refused_until:
            raise NewConnectionError(self, "connection refused")  # type: ignore[arg-type]
        server = api.servers[link.server % len(api.servers)]
        try:
            answer = server.serve(request)
        except Exception as err:  # the model's own, which the client must not take for an answer
            api.threads.errors.append(err)
            raise
        self._come_back(answer, method, takes, read)
        process.check()
        if answer.watch is not None:
            answer.watch.client = process.name
        return Response(process, answer, read, self._broken(answer))

    def _come_back(self, answer: Answer, method: str, takes: float, read: float) -> None:
        """The way of the answer."""
        link, faults = self._link, self._link.api.faults
        process = link.process
        if method != "GET" and faults.share(faults.losing):
            sleep(process, takes / 2)
            raise ProtocolError("Connection aborted.", ConnectionResetError(104, "reset by peer"))
        if takes > read:
            sleep(process, read / 2)
            raise ReadTimeoutError(self, "", "timed out")  # type: ignore[arg-type]
        sleep(process, takes / 2)
        if answer.watch is None and faults.lost(process.name):
            sleep(process, read)
            raise ReadTimeoutError(self, "", "timed out")  # type: ignore[arg-type]

    def _broken(self, answer: Answer) -> str:
        faults = self._link.api.faults
        if answer.watch is None and answer.status < 400:
            if faults.share(faults.torn):
                return "torn"
            if faults.share(faults.proxied):
                return "html"
        return ""


class Response:
    """As urllib3.HTTPResponse."""

    chunked = True

    def __init__(self, process: Process, answer: Answer, timeout: float, broken: str) -> None:
        self.status, self.headers = answer.status, answer.headers
        self.reason = REASONS.get(answer.status, "OK")
        self._process, self._answer, self._timeout, self._broken = process, answer, timeout, broken
        self._shut = False

    def read(self, _amount: int | None = None) -> bytes:
        self._process.check()
        if self._broken == "torn":
            raise ProtocolError("Connection broken", IncompleteRead(10, 20))
        if self._broken == "html":
            return b"<html>Sign in to the network</html>"
        return self._answer.body

    def supports_chunked_reads(self) -> bool:
        return True

    def read_chunked(self, _amount: int) -> Iterator[bytes]:
        watch = self._watch()
        while True:
            self._process.check()
            if self._shut:
                raise ProtocolError("Response ended prematurely")
            while watch.lines:
                line = watch.lines.popleft()
                if line is END:
                    return
                if line is RESET:
                    raise ProtocolError("Connection broken", ConnectionResetError(104, "reset by peer"))
                assert isinstance(line, bytes)
                yield line
                if self._shut:
                    raise ProtocolError("Response ended prematurely")
            watch.readable.clear()
            if not watch.readable.wait(self._timeout):
                raise ReadTimeoutError(None, "", "timed out")  # type: ignore[arg-type]

    def _watch(self) -> Watch:
        assert self._answer.watch is not None
        return self._answer.watch

    def shutdown(self) -> None:
        """What reads it wakes up."""
        self._shut = True
        if self._answer.watch is not None:
            self._answer.watch.readable.set()

    def close(self) -> None:
        self._shut = True
        if self._answer.watch is not None:
            self._answer.watch.close()

    def release_conn(self) -> None: ...

    def drain_conn(self) -> None: ...


def linked(api: SimApi, process: Process, server: int = 0) -> Callable[[Path | None, str | None], Transport]:
    """How a process reaches it; `server`: by which of the two."""
    return Link(api, process, server).configure()
