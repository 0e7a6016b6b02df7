"""Reads birdwatcher's answers as Alice-LG's source of that name does.

What it asserts the type of must have that type, or the whole of Alice-LG's request fails: there
pkg/sources/birdwatcher, parsers.go and stream_decoder.go.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

#: `servertime` and `servertime_short` as docs/looking-glass.md has them set.
LONG, SHORT = "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S"


def whole(value: Any) -> int:
    """A number of JSON; Go's float64."""
    assert isinstance(value, int | float)
    assert not isinstance(value, bool)
    return int(value)


def text(value: Any) -> str:
    assert isinstance(value, str)
    return value


def moment(value: Any, layout: str) -> datetime:
    return datetime.strptime(text(value), layout).replace(tzinfo=UTC)


def meta(answer: dict[str, Any]) -> None:
    """What every answer begins with."""
    api = answer["api"]
    assert text(api["Version"])
    assert isinstance(api["result_from_cache"], bool)
    cached = moment(api["cache_status"]["cached_at"]["date"], LONG)
    assert moment(answer["ttl"], LONG) > cached > datetime.now(UTC) - timedelta(minutes=5)


def status(answer: dict[str, Any]) -> dict[str, str]:
    meta(answer)
    found = answer["status"]
    moment(found["current_server"], SHORT)
    return {name: text(found[name]) for name in ("version", "message", "router_id")}


def neighbors(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By ID, as /protocols/bgp has them."""
    meta(answer)
    found = {}
    for name, protocol in answer["protocols"].items():
        routes = protocol["routes"]
        assert protocol["bird_protocol"] == "BGP"
        for channel in protocol["channels"].values():
            for count in ("imported", "filtered", "exported", "preferred"):
                whole(channel["routes_count"][count])
        found[name] = {
            "address": text(protocol["neighbor_address"]),
            "asn": whole(protocol["neighbor_as"]),
            "state": text(protocol["state"]).lower(),
            "description": text(protocol["description"]),
            "table": text(protocol["table"]),
            "error": text(protocol["last_error"]),
            "since": moment(protocol["state_changed"], SHORT),
            **{name: whole(routes[name]) for name in ("imported", "filtered", "exported", "preferred")},
        }
    return found


def short(answer: dict[str, Any]) -> dict[str, str]:
    """/protocols/short: state by ID."""
    for protocol in answer["protocols"].values():
        moment(protocol["since"], SHORT)
    return {name: text(protocol["state"]) for name, protocol in answer["protocols"].items()}


def routes(answer: dict[str, Any]) -> list[dict[str, Any]]:
    meta(answer)
    found = []
    for route in answer["routes"]:
        bgp = route["bgp"]
        moment(route["age"], SHORT)
        for communities in (bgp["communities"], bgp["large_communities"]):
            assert all(isinstance(part, int) for each in communities for part in each)
        for each in bgp["ext_communities"]:
            assert len(each) == 3
            assert all(isinstance(part, str) for part in each)
        found.append(
            {
                "network": text(route["network"]),
                "neighbor": text(route["from_protocol"]),
                "gateway": text(route["gateway"]),
                "interface": text(route["interface"]),
                "learnt_from": text(route["learnt_from"]),
                "metric": whole(route["metric"]),
                "type": [text(each) for each in route["type"]],
                "origin": text(bgp["origin"]),
                "as_path": [int(text(each)) for each in bgp["as_path"]],
                "next_hop": text(bgp["next_hop"]),
                "local_pref": int(text(bgp["local_pref"]) or 0),
                "med": int(text(bgp["med"]) or 0),
                "communities": bgp["communities"],
                "large_communities": bgp["large_communities"],
                "ext_communities": bgp["ext_communities"],
            }
        )
        assert isinstance(route["primary"], bool)
    return found
