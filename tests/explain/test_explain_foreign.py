"""What chains of others do with a packet, held against the kernel: each is loaded, and the packet sent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from l3net.explain.foreign import Chain, Packet, diverted, drops
from l3net.shell.probes import foreign

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

#: Rules of a chain at `forward`, and whether they drop TCP from 10.7.1.2 to 10.7.2.2 port 80: surely, not, or
#: it cannot be told.
CHAINS = [
    ("accept", "", "passes"),
    ("drop", "", "drops"),
    ("drop", "tcp dport 80 accept; ct state established accept", "passes"),
    ("drop", "tcp dport 81 accept", "drops"),
    ("accept", "tcp dport 80 drop", "drops"),
    ("accept", "tcp dport { 22, 80-90 } reject", "drops"),
    ("accept", "tcp dport != 80 drop", "drops"),
    ("accept", "udp dport 80 drop", "passes"),
    ("accept", "ip daddr 10.7.2.0/24 drop", "drops"),
    ("accept", "ip daddr != 10.7.2.0/24 drop", "drops"),
    ("accept", "ip daddr { 10.7.2.1, 10.7.2.2 } drop", "drops"),
    ("accept", "ip daddr 10.7.2.1-10.7.2.9 drop", "drops"),
    ("accept", "ip saddr 10.7.1.2 tcp dport 80 drop", "drops"),
    ("accept", "ip6 daddr fd00::/8 drop", "passes"),
    ("accept", "ct state new drop", "drops"),
    ("accept", "ct state established drop", "drops"),
    ("accept", "tcp sport 80 drop", "drops"),
    ("accept", "tcp dport 22 drop", "passes"),
    ("accept", "meta l4proto tcp drop", "drops"),
    ("accept", "meta l4proto { 17, 132 } drop", "passes"),
    ("accept", 'iifname "in0" drop', "may"),
    ("drop", 'iifname "in0" accept; ct state established accept', "may"),
    ("accept", "limit rate 1/day drop", "may"),
    ("accept", "jump called", "drops"),
    ("accept", "tcp dport 81 jump called", "passes"),
    ("drop", "jump accepting; ct state established accept", "passes"),
    ("accept", "jump returning; tcp dport 80 drop", "drops"),
]
_CALLED = """chain called { tcp dport 80 drop
 }
chain accepting { tcp dport 80 accept
 }
chain returning { return
 }
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[str]:
    """A router between two hosts."""
    name = f"fx{uuid.uuid4().hex[:6]}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    with ExitStack() as undo:
        for each in (name, f"{name}a", f"{name}b"):
            ip("netns", "add", each)
            undo.callback(subprocess.run, ["ip", "netns", "del", each], check=False)
        for number, (far, link) in enumerate(((f"{name}a", "in0"), (f"{name}b", "out0")), 1):
            ip("-n", name, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", far)
            ip("-n", name, "addr", "add", f"10.7.{number}.1/24", "dev", link)
            ip("-n", far, "addr", "add", f"10.7.{number}.2/24", "dev", "eth0")
            for host, its in ((name, link), (far, "eth0")):
                ip("-n", host, "link", "set", its, "up")
            ip("-n", far, "route", "add", "default", "via", f"10.7.{number}.1")
        subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
        server = subprocess.Popen(
            ["ip", "netns", "exec", f"{name}b", "python3", "-c", _SERVER], stdout=subprocess.PIPE
        )
        undo.callback(server.wait)
        undo.callback(server.kill)
        assert server.stdout is not None
        server.stdout.readline()
        yield name


_SERVER = """import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("10.7.2.2", 80)); s.listen(64)
print("up", flush=True)
while True: s.accept()[0].close()
"""
_CLIENT = """import socket, sys
s = socket.socket(); s.settimeout(0.4)
try: s.connect(("10.7.2.2", 80))
except OSError: sys.exit(1)
"""


@pytest.mark.parametrize(("policy", "rules", "wanted"), CHAINS)
def test_a_packet_meets_what_is_said(hosts: str, policy: str, rules: str, wanted: str) -> None:
    text = (
        f"table inet foreign {{\n{_CALLED}chain f {{\ntype filter hook forward priority 0; policy {policy};\n"
    )
    text += rules.replace("; ", "\n") + "\n}\n}\n"
    enter = ["ip", "netns", "exec", hosts]
    subprocess.run([*enter, "nft", "-f", "-"], input=f"flush ruleset\n{text}", text=True, check=True)
    listed = subprocess.run([*enter, "nft", "-j", "list", "ruleset"], capture_output=True, check=True).stdout
    chains = foreign.chains_of(json.loads(listed)["nftables"])
    packet = Packet(ip_address("10.7.1.2"), ip_address("10.7.2.2"), "tcp", 80)
    said, surely = drops(chains, packet)
    assert ("drops" if surely else "may" if said else "passes") == wanted, said
    if wanted != "may":
        passed = subprocess.run(["ip", "netns", "exec", f"{hosts}a", "python3", "-c", _CLIENT], check=False)
        assert (passed.returncode == 0) is (wanted == "passes")


#: Of the table `ip foreign`, and where TCP to 10.7.2.50 port 80 is surely sent: the server, elsewhere, or
#: (empty) nowhere, as it is untracked; None: nothing takes it.
_NAT = "chain n {{ type nat hook prerouting priority {}; {}\n }}\n"
_RAW = "chain r {{ type filter hook prerouting priority {}; {}\n }}\n"
_MAP = """map m {{ type ipv4_addr . inet_proto . inet_service : verdict
 elements = {{ 10.7.2.50 . tcp . {} : goto called }} }}
chain called {{ {}
 }}
"""
_LOOK = "ip daddr . meta l4proto . th dport vmap @m"
_RIGHT, _WRONG = "meta l4proto tcp dnat to 10.7.2.2:80", "meta l4proto tcp dnat to 10.7.2.9:80"
_TO_SERVER, _ASTRAY = ("10.7.2.2:80",), ("10.7.2.9:80",)
DIVERSIONS = [
    (_NAT.format(-100, f"ip daddr 10.7.2.50 tcp dport 80 {_RIGHT}"), _TO_SERVER),
    (_NAT.format(-100, f"ip daddr 10.7.2.50 tcp dport 80 {_WRONG}"), _ASTRAY),
    (_NAT.format(-100, f"tcp dport 81 {_WRONG}\n {_RIGHT}"), _TO_SERVER),
    (_NAT.format(-100, f"ip daddr 10.7.2.50 accept\n {_RIGHT}"), None),
    (_NAT.format(-100, f"ip daddr 10.7.2.51 {_RIGHT}"), None),
    (_MAP.format(80, _RIGHT) + _NAT.format(-100, _LOOK), _TO_SERVER),
    (_MAP.format(81, _RIGHT) + _NAT.format(-100, _LOOK), None),
    (
        _MAP.format(80, f"numgen random mod 1 vmap {{ 0 : goto end }}\n }}\n chain end {{ {_RIGHT}")
        + _NAT.format(-100, _LOOK),
        _TO_SERVER,
    ),
    (
        _MAP.format(80, "return") + _NAT.format(-100, f"{_LOOK}\n {_RIGHT}"),
        None,
    ),  # goto: nothing behind it is met
    (_NAT.format(-100, _RIGHT) + _RAW.format(-300, "ip daddr 10.7.2.50 notrack"), ()),
    (_NAT.format(-100, _RIGHT) + _RAW.format(-300, "ip daddr 10.7.2.51 notrack"), _TO_SERVER),
    (_NAT.format(-100, _RIGHT) + _RAW.format(-150, "ip daddr 10.7.2.50 notrack"), _TO_SERVER),
    (_NAT.format(-101, _WRONG) + _NAT.format(-100, _RIGHT).replace("chain n", "chain o"), _ASTRAY),
]


@pytest.mark.parametrize(("rules", "wanted"), DIVERSIONS)
def test_a_packet_is_sent_where_is_said(hosts: str, rules: str, wanted: tuple[str, ...] | None) -> None:
    enter = ["ip", "netns", "exec", hosts]
    text = f"flush ruleset\ntable ip foreign {{\n{rules}\n}}\n"
    subprocess.run([*enter, "nft", "-f", "-"], input=text, text=True, check=True)
    listed = subprocess.run([*enter, "nft", "-j", "list", "ruleset"], capture_output=True, check=True).stdout
    chains = foreign.chains_of(json.loads(listed)["nftables"])
    packet = Packet(None, ip_address("10.7.2.50"), "tcp", 80)
    found = diverted(chains, packet, None)
    told = None if found is None else tuple(f"{address}:{port}" for address, port in found.to)
    assert told == wanted
    client = _CLIENT.replace("10.7.2.2", "10.7.2.50")
    passed = subprocess.run(["ip", "netns", "exec", f"{hosts}a", "python3", "-c", client], check=False)
    assert (passed.returncode == 0) is (wanted == _TO_SERVER)
    if wanted:
        assert diverted(chains, packet, -102) is None, "l3net translates before that"


@pytest.mark.parametrize(
    ("program", "service", "to"),
    [
        ("iptables-nft", "10.96.0.10", "10.244.1.2:53"),
        ("ip6tables-nft", "fd00:10:96::a", "[fd00:10:244:1::2]:53"),
    ],
)
def test_what_iptables_puts_in_is_read(own_netns: object, program: str, service: str, to: str) -> None:
    """Of its targets `nft -j` tells the name alone."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    for line in (
        "-t nat -N KUBE-SVC",
        f"-t nat -A PREROUTING -d {service} -p udp -m comment --comment dns --dport 53 -j KUBE-SVC",
        f"-t nat -A KUBE-SVC -p udp -j DNAT --to-destination {to}",
        f"-t raw -A PREROUTING -d {service} -p tcp --dport 53 -j CT --notrack",
    ):
        subprocess.run([program, *line.split()], check=True)
    chains, unjudged = foreign.others()
    found = diverted(chains, Packet(None, ip_address(service), "udp", 53), None)
    assert found is not None
    [(address, port)] = found.to
    assert (address, port) == (ip_address(to.rpartition(":")[0].strip("[]")), 53)
    untracked = diverted(chains, Packet(None, ip_address(service), "tcp", 53), None)
    assert untracked is not None and untracked.to == ()
    assert diverted(chains, Packet(None, ip_address(service), "tcp", 54), None) is None
    assert {each.split()[1] for each in unjudged} == {"dnat", "notrack"}


def test_an_extension_of_iptables_that_matches_is_no_sure_drop() -> None:
    rule = [{"xt": {"type": "match", "name": "statistic"}}, {"drop": None}]
    chain = Chain("ip", "t", "c", "forward", "accept", (rule,))
    packet = Packet(ip_address("10.7.1.2"), ip_address("10.7.2.2"), "tcp", 80)
    assert drops([chain], packet) == (f"rule 1 of {chain} may drop it", False)
    rule[0] = {"xt": {"type": "match", "name": "comment"}}
    assert drops([chain], packet)[1]


def test_chains_before_translation_meet_the_packet_as_it_comes() -> None:
    service, pod = ip_address("10.96.0.1"), ip_address("10.244.1.2")
    behind, asked = Packet(None, pod, "tcp", 8080), Packet(None, service, "tcp", 80)

    def chain(address: str, priority: int) -> Chain:
        match = {
            "match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": address}
        }
        return Chain("ip", "t", "c", "prerouting", "accept", ([match, {"drop": None}],), priority)

    assert drops([chain("10.96.0.1", -300)], behind, asked)[1]
    assert not drops([chain("10.244.1.2", -300)], behind, asked)[1]
    assert drops([chain("10.244.1.2", 0)], behind, asked)[1]
    assert not drops([chain("10.96.0.1", 0)], behind, asked)[1]


def test_what_is_not_judged_is_named() -> None:
    rows = [
        {"chain": {"family": "netdev", "table": "x", "name": "in", "type": "filter", "hook": "ingress"}},
        {"chain": {"family": "bridge", "table": "l3net", "name": "ours", "type": "filter", "hook": "input"}},
        {
            "rule": {
                "family": "ip",
                "table": "nat",
                "chain": "p",
                "expr": [{"match": {}}, {"dnat": {"addr": "1.1.1.1"}}],
            }
        },
        {"rule": {"family": "ip", "table": "raw", "chain": "p", "expr": [{"notrack": None}]}},
        {"rule": {"family": "ip", "table": "filter", "chain": "f", "expr": [{"drop": None}]}},
    ]
    assert foreign.unjudged(rows) == [
        "chain in of table netdev x",
        "a dnat rule in chain p of table ip nat",
        "a notrack rule in chain p of table ip raw",
    ]


def test_tables_of_ours_and_other_hooks_are_no_affair_of_it() -> None:
    drop = [{"drop": None}]
    rows = [
        {"chain": {"family": "inet", "table": table, "name": "c", "type": "filter", "hook": hook}}
        for table, hook in (("l3net", "forward"), ("l3net_cni", "forward"), ("theirs", "input"))
    ]
    rows += [{"rule": {"family": "inet", "table": "theirs", "chain": "c", "expr": drop}}]
    assert foreign.chains_of(rows) == ()


def test_of_a_source_that_is_not_known_it_says_that_it_may() -> None:
    source = {
        "match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "10.0.0.1"}
    }
    chain = Chain("ip", "t", "c", "forward", "accept", ([source, {"drop": None}],))
    assert drops([chain], Packet(None, ip_address("10.7.2.2"), "tcp", 80)) == (
        f"rule 1 of {chain} may drop it",
        False,
    )
    assert drops([chain], Packet(None, ip_address("fd00::1"), "tcp", 80)) == ("", False), (
        "of the other family"
    )
