"""How long pods cannot leave the cluster when the node that holds their egress address dies without a word,
and what many of them cost.

Run as root: `python bench/egress.py [--deaths 10] [-o table|json]`. A lab of three nodes, a client and a
router (FRR, BFD at 100 ms three times) in network namespaces: a pod of the first node asks the client
over UDP every 4 ms, and leaves by the second or third node, which falls silent: its links stay up, every
packet is dropped. The time runs from the last answer before to the first after. Beside it the same where
the node's link is cut, which the router sees at once. Then, by itself: a book of 5,000 pods in which one
changes, and in which a node fails; and a kernel table of 1,000 pods in which one comes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]

from l3net.egress.book import EgressBook  # noqa: E402 - found by the path above
from l3net.firewall.egress import EGRESS as SECTION  # noqa: E402
from l3net.firewall.facts import FirewallPlan  # noqa: E402
from l3net.firewall.ruleset import ruleset  # noqa: E402
from l3net.model import (  # noqa: E402
    EgressIp,
    EgressPaths,
    EgressRule,
    IpPool,
    Node,
    ObjectName,
    Pod,
    PoolUse,
    Requirement,
    Selector,
)

ADDRESSES = {4: "198.51.100.10", 6: "2001:db8:e::10"}
ECHO = 7777
WAIT = 60.0
SILENCE = """
table inet silence {
  chain in { type filter hook prerouting priority -500; policy drop; }
  chain out { type filter hook output priority -500; policy drop; }
  chain over { type filter hook postrouting priority -500; policy drop; }
}
"""
TOPOLOGY: dict[str, Any] = {
    "routers": [{"name": "tor", "asNumber": 65001}],
    "clients": [{"name": "client"}],
    "nodes": [{"name": "n1", "pods": ["web-1"]}, {"name": "n2"}, {"name": "n3"}],
    "links": [{"between": ["tor", each]} for each in ("client", "n1", "n2", "n3")],
    "services": [],
}


def deaths(count: int, *, silent: bool) -> dict[str, Any]:
    """Milliseconds without an answer, of each death, by family."""
    # ruff: noqa: PLC0415 - the lab is of no use to who asks for help
    from address_rig import Rig
    from small_lab import lab_of

    from l3net.lab.chaos import echo
    from l3net.lab.host import python
    from l3net.lab.topology import RouterKind

    probe = ROOT / "tests" / "e2e" / "floating_probe.py"
    found: dict[str, list[float]] = {"IPv4": [], "IPv6": []}
    with tempfile.TemporaryDirectory() as directory, lab_of(TOPOLOGY, Path(directory), RouterKind.FRR) as lab:
        client, first = lab.host("client"), lab.host("n1")
        client.spawn("echo", [*python(), str(Path(echo.__file__)), str(ECHO)])
        rig = Rig(lab)
        _prepare(rig)
        if silent:
            _watch(rig)

        for _ in range(count):
            for version, family in ((4, "IPv4"), (6, "IPv6")):
                address = ADDRESSES[version]
                rig.until(lambda address=address: len(rig.announcers(address)) == 1, "one holder", WAIT)  # type: ignore[misc]
                (holder,) = rig.announcers(address)
                time.sleep(1.0)
                words = [*python(), str(probe), str(lab.topology.address("client", version)), str(ECHO), "6"]
                running = subprocess.Popen([*first.enter("web-1"), *words], stdout=subprocess.PIPE, text=True)
                time.sleep(1.0)
                host = lab.host(holder)
                if silent:
                    host.run(["nft", "-f", "-"], text=SILENCE)
                else:
                    host.run(["ip", "link", "set", "tor", "down"])
                told = json.loads(running.communicate(timeout=60)[0].splitlines()[-1])
                found[family].append(told["longest"])
                if silent:
                    host.run(["nft", "delete", "table", "inet", "silence"])
                else:
                    host.run(["ip", "link", "set", "tor", "up"])
                    lab.number(holder)
                rig.until(lambda: holder in rig.announcers(address), "the holder is back", WAIT)  # noqa: B023
    return {family: summary(times) for family, times in found.items()}


def _prepare(rig: Any) -> None:
    """Two nodes that may hold the addresses, and the pod that leaves with them."""
    from address_rig import own, pools

    nodes = list(yaml.safe_load_all((rig.lab.manifests / "nodes.yaml").read_text()))
    for each in nodes:
        if each["metadata"]["name"] != "n1":
            each["metadata"].setdefault("labels", {})["egress"] = "yes"
    rig.write("nodes.yaml", nodes)
    spec = {"namespaceSelector": {}, "addresses": list(ADDRESSES.values())}
    spec["nodeSelector"] = {"matchLabels": {"egress": "yes"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": "web-1", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": str(each)} for each in rig.lab.pod("web-1").addresses],
        },
    }
    found = pools("Egress", "198.51.100.0/24", "2001:db8:e::/64")
    rig.write("egress.yaml", [*found, pod, own("EgressIP", "out", spec)])


def _watch(rig: Any) -> None:
    """BFD at both ends of each session with a node."""
    documents = list(yaml.safe_load_all((rig.lab.manifests / "bgp.yaml").read_text()))
    for each in documents:
        if each["kind"] == "BGPPeer":
            each["spec"]["bfd"] = {"minInterval": 100}
    topology, tor = rig.lab.topology, rig.lab.host("tor")
    tor.run(["bfdd", "-d"])
    lines = ["bfd", "profile fast", "receive-interval 100", "transmit-interval 100", "exit", "exit"]
    lines.append(f"router bgp {topology.as_number_of('tor')}")
    lines += [f"neighbor {each.remote} bfd profile fast" for each in topology.sessions("tor")]
    tor.run(["vtysh", "-c", "configure terminal", *(word for each in lines for word in ("-c", each))])
    for node in ("n1", "n2", "n3"):
        rig.lab.host(node).spawn("bfd", [sys.executable, "-m", "l3net.cli.main", "bfd"])
    rig.write("bgp.yaml", documents)

    def up() -> bool:
        rows = json.loads(tor.run(["vtysh", "-c", "show bfd peers json"]).stdout)
        return len(rows) >= 6 and all(each["status"] == "up" for each in rows)

    rig.until(up, "BFD is up", WAIT)


def summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(statistics.median(ordered), 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "most": round(ordered[-1], 1),
        "times": len(ordered),
    }


def book(size: int) -> dict[str, float]:
    """Milliseconds to decide all, one pod's change, and a node's failure, with 100 nodes and 50 EgressIPs."""
    made = EgressBook()
    made.put_pools([IpPool("p", ip_network("198.18.0.0/15"), 32, allowed_uses=frozenset({PoolUse.EGRESS}))])
    first = int(ip_address("198.18.0.0"))
    nodes = [Node(f"n{number}", (ip_address(first + 60_000 + number),)) for number in range(100)]
    for node in nodes:
        made.put_node(node.name, node)
    for number in range(50):
        selector = Selector((Requirement("team", "In", (str(number),)),))
        made.put_namespace(f"team-{number}", {"team": str(number)})
        wanted = tuple(ip_address(first + 4 * number + each) for each in range(4))
        made.put_egress(f"e{number}", EgressIp(f"e{number}", namespaces=selector, wanted=wanted))
    pods = [
        Pod(
            ObjectName(f"team-{number % 50}", f"p{number}"),
            {},
            (ip_address(first + 70_000 + number),),
            f"n{number % 100}",
        )
        for number in range(size)
    ]
    for pod in pods:
        made.put_pod(pod.name, pod)
    began = time.perf_counter()
    made.settle()
    whole = (time.perf_counter() - began) * 1000
    one, failing = [], []
    for pod in pods[:200]:
        began = time.perf_counter()
        made.put_pod(pod.name, None)
        assert made.settle()
        one.append((time.perf_counter() - began) * 1000)
    for node in nodes[:20]:
        began = time.perf_counter()
        made.lose(frozenset({node.name}))
        made.settle()
        failing.append((time.perf_counter() - began) * 1000)
    return {
        "all": round(whole, 1),
        **{f"one pod, {key}": value for key, value in summary(one).items()},
        **{f"a node, {key}": value for key, value in summary(failing).items()},
    }


def table(size: int) -> dict[str, float]:
    """Milliseconds of nft for a table with so many pods, and for one that comes."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        own = int(ip_address("10.244.0.0"))
        held = ip_address("198.18.0.1")
        rules = (EgressRule("e", (), held, "me"),)

        def plan(count: int) -> FirewallPlan:
            pods = {ip_address(own + number): rules for number in range(count)}
            inside = frozenset({ip_network("10.244.0.0/16")})
            return FirewallPlan(egress=EgressPaths(True, pods, {}, frozenset({held})), inside=inside)

        def nft(text: str) -> float:
            began = time.perf_counter()
            subprocess.run(["ip", "netns", "exec", name, "nft", "-f", "-"], input=text, text=True, check=True)
            return (time.perf_counter() - began) * 1000

        whole = nft(ruleset(plan(size)))
        section = SECTION.made(plan(size)).held
        times = []
        for number in range(1, 31):
            step = section.change(plan(size + number), {})
            times.append(nft(step.text))
            step.take()
        return {"whole table": round(whole, 1), **{f"one, {k}": v for k, v in summary(times).items()}}
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--deaths", type=int, default=10, help="of each kind and family")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for what, silent in (("falls silent, BFD", True), ("loses its link", False)):
        for family, row in deaths(arguments.deaths, silent=silent).items():
            found[f"the holder {what}, {family}, ms"] = row
    found["5,000 pods decided, ms"] = book(5000)
    found["1,000 pods in the kernel, ms"] = table(1000)
    if arguments.output == "json":
        json.dump(found, sys.stdout, indent=1)
        return
    for name, row in found.items():
        print(f"{name:44} " + "  ".join(f"{key} {value:g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
