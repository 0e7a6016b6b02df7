"""The looking glass of one node, or of all nodes of a lab: agents are asked, by the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from l3net.errors import ConfigError, NotRunningError
from l3net.glass import birdwatcher
from l3net.glass.backend import NoSuchError, Query
from l3net.glass.held import Ask, Held
from l3net.glass.resources import RESOURCES, brief

#: By which a node may be called beside its name.
SELF: Final = "self"
BIRDWATCHER: Final = "birdwatcher/"


class OneNode:
    """A Backend."""

    cluster = False

    def __init__(self, ask: Ask) -> None:
        self._held = Held(ask)
        self._name = ""  # as the agent said last

    async def names(self) -> Sequence[str]:
        """One, also while no agent answers."""
        try:
            self._name = str((await brief(self._held))["node"])
        except NotRunningError:
            return (self._name or SELF,)
        return (self._name,)

    async def get(self, node: str, resource: str, query: Query) -> dict[str, Any]:
        if node != SELF and node not in await self.names():
            raise NoSuchError(f"there is no node {node[:60]} here")
        if resource.startswith(BIRDWATCHER):
            return await birdwatcher.answer(self._held, resource.removeprefix(BIRDWATCHER), query)
        found = RESOURCES.get(resource)
        if found is None:
            raise NoSuchError(f"there is no {resource[:60]}; there are {', '.join(RESOURCES)}")
        missing = [name for name in found.required if not query.get(name)]
        if missing:
            raise ConfigError(f"{missing[0]}: {found.parameters[missing[0]]}")
        return await found.answer(self._held, query)


class Nodes:
    """A Backend of several agents on one machine."""

    cluster = True

    def __init__(self, nodes: Mapping[str, OneNode]) -> None:
        self._nodes = nodes

    async def names(self) -> Sequence[str]:
        return sorted(self._nodes)

    async def get(self, node: str, resource: str, query: Query) -> dict[str, Any]:
        found = self._nodes.get(node)
        if found is None:
            raise NoSuchError(f"there is no node {node[:60]} here")
        return await found.get(SELF, resource, query)
