"""The log on standard error: as text for people, or one JSON object a line; bounded by kind."""

from __future__ import annotations

import atexit
import json
import logging
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from l3net.ratelimit import RateLimit
from l3net.shell.files.journal import is_journal, prefixed

TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: In systemd's journal, which has time and level beside the line.
IN_JOURNAL: Final = "%(name)s: %(message)s"
#: Kinds of lines that are counted apart; of more, the one that was heard first is forgotten.
MOST_KINDS: Final = 500
#: Of one kind, so many pass at once (a node with many peers tells of each), and then so many in a second.
BURST: Final = 500
RATE: Final = 5.0
#: What differs between lines of one kind whose format says nothing: numbers and addresses.
NUMBER: Final = re.compile(r"[0-9a-f:.]*[0-9][0-9a-f:.]*")
WORDS: Final = re.compile(r"%[^a-zA-Z]*[a-zA-Z]")
#: What a line is about, where it begins so; a block is told as a prefix.
SUBJECT: Final = re.compile(
    r"(?:resolved: |mended: )?(?:(peer|node|block|pool|collector|bridge|prefix)|(service|pod)(?= [^\s/]+/))"
    r" (\S+?)(?=[:,;]?(?:\s|$))(?: \(([^()]*)\))?",
    re.I,
)


class JsonLines(logging.Formatter):
    """time (RFC 3339, UTC), level, logger, message; peer, service, prefix and the like where they are known;
    `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        message = record.getMessage()
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            **subject_of(message),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({key: _whole(value) for key, value in line.items()})


class Prefixed(logging.Formatter):
    """What another one writes, with the priorities that the journal reads."""

    def __init__(self, plain: logging.Formatter) -> None:
        super().__init__()
        self._plain = plain

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several."""
        return prefixed(self._plain.format(record), record.levelno)


def subject_of(message: str) -> dict[str, str]:
    """The fields that a line tells at its beginning, such as peer and its name."""
    found = SUBJECT.match(message)
    if found is None:
        return {}
    kind = (found[1] or found[2]).lower()
    fields = {"prefix" if kind == "block" else kind: found[3]}
    if kind == "peer" and found[4]:
        fields["peerName"] = found[4]
    return fields


def kind_of(record: logging.LogRecord) -> str:
    """What a line says, whatever about: its format, or where that has no word of its own, its text without
    numbers."""
    form = str(record.msg)
    if record.args and re.search("[a-z]", WORDS.sub("", form), re.I):
        return form
    return NUMBER.sub("#", record.getMessage())[:200]


def _whole(text: str) -> str:
    """Bytes that are no text came in as lone surrogates, which readers of JSON refuse."""
    return text.encode(errors="backslashreplace").decode()


class ByKind(logging.Handler):
    """Hands on to `to`; of one kind (a logger and what it says, whatever about) no more than BURST at once
    and RATE a second. What was left out is told with the next of its kind, and at the end. Debugging is not
    bounded."""

    def __init__(self, to: logging.Handler, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._to, self._clock = to, clock
        self._limits: dict[tuple[str, str], RateLimit] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler; under its lock."""
        if record.levelno <= logging.DEBUG:
            self._to.handle(record)
            return
        kind = record.name, kind_of(record)
        limit = self._limits.pop(kind, None) or RateLimit(BURST, RATE)
        self._limits[kind] = limit  # to the end: what is not heard any more goes first
        if len(self._limits) > MOST_KINDS:
            oldest = next(iter(self._limits))
            self._tell(oldest, self._limits.pop(oldest).rest())
        passes, left_out = limit.take(self._clock())
        self._tell(kind, left_out)
        if passes:
            self._to.handle(record)

    def end(self) -> None:
        """Tell what is left to be told."""
        self.acquire()
        try:
            for kind, limit in self._limits.items():
                self._tell(kind, limit.rest())
        finally:
            self.release()

    def _tell(self, kind: tuple[str, str], left_out: int) -> None:
        if left_out:
            text = f"{left_out} lines like these left out: {kind[1][:100]}"
            self._to.handle(logging.LogRecord(kind[0], logging.WARNING, "", 0, text, None, None))


def configure(level: str, form: str = "text") -> None:
    """One line an event on standard error, as `text` or `json`; for systemd's journal where it goes there."""
    journal = is_journal(2)
    plain = JsonLines() if form == "json" else logging.Formatter(IN_JOURNAL if journal else TEXT)
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(Prefixed(plain) if journal else plain)
    bounded = ByKind(stream)
    atexit.register(bounded.end)
    logging.basicConfig(level=level.upper(), handlers=[bounded])
