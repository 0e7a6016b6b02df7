"""What Kubernetes' own tests say of NetworkPolicy: test/e2e/network/netpol of kubernetes/kubernetes, 48 cases
over nine pods, written anew. There a pod's way to itself is left open; here it is always free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from truth import GRID_PODS, Case, Document, Port, Step, World, among, labels, net_policy

SUITE = "kubernetes"
NAME = "kubernetes.io/metadata.name"
A, B = labels(pod="a"), labels(pod="b")
EVERYTHING: Document = {}
NOT_X = among(NAME, "NotIn", "x")


def ns(name: str) -> Document:
    return {"matchLabels": {NAME: name}}


def peer(pods: Document | None = None, namespaces: Document | None = None) -> Document:
    found = {} if pods is None else {"podSelector": pods}
    return found if namespaces is None else {**found, "namespaceSelector": namespaces}


def port(number: int | str | None = None, protocol: str | None = "TCP") -> Document:
    found: Document = {} if protocol is None else {"protocol": protocol}
    return found if number is None else {**found, "port": number}


def into(*peers: Document, ports: Sequence[Document] = ()) -> Document:
    return {**({"from": list(peers)} if peers else {}), **({"ports": list(ports)} if ports else {})}


def out(*peers: Document, ports: Sequence[Document] = ()) -> Document:
    return {**({"to": list(peers)} if peers else {}), **({"ports": list(ports)} if ports else {})}


def to_a(name: str, *rules: Document) -> Document:
    """A policy for ingress of x/a."""
    return net_policy("x", name, A, ingress=rules)


ONLY_B = "- * > x/a\n + x/b > x/a"
ONLY_Y = "- x/*,z/* > x/a"
NOTHING_IN = "- * > x/*"
NOTHING_OUT = "- x/* > *"
#: Name, what the suite calls it, and (matrix, policies, further words of World.step) for each step. The ports
#: that it tries come first.
Row = tuple[str, str, str, list[tuple[str, list[Document], dict[str, Any]]]]


def one(expected: str, *policies: Document, **more: Any) -> tuple[str, list[Document], dict[str, Any]]:
    return expected, list(policies), more


def _ingress() -> Iterator[Row]:
    deny = net_policy("x", "deny-ingress", EVERYTHING, ingress=[])
    yield "80", "deny ingress", "should support a 'default-deny-ingress' policy", [one(NOTHING_IN, deny)]
    both = net_policy("x", "deny-all", EVERYTHING, ingress=[], egress=[])
    said = "should support a 'default-deny-all' policy"
    yield "80", "deny all", said, [one(NOTHING_IN + "\n" + NOTHING_OUT, both)]
    said = "should enforce policy to allow traffic from pods within server namespace based on PodSelector"
    yield "80", "from pods of the namespace", said, [one(ONLY_B, to_a("from-b", into(peer(B))))]
    opened = to_a("open-a", into(peer(EVERYTHING, EVERYTHING)))
    said = "should enforce policy to allow ingress traffic for a target"
    yield "80", "one pod open", said, [one("- * > x/b,x/c", net_policy("x", "d", {}, ingress=[]), opened)]
    said = "should enforce policy to allow ingress traffic from pods in all namespaces"
    yield "80", "from all namespaces", said, [one("", to_a("from-all", into(peer(None, EVERYTHING))))]
    said = (
        "should enforce policy to allow traffic only from a different namespace, based on NamespaceSelector"
    )
    yield "80", "from another namespace", said, [one(ONLY_Y, to_a("from-y", into(peer(None, ns("y")))))]
    said = "should enforce policy based on PodSelector with MatchExpressions"
    rule = into(peer(among("pod", "In", "b")))
    yield "80", "pods by expression", said, [one(ONLY_B, to_a("from-b", rule))]
    said = "should enforce policy based on NamespaceSelector with MatchExpressions"
    rule = into(peer(None, among(NAME, "In", "y")))
    yield "80", "namespaces by expression", said, [one(ONLY_Y, to_a("from-y", rule))]
    said = "should enforce policy based on PodSelector or NamespaceSelector"
    rule = into(peer(None, NOT_X), peer(B))
    yield "80", "pods or namespaces", said, [one("- x/c > x/a", to_a("or", rule))]
    said = "should enforce policy based on PodSelector and NamespaceSelector"
    rule = into(peer(B, NOT_X))
    yield "80", "pods and namespaces", said, [one("- * > x/a\n + y/b,z/b > x/a", to_a("and", rule))]
    said = "should enforce policy based on Multiple PodSelectors and NamespaceSelectors"
    rule = into(peer(among("pod", "In", "b", "c"), NOT_X))
    yield "80", "several pods, several namespaces", said, [one("- x/*,y/a,z/a > x/a", to_a("many", rule))]
    said = "should enforce policy based on any PodSelectors"
    rule = into(peer(B), peer(labels(pod="c")))
    yield "80", "any of two selectors", said, [one("- * > x/a\n + x/b,x/c > x/a", to_a("any", rule))]
    said = (
        "should enforce policy to allow traffic only from a pod in a different namespace based on"
        " PodSelector and NamespaceSelector"
    )
    rule = into(peer(A, ns("y")))
    yield "80", "one pod of another namespace", said, [one("- * > x/a\n + y/a > x/a", to_a("y-a", rule))]
    said = "should deny ingress from pods on other namespaces"
    policy = net_policy("x", "own", EVERYTHING, ingress=[into(peer(EVERYTHING))])
    yield "80", "own namespace only", said, [one("- y/*,z/* > x/*", policy)]
    said = (
        "should enforce policy to allow traffic based on NamespaceSelector with MatchLabels using default ns"
        " label"
    )
    yield "80", "namespace by its name", said, [one(ONLY_Y, to_a("by-name", into(peer(None, ns("y")))))]


def _ports() -> Iterator[Row]:
    said = "should enforce policy based on Ports"
    first = to_a("y-81", into(peer(None, ns("y")), ports=[port(81)]))
    only_81 = "- * > x/a\n + y/* > x/a @81/tcp"
    yield "81", "one port", said, [one(only_81, first)]
    said = "should enforce multiple, stacked policies with overlapping podSelectors"
    second = to_a("y-80", into(peer(None, ns("y")), ports=[port(80)]))
    both = only_81 + "\n + y/* > x/a @80/tcp"
    yield "80,81", "stacked policies", said, [one(only_81, first), one(both, first, second)]
    said = "should support allow-all policy"
    allow = net_policy("x", "allow-all", labels(), ingress=[{}])
    yield "80,81", "allow all", said, [one("", allow)]
    said = "should allow ingress access on one named port"
    policy = net_policy("x", "named", labels(), ingress=[into(ports=[port("serve-81-tcp", None)])])
    yield "80,81", "ingress, a named port", said, [one("- * > x/*\n + * > x/* @81/tcp", policy)]
    said = "should allow ingress access from namespace on one named port"
    policy = to_a("y-named", into(peer(None, ns("y")), ports=[port("serve-80-tcp")]))
    yield "80,81", "from a namespace, a named port", said, [one("- * > x/a\n + y/* > x/a @80/tcp", policy)]
    said = "should allow egress access on one named port"
    policy = net_policy("x", "out-named", labels(), egress=[out(ports=[port("serve-80-tcp", None)])])
    yield "80,81", "egress, a named port", said, [one("- x/* > *\n + x/* > * @80/tcp", policy)]
    said = "should enforce ingress policy allowing any port traffic to a server on a specific protocol"
    policy = to_a("tcp", into(ports=[port()]))
    row = [one("- * > x/a\n + * > x/a @80/tcp,81/tcp", policy)]
    yield "80,80/udp", "every port of a protocol", said, row
    said = (
        "should not mistakenly treat 'protocol: SCTP' as 'protocol: TCP', even if the plugin doesn't support"
        " SCTP"
    )
    deny = net_policy("x", "deny", EVERYTHING, ingress=[])
    policy = to_a("sctp-81", into(ports=[port(81, "SCTP")]))
    row = [one("- * > x/*\n + * > x/a @81/sctp", deny, policy)]
    yield "81", "SCTP is not TCP", said, row
    said = (
        "should properly isolate pods that are selected by a policy allowing SCTP, even if the plugin doesn't"
        " support SCTP"
    )
    policy = to_a("sctp-80", into(ports=[port(80, "SCTP")]))
    yield "81", "SCTP isolates", said, [one("- * > x/a\n + * > x/a @80/sctp", policy)]
    said = "should not allow access by TCP when a policy specifies only UDP"
    policy = to_a("udp-81", into(ports=[port(81, "UDP")]))
    yield "81", "UDP is not TCP", said, [one("- * > x/a\n + * > x/a @81/udp", policy)]


def _changes() -> Iterator[Row]:
    allow = net_policy("x", "mutable", labels(), ingress=[{}])
    deny = net_policy("x", "mutable", labels(), ingress=[])
    said = "should enforce updated policy"
    yield "81", "an updated policy", said, [one("", allow), one(NOTHING_IN, deny)]
    said = "should allow ingress access from updated namespace"
    policy = to_a("ns2", into(peer(None, labels(ns2="updated"))))
    changed = {"y": {"ns": "y", "ns2": "updated"}}
    row = [one("- * > x/a", policy), one("- * > x/a\n + y/* > x/a", policy, namespaces=changed)]
    yield "80", "an updated namespace", said, row
    said = "should allow ingress access from updated pod"
    wanted = {"pod": "b", "pod2": "updated"}
    policy = to_a("pod2", into(peer(labels(**wanted))))
    row = [one("- * > x/a", policy), one(ONLY_B, policy, pods={"x/b": wanted})]
    yield "80", "an updated pod as a peer", said, row
    said = "should deny ingress access to updated pod"
    policy = net_policy("x", "isolated", labels(target="isolated"), ingress=[])
    changed = {"x/a": {"pod": "a", "target": "isolated"}}
    yield "80", "an updated pod as subject", said, [one("", policy), one("- * > x/a", policy, pods=changed)]
    said = "should enforce multiple ingress policies with ingress allow-all policy taking precedence"
    only_80 = net_policy("x", "in-80", labels(), ingress=[into(ports=[port(80, None)])])
    everything = net_policy("x", "in-all", labels(), ingress=[{}])
    row = [one("- * > x/*\n + * > x/* @80/tcp", only_80), one("", only_80, everything)]
    yield "81", "ingress: what allows more counts", said, row
    said = "should enforce multiple egress policies with egress allow-all policy taking precedence"
    only_80 = net_policy("x", "out-80", labels(), egress=[out(ports=[port(80, None)])])
    everything = net_policy("x", "out-all", labels(), egress=[{}])
    row = [one("- x/* > *\n + x/* > * @80/tcp", only_80), one("", only_80, everything)]
    yield "81", "egress: what allows more counts", said, row
    said = "should stop enforcing policies after they are deleted"
    both = net_policy("x", "deny-all", EVERYTHING, ingress=[], egress=[])
    yield "80", "a deleted policy", said, [one(NOTHING_IN + "\n" + NOTHING_OUT, both), one("")]
    said = (
        "should enforce policies to check ingress and egress policies can be controlled independently based"
        " on PodSelector"
    )
    outward, inward = net_policy("x", "out", A, egress=[{}]), net_policy("x", "in", A, ingress=[])
    row = [one("", outward), one("- * > x/a", outward, inward)]
    yield "80", "ingress and egress are independent", said, row


def _egress(world: World) -> Iterator[Row]:
    said = "should deny egress from pods based on PodSelector"
    yield "80", "deny egress of a pod", said, [one("- x/a > *", net_policy("x", "out-a", A, egress=[]))]
    said = "should deny egress from all pods in a namespace"
    yield "80", "deny egress", said, [one(NOTHING_OUT, net_policy("x", "out", EVERYTHING, egress=[]))]
    said = "should work with Ingress, Egress specified together"
    rules = {"ingress": [into(peer(B))], "egress": [out(ports=[port(80, None)])]}
    expected = ONLY_B + "\n - x/a > *\n + x/a > * @80/tcp"
    yield "80,81", "both directions", said, [one(expected, net_policy("x", "both", A, **rules))]
    said = (
        "should support denying of egress traffic on the client side (even if the server explicitly allows"
        " this traffic)"
    )
    to_y_a = net_policy("x", "to-y-a", A, egress=[out(peer(A, ns("y")))])
    opened = [
        net_policy("y", f"from-x-a-{name}", labels(pod=name), ingress=[into(peer(A, ns("x")))])
        for name in ("a", "b")
    ]
    expected = "- x/a > *\n - * > y/a,y/b\n + x/a > y/a"
    yield "80", "the client's side denies", said, [one(expected, to_y_a, *opened)]
    said = (
        "should enforce egress policy allowing traffic to a server in a different namespace based on"
        " PodSelector and NamespaceSelector"
    )
    yield "80", "to one pod of another namespace", said, [one("- x/a > *\n + x/a > y/a", to_y_a)]
    said = "should allow egress access to server in CIDR block"
    blocks = [{"ipBlock": {"cidr": each}} for each in world.blocks("y/b")]
    policy = net_policy("x", "cidr", A, egress=[out(*blocks)])
    yield "80", "to a block", said, [one("- x/a > *\n + x/a > y/b", policy)]
    wide = [
        {"ipBlock": {"cidr": cidr, "except": [one_of]}}
        for cidr, one_of in zip(world.blocks("x/b", 4, 4), world.blocks("x/b"), strict=True)
    ]
    policy = net_policy("x", "cidr", A, egress=[out(*wide)])
    said = "should enforce except clause while egress access to server in CIDR block"
    yield "80", "a block but for one", said, [one("- x/a > x/b", policy)]
    said = "should ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed"
    narrow = [{"ipBlock": {"cidr": each}} for each in world.blocks("x/b")]
    later = net_policy("x", "cidr", A, egress=[out(*narrow)])
    row = [one("- x/a > x/b", policy), one("- x/a > *\n + x/a > x/b", later)]
    both = net_policy("x", "cidr", A, egress=[out(*wide), out(*narrow)])
    yield "80", "in a block and its exception", said, [*row, one("", both)]
    said = "should enforce policy based on NamespaceSelector with MatchExpressions using default ns label"
    policy = net_policy("x", "not-y", A, egress=[out(peer(None, among(NAME, "NotIn", "y")))])
    yield "80", "to namespaces but one", said, [one("- x/a > y/*", policy)]


def _protocol(protocol: str) -> Iterator[Row]:
    name = protocol.upper()
    deny = net_policy("x", "deny-ingress", EVERYTHING, ingress=[])
    said = f"{name}: should support a 'default-deny-ingress' policy"
    yield f"80/{protocol}", f"{name}: deny ingress", said, [one(NOTHING_IN, deny)]
    said = f"{name}: should enforce policy based on Ports"
    policy = to_a("y-81", into(peer(None, ns("y")), ports=[port(81, name)]))
    row = [one(f"- * > x/a\n + y/* > x/a @81/{protocol}", policy)]
    yield f"81/{protocol}", f"{name}: one port", said, row
    said = (
        f"{name}: should enforce policy to allow traffic only from a pod in a different namespace based on"
        " PodSelector and NamespaceSelector"
    )
    row = [one("- * > x/a\n + y/a > x/a", to_a("y-a", into(peer(A, ns("y")))))]
    yield f"80/{protocol}", f"{name}: one pod of another namespace", said, row


def _tried(text: str) -> tuple[Port, ...]:
    """Ports, TCP's where nothing else is said."""
    found = (each.partition("/") for each in text.split(","))
    return tuple((int(number), protocol or "tcp") for number, _, protocol in found)


def cases(world: World) -> Iterator[Case]:
    rows = [*_ingress(), *_ports(), *_changes(), *_egress(world), *_protocol("udp"), *_protocol("sctp")]
    for tried, name, source, states in rows:
        steps: list[Step] = [world.step(expected, *found, **more) for expected, found, more in states]
        yield Case(SUITE, name, source, GRID_PODS, _tried(tried), tuple(steps))
