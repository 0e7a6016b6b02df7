"""Events of ours in ExaBGP's stream, in the envelope of its own. Used inside ExaBGP's process only.

ExaBGP writes a line to each of its API processes that a neighbour's configuration names for a kind of event;
ours go where its own of the like would: `receive-update`, or `neighbor-changes` for what concerns a session.
"""

from __future__ import annotations

from typing import Any, Final

SESSION: Final = "neighbor-changes"
UPDATE: Final = "receive-update"


def tell(reactor: Any, neighbor: Any, kind: str, content: str, *, to: str = SESSION, side: str = "") -> None:
    """One event: `content` stands in `neighbor`, after addresses, AS numbers and `side` (send or receive)."""
    processes = reactor.processes
    if processes.silence:  # ExaBGP is on its way out
        return
    for process in neighbor.api[to]:
        encoder = processes._encoder[process]
        about = encoder._neighbor(neighbor, side or None, content)
        processes.write(process, encoder._header(about, "", "", neighbor, message_type=kind), neighbor)


def tell_update(reactor: Any, neighbor: Any, update: str) -> None:
    """An UPDATE of the peer's, told once more or deduced. `update` is an object, as text."""
    tell(reactor, neighbor, "update", f'"message": {update}', to=UPDATE, side="receive")


def answer(reactor: Any, service: str, line: str) -> None:
    """A line of an answer; `done` is said by who answers."""
    reactor.processes.write(service, line)


def own_line(reactor: Any, service: str, kind: str, content: str) -> str:
    """An event about no neighbour."""
    line: str = reactor.processes._encoder[service]._header(content, "", "", None, message_type=kind)
    return line
