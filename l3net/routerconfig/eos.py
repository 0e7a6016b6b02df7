"""Arista EOS. Not run on a device."""

from __future__ import annotations

from l3net.routerconfig.facts import MULTIPATH, NOT_RUN, Neighbor, Router, header, profiles
from l3net.routerconfig.lists import bounds


def write(router: Router) -> str:
    lines = header(router, "!", "Arista EOS", NOT_RUN)
    for place, permit in enumerate(router.of(4), 1):
        lines.append(f"ip prefix-list L3NET-NODES seq {5 * place} permit {permit.prefix}{bounds(permit)}")
    if router.of(6):
        lines.append("ipv6 prefix-list L3NET-NODES6")
        for place, permit in enumerate(router.of(6), 1):
            lines.append(f"   seq {5 * place} permit {permit.prefix}{bounds(permit)}")
    for version, word in ((4, "ip"), (6, "ipv6")):
        if router.of(version):
            number = "" if version == 4 else "6"
            lines.append(f"route-map L3NET-FROM-NODES{number} permit 10")
            lines.append(f"   match {word} address prefix-list L3NET-NODES{number}")
    for _, bfd in profiles(router):
        lines.append("router bfd")
        lines.append(
            f"   interval {bfd.min_interval} min-rx {bfd.min_interval} multiplier {bfd.multiplier} default"
        )
        break  # one holds for all
    lines.append(f"router bgp {router.as_number}")
    lines += [f"   router-id {router.router_id}"] if router.router_id else []
    lines += ["   graceful-restart-helper", f"   maximum-paths {MULTIPATH} ecmp {MULTIPATH}"]
    for each in router.neighbors:
        lines += [f"   neighbor {each.address} {words}" for words in _neighbor(router, each)]
    for version in router.versions:
        lines.append(f"   address-family ipv{version}")
        for each in router.carrying(version):
            lines.append(f"      neighbor {each.address} activate")
            if router.of(version):
                number = "" if version == 4 else "6"
                lines.append(f"      neighbor {each.address} route-map L3NET-FROM-NODES{number} in")
    return "\n".join(lines) + "\n"


def _neighbor(router: Router, each: Neighbor) -> list[str]:
    words = [f"remote-as {each.as_number}", f"description {each.node}"]
    words.append(f"timers {each.hold_time // 3} {each.hold_time}")
    words += ["passive"] if each.dials else []
    words += [f"password 0 {each.password}"] if each.password else []
    words += ["ttl maximum-hops 1"] if each.gtsm else []
    words += [f"ebgp-multihop {each.multihop}"] if each.multihop and each.multihop > 1 else []
    words += ["bfd"] if each.bfd is not None else []
    words += ["next-hop-self"] if each.as_number == router.as_number else []
    words += ["additional-paths send any"] if each.add_path else []
    return [*words, "send-community", f"maximum-routes {router.limit} warning-only"]
