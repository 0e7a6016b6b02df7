"""Which name was probably meant by one that nothing has."""

from __future__ import annotations

from collections.abc import Iterable


def near(name: str, known: Iterable[str], *, most: int = 1, alike: float = 0.6) -> list[str]:
    """The names most like it, best first; `alike`: how much at least, 1 being the same."""
    import difflib  # noqa: PLC0415 - hardly ever wanted, and a fifth of a MiB in an agent

    return difflib.get_close_matches(name, list(known), n=most, cutoff=alike)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean tor1?)`, with a space before it; empty where no name is like it."""
    close = near(name, known)
    return f" (did you mean {close[0]}?)" if close else ""
