"""What is said to ExaBGP and what it answers, through the relay.

ExaBGP answers commands in order and does not say which it answers. So a question goes out alone: first the
announcements under way are answered, then it is asked, then announcing goes on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from l3net.bgp.exabgp.announcer import Announcer
from l3net.bgp.exabgp.decoder import Decoder, LineBuffer
from l3net.bgp.exabgp.messages import Announced, Done, Failed, Message, Neighbors, OpensTold, Queues
from l3net.ports import Connect

log = logging.getLogger("l3net.bgp")

OnAnswer = Callable[[list[Message]], None]


@dataclass(slots=True)
class _Question:
    command: str
    on_answer: OnAnswer
    on_refusal: Callable[[], None]
    answers: list[Message] = field(default_factory=list)


class Dialogue:
    """`connected` is called with each new connection, `heard` with what comes, `lost` when it ends."""

    def __init__(
        self,
        connect: Connect,
        announcer: Announcer,
        connected: Callable[[], None],
        heard: Callable[[list[Message]], None],
        lost: Callable[[], None],
    ) -> None:
        self._announcer = announcer
        self._on_connected, self._heard, self._on_lost = connected, heard, lost
        self.link = connect(self._connected, self._received, self._lost)
        self._buffer = LineBuffer()
        self._decoder = Decoder()
        self._questions: deque[_Question] = deque()
        self._asking: _Question | None = None

    @property
    def up(self) -> bool:
        return self.link.up

    @property
    def undecodable(self) -> int:
        """Lines that could not be read."""
        return self._decoder.undecodable + self._buffer.dropped

    @property
    def curious(self) -> bool:
        """Whether questions wait to be asked."""
        return bool(self._questions)

    async def run(self) -> None:
        """Until cancelled."""
        await self.link.run()

    def ask(
        self,
        command: str,
        on_answer: OnAnswer = lambda _answers: None,
        on_refusal: Callable[[], None] | None = None,
    ) -> None:
        """Ask, or command, when all before is answered. Without a connection nothing is asked.

        Where ExaBGP refuses, `on_refusal` is called, if given, in place of `on_answer`.
        """
        if self.link.up:
            self._questions.append(_Question(command, on_answer, on_refusal or (lambda: on_answer([]))))
            self.pump()

    def interject(self, line: str) -> None:
        """Say something that ExaBGP does not answer, now: to its supervisor."""
        self.link.send_line(line)

    def pump(self) -> None:
        """Say what may be said now."""
        if not self.link.up or self._asking is not None:
            return
        if self._questions:
            if self._announcer.unanswered == 0:
                self._asking = self._questions.popleft()
                self.link.send_line(self._asking.command)
            return
        if lines := self._announcer.next_lines():
            for line in lines:
                self.link.send_line(line)
            self._announcer.tell()

    def took(self, message: Message) -> bool:
        """Whether a message belongs to an answer; if so, it has been seen to."""
        match message:
            case Done() | Failed():
                self._answered(message)
            case Neighbors() | Announced() | Queues() | OpensTold():
                if self._asking is not None:
                    self._asking.answers.append(message)
            case _:
                return False
        return True

    def _answered(self, message: Message) -> None:
        if self._asking is None:
            if isinstance(message, Failed):
                log.warning("ExaBGP refused a command")
            self._announcer.answered(refused=isinstance(message, Failed))
            return
        asked, self._asking = self._asking, None
        if isinstance(message, Failed) and not asked.answers:
            asked.on_refusal()
        else:
            asked.on_answer(asked.answers)

    def _forget(self) -> None:
        self._questions.clear()
        self._asking = None
        self._announcer.reset()

    def _connected(self) -> None:
        self._buffer = LineBuffer()
        self._forget()
        self._on_connected()

    def _lost(self) -> None:
        self._forget()
        self._on_lost()

    def _received(self, data: bytes) -> None:
        messages = [self._decoder.decode(line) for line in self._buffer.receive(data)]
        self._heard([message for message in messages if message is not None])
        self.pump()
