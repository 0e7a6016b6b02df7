"""Just enough of the container runtime interface (CRI v1, runtime.v1) for the tests: messages by hand.

Fields are numbered as in k8s.io/cri-api/pkg/apis/runtime/v1/api.proto; the wire format is protobuf's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

Fields = dict[int, list[Any]]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def encode(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A message: (field number, value); integers as varints, the rest length-delimited."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            packed = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(packed)) + packed
    return out


def decode(data: bytes) -> Fields:
    """Field number to its values in order: integers, or bytes for what is length-delimited."""
    found: Fields = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        value: int | bytes
        if tag & 7 == 0:
            value = varint()
        else:
            assert tag & 7 == 2, f"wire type {tag & 7}"
            size = varint()
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def text(fields: Fields, number: int) -> str:
    return str(fields.get(number, [b""])[0], "utf-8")


@dataclass(frozen=True)
class Sandbox:
    """What kubelet tells of a pod. `ports` are (protocol: 0 TCP, container port, host port)."""

    name: str
    uid: str
    namespace: str = "default"
    cgroup_parent: str = ""
    ports: tuple[tuple[int, int, int], ...] = ()

    def message(self) -> bytes:
        metadata = encode((1, self.name), (2, self.uid), (3, self.namespace))
        ports = [(5, encode((1, kind), (2, inner), (3, outer))) for kind, inner, outer in self.ports]
        return encode((1, metadata), (2, self.name), *ports, (8, encode((1, self.cgroup_parent))))


class Runtime:
    """A runtime's CRI socket. Raises grpc.RpcError."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}")

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, request: bytes = b"", *, service: str = "RuntimeService") -> Fields:
        invoke = self._channel.unary_unary(f"/runtime.v1.{service}/{method}")
        return decode(invoke(request, timeout=60))

    def run(self, sandbox: Sandbox) -> str:
        """RunPodSandbox; the sandbox's ID."""
        return text(self.call("RunPodSandbox", encode((1, sandbox.message()))), 1)

    def stop(self, sandbox: str) -> None:
        self.call("StopPodSandbox", encode((1, sandbox)))

    def remove(self, sandbox: str) -> None:
        self.call("RemovePodSandbox", encode((1, sandbox)))

    def sandboxes(self) -> list[str]:
        return [text(decode(each), 1) for each in self.call("ListPodSandbox").get(1, [])]

    def addresses(self, sandbox: str) -> list[str]:
        """As kubelet reads them for the pod's status: the first, then the others."""
        status = decode(self.call("PodSandboxStatus", encode((1, sandbox)))[1][0])
        network = decode(status[5][0])
        return [text(network, 1), *(text(decode(each), 1) for each in network.get(2, []))]

    def network_ready(self) -> bool:
        status = decode(self.call("Status")[1][0])
        conditions = [decode(each) for each in status.get(1, [])]
        return any(text(each, 1) == "NetworkReady" and each.get(2) == [1] for each in conditions)

    def has_image(self, name: str) -> bool:
        request = encode((1, encode((1, name))))
        return 1 in self.call("ImageStatus", request, service="ImageService")
