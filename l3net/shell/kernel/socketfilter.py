"""Classic BPF socket filters: the kernel drops what a socket does not want (packet(7), SO_ATTACH_FILTER)."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

#: asm-generic/socket.h; the socket module lacks it.
SO_ATTACH_FILTER: Final = 26
_STATEMENT: Final = struct.Struct("=HBBI")  # struct sock_filter
_PROGRAM: Final = struct.Struct("@HP")  # struct sock_fprog

#: Code, jump if true, jump if false, operand.
Statement = tuple[int, int, int, int]


def attach_filter(sock: socket.socket, *statements: Statement) -> None:
    """Let through what the program returns other than 0 for. Raises OSError."""
    packed = b"".join(_STATEMENT.pack(*statement) for statement in statements)
    code = ctypes.create_string_buffer(packed, len(packed))
    program = _PROGRAM.pack(len(statements), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
