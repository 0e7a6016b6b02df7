"""The section `floating`: an address that is a pod's beside its own, translated one to one both ways.

What comes for it goes to the pod, whatever the protocol; what the pod sends out of the cluster leaves with
it. Inside the cluster pods keep their own addresses, which policies know them by; but for the pod that calls
its own floating address: it would get an answer from another address than it asked.
"""

from __future__ import annotations

import re

from l3net.firewall.contents import IP, Contents, NamedSet, Rules, twice
from l3net.firewall.facts import FirewallPlan, widest_first
from l3net.firewall.masquerade import staying
from l3net.firewall.section import SmallSection

#: Before services, so that nothing else translates first; and before the masquerade.
INWARD, OUTWARD = -106, 95


def _concern(plan: FirewallPlan) -> object:
    return (plan.floating, plan.floating_sources, plan.inside if plan.floating_sources else None)


def _contents(plan: FirewallPlan) -> Contents:
    chains: dict[str, Rules] = {}
    sets: dict[str, NamedSet] = {}
    inward: list[str] = []
    outward: list[str] = []
    for version, ip in IP.items():
        to_pods = [each for each in plan.floating if each[0].version == version]
        sources = [each for each in plan.floating_sources if each[0].version == version]
        kind = f"ipv{version}_addr"
        to = frozenset(f"{address} : {pod}" for address, pod in to_pods)
        out = frozenset(f"{pod} : {address}" for pod, address in sources)
        itself = frozenset(f"{pod} . {pod}" for pod, _ in sources)
        sets[f"floating{version}"] = NamedSet(f"type {kind} : {kind}", to, leads=True)
        sets[f"floating-out{version}"] = NamedSet(f"type {kind} : {kind}", out, leads=True)
        sets[f"floating-self{version}"] = NamedSet(f"type {kind} . {kind}", itself)
        if to:
            inward.append(f"dnat {ip} to {ip} daddr map @floating{version}")
        leave = f"snat {ip} to {ip} saddr map @floating-out{version}"
        if out:
            chains[f"floating-leave{version}"] = (
                *staying(version, widest_first(version, plan.inside)),
                leave,
            )
            outward += [
                f"ct status dnat {ip} saddr . {ip} daddr @floating-self{version} {leave}",
                f"{ip} saddr @floating-sources{version} jump floating-leave{version}",
            ]
        pods = frozenset(str(pod) for pod, _ in sources)
        sets[f"floating-sources{version}"] = NamedSet(f"type {kind}", pods)
    if inward:  # a node without floating addresses has no chain for them on any packet's way
        for where in ("prerouting", "output"):
            names = (f"{where}-floating", f"{where}-floating-again")
            chains |= twice("nat", where, INWARD, names, tuple(inward))
    if outward:
        names = ("postrouting-floating", "postrouting-floating-again")
        chains |= twice("nat", "postrouting", OUTWARD, names, tuple(outward))
    return Contents(chains, sets)


FLOATING = SmallSection(
    "floating",
    own=re.compile(
        r"floating(-out|-self|-sources|-leave)?[46]|(prerouting|output|postrouting)-floating(-again)?"
    ),
    reads=re.compile(r"inside[46]"),  # of the masquerade
    concern=_concern,
    contents=_contents,
)
