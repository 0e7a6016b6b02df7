"""`l3net completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete l3net's commands and options.

    \b
    bash:  l3net completion bash > /etc/bash_completion.d/l3net
    zsh:   l3net completion zsh > "${fpath[1]}/_l3net"
    fish:  l3net completion fish > ~/.config/fish/completions/l3net.fish
    """
    from l3net.cli.main import cli  # noqa: PLC0415 - the group imports this module

    found = get_completion_class(shell)
    if found is None:  # pragma: no cover - all of SHELLS are known to click
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(cli, {}, "l3net", "_L3NET_COMPLETE").source())
