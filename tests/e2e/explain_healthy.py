"""Set-ups in which packets pass, some of them odd."""

from __future__ import annotations

from collections.abc import Iterator

from explain_bench import EXTERNAL, OTHER, Case
from explain_broken import (
    EARLY,
    FOREIGN,
    IN,
    OUT,
    SERVICE,
    balanced,
    cluster_policy,
    configured,
    more,
    network_policy,
    nft,
    put,
    second,
    service,
    slices,
    sysctl,
)

CLUSTER_OTHER = (("10.96.0.20", 80), ("fd00:10:96::14", 80))
REMOTE = (("{web-2.4}", 8080), ("{web-2.6}", 8080))
LOCAL = (("{web-1.4}", 8080), ("{web-1.6}", 8080))
SHELL_TO_LOCAL = "default/shell-1 {web-1.4}:8080"


def plain() -> Iterator[Case]:
    """Nothing is changed."""
    yield Case("a service", "", SERVICE, targets=OUT)
    yield Case(
        "a service, asked of another node", "", "service default/other", "shell-2", CLUSTER_OTHER, node="n2"
    )
    for version, address in zip((4, 6), EXTERNAL, strict=True):
        shown = address if version == 4 else f"[{address}]"
        yield Case(
            f"from outside, IPv{version}", "", f"{{client{version}}} {shown}:80", targets=((address, 80),)
        )
        yield Case(f"the address, IPv{version}", "", f"address {address}", targets=((address, 80),))
        pod, remote = f"{{web-1.{version}}}", f"{{web-2.{version}}}"
        named = pod if version == 4 else f"[{pod}]"
        yield Case(
            f"from outside to a pod, IPv{version}",
            "",
            f"{{client{version}}} {named}:8080",
            targets=((pod, 8080),),
        )
        yield Case(f"a pod by its address, IPv{version}", "", f"address {pod}", targets=((pod, 8080),))
        yield Case(f"a pod elsewhere, IPv{version}", "", f"address {remote}", "shell-1", ((remote, 8080),))
        cluster = IN[version // 2 - 2][0]
        shown = cluster if version == 4 else f"[{cluster}]"
        yield Case(
            f"a pod asks a ClusterIP, IPv{version}",
            "",
            f"default/shell-1 {shown}:80",
            "shell-1",
            ((cluster, 80),),
        )
        yield Case(
            f"the host asks a ClusterIP, IPv{version}",
            "",
            f"{{n1.{version}}} {shown}:80",
            "n1",
            ((cluster, 80),),
        )
    yield Case("a pod", "", "pod default/web-1", targets=LOCAL)
    yield Case("a pod asks one beside it", "", SHELL_TO_LOCAL, "shell-1", LOCAL)
    yield Case("a pod asks itself by its service", "", "default/web-1 default/web:80", "web-1", IN)
    yield Case("a service by its name", "", "default/shell-1 default/other:80", "shell-1", CLUSTER_OTHER)
    yield Case("a service as routers have it", "", SERVICE, targets=OUT, routers=True)
    yield Case("another node's pods", "", "default/shell-1 [{web-2.6}]:8080", "shell-1", REMOTE)


def configurations() -> Iterator[Case]:
    """What is declared otherwise, and well."""
    yield Case(
        "ClusterIPs are announced, too",
        "",
        "{client4} 10.96.0.20:80",
        targets=CLUSTER_OTHER,
        change=configured(lambda spec: put(spec["advertise"]["clusterIPs"], enabled=True)),
    )
    yield Case(
        "Local, with an endpoint here",
        "",
        SERVICE,
        targets=OUT,
        change=service(lambda each: put(each["spec"], externalTrafficPolicy="Local", type="LoadBalancer")),
    )
    yield Case(
        "one of two endpoints is not ready",
        "",
        SERVICE,
        targets=OUT,
        change=slices(lambda each: put(each["endpoints"][1]["conditions"], ready=False, serving=False)),
    )
    yield Case(
        "sessionAffinity",
        "",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=OUT,
        change=service(lambda each: put(each["spec"], sessionAffinity="ClientIP")),
    )
    yield Case(
        "consistent load balancing",
        "",
        f"{{client6}} [{EXTERNAL[1]}]:80",
        targets=OUT,
        change=configured(lambda spec: put(spec, loadBalancing="Consistent")),
    )
    yield Case(
        "source ranges with the client",
        "",
        "{client4} 192.0.2.20:80",
        targets=tuple((address, 80) for address in OTHER),
        change=balanced("0.0.0.0/0", "::/0"),
    )
    yield Case(
        "a NodePort",
        "",
        "{client4} {n1.4}:30080",
        targets=(("{n1.4}", 30080), ("{n1.6}", 30080)),
        change=service(
            lambda each: put(
                each["spec"], type="NodePort", ports=[{**each["spec"]["ports"][0], "nodePort": 30080}]
            )
        ),
    )
    yield Case(
        "another service shares the address by another port",
        "",
        SERVICE,
        targets=OUT,
        change=more(
            second(
                externalIPs=list(EXTERNAL),
                ports=[{"name": "http", "protocol": "TCP", "port": 8888, "targetPort": 9}],
            )
        ),
    )
    yield Case(
        "endpoints elsewhere alone",
        "",
        SERVICE,
        targets=OUT,
        change=slices(
            lambda each: put(each, endpoints=[one for one in each["endpoints"] if one["nodeName"] == "n2"])
        ),
    )
    yield Case(
        "pods masquerade",
        "",
        "default/shell-1 {client4}",
        "shell-1",
        REMOTE,
        change=lambda documents: (
            [put(each["spec"], natOutgoing=True) for each in documents["pools.yaml"]] and None
        ),
    )
    yield Case(
        "the node is cordoned, and announces all the same",
        "",
        SERVICE,
        targets=OUT,
        change=lambda documents: put(documents["nodes.yaml"][0]["spec"], unschedulable=False),
    )
    yield Case("a ClusterIP that is kept inside", "", "service default/other", "shell-1", CLUSTER_OTHER)


def policies_and_others() -> Iterator[Case]:
    """What could stop packets, and does not stop these."""
    ports = [{"protocol": "TCP", "port": 8080}]
    yield Case(
        "a NetworkPolicy lets the port in",
        "",
        SHELL_TO_LOCAL,
        "shell-1",
        LOCAL,
        change=more(network_policy(policyTypes=["Ingress"], ingress=[{"ports": ports}])),
    )
    yield Case(
        "a NetworkPolicy lets the client's addresses in",
        "",
        "{client4} {web-1.4}:8080",
        targets=LOCAL,
        change=more(
            network_policy(
                policyTypes=["Ingress"],
                ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "fd00::/8"}}]}],
            )
        ),
    )
    yield Case(
        "the Admin tier accepts what a NetworkPolicy denies",
        "",
        "default/shell-1 [{web-1.6}]:8080",
        "shell-1",
        LOCAL,
        change=more(cluster_policy("Admin", "Accept"), network_policy(policyTypes=["Ingress"], ingress=[])),
    )
    yield Case(
        "a NetworkPolicy overrules the Baseline tier",
        "",
        SHELL_TO_LOCAL,
        "shell-1",
        LOCAL,
        change=more(
            cluster_policy("Baseline", "Deny"), network_policy(policyTypes=["Ingress"], ingress=[{}])
        ),
    )
    yield Case(
        "egress to a service is let through",
        "",
        "default/shell-1 10.96.0.20:80",
        "shell-1",
        CLUSTER_OTHER,
        change=more(network_policy(policyTypes=["Egress"], egress=[{"ports": ports}])),
    )
    for name, rules in (
        (
            "a foreign firewall accepts what is established and this port",
            "policy drop; ct state established accept; tcp dport 8080 accept; meta l4proto 58 accept",
        ),
        ("a foreign rule drops another port", "policy accept; tcp dport 9999 drop"),
        (
            "a foreign rule drops another's address",
            "policy accept; ip saddr 203.0.113.0/24 drop",
        ),
    ):
        yield Case(
            name,
            "",
            "{client4} {web-1.4}:8080",
            targets=LOCAL,
            act=nft("n1", FOREIGN.format(rules.replace("; ", ";\n  "))),
            undo=nft("n1", "delete table inet foreign"),
        )
    yield Case(
        "a rule before translation drops the pods' own addresses",
        "",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=((EXTERNAL[0], 80),),
        act=nft("n1", EARLY.format("ip daddr 10.244.0.0/16 tcp dport 8080 drop")),
        undo=nft("n1", "delete table ip foreign"),
    )
    yield Case(
        "strict rp_filter, and the same way back",
        "",
        f"{{client4}} {EXTERNAL[0]}:80",
        targets=((EXTERNAL[0], 80),),
        act=sysctl("n1", **{"net__ipv4__conf__tor__rp_filter": "1"}),
        undo=sysctl("n1", **{"net__ipv4__conf__tor__rp_filter": "0"}),
    )


HEALTHY = (*plain(), *configurations(), *policies_and_others())
