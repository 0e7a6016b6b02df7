"""FRR (8.4 and later), as vtysh reads it."""

from __future__ import annotations

from l3net.routerconfig.facts import MULTIPATH, Neighbor, Router, header, profile_name, profiles
from l3net.routerconfig.lists import bounds


def write(router: Router) -> str:
    lines = header(router, "!", "FRR 8.4 and later")
    for version, word in ((4, "ip"), (6, "ipv6")):
        for place, permit in enumerate(router.of(version), 1):
            lines.append(
                f"{word} prefix-list L3NET-NODES seq {5 * place} permit {permit.prefix}{bounds(permit)}"
            )
    lines += [
        "route-map L3NET-FROM-NODES permit 10", " match ip address prefix-list L3NET-NODES",
        "route-map L3NET-FROM-NODES permit 20", " match ipv6 address prefix-list L3NET-NODES",
        "route-map L3NET-TO-NODES permit 10",
    ]  # fmt: skip
    for name, bfd in profiles(router):
        lines += [
            "bfd", f" profile {name}", f"  detect-multiplier {bfd.multiplier}",
            f"  transmit-interval {bfd.min_interval}", f"  receive-interval "
                                                       f"{bfd.min_interval}", " exit", "exit",
        ]  # fmt: skip
    lines.append(f"router bgp {router.as_number}")
    lines += [f" bgp router-id {router.router_id}"] if router.router_id else []
    lines += [
        " bgp graceful-restart",
        " bgp bestpath as-path multipath-relax",
        " no bgp default ipv4-unicast",
        " coalesce-time 100",
    ]
    for each in router.neighbors:
        lines += [f" neighbor {each.address} {words}" for words in _neighbor(each)]
    for version in router.versions:
        lines += [f" address-family ipv{version} unicast", f"  maximum-paths {MULTIPATH}"]
        lines.append(f"  maximum-paths ibgp {MULTIPATH}")
        for each in router.carrying(version):
            who = f"  neighbor {each.address}"
            lines += [
                f"{who} activate", f"{who} route-map L3NET-FROM-NODES in", f"{who} route-map "
                                                                           "L3NET-TO-NODES out",
                f"{who} maximum-prefix {router.limit} warning-only",
            ]  # fmt: skip
            lines += [f"{who} addpath-tx-all-paths"] if each.add_path else []
            lines += [f"{who} next-hop-self"] if each.as_number == router.as_number else []
        lines.append(" exit-address-family")
    return "\n".join([*lines, "exit"]) + "\n"


def _neighbor(each: Neighbor) -> list[str]:
    keepalive = max(each.hold_time // 3, 1) if each.hold_time else 0
    words = [
        f"remote-as {each.as_number}",
        f"description {each.node}",
        f"timers {keepalive} {each.hold_time}",
    ]
    words.append("advertisement-interval 0")
    if each.dials:
        words.append("passive")
    elif each.port != 179:
        words.append(f"port {each.port}")
    if each.password:
        words.append(f"password {each.password}")
    if each.gtsm:
        words.append("ttl-security hops 1")
    elif each.multihop is not None and each.multihop > 1:
        words.append(f"ebgp-multihop {each.multihop}")
    if each.extended:
        words.append("capability extended-nexthop")
    if each.bfd is not None:
        words.append(f"bfd profile {profile_name(each.bfd)}")
    return words
