"""`l3net completion`."""

from __future__ import annotations

import os

import click
from click.shell_completion import BashComplete, add_completion_class, get_completion_class, split_arg_string

SHELLS = ("bash", "zsh", "fish")
#: How a shell's script asks, whatever the program is called.
VARIABLE = "_L3NET_COMPLETE"

# Bash takes a colon for the end of a word, of which addresses, ports and communities have many. So the line
# itself is handed on, and what stands before the last colon is left out of the replies.
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value line begun
    line="${COMP_LINE:0:COMP_POINT}"
    begun="${line##*[[:space:]]}"
    if [[ $COMP_WORDBREAKS == *:* && $begun == *:* ]]; then
        begun="${begun%%"${begun##*:}"}"
    else
        begun=""
    fi
    response=$(L3NET_COMP_LINE="$line" %(complete_var)s=bash_complete "$1" 2>/dev/null)
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("${value#"$begun"}")
        fi
    done
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    """Of the line as it was typed, not of the words that Bash makes of it."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("L3NET_COMP_LINE")
        if line is None:  # a script of an older release
            return super().get_completion_args()
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1].isspace() else ""
        return words, incomplete


def prepare() -> None:
    """Have click ask and answer as our scripts do."""
    add_completion_class(_Bash)


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a completion script for l3net's commands, options and values.

    Values come from the running agent: peers, services, pods, prefixes, policies. There are none if no
    agent runs, or if you may not ask it.

    \b
    bash:  l3net completion bash > /etc/bash_completion.d/l3net
    zsh:   l3net completion zsh > "${fpath[1]}/_l3net"
    fish:  l3net completion fish > ~/.config/fish/completions/l3net.fish
    """
    from l3net.cli.main import cli  # noqa: PLC0415 - the group imports this module

    prepare()
    found = get_completion_class(shell)
    if found is None:  # pragma: no cover - all of SHELLS are known to click
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(cli, {}, "l3net", VARIABLE).source())
