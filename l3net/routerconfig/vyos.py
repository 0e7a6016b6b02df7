"""VyOS (1.4 and later), as commands of configuration mode. Not run on a device."""

from __future__ import annotations

from l3net.routerconfig.facts import MULTIPATH, NOT_RUN, Router, header, profile_name, profiles


def write(router: Router) -> str:
    lines = header(router, "#", "VyOS 1.4 and later", NOT_RUN)
    for version, word in ((4, "prefix-list"), (6, "prefix-list6")):
        for place, permit in enumerate(router.of(version), 1):
            rule = f"set policy {word} L3NET-NODES rule {5 * place}"
            lines += [f"{rule} action permit", f"{rule} prefix {permit.prefix}"]
            lines += [f"{rule} ge {permit.low}"] if permit.low > permit.prefix.prefixlen else []
            exact = permit.low == permit.high == permit.prefix.prefixlen
            lines += [] if exact else [f"{rule} le {permit.high}"]
    for number, word in ((10, "ip"), (20, "ipv6")):
        if router.of(4 if word == "ip" else 6):
            lines.append(f"set policy route-map L3NET-FROM-NODES rule {number} action permit")
            lines.append(
                f"set policy route-map L3NET-FROM-NODES rule {number} match {word} address prefix-list "
                "L3NET-NODES"
            )
    lines.append("set policy route-map L3NET-TO-NODES rule 10 action permit")
    for name, bfd in profiles(router):
        profile = f"set protocols bfd profile {name} interval"
        lines += [f"{profile} multiplier {bfd.multiplier}", f"{profile} transmit {bfd.min_interval}"]
        lines.append(f"{profile} receive {bfd.min_interval}")
    bgp = "set protocols bgp"
    lines.append(f"{bgp} system-as {router.as_number}")
    lines += [f"{bgp} parameters router-id {router.router_id}"] if router.router_id else []
    lines += [f"{bgp} parameters graceful-restart", f"{bgp} parameters bestpath as-path multipath-relax"]
    for version in router.versions:
        lines += [
            f"{bgp} address-family ipv{version}-unicast maximum-paths {kind} {MULTIPATH}"
            for kind in ("ebgp", "ibgp")
        ]
    for each in router.neighbors:
        who = f"{bgp} neighbor {each.address}"
        lines += [f"{who} remote-as {each.as_number}", f"{who} description {each.node}"]
        lines += [f"{who} timers holdtime {each.hold_time}", f"{who} timers keepalive {each.hold_time // 3}"]
        lines += [f"{who} passive"] if each.dials else []
        lines += [f"{who} port {each.port}"] if each.port != 179 and not each.dials else []
        lines += [f"{who} password {each.password}"] if each.password else []
        lines += [f"{who} ttl-security hops 1"] if each.gtsm else []
        lines += [f"{who} ebgp-multihop {each.multihop}"] if each.multihop and each.multihop > 1 else []
        lines += [f"{who} capability extended-nexthop"] if each.extended else []
        lines += [f"{who} bfd profile {profile_name(each.bfd)}"] if each.bfd is not None else []
        for version in each.versions:
            family = f"{who} address-family ipv{version}-unicast"
            lines += [
                f"{family} route-map import L3NET-FROM-NODES", f"{family} route-map export L3NET-TO-NODES",
                f"{family} maximum-prefix {router.limit}",
            ]  # fmt: skip
            lines += [f"{family} nexthop-self"] if each.as_number == router.as_number else []
            lines += [f"{family} addpath-tx-all"] if each.add_path else []
    return "\n".join(lines) + "\n"
