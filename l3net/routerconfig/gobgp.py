"""GoBGP (3.x), in TOML."""

from __future__ import annotations

import json

from l3net.routerconfig.facts import Neighbor, Router, header


def write(router: Router) -> str:
    notes = ["GoBGP has no BFD: let the nodes' `spec.bfd` be, or turn it off."]
    lines = header(router, "#", "GoBGP 3", *(notes if any(each.bfd for each in router.neighbors) else ()))
    lines += ["[global.config]", f"as = {router.as_number}", f'router-id = "{router.router_id or "0.0.0.1"}"']
    lines += [f"port = {router.port}", "[global.use-multiple-paths.config]", "enabled = true"]
    lines += ["[global.apply-policy.config]", 'import-policy-list = ["l3net-from-nodes"]']
    lines += ["[[defined-sets.neighbor-sets]]", 'neighbor-set-name = "l3net-nodes"']
    hosts = [f"{each.address}/{each.address.max_prefixlen}" for each in router.neighbors]
    lines.append(f"neighbor-info-list = {json.dumps(hosts)}")
    versions = [version for version in router.versions if router.of(version)]
    for version in versions:
        lines += ["[[defined-sets.prefix-sets]]", f'prefix-set-name = "l3net-nodes{version}"']
        for permit in router.of(version):
            lines += ["[[defined-sets.prefix-sets.prefix-list]]", f'ip-prefix = "{permit.prefix}"']
            lines.append(f'masklength-range = "{permit.low}..{permit.high}"')
    lines += ["[[policy-definitions]]", 'name = "l3net-from-nodes"']
    for version in versions:
        lines += _statement(f"accept{version}", "accept-route", f"l3net-nodes{version}")
    lines += _statement("reject", "reject-route")
    for each in router.neighbors:
        lines += _neighbor(router, each)
    return "\n".join(lines) + "\n"


def _statement(name: str, disposition: str, prefixes: str = "") -> list[str]:
    """About what comes from the nodes alone: other neighbours of the router are not touched."""
    where = "[policy-definitions.statements.conditions"
    lines = ["[[policy-definitions.statements]]", f'name = "l3net-{name}"']
    lines += [f"{where}.match-neighbor-set]", 'neighbor-set = "l3net-nodes"']
    lines += [f"{where}.match-prefix-set]", f'prefix-set = "{prefixes}"'] if prefixes else []
    return [*lines, "[policy-definitions.statements.actions]", f'route-disposition = "{disposition}"']


def _neighbor(router: Router, each: Neighbor) -> list[str]:
    local = next((one for one in router.addresses if one.version == each.address.version), None)
    lines = [
        "[[neighbors]]", "[neighbors.config]", f'neighbor-address = "{each.address}"',
        f"peer-as = {each.as_number}", f'description = "{each.node}"',
    ]  # fmt: skip
    lines += [f'auth-password = "{each.password}"'] if each.password else []
    lines += ["[neighbors.transport.config]", f"passive-mode = {str(each.dials).lower()}"]
    lines += [f'local-address = "{local}"'] if local else []
    lines += [f"remote-port = {each.port}"] if each.port != 179 else []
    lines += [
        "[neighbors.timers.config]",
        f"hold-time = {each.hold_time}",
        f"keepalive-interval = {each.hold_time // 3}",
    ]
    if each.gtsm:
        lines += ["[neighbors.ttl-security.config]", "enabled = true", "ttl-min = 255"]
    elif each.multihop is not None and each.multihop > 1:
        lines += ["[neighbors.ebgp-multihop.config]", "enabled = true", f"multihop-ttl = {each.multihop}"]
    lines += ["[neighbors.graceful-restart.config]", "enabled = true", "helper-only = true"]
    for version in each.versions:
        lines += [
            "[[neighbors.afi-safis]]", "[neighbors.afi-safis.config]",
            f'afi-safi-name = "ipv{version}-unicast"',
            "[neighbors.afi-safis.mp-graceful-restart.config]", "enabled = true",
            "[neighbors.afi-safis.prefix-limit.config]", f"max-prefixes = {router.limit}",
        ]  # fmt: skip
        if each.add_path:
            lines += ["[neighbors.afi-safis.add-paths.config]", "send-max = 8"]
    return lines
