"""What goes wrong at an API server, or on the way to it, until a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from apiserver import Call, StatusError
from sim_etcd import Place


@dataclass
class Refusal:
    """`code` for a share of the requests that match; empty `verb` or `plural`: any. `client`: whose alone."""

    until: float
    code: int
    verb: str = ""
    plural: str = ""
    client: str = ""
    retry_after: str = ""
    share: float = 1.0
    began: float = 0.0


REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Faults:
    """Each has the time until which it lasts, in the loop's seconds."""

    def __init__(self, random: Random, now: Callable[[], float]) -> None:
        self._random, self.now = random, now
        self.refusals: list[Refusal] = []
        self.refused_until = 0.0  # no connection comes about: nobody listens
        self.lost_until = 0.0  # neither, and nobody says so; what is under way hangs
        self.apart: dict[str, float] = {}  # clients that nobody hears, each until when
        self.slow: list[tuple[float, float, float]] = []  # until, and answers take from, to
        self.losing: list[tuple[float, float]] = []  # until, and the share of writes whose answer is lost
        self.torn: list[tuple[float, float]] = []  # until, and the share of answers that break off
        self.proxied: list[tuple[float, float]] = []  # until, and the share that a proxy answers, in HTML
        self.spoiling: list[tuple[float, str, str]] = []  # until, how, and of what plural (empty: any)

    def admit(self, client: str, call: Call, token: str) -> None:
        """Raises StatusError for what is refused."""
        now = self.now()
        for each in self.refusals:
            if now >= each.until or (each.verb and each.verb != call.verb):
                continue
            if (each.plural and each.plural != call.resource) or (each.client and each.client != client):
                continue
            if each.share < 1.0 and self._random.random() >= each.share:
                continue
            headers = {"Retry-After": each.retry_after} if each.retry_after else {}
            raise StatusError(each.code, REASONS[each.code], "as the test has it", headers)

    def share(self, of: list[tuple[float, float]]) -> bool:
        """Whether one of these strikes."""
        now = self.now()
        return any(now < until and self._random.random() < share for until, share in of)

    def lost(self, client: str) -> bool:
        """Whether what this client sends arrives nowhere."""
        now = self.now()
        return now < self.lost_until or now < self.apart.get(client, 0.0)

    def answer_takes(self) -> float:
        """Seconds."""
        now = self.now()
        usual = 0.001 + self._random.random() * 0.004
        return max([usual, *(self._random.uniform(a, b) for until, a, b in self.slow if now < until)])

    def garble(self, line: bytes, place: Place, kept_back: list[bytes]) -> Iterator[bytes]:
        """What becomes of a line on its way. `kept_back`: lines of this watch that wait for the next."""
        how = ""
        if self.spoiling:
            now = self.now()
            for until, each, plural in self.spoiling:
                if now < until and plural in ("", place[1]) and self._random.random() < 0.5:
                    how = each
                    break
        kept, kept_back[:] = kept_back[:], []
        match how:
            case "torn":
                yield line[: len(line) // 2] + b"\n"
            case "garbage":
                yield b"\x00\xff<html>\n"
            case "blank":
                yield b"\n\n"
                yield line
            case "shapeless":
                yield b'{"type":"ADDED","object":["what is this"]}\n'
            case "error500":
                yield b'{"type":"ERROR","object":{"kind":"Status","code":500,"message":"no leader"}}\n'
            case "twice":
                yield line
                yield line
            case "swapped" if not kept and b'"type":"BOOKMARK"' not in line:
                kept_back.append(line)
            case _:
                half = len(line) // 2  # as it comes out of the network
                yield line[:half]
                yield line[half:]
        yield from kept
