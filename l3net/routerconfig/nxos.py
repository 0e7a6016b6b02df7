"""Cisco NX-OS. Not run on a device."""

from __future__ import annotations

from l3net.routerconfig.facts import MULTIPATH, NOT_RUN, Neighbor, Router, header, profiles
from l3net.routerconfig.lists import prefix_lists


def write(router: Router) -> str:
    lines = header(router, "!", "Cisco NX-OS", NOT_RUN)
    for _, bfd in profiles(router):
        lines.append(
            f"! On the nodes' interface: bfd interval {bfd.min_interval} min_rx {bfd.min_interval} "
            f"multiplier {bfd.multiplier}"
        )
    lines += ["feature bgp"] + (["feature bfd"] if any(profiles(router)) else [])
    lines += prefix_lists(router)
    for version, word in ((4, "ip"), (6, "ipv6")):
        if router.of(version):
            name = "L3NET-FROM-NODES" + ("" if version == 4 else "6")
            lines += [f"route-map {name} permit 10", f"  match {word} address prefix-list {_listed(version)}"]
    lines.append(f"router bgp {router.as_number}")
    lines += [f"  router-id {router.router_id}"] if router.router_id else []
    lines += ["  graceful-restart-helper", "  bestpath as-path multipath-relax"]
    for version in router.versions:
        lines += [f"  address-family ipv{version} unicast", f"    maximum-paths {MULTIPATH}"]
        lines.append(f"    maximum-paths ibgp {MULTIPATH}")
    for each in router.neighbors:
        lines += _neighbor(router, each)
    return "\n".join(lines) + "\n"


def _listed(version: int) -> str:
    return "L3NET-NODES" if version == 4 else "L3NET-NODES6"


def _neighbor(router: Router, each: Neighbor) -> list[str]:
    lines = [f"  neighbor {each.address}", f"    remote-as {each.as_number}", f"    description {each.node}"]
    lines.append(f"    timers {each.hold_time // 3} {each.hold_time}")
    lines += ["    transport connection-mode passive"] if each.dials else []
    lines += [f"    password 0 {each.password}"] if each.password else []
    lines += ["    ttl-security hops 1"] if each.gtsm else []
    lines += [f"    ebgp-multihop {each.multihop}"] if each.multihop and each.multihop > 1 else []
    lines += ["    bfd"] if each.bfd is not None else []
    lines += ["    capability additional-paths send"] if each.add_path else []
    for version in each.versions:
        lines.append(f"    address-family ipv{version} unicast")
        if router.of(version):
            lines.append(f"      route-map L3NET-FROM-NODES{'' if version == 4 else '6'} in")
        lines.append(f"      maximum-prefix {router.limit} warning-only")
        lines.append("      send-community both")
        lines += ["      next-hop-self"] if each.as_number == router.as_number else []
    return lines
