"""When a world has had time enough to follow all that has happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from world.world import World

#: Seconds beyond the time in which a failure is noticed, until all is as it should be.
SETTLES = 12.0
BFD_NOTICES = 1.5


def limit(world: World) -> float:
    """Seconds after the last disturbance until everything that can work must."""
    return (BFD_NOTICES if world.shape.bfd else world.shape.hold) + SETTLES


def calm(world: World) -> bool:
    return world.able and world.now() - world.since > limit(world)
