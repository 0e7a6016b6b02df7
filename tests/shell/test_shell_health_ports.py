"""HTTP answers for load balancers: real sockets, in a namespace of their own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from l3net.errors import KernelError
from l3net.ports import HealthAnswer
from l3net.shell.sockets.healthports import AT_ONCE, HealthListeners

pytestmark = pytest.mark.netns
Ip = Callable[[str], str]


def told(path: str, version: int) -> HealthAnswer | None:
    if path == "/none":
        return None
    return HealthAnswer(
        path != "/ill", {"version": version}, {"X-Weight": "3"}, age=60.0 if path == "/ill" else None
    )


async def ask(address: str, request: str, port: int = 31000) -> tuple[str, dict[str, str], str]:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(request.encode())
    text = (await reader.read()).decode()
    writer.close()
    head, _, body = text.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"


def test_both_families_and_all_addresses(own_netns: Ip) -> None:
    # Of a link without a carrier the kernel may take the route away.
    own_netns("addr add 192.0.2.1/24 dev lo")
    own_netns("addr add 2001:db8::1/128 dev lo")

    async def scenario() -> None:
        ports = HealthListeners()
        await ports.listen(31000, told)
        for address, version in (("127.0.0.1", 4), ("192.0.2.1", 4), ("::1", 6), ("2001:db8::1", 6)):
            status, headers, body = await ask(address, get("/?a=b"))
            assert status == "HTTP/1.1 200 OK" and json.loads(body) == {"version": version}
            assert headers["Content-Type"] == "application/json" and headers["X-Weight"] == "3"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert int(headers["Content-Length"]) == len(body)
        status, _, body = await ask("127.0.0.1", get("/ill"))
        assert status == "HTTP/1.1 503 Service Unavailable"
        then = datetime.fromisoformat(json.loads(body)["lastUpdated"])
        assert 55 < (datetime.now(UTC) - then).total_seconds() < 120
        assert (await ask("::1", get("/none")))[0] == "HTTP/1.1 404 Not Found"
        assert (await ask("::1", "HEAD / HTTP/1.0\r\n\r\n"))[2] == ""
        assert (await ask("::1", "nonsense\r\n\r\n"))[0] == "HTTP/1.1 400 Bad Request"
        ports.close(31000)
        ports.close(31000)
        with pytest.raises(ConnectionRefusedError):
            await ask("127.0.0.1", get("/"))

    asyncio.run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_in_one_family_is_told(own_netns: Ip, address: str) -> None:
    async def scenario() -> None:
        ports = HealthListeners()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 31000), family=family):
            with pytest.raises(KernelError, match="listen on TCP port 31000: EADDRINUSE"):
                await ports.listen(31000, told)
            await ports.listen(31001, told)
        await ports.listen(31000, told)
        assert (await ask(address, get("/")))[0] == "HTTP/1.1 200 OK"

    asyncio.run(scenario())


def test_a_host_without_ipv6(own_netns: Ip, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def none_of_v6(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    async def scenario() -> None:
        ports = HealthListeners()
        with monkeypatch.context() as patched:
            patched.setattr("l3net.shell.sockets.healthports.socket.socket", none_of_v6)
            await ports.listen(31000, told)
        assert json.loads((await ask("127.0.0.1", get("/")))[2]) == {"version": 4}

    asyncio.run(scenario())


def test_who_hangs_keeps_nobody_else_out(own_netns: Ip) -> None:
    async def scenario() -> None:
        ports = HealthListeners()
        await ports.listen(31000, told)
        idle = [await asyncio.open_connection("127.0.0.1", 31000) for _ in range(AT_ONCE + 20)]
        for _, writer in idle:
            writer.write(b"GET")
        assert (await ask("127.0.0.1", get("/")))[0] == "HTTP/1.1 200 OK"
        for _, writer in idle:
            writer.transport.abort()

    asyncio.run(scenario())


def test_files_are_left_for_all_else(own_netns: Ip, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with more such services than files: those beyond are refused, and the agent goes on."""
    limits = [(64, 1024)]
    there = "l3net.shell.sockets.healthports.resource"
    monkeypatch.setattr(f"{there}.getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(f"{there}.setrlimit", lambda _, limit: limits.append(limit))

    async def scenario() -> None:
        ports = HealthListeners()
        assert limits[-1] == (1024, 1024), "the soft limit follows the hard one"
        for number in range(31000, 31512):
            await ports.listen(number, told)
        with pytest.raises(KernelError, match="EMFILE"):
            await ports.listen(31600, told)
        ports.close(31000)
        await ports.listen(31600, told)
        for number in (*range(31000, 31512), 31600):
            ports.close(number)

    asyncio.run(scenario())


def test_a_thousand_services(own_netns: Ip) -> None:
    async def scenario() -> None:
        ports = HealthListeners()
        numbers = range(31000, 31600)
        for number in numbers:
            await ports.listen(number, told)
        assert (await ask("::1", get("/"), 31599))[0] == "HTTP/1.1 200 OK"
        for number in numbers:
            ports.close(number)

    asyncio.run(scenario())
