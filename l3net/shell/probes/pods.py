"""Two pods made for a moment through the agent, and what passes between them and the node.

They are made and removed as a runtime would do it, through the CNI socket, in network namespaces of this
process's own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any, Final

from l3net.cni.frame import ANSWER_HEADER, Call, decode_answer, encode_call
from l3net.doctor.findings import PodLook
from l3net.errors import L3netError
from l3net.model import Address
from l3net.naming import CNI_NETWORK, CNI_PLUGIN
from l3net.shell.kernel import namespaces

#: Seconds for one packet to come back, and for the agent to answer.
_PATIENCE: Final = 2.0
_AGENT: Final = 20.0
_CONF: Final = {"cniVersion": "1.0.0", "name": CNI_NETWORK, "type": CNI_PLUGIN}


class _RefusedError(Exception):
    """The agent's answer, in a line."""


@dataclass(frozen=True, slots=True)
class _Pod:
    netns: int
    container: str
    addresses: tuple[Address, ...]
    gateways: tuple[Address, ...]


def look_at_pods(cni_socket: Path) -> PodLook:
    """Never raises: what keeps it from looking is said in `skipped`, what keeps pods from being made in
    `refused`."""
    try:
        with contextlib.ExitStack() as stack:
            home = namespaces.open_own()
            stack.callback(os.close, home)
            pods = [stack.enter_context(_pod(cni_socket, home, letter)) for letter in "ab"]
            return _look(pods[0], pods[1], home)
    except _RefusedError as err:
        return PodLook(refused=str(err))
    except (OSError, L3netError) as err:
        return PodLook(skipped=str(err))


@contextlib.contextmanager
def _pod(cni_socket: Path, home: int, letter: str) -> Iterator[_Pod]:
    netns = _new_namespace()
    container = f"l3net-doctor-{secrets.token_hex(4)}{letter}"
    try:
        result = _call(cni_socket, "ADD", container, netns)
        try:
            ips = result.get("ips", ())
            yield _Pod(
                netns,
                container,
                tuple(ip_interface(each["address"]).ip for each in ips),
                tuple(ip_address(each["gateway"]) for each in ips if each.get("gateway")),
            )
        finally:
            _call(cni_socket, "DEL", container, netns)
    finally:
        os.close(netns)


def _new_namespace() -> int:
    """A descriptor of a network namespace that ends with it. Raises OSError."""
    made: list[int | OSError] = []

    def unshare() -> None:
        try:
            namespaces.unshare()
            made.append(namespaces.open_own())
        except (OSError, L3netError) as err:
            made.append(err if isinstance(err, OSError) else OSError(str(err)))

    thread = threading.Thread(target=unshare)
    thread.start()
    thread.join()
    (found,) = made
    if isinstance(found, OSError):
        raise found
    return found


def _call(cni_socket: Path, command: str, container: str, netns: int) -> dict[str, Any]:
    """Raises _RefusedError, OSError."""
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": f"/proc/{os.getpid()}/fd/{netns}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
    }
    frame = encode_call(Call(environment, json.dumps(_CONF).encode()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_AGENT)
        sock.connect(str(cni_socket))
        socket.send_fds(sock, [frame[:1]], [netns])
        sock.sendall(frame[1:])
        data = b""
        while (
            len(data) < ANSWER_HEADER.size
            or len(data) < ANSWER_HEADER.size + ANSWER_HEADER.unpack_from(data)[2]
        ):
            part = sock.recv(1 << 16)
            if not part:
                raise _RefusedError("the agent hung up")
            data += part
    answer = decode_answer(data)
    try:
        found: dict[str, Any] = json.loads(answer.stdout or b"{}")
    except ValueError:
        raise _RefusedError("the agent's answer cannot be read") from None
    if answer.exit_code:
        raise _RefusedError(
            ": ".join(filter(None, (str(found.get("msg", "")), str(found.get("details", "")))))
        )
    return found


def _look(one: _Pod, other: _Pod, home: int) -> PodLook:
    between: dict[int, bool] = {}
    gateway: dict[int, bool] = {}
    for address in other.addresses:
        with namespaces.inside(other.netns, home):
            listener = _socket(address)
        with listener:
            listener.bind((str(address), 0))
            listener.listen(1)
            between[address.version] = _reaches(one, home, address, listener.getsockname()[1])
    for address in one.gateways:
        gateway[address.version] = _reaches(one, home, address, 1)
    return PodLook(between=between, gateway=gateway)


def _socket(address: Address) -> socket.socket:
    return socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)


def _reaches(pod: _Pod, home: int, address: Address, port: int) -> bool:
    """Whether anything comes back: a refusal is an answer."""
    with namespaces.inside(pod.netns, home):
        sock = _socket(address)
    with sock:
        sock.settimeout(_PATIENCE)
        try:
            sock.connect((str(address), port))
        except OSError as err:
            return err.errno == errno.ECONNREFUSED
        return True
