"""Every fault there is, by name."""

from __future__ import annotations

from collections.abc import Sequence

from l3net.errors import ConfigError
from l3net.lab.chaos import cables, changing, disks, foreign, processes, routing
from l3net.lab.chaos.fault import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for module in (processes, routing, cables, foreign, disks, changing)
    for fault in module.FAULTS
}


def chosen(only: Sequence[str] = (), without: Sequence[str] = ()) -> list[Fault]:
    """The faults of those names or families, or all; but for `without`. Raises ConfigError."""
    wanted = _named(only) if only else set(FAULTS)
    return [fault for name, fault in FAULTS.items() if name in wanted - _named(without)]


def _named(words: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for word in words:
        named = {name for name, fault in FAULTS.items() if word in (name, fault.family)}
        if not named:
            families = sorted({fault.family for fault in FAULTS.values()})
            raise ConfigError(f"{word!r} is neither a fault nor a family of faults ({', '.join(families)})")
        found |= named
    return found
