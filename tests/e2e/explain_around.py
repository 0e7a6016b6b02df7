"""Set-ups whose fault lies around l3net: on a link, in what others do on the node, in what has run out. Each
kind with one beside it that looks alike and is well."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fill_conntrack
import pytest
from explain_bench import EXTERNAL, OTHER, Act, Bench, Case, Documents
from explain_broken import OUT, SERVICE, both, configured, more, peers, put, second, service

from l3net.lab import pod_server
from l3net.lab.errors import LabError
from l3net.lab.host import python
from l3net.lab.nodes import l3net_command
from l3net.lab.pods import add_pod, delete_pod, find_plugin
from l3net.lab.topology import BgpSession

#: Connections with which a table is filled; where a machine has room for more, that set-up is left out, and
#: what its numbers mean is tested with made ones (tests/doctor, tests/explain).
MOST_CONNECTIONS = 1 << 18
WRONG = "02:00:00:00:00:99"
RIVAL = "rival"


def _router(bench: Bench, host: str = "n1", far: str = "tor") -> list[BgpSession]:
    """The sessions of a host with one router."""
    return [each for each in bench.lab.topology.sessions(host) if each.remote_host == far]


def _ip(bench: Bench, host: str, *lines: str, check: bool = True) -> None:
    for line in lines:
        bench.run(host, f"ip {line}", check=check)


# --- neighbours -------------------------------------------------------------------------------------------


def _stale(*versions: int) -> Case:
    """The entry of the router is that of a host that is not there, and nothing corrects it."""

    def act(bench: Bench) -> None:
        for each in _router(bench):
            if each.remote.version in versions:
                _ip(bench, "n1", f"neigh replace {each.remote} dev tor lladdr {WRONG} nud permanent")

    def undo(bench: Bench) -> None:
        for each in _router(bench):
            _ip(bench, "n1", f"neigh del {each.remote} dev tor", check=False)

    shown = EXTERNAL[0] if versions == (4,) else f"[{EXTERNAL[1]}]"
    subject = SERVICE if len(versions) == 2 else f"{{client{versions[0]}}} {shown}:80"
    named = "both families" if len(versions) == 2 else f"IPv{versions[0]}"
    targets = OUT if len(versions) == 2 else (OUT[versions[0] == 6],)
    return Case(
        f"a stale neighbour entry of the router, {named}",
        "neighbourStale",
        subject,
        targets=targets,
        act=act,
        undo=undo,
    )


def _static(bench: Bench) -> None:
    """A permanent entry, and the right one."""
    for each in _router(bench):
        mac = bench.run("tor", "cat /sys/class/net/n1/address").strip()
        _ip(bench, "n1", f"neigh replace {each.remote} dev tor lladdr {mac} nud permanent")


def _no_static(bench: Bench) -> None:
    for each in _router(bench):
        _ip(bench, "n1", f"neigh del {each.remote} dev tor", check=False)


#: Sends a datagram to each address, so that its ARP and neighbour discovery tell whoever has the address.
_SPEAK = """
import socket, sys
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (address, 9))
"""


def _rival_has(bench: Bench, addresses: list[str]) -> None:
    """A third host on the segment between tor and n1, whose end at tor becomes a switch."""
    own = [f"{each.local}/{_length(bench, each)}" for each in _router(bench, "tor", "n1")]
    mac = bench.run("tor", "cat /sys/class/net/n1/address").strip()
    _ip(
        bench,
        "tor",
        f"link add seg address {mac} type bridge",
        *(f"addr del {each} dev n1" for each in own),
        "link set n1 master seg",
        "link set seg up",
        *(f"addr add {each} dev seg{' nodad' * (':' in each)}" for each in own),
        f"netns add {RIVAL}",
        f"link add rp type veth peer name rv netns {RIVAL}",
        "link set rp master seg",
        "link set rp up",
        f"-n {RIVAL} link set rv up",
        *(f"-n {RIVAL} addr add {each} dev rv{' nodad' * (':' in each)}" for each in addresses),
    )


def _rival_speaks(bench: Bench, far: str) -> None:
    """To one of the two that share the segment with it, who believes it."""
    sessions = _router(bench, "n1", "tor") if far == "tor" else _router(bench, "tor", "n1")
    words = ["ip", "netns", "exec", RIVAL, sys.executable, "-c", _SPEAK]
    bench.host("tor").run([*words, *(str(each.remote) for each in sessions)])


def _length(bench: Bench, session: BgpSession) -> int:
    links = bench.lab.topology.links_of("tor")
    ends = [address for link in links for address in link.end("tor").addresses]
    return next(each.network.prefixlen for each in ends if each.ip == session.local)


def _has_node(bench: Bench) -> None:
    addresses = [f"{each.local}/{_length(bench, peer)}" for each, peer in _pairs(bench)]
    _rival_has(bench, addresses)
    _rival_speaks(bench, "tor")


def _has_router(bench: Bench) -> None:
    addresses = [f"{each.remote}/{_length(bench, peer)}" for each, peer in _pairs(bench)]
    _rival_has(bench, addresses)
    _rival_speaks(bench, "n1")


def _has_its_own(bench: Bench) -> None:
    _rival_has(bench, ["198.18.7.2/24", "fd00:18:7::2/64"])


def _pairs(bench: Bench) -> list[tuple[BgpSession, BgpSession]]:
    """Each session of n1 with tor, as either has it."""
    return [
        (near, far)
        for near in _router(bench)
        for far in _router(bench, "tor", "n1")
        if near.local == far.remote
    ]


def _rival_leaves(bench: Bench) -> None:
    _ip(bench, "tor", f"netns del {RIVAL}", "link del rp", "link del seg", check=False)
    bench.lab.number("tor")
    _ip(bench, "n1", "neigh flush dev tor", "-6 neigh flush dev tor", check=False)


def links() -> Iterator[Case]:
    """Who takes packets on a link."""
    yield _stale(4, 6)
    yield _stale(4)
    yield _stale(6)
    yield Case(
        "another host has the node's addresses",
        "duplicateAddress",
        SERVICE,
        targets=OUT,
        act=_has_node,
        undo=_rival_leaves,
    )
    yield Case(
        "another host has the router's addresses",
        "duplicateAddress",
        SERVICE,
        targets=OUT,
        act=_has_router,
        undo=_rival_leaves,
    )


def links_that_are_well() -> Iterator[Case]:
    """The same, where each is who it says."""
    yield Case(
        "a permanent neighbour entry that is right", "", SERVICE, targets=OUT, act=_static, undo=_no_static
    )
    yield Case(
        "a third host on the link with addresses of its own",
        "",
        f"{{client6}} [{EXTERNAL[1]}]:80",
        targets=OUT,
        act=_has_its_own,
        undo=_rival_leaves,
    )


# --- other programs that take a service's packets ---------------------------------------------------------

CLUSTER = (("10.96.0.20", 80), ("fd00:10:96::14", 80))
#: What NodeLocal DNS puts in before everything else, for the port of its service.
NOTRACK = """
table inet nodelocal {{
  chain in {{
    type filter hook prerouting priority -300;
    ip daddr {four} tcp dport 80 notrack
    ip6 daddr {six} tcp dport 80 notrack
  }}
  chain out {{
    type filter hook output priority -300;
    ip saddr {four} tcp sport 80 notrack
    ip6 saddr {six} tcp sport 80 notrack
  }}
}}
"""
#: As kube-proxy's nftables mode has it, for one service and endpoint of each family.
KUBE_PROXY = """
table {ip} kube-proxy {{
  map service-ips {{
    type ipv{version}_addr . inet_proto . inet_service : verdict
    elements = {{ {service} . tcp . 80 : goto service-other, {service} . tcp . 81 : drop }}
  }}
  chain endpoint-dead {{
    {ip} saddr {shown} drop
    meta l4proto tcp dnat to {endpoint}:{port}
  }}
  chain service-other {{ numgen random mod 1 vmap {{ 0 : goto endpoint-dead }}
  }}
  chain services {{ {ip} daddr . meta l4proto . th dport vmap @service-ips
  }}
  chain nat-prerouting {{ type nat hook prerouting priority {priority}; jump services
  }}
}}
"""
FIREWALL = """
table ip kube-proxy {{
  map firewall-ips {{
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = {{ {service} . tcp . 80 : goto firewall-other }}
  }}
  chain firewall-other {{ ip saddr {source} return
    drop
  }}
  chain firewall-check {{ ip daddr . meta l4proto . th dport vmap @firewall-ips
  }}
  chain filter-prerouting {{ type filter hook prerouting priority -110; ct state new jump firewall-check
  }}
}}
"""
#: kube-proxy's metrics port, which says its mode.
_MODE = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"nftables")
http.server.HTTPServer(("127.0.0.1", 10249), Handler).serve_forever()
"""


def _nft(bench: Bench, text: str) -> None:
    bench.host("n1").run(["nft", "-f", "-"], text=text)


def _nodelocal(*, held: bool, untracked: bool, answers: bool = False) -> Act:
    def act(bench: Bench) -> None:
        four, six = (address for address, _ in CLUSTER)
        if held:
            _ip(
                bench,
                "n1",
                "link add nodelocal type bridge",
                f"addr add {four}/32 dev nodelocal",
                f"addr add {six}/128 dev nodelocal nodad",
                "link set nodelocal up",
            )
        if untracked:
            _nft(bench, NOTRACK.format(four=four, six=six))
        if answers:
            bench.host("n1").spawn("nodelocal", [*python(), pod_server.__file__, "n1", "nodelocal", "80"])

    return act


def _no_nodelocal(bench: Bench) -> None:
    bench.host("n1").kill("nodelocal")
    bench.run("n1", "nft delete table inet nodelocal", check=False)
    _ip(bench, "n1", "link del nodelocal", check=False)


def _kube_proxy(
    *, priority: int = -100, answers: bool = False, dead: bool = True, iptables: bool = False
) -> Act:
    """Its tables in the node's namespace, which send to an address of n2's block that no pod has, or (not
    `dead`) to the endpoint."""

    def act(bench: Bench) -> None:
        for (address, _), gone in zip(CLUSTER, ("10.244.2.99", "fd00:10:244:2::99"), strict=True):
            six = ":" in address
            endpoint = gone if dead else bench.pod("web-2", 6 if six else 4)
            if iptables:
                _iptables(bench, address, f"[{endpoint}]:8080" if six else f"{endpoint}:8080", six=six)
                continue
            _nft(
                bench,
                KUBE_PROXY.format(
                    ip="ip6" if six else "ip",
                    version=6 if six else 4,
                    service=address,
                    shown=endpoint,
                    endpoint=f"[{endpoint}]" if six else endpoint,
                    port=8080,
                    priority=priority,
                ),
            )
        if answers:
            bench.host("n1").spawn("kube-proxy", [*python(), "-c", _MODE])

    return act


def _iptables(bench: Bench, address: str, endpoint: str, *, six: bool) -> None:
    """As its iptables mode has it, over nftables."""
    program = "ip6tables-nft" if six else "iptables-nft"
    for line in (
        "-N KUBE-SERVICES",
        "-N KUBE-SVC-A",
        "-N KUBE-SEP-A",
        "-A PREROUTING -m comment --comment portals -j KUBE-SERVICES",
        f"-A KUBE-SERVICES -d {address} -p tcp -m comment --comment other -m tcp --dport 80 -j KUBE-SVC-A",
        "-A KUBE-SVC-A -m comment --comment other -j KUBE-SEP-A",
        f"-A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination {endpoint}",
    ):
        bench.run("n1", f"{program} -t nat {line}")


def _no_kube_proxy(bench: Bench) -> None:
    bench.host("n1").kill("kube-proxy")
    for table in ("ip kube-proxy", "ip6 kube-proxy", "ip nat", "ip6 nat"):
        bench.run("n1", f"nft delete table {table}", check=False)
    assert bench.until(lambda: bench.host("n1").status()["serviceProxy"]["on"]), "l3net does not take over"


def others() -> Iterator[Case]:
    """Programs beside l3net that take what is for a service."""
    shell = "default/shell-1 10.96.0.20:80"

    def beside(name: str, cause: str, act: Act, subject: str = "service default/other") -> Case:
        undo = _no_nodelocal if "NodeLocal" in name else _no_kube_proxy
        return Case(name, cause, subject, "shell-1", CLUSTER, act=act, undo=undo)

    yield beside(
        "NodeLocal DNS has the address, and is dead", "heldLocally", _nodelocal(held=True, untracked=True)
    )
    yield beside(
        "NodeLocal DNS has left its rules", "untracked", _nodelocal(held=False, untracked=True), shell
    )
    yield beside(
        "kube-proxy translates, to an endpoint that is gone",
        "translatedElsewhere",
        _kube_proxy(answers=True),
    )
    yield beside(
        "kube-proxy translates in iptables mode, to an endpoint that is gone",
        "translatedElsewhere",
        _kube_proxy(answers=True, iptables=True),
        "default/shell-1 [fd00:10:96::14]:80",
    )
    yield beside(
        "a proxy translates before l3net does", "translatedElsewhere", _kube_proxy(priority=-150), shell
    )
    yield Case(
        "a kube-proxy that is gone has left source ranges",
        "foreignFirewall",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=OUT[:1],
        act=lambda bench: _nft(bench, FIREWALL.format(service=EXTERNAL[0], source="203.0.113.0/24")),
        undo=_no_kube_proxy,
    )


def others_that_do_no_harm() -> Iterator[Case]:
    """The same programs, where packets pass all the same."""

    def beside(name: str, act: Act, subject: str = "service default/other") -> Case:
        undo = _no_nodelocal if "NodeLocal" in name else _no_kube_proxy
        return Case(name, "", subject, "shell-1", CLUSTER, act=act, undo=undo)

    yield beside("NodeLocal DNS answers", _nodelocal(held=True, untracked=True, answers=True))
    yield beside("NodeLocal DNS has the address, and no rules", _nodelocal(held=True, untracked=False))
    yield beside("kube-proxy translates, as l3net would", _kube_proxy(answers=True, dead=False))
    yield beside(
        "kube-proxy has left tables, and l3net comes first",
        _kube_proxy(),
        "default/shell-1 [fd00:10:96::14]:80",
    )
    yield Case(
        "a kube-proxy that is gone has left source ranges with the client",
        "",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=OUT[:1],
        act=lambda bench: _nft(bench, FIREWALL.format(service=EXTERNAL[0], source="10.0.0.0/8")),
        undo=_no_kube_proxy,
    )


# --- BFD --------------------------------------------------------------------------------------------------

#: The router takes nothing from n1 any more, and its link stays up.
DEAF = """
table inet deaf {
  chain in { type filter hook prerouting priority -400; iifname "n1" drop
  }
}
"""


def _with_bfd(documents: Documents) -> None:
    peers(lambda spec: put(spec, bfd={"minInterval": 100}))(documents)


def _bfd_up(bench: Bench) -> None:
    """Ours at n1, FRR's at the router."""
    tor, n1 = bench.host("tor"), bench.host("n1")
    n1.spawn("bfd", l3net_command("bfd"))
    tor.spawn("bfdd", ["bfdd", "-A", "127.0.0.1", "-P", "0", "--log", "stdout"])
    assert bench.until(lambda: tor.inside("/run/frr/bfdd.vty").exists()), "FRR's bfdd does not come up"
    fast = ("bfd", "profile fast", "receive-interval 100", "transmit-interval 100", "exit", "exit")
    bench.vtysh("tor", "conf t", *fast, "router bgp 65001", *_bfd_lines(bench, "bfd profile fast"))

    def up() -> bool:
        found = {row["address"]: row for row in n1.status()["peers"]}
        rows = [found[str(each.remote)] for each in _router(bench)]
        return all(row["state"] == "established" and (row["bfd"] or {}).get("state") == "Up" for row in rows)

    assert bench.until(up), "BFD does not come up"


def _deaf(bench: Bench) -> None:
    _bfd_up(bench)
    bench.host("tor").run(["nft", "-f", "-"], text=DEAF)


def _bfd_lines(bench: Bench, words: str, *, no: bool = False) -> list[str]:
    return [f"{'no ' * no}neighbor {each.remote} {words}" for each in _router(bench, "tor", "n1")]


def _no_bfd(bench: Bench) -> None:
    bench.run("tor", "nft delete table inet deaf", check=False)
    bench.vtysh("tor", "conf t", "router bgp 65001", *_bfd_lines(bench, "bfd profile fast", no=True))
    bench.host("n1").kill("bfd")
    bench.host("tor").kill("bfdd")


def bfd() -> Iterator[Case]:
    """The path is lost, and the link knows nothing of it."""
    yield Case(
        "BFD has lost the path", "bfdDown", SERVICE, targets=OUT, change=_with_bfd, act=_deaf, undo=_no_bfd
    )


def bfd_that_is_up() -> Iterator[Case]:
    """The same, with the path."""
    yield Case("BFD is up", "", SERVICE, targets=OUT, change=_with_bfd, act=_bfd_up, undo=_no_bfd)


# --- large packets ------------------------------------------------------------------------------------------

#: The router tells nobody that a packet is too big.
NO_ERRORS = """
table inet mute {
  chain out {
    type filter hook output priority 0;
    icmp type destination-unreachable drop
    icmpv6 type packet-too-big drop
  }
}
"""
REMOTE = (("{web-2.4}", 8080), ("{web-2.6}", 8080))


def _narrow(bench: Bench) -> None:
    """The link between the two routers carries less than pods send, as either of them knows."""
    _ip(bench, "tor", "link set edge mtu 1300")
    _ip(bench, "edge", "link set tor mtu 1300")


def _narrow_and_mute(bench: Bench) -> None:
    bench.host("tor").run(["nft", "-f", "-"], text=NO_ERRORS)
    _narrow(bench)


def _wide(bench: Bench) -> None:
    _ip(bench, "tor", "link set edge mtu 1500")
    _ip(bench, "edge", "link set tor mtu 1500")
    bench.run("tor", "nft delete table inet mute", check=False)


def sizes() -> Iterator[Case]:
    """Small packets pass, large ones do not."""
    for version, shown in ((4, "{web-2.4}"), (6, "[{web-2.6}]")):
        yield Case(
            f"large packets are lost without a word, IPv{version}",
            "mtu",
            f"default/shell-1 {shown}:8080",
            "shell-1",
            (REMOTE[version == 6],),
            act=_narrow_and_mute,
            undo=_wide,
            size=3000,
        )


def sizes_that_are_told() -> Iterator[Case]:
    """The same link, and whoever sends too much hears of it (path MTU discovery, RFC 1191, RFC 8201)."""
    yield Case(
        "a link that carries less, of which routers tell",
        "",
        "default/shell-1 {web-2.4}:8080",
        "shell-1",
        REMOTE,
        act=_narrow,
        undo=_wide,
        size=3000,
    )


# --- what has run out --------------------------------------------------------------------------------------


def _connections(share: float) -> Act:
    """Fills the table of n1 to a share of the limit. The limit is the machine's, and cannot be lowered in a
    namespace (net.netfilter.nf_conntrack_max is read-only there, nf_conntrack_standalone.c); but what is
    counted against it is the namespace's own, so that n1 alone is full. 262144 take 15 s and 700 MB."""

    def act(bench: Bench) -> None:
        limit = _most_connections()
        _fill(bench, 0)
        # What is tracked anew meanwhile takes the places of the last ones.
        _fill(bench, int(share * limit) + 1000 * (share == 1))

    return act


def _most_connections() -> int:
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())


def _fill(bench: Bench, count: int) -> None:
    n1 = bench.host("n1")
    n1.run([*python(), fill_conntrack.__file__, str(count)], timeout=200)


#: A pool of one address a family.
POOLS = tuple(
    {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "IPPool",
        "metadata": {"name": f"balancers-{version}"},
        "spec": {"cidr": f"{address}/{length}", "allowedUses": ["LoadBalancer"]},
    }
    for version, address, length in zip((4, 6), OTHER, (32, 128), strict=True)
)


def _pool_taken(by: str) -> Callable[[Documents], None]:
    """Its addresses are `by`'s (`a-first` or `other`): the other one has none left."""
    ingress = {"loadBalancer": {"ingress": [{"ip": address} for address in OTHER]}}
    first = second(type="LoadBalancer", loadBalancerClass="l3net.io/bgp")
    first["spec"]["ports"] = [{"name": "http", "protocol": "TCP", "port": 8888, "targetPort": 9}]
    if by == "a-first":
        first["status"] = ingress

    def change(each: dict[str, Any]) -> None:
        each["spec"] |= {"type": "LoadBalancer", "loadBalancerClass": "l3net.io/bgp"}
        if by == "other":
            each["status"] = ingress

    announced = {"enabled": True, "cidrs": ["192.0.2.0/24", "2001:db8:2::/64"]}
    return both(
        more(*POOLS, first),
        service(change, "other"),
        configured(lambda spec: put(spec["advertise"], loadBalancerIPs=announced)),
    )


#: Leases an address after another as an IPAM plugin does, until there is none; or frees all of them.
_LEASE = """
i=0
while [ $i -lt 400 ]; do
  i=$((i + 1))
  export CNI_COMMAND=$1 CNI_NETNS=/proc/self/ns/net CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin
  export CNI_CONTAINERID=fill$i
  export CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=fill$i;K8S_POD_UID=fill$i"
  echo '{"cniVersion": "1.0.0", "name": "l3net", "type": "x", "ipam": {"type": "l3net-ipam"}}' | "$2" || break
done
"""


def _leases(verb: str) -> Act:
    def act(bench: Bench) -> None:
        plugin = find_plugin().with_name("l3net-ipam")
        n1 = bench.host("n1")
        n1.run(["sh", "-c", _LEASE, "sh", verb, str(plugin)], timeout=200)
        if verb == "ADD":
            with pytest.raises(LabError, match=r"no IPv4 address|no address free"):
                add_pod(n1, "one-more", find_plugin())
            delete_pod(n1, "one-more", find_plugin())

    return act


def exhausted() -> Iterator[Case]:
    """There is no room for one more."""
    yield Case(
        "the pool of load balancers is used up",
        "poolExhausted",
        "service default/other",
        targets=tuple((address, 80) for address in OTHER),
        change=_pool_taken("a-first"),
    )
    yield Case(
        "the node's block is used up",
        "poolExhausted",
        "pod default/one-more",
        targets=(("10.244.1.254", 8080),),
        act=_leases("ADD"),
        undo=_leases("DEL"),
    )
    if _most_connections() <= MOST_CONNECTIONS:
        yield _full_table()


def _full_table() -> Case:
    return Case(
        "the connection table is full",
        "conntrackFull",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=OUT,
        act=_connections(1),
        undo=lambda bench: _fill(bench, 0),
    )


def room_left() -> Iterator[Case]:
    """There is, if not much."""
    yield Case(
        "the node's block is used up, and the pod has its addresses",
        "",
        "pod default/web-1",
        targets=(("{web-1.4}", 8080), ("{web-1.6}", 8080)),
        act=_leases("ADD"),
        undo=_leases("DEL"),
    )
    yield Case(
        "the pool of load balancers is used up, by the service itself",
        "",
        "service default/other",
        targets=tuple((address, 80) for address in OTHER),
        change=_pool_taken("other"),
    )
    if _most_connections() <= MOST_CONNECTIONS:
        yield _nearly_full_table()


def _nearly_full_table() -> Case:
    return Case(
        "the connection table is nearly full",
        "",
        f"{{client6}} [{EXTERNAL[1]}]:80",
        targets=OUT,
        act=_connections(0.92),
        undo=lambda bench: _fill(bench, 0),
    )


BROKEN_AROUND = (*links(), *others(), *bfd(), *sizes(), *exhausted())
HEALTHY_AROUND = (
    *links_that_are_well(),
    *others_that_do_no_harm(),
    *bfd_that_is_up(),
    *sizes_that_are_told(),
    *room_left(),
)

#: Those that are quick and unlike one another.
FIRST = (
    "a stale neighbour entry of the router, both families",
    "NodeLocal DNS has the address, and is dead",
    "NodeLocal DNS answers",
    "the pool of load balancers is used up",
)
