"""RUN_DIR/routes.json: the routes of ours that the last agent of this boot wanted in the kernel.

An agent that starts finds most of them there. What a link took along while there was no agent it finds here
alone, and puts back before the declared state is complete: an API server that is away may delay that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from l3net.errors import L3netError
from l3net.model import Address, NextHop, Prefix, Route, RouteKind
from l3net.shell.files.drainfile import boot_id
from l3net.shell.files.whole import write_whole

FILE: Final = "routes.json"
#: Routes that are kept; with more there is no file, and the kernel alone remembers.
MOST: Final = 20_000
LONGEST: Final = 8 << 20

RouteKey = tuple[Prefix, int]


class RouteFileError(L3netError):
    """It cannot be written."""


def read_routes(run_dir: Path) -> dict[RouteKey, Route]:
    """What was written during this boot; nothing if there is none, or none that can be read."""
    path = run_dir / FILE
    try:
        if path.stat().st_size > LONGEST:
            return {}
        found = json.loads(path.read_text())
        if found["boot"] != boot_id():
            return {}
        routes = [_route(row) for row in found["routes"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {(route.prefix, route.metric): route for route in routes}


def _route(row: list[Any]) -> Route:
    prefix, kind, metric, hops, *source = row
    found = frozenset(NextHop(_address(hop[0]), str(hop[1]), int(hop[2])) for hop in hops)
    return Route(ip_network(prefix), found, RouteKind(kind), int(metric), _address(*source or [None]))


def _address(text: str | None) -> Address | None:
    return None if text is None else ip_address(text)


def _text(address: Address | None) -> str | None:
    return None if address is None else str(address)


def write_routes(run_dir: Path, routes: Mapping[RouteKey, Route]) -> None:
    """Replace the file whole; remove it if there are too many. Raises RouteFileError."""
    path = run_dir / FILE
    try:
        if len(routes) > MOST:
            path.unlink(missing_ok=True)
            return
        rows = [
            [
                str(route.prefix),
                route.kind.value,
                route.metric,
                [[_text(hop.gateway), hop.interface, hop.weight] for hop in route.next_hops],
                *([_text(route.source)] if route.source is not None else []),
            ]
            for route in routes.values()
        ]
        write_whole(path, json.dumps({"boot": boot_id(), "routes": rows}))
    except OSError as err:
        raise RouteFileError(f"{path}: {err.strerror}") from err


class RouteFile:
    """ports.RouteMemory over a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def read(self) -> dict[RouteKey, Route]:
        """What was written during this boot."""
        return read_routes(self._run_dir)

    def write(self, routes: Mapping[RouteKey, Route]) -> None:
        """Replace it whole. Raises RouteFileError."""
        write_routes(self._run_dir, routes)
