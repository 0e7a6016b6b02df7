"""The section `egress`: what pods that an EgressIP selects send out of the cluster leaves with its address.

On the pod's node a packet for another node is marked, and routed by that (ports.EgressWays) behind the
envelope's device, as it came. The node that holds the address translates. What must leave with an address
that no node holds, or that this one does not hold where it was handed on to, goes nowhere: it would leave
with another address. Neither does what tracking calls invalid, or has known since before the address was
there: it is not translated. Policies are judged on the pod's node, in between. Answers come back to the
holder, and to the pod by its own address.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import partial

from l3net.firewall.contents import IP, Contents, NamedSet, Rules, twice
from l3net.firewall.facts import FirewallPlan, texts_of, widest_first
from l3net.firewall.masquerade import COMPARED, staying
from l3net.firewall.section import SmallSection
from l3net.model import Address, EgressPaths, EgressRule, EgressRules
from l3net.naming import EGRESS_MARKS, ENVELOPE, PROTOCOL_NUMBERS

#: After services have translated what pods send; and between floating addresses and the masquerade.
MARKING, LEAVING = -90, 97
#: After all translation (NF_IP_PRI_NAT_SRC, 100).
LEFT = 110
#: What goes no further than a link, or is for many, is not led anywhere.
_ON_LINK = {4: ("169.254.0.0/16", "224.0.0.0/4", "255.255.255.255"), 6: ("fe80::/10", "ff00::/8")}
_KEEP = ~EGRESS_MARKS & 0xFFFFFFFF


def _concern(plan: FirewallPlan) -> object:
    egress = plan.egress
    if not egress.wanted:
        return None
    return (
        *(egress, _marks(plan), plan.inside, plan.pod_ranges, plan.bridge),
        *(bool(plan.floating_sources), plan.own_addresses),
    )


def _marks(plan: FirewallPlan) -> dict[str, int]:
    """By the node that packets leave by."""
    return {end.node: end.mark for end in plan.envelope.ends} if plan.envelope is not None else {}


def _contents(plan: FirewallPlan) -> Contents:
    chains: dict[str, Rules] = {}
    sets: dict[str, NamedSet] = {}
    egress, marks = plan.egress, _marks(plan)
    marking: list[str] = []
    leaving: list[str] = []
    untranslated: list[str] = []
    for version, ip in IP.items():
        own = _of_family(egress.own, version)
        leave = own | _of_family(egress.others, version)
        kind = f"type ipv{version}_addr"
        sets[f"leave-held{version}"] = NamedSet(kind, texts_of(version, egress.held))
        floating = [f"{ip} saddr @floating-sources{version} return"] if plan.floating_sources else []
        names = {rules: _name(rules) for rules in dict.fromkeys(leave.values())}
        stay = (
            *staying(version, widest_first(version, plan.inside) if leave else ()),
            *(f"{ip} daddr {each} return" for each in _ON_LINK[version]),
        )
        for name, pods, does, into, before in (
            (f"leave{version}", own, partial(_mark, egress=egress, marks=marks), marking, floating),
            (f"leave-out{version}", leave, partial(_leave, ip=ip, egress=egress), leaving, []),
            (f"leave-never{version}", leave, _never, untranslated, floating),
        ):
            elements = frozenset(f"{pod} : goto {name}-{names[rules]}" for pod, rules in pods.items())
            sets[name] = NamedSet(f"{kind} : verdict", elements, leads=True)
            if pods:
                into.extend((*before, f"{ip} saddr vmap @{name}"))
            for rules in dict.fromkeys(pods.values()):
                found = (f"{match}{does(rule)}" for match, rule in _matches(ip, rules))
                chains[f"{name}-{names[rules]}"] = (*stay, *found)
        if egress.wanted:  # pods that this node does not know yet; no egress address is in these ranges
            ranges = widest_first(version, plan.pod_ranges)[:COMPARED]
            untranslated += [f'iifname "{ENVELOPE}" {ip} saddr {each} drop' for each in ranges]
    if egress.wanted:
        left = (
            *_errors(plan),
            f'oifname {{ "{ENVELOPE}", "{plan.bridge}" }} accept',
            "ct direction reply accept",
            *untranslated,
        )
        chains |= _hooks(plan.bridge, marking, leaving, left)
    return Contents(chains, sets)


def _errors(plan: FirewallPlan) -> Iterator[str]:
    """A router's error about what has left here, on its way to a pod of another node. Where that is by the
    same router, it would meet a packet from its own address and drop it: so it goes on with this node's."""
    for own in plan.own_addresses:
        ip, icmp = IP[own.version], PROTOCOL_NUMBERS["ipv6-icmp"] if own.version == 6 else 1
        for each in widest_first(own.version, plan.pod_ranges)[:COMPARED]:
            about = f"ct state related ct direction reply meta l4proto {icmp} {ip} daddr {each}"
            yield f'oifname != "{plan.bridge}" {about} {ip} saddr set {own}'


def _hooks(bridge: str, marking: list[str], leaving: list[str], left: Rules) -> dict[str, Rules]:
    return {
        **twice(
            "filter",
            "prerouting",
            MARKING,
            ("prerouting-egress", "prerouting-egress-again"),
            (
                # What was translated has another destination by now: nobody asked for this.
                *(f"{ip} daddr @leave-held{version} drop" for version, ip in IP.items()),
                f'iifname != "{bridge}" accept',
                "ct direction reply accept",
                *marking,
            ),
        ),
        **twice(
            "nat",
            "postrouting",
            LEAVING,
            ("postrouting-egress", "postrouting-egress-again"),
            (
                f'oifname "{ENVELOPE}" accept',
                *leaving,
                # What another node has handed on although this one holds nothing for it.
                f'iifname "{ENVELOPE}" oifname != "{bridge}" drop',
            ),
        ),
        # With the pod's own address still: what tracking calls invalid, or has known since before; and what
        # is marked, while its rule or table is gone (ports.EgressWays).
        **twice(
            "filter",
            "postrouting",
            LEFT,
            ("postrouting-egress-left", "postrouting-egress-left-again"),
            left,
        ),
    }


def _of_family(pods: Mapping[Address, EgressRules], version: int) -> dict[Address, EgressRules]:
    return {address: rules for address, rules in pods.items() if address.version == version}


def _matches(ip: str, rules: EgressRules) -> Iterator[tuple[str, EgressRule]]:
    """What each rule is for; none after one that is for all."""
    for rule in rules:
        if not rule.destinations:
            yield "", rule
            return
        to = ", ".join(sorted(map(str, rule.destinations)))
        yield f"{ip} daddr {{ {to} }} ", rule


def _mark(rule: EgressRule, egress: EgressPaths, marks: Mapping[str, int]) -> str:
    if rule.address in egress.held:
        return "return"
    mark = marks.get(rule.node)
    if rule.address is None or mark is None:
        return "drop"
    return f"meta mark set meta mark & {_KEEP:#010x} | {mark:#010x} return"


def _leave(rule: EgressRule, ip: str, egress: EgressPaths) -> str:
    # With the pod's own port where that is free, unlike the masquerade: so another node that comes to hold
    # the address translates a connection as it was, and it goes on.
    if rule.address is None or rule.address not in egress.held:
        return "drop"
    return f"snat {ip} to {rule.address}"


def _never(_rule: EgressRule) -> str:
    return "drop"


def _name(rules: EgressRules) -> str:
    """The same for the same rules, whoever else has which."""
    return hashlib.sha256(repr(rules).encode()).hexdigest()[:12]


EGRESS = SmallSection(
    "egress",
    own=re.compile(
        r"leave(-out|-never)?[46](-[0-9a-f]{12})?|leave-held[46]"
        r"|(pre|post)routing-egress(-left)?(-again)?"
    ),
    reads=re.compile(r"inside[46]|floating-sources[46]"),  # of the masquerade, of floating addresses
    concern=_concern,
    contents=_contents,
)
