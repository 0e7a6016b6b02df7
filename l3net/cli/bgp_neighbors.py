"""`l3net bgp summary`, `neighbors` and `neighbor`."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final

import click

from l3net.bgp.verdict import RETURNED
from l3net.cli.nodes import Agents, agents_option, checked
from l3net.cli.output import duration, output_option
from l3net.cli.values import known
from l3net.errors import ConfigError

#: What routers pass back of the cluster's own, as an agent's answer names it.
RETURNED_WORDS: Final = frozenset(each.value for each in RETURNED)
_SUMMARY: Final = (
    *("NEIGHBOR", "AS", "MSG RCVD", "MSG SENT", "OUT Q", "UP/DOWN", "STATE/PFX RCVD", "PFX SENT", "NAME"),
)
_NEIGHBORS: Final = (
    *("NEIGHBOR", "AS", "STATE", "SINCE", "HOLD TIME", "CAPABILITIES", "FLAPS", "LAST ERROR", "NAME"),
)


@click.command()
@agents_option
@output_option
def summary(agents: Agents, output: str) -> None:
    """Show one line per peer, as on routers: messages, queue, time up or down, prefixes.

    MSG RCVD and MSG SENT count the session's messages. OUT Q is the number of prefixes that wait to be
    sent. STATE/PFX RCVD is the number of received prefixes if the session is established, otherwise its
    state.
    """
    answers = agents.each("neighbors", _told)
    if output != "table":
        agents.print(answers, output)
        return
    for node, answer in answers:
        if not agents.several:
            up = sum(row["state"] == "established" for row in answer["neighbors"])
            own = answer["routerID"] or "not known"
            click.echo(f"BGP router ID {own}, local AS {answer['asNumber']}, node {answer['node']}")
            count = len(answer["neighbors"])
            click.echo(f"{answer['prefixes']} prefixes received, {up} of {count} peers established")
        if not answer.get("speakerConnected", True):
            where = f"{node}: " if agents.several else ""
            click.echo(f"{where}the speaker cannot be reached; is `l3net speaker` running?", err=True)
    if not agents.several:
        click.echo()
    agents.table(_SUMMARY, answers, lambda answer: map(_summary_cells, answer["neighbors"]))


@click.command()
@agents_option
@output_option
def neighbors(agents: Agents, output: str) -> None:
    """Show one line per peer: state, hold time, capabilities, last failure."""
    answers = agents.each("neighbors", _rows)
    if output != "table":
        agents.print(answers, output)
        return
    agents.table(_NEIGHBORS, answers, lambda rows: map(_neighbor_cells, rows))


@click.command()
@click.argument("peer", metavar="[ADDRESS|NAME]", required=False, shell_complete=known("peers"))
@agents_option
@output_option
def neighbor(peer: str | None, agents: Agents, output: str) -> None:
    """Show each peer in full: negotiated capabilities, messages, prefixes, timers, how its session last
    ended.

    Exits with 2 if there is no such peer.
    """
    answers = agents.each(
        "neighbors",
        lambda answer: [row for row in _rows(answer) if meant(peer, row["address"], row["name"])],
    )
    if peer is not None and not any(rows for _, rows in answers):
        where = "any node that answers" if agents.several else "this node"
        raise ConfigError(f"no peer {peer} on {where}; `l3net bgp summary` lists them")
    if output != "table":
        agents.print(answers, output)
        return
    told = agents.rendered(answers, lambda rows: ["\n".join(_lines(row)) for row in rows])
    above = [
        f"{agents.title(node)}\n{text}" if agents.several else text for node, each in told for text in each
    ]
    click.echo("\n\n".join(above))


def _summary_cells(row: dict[str, Any]) -> list[object]:
    return [
        row["address"],
        row["asNumber"] or "",
        _total(row, "received"),
        _total(row, "sent"),
        row["outQueue"],
        _since(row),
        row["received"] if row["state"] == "established" else fsm(row),
        row["announced"],
        row["name"],
    ]


def _neighbor_cells(row: dict[str, Any]) -> list[object]:
    return [
        row["address"],
        row["asNumber"] or "",
        fsm(row),
        _since(row),
        f"{row['negotiated']['holdTime']} s" if row["negotiated"] else "",
        " ".join(row["negotiated"]["capabilities"]) if row["negotiated"] else "",
        row["flaps"],
        last_error(row),
        row["name"],
    ]


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    older = "the agent that runs is older than this command; `l3net status` shows what it tells"
    return checked(answer, "neighbors", older)


def _rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return list(_told(answer)["neighbors"])


def meant(peer: str | None, address: str, name: str) -> bool:
    """Whether a peer is the one that was asked for: by name, or by its address in any spelling."""
    if peer in (None, address, name):
        return True
    try:
        return str(ip_address(peer or "")) == address
    except ValueError:
        return False


def last_error(row: dict[str, Any]) -> str:
    """The latest of what has ended a session, an attempt at one, or has been notified; with its age."""
    told = [(each["sinceSeconds"], each["reason"]) for each in (row["lastReset"],) if each]
    told += [(each["sinceSeconds"], each["error"]) for each in (row["lastAttempt"],) if each]
    for side, each in row.get("lastNotification", {}).items():
        if each:
            told.append((each["sinceSeconds"], f"NOTIFICATION {side}: {_notification(each)}"))
    if row["state"] == "refused":
        return str(row["reason"])
    if not told:
        return ""
    age, text = min(told, key=lambda each: each[0])
    return f"{text}, {duration(age)} ago"


def _notification(notice: dict[str, Any]) -> str:
    said = f': "{notice["text"]}"' if notice["text"] else ""
    return f"{notice['name']} ({notice['code']}/{notice['subcode']}){said}"


def _total(row: dict[str, Any], side: str) -> object:
    counts = row.get("messages")
    return sum(counts[side].values()) if counts else ""


def fsm(row: dict[str, Any]) -> str:
    """The state of the session by its name in RFC 4271; of a peer that has none, `refused`."""
    return str(row.get("fsm") or row["state"])


def _since(row: dict[str, Any]) -> str:
    return "" if row["state"] == "refused" else duration(row["sinceSeconds"])


def _lines(row: dict[str, Any]) -> list[str]:
    """One peer, for people."""
    since = f" for {_since(row)}" if row["state"] != "refused" else ""
    why = f": {row['reason']}" if row["reason"] else ""
    lines = [f"{row['name']} ({row['address']}): {fsm(row)}{since}{why}"]

    def say(title: str, text: object) -> None:
        lines.append(f"  {title + ':':<18} {text}")

    if row["state"] == "refused":
        return lines
    say("session", f"{row['type']}, AS {row['asNumber'] or 'any'}, from {row['localAddress']}{_guards(row)}")
    if local := row.get("localASNumber"):
        say("this node", f"AS {local}, router ID {row['localRouterID']}")
    if agreed := row["negotiated"]:
        say("router ID", agreed["routerID"])
        say("families", ", ".join(agreed["families"]) or "none")
        say("hold time", f"{agreed['holdTime']} s, a KEEPALIVE every {agreed['keepaliveTime']} s")
        if software := agreed.get("software"):
            say("peer runs", software)
        say("peer offers", ", ".join(agreed["capabilities"]) or "no capabilities")
        say("graceful restart", _restart(agreed["gracefulRestart"]))
    if configured := row.get("configured"):
        say("configured", _configured(configured))
    if counts := row.get("messages"):
        for title, side in (("messages in", "received"), ("messages out", "sent")):
            say(title, _messages(counts[side]))
    say("routes in", f"{row['received']} received, {row['accepted']} accepted, {row['stale']} stale")
    for reason, count in row.get("refused", {}).items():
        say("returned" if reason in RETURNED_WORDS else "refused", f"{count} {reason}")
    stuck = f", nothing taken for {row['stuckSeconds']:.0f} s" if row["stuckSeconds"] >= 1 else ""
    say("prefixes out", f"{row['announced']} sent, {row['outQueue']} queued{stuck}")
    for family, numbers in row.get("byFamily", {}).items():
        say(family, f"{numbers['received']} received, {numbers['wanted']} to be announced")
    if row.get("lastUpdateSeconds") is not None:
        say("last update", f"{duration(row['lastUpdateSeconds'])} ago")
    if row["syncing"]:
        say("not all said yet", ", ".join(row["syncing"]))
    if row["unansweredRefresh"]:
        say("refresh", f"no answer to the ROUTE-REFRESH for {', '.join(row['unansweredRefresh'])}")
    return [*lines, *_failures(row)]


def _failures(row: dict[str, Any]) -> list[str]:
    """How it has failed, of each kind the last."""
    lines = []

    def say(title: str, text: object) -> None:
        lines.append(f"  {title + ':':<18} {text}")

    if reset := row["lastReset"]:
        say("last reset", f"{duration(reset['sinceSeconds'])} ago, {reset['reason']}")
    for side in ("sent", "received"):
        if notice := row.get("lastNotification", {}).get(side):
            say(f"last {side}", f"{duration(notice['sinceSeconds'])} ago, {_notification(notice)}")
    if attempt := row["lastAttempt"]:
        side = "dialling" if attempt["direction"] == "out" else "the peer dialled in"
        say("last attempt", f"{duration(attempt['sinceSeconds'])} ago, {side}: {attempt['error']}")
    say("flaps", row["flaps"])
    if row["bfd"]:
        say("BFD", row["bfd"]["state"])
    return lines


def _configured(configured: dict[str, Any]) -> str:
    parts = [
        f"hold time {configured['holdTime']} s",
        f"restart time {configured['gracefulRestart']} s",
        f"at most {configured['maxPrefixes']} prefixes",
    ]
    if configured["multihop"]:
        parts.append(f"multihop {configured['multihop']}")
    if configured["sendHoldTime"] is not None:
        parts.append(f"send hold time {configured['sendHoldTime']} s")
    if configured["filters"]:
        parts.append(f"filters {' '.join(configured['filters'])}")
    return ", ".join(parts)


def _messages(counts: dict[str, int]) -> str:
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{sum(counts.values())}: {told}" if counts else "0"


def _guards(row: dict[str, Any]) -> str:
    named = {"password": "TCP MD5", "gtsm": "GTSM", "passive": "passive"}
    return "".join(f", {name}" for key, name in named.items() if row[key])


def _restart(offered: dict[str, Any] | None) -> str:
    if offered is None:
        return "not offered: nothing is kept when the session ends"
    if not offered["families"]:
        return "offered as a helper alone: nothing is kept when the session ends"
    return f"{', '.join(offered['kept']) or 'nothing'} kept for {offered['restartTime']} s"
