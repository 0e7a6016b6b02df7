"""`l3net lab`: a cluster and its fabric in network namespaces."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from l3net.cli.lab_chaos import chaos
from l3net.cli.lab_export import export
from l3net.cli.lab_findings import print_findings
from l3net.cli.lab_glass import glass
from l3net.cli.lab_machines import break_, known_topology, need_root, opened, repair_, which_lab
from l3net.cli.output import output_option, print_table, print_value
from l3net.cli.renamed import alias, old_flag
from l3net.cli.values import labs
from l3net.errors import L3netError
from l3net.lab import state
from l3net.lab.advice import warnings
from l3net.lab.breaking import are_cut
from l3net.lab.checks import CHECKS, Check, run_checks
from l3net.lab.checks.catalogue import SILENT
from l3net.lab.drawing import FORMATS
from l3net.lab.errors import LabError, LabExistsError, UnknownNameError
from l3net.lab.host import Host
from l3net.lab.look import look
from l3net.lab.machine import CheckedLab
from l3net.lab.state import DEFAULT_NAME, read_source
from l3net.lab.topology import Link, RouterKind, Topology
from l3net.lab.up import Lab, Progress, bring_up, open_lab, take_down

_name = click.option(
    "--name",
    default=DEFAULT_NAME,
    show_default=True,
    metavar="NAME",
    help="Name of the lab; several can run side by side.",
    shell_complete=labs,
)
_router_kind = click.option(
    "--router-kind",
    type=click.Choice([kind.value for kind in RouterKind]),
    help="Software for every router; overrides the topology.",
)
_topology = click.argument("topology", required=False, type=click.Path(path_type=Path, dir_okay=False))


def _hosts(context: click.Context, _parameter: click.Parameter, begin: str) -> list[CompletionItem]:
    """Of the lab that runs, for a shell: hosts, then pods."""
    topology = known_topology(context)
    names = [*topology.hosts, *topology.pods] if topology else []
    return [CompletionItem(name) for name in names if name.startswith(begin)]


def _checks(_context: click.Context, _parameter: click.Parameter, begin: str) -> list[CompletionItem]:
    return [CompletionItem(check.name) for check in (*CHECKS, SILENT) if check.name.startswith(begin)]


@click.group()
def lab() -> None:
    """Run nodes, routers and clients in network namespaces, built from one topology file.

    Needs root. It changes nothing outside the lab's namespaces except /run/l3net-lab.
    """


for command in (chaos, export, break_, glass, repair_):
    lab.add_command(command)
alias(lab, "mend", "repair")


def _progress() -> Progress:
    start = time.monotonic()

    def say(what: str) -> None:
        click.secho(f"{time.monotonic() - start:5.1f} s  ", fg="cyan", nl=False, err=True)
        click.echo(what, err=True)

    return say


@lab.command()
@_topology
@_name
@_router_kind
def up(topology: Path | None, name: str, router_kind: str | None) -> None:
    """Bring a lab up: TOPOLOGY, or the default with two racks, a spine and three nodes."""
    need_root()
    source = read_source(topology, RouterKind(router_kind) if router_kind else None)
    _warn(source.topology())
    say = _progress()
    _up_or_down(name, lambda: bring_up(name, source, say))
    see = ", ".join(f"`l3net lab {command}{_option(name)}`" for command in ("status", "check", "glass"))
    say(f"up; see {see}")


def _up_or_down(name: str, make: Callable[[], Lab]) -> Lab:
    """Bring up; on failure say where the logs are, since the lab stays for inspection."""
    try:
        return make()
    except (LabError, KeyboardInterrupt):
        if state.lab_directory(name).exists():
            click.echo(
                f"hosts that are up stay up: look at {state.lab_directory(name)}/HOST/*.log, "
                f"then `l3net lab down{_option(name)}`",
                err=True,
            )
        raise


@lab.command()
@_name
def down(name: str) -> None:
    """Remove a lab in any state."""
    need_root()
    hosts = take_down(name)
    click.echo(f"lab {name}: {hosts} hosts removed" if hosts else f"lab {name}: nothing left to remove")


@lab.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_name
@click.argument("host", shell_complete=_hosts)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def exec_(name: str, host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND (default: a shell) inside HOST; a pod is POD or NODE/POD."""
    need_root()
    there = open_lab(name)
    given = command[1:] if command[:1] == ("--",) else command
    inside, pod = target_of(there, host)
    argv = [*inside.enter(pod), *(given or ("sh",))]
    os.chdir("/")
    # We give way to the command: terminal, signals and exit code are its own.
    os.execvpe(argv[0], argv, {**os.environ, **inside.environment()})  # noqa: S606


def target_of(there: Lab, target: str) -> tuple[Host, str | None]:
    """The host that is meant, and the pod on it if one is. Raises LabError."""
    node, slash, pod = target.partition("/")
    pods = there.topology.pods
    if slash:
        if pod not in pods or pods[pod].name != node:
            there_are = ", ".join(pods) or "none"
            raise UnknownNameError(f"there is no pod {pod!r} on {node!r}: pods are {there_are}")
        return there.host(node), pod
    if target in pods and target not in there.hosts:
        return there.host(pods[target].name), target
    return there.host(target), None


@lab.command()
@_topology
@_name
@_router_kind
@click.option(
    "--format",
    "style",
    type=click.Choice(list(FORMATS)),
    default="terminal",
    show_default=True,
    help="What it is drawn as.",
)
def graph(topology: Path | None, name: str, router_kind: str | None, style: str) -> None:
    """Draw TOPOLOGY, or the lab that is up, or the default. Cut links are crossed out.

    A lab given with --name must be up.
    """
    kind = RouterKind(router_kind) if router_kind else None
    cut: tuple[Link, ...] = ()
    named = click.get_current_context().get_parameter_source("name") is ParameterSource.COMMANDLINE
    if topology is None and kind is None and (named or (state.lab_directory(name) / "lab.json").exists()):
        drawn = state.load(name)[1]
        if os.geteuid() == 0:  # nobody else sees a link of a namespace
            with suppress(L3netError):
                cut = are_cut(open_lab(name))
    else:
        drawn = read_source(topology, kind).topology()
        _warn(drawn)
    click.echo(FORMATS[style](drawn, cut), nl=False)


def _warn(topology: Topology) -> None:
    for text in warnings(topology):
        click.echo(f"warning: {text}", err=True)


def _option(name: str) -> str:
    return "" if name == DEFAULT_NAME else f" --name {name}"


@lab.command()
@which_lab
@output_option
@click.option(
    "--only",
    multiple=True,
    metavar="CHECK",
    help="Run only this check. Repeatable.",
    shell_complete=_checks,
)
@click.option(
    "--skip", multiple=True, metavar="CHECK", help="Skip this check. Repeatable.", shell_complete=_checks
)
@click.option("--non-disruptive", is_flag=True, help="Skip checks that break something and repair it.")
@click.option(
    "--silent-failure",
    is_flag=True,
    help="Also make a node fail silently; routers notice it by their hold time.",
)
@click.option(
    "--patience",
    type=click.FloatRange(1, 1000),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="With --ssh-config: multiply all time limits, for machines in software emulation.",
)
@old_flag("--gently", "--non-disruptive")
@old_flag("--silent", "--silent-failure")
def check(
    name: str,
    ssh_config: Path | None,
    topology: Path | None,
    output: str,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    non_disruptive: bool,
    silent_failure: bool,
    patience: float,
) -> None:
    """Check that pods and services answer from outside, that routers have the expected routes, and what
    happens when something breaks.

    Exit code 1: a check failed.
    """
    chosen = _chosen(only, skip, non_disruptive, silent_failure)
    with opened(name, ssh_config, topology, patience) as there:
        ok = _check(there, chosen, output, _progress())
    if not ok:
        raise SystemExit(1)


def _chosen(
    only: tuple[str, ...], skip: tuple[str, ...], non_disruptive: bool, silent_failure: bool
) -> list[Check]:
    """The checks to run; an unknown name is a usage error."""
    known = {check.name: check for check in (*CHECKS, SILENT)}
    for given in (*only, *skip):
        if given not in known:
            raise click.BadParameter(f"{given!r} is none of {', '.join(known)}")
    checks = [known[given] for given in only] or [*CHECKS, *([SILENT] if silent_failure else [])]
    return [check for check in checks if check.name not in skip and not (non_disruptive and check.disturbs)]


def _check(there: CheckedLab, checks: list[Check], output: str, say: Progress) -> bool:
    """Run checks and print their findings; whether all is well."""
    findings = list(run_checks(there, checks, lambda check: say(f"checking: {check.title}")))
    if output != "table":
        print_value(
            {
                "ok": all(finding.ok for finding in findings),
                "findings": [asdict(finding) for finding in findings],
            },
            output,
        )
        return all(finding.ok for finding in findings)
    print_findings(checks, findings)
    return all(finding.ok for finding in findings)


@lab.command()
@_name
@output_option
def status(name: str, output: str) -> None:
    """Show hosts with their daemons, sessions and memory, and pods with their addresses."""
    need_root()
    seen = look(open_lab(name))
    if output != "table":
        print_value(seen, output)
        return
    for first, second in seen["cut"]:
        click.echo(f"problem: the link {first} - {second} is cut; `l3net lab repair{_option(name)}` mends it")
    print_table(
        f"Lab {name}",
        ["HOST", "ROLE", "PID", "DAEMONS", "SESSIONS", "MEMORY"],
        [
            (
                host["name"],
                host["role"],
                host["pid"],
                ", ".join(
                    f"{daemon}{'' if alive else ' (ended)'}" for daemon, alive in host["daemons"].items()
                ),
                host["sessions"],
                ", ".join(f"{process} {size} MiB" for process, size in host["memoryMiB"].items()),
            )
            for host in seen["hosts"]
        ],
    )
    click.echo()
    print_table(
        "Pods",
        ["POD", "NODE", "ADDRESSES"],
        [(pod["name"], pod["node"], ", ".join(pod["addresses"])) for pod in seen["pods"]],
    )


@lab.command()
@_topology
@_name
@_router_kind
@click.option("--keep", is_flag=True, envvar="KEEP", help="Leave the lab up; also KEEP=1.")
def demo(topology: Path | None, name: str, router_kind: str | None, keep: bool) -> None:
    """Bring a lab up, check everything, draw it, remove it. Exit code 1: a check failed."""
    need_root()
    say = _progress()
    source = read_source(topology, RouterKind(router_kind) if router_kind else None)
    ok = False
    try:
        there = (
            _up_or_down(name, lambda: bring_up(name, source, say)) if keep else bring_up(name, source, say)
        )
        ok = _check(there, list(CHECKS), "table", say)
        click.echo()
        click.echo(FORMATS["terminal"](there.topology))
    except LabExistsError:
        keep = True  # it is somebody else's
        raise
    finally:
        if not keep:
            say("taking the lab down")
            take_down(name)
            say("done")
    if keep:
        click.echo(_what_to_try(there, name))
    if not ok:
        raise SystemExit(1)


def _program() -> str:
    """This command as it can be typed here: by its name if that is on the path."""
    if shutil.which("l3net"):
        return "l3net"
    program = Path(sys.argv[0]).resolve()
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else str(program)


def _what_to_try(there: Lab, name: str) -> str:
    """Commands worth typing into a lab that stays up."""
    command, option = f"{_program()} lab", _option(name)
    topology = there.topology
    lines = ["The lab is up. Try:", f"  {command} status{option}"]
    commands = {RouterKind.FRR: "vtysh -c 'show bgp ipv4'", RouterKind.BIRD: "birdc show route",
                RouterKind.GOBGP: "gobgp global rib",
                RouterKind.OPENBGPD: "bgpctl show rib", RouterKind.L3NET: "l3net status"}  # fmt: skip
    if topology.routers:
        router = topology.routers[-1]
        lines.append(f"  {command} exec{option} {router.name} -- {commands[router.kind]}")
    addresses = [address for service in topology.services for address in service.cluster_ips]
    if topology.clients and addresses:
        where = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
        lines.append(f"  {command} exec{option} {topology.clients[0].name} -- curl -s http://{where}/")
    if topology.nodes:
        node = topology.nodes[-1].name
        lines.append(f"  {command} exec{option} {node} -- ip route")
        lines.append(f"  {command} glass{option}   # then open http://127.0.0.1:9179/")
        lines.append(f"  edit {there.manifests}/*.yaml and watch {there.directory}/{node}/agent.log")
    lines.append(f"  {command} check{option} --silent-failure")
    lines.append(f"  {command} down{option}")
    return "\n".join(lines)
