"""l3net and kube-proxy on one node: the real agent, the real kernel, and a stand-in that answers as it does
and loads what its nftables mode does by its documents (KEP-3866)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from node_rig import CONFIGURATION, NODE, Rig

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.10", 6: "fd00:10:96::a"}
OWN = {4: "10.90.0.1", 6: "fd90::1"}
TOR = {4: "10.90.0.2", 6: "fd90::2"}
#: Answers as kube-proxy's metrics port does.
ANSWERING = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/proxyMode" else 404)
        self.end_headers()
        self.wfile.write(b"nftables")
http.server.HTTPServer(("127.0.0.1", 10249), Answer).serve_forever()
"""
#: What it loads for one family: {ip} ip or ip6, {address} of its set's type.
TABLE = """
table {ip} kube-proxy {{
  counter seen {{ }}
  map service-ips {{
    type {address} . inet_proto . inet_service : verdict
  }}
  map no-endpoint-services {{
    type {address} . inet_proto . inet_service : verdict
  }}
  chain filter-forward {{ type filter hook forward priority -110; ct state new jump no-endpoints; }}
  chain filter-input {{ type filter hook input priority -110; ct state new jump no-endpoints; }}
  chain filter-output {{ type filter hook output priority -110; ct state new jump no-endpoints; }}
  chain no-endpoints {{ {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
  chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}
  chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
  chain masquerading {{
    meta mark and 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }}
  chain endpoint-tcp {{ meta l4proto tcp dnat to {to}:8080; }}
  chain endpoint-udp {{ meta l4proto udp dnat to {to}:8080; }}
  chain service-tcp {{ counter name seen; numgen random mod 1 vmap {{ 0 : goto endpoint-tcp }}; }}
  chain service-udp {{ counter name seen; numgen random mod 1 vmap {{ 0 : goto endpoint-udp }}; }}
  chain services {{ {ip} daddr . meta l4proto . th dport vmap @service-ips; }}
  chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
}}
add element {ip} kube-proxy service-ips {{ {vip} . tcp . 80 : goto service-tcp }}
add element {ip} kube-proxy service-ips {{ {vip} . udp . 80 : goto service-udp }}
"""
#: Answers lines and datagrams with the number of the connection.
ENDPOINT = """
import socket, sys, threading
def each(connection, number):
    while data := connection.recv(64):
        connection.sendall(b"%d\\n" % number)
def tcp(address, family):
    s = socket.create_server((address, 8080), family=family)
    number = 0
    while True:
        number += 1
        threading.Thread(target=each, args=(s.accept()[0], number), daemon=True).start()
def udp(address, family):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((address, 8080))
    while True:
        s.sendto(b"udp\\n", s.recvfrom(64)[1])
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind in (tcp, udp):
        threading.Thread(target=kind, args=(address, family)).start()
"""
#: One connection and one flow for as long as it takes, and new connections beside; prints what fails.
CLIENT = """
import socket, sys, time
address = sys.argv[1]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
def connect():
    s = socket.create_connection((address, 80), 2)
    s.sendall(b"?")
    return s, s.recv(64)
while True:
    try:
        long, first = connect()
        break
    except OSError:
        time.sleep(0.1)
flow = socket.socket(family, socket.SOCK_DGRAM)
flow.connect((address, 80))
flow.settimeout(2)
rounds = 0
while True:
    for what, sent in (("connection", long), ("flow", flow)):
        try:
            sent.send(b"?")
            if not sent.recv(64):
                raise OSError("ended")
        except OSError as err:
            print(f"failed {what} {err}", flush=True)
    try:
        connect()[0].close()
    except OSError as err:
        print(f"failed new {err}", flush=True)
    rounds += 1
    print(rounds, flush=True)
    time.sleep(0.02)
"""


def document(mode: str) -> dict[str, Any]:
    return {**CONFIGURATION, "spec": {**CONFIGURATION["spec"], "serviceProxy": mode}}  # type: ignore[dict-item]


def services() -> list[dict[str, Any]]:
    ports = [{"name": name, "port": 80, "protocol": name.upper()} for name in ("tcp", "udp")]
    web = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIPs": list(VIP.values()), "ports": ports},
    }
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"web-{version}", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": f"IPv{version}",
            "endpoints": [{"addresses": [address]}],
            "ports": [{**port, "port": 8080} for port in ports],
        }
        for version, address in OWN.items()
    ]
    return [web, *slices]


class Node:
    """The node's view of who translates."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def nft(self, *arguments: str) -> str:
        return self.rig.node.run(["nft", *arguments], check=False).stdout

    def load(self) -> None:
        """kube-proxy's tables."""
        for version, ip, address in ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr")):
            to = OWN[version] if version == 4 else f"[{OWN[version]}]"
            text = TABLE.format(ip=ip, address=address, to=to, vip=VIP[version])
            target = self.rig.node.directory / "kube-proxy.nft"
            Path(target).write_text(text)
            self.rig.node.run(["nft", "-f", str(target)])

    def kube_proxy_saw(self) -> int:
        """New connections that its chains took."""
        text = self.nft("list", "counters", "table", "ip", "kube-proxy")
        text += self.nft("list", "counters", "table", "ip6", "kube-proxy")
        return sum(int(line.split()[1]) for line in text.splitlines() if "packets" in line)

    def ours(self) -> bool:
        """Whether l3net translates the service: both families, all or nothing."""
        text = self.nft("list", "table", "inet", "l3net")  # at once: the two families as of one moment
        found = {f"{VIP[version]} . tcp . 80 : goto" in text for version in VIP}
        assert len(found) == 1, "never half"
        return found.pop()

    def says(self) -> str:
        why: str = self.rig.status()["serviceProxy"]["why"]
        return why


def test_kube_proxy_comes_and_goes_and_no_connection_ends(rig: Rig) -> None:
    """From the node itself and from outside, both families, TCP and UDP: through all switches those that are
    there go on, new ones succeed, and one of the two translates."""
    node = Node(rig)
    rig.node.spawn("endpoint", [sys.executable, "-c", ENDPOINT, *OWN.values()])
    for version, address in VIP.items():
        family = f"-{version}"
        rig.node.run(["ip", family, "route", "add", "default", "via", TOR[version]])
        rig.tor.run(["ip", family, "route", "add", address, "via", OWN[version]])
    rig.node.run(["ip", "link", "set", "lo", "up"])
    rig.declare("node.yaml", NODE, document("Auto"))
    rig.declare("services.yaml", *services())
    rig.start_agent()
    rig.until(node.ours, "the service")
    logs = []
    for version, address in VIP.items():
        for host in (rig.node, rig.tor):
            host.spawn(f"client{version}", [sys.executable, "-c", CLIENT, address])
            logs.append(host.directory / f"client{version}.log")

    def rounds() -> list[int]:
        texts = [log.read_text().split("\n") for log in logs]
        return [sum(1 for line in text if line.isdecimal()) for text in texts]

    def go_on() -> None:
        before = rounds()
        rig.until(lambda: all(now > then + 5 for now, then in zip(rounds(), before, strict=True)), "traffic")

    rig.until(lambda: all(rounds()), "traffic")
    # kube-proxy starts: l3net steps aside.
    node.load()
    rig.node.spawn("kube-proxy", [sys.executable, "-c", ANSWERING])
    rig.until(lambda: not node.ours(), "l3net to step aside")
    assert node.says() == "kube-proxy (nftables) answers on this node"
    go_on()
    assert node.kube_proxy_saw() > 0
    # Told to, it translates all the same, and comes first.
    rig.declare("node.yaml", NODE, document("Enabled"))
    rig.until(node.ours, "l3net to translate")
    go_on()
    before = node.kube_proxy_saw()
    go_on()
    assert node.kube_proxy_saw() == before, "ours comes before what another has left"
    rig.declare("node.yaml", NODE, document("Disabled"))
    rig.until(lambda: not node.ours(), "l3net to stop")
    go_on()
    assert node.kube_proxy_saw() > before
    rig.declare("node.yaml", NODE, document("Auto"))
    # It is killed, and comes back before it is given up.
    rig.node.kill("kube-proxy")
    rig.until(lambda: "waited for" in node.says(), "it to be missed")
    go_on()
    assert not node.ours()
    assert not [line for log in logs for line in log.read_text().split("\n") if "failed" in line]


def test_its_tables_alone_keep_nobody_for_long(rig: Rig) -> None:
    """kube-proxy is removed with what it made: l3net has the services at the next look."""
    node = Node(rig)
    rig.node.run(["ip", "link", "set", "lo", "up"])
    rig.declare("node.yaml", NODE, document("Auto"))
    rig.declare("services.yaml", *services())
    node.load()
    rig.node.spawn("kube-proxy", [sys.executable, "-c", ANSWERING])
    rig.until(lambda: ":10249" in rig.node.run(["ss", "-Hltn"]).stdout, "it to answer")
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")
    assert not node.ours()
    out = rig.node.run([sys.executable, "-m", "l3net.cli.main", "status"]).stdout
    assert "service proxy off: kube-proxy (nftables) answers on this node" in out
    found = rig.node.run([sys.executable, "-m", "l3net.cli.main", "doctor", "--no-probe"], check=False).stdout
    assert "services: node: translated by not l3net" not in found and "kube-proxy (nftables) answers" in found
    rig.node.kill("kube-proxy")
    rig.node.run(["nft", "delete table ip kube-proxy; delete table ip6 kube-proxy"])
    rig.until(node.ours, "l3net to have them", 15)
