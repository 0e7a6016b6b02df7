"""`l3net migrate`: from another network to l3net, node by node, with the pods that run."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from l3net.cli import migrate_options, options
from l3net.cli.migrate_options import HOST_LOCAL
from l3net.cli.migrate_show import show, told
from l3net.cli.output import output_option, print_value
from l3net.errors import ConfigError, L3netError
from l3net.naming import AGENT_SOCKET

if TYPE_CHECKING:
    from l3net.migrating.journal import Journal
    from l3net.migrating.planning import NodePlan


@click.group(short_help="Move a node's pods from another network, and back.")
def migrate() -> None:
    """Move this node from another network (bridge and host-local, kubenet, flannel, Calico) to l3net while
    its pods run: each keeps its interface, its address and its connections.

    Run these commands on the node, as root, where the pods' network namespaces can be seen. `status` shows
    where the node stands, `plan` what would be done and what is in the way, `node` does it, and puts all
    back if anything fails. `node --undo` gives the node back to the old network later; `finish` takes away
    what is left of it. docs/migration.md has the order for a whole cluster.
    """


@migrate.command()
@migrate_options.sources
@migrate_options.places
@output_option
def plan(output: str, **given: Any) -> None:
    """Show which pods of this node can be moved and what is in the way; nothing is changed.

    Exits with 0 where the node can be moved, 2 where something is in the way.

    \b
    l3net migrate plan --datastore dir:/etc/l3net/manifests
    l3net migrate plan --block 10.244.1.0/24 --block fd00:10:244:1::/64
    """
    _need_root()
    _need_none(_journal(given["state_dir"]))
    found, wrong = _planned(given)
    for each in wrong:
        click.echo(f"l3net: passed over {each}", err=True)
    if output == "table":
        show(found, given["conf_dir"])
    else:
        print_value(told(found), output)
    sys.exit(0 if found.possible else 2)


@migrate.command()
@migrate_options.sources
@migrate_options.places
@click.option(
    "--stop-old", default="", metavar="COMMAND", help="Stops the old network's daemon, if it has one."
)
@click.option("--start-old", default="", metavar="COMMAND", help="Starts it again, where all is put back.")
@click.option(
    "--start", default=None, metavar="COMMAND", help="Starts l3net [default: its units, if installed]."
)
@click.option(
    "--stop",
    default=None,
    metavar="COMMAND",
    help="Stops l3net if everything is put back [default: its units].",
)
@click.option(
    "--plugin-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="L3NET_PLUGIN_DIR",
    help="Where the built CNI plugins are [default: those of this installation].",
)
@click.option(
    "--timeout",
    type=options.Seconds(1, 3600),
    default=120.0,
    show_default=True,
    help="Seconds that l3net has to serve the node, before all is put back.",
)
@click.option("--undo", is_flag=True, help="Give the node back to the network that it was moved from.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def node(
    stop_old: str,
    start_old: str,
    start: str | None,
    stop: str | None,
    plugin_dir: Path | None,
    timeout: float,
    undo: bool,
    yes: bool,
    **given: Any,
) -> None:
    """Move this node to l3net, with its pods, or with --undo back.

    The agent must not run yet. In this order: new pods wait (l3net's network configuration takes the old
    one's place), the pods' addresses are put into l3net's lease store, each pod is moved to l3net's bridge,
    the old network's daemon is stopped, l3net is started. It is started by its units where they are
    installed, by the command of --start, or by somebody else meanwhile (in a cluster: give the Node the label
    that the DaemonSet selects).

    Everything is put back if a step fails, a pod no longer answers, l3net does not serve the node in time, or
    you press Ctrl-C. Before that what was there is written to migration.json in --state-dir, so that
    --undo works after a crash too.

    Exits with 0 when l3net serves the node, 2 when something is in the way (nothing was changed), 1 when it
    failed and all was put back.

    \b
    l3net migrate node
    l3net migrate node --stop-old 'systemctl stop bird' --start-old 'systemctl start bird'
    l3net migrate node --undo
    """
    from l3net.attach.migration import STOPPING, Commands, NodeMove  # noqa: PLC0415 - after --help
    from l3net.shell.files.cniinstall import agent_answers  # noqa: PLC0415
    from l3net.shell.kernel import sysctl  # noqa: PLC0415

    _need_root()
    journal = _journal(given["state_dir"])
    commands = Commands(stop_old, start_old, *_starting(start, stop))
    mover = NodeMove(_where(given, plugin_dir), commands, say, timeout=timeout, mtu=0)
    _steadfast(STOPPING)
    sysctl.remember(given["run_dir"])
    if undo:
        _undo(mover, journal, yes=yes)
        return
    _need_none(journal)
    if agent_answers(given["run_dir"] / AGENT_SOCKET):
        raise ConfigError("l3net's agent runs already: stop it first, this command starts it in its time")
    found, _ = _planned(given)
    if not found.possible:
        show(found, given["conf_dir"])
        raise ConfigError(f"{len(found.obstacles)} things are in the way; nothing was changed")
    if not yes:
        _sure(f"move {len(found.moves)} pods of node {found.node} to l3net?")
    mover.go(found)
    say(f"node {found.node} is l3net's. The way back: `l3net migrate node --undo`")


def _undo(mover: Any, journal: Journal | None, *, yes: bool) -> None:
    from l3net.shell.kernel.removal import attached  # noqa: PLC0415 - after --help

    if journal is None:
        raise ConfigError("there is no journal of a move here: nothing to put back")
    known = {each.new_ifname for each in journal.pods}
    if others := [alias or name for name, alias in attached() if name not in known]:
        raise L3netError(
            f"l3net has made {len(others)} pods since: {', '.join(others[:3])}. Cordon the node and delete "
            "them first"
        )
    if not yes:
        _sure(f"give {len(journal.pods)} pods of node {journal.node} back?")
    count = mover.undo(journal)
    click.echo(f"node {journal.node} is the old network's again, with {count} of its pods")


@migrate.command()
@migrate_options.places
@click.option("--yes", is_flag=True, help="Do not ask.")
def finish(state_dir: Path, conf_dir: Path, bin_dir: Path, run_dir: Path, yes: bool) -> None:
    """Take away what the old network has left on this node, when all nodes are moved. There is no way back.

    Removes its bridge, if no pod is on it, the configuration that was put aside, the journal, the rules by
    which its plugins masquerade the moved pods, and routes through tunnel devices to prefixes that l3net has
    a route to. What else is left is named and stays, such as tunnel devices.
    """
    from l3net.attach.migrationstate import finished  # noqa: PLC0415 - after --help

    del bin_dir, run_dir
    _need_root()
    journal = _journal(state_dir)
    if journal is None or journal.state != "moved":
        raise ConfigError("this node has not been moved: see `l3net migrate status`")
    if not yes:
        _sure(f"remove what is left of the old network on node {journal.node}?")
    for each in finished(journal, state_dir, conf_dir):
        click.echo(each)


@migrate.command()
@migrate_options.places
@output_option
def status(state_dir: Path, conf_dir: Path, bin_dir: Path, run_dir: Path, output: str) -> None:
    """Show which network this node is of, how many of its pods are on which, and what remains to be done.

    Exits with 0, or 1 where a move was begun and not ended.
    """
    from l3net.attach.migrationstate import standing  # noqa: PLC0415 - after --help

    del bin_dir
    found = standing(_journal(state_dir), conf_dir, run_dir)
    if output == "table":
        for key, value in found.items():
            click.echo(f"{_WORDS[key]:<22}{_NO_MOVE if (key, value) == ('state', 'none') else _words(value)}")
    else:
        print_value(found, output)
    sys.exit(1 if found["state"] == "unfinished" else 0)


#: The state of a node that no journal tells of: not moved yet, or `finish` has ended it.
_NO_MOVE = "no move begun, or none to finish"
_WORDS = {
    "state": "this node",
    "node": "its name",
    "since": "since",
    "runtimeTakes": "the runtime takes",
    "agentRuns": "l3net's agent runs",
    "podsOfL3net": "pods on l3net",
    "podsMoved": "moved, still there",
    "bridges": "other bridges",
    "remains": "to do",
}


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return str(value) if value not in (None, "") else "-"


# --- what they share -------------------------------------------------------------------------------------


def _sure(question: str) -> None:
    """Raises ConfigError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} There is no terminal to answer: say --yes")
    click.confirm(question, abort=True)


def _need_root() -> None:
    if os.geteuid() != 0:
        raise ConfigError("this needs root (interfaces, network namespaces of pods): try again with sudo")


def _need_none(journal: Journal | None) -> None:
    if journal is None:
        return
    if journal.state == "moved":
        raise ConfigError(f"node {journal.node} has been moved: see `l3net migrate status`")
    raise ConfigError("a move was begun and not ended: `l3net migrate node --undo` puts all back")


def _steadfast(stopping: tuple[signal.Signals, ...]) -> None:
    """Nothing ends a move half way: signals put it back."""
    for each in stopping:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(each, _interrupted)


def say(text: str) -> None:
    """On standard output, as far as somebody reads it: a pipe that is closed, or a terminal that is gone,
    stops no move, nor what puts it back.
    """
    from l3net.cli.main import PipeClosedError  # noqa: PLC0415 - it imports the commands

    with suppress(OSError, PipeClosedError):
        click.echo(text)


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _journal(state_dir: Path) -> Journal | None:
    from l3net.shell.files.journalfile import read_journal  # noqa: PLC0415 - after --help

    return read_journal(state_dir)


def _starting(start: str | None, stop: str | None) -> tuple[str, str]:
    units = Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None
    if units and any(Path(each, "l3net-agent.service").exists() for each in _UNITS):
        start = "systemctl start l3net-speaker l3net-agent" if start is None else start
        stop = "systemctl stop l3net-agent l3net-speaker" if stop is None else stop
    return start or "", stop or ""


_UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")


def _where(given: dict[str, Any], plugin_dir: Path | None) -> Any:
    from l3net.attach.migration import Places  # noqa: PLC0415 - after --help
    from l3net.cli.cni import plugins_of  # noqa: PLC0415

    return Places(
        given["state_dir"],
        given["run_dir"],
        given["conf_dir"],
        given["bin_dir"],
        plugin_dir or plugins_of(),
        migrate_options.root(),
    )


def _planned(given: dict[str, Any]) -> tuple[NodePlan, list[str]]:
    """What would be done, and what of the ledgers could not be read."""
    from l3net.addresses import parse_prefix  # noqa: PLC0415 - after --help
    from l3net.attach.migrationstate import look, need_our_name  # noqa: PLC0415
    from l3net.cli.plan import declared_now  # noqa: PLC0415
    from l3net.config import datastore  # noqa: PLC0415
    from l3net.migrating.planning import plan as decide  # noqa: PLC0415
    from l3net.shell.files.cniinstall import CONFLIST  # noqa: PLC0415

    name, conf_dir = given["node_name"], given["conf_dir"]
    if not conf_dir.is_dir():
        raise ConfigError(f"--conf-dir: {conf_dir} is no directory; name the one that the runtime reads")
    need_our_name()
    try:
        blocks = tuple(parse_prefix(each, strict=True) for each in given["blocks"])
    except ValueError as err:
        raise ConfigError(f"--block: {err}") from None
    if not blocks:
        in_cluster = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        chosen = datastore(given["where"], given["kubeconfig"], in_cluster=in_cluster)
        declared = declared_now(chosen.directory, chosen.kubeconfig).nodes
        if name not in declared:
            raise ConfigError(f"no Node named {name} is declared: --node-name says which one this host is")
        blocks = tuple(declared[name].blocks)
    networks = migrate_options.below(migrate_options.root(), HOST_LOCAL)
    host_local = [migrate_options.below(migrate_options.root(), each) for each in given["host_local"]]
    for each in host_local:
        if not each.is_dir():
            raise ConfigError(f"--host-local: {each} is no directory")
    if not host_local and networks.is_dir():
        host_local = [each for each in networks.iterdir() if each.is_dir()]
    ports, claims, wrong = look(given["cni_cache"], host_local, given["calico"], migrate_options.root())
    files = [each.name for each in conf_dir.iterdir()]
    return decide(name, blocks, ports, claims, files, CONFLIST), wrong
