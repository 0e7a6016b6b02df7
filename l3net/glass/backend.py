"""Whom a page asks: one node's agent, or the looking glasses of a cluster's nodes. Both answer alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from l3net.errors import L3netError

Query = Mapping[str, str]


class NoSuchError(L3netError):
    """A node, resource or peer that there is not."""


class UnknownQuestionError(L3netError):
    """The agent that runs does not know the question: it is older than this page."""


class Backend(Protocol):
    """`get` is of one node: see resources.py for what there is to get."""

    #: Whether it is a cluster's.
    cluster: bool

    async def names(self) -> Sequence[str]:
        """The nodes, in order. Raises L3netError where that cannot be told."""
        ...

    async def get(self, node: str, resource: str, query: Query) -> dict[str, Any]:
        """Raises NoSuchError, ConfigError (of the query), UnknownQuestionError, NotRunningError or another
        L3netError."""
        ...
