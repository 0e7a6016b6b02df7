"""Commands that read an agent, asked of this node, of others, or of all: options, and who answers.

A command takes `agents_option` in place of `--run-dir` and is handed an `Agents`. Of this node, and of one
that is named alone, it prints what it prints on that node; of several, rows and objects name their node.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from l3net.cli.asking import Question, alike, ask_all, misunderstood, understood
from l3net.cli.doors import Door, SocketDoor
from l3net.cli.output import print_table, print_value
from l3net.cli.waiting import ask, waiting
from l3net.cli.ways import Ways, way_options
from l3net.errors import ConfigError, L3netError, NotRunningError
from l3net.naming import AGENT_SOCKET
from l3net.shell.sockets.agentsocket import TIMEOUT

Value = TypeVar("Value")
Text = TypeVar("Text")
Rows = Callable[[Value], Iterable[Iterable[object]]]
Told = Callable[[int], None]


@dataclass(slots=True)
class Agents:
    """Who is asked. `failures` are nodes that did not answer so far."""

    run_dir: Path
    ways: Ways
    failures: dict[str, L3netError] = field(default_factory=dict)
    _doors: Mapping[str, Door] | None = None

    @property
    def here(self) -> bool:
        """Whether this node's agent is asked, and no other."""
        return not self.ways.chosen

    @property
    def several(self) -> bool:
        """Whether rows and objects name their node."""
        return self.ways.all_nodes or len(self.ways.nodes) > 1

    @property
    def doors(self) -> Mapping[str, Door]:
        """By node; of this node's agent alone, under no name. Raises ConfigError, L3netError."""
        if self._doors is None:
            self._doors = {"": SocketDoor(self.run_dir / AGENT_SOCKET)} if self.here else self.ways.doors()
        return self._doors

    def each(
        self,
        question: Question,
        read: Callable[[dict[str, Any]], Value],
        patience: float = TIMEOUT,
        told: Told = lambda _octets: None,
    ) -> list[tuple[str, Value]]:
        """What `read` makes of each node's answer. Nodes that give none are named on standard error and make
        the exit code 1. Of one node alone, and where none answers, raises what is wrong: NotRunningError,
        ConfigError where all say so of the question, L3netError. `told`: octets so far, of this node."""
        if self.here:
            text = question("") if callable(question) else question
            answer = ask(self.run_dir / AGENT_SOCKET, text, patience, told)
            return [("", understood(answer, read, f"{self.run_dir / AGENT_SOCKET}: "))]
        if not self.several:
            ((node, door),) = self.doors.items()
            try:
                with waiting(patience, f"{node} does"):
                    answer = door.ask(question(node) if callable(question) else question, patience)
                return [(node, understood(answer, read))]
            except NotRunningError as err:
                raise NotRunningError(f"{node}: {err}") from None
            except L3netError as err:
                if type(err) is not L3netError:
                    raise  # of the question
                raise L3netError(f"{node}: {err}") from None
        with waiting(patience, "some nodes do"):
            answers, failures = ask_all(self.doors, question, patience, read)
        if not answers and (wrong := alike(failures)) is not None:
            raise wrong
        self._tell(failures)
        if not answers:
            raise NotRunningError(f"none of {len(self.doors)} nodes answers")
        return list(answers.items())

    def _tell(self, failures: Mapping[str, L3netError]) -> None:
        for node, err in failures.items():
            if node not in self.failures:
                told = "".join(each if each.isprintable() else " " for each in f"{node}: {err}")
                click.echo(f"l3net: {told}", err=True)
        self.failures.update(failures)

    def rendered(
        self, found: Sequence[tuple[str, Value]], render: Callable[[Value], Text]
    ) -> list[tuple[str, Text]]:
        """For people, of each node. One that says what cannot be shown is as one that does not answer."""
        told: list[tuple[str, Text]] = []
        for node, value in found:
            try:
                told.append((node, render(value)))
            except (LookupError, TypeError, ValueError, AttributeError) as err:
                if self.here:
                    raise misunderstood(err, f"{self.run_dir / AGENT_SOCKET}: ") from None
                why = misunderstood(err)
                if not self.several:
                    raise L3netError(f"{node}: {why}") from None
                self._tell({node: why})
        return told

    def table(
        self,
        columns: Sequence[str],
        found: Sequence[tuple[str, Value]],
        rows: Rows[Value],
        *,
        spare: Sequence[str] = (),
    ) -> None:
        """One table of all; `rows` gives the cells of one node; a narrow terminal goes without `spare`."""
        told = self.rendered(found, lambda value: [[*cells] for cells in rows(value)])
        lines = [self.row(node, each) for node, cells in told for each in cells]
        print_table("", self.columns(columns), lines, spare=spare)

    # --- printing ----------------------------------------------------------------------------------------

    def columns(self, names: Sequence[str]) -> list[str]:
        return ["NODE", *names] if self.several else [*names]

    def row(self, node: str, cells: Sequence[object]) -> list[object]:
        return [node, *cells] if self.several else [*cells]

    def title(self, node: str, text: str = "") -> str:
        """Above what one node said."""
        return f"node {node}{': ' * bool(text)}{text}" if self.several else text

    def print(self, found: Sequence[tuple[str, Any]], output: str) -> None:
        """JSON or YAML: of one node what it said, of several one list of objects with their `node`."""
        print_value(self.named(found) if self.several else found[0][1], output)

    def named(self, found: Sequence[tuple[str, Any]]) -> list[Any]:
        """Rows of all, each with its node."""
        told = self.rendered(
            found, lambda value: [dict(row) for row in (value if isinstance(value, list) else [value])]
        )
        return [{"node": node, **row} | {"node": node} for node, rows in told for row in rows]


def agents_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which agents are asked, passed as `agents`."""

    @functools.wraps(function)
    def wrapped(*args: Any, agents: Agents, **given: Any) -> Any:
        if agents.ways.given and not agents.ways.chosen:
            raise click.UsageError(f"{agents.ways.given}: say which node with --node, or --all-nodes")
        return function(*args, agents=agents, **given)

    return any_agents_option(wrapped)


def any_agents_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, of a command that itself says who is asked where only the way to nodes is named."""

    @functools.wraps(function)
    def wrapped(*args: Any, run_dir: Path, **given: Any) -> Any:
        agents = Agents(run_dir, Ways.taken(given))
        result = None
        try:
            result = function(*args, agents=agents, **given)
        except (SystemExit, click.exceptions.Exit) as end:
            if (end.code if isinstance(end, SystemExit) else end.exit_code) or not agents.failures:
                raise
        if agents.failures:
            sys.exit(1)
        return result

    return way_options(wrapped)


def here_alone(agents: Agents, option: str) -> None:
    """Raises UsageError where other nodes are asked, which `option` cannot be."""
    if not agents.here:
        raise click.UsageError(f"{option} is of this node alone: without --node and --all-nodes")


def checked(answer: dict[str, Any], key: str, older: str) -> dict[str, Any]:
    """The answer. Raises ConfigError with what the agent refuses, or `older` where it lacks `key`."""
    if key not in answer:
        said = str(answer.get("error", ""))
        raise ConfigError(older if not said or said.startswith("ask for: ") else said)
    return answer
