"""Set-ups that are broken, each in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from explain_bench import EXTERNAL, OTHER, Act, Bench, Case, Documents

from l3net.lab.nodes import start_speaker

OUT = tuple((address, 80) for address in EXTERNAL)
IN = (("10.96.0.10", 80), ("fd00:10:96::a", 80))
SERVICE = "service default/web"
FOREIGN = "table inet foreign {{\n chain f {{\n type filter hook forward priority 0; {}\n }}\n}}\n"
EARLY = "table ip foreign {{\n chain f {{\n type filter hook prerouting priority -300;\n {}\n }}\n}}\n"
OWN, POLICY = "l3net.io/v1alpha1", "policy.networking.k8s.io/v1alpha2"


def service(change: Callable[[dict[str, Any]], None], name: str = "web") -> Callable[[Documents], None]:
    return lambda documents: change(Bench.of(documents, "Service", name))


def slices(change: Callable[[dict[str, Any]], None], name: str = "web") -> Callable[[Documents], None]:
    def changed(documents: Documents) -> None:
        for each in Bench.all_of(documents, "EndpointSlice"):
            if each["metadata"]["labels"]["kubernetes.io/service-name"] == name:
                change(each)

    return changed


def configured(change: Callable[[dict[str, Any]], None]) -> Callable[[Documents], None]:
    return lambda documents: change(Bench.of(documents, "BGPConfiguration", "default")["spec"])


def node(change: Callable[[dict[str, Any]], None], name: str = "n1") -> Callable[[Documents], None]:
    return lambda documents: change(Bench.of(documents, "Node", name))


def peers(change: Callable[[dict[str, Any]], None]) -> Callable[[Documents], None]:
    """The BGPPeers of n1."""

    def changed(documents: Documents) -> None:
        for each in Bench.all_of(documents, "BGPPeer"):
            if each["spec"].get("nodes") == ["n1"]:
                change(each["spec"])

    return changed


def more(*objects: dict[str, Any]) -> Callable[[Documents], None]:
    return lambda documents: documents["matrix.yaml"].extend(objects)


def both(*changes: Callable[[Documents], None]) -> Callable[[Documents], None]:
    def changed(documents: Documents) -> None:
        for change in changes:
            change(documents)

    return changed


def put(where: dict[str, Any], **values: Any) -> None:
    where.update(values)


def annotate(each: dict[str, Any], **labels: Any) -> None:
    each["metadata"].setdefault("annotations", {}).update(labels["annotations"])


def network_policy(**spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "default", "name": "mine"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {"podSelector": {}, **spec},
    }


def cluster_policy(tier: str, action: str, **more_of_it: Any) -> dict[str, Any]:
    rule = {"name": "all", "action": action, "from": [{"namespaces": {}}]}
    if "egress" in more_of_it:
        rule = {"name": "all", "action": action, "to": [{"networks": ["0.0.0.0/0", "::/0"]}]}
    direction = "egress" if "egress" in more_of_it else "ingress"
    return {
        "apiVersion": POLICY,
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "mine"},
        "spec": {"tier": tier, "priority": 10, "subject": {"namespaces": {}}, direction: [rule]},
    }


def second(**spec: Any) -> dict[str, Any]:
    """A service that is older by name, and wants what `web` has."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": "a-first"},
        "spec": {
            "type": "ClusterIP",
            "clusterIPs": ["10.96.0.30", "fd00:10:96::1e"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 9}],
            **spec,
        },
    }


def ip(*lines: str, host: str = "n1") -> Act:
    def act(bench: Bench) -> None:
        for line in lines:
            bench.run(host, f"ip {line}")

    return act


def sysctl(host: str, **values: str) -> Act:
    def act(bench: Bench) -> None:
        for name, value in values.items():
            bench.run(host, f"sysctl -qw {name.replace('__', '/')}={value}")

    return act


def nft(host: str, text: str) -> Act:
    return lambda bench: bench.host(host).run(["nft", "-f", "-"], text=text) and None


def announced() -> Iterator[Case]:
    """Why no router is told."""

    def told(name: str, cause: str, change: Callable[[Documents], None], subject: str = SERVICE) -> Case:
        return Case(name, cause, subject, targets=OUT, change=change)

    opted = {"l3net.io/advertise": "false"}
    yield told("the annotation opts out", "optedOut", service(lambda each: annotate(each, annotations=opted)))
    yield told(
        "the selector does not select it",
        "notSelected",
        configured(lambda spec: put(spec["advertise"], serviceSelector={"matchLabels": {"public": "yes"}})),
    )
    yield told(
        "the kind is off",
        "kindDisabled",
        configured(lambda spec: put(spec["advertise"], externalIPs={"enabled": False})),
        f"address {EXTERNAL[0]}",
    )
    yield told(
        "outside of the allow-list",
        "outsideAllowList",
        configured(lambda spec: put(spec["advertise"]["externalIPs"], cidrs=["198.51.100.0/24"])),
    )
    yield told(
        "another proxy's label",
        "otherProxy",
        service(lambda each: put(each["metadata"], labels={"service.kubernetes.io/service-proxy-name": "x"})),
    )
    yield told(
        "the headless label",
        "headless",
        service(lambda each: put(each["metadata"], labels={"service.kubernetes.io/headless": ""})),
    )
    yield told(
        "the address is another's ClusterIP",
        "conflictingOwner",
        more(second(clusterIPs=list(EXTERNAL))),
    )
    yield told(
        "an older service has the port",
        "conflictingPort",
        more(second(externalIPs=list(EXTERNAL))),
    )
    labels = {"node.kubernetes.io/exclude-from-external-load-balancers": "true"}

    def only_n1(documents: Documents) -> None:
        Bench.of(documents, "Node", "n1")["metadata"]["labels"] |= labels
        Bench.of(documents, "Node", "n2")["metadata"]["labels"].pop(next(iter(labels)))
        for each in Bench.all_of(documents, "BGPPeer"):
            each["spec"]["nodes"] = ["n1"] if each["spec"].get("nodes") == ["n1"] else ["nobody"]

    yield told("the node is excluded", "nodeExcluded", only_n1)
    yield told(
        "the node is not ready",
        "nodeNotReady",
        node(lambda each: put(each["status"], conditions=[{"type": "Ready", "status": "False"}])),
    )
    yield told(
        "no endpoint is ready",
        "noEndpoints",
        slices(
            lambda each: (
                [put(one["conditions"], ready=False, serving=False) for one in each["endpoints"]] and None
            )
        ),
    )
    yield told("the selector matches no pod", "noEndpoints", slices(lambda each: put(each, endpoints=[])))
    yield told(
        "the port's name is another",
        "noEndpoints",
        slices(lambda each: put(each["ports"][0], name="metrics")),
    )
    yield told(
        "Local, and the endpoints are elsewhere",
        "noLocalEndpoints",
        both(
            service(lambda each: put(each["spec"], externalTrafficPolicy="Local", type="LoadBalancer")),
            slices(
                lambda each: put(
                    each, endpoints=[one for one in each["endpoints"] if one["nodeName"] == "n2"]
                )
            ),
        ),
    )


def peering() -> Iterator[Case]:
    """Why a peer is not told."""
    reject = {
        "apiVersion": OWN,
        "kind": "BGPFilter",
        "metadata": {"name": "nothing"},
        "spec": {"export": [{"action": "Reject"}]},
    }
    yield Case(
        "an export filter refuses it",
        "filtered",
        SERVICE,
        targets=OUT,
        change=both(more(reject), peers(lambda spec: put(spec, filters=["nothing"]))),
    )
    yield Case(
        "a wrong AS number",
        "sessionDown",
        SERVICE,
        targets=OUT,
        change=peers(lambda spec: put(spec, asNumber=65009)),
    )
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": "default", "name": "bgp"},
        "stringData": {"password": "not-the-routers"},
    }
    password = {"secretKeyRef": {"namespace": "default", "name": "bgp", "key": "password"}}
    yield Case(
        "another password than the router's",
        "sessionDown",
        SERVICE,
        targets=OUT,
        change=both(more(secret), peers(lambda spec: put(spec, password=password))),
    )
    yield Case(
        "no peer is declared",
        "noPeer",
        SERVICE,
        targets=OUT,
        change=peers(lambda spec: put(spec, nodes=["nobody"])),
    )
    yield Case(
        "the link is down",
        "sessionDown",
        SERVICE,
        targets=OUT,
        act=ip("link set n1 down", host="tor"),
        undo=lambda bench: bench.lab.number("tor"),
    )
    yield Case(
        "the router's BGP is down",
        "sessionDown",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=OUT,
        act=lambda bench: bench.vtysh("tor", "conf t", "router bgp 65001", *_each(bench, "shutdown")),
        undo=lambda bench: bench.vtysh(
            "tor", "conf t", "router bgp 65001", *_each(bench, "shutdown", no=True)
        ),
    )
    yield Case(
        "the node is drained",
        "nodeDraining",
        SERVICE,
        targets=OUT,
        act=lambda bench: bench.run("n1", "l3net node drain --timeout 30", check=False) and None,
        undo=lambda bench: bench.run("n1", "l3net node undrain", check=False) and None,
    )
    yield Case(
        "the router's own filter refuses it",
        "routerRefused",
        SERVICE,
        targets=OUT,
        routers=True,
        act=lambda bench: bench.vtysh(
            "tor",
            "conf t",
            *_NOTHING,
            "router bgp 65001",
            *_lists(bench),
        ),
        undo=lambda bench: bench.vtysh("tor", "conf t", "router bgp 65001", *_lists(bench, no=True)),
    )

    yield Case(
        "the router has it in BGP, and a blackhole comes first",
        "routerForwardsElsewhere",
        SERVICE,
        targets=OUT,
        routers=True,
        act=ip(*(f"route add blackhole {address}" for address in EXTERNAL), host="tor"),
        undo=ip(*(f"route del blackhole {address}" for address in EXTERNAL), host="tor"),
    )
    yield Case(
        "the router has it in BGP, and a static route leads elsewhere",
        "routerForwardsElsewhere",
        SERVICE,
        targets=OUT,
        routers=True,
        act=lambda bench: ip(*(f"route add {each}" for each in _to_edge(bench)), host="tor")(bench),
        undo=lambda bench: ip(*(f"route del {each}" for each in _to_edge(bench)), host="tor")(bench),
    )
    yield Case(
        "the speaker is dead",
        "speakerDown",
        SERVICE,
        targets=OUT,
        act=lambda bench: bench.host("n1").kill("speaker"),
        undo=_speaks_again,
    )


def _speaks_again(bench: Bench) -> None:
    n1 = bench.host("n1")
    assert bench.until(lambda: not n1.alive("speaker")), "the speaker does not end"
    start_speaker(n1)


def _to_edge(bench: Bench) -> list[str]:
    """Each external address back to the router that it came from."""
    remotes = [each.remote for each in bench.lab.topology.sessions("tor") if each.remote_host == "edge"]
    return [
        f"{address} via {remote}"
        for address in EXTERNAL
        for remote in remotes
        if remote.version == ip_address(address).version
    ]


_NOTHING = ("ip prefix-list none seq 5 deny any", "ipv6 prefix-list none6 seq 5 deny any")


def _sessions(bench: Bench, host: str = "n1") -> list[Any]:
    return [each for each in bench.lab.topology.sessions("tor") if each.remote_host == host]


def _each(bench: Bench, words: str, no: bool = False) -> list[str]:
    return [f"{'no ' * no}neighbor {session.remote} {words}" for session in _sessions(bench)]


def _lists(bench: Bench, no: bool = False, host: str = "n1", way: str = "in") -> list[str]:
    found = []
    for session in _sessions(bench, host):
        version = session.remote.version
        found += [
            f"address-family ipv{version} unicast",
            f"{'no ' * no}neighbor {session.remote} prefix-list none{'6' * (version == 6)} {way}",
            "exit-address-family",
        ]
    return found


def data_path() -> Iterator[Case]:
    """What stops packets that come as far as the node, or begin there."""
    yield Case(
        "source ranges without the client",
        "sourceRanges",
        "{client4} 192.0.2.20:80",
        targets=tuple((address, 80) for address in OTHER),
        change=balanced("203.0.113.0/24", "2001:db8:9::/64"),
    )
    yield Case(
        "no such port",
        "noSuchPort",
        f"{{client4}} {EXTERNAL[0]}:81",
        targets=tuple((a, 81) for a in EXTERNAL),
    )
    yield Case(
        "internalTrafficPolicy Local, and nothing here",
        "noLocalEndpoints",
        "default/shell-1 10.96.0.20:80",
        source="shell-1",
        targets=(("10.96.0.20", 80), ("fd00:10:96::14", 80)),
        change=service(lambda each: put(each["spec"], internalTrafficPolicy="Local"), "other"),
    )
    denied = {"policyTypes": ["Ingress"], "ingress": []}
    yield Case(
        "a NetworkPolicy denies ingress",
        "policy",
        "default/shell-1 {web-1.4}:8080",
        source="shell-1",
        targets=(("{web-1.4}", 8080), ("{web-1.6}", 8080)),
        change=more(network_policy(**denied)),
    )
    yield Case(
        "a NetworkPolicy denies egress",
        "policy",
        "default/shell-1 [{web-2.6}]:8080",
        source="shell-1",
        targets=(("{web-2.4}", 8080), ("{web-2.6}", 8080)),
        change=more(network_policy(policyTypes=["Egress"], egress=[])),
    )
    yield Case(
        "the Admin tier denies",
        "policy",
        "default/shell-1 {web-1.4}:8080",
        source="shell-1",
        targets=(("{web-1.4}", 8080), ("{web-1.6}", 8080)),
        change=more(cluster_policy("Admin", "Deny")),
    )
    yield Case(
        "the Baseline tier denies",
        "policy",
        "default/shell-1 [{web-1.6}]:8080",
        source="shell-1",
        targets=(("{web-1.4}", 8080), ("{web-1.6}", 8080)),
        change=more(cluster_policy("Baseline", "Deny")),
    )
    yield Case(
        "the Admin tier denies egress, to a service",
        "policy",
        "default/shell-1 10.96.0.20:80",
        source="shell-1",
        targets=(("10.96.0.20", 80), ("fd00:10:96::14", 80)),
        change=more(cluster_policy("Admin", "Deny", egress=True)),
    )
    yield Case(
        "a blackhole for an endpoint",
        "blackhole",
        "service default/other",
        source="shell-1",
        targets=(("10.96.0.20", 80), ("fd00:10:96::14", 80)),
        act=lambda bench: ip(
            f"route add blackhole {bench.pod('web-2', 4)}", f"route add blackhole {bench.pod('web-2', 6)}"
        )(bench),
        undo=lambda bench: ip(
            f"route del blackhole {bench.pod('web-2', 4)}", f"route del blackhole {bench.pod('web-2', 6)}"
        )(bench),
    )
    yield Case(
        "an unreachable route",
        "blackhole",
        "address {web-2.6}",
        source="shell-1",
        targets=(("{web-2.4}", 8080), ("{web-2.6}", 8080)),
        act=lambda bench: ip(
            f"route add unreachable {bench.pod('web-2', 4)}", f"route add unreachable {bench.pod('web-2', 6)}"
        )(bench),
        undo=lambda bench: ip(
            f"route del unreachable {bench.pod('web-2', 4)}", f"route del unreachable {bench.pod('web-2', 6)}"
        )(bench),
    )
    yield Case(
        "the endpoint is of a pod that is gone",
        "endpointGone",
        "service default/other",
        source="shell-1",
        targets=(("10.96.0.20", 80), ("fd00:10:96::14", 80)),
        change=slices(_gone, "other"),
    )
    yield Case(
        "an address that no pod has",
        "endpointGone",
        "{client4} 10.244.1.99:80",
        targets=(("10.244.1.99", 80),),
    )
    yield Case(
        "strict rp_filter, and another way back",
        "rpFilter",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=((EXTERNAL[0], 80),),
        act=_asymmetric,
        undo=_symmetric,
    )
    yield Case(
        "an interface does not forward",
        "forwardingOff",
        "service default/web",
        targets=((EXTERNAL[0], 80),),
        act=sysctl("n1", **{"net__ipv4__conf__tor__forwarding": "0"}),
        undo=sysctl("n1", **{"net__ipv4__conf__tor__forwarding": "1"}),
    )
    yield Case(
        "no way back to the client",
        "noWayBack",
        "{client4} {web-1.4}:8080",
        targets=(("{web-1.4}", 8080), ("{web-1.6}", 8080)),
        act=ip("route del default", "-6 route del default"),
        undo=lambda bench: bench.lab.number("n1"),
        change=configured(lambda spec: put(spec, **{"import": {"cidrs": ["203.0.113.0/24"]}})),
    )
    yield Case(
        "the pool is not announced",
        "blockNotAnnounced",
        "{client4} {web-1.4}:8080",
        targets=(("{web-1.4}", 8080), ("{web-1.6}", 8080)),
        change=lambda documents: (
            [put(each["spec"], advertise=False) for each in Bench.all_of(documents, "IPPool")] and None
        ),
    )
    yield Case(
        "not announced, and not masqueraded",
        "noWayBack",
        "default/shell-1 {client4}",
        source="shell-1",
        targets=(("{client4}", 8081), ("{client6}", 8081)),
        change=configured(lambda spec: put(spec["advertise"], podBlocks=False)),
    )
    yield Case(
        "nobody translates services",
        "noProxy",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=OUT,
        change=configured(lambda spec: put(spec, serviceProxy="Disabled")),
    )
    yield Case(
        "a firewall of somebody else drops",
        "foreignFirewall",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=OUT,
        act=nft("n1", FOREIGN.format("policy drop;")),
        undo=nft("n1", "delete table inet foreign"),
    )
    yield Case(
        "a rule of somebody else drops the service's port",
        "foreignFirewall",
        "{client6} [{web-1.6}]:8080",
        targets=(("{web-1.6}", 8080),),
        act=nft("n1", FOREIGN.format("policy accept;\n  tcp dport 8080 drop")),
        undo=nft("n1", "delete table inet foreign"),
    )
    yield Case(
        "the link's neighbour is dead",
        "neighbourFailed",
        "default/shell-1 {web-2.4}:8080",
        source="shell-1",
        targets=(("{web-2.4}", 8080),),
        act=_dead_neighbour,
        undo=_live_neighbour,
    )
    yield Case(
        "the router passes it on to nobody",
        "routerMissing",
        SERVICE,
        targets=OUT,
        routers=True,
        act=lambda bench: bench.vtysh(
            "tor", "conf t", *_NOTHING, "router bgp 65001", *_lists(bench, host="edge", way="out")
        ),
        undo=lambda bench: bench.vtysh(
            "tor", "conf t", "router bgp 65001", *_lists(bench, host="edge", way="out", no=True)
        ),
    )
    yield Case(
        "the host has no route to services",
        "noHostRoute",
        "{n1.4} 10.96.0.20:80",
        source="n1",
        targets=(("10.96.0.20", 80),),
        act=ip("route del default"),
        undo=lambda bench: bench.lab.number("n1"),
        change=configured(lambda spec: put(spec, serviceCIDRs=["10.97.0.0/16"])),
    )
    yield Case(
        "the service's manifest is wrong",
        "rejected",
        "service default/other",
        source="shell-1",
        targets=(("10.96.0.20", 80), ("fd00:10:96::14", 80)),
        change=service(
            lambda each: put(each["spec"], clusterIPs=["10.96.0.256"], clusterIP="10.96.0.256"), "other"
        ),
    )
    yield Case(
        "a rule before translation drops the service's address",
        "foreignFirewall",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=((EXTERNAL[0], 80),),
        act=nft("n1", EARLY.format(f"ip daddr {EXTERNAL[0]} drop")),
        undo=nft("n1", "delete table ip foreign"),
    )
    yield Case(
        "an address of the service range that nobody has",
        "unknownAddress",
        "{client4} 10.96.0.99:80",
        targets=(("10.96.0.99", 80),),
    )
    yield Case(
        "a route of somebody else leads away from the pod",
        "routeAstray",
        "{client4} {web-1.4}:8080",
        targets=(("{web-1.4}", 8080),),
        act=lambda bench: (
            bench.run("n1", f"ip route add {bench.pod('web-1', 4)} via {_gateway(bench)}") and None
        ),
        undo=lambda bench: bench.run("n1", f"ip route del {bench.pod('web-1', 4)}", check=False) and None,
    )
    yield Case("a pod that nobody knows", "noPod", "pod default/nobody", targets=(("10.244.1.98", 80),))
    yield Case(
        "a service that nobody knows", "noService", "service default/nobody", targets=(("10.96.0.99", 80),)
    )


def _gateway(bench: Bench) -> str:
    return next(str(each.remote) for each in bench.lab.topology.sessions("n1") if each.remote.version == 4)


def _gone(each: dict[str, Any]) -> None:
    address = "10.244.1.97" if each["addressType"] == "IPv4" else "fd00:10:244:1::97"
    each["endpoints"] = [{"addresses": [address], "conditions": {"ready": True}, "nodeName": "n1"}]


def balanced(*ranges: str) -> Callable[[Documents], None]:
    """`other` has addresses of a load balancer, which answer to these ranges alone."""
    ingress = [{"ip": address} for address in OTHER]
    announced = {"enabled": True, "cidrs": ["192.0.2.0/24", "2001:db8:2::/64"]}

    def other(each: dict[str, Any]) -> None:
        each["spec"] |= {"type": "LoadBalancer", "loadBalancerSourceRanges": list(ranges)}
        each["status"] = {"loadBalancer": {"ingress": ingress}}

    return both(
        configured(lambda spec: put(spec["advertise"], loadBalancerIPs=announced)), service(other, "other")
    )


def _asymmetric(bench: Bench) -> None:
    """The node's way to the client leads by a link of its own that nobody announces over."""
    n1 = bench.host("n1")
    n1.run(["ip", "link", "add", "side", "type", "veth", "peer", "name", "far"])
    for line in ("link set side up", "link set far up", "addr add 198.18.0.1/24 dev side"):
        bench.run("n1", f"ip {line}")
    bench.run("n1", f"ip route add {bench.client(4)}/32 via 198.18.0.2 dev side")
    bench.run("n1", "sysctl -qw net/ipv4/conf/tor/rp_filter=1")


def _symmetric(bench: Bench) -> None:
    bench.run("n1", "sysctl -qw net/ipv4/conf/tor/rp_filter=0")
    bench.run("n1", "ip link del side", check=False)


def _dead_neighbour(bench: Bench) -> None:
    """The way to the endpoint leads to an address on the link that nobody has."""
    bench.run("n1", "ip addr add 198.18.1.1/24 dev tor")
    bench.run("n1", f"ip route add {bench.pod('web-2', 4)}/32 via 198.18.1.2 dev tor")
    bench.run("n1", "ip neigh replace 198.18.1.2 dev tor nud failed", check=False)


def _live_neighbour(bench: Bench) -> None:
    bench.run("n1", f"ip route del {bench.pod('web-2', 4)}/32", check=False)
    bench.run("n1", "ip addr del 198.18.1.1/24 dev tor", check=False)


BROKEN = (*announced(), *peering(), *data_path())
