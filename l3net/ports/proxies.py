"""Another service proxy on this node, and what an agent remembers of it."""

from __future__ import annotations

from typing import Protocol


class OtherProxy(Protocol):
    """kube-proxy, wherever it runs."""

    async def answers(self) -> str:
        """By what it answers on this node, its mode where it says so; empty: it does not."""
        ...

    def tables(self) -> str:
        """What of its is in the kernel; empty: nothing. It takes some milliseconds, in which it blocks."""
        ...


class ProxyMemory(Protocol):
    """Whether the last agent of this boot was the service proxy."""

    def read(self) -> bool | None:
        """None: there was no agent."""
        ...

    def write(self, on: bool) -> None:
        """Raises L3netError."""
        ...
