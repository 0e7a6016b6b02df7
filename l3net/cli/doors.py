"""Who answers for a node: its agent's socket, its looking glass, or its agent's socket over ssh.

All take the same questions, a line each, and give the same answers (l3net.shell.sockets.agentserver).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from l3net.errors import L3netError, NotRunningError
from l3net.naming import AGENT_SOCKET, RUN_DIR
from l3net.shell.sockets.agentsocket import ask

if TYPE_CHECKING:
    from l3net.lab.sshlab import SshMachine

#: Where a looking glass answers questions of commands.
PATH: Final = "/api/v1/nodes/self/agent"

#: Path, query, headers, seconds for the next piece -> status and body. Blocks; raises L3netError.
Fetch = Callable[[str, Mapping[str, str], Mapping[str, str], float], tuple[int, bytes]]
#: Seconds that a looking glass may take beside its agent, as where others ask it too.
LONGER: Final = 5.0
#: Answers put into values at a time: one of 100,000 routes has ten times its octets then.
_PARSING: Final = threading.Semaphore(4)


class Door(Protocol):
    """One node's."""

    def ask(self, question: str, patience: float) -> dict[str, Any]:
        """The agent's answer; `error` in it is what the agent refuses. `patience` in seconds between its
        parts. Raises NotRunningError, or another L3netError where what answers cannot be used."""
        ...


@dataclass(frozen=True, slots=True)
class SocketDoor:
    """`path` is that of the agent's socket on this machine."""

    path: Path

    def ask(self, question: str, patience: float) -> dict[str, Any]:
        return ask(self.path, question, patience)


@dataclass(frozen=True, slots=True)
class NoDoor:
    """`why` there is no way to the node."""

    why: str

    def ask(self, question: str, patience: float) -> dict[str, Any]:
        raise NotRunningError(self.why)


@dataclass(frozen=True, slots=True)
class GlassDoor:
    """A looking glass. `headers` may hold its token."""

    fetch: Fetch
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def ask(self, question: str, patience: float) -> dict[str, Any]:
        status, body = self.fetch(PATH, {"question": question}, self.headers, patience + LONGER)
        try:
            with _PARSING:
                found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise L3netError(f"the server is not a looking glass (status {status})")
        if status == 200:
            return found
        said = str(found.get("error") or found.get("message") or f"status {status}")[:500]
        if status == 400:
            return {"error": said}
        if status == 404 and "there is no agent;" in said:
            raise L3netError("its looking glass is older than this command")
        if status == 401:
            raise L3netError(f"{said}; its looking glass has one: --node-token-file FILE")
        raise NotRunningError(said) if status in (502, 503, 504) else L3netError(said)


#: Run on the machine: the question goes to the socket, the answer to standard output.
_ASK: Final = """
import socket, sys
with socket.socket(socket.AF_UNIX) as agent:
    agent.settimeout(float(sys.argv[3]))
    try:
        agent.connect(sys.argv[1])
        agent.sendall(sys.argv[2].encode() + b"\\n")
        while piece := agent.recv(1 << 18):
            sys.stdout.buffer.write(piece)
    except OSError as err:
        sys.exit(err.strerror or "no answer")
"""


@dataclass(frozen=True, slots=True)
class SshDoor:
    """A machine reached by ssh, as root or by sudo."""

    machine: SshMachine

    def ask(self, question: str, patience: float) -> dict[str, Any]:
        socket = f"{RUN_DIR}/{AGENT_SOCKET}"
        argv = [*self.machine.python, "-c", _ASK, socket, question, str(patience)]
        done = self.machine.run(argv, timeout=patience + 30, check=False)
        try:
            found = json.loads(done.stdout)
        except (ValueError, RecursionError):
            found = None
        if done.code != 0 or not isinstance(found, dict):
            said = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            raise NotRunningError(f"no agent answers on {socket} there ({said})")
        return found
