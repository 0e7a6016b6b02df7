"""ExaBGP under its supervisor and relay but without an agent: the test is the relay's client.

For controls that show what ExaBGP 5.0.15 does to a client less careful than the agent.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

from stage import FAR_ADDRESS, NODE_ADDRESS, Stage

from l3net.bgp.exabgp.commands import RELOAD
from l3net.bgp.exabgp.configuration import render
from l3net.bgp.exabgp.decoder import Decoder, LineBuffer
from l3net.bgp.exabgp.messages import Done, Failed, Message
from l3net.bgp.sessions import Session
from l3net.model import Family
from l3net.shell.speaker.config import relay_argv

RUN_DIR = Path("/run/l3net")


def session(version: int = 4, **changes: object) -> Session:
    """The node's side of a session with the far side, as the agent would have it."""
    family = Family(version)
    values: dict[str, object] = {
        "name": "far",
        "peer_address": ip_address(FAR_ADDRESS[version]),
        "peer_as": 65002,
        "local_address": ip_address(NODE_ADDRESS[version]),
        "local_as": 65001,
        "router_id": ip_address(NODE_ADDRESS[4]),
        "families": frozenset({family}),
        "hold_time": 9,
    }
    return Session(**(values | changes))  # type: ignore[arg-type]


class Direct:
    """`messages` is all that ExaBGP has said, decoded; `lines` the same as it came."""

    def __init__(self, stage: Stage, sessions: Iterable[Session]) -> None:
        self.stage = stage
        self.messages: list[Message] = []
        self.lines: list[bytes] = []
        self.decoder = Decoder()
        self._buffer = LineBuffer()
        stage.node.run(["mkdir", "-p", "-m", "700", str(RUN_DIR)])
        self.configure([])
        stage.start_speaker()
        self.connect()
        # Only now, or the first events would go to nobody.
        self.text = self.configure(sessions)
        self.ask(RELOAD)

    def configure(self, sessions: Iterable[Session]) -> str:
        """Write the file; the text. ExaBGP is not told."""
        text = render(sessions, relay_argv(RUN_DIR))
        target = self.stage.inside(self.stage.node, str(RUN_DIR / "exabgp.conf"))
        partial = target.with_suffix(".tmp")
        partial.write_text(text)
        partial.rename(target)
        return text

    def connect(self) -> None:
        path = str(self.stage.inside(self.stage.node, str(RUN_DIR / "speaker.sock")))

        def connected() -> bool:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(0.05)
            try:
                self._socket.connect(path)
            except OSError:
                self._socket.close()
                return False
            return True

        self.stage.until(connected, "the relay")

    def say(self, line: str) -> None:
        self._socket.sendall(line.encode() + b"\n")

    def listen(self) -> None:
        """Take in what there is."""
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError:
            return
        except OSError:
            data = b""
        if not data:
            time.sleep(0.05)
            return
        for line in self._buffer.receive(data):
            self.lines.append(line)
            message = self.decoder.decode(line)
            if message is not None:
                self.messages.append(message)

    def until(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        def listened() -> object:
            self.listen()
            return condition()

        self.stage.until(listened, what, seconds)

    def ask(self, line: str) -> list[Message]:
        """Say a line and wait for the answer; all that came until then, `Done` or `Failed` last."""
        start = len(self.messages)
        self.say(line)

        def end() -> int | None:
            answers = (number for number in range(start, len(self.messages)) if self._answers(number))
            return next(answers, None)

        self.until(lambda: end() is not None, f"the answer to {line}")
        return self.messages[start : (end() or start) + 1]

    def _answers(self, number: int) -> bool:
        return isinstance(self.messages[number], Done | Failed)

    def close(self) -> None:
        self._socket.close()
