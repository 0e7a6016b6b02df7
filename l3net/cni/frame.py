"""The frame between the thin client and the agent: bytes in, values out.

Request (all integers little endian, 32 bits): magic, length of environment, length of standard input, errno
of opening CNI_NETNS (0 if open; the descriptor itself travels as SCM_RIGHTS with the first byte), then
`KEY=value` strings each ended by NUL, then standard input as read. PATH is among them for a helper alone.
Answer: magic, exit code, length, then what to print on standard output.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.request import MAX_STDIN

MAGIC: Final = 0x31334E43  # "CN31"
MAX_ENVIRONMENT: Final = 1 << 18

REQUEST_HEADER: Final = struct.Struct("<IIIi")
ANSWER_HEADER: Final = struct.Struct("<III")

#: A helper's first word. It carries the call out, and an answer follows; or it does not, and nothing is done.
BEGUN: Final = struct.pack("<I", 0x474E4742)  # "BGNG"
ELSEWHERE: Final = struct.pack("<I", 0x45534C45)  # "ELSE"

#: Environment variable in which the client says under which name it was executed.
PLUGIN_NAME: Final = "L3NET_PLUGIN"
IPAM_PLUGIN: Final = "l3net-ipam"


@dataclass(frozen=True, slots=True)
class Call:
    """What the client was executed with."""

    environment: dict[str, str]
    stdin: bytes
    netns_errno: int = 0

    @property
    def for_ipam(self) -> bool:
        """Whether another plugin calls for addresses only."""
        return self.environment.get(PLUGIN_NAME) == IPAM_PLUGIN


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client prints and how it exits.

    `made` tells, of an ADD, what was made: sequence of the lease (0: none), index of the host end (0: none).
    """

    exit_code: int
    stdout: bytes = b""
    made: tuple[int, int] = (0, 0)


def encode_call(call: Call) -> bytes:
    block = b"".join(
        f"{key}={value}".encode(errors="surrogateescape") + b"\0" for key, value in call.environment.items()
    )
    return REQUEST_HEADER.pack(MAGIC, len(block), len(call.stdin), call.netns_errno) + block + call.stdin


def call_length(header: bytes) -> int:
    """Bytes that follow a request header. Raises CniError for what no client of ours sends."""
    magic, environment, stdin, _ = REQUEST_HEADER.unpack_from(header)
    if magic != MAGIC or environment > MAX_ENVIRONMENT or stdin > MAX_STDIN:
        raise CniError(failure.CANNOT_DECODE, "not a request of the CNI client, or too large")
    return int(environment) + int(stdin)


def decode_call(frame: bytes) -> Call:
    """A whole request frame. Raises CniError if it is torn."""
    _, size, stdin, netns_errno = REQUEST_HEADER.unpack_from(frame)
    start = REQUEST_HEADER.size
    if len(frame) != start + size + stdin:
        raise CniError(failure.CANNOT_DECODE, "torn request of the CNI client")
    pairs = frame[start : start + size].decode(errors="surrogateescape").split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return Call(environment, frame[start + size :], netns_errno)


def encode_answer(answer: Answer) -> bytes:
    return ANSWER_HEADER.pack(MAGIC, answer.exit_code, len(answer.stdout)) + answer.stdout


def decode_answer(frame: bytes) -> Answer:
    magic, code, length = ANSWER_HEADER.unpack_from(frame)
    body = frame[ANSWER_HEADER.size :]
    if magic != MAGIC or len(body) != length:
        raise CniError(failure.CANNOT_DECODE, "torn answer of the agent")
    return Answer(code, body)
