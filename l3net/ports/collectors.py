"""Collectors of BMP messages, each at the other end of a TCP connection."""

from __future__ import annotations

from typing import Protocol

from l3net.errors import L3netError
from l3net.model import Address


class CollectorError(L3netError):
    """A collector cannot be reached, or is lost."""


class Collector(Protocol):
    """A connection to one."""

    async def send(self, octets: bytes) -> None:
        """Until the connection has taken all but a bounded rest. Raises CollectorError."""
        ...

    async def ended(self) -> str:
        """Until the other side ends the connection; why, in words."""
        ...

    def farewell(self, octets: bytes) -> None:
        """The last words, as far as they can go out at once."""
        ...

    def close(self) -> None: ...


class Collectors(Protocol):
    """Makes connections, and knows what time it is."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    async def connect(self, address: Address, port: int) -> Collector:
        """Raises CollectorError."""
        ...
