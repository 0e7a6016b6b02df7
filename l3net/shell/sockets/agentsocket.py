"""Asks the agent on this host, over its Unix socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from l3net.errors import NotPermittedError, NotRunningError

TIMEOUT = 5.0


def ask(
    path: Path,
    question: str,
    patience: float = TIMEOUT,
    told: Callable[[int], None] = lambda _octets: None,
) -> dict[str, Any]:
    """The agent's answer to one line, such as `status`. `patience` in seconds between its parts; `told` is
    called with the octets that have come. Raises NotRunningError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        data = bytearray()  # an answer may have a hundred MiB
        try:
            sock.connect(str(path))
            sock.sendall(question.encode() + b"\n")
            while not data.endswith(b"\n"):
                chunk = sock.recv(1 << 18)
                if not chunk:
                    break
                data += chunk
                told(len(data))
            answer = json.loads(data)
            if not isinstance(answer, dict):
                raise ValueError
        except TimeoutError:
            raise NotRunningError(
                f"the agent on {path} has not answered for {patience:g} s: it is stopped, or has too much to "
                "do; see its log, and whether `l3net status --alive` answers"
            ) from None
        except PermissionError as err:
            raise NotPermittedError(f"{path}: {err.strerror}; to ask the agent needs root") from err
        except (OSError, ValueError) as err:
            what = "what answers is no agent" if data else "it closed the connection without an answer"
            if isinstance(err, OSError):
                what = str(err.strerror or err)
            raise NotRunningError(
                f"no agent answers on {path} ({what}); start it with `l3net agent`, or name its --run-dir"
            ) from err
    return answer
