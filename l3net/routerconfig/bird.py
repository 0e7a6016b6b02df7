"""BIRD (2.0.8 and later)."""

from __future__ import annotations

from l3net.routerconfig.facts import MULTIPATH, Neighbor, Router, header, profiles


def write(router: Router) -> str:
    lines = header(
        router, "#", "BIRD 2.0.8 and later", "It needs `router id`, and `protocol device { }`, once."
    )
    for version in router.versions:
        sets = [f"{permit.prefix}{{{permit.low},{permit.high}}}" for permit in router.of(version)]
        lines.append(f"filter l3net_from_nodes{version} {{")
        lines += [f"  if net ~ [ {', '.join(sets)} ] then accept;"] if sets else []
        lines += ["  reject;", "}"]
        lines.append(
            f"protocol kernel l3net_kernel{version} {{ merge paths yes limit {MULTIPATH}; "
            f"ipv{version} {{ import none; export where source = RTS_BGP; }}; }}"
        )
    intervals = [bfd for _, bfd in profiles(router)]
    if intervals:
        words = f"interval {max(each.min_interval for each in intervals)} ms; "
        words += f"multiplier {max(each.multiplier for each in intervals)};"
        lines.append(f'protocol bfd {{ interface "*" {{ {words} }}; multihop {{ {words} }}; }}')
    for place, each in enumerate(router.neighbors):
        lines += _neighbor(router, each, place)
    return "\n".join(lines) + "\n"


def _neighbor(router: Router, each: Neighbor, place: int) -> list[str]:
    local = next((str(one) for one in router.addresses if one.version == each.address.version), "")
    lines = [
        f"protocol bgp l3net{place} {{",
        f'  description "{each.node}";',
        f"  local {local}{' ' if local else ''}port {router.port} as {router.as_number};",
        f"  neighbor {each.address} port {each.port} as {each.as_number};",
        f"  hold time {each.hold_time};",
        "  graceful restart aware;",
    ]
    if each.multihop is not None and each.multihop > 1:
        lines.append(f"  multihop {each.multihop};")
    elif each.as_number == router.as_number:
        lines.append("  multihop;")
    else:
        lines.append("  direct;")
    lines += ["  passive on;"] if each.dials else []
    lines += [f'  password "{each.password}";'] if each.password else []
    lines += ["  ttl security on;"] if each.gtsm else []
    lines += ["  bfd on;"] if each.bfd is not None else []
    for version in each.versions:
        words = f"import filter l3net_from_nodes{version}; export all; next hop self;"
        words += f" import limit {router.limit} action warn;"
        words += " extended next hop on;" if each.extended and version == 4 else ""
        words += " add paths tx;" if each.add_path else ""
        lines.append(f"  ipv{version} {{ {words} }};")
    return [*lines, "}"]
