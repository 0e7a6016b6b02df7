"""Services through the real agent: flows that outlive a change, rivals, sources, and other users of
nftables."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from node_rig import CONFIGURATION, NODE, Rig

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.10", 6: "fd00:10:96::a"}
TOR = {4: "10.90.0.2", 6: "fd90::2"}
EXTERNAL = "198.51.100.7"
OPEN = {
    **CONFIGURATION,
    "spec": {
        **CONFIGURATION["spec"],
        "advertise": {"externalIPs": {"enabled": True, "cidrs": ["198.51.100.0/24"]}},
    },  # type: ignore[dict-item]
}
#: Answers each datagram with its port.
ECHO = """
import socket, sys, threading
def serve(address, port):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    while True:
        s.sendto(str(port).encode(), s.recvfrom(64)[1])
for address in sys.argv[1:]:
    for port in (5353, 5354):
        threading.Thread(target=serve, args=(address, port)).start()
"""
#: A request every 50 ms over one socket; prints each answer, or -.
FLOW = """
import socket, sys, time
address = sys.argv[1]
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((address, 53))
s.settimeout(0.2)
while True:
    try:
        s.send(b"?")
        print(s.recv(64).decode(), flush=True)
    except OSError:
        print("-", flush=True)
    time.sleep(0.05)
"""


def service(name: str, **spec: Any) -> dict[str, Any]:
    created = spec.pop("created", None)
    port = {"name": "dns", "port": 53, "protocol": "UDP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"clusterIPs": list(VIP.values()), "ports": [port], **spec},
    }


def ends(name: str, port: int, version: int) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{version}", "labels": {"kubernetes.io/service-name": name}},
        "addressType": f"IPv{version}",
        "endpoints": [{"addresses": [TOR[version]]}],
        "ports": [{"name": "dns", "port": port, "protocol": "UDP"}],
    }


def declared(rig: Rig, *documents: dict[str, Any]) -> None:
    rig.declare("services.yaml", *documents)


def served(rig: Rig, port: int) -> None:
    declared(rig, service("dns"), *(ends("dns", port, version) for version in VIP))


def test_a_udp_flow_follows_its_service(rig: Rig) -> None:
    """One that began before the service did, through a change of its endpoint, and its end; both families."""
    rig.tor.spawn("echo", [sys.executable, "-c", ECHO, *TOR.values()])
    rig.declare("node.yaml", NODE, OPEN)
    # Without a service these go to the router, which has no such address and says nothing.
    for family in ("-4", "-6"):
        rig.node.run(["ip", family, "route", "add", "default", "via", TOR[int(family[1])]])
        rig.tor.run(["ip", family, "route", "add", "blackhole", "default"])
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")
    flows = {version: f"flow{version}" for version in VIP}
    for version, name in flows.items():
        rig.node.spawn(name, [sys.executable, "-c", FLOW, VIP[version]])

    def last(version: int) -> str:
        text = (rig.node.directory / f"{flows[version]}.log").read_text().split()
        return text[-1] if text else ""

    rig.until(lambda: all(last(version) == "-" for version in VIP), "the flows to begin")
    for port in (5353, 5354):
        served(rig, port)
        rig.until(lambda port=port: all(last(v) == str(port) for v in VIP), f"answers of port {port}", 15)
    declared(rig)
    rig.until(lambda: all(last(version) == "-" for version in VIP), "the end of the service")
    assert not [each for each in rig.status()["problems"] if "connections" in each]


#: Connects once, for as long as it takes, and prints what it reads.
CONNECT = """
import socket, sys
print(socket.create_connection((sys.argv[1], 80), 60).recv(64).decode(), flush=True)
"""
#: Greets whoever connects.
GREETER = """
import socket, sys, threading
def serve(address):
    s = socket.create_server((address, 8080), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    while True:
        s.accept()[0].sendall(b"welcome")
for address in sys.argv[1:]:
    threading.Thread(target=serve, args=(address,)).start()
"""


def _endpoints_outside(rig: Rig) -> None:
    """Who answers is on the router, which knows no other way."""
    rig.tor.spawn("echo", [sys.executable, "-c", ECHO, *TOR.values()])
    rig.tor.spawn("greeter", [sys.executable, "-c", GREETER, *TOR.values()])
    rig.declare("node.yaml", NODE, OPEN)
    for family in ("-4", "-6"):
        rig.node.run(["ip", family, "route", "add", "default", "via", TOR[int(family[1])]])
        rig.tor.run(["ip", family, "route", "add", "blackhole", "default"])


def _served_over_udp_and_tcp(rig: Rig) -> None:
    """A service with a port of each protocol, its endpoints outside, and an agent that is ready."""
    _endpoints_outside(rig)
    web = {"name": "web", "port": 80, "protocol": "TCP"}
    shop = service("dns")
    shop["spec"]["ports"].append(web)
    slices = [ends("dns", 5353, version) for version in VIP]
    for each in slices:
        each["ports"].append({**web, "port": 8080})
    declared(rig, shop, *slices)
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")


def test_what_begins_while_the_table_is_gone_goes_on(rig: Rig) -> None:
    """Somebody flushes all of nftables: a connection and a flow that begin before it is put back are
    translated afterwards; both families."""
    _served_over_udp_and_tcp(rig)
    pid = str(rig.node.daemon_pid("agent"))
    rig.node.run(["kill", "-STOP", pid])
    # As a firewall that is loaded: all are flushed, its own tracks connections.
    rules = "flush ruleset; add table inet other; "
    rules += "add chain inet other out { type filter hook output priority 0; }; "
    rig.node.run(["nft", rules + "add rule inet other out ct state new accept"])
    for version, address in VIP.items():
        rig.node.spawn(f"flow{version}", [sys.executable, "-c", FLOW, address])
        rig.node.spawn(f"connect{version}", [sys.executable, "-c", CONNECT, address])

    def said(name: str) -> list[str]:
        return (rig.node.directory / f"{name}.log").read_text().split()

    def knocks(version: int) -> bool:
        return bool(rig.node.run(["ss", "-Htn", f"-{version}", "state", "syn-sent"]).stdout.strip())

    rig.until(lambda: all(knocks(v) and said(f"flow{v}") for v in VIP), "both to begin")
    rig.node.run(["kill", "-CONT", pid])
    for version in VIP:
        rig.until(lambda v=version: said(f"connect{v}") == ["welcome"], f"the connection, IPv{version}", 30)
        rig.until(lambda v=version: said(f"flow{v}")[-1] == "5353", f"the flow, IPv{version}", 15)


def test_what_began_before_the_table_is_not_refused_by_it(rig: Rig) -> None:
    """In the moment between the table, put back, and the agent's look at what began without it, a
    connection's next SYN is lost and not refused."""
    _served_over_udp_and_tcp(rig)
    table = rig.node.run(["nft", "list", "table", "inet", "l3net"]).stdout
    pid = str(rig.node.daemon_pid("agent"))
    rig.node.run(["kill", "-STOP", pid])
    # Nothing is refused, and all is tracked.
    rules = "flush ruleset; add table inet other; "
    rules += "add chain inet other out { type filter hook output priority 0; }; "
    rig.node.run(["nft", rules + "add rule inet other out ct state new accept"])
    for version, address in VIP.items():
        rig.node.spawn(f"connect{version}", [sys.executable, "-c", CONNECT, address])

    def knocks() -> list[str]:
        return rig.node.run(["ss", "-Htno", "state", "syn-sent"]).stdout.split("\n")[:-1]

    rig.until(lambda: len(knocks()) == 2, "both to begin")
    rig.node.run(["nft", "-f", "-"], text=table)
    tries = lambda: [int(line.rpartition(",")[2].rstrip(") ")) for line in knocks()]  # noqa: E731
    before = tries()
    rig.until(lambda: len(tries()) < 2 or min(tries()) > max(before), "both to knock again")
    assert len(knocks()) == 2, "they were refused"
    # The control: what begins now and is not served is.
    for version, address in VIP.items():
        place = f"http://[{address}]:81/" if version == 6 else f"http://{address}:81/"
        refused = rig.node.run(["curl", "-s", "-m", "5", place], check=False)
        assert refused.code == 7, "of curl: could not connect; 28 would be its patience"
    rig.node.run(["kill", "-CONT", pid])
    for version in VIP:
        log = rig.node.directory / f"connect{version}.log"
        rig.until(lambda log=log: log.read_text().split() == ["welcome"], f"the connection, IPv{version}", 40)


def test_the_younger_of_two_rivals_is_named(rig: Rig) -> None:
    old = service("z-shop", externalIPs=[EXTERNAL], created="2024-01-01T00:00:00Z")
    new = service("a-evil", externalIPs=[EXTERNAL], created="2026-01-01T00:00:00Z", clusterIPs=["10.96.0.66"])
    rig.declare("node.yaml", NODE, OPEN)
    declared(rig, old, new, ends("z-shop", 5353, 4), ends("a-evil", 5354, 4))
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")
    status = rig.status()
    (problem,) = [each for each in status["problems"] if "a-evil" in each]
    assert "port 53/UDP is answered for default/z-shop" in problem
    verdicts = {each["service"]: each["reason"] for each in status["services"] if each["address"] == EXTERNAL}
    assert verdicts == {"default/a-evil": "conflictingPort", "default/z-shop": "advertise"}
    table = rig.node.run(["nft", "list", "map", "inet", "l3net", "backends4"]).stdout
    assert f"{EXTERNAL} . udp . 53 . 0 : {TOR[4]} . 5353" in table


def test_others_that_use_nftables_do_not_have_the_table_replaced(rig: Rig) -> None:
    rig.declare("node.yaml", NODE, OPEN)
    served(rig, 5353)
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")

    def handle() -> str:
        return rig.node.run(["nft", "-a", "list", "table", "inet", "l3net"], check=False).stdout.split("\n")[
            0
        ]

    rig.until(handle, "the table")
    served(rig, 5354)  # changed by elements
    rig.until(
        lambda: "5354" in rig.node.run(["nft", "list", "map", "inet", "l3net", "backends4"]).stdout,
        "the change",
    )
    before = handle()
    for number in range(5):
        rig.node.run(["nft", "add", "table", "inet", f"other{number}"])
        time.sleep(0.1)
    time.sleep(0.5)
    assert handle() == before
    assert "put back" not in (rig.node.directory / "agent.log").read_text()
    # The control: somebody changes ours.
    rig.node.run(["nft", "flush", "chain", "inet", "l3net", "external"])
    rig.until(lambda: handle() not in ("", before), "the table to be made anew", 10)
    rig.until(lambda: "put back" in (rig.node.directory / "agent.log").read_text(), "the line")


def test_a_host_without_a_default_route_reaches_services(rig: Rig) -> None:
    """Its processes: what they send is routed before it is translated. What is no service is refused at
    once."""
    rig.tor.spawn("echo", [sys.executable, "-c", ECHO, *TOR.values()])
    ranged = {**OPEN, "spec": {**OPEN["spec"], "serviceCIDRs": ["10.96.0.0/16", "fd00:10:96::/112"]}}
    rig.declare("node.yaml", NODE, ranged)
    served(rig, 5353)
    for family in ("-4", "-6"):  # for the answers to the pods' gateways
        to = "10.244.1.0/24" if family == "-4" else "fd00:10:244:1::/120"
        rig.tor.run(["ip", family, "route", "add", to, "via", "10.90.0.1" if family == "-4" else "fd90::1"])
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")
    for version, address in VIP.items():
        rig.node.spawn(f"flow{version}", [sys.executable, "-c", FLOW, address])
        log = rig.node.directory / f"flow{version}.log"
        rig.until(lambda log=log: "5353" in log.read_text(), f"an answer of {address}", 15)
        ask = "import socket, sys; socket.create_connection((sys.argv[1], 80), 2)"
        other = "10.96.9.9" if version == 4 else "fd00:10:96::909"
        out = rig.node.run([sys.executable, "-c", ask, other], check=False)
        assert "No route to host" in out.stderr
        family = f"-{version}"
        shown = rig.node.run(["ip", family, "route", "show", "proto", "108", "dev", "l3net0"]).stdout
        assert ("10.96.0.0/16" if version == 4 else "fd00:10:96::/112") in shown
        # A default route leads there as well: ours goes.
        rig.node.run(["ip", family, "route", "add", "default", "via", TOR[version]])
        rig.until(
            lambda family=family: (
                not rig.node.run(["ip", family, "route", "show", "proto", "108", "dev", "l3net0"]).stdout
            ),
            "our route to go",
            15,
        )
    assert not [each for each in rig.status()["problems"] if "speaker" not in each]


def test_a_port_for_icmp_errors_that_somebody_has_is_named_and_tried_again(rig: Rig) -> None:
    """Of one family alone, as a resolver of the host might have it."""
    holder = "import socket, signal; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
    holder += "s.bind(('::1', 6108)); signal.pause()"
    rig.node.run(["ip", "link", "set", "lo", "up"])
    rig.node.spawn("holder", [sys.executable, "-c", holder])
    rig.until(lambda: "6108" in rig.node.run(["ss", "-Hlun"]).stdout, "the port to be taken")
    rig.declare("node.yaml", NODE, OPEN)
    served(rig, 5353)
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")
    (problem,) = [each for each in rig.status()["problems"] if "6108" in each]
    assert "Address already in use; give every node another --error-relay-port, or 0" in problem

    def table() -> str:
        return rig.node.run(["nft", "list", "table", "inet", "l3net"], check=False).stdout

    assert "udp dport" in table() and "6108" not in table()
    rig.node.run(["kill", str(rig.node.daemon_pid("holder"))])
    rig.until(lambda: "6108" not in rig.node.run(["ss", "-Hlun"]).stdout, "the port to be free")
    rig.node.run(["nft", "flush", "chain", "inet", "l3net", "external"])  # makes it look
    rig.until(lambda: "log" in table() and "6108" in table(), "errors to be handed on")
    rig.until(lambda: not [each for each in rig.status()["problems"] if "6108" in each], "no problem")


def test_a_route_by_a_link_alone_and_an_asker_who_is_gone(rig: Rig) -> None:
    """The status names no gateway where there is none; who hangs up on the agent is no fault of a part."""
    ranged = {**OPEN, "spec": {**OPEN["spec"], "serviceCIDRs": ["10.96.0.0/16", "fd00:10:96::/112"]}}
    rig.declare("node.yaml", NODE, ranged)
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")
    rig.until(lambda: "10.96.0.0/16" in rig.node.run(["ip", "route"]).stdout, "the route")
    routes = {each["prefix"]: each["nextHops"] for each in rig.status()["routes"]}
    assert routes["10.96.0.0/16"] == routes["fd00:10:96::/112"] == ["dev l3net0"]
    ask = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/l3net/agent.sock')\n"
    ask += "s.send(b'status\\n'); s.close()"
    pid = str(rig.node.daemon_pid("agent"))
    for _ in range(5):
        rig.node.run(["kill", "-STOP", pid])  # so that it answers somebody who is gone
        rig.node.run([sys.executable, "-c", ask])
        rig.node.run(["kill", "-CONT", pid])
    rig.until(rig.status, "an answer")
    assert "agent socket" not in (rig.node.directory / "agent.log").read_text()


#: Connects every 50 ms, anew; prints what it reads, or - when it is refused or hears nothing.
KNOCKER = """
import socket, sys, time
while True:
    try:
        with socket.create_connection((sys.argv[1], 80), 0.3) as s:
            print(s.recv(64).decode(), flush=True)
    except OSError:
        print("-", flush=True)
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    "label", ["service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name"]
)
def test_a_label_takes_a_service_from_all_and_gives_it_back(rig: Rig, label: str) -> None:
    """Put on a service that is served, taken away again, whatever its value; the slices stay as they are. New
    connections and UDP flows that go on, both families. One with the label from the start never is."""
    _endpoints_outside(rig)
    never = {4: "10.96.0.77", 6: "fd00:10:96::77"}

    def declare(labels: dict[str, str]) -> None:
        web = {"name": "web", "port": 80, "protocol": "TCP"}
        documents: list[dict[str, Any]] = []
        for name, addresses, marked in (("toggled", VIP, labels), ("never", never, {label: ""})):
            made = service(name, clusterIPs=list(addresses.values()))
            made["spec"]["ports"].append(web)
            made["metadata"]["labels"] = marked
            slices = [ends(name, 5353, version) for version in VIP]
            for each in slices:
                each["ports"].append({**web, "port": 8080})
            documents += [made, *slices]
        declared(rig, *documents)

    declare({})
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")
    logs: dict[str, list[str]] = {"toggled": [], "never": []}
    for name, addresses in (("toggled", VIP), ("never", never)):
        for version, address in addresses.items():
            for kind, program in (("knock", KNOCKER), ("flow", FLOW)):
                rig.node.spawn(f"{kind}-{name}{version}", [sys.executable, "-c", program, address])
                logs[name].append(f"{kind}-{name}{version}")

    def said(name: str) -> list[str]:
        return (rig.node.directory / f"{name}.log").read_text().split()

    def last(what: tuple[str, ...]) -> bool:
        return all(said(name)[-3:] and set(said(name)[-3:]) <= set(what) for name in logs["toggled"])

    rig.until(lambda: last(("welcome", "5353")), "the service")
    for value in ("", "another"):
        declare({label: value})
        rig.until(lambda: last(("-",)), f"the end of the service by {value!r}", 15)
        declare({})
        rig.until(lambda: last(("welcome", "5353")), "the service again", 15)
    assert all(set(said(name)) == {"-"} for name in logs["never"])
    reasons = {each["service"]: each["reason"] for each in rig.status()["services"]}
    assert reasons["default/never"] in ("headless", "otherProxy")


#: Asks over HTTP; prints the status and what is said of endpoints.
ASK = """
import http.client, json, sys
asked = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=2)
asked.request("GET", sys.argv[3])
answer = asked.getresponse()
weight = answer.getheader("X-Load-Balancing-Endpoint-Weight")
print(answer.status, weight, json.load(answer).keys() - {"currentTime"})
"""


def test_a_load_balancer_asks_the_node(rig: Rig) -> None:
    """From outside, over both families; by the port of a service, and by kube-proxy's."""
    rig.declare("node.yaml", NODE, OPEN)
    balanced = service("dns", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31000)
    here, there = ends("dns", 5353, 4), ends("dns", 5353, 6)
    here["endpoints"] = [{"addresses": ["10.244.1.7"], "nodeName": "node"}]
    declared(rig, balanced, here, there)
    rig.start_agent()
    rig.until(lambda: rig.status().get("ready"), "the agent")

    def ask(version: int, port: int, path: str = "/") -> str:
        address = "10.90.0.1" if version == 4 else "fd90::1"
        return rig.tor.run([sys.executable, "-c", ASK, address, str(port), path], check=False).stdout

    rig.until(lambda: ask(4, 31000), "an answer")
    assert ask(4, 31000).startswith("200 1 ") and "localEndpoints" in ask(4, 31000)
    assert ask(6, 31000).startswith("503 0 "), "its only endpoint of that family is elsewhere"
    for version in (4, 6):
        assert ask(version, 10256, "/healthz").startswith("200 None ")
        assert "nodeEligible" in ask(version, 10256, "/healthz")
        assert ask(version, 10256, "/livez").startswith("200 None ")
    declared(rig)
    rig.until(lambda: not ask(4, 31000), "the port to be closed")
