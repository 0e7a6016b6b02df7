"""The rule sets of kube-proxy, as its documents describe them, for the same services.

In nftables mode (KEP-3866): maps from address and port to a chain for each service, which draws the chain of
an endpoint. In iptables mode: a rule a service, which packets meet in their order.
"""

from __future__ import annotations

from collections.abc import Iterator

from balancers.declared import SERVICE, cluster_ip, node_port, services
from l3net.model import Address, Backend

IP = {4: "ip", 6: "ip6"}
MARK = "0x4000"
NFT, IPTABLES = "kube-proxy, nftables", "kube-proxy, iptables"


def removal(version: int) -> str:
    """nft's text: ours and theirs are gone, whichever is there."""
    tables = ("inet l3net", f"{IP[version]} kube-proxy", f"{IP[version]} nat", f"{IP[version]} filter")
    return "".join(f"table {each}\ndelete table {each}\n" for each in tables)


def _end(backend: Backend) -> str:
    return f"[{backend.address}]:{backend.port}" if backend.address.version == 6 else str_of(backend)


def str_of(backend: Backend) -> str:
    return f"{backend.address}:{backend.port}"


def chain_of(number: int, port: int, protocol: str) -> str:
    return f"service-{number}-{protocol}-{port}"


def service_chain(version: int, number: int, port: int, protocol: str, backends: tuple[Backend, ...]) -> str:
    """The rules of a service's chain and those of its endpoints, as lines of a table."""
    ip, name = IP[version], chain_of(number, port, protocol)
    lines, drawn = [], []
    for index, each in enumerate(backends):
        end = f"endpoint-{number}-{protocol}-{port}-{index}"
        drawn.append(f"{index} : goto {end}")
        lines += [
            f"chain {end} {{",
            f"{ip} saddr {each.address} meta mark set mark or {MARK}",
            f"meta l4proto {protocol} dnat to {_end(each)}",
            "}",
        ]
    lines += [
        f"chain {name} {{",
        f"{ip} daddr {cluster_ip(version, number)} {protocol} dport {port} "
        f"{ip} saddr != {pods(version)} meta mark set mark or {MARK}",
        f"numgen random mod {len(backends)} vmap {{ {', '.join(drawn)} }}",
        "}",
        f"chain external-{name} {{",
        f"meta mark set mark or {MARK}",
        f"goto {name}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def pods(version: int) -> str:
    return "10.240.0.0/12" if version == 4 else "fd00:240::/28"


def nftables(version: int, count: int, endpoints: int, node: Address, called: Address | None = None) -> str:
    """The table `kube-proxy` of a family; `called`: who answers for the first service, if it is another."""
    ip = IP[version]
    inet = f"ipv{version}_addr"
    lines = [f"table {ip} kube-proxy {{"]
    ips, ports = [], []
    for number, port, protocol, declared in services(version, count, endpoints):
        each = (Backend(called, port),) if called and number == SERVICE else declared
        lines.append(service_chain(version, number, port, protocol, each))
        name = chain_of(number, port, protocol)
        ips.append(f"{cluster_ip(version, number)} . {protocol} . {port} : goto {name}")
        ports.append(f"{protocol} . {node_port(number, port)} : goto external-{name}")
    lines += [
        f"set cluster-ips {{\ntype {inet}\n}}",
        f"set nodeport-ips {{\ntype {inet}\nelements = {{ {node} }}\n}}",
        f"map no-endpoint-services {{\ntype {inet} . inet_proto . inet_service : verdict\n}}",
        "map no-endpoint-nodeports {\ntype inet_proto . inet_service : verdict\n}",
        f"map firewall-ips {{\ntype {inet} . inet_proto . inet_service : verdict\n}}",
        f"map service-ips {{\ntype {inet} . inet_proto . inet_service : verdict\n"
        f"elements = {{ {', '.join(ips)} }}\n}}",
        "map service-nodeports {\ntype inet_proto . inet_service : verdict\n"
        f"elements = {{ {', '.join(ports)} }}\n}}",
        "chain services {",
        f"{ip} daddr . meta l4proto . th dport vmap @service-ips",
        f"{ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
        "}",
        "chain masquerading {",
        f"mark and {MARK} == 0 return",
        f"meta mark set mark xor {MARK}",
        "masquerade fully-random",
        "}",
        "chain service-endpoints-check {",
        f"{ip} daddr . meta l4proto . th dport vmap @no-endpoint-services",
        "}",
        "chain nodeport-endpoints-check {",
        f"{ip} daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports",
        "}",
        f"chain firewall-check {{\n{ip} daddr . meta l4proto . th dport vmap @firewall-ips\n}}",
        f"chain cluster-ips-check {{\n{ip} daddr @cluster-ips reject\n}}",
        "chain nat-prerouting {\ntype nat hook prerouting priority -100;\njump services\n}",
        "chain nat-output {\ntype nat hook output priority -100;\njump services\n}",
        "chain nat-postrouting {\ntype nat hook postrouting priority 100;\njump masquerading\n}",
        "chain filter-prerouting {\ntype filter hook prerouting priority -110;\n"
        "ct state new jump firewall-check\n}",
        "chain filter-output {\ntype filter hook output priority -110;\n"
        "ct state new jump service-endpoints-check\nct state new jump firewall-check\n}",
        "chain filter-output-post-dnat {\ntype filter hook output priority -90;\n"
        "ct state new jump cluster-ips-check\n}",
        "chain filter-input {\ntype filter hook input priority 0;\n"
        "ct state new jump nodeport-endpoints-check\nct state new jump service-endpoints-check\n}",
        "chain filter-forward {\ntype filter hook forward priority 0;\n"
        "ct state new jump service-endpoints-check\nct state new jump cluster-ips-check\n}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def iptables(version: int, count: int, endpoints: int, node: Address) -> str:
    """Text for iptables-restore, of the family's own command."""
    return "\n".join(_iptables(version, count, endpoints, node)) + "\n"


def _iptables(version: int, count: int, endpoints: int, node: Address) -> Iterator[str]:
    full = 32 if version == 4 else 128
    heads = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]
    rules, ports = [], []
    for number, port, protocol, each in services(version, count, endpoints):
        tag = f"{protocol.upper()}-{number}-{port}"
        heads += [f"KUBE-SVC-{tag}", f"KUBE-EXT-{tag}"]
        address = f"{cluster_ip(version, number)}/{full}"
        rules += [
            f"-A KUBE-SERVICES -d {address} -p {protocol} -m {protocol} --dport {port} -j KUBE-SVC-{tag}",
            f"-A KUBE-SVC-{tag} ! -s {pods(version)} -d {address} -p {protocol} -m {protocol} --dport {port}"
            " -j KUBE-MARK-MASQ",
            f"-A KUBE-EXT-{tag} -j KUBE-MARK-MASQ",
            f"-A KUBE-EXT-{tag} -j KUBE-SVC-{tag}",
        ]
        answered = node_port(number, port)
        ports.append(f"-A KUBE-NODEPORTS -p {protocol} -m {protocol} --dport {answered} -j KUBE-EXT-{tag}")
        for index, backend in enumerate(each):
            heads.append(f"KUBE-SEP-{tag}-{index}")
            left = len(each) - index
            chance = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
            rules += [
                f"-A KUBE-SVC-{tag}{chance} -j KUBE-SEP-{tag}-{index}",
                f"-A KUBE-SEP-{tag}-{index} -s {backend.address}/{full} -j KUBE-MARK-MASQ",
                f"-A KUBE-SEP-{tag}-{index} -p {protocol} -m {protocol} -j DNAT"
                f" --to-destination {_end(backend)}",
            ]
    yield "*nat"
    yield from (f":{each} - [0:0]" for each in heads)
    yield from ("-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES")
    yield "-A POSTROUTING -j KUBE-POSTROUTING"
    yield f"-A KUBE-POSTROUTING -m mark ! --mark {MARK}/{MARK} -j RETURN"
    yield f"-A KUBE-POSTROUTING -j MARK --set-xmark {MARK}/0x0"
    yield "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"
    yield f"-A KUBE-MARK-MASQ -j MARK --set-xmark {MARK}/{MARK}"
    yield from rules
    yield "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
    yield from ports
    yield "COMMIT"
    yield from ("*filter", ":KUBE-FORWARD - [0:0]")
    yield "-A FORWARD -j KUBE-FORWARD"
    yield "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
    yield f"-A KUBE-FORWARD -m mark --mark {MARK}/{MARK} -j ACCEPT"
    yield "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield "COMMIT"
