"""Juniper Junos, as `set` commands. Not run on a device."""

from __future__ import annotations

from l3net.routerconfig.facts import NOT_RUN, Neighbor, Router, header

_POLICY = "set policy-options policy-statement"


def write(router: Router) -> str:
    lines = header(router, "#", "Juniper Junos", NOT_RUN)
    lines += [f"set routing-options router-id {router.router_id}"] if router.router_id else []
    lines += [
        f"set routing-options autonomous-system {router.as_number}",
        "set routing-options forwarding-table export L3NET-ECMP",
        f"{_POLICY} L3NET-ECMP then load-balance per-packet",
    ]
    for place, permit in enumerate(router.permits):
        term = f"{_POLICY} L3NET-FROM-NODES term l3net{place}"
        lines.append(
            f"{term} from route-filter {permit.prefix} prefix-length-range /{permit.low}-/{permit.high}"
        )
        lines.append(f"{term} then accept")
    lines.append(f"{_POLICY} L3NET-FROM-NODES then reject")
    if any(each.as_number == router.as_number for each in router.neighbors):
        lines.append(f"{_POLICY} L3NET-TO-NODES then next-hop self")
    for each in router.neighbors:
        lines += _neighbor(router, each)
    return "\n".join(lines) + "\n"


def _neighbor(router: Router, each: Neighbor) -> list[str]:
    inside = each.as_number == router.as_number
    group = f"set protocols bgp group l3net-{'internal' if inside else 'external'}"
    who = f"{group} neighbor {each.address}"
    lines = [f"{group} type {'internal' if inside else 'external'}", f"{group} import L3NET-FROM-NODES"]
    lines += (
        [f"{group} export L3NET-TO-NODES", f"{group} multipath"]
        if inside
        else [f"{group} multipath multiple-as"]
    )
    lines += [f"{who} description {each.node}", f"{who} hold-time {each.hold_time}"]
    lines += [] if inside else [f"{who} peer-as {each.as_number}"]
    lines += [f"{who} passive"] if each.dials else []
    lines += [f"{who} authentication-key {each.password}"] if each.password else []
    if each.gtsm:
        lines += [f"{who} ttl 255", "# and a filter on lo0 with ttl-except 255 for TCP port 179"]
    elif each.multihop is not None and each.multihop > 1:
        lines.append(f"{who} multihop ttl {each.multihop}")
    for version in each.versions:
        family = f"{who} family inet{'6' if version == 6 else ''} unicast"
        lines.append(f"{family} prefix-limit maximum {router.limit}")
        lines += [f"{family} extended-nexthop"] if each.extended and version == 4 else []
        lines += [f"{family} add-path send path-count 8"] if each.add_path else []
    if each.bfd is not None:
        lines.append(f"{who} bfd-liveness-detection minimum-interval {each.bfd.min_interval}")
        lines.append(f"{who} bfd-liveness-detection multiplier {each.bfd.multiplier}")
    return lines
