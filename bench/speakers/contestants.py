"""The speakers compared: l3net, BIRD, GoBGP, FRR, each told what to announce in the quickest way it has."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from speakers.place import FAR, FAR_AS, NEAR, NEAR_AS, SINGLE, Frr, Place, prefixes, until

PYTHON = [sys.executable, "-m", "l3net.cli.main"]


class Ours:
    """Agent and speaker. A burst is a filter on export that opens, or closes, over the same session."""

    name = "l3net"
    base = 2  # its block, and the single prefix
    words: ClassVar[dict[str, str]] = {
        "agent": "agent",
        "supervisor": "speaker",
        "exabgp": "l3net.shell.speaker.exabgp",
        "relay": "relay.py",
    }

    def __init__(self, place: Place) -> None:
        self.place = place
        self.manifests = place.near.directory / "manifests"

    def start(self, burst: int = 0, *, peers: Iterable[str] = (FAR,), serving: bool = True) -> None:
        self.manifests.mkdir()
        own = {
            "advertise": {
                "clusterIPs": {"enabled": False},
                "externalIPs": {"enabled": serving, "cidrs": ["100.64.0.0/10", "203.0.113.0/24"]}
                if serving
                else {"enabled": False},
            }
        }
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "near"},
            "spec": {"podCIDRs": ["10.244.1.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": NEAR}]},
        }
        spec = {"asNumber": NEAR_AS, "nodeToNodeMesh": False, "import": {"cidrs": ["0.0.0.0/0"]}, **own}
        self._declare("node", node, _ours("BGPConfiguration", "default", spec))
        self._gate(False)
        if serving:
            self._declare("burst", *_service("burst", "10.96.0.10", prefixes(burst)))
            self._declare("single", *_service("single", "10.96.0.11", [SINGLE])[:1])
            self._ready("burst", True)
            self._ready("single", True)
        self.peers(peers)
        self.place.near.spawn("speaker", [*PYTHON, "speaker"])
        datastore = ["--datastore", f"dir:{self.manifests}", "--node-name", "near"]
        self.place.near.spawn("agent", [*PYTHON, "agent", *datastore, "--log-level", "warning"])

    def peers(self, addresses: Iterable[str]) -> float:
        made = [
            _ours("BGPPeer", f"far-{number}", {"address": address, "asNumber": FAR_AS, "filters": ["gate"]})
            for number, address in enumerate(addresses)
        ]
        return self._declare("peers", *made)

    def burst(self, on: bool) -> float:
        return self._gate(on)

    def single(self, on: bool) -> float:
        return self._ready("single", on)

    def stop(self) -> None:
        for name in ("agent", "speaker"):
            self.place.near.kill(name)

    def _gate(self, is_open: bool) -> float:
        rules = [] if is_open else [{"action": "Reject", "cidr": "100.64.0.0/10"}]
        return self._declare("gate", _ours("BGPFilter", "gate", {"export": rules}))

    def _ready(self, name: str, ready: bool) -> float:
        return self._declare(f"{name}-slice", _slice(name, ready))

    def _declare(self, name: str, *documents: dict[str, Any]) -> float:
        """The moment before the file is in place."""
        for number, document in enumerate(documents):
            target = self.manifests / f"{name}-{number}.json"
            temporary = target.with_suffix(".tmp")
            temporary.write_text(json.dumps(document))
            at = time.monotonic()
            temporary.rename(target)
        return at if documents else time.monotonic()


def _ours(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "l3net.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _slice(name: str, ready: bool) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.9"], "conditions": {"ready": ready}}],
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
    }


def _service(name: str, cluster_ip: str, external: list[str]) -> list[dict[str, Any]]:
    spec = {
        "type": "ClusterIP",
        "clusterIP": cluster_ip,
        "clusterIPs": [cluster_ip],
        "externalIPs": external,
        "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": spec,
        }
    ]


class ExaBgpAlone:
    """ExaBGP behind its relay, with this process in the agent's place: what the agent adds is the rest."""

    name = "ExaBGP alone"

    def __init__(self, place: Place, window: int = 2) -> None:
        self.window = window
        self._socket = socket.socket(socket.AF_UNIX)
        self._path = f"/proc/{place.near.pid}/root/run/l3net/speaker.sock"
        self._file = self._socket.makefile("rb")
        self._sent = threading.Lock()

    def connect(self) -> None:
        self._socket.connect(self._path)

    def _say(self, lines: list[str]) -> float:
        at = time.monotonic()
        waiting = 0
        for line in [*lines, *[""] * self.window]:
            if line:
                self._socket.sendall(line.encode() + b"\n")
                waiting += 1
            while waiting >= self.window or (not line and waiting):
                if self._file.readline().strip() in (b"done", b"error"):
                    waiting -= 1
        return at

    def single(self, on: bool) -> float:
        return self._say([_line(on, [SINGLE])])

    def burst(self, on: bool, number: int = 10_000) -> float:
        every = prefixes(number)
        return self._say([_line(on, every[at : at + 100]) for at in range(0, number, 100)])


def _line(on: bool, addresses: list[str]) -> str:
    nlri = " ".join(f"{address}/32" for address in addresses)
    verb = f"announce attributes next-hop {NEAR} origin igp" if on else "withdraw attributes next-hop 0.0.0.0"
    return f"neighbor {FAR} {verb} nlri {nlri}"


class Bird:
    """Told by its control socket. A burst is a static protocol that is enabled."""

    name = "BIRD"
    base = 1  # the single prefix
    words: ClassVar[dict[str, str]] = {"bird": "bird"}

    def __init__(self, place: Place) -> None:
        self.place = place
        self._socket = socket.socket(socket.AF_UNIX)
        self._peers = ""

    def start(self, burst: int = 0, *, peers: Iterable[str] = (FAR,), serving: bool = True) -> None:
        del serving
        routes = "\n".join(f"  route {address}/32 blackhole;" for address in prefixes(burst))
        self._common = (
            f"log stderr all;\nrouter id {NEAR};\nprotocol device {{ }}\n"
            "protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }\n"
            f"protocol static single {{ ipv4;\n  route {SINGLE}/32 blackhole;\n}}\n"
            f"protocol static burst {{ disabled; ipv4;\n{routes}\n}}\n"
        )
        self._write(peers)
        config = self.place.near.directory / "bird.conf"
        self.place.near.spawn("bird", ["bird", "-f", "-c", str(config)])
        path = Path(f"/proc/{self.place.near.pid}/root/run/bird/bird.ctl")
        until(path.exists, "bird")
        self._socket.connect(str(path))
        self._answer()

    def _write(self, peers: Iterable[str]) -> None:
        sessions = "".join(
            f"protocol bgp far{number} {{ local {NEAR} as {NEAR_AS}; neighbor {address} as {FAR_AS};\n"
            "  direct; connect delay time 1; connect retry time 1; error wait time 1, 2;\n"
            "  ipv4 { import all; export where source = RTS_STATIC; next hop self; };\n}\n"
            for number, address in enumerate(peers)
        )
        (self.place.near.directory / "bird.conf").write_text(self._common + sessions)

    def peers(self, addresses: Iterable[str]) -> float:
        self._write(addresses)
        return self._say("configure")

    def burst(self, on: bool) -> float:
        return self._say(f"{'enable' if on else 'disable'} burst")

    def single(self, on: bool) -> float:
        return self._say(f"{'enable' if on else 'disable'} single")

    def stop(self) -> None:
        self.place.near.kill("bird")

    def _say(self, command: str) -> float:
        at = time.monotonic()
        self._socket.sendall(command.encode() + b"\n")
        self._answer()
        return at

    def _answer(self) -> None:
        """A line of four digits and a space ends it."""
        text = b""
        while not (text.endswith(b"\n") and text.splitlines()[-1][4:5] == b" "):
            text += self._socket.recv(65536)


class FrrNear:
    """bgpd, without zebra, told by its vty. A burst is a route map that no longer denies."""

    name = "FRR"
    base = 1  # the single prefix
    words: ClassVar[dict[str, str]] = {"bgpd": "bgpd"}

    def __init__(self, place: Place) -> None:
        self.place = place

    def start(self, burst: int = 0, *, peers: Iterable[str] = (FAR,), serving: bool = True) -> None:
        del serving
        lines = [
            f"router bgp {NEAR_AS}",
            f" bgp router-id {NEAR}",
            " no bgp ebgp-requires-policy",
            " no bgp network import-check",
            " coalesce-time 0",
        ]
        for address in peers:
            lines += [
                f" neighbor {address} remote-as {FAR_AS}",
                f" neighbor {address} timers connect 1",
                f" neighbor {address} advertisement-interval 0",
            ]
        lines += [
            " address-family ipv4 unicast",
            *(f"  neighbor {address} route-map NOTHING out" for address in peers),
            *(f"  network {address}/32" for address in [SINGLE, *prefixes(burst)]),
            " exit-address-family",
            "exit",
            f"ip prefix-list SINGLE permit {SINGLE}/32",
            "route-map NOTHING permit 10",
            " match ip address prefix-list SINGLE",
            "exit",
        ]
        config = self.place.near.directory / "bgpd.conf"
        config.write_text("\n".join(lines) + "\n")
        config.chmod(0o644)
        vty = Path(f"/proc/{self.place.near.pid}/root/run/frr/bgpd.vty")
        vty.unlink(missing_ok=True)
        self.place.near.spawn("bgpd", ["bgpd", "-f", str(config), "-A", "127.0.0.1", "-P", "0", "-Z"])
        until(vty.exists, "bgpd")
        self._frr = Frr(vty, NEAR_AS, FAR)

    def burst(self, on: bool) -> float:
        return self._frr.let_out(on)

    def single(self, on: bool) -> float:
        return self._frr.network(SINGLE, on)

    def stop(self) -> None:
        self.place.near.kill("bgpd")


class Gobgp:
    """Told over gRPC. A burst is one stream of paths; `DeletePath` takes all."""

    name = "GoBGP"
    base = 0
    words: ClassVar[dict[str, str]] = {"gobgpd": "gobgpd"}

    def __init__(self, place: Place) -> None:
        self.place = place
        self._number = 0

    def start(self, burst: int = 0, *, peers: Iterable[str] = (FAR,), serving: bool = True) -> None:
        del serving
        import grpc  # noqa: PLC0415 - of the tests' requirements

        self._number = burst
        lines = ["[global.config]", f"as = {NEAR_AS}", f'router-id = "{NEAR}"']
        for address in peers:
            lines += [
                "[[neighbors]]",
                "[neighbors.config]",
                f'neighbor-address = "{address}"',
                f"peer-as = {FAR_AS}",
                "[neighbors.timers.config]",
                "connect-retry = 1",
                "idle-hold-time-after-reset = 1",
            ]
        config = self.place.near.directory / "gobgpd.toml"
        config.write_text("\n".join(lines) + "\n")
        api = "/run/gobgp.sock"
        self.started = time.monotonic()
        argv = ["gobgpd", "-f", str(config), "--api-hosts", f"unix://{api}", "-l", "warn"]
        self.place.near.spawn("gobgpd", argv)
        path = Path(f"/proc/{self.place.near.pid}/root{api}")
        until(path.exists, "gobgpd")
        self._channel = grpc.insecure_channel(f"unix:{path}")
        until(self._answers, "gobgpd's API")

    def _answers(self) -> bool:
        import grpc  # noqa: PLC0415

        try:
            self._call("GetBgp", b"")
        except grpc.RpcError:
            return False
        return True

    def _call(self, method: str, body: bytes) -> bytes:
        answer: bytes = self._channel.unary_unary(f"/apipb.GobgpApi/{method}")(body, timeout=60)
        return answer

    def table(self) -> int:
        """Prefixes in the global table (GetTableResponse.num_destination)."""
        return _varints(self._call("GetTable", _bytes(2, _FAMILY))).get(1, 0)

    def burst(self, on: bool) -> float:
        every = prefixes(self._number)

        def requests() -> Iterator[bytes]:
            for at in range(0, len(every), 100):
                yield b"".join(_bytes(3, _path(address)) for address in every[at : at + 100])

        if on:
            at = time.monotonic()
            self._channel.stream_unary("/apipb.GobgpApi/AddPathStream")(requests(), timeout=120)
            return at
        at = time.monotonic()
        self._call("DeletePath", _bytes(3, _FAMILY))  # no path: all of its own
        return at

    def single(self, on: bool) -> float:
        at = time.monotonic()
        if on:
            self._call("AddPath", _bytes(3, _path(SINGLE)))
        else:
            self._call("DeletePath", _bytes(3, _FAMILY) + _bytes(4, _path(SINGLE)))
        return at

    def stop(self) -> None:
        self._channel.close()
        self.place.near.kill("gobgpd", 9)


# --- GoBGP's messages (api/gobgp.proto, api/attribute.proto of 3.x), as little of protobuf as they need


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _any(kind: str, value: bytes) -> bytes:
    return _bytes(1, f"type.googleapis.com/apipb.{kind}".encode()) + _bytes(2, value)


_FAMILY = _number(1, 1) + _number(2, 1)
_ATTRIBUTES = _bytes(2, _any("OriginAttribute", b"")) + _bytes(
    2, _any("NextHopAttribute", _bytes(1, NEAR.encode()))
)


def _path(address: str) -> bytes:
    nlri = _any("IPAddressPrefix", _number(1, 32) + _bytes(2, address.encode()))
    return _bytes(1, nlri) + _ATTRIBUTES + _bytes(9, _FAMILY)


def _varints(body: bytes) -> dict[int, int]:
    """The numbers of a message that holds nothing else."""
    found, at = {}, 0
    while at < len(body):
        field = body[at] >> 3
        at += 1
        value = shift = 0
        while True:
            value |= (body[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not body[at - 1] & 0x80:
                break
        found[field] = value
    return found
