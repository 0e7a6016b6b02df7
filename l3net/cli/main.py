"""The `l3net` command. A subcommand is imported when it is called, so that each starts as light as it is."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import stat
import sys
from typing import Any

import click

from l3net import __version__
from l3net.errors import L3netError

#: name -> (module, attribute, one line of help)
COMMANDS = {
    "agent": ("l3net.cli.agent", "agent", "Run the node agent."),
    "bfd": ("l3net.cli.bfd", "bfd", "Monitor the paths to BGP peers (BFD)."),
    "bgp": ("l3net.cli.bgp", "bgp", "Show BGP on this node, and plan changes."),
    "bundle": ("l3net.cli.bundle", "bundle", "Collect the state of this node in one archive."),
    "cni": ("l3net.cli.cni", "cni", "Install or remove the CNI plugin."),
    "completion": ("l3net.cli.completion", "completion", "Print the completion script of a shell."),
    "conformance": ("l3net.cli.conformance", "conformance", "Test a CNI plugin for conformance."),
    "controller": ("l3net.cli.controller", "controller", "Run the cluster's controller."),
    "doctor": ("l3net.cli.doctor", "doctor", "Find problems on this node or in the cluster."),
    "explain": ("l3net.cli.explain", "explain", "Explain why something is reachable or not."),
    "flows": ("l3net.cli.flows", "flows", "Show connections and drops, with names of pods and services."),
    "glass": ("l3net.cli.glass", "glass", "Serve the looking glass, a web page."),
    "history": ("l3net.cli.history", "history", "Show the decisions of this node, with time and reason."),
    "import": (
        "l3net.cli.importing",
        "import_group",
        "Convert the configuration of Calico, MetalLB, Cilium or kube-router.",
    ),
    "ipam": ("l3net.cli.ipam", "ipam", "Show and repair the address leases of this node."),
    "lab": ("l3net.cli.lab", "lab", "Bring up a lab of nodes and routers on this machine."),
    "migrate": ("l3net.cli.migrate", "migrate", "Move a node's pods from another network, and back."),
    "node": ("l3net.cli.node", "node", "Drain this node from BGP, and undo it."),
    "plan": ("l3net.cli.plan", "plan", "Show what manifests would change, before you apply them."),
    "policy": ("l3net.cli.policy", "policy", "Show and test network policies."),
    "router-config": (
        "l3net.cli.routerconfig",
        "router_config",
        "Write the configuration for the routers.",
    ),
    "schema": ("l3net.cli.schema", "schema", "Print the JSON schema of a command's output."),
    "speaker": ("l3net.cli.speaker", "speaker", "Run the BGP speaker (ExaBGP) of this node."),
    "status": ("l3net.cli.status", "status", "Show the state of this node."),
    "trace": ("l3net.cli.trace", "trace", "Send probes, and show where they stop and why."),
    "uninstall": ("l3net.cli.uninstall", "uninstall", "Remove l3net from this host."),
    "validate": ("l3net.cli.validate", "validate", "Check manifests without applying them."),
    "version": ("l3net.cli.version", "version", "Show the release of this command and of running processes."),
}


class LazyGroup(click.Group):
    """Imports a subcommand's module only when it is called or its own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in sorted(COMMANDS)])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 no l3net process answers.",
)
@click.version_option(__version__, prog_name="l3net")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """l3net: a routed pod network for Kubernetes and plain hosts.

    To try it, run `l3net lab demo` as root.
    """
    # https://no-color.org: whatever its value, unless it is empty; a dumb terminal shows escapes as text.
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False


def configure_logging(level: str, form: str = "text") -> None:
    """One line an event on standard error, as `text` or `json`."""
    from l3net.cli.logs import configure  # noqa: PLC0415 - of processes that log

    configure(level, form)


def main(program: str = "l3net") -> None:
    """Console entry point: errors of ours become one line and an exit code. `program`: as it was called."""
    if "_L3NET_COMPLETE" in os.environ:
        from l3net.cli.completion import prepare  # noqa: PLC0415 - while somebody completes

        prepare()
    piped = False
    with contextlib.suppress(OSError):  # there is none
        piped = stat.S_ISFIFO(os.fstat(1).st_mode)
    if piped:
        sys.stdout = _to_a_pipe()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of links may be any bytes
    try:
        code = _outcome(program)
        if piped and not sys.stdout.closed:
            sys.stdout.flush()
    except PipeClosedError:
        # As any program ends whose reader has gone: shells make 141 of it, and nothing is said.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    sys.exit(code)


class PipeClosedError(BaseException):
    """Nobody reads what is printed any more. It is no error of the command's, so that nothing catches it as
    one, and what is to be undone is."""


class _Pipe(io.FileIO):
    """Standard output, where that is a pipe."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise PipeClosedError from None


def _to_a_pipe() -> io.TextIOWrapper:
    """Click and rich would end with 1."""
    raw = _Pipe(1, "wb", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=sys.stdout.encoding, errors=sys.stdout.errors)


def _outcome(program: str) -> int:
    """The exit code."""
    try:
        # What a command's context exits with is returned here, not raised.
        code = cli.main(prog_name=program, complete_var="_L3NET_COMPLETE", standalone_mode=False)
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        return end.code or 0
    except click.Abort:
        return 130
    except click.ClickException as err:
        err.show()
        return err.exit_code
    except L3netError as err:
        click.echo(f"l3net: {err}", err=True)
        return err.exit_code
    except OSError as err:  # of a file that a command was told of, or a full disk behind its output
        where = f"{err.filename}: " if err.filename is not None else ""
        click.echo(f"l3net: {where}{err.strerror or type(err).__name__}", err=True)
        with contextlib.suppress(OSError):
            sys.stdout.close()  # else it would fail once more at the end
        return 1
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
