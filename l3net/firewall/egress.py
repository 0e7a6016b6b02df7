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

from l3net.firewall.contents import IP, Contents, NamedSet, Rules, hook, twice
from l3net.firewall.facts import FirewallPlan, texts_of, widest_first
from l3net.firewall.masquerade import COMPARED, staying
from l3net.firewall.section import SmallSection
from l3net.model import Address, EgressPaths, EgressRule, EgressRules
from l3net.naming import EGRESS_MARKS, ENVELOPE

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
    return (egress, _marks(plan), plan.inside, plan.pod_ranges, plan.bridge, bool(plan.floating_sources))


def _marks(plan: FirewallPlan) -> dict[str, int]:
    """By the node that packets leave by."""
    return {end.node: end.mark for end in plan.envelope.ends} if plan.envelope is not None else {}


def _contents(plan: FirewallPlan) -> Contents:
    chains: dict[str, Rules] = {}
    sets: dict[str, NamedSet] = {}
    egress, marks = plan.egress, _marks(plan)
    marking: list[str] = []
    leaving: list[str] = []
    for version, ip in IP.items():
        own = _of_family(egress.own, version)
        leave = own | _of_family(egress.others, version)
        stay = (
            *staying(version, widest_first(version, plan.inside)),
            *(f"{ip} daddr {each} return" for each in _ON_LINK[version]),
        )
        for rules in dict.fromkeys(own.values()):
            chains[f"leave{version}-{_name(rules)}"] = (
                *stay,
                *(f"{match}{_mark(rule, egress, marks)}" for match, rule in _matches(ip, rules)),
            )
        for rules in dict.fromkeys(leave.values()):
            chains[f"leave-out{version}-{_name(rules)}"] = (
                *stay,
                *(f"{match}{_leave(ip, rule, egress)}" for match, rule in _matches(ip, rules)),
            )
            chains[f"leave-never{version}-{_name(rules)}"] = (
                *stay,
                *(f"{match}drop" for match, _ in _matches(ip, rules)),
            )
        kind = f"type ipv{version}_addr"
        sets[f"leave-held{version}"] = NamedSet(kind, texts_of(version, egress.held))
        for name, pods in (
            (f"leave{version}", own),
            (f"leave-out{version}", leave),
            (f"leave-never{version}", leave),
        ):
            elements = frozenset(f"{pod} : goto {name}-{_name(rules)}" for pod, rules in pods.items())
            sets[name] = NamedSet(f"{kind} : verdict", elements, leads=True)
        if own:
            if plan.floating_sources:
                marking.append(f"{ip} saddr @floating-sources{version} return")
            marking.append(f"{ip} saddr vmap @leave{version}")
        if leave:
            leaving.append(f"{ip} saddr vmap @leave-out{version}")
    if egress.wanted:
        chains["forward-egress"] = _forwarding(plan, marks)
        marks_them = (
            # What was translated has another destination by now: nobody asked for this.
            *(f"{ip} daddr @leave-held{version} drop" for version, ip in IP.items()),
            f'iifname != "{plan.bridge}" accept',
            "ct direction reply accept",
            *marking,
        )
        names = ("prerouting-egress", "prerouting-egress-again")
        chains |= twice("filter", "prerouting", MARKING, names, marks_them)
        # What another node has handed on although this one holds nothing for it.
        leaving.append(f'iifname "{ENVELOPE}" oifname != "{plan.bridge}" drop')
        names = ("postrouting-egress", "postrouting-egress-again")
        first = f'oifname "{ENVELOPE}" accept'
        chains |= twice("nat", "postrouting", LEAVING, names, (first, *leaving))
        names = ("postrouting-egress-left", "postrouting-egress-left-again")
        chains |= twice("filter", "postrouting", LEFT, names, _left(plan))
    return Contents(chains, sets)


def _forwarding(plan: FirewallPlan, marks: Mapping[str, int]) -> Rules:
    """What bears a mark goes by the envelope alone, also while its way is gone (ports.EgressWays)."""
    through = {rule.node for rules in plan.egress.own.values() for rule in rules}
    return (
        hook("filter", "forward", -1),
        f'iifname != "{plan.bridge}" accept',
        f'oifname "{ENVELOPE}" accept',
        *(
            f"meta mark & {EGRESS_MARKS:#010x} == {mark:#010x} drop"
            for node, mark in sorted(marks.items())
            if node in through
        ),
    )


def _left(plan: FirewallPlan) -> Rules:
    """What is not translated when all translation is over does not leave."""
    rules = [f'oifname {{ "{ENVELOPE}", "{plan.bridge}" }} accept', "ct direction reply accept"]
    for version, ip in IP.items():
        if _of_family(plan.egress.own, version) or _of_family(plan.egress.others, version):
            if plan.floating_sources:
                rules.append(f"{ip} saddr @floating-sources{version} return")
            rules.append(f"{ip} saddr vmap @leave-never{version}")
        # Pods that this node does not know yet; no egress address is in these ranges.
        ranges = widest_first(version, plan.pod_ranges)[:COMPARED]
        rules += [f'iifname "{ENVELOPE}" {ip} saddr {each} drop' for each in ranges]
    return tuple(rules)


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


def _leave(ip: str, rule: EgressRule, egress: EgressPaths) -> str:
    if rule.address is None or rule.address not in egress.held:
        return "drop"
    return f"snat {ip} to {rule.address}"


def _name(rules: EgressRules) -> str:
    """The same for the same rules, whoever else has which."""
    return hashlib.sha256(repr(rules).encode()).hexdigest()[:12]


EGRESS = SmallSection(
    "egress",
    own=re.compile(
        r"leave(-out|-never)?[46](-[0-9a-f]{12})?|leave-held[46]"
        r"|((pre|post)routing|forward)-egress(-left)?(-again)?"
    ),
    reads=re.compile(r"inside[46]|floating-sources[46]"),  # of the masquerade, of floating addresses
    concern=_concern,
    contents=_contents,
)
