"""Whether kube-proxy is there: by its answers, and by its tables."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from l3net.ports import HealthAnswer
from l3net.shell.files.proxyfile import FILE, ProxyFile, ProxyFileError
from l3net.shell.kernel.kubeproxytables import kube_proxy_tables
from l3net.shell.sockets.healthports import HealthListeners
from l3net.shell.sockets.kubeproxy import kube_proxy_answers

Ip = Callable[[str], str]


async def asked(port: int, answer: bytes, address: str = "127.0.0.1", *, health_is_ours: bool = False) -> str:
    """What is made of a server there that says this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        if answer:
            await writer.drain()
            writer.close()
        else:
            await asyncio.sleep(30)

    server = await asyncio.start_server(serve, address, port)
    try:
        return await kube_proxy_answers(health_is_ours=health_is_ours)
    finally:
        server.close()


OK = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"
HEALTH = b'HTTP/1.1 503 x\r\n\r\n{"lastUpdated": "x","currentTime": "y", "nodeEligible": true}'


@pytest.mark.netns
@pytest.mark.parametrize(
    ("port", "answer", "found"),
    [
        (10249, OK + b"iptables", "iptables"),
        (10249, OK + b"nftables\n", "nftables"),
        (10249, b"HTTP/1.1 404 Not Found\r\n\r\nnftables", ""),
        (10249, OK + b"<html>hello</html>", ""),
        (10249, OK, ""),
        (10249, b"SSH-2.0-x\r\n", ""),
        (10249, OK + b"x" * 100_000, ""),
        (10249, b"", ""),  # hangs
        (10256, HEALTH, "port 10256"),
        (10256, OK + b"ok", ""),
    ],
)
def test_who_answers(own_netns: Ip, port: int, answer: bytes, found: str) -> None:
    async def scenario() -> None:
        assert await kube_proxy_answers() == "", "nobody"
        assert await asked(port, answer) == found
        if found:
            assert await asked(port, answer, "::1") == found

    asyncio.run(scenario())


@pytest.mark.netns
def test_our_own_answers_are_not_taken_for_kube_proxys(own_netns: Ip) -> None:
    async def scenario() -> None:
        ports = HealthListeners()
        taken = 0

        def answer(*_: object) -> HealthAnswer:
            nonlocal taken
            taken += 1
            return HealthAnswer(True, age=0.0)

        await ports.listen(10256, answer)
        assert await kube_proxy_answers() == ""
        assert taken, "the control: it was asked"
        assert ports.holds(10256)
        taken = 0
        assert await kube_proxy_answers(health_is_ours=True) == ""
        assert not taken
        assert await asked(10249, OK + b"iptables", health_is_ours=True) == "iptables"

    asyncio.run(scenario())


@pytest.mark.netns
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("table ip kube-proxy { }", "table ip kube-proxy"),
        ("table ip6 kube-proxy { }", "table ip6 kube-proxy"),
        ("add table ip nat; add chain ip nat KUBE-SERVICES", "chain KUBE-SERVICES of table ip nat"),
        ("add table ip6 nat; add chain ip6 nat KUBE-SERVICES", "chain KUBE-SERVICES of table ip6 nat"),
        ("add table ip nat; add chain ip nat PREROUTING", ""),
        ("add table inet kube-proxy; add table ip kube-proxy-2", ""),
    ],
)
def test_its_tables(own_netns: Ip, text: str, found: str) -> None:
    assert kube_proxy_tables() == ""
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)
    assert kube_proxy_tables() == found


def test_what_the_last_agent_of_this_boot_did(tmp_path: Path) -> None:
    memory = ProxyFile(tmp_path)
    assert memory.read() is None
    for on in (True, False):
        memory.write(on)
        assert ProxyFile(tmp_path).read() is on
    written = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**written, "boot": "another"}))
    assert memory.read() is None
    for text in ("", "{", "[]", '{"on": true}', "x" * 10_000):
        (tmp_path / FILE).write_text(text)
        assert memory.read() is None
    with pytest.raises(ProxyFileError, match="No such file"):
        ProxyFile(tmp_path / "none").write(True)
    assert [each.name for each in tmp_path.iterdir()] == [FILE]
