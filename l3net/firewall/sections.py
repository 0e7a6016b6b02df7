"""The sections of the table `inet l3net`, of which each writes what is its own and nothing else.

| section | its own | reads of another's |
|---|---|---|
| protection | the chains prerouting-spoof, from-pods, (input|output|forward)-protect, not-to-pods | |
| services | vips, ports, spared, ends, hairpin; maps and where they lead; before and after translation | |
| masquerade | inside; postrouting-(nat|again), elsewhere, by-port, outside | hairpin, vips, ports |
| floating | floating, floating-(out|self|sources|leave); (prerouting|output|postrouting)-floating | inside |
| egress | leave, leave-(out|never|held); those of rules; ...-egress | inside, floating-sources |
| policy | the chains policy-...; those of policies and of their combinations; what they look into | |
| handing | the tables `ip l3net` and `ip6 l3net`, all of them | |

A new one is a module and a row in `SECTIONS`. What pods publish and pin (host ports, egress) is none of them:
it stands in a table of its own, `l3net_cni` (attach.rules), since the plugin writes that where no agent runs.
"""

from __future__ import annotations

from typing import Final

from l3net.firewall.egress import EGRESS
from l3net.firewall.floating import FLOATING
from l3net.firewall.handing import HANDING
from l3net.firewall.masquerade import MASQUERADE
from l3net.firewall.policy import POLICY
from l3net.firewall.protection import PROTECTION
from l3net.firewall.section import Section
from l3net.firewall.services import SERVICES

#: In the order in which the table is made: of two chains on one hook with one priority, the later one is
#: met first.
SECTIONS: Final[tuple[Section, ...]] = (PROTECTION, SERVICES, MASQUERADE, FLOATING, EGRESS, POLICY, HANDING)
