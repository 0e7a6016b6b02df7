"""How `l3net migrate plan` is told, to people and to programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from l3net.cli.output import print_table

if TYPE_CHECKING:
    from l3net.migrating.planning import NodePlan


def show(found: NodePlan, conf_dir: Path) -> None:
    from l3net.attach.migrationstate import mentions  # noqa: PLC0415 - after --help

    if found.obstacles:
        obstacles = [(each.what, each.why, each.remedy) for each in found.obstacles]
        print_table("in the way", ("POD", "WHY", "WHAT TO DO"), obstacles)
        click.echo()
    if found.moves:
        rows = [
            (
                move.pod,
                ", ".join(str(each.address) for each in move.lease.addresses),
                f"{move.port.master or 'routed'} ({move.port.host_ifname})",
                move.lease.host_ifname,
            )
            for move in found.moves
        ]
        print_table("pods to move", ("POD", "ADDRESSES", "FROM", "HOST INTERFACE"), rows)
        click.echo()
    blocks = ", ".join(map(str, found.blocks)) or "none"
    click.echo(f"node {found.node}, blocks {blocks}: {len(found.moves)} pods to move")
    for bridge in found.bridges:
        click.echo(f"bridge {bridge} loses its addresses to l3net0")
    for name in found.aside:
        click.echo(f"{conf_dir / name} is put aside")
    if found.others:
        names = ", ".join(sorted({each.master or each.host_ifname for each in found.others}))
        click.echo(f"{len(found.others)} interfaces of other networks stay as they are ({names})")
    for note in mentions(found.bridges):
        click.echo(f"note: {note}")


def told(found: NodePlan) -> dict[str, Any]:
    from l3net.attach.migrationstate import mentions  # noqa: PLC0415 - after --help

    return {
        "node": found.node,
        "possible": found.possible,
        "blocks": [str(each) for each in found.blocks],
        "moves": [
            {
                "pod": move.pod,
                "containerID": move.lease.key.container_id,
                "addresses": [str(each.address) for each in move.lease.addresses],
                "from": move.port.master,
                "hostInterface": move.port.host_ifname,
                "newHostInterface": move.lease.host_ifname,
            }
            for move in found.moves
        ],
        "obstacles": [{"pod": each.what, "why": each.why, "remedy": each.remedy} for each in found.obstacles],
        "bridges": list(found.bridges),
        "aside": list(found.aside),
        "others": [each.host_ifname for each in found.others],
        "notes": mentions(found.bridges),
    }
