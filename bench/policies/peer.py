"""What kube-router's published design makes of the same policies, as nftables rules, to compare with.

By its documentation (docs/how-it-works.md, "Network Policy Controller") and the comments of its controller:
each pod of the node has a chain, to which FORWARD jumps by one rule for each direction, comparing the pod's
address; that chain accepts what is established, jumps to a chain for each policy that selects the pod, and
refuses what none of them has marked. A policy's chain matches ipsets of the pods it is for and of its peers.
iptables' rules of a family are a table of its own here; sets are nftables' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from l3net.model import Address, Direction, IpBlock, ObjectName, PodSelection, Policy
from l3net.policy.book import PolicyBook
from l3net.policy.sets import PodSet

TABLES = {4: ("ip", "theirs"), 6: ("ip6", "theirs")}
_MARK = "0x10000"


def removal() -> str:
    return "".join(f"table {of} {name}\ndelete table {of} {name}\n" for of, name in TABLES.values())


def rules(book: PolicyBook, local: Mapping[ObjectName, tuple[Address, ...]]) -> str:
    """For pods of this node; the sets have what the book has for the same selections."""
    text = removal()
    for version, (family, name) in TABLES.items():
        text += f"table {family} {name} {{\n{chr(10).join(_table(book, local, version))}\n}}\n"
    return text


def _table(book: PolicyBook, local: Mapping[ObjectName, tuple[Address, ...]], version: int) -> Iterator[str]:
    ip = "ip" if version == 4 else "ip6"
    made: set[str] = set()
    forward: list[str] = []
    for place, (name, addresses) in enumerate(local.items()):
        pod = book.pod(name)
        assert pod is not None
        found = next(each for each in addresses if each.version == version)
        forward += [f"{ip} daddr {found} jump pod-{place}", f"{ip} saddr {found} jump pod-{place}"]
        lines = ["ct state established,related accept"]
        for policy in book.policies_for(pod):
            for direction in Direction:
                chain = f"np-{policy.name.namespace}-{policy.name.name}-{direction.value}"
                if chain not in made:
                    made.add(chain)
                    yield from _policy(book, policy, direction, chain, version, ip)
                side = "daddr" if direction is Direction.INGRESS else "saddr"
                lines.append(f"{ip} {side} {found} jump {chain}")
        if len(lines) > 1:
            lines += [f"meta mark & {_MARK} != {_MARK} reject", "meta mark set meta mark & 0xfffeffff"]
        yield from (f"chain pod-{place} {{", *lines, "}")
    yield from ("chain forward {", "type filter hook forward priority 5;", *forward, "}")


def _policy(
    book: PolicyBook, policy: Policy, direction: Direction, chain: str, version: int, ip: str
) -> Iterator[str]:
    side = "saddr" if direction is Direction.INGRESS else "daddr"
    lines: list[str] = []
    for rule in policy.rules(direction) or ():
        ports = [f"{each.protocol} dport {each.first or 8080}" for each in rule.ports or ()] or [""]
        for number, peer in enumerate(rule.peers or (None,)):
            match peer:
                case PodSelection():
                    name = f"{chain}-{len(lines)}-{number}"
                    elements = sorted(book.contents.sets[PodSet(peer).name(version)].elements)
                    yield f"set {name} {{ type {'ipv4_addr' if version == 4 else 'ipv6_addr'};"
                    if elements:
                        yield f"elements = {{ {', '.join(elements)} }}"
                    yield "}"
                    said = f"{ip} {side} @{name}"
                case IpBlock():
                    if peer.cidr.version != version:
                        continue
                    said = f"{ip} {side} {peer.cidr}"
                case _:
                    said = ""
            lines += [f"{said} {port} meta mark set meta mark | {_MARK} return" for port in ports]
    yield from (f"chain {chain} {{", *lines, "}")
