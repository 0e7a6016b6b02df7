"""`l3net conformance`: try any CNI plugin on what the specification and its users expect."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from l3net.cli.output import print_value
from l3net.conformance.run import default_conf, run_suite
from l3net.conformance.verdict import FAILED, PASSED, CaseVerdict, score
from l3net.errors import ConfigError

_COLOURS = {PASSED: "green", FAILED: "red"}


def _conf(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise ConfigError(f"{path}: {err}") from None
    if not isinstance(found, dict) or "type" not in found:
        raise ConfigError(f"{path}: not a network configuration (an object with `type`)")
    return found


@click.command()
@click.argument("plugin", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--conf", type=click.Path(exists=True, path_type=Path), help="Network configuration (JSON).")
@click.option("--standalone", is_flag=True, help="Test l3net-cni with its own ipam, without the agent.")
@click.option("--cni-path", help="Where to find delegated plugins [default: beside PLUGIN, /usr/lib/cni].")
@click.option("--only", default="", help="Only cases whose name contains this text.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Output format.")
def conformance(
    plugin: Path, conf: Path | None, standalone: bool, cni_path: str | None, only: str, output: str
) -> None:
    """Test PLUGIN in network namespaces of its own and check every answer (as root).

    Exit code 0: every applicable case passed.
    """
    if os.geteuid() != 0:
        raise ConfigError("network namespaces need root")
    used = _conf(conf) if conf else default_conf(plugin, standalone=standalone)
    where = cni_path or f"{plugin.resolve().parent}:/opt/cni/bin:/usr/lib/cni"

    def show(each: CaseVerdict) -> None:
        if output == "table":
            click.echo(f"{click.style(f'{each.verdict:14}', fg=_COLOURS.get(each.verdict))} ", nl=False)
            click.echo(f"{each.point:12} {each.title}{f' -- {each.why}' if each.why else ''}")

    logger = logging.getLogger("l3net")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # refusals are what is being tried
    try:
        verdicts = run_suite(plugin, used, where, only=only, progress=show)
    finally:
        logger.setLevel(before)
    passed, counted = score(verdicts)
    if output == "json":
        cases = [asdict(each) for each in verdicts]
        print_value({"plugin": str(plugin), "passed": passed, "of": counted, "cases": cases}, output)
    else:
        click.echo(f"{plugin.name}: {passed} of {counted} passed")
    sys.exit(0 if passed == counted else 1)
