"""What the tests of the network-policy-api say of ClusterNetworkPolicy: conformance/ of
kubernetes-sigs/network-policy-api (v1alpha2), 24 tests of 92 subtests, written anew.

A step of a case is named for its subtest; one that changes something on the way is several steps. There a few
pairs of pods are tried for each; here the matrix says all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from truth import HOUSE_PODS, PODS, Case, Document, Port, Step, World, cluster_policy, labels, net_policy

SUITE = "network-policy-api"
NAME = "kubernetes.io/metadata.name"
G, S, H, R = "gryffindor", "slytherin", "hufflepuff", "ravenclaw"
#: What a test says before anything else is changed, and after.
States = list[tuple[str, str, list[Document]]]


def by_name(name: str) -> Document:
    return {"namespaces": {"matchLabels": {NAME: name}}}


def by_house(house: str) -> Document:
    return {"namespaces": labels(house=house)}


def pods_of(house: str) -> Document:
    return {"pods": {"namespaceSelector": labels(house=house), "podSelector": labels(house=house)}}


NODES: Document = {"nodes": {"matchLabels": {"kubernetes.io/os": "linux"}}}
ANYWHERE: Document = {"networks": ["0.0.0.0/0", "::/0"]}


def to_port(port: Port) -> Document:
    return {port[1]: {"destinationPort": {"number": port[0]}}}


def rule(name: str, action: str, side: str, peers: Sequence[Document], *protocols: Document) -> Document:
    found: Document = {"name": name, "action": action, side: list(peers)}
    return {**found, "protocols": list(protocols)} if protocols else found


def swapped(rules: Sequence[Document], one: int, other: int) -> list[Document]:
    found = list(rules)
    found[one], found[other] = found[other], found[one]
    return found


def ordered(
    side: str, admin: bool, every: str, closed: Sequence[Port], some: str, opened: Sequence[Port]
) -> list[Document]:
    """The rules of most tests: of one house all three actions; some ports of slytherin's denied; some ports
    of a third house's accepted and the rest denied. Baseline policies have no rules that pass."""
    slytherin = [to_port(each) for each in closed]
    found = [
        rule("accept-all", "Accept", side, [by_name(every)]),
        rule("deny-all", "Deny", side, [by_name(every)]),
        rule("pass-all", "Pass", side, [by_name(every)]),
        rule("deny-some", "Deny", side, [by_name(S)], *slytherin),
        rule("pass-some", "Pass", side, [by_name(S)], *slytherin),
        rule("accept-some", "Accept", side, [by_name(some)], *(to_port(each) for each in opened)),
        rule("deny-the-rest", "Deny", side, [by_name(some)]),
    ]
    return found if admin else [each for each in found if each["action"] != "Pass"]


def pair(side: str, subject: str, peer: str, ports: Sequence[Port] = ()) -> str:
    text = f"{subject}/* > {peer}/*" if side == "to" else f"{peer}/* > {subject}/*"
    return text + (" @" + ",".join(f"{number}/{protocol}" for number, protocol in ports) if ports else "")


#: Protocol, side, subject, house of all actions, slytherin's port, third house, its port.
SINGLE = [
    ("sctp", "to", R, G, (9003, "sctp"), H, (9003, "sctp")),
    ("tcp", "to", G, R, (80, "tcp"), H, (8080, "tcp")),
    ("udp", "to", H, R, (5353, "udp"), G, (53, "udp")),
    ("sctp", "from", R, G, (9003, "sctp"), H, (9003, "sctp")),
    ("tcp", "from", G, R, (80, "tcp"), H, (80, "tcp")),
    ("udp", "from", H, R, (5353, "udp"), G, (53, "udp")),
]


def _direction(side: str) -> str:
    return "egress" if side == "to" else "ingress"


def _tier(admin: bool) -> tuple[str, int]:
    return ("Admin", 8) if admin else ("Baseline", 10)


def _single(admin: bool) -> Iterator[tuple[str, str, States]]:
    for protocol, side, subject, every, closed, some, opened in SINGLE:
        way, tier = _direction(side), _tier(admin)
        base = f"- {pair(side, subject, some)}\n+ {pair(side, subject, some, [opened])}"
        some_denied = f"{base}\n- {pair(side, subject, S, [closed])}"
        all_denied = f"{some_denied}\n- {pair(side, subject, every)}"
        rules = ordered(side, admin, every, [closed], some, [opened])

        def made(
            found: list[Document], subject: str = subject, way: str = way, tier: tuple[str, int] = tier
        ) -> list[Document]:
            return [cluster_policy("p", *tier, by_name(subject), **{way: found})]

        denies = swapped(rules, 0, 1)
        states = [
            (f"allow-{way}, in order", some_denied, made(rules)),
            (f"allow-{way} at a port", some_denied, made(rules)),
            (f"deny-{way}, in order", all_denied, made(denies)),
            (f"deny-{way} at a port", all_denied, made(denies)),
        ]
        if admin:
            passes = swapped(denies, 0, 2)
            states.append((f"pass-{way}, in order", some_denied, made(passes)))
            states.append((f"pass-{way} at a port", base, made(swapped(passes, 3, 4))))
        yield f"CNP{tier[0]}Tier{way.capitalize()}{protocol.upper()}", f"{tier[0]}: {way} {protocol}", states


def _gress(admin: bool) -> tuple[str, str, States]:
    tier = _tier(admin)
    closed = [(80, "tcp"), (53, "udp"), (9003, "sctp")]
    opened = {"to": [(8080, "tcp"), (5353, "udp"), (9003, "sctp")]}
    opened["from"] = [(80, "tcp"), (5353, "udp"), (9003, "sctp")]
    rules = {side: ordered(side, admin, R, closed, H, opened[side]) for side in ("to", "from")}

    def made(found: dict[str, list[Document]]) -> list[Document]:
        return [cluster_policy("p", *tier, by_name(G), ingress=found["from"], egress=found["to"])]

    def turned(found: dict[str, list[Document]], one: int, other: int) -> dict[str, list[Document]]:
        return {side: swapped(each, one, other) for side, each in found.items()}

    def lines(sign: str, peer: str, ports: dict[str, list[Port]] | None = None) -> str:
        return "".join(
            f"{sign} {pair(side, G, peer, ports[side] if ports else ())}\n" for side in ("to", "from")
        )

    base = lines("-", H) + lines("+", H, opened)
    some_denied = base + lines("-", S, {"to": closed, "from": closed})
    all_denied = some_denied + lines("-", R)
    denies = turned(rules, 0, 1)
    states = [
        ("allow-gress", some_denied, made(rules)),
        ("allow-gress at ports", some_denied, made(rules)),
        ("deny-gress", all_denied, made(denies)),
        ("deny-gress at ports", all_denied, made(denies)),
    ]
    if admin:
        passes = turned(denies, 0, 2)
        states.append(("pass-gress", some_denied, made(passes)))
        states.append(("pass-gress at ports", base, made(turned(passes, 3, 4))))
    return f"CNP{tier[0]}TierGress", f"{tier[0]}: both directions", states


def _named_ports(admin: bool) -> Iterator[tuple[str, str, States]]:
    """In place of the port of the rule that accepts some stands a name."""
    tier = _tier(admin)
    rows = [SINGLE[1], SINGLE[5]] if admin else [SINGLE[2], SINGLE[4]]
    for protocol, side, subject, every, closed, some, _ in rows:
        name, port = ("web", (80, "tcp")) if protocol == "tcp" else ("dns", (53, "udp"))
        rules = ordered(side, admin, every, [closed], some, [port])
        place = 5 if admin else 3
        rules[place] = {**rules[place], "protocols": [{"destinationNamedPort": name}]}
        expected = f"- {pair(side, subject, some)}\n+ {pair(side, subject, some, [port])}\n"
        expected += f"- {pair(side, subject, S, [closed])}"
        way = _direction(side)
        policy = cluster_policy("p", *tier, by_name(subject), **{way: rules})
        title = f"CNP{tier[0]}Tier{way.capitalize()}NamedPort"
        yield title, f"{tier[0]}: {way}, a named port", [("allow, a named port", expected, [policy])]


def _nodes(admin: bool) -> tuple[str, str, States]:
    base = f"- {G}/* > *\n"
    if admin:
        rules = [
            rule("accept", "Accept", "to", [NODES], to_port((34345, "tcp"))),
            rule("pass", "Pass", "to", [NODES], to_port((34347, "udp"))),
            rule("deny", "Deny", "to", [pods_of(S), NODES, ANYWHERE]),
        ]
        policy = cluster_policy("p", "Admin", 75, pods_of(G), egress=rules)
        expected = base + f"+ {G}/* > forest/* @34345/tcp,34347/udp"
        names = ["allow-egress to nodes", "pass-egress to nodes", "deny-egress to nodes"]
        title = "CNPAdminTierEgressNodePeers"
        return title, "Admin: nodes", [(name, expected, [policy]) for name in names]
    ports = {"tcp": {"destinationPort": {"range": {"start": 34345, "end": 34346}}}}
    rules = [
        rule("accept", "Accept", "to", [NODES], ports),
        rule("deny", "Deny", "to", [NODES, ANYWHERE]),
    ]
    policy = cluster_policy("p", "Baseline", 10, by_name(G), egress=rules)
    expected = base + f"+ {G}/* > forest/* @34345/tcp,34346/tcp"
    names = ["allow-egress to nodes", "deny-egress to nodes"]
    title = "CNPBaselineTierEgressNodePeers"
    return title, "Baseline: nodes", [(name, expected, [policy]) for name in names]


def _blocks(world: World, admin: bool) -> tuple[str, str, list[Step]]:
    subject = pods_of(G) if admin else by_name(G)
    tier = ("Admin", 85) if admin else ("Baseline", 10)
    rules = [
        rule("slytherin", "Accept", "to", [pods_of(S)]),
        rule("internet", "Deny", "to", [ANYWHERE]),
    ]
    policy = cluster_policy("p", *tier, subject, egress=rules)
    pods = [*world.blocks(f"{R}/p0"), *world.blocks(f"{H}/p0")]
    more = cluster_policy(
        "p", *tier, subject, egress=[rule("pods", "Accept", "to", [{"networks": pods}]), *rules]
    )
    base = f"- {G}/* > *\n"
    opened = f"{base}+ {G}/* > {S}/*\n"
    renamed = {S: {"house": "renamed"}}
    steps = [
        world.step(opened, policy, name="deny-egress to blocks"),
        world.step(base, policy, name="deny-egress to blocks", namespaces=renamed),
        world.step(opened, policy, name="deny-egress to blocks"),
        world.step(f"{opened}+ {G}/* > {R}/p0,{H}/p0", more, name="allow-egress to blocks"),
    ]
    return f"CNP{tier[0]}TierEgressInlineCIDRPeers", f"{tier[0]}: blocks", steps


def _both(action: str, other: str, peer: Document) -> dict[str, Any]:
    """Rules of both directions with one house: what that of ingress does, and what that of egress."""
    return {
        "ingress": [rule("in", action, "from", [peer])],
        "egress": [rule("out", other, "to", [peer])],
    }


def _integration() -> tuple[str, str, States]:
    """The three tiers, one after the other."""
    peer = {"namespaceSelector": labels(house=S)}
    allow = net_policy(G, "allow", None, ingress=[{"from": [peer]}], egress=[{"to": [peer]}])
    deny = _both("Deny", "Deny", by_house(S))
    baseline = cluster_policy("default", "Baseline", 10, by_house(G), **deny)

    def admin(ingress: str, egress: str) -> Document:
        rules = _both(ingress, egress, by_house(S))
        return cluster_policy("pass", "Admin", 10, by_house(G), **rules)

    # The NetworkPolicy is for both directions, and for one house: of all others nobody passes.
    others = f"- * > {G}/*\n- {G}/* > *\n"
    inward, outward = f"{S}/* > {G}/*", f"{G}/* > {S}/*"
    states = [
        ("admin denies ingress", others, [admin("Deny", "Deny"), allow, baseline]),
        ("admin denies egress", others, [admin("Deny", "Deny"), allow, baseline]),
        ("ingress is passed to a policy", f"{others}+ {inward}", [admin("Pass", "Deny"), allow, baseline]),
        (
            "egress is passed to a policy",
            f"{others}+ {inward}\n+ {outward}",
            [admin("Pass", "Pass"), allow, baseline],
        ),
        ("ingress is passed to the baseline", f"- {inward}\n- {outward}", [admin("Pass", "Pass"), baseline]),
        ("egress is passed to the baseline", f"- {inward}\n- {outward}", [admin("Pass", "Pass"), baseline]),
    ]
    return "CNPAdminTierIntegration", "three tiers", states


def _priority() -> tuple[str, str, States]:
    subject, peer = pods_of(G), pods_of(S)
    denies = cluster_policy("fifty", "Admin", 50, subject, **_both("Deny", "Deny", peer))
    accepts = cluster_policy("default", "Baseline", 10, subject, **_both("Accept", "Accept", peer))

    def passes(priority: int) -> Document:
        return cluster_policy("moving", "Admin", priority, subject, **_both("Pass", "Pass", peer))

    closed = f"- {S}/* > {G}/*\n- {G}/* > {S}/*"
    states = [
        ("denies ingress at 50, before 60", closed, [denies, passes(60), accepts]),
        ("denies egress at 50, before 60", closed, [denies, passes(60), accepts]),
        ("passes at 40, before 50", "", [denies, passes(40), accepts]),
    ]
    return "CNPAdminTierPriorityField", "priorities", states


def cases(world: World) -> Iterator[Case]:
    for admin in (True, False):
        found = [*_single(admin), _gress(admin), *_named_ports(admin), _nodes(admin)]
        found += [_integration(), _priority()] if admin else []
        rows = [
            (source, name, [world.step(expected, *made, name=title) for title, expected, made in states])
            for source, name, states in found
        ]
        rows.append(_blocks(world, admin))
        for source, name, steps in rows:
            served = tuple({port: None for pod in HOUSE_PODS for port in PODS[pod].serves})
            yield Case(SUITE, name, source, HOUSE_PODS, served, tuple(steps))
