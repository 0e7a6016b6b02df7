"""ADD, CHECK and DEL through the thin client and the agent's server, in real namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from added_part import ChainApplier

from l3net.attach.shells import KERNEL
from l3net.attach.verbs import Verbs
from l3net.cni.frame import Answer, Call
from l3net.cni.setup import NodeNetwork
from l3net.ipam.lease import Lease

if TYPE_CHECKING:
    from conftest import Host

STATUS = {"cniVersion": "1.1.0", "name": "l3net", "type": "l3net-cni"}

pytestmark = pytest.mark.netns


def addresses(result: dict[str, Any]) -> list[str]:
    return [entry["address"] for entry in result["ips"]]


def test_add_gives_what_it_says(host: Host) -> None:
    pod = host.pod()
    result = host.add("c1", pod)
    assert addresses(result) == ["10.244.0.2/32", "fd00:10:244:1::2/128"]
    bridge, outer, inner = result["interfaces"]
    assert (bridge["name"], bridge.get("sandbox")) == ("l3net0", None)
    assert outer["name"] in host.veths() and "sandbox" not in outer
    assert inner["sandbox"] == f"/run/netns/{pod}"
    assert all(entry["interface"] == 2 for entry in result["ips"])
    (link,) = host.ip("-d", "addr", "show", "dev", "eth0", netns=pod)
    assert link["address"] == inner["mac"] and "UP" in link["flags"]
    assert (link["num_tx_queues"], link["num_rx_queues"]) == (1, 1)  # and not one for each processor
    seen = {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each["scope"] == "global"}
    assert seen == set(addresses(result))
    routes = {(route["dst"], route.get("gateway")) for route in host.ip("route", netns=pod)}
    assert routes == {("default", "10.244.0.1"), ("10.244.0.1", None)}


def test_pods_reach_each_other_and_the_gateway_at_once(host: Host, ping: Any) -> None:
    one, two = host.pod(), host.pod()
    host.add("c1", one)
    result = host.add("c2", two)
    for address in [*(entry.split("/")[0] for entry in addresses(result)), "10.244.0.1", "fd00:10:244:1::1"]:
        assert ping(one, address)
    assert not ping(one, "10.244.0.99", "0.2")  # the control: an address no pod has


def test_a_second_add_disturbs_nothing(host: Host) -> None:
    pod = host.pod()
    first = host.add("c1", pod)
    again = host.cni("ADD", "c1", pod)
    assert again.code == 1 and again.json["code"] == 101
    (link,) = host.ip("addr", "show", "dev", "eth0", netns=pod)
    assert link["addr_info"][0]["local"] == addresses(first)[0].split("/")[0]
    assert host.leases() == 1
    assert host.cni("ADD", "other", pod).json["code"] == 101  # eth0 is there
    assert host.leases() == 1 and len(host.veths()) == 1
    second = host.add("c1", pod, ifname="net1")
    assert addresses(second) != addresses(first)


def test_delete_leaves_nothing_and_repeats(host: Host) -> None:
    pod = host.pod()
    host.add("c1", pod)
    for netns in (pod, pod, None):
        done = host.cni("DEL", "c1", netns)
        assert (done.code, done.stdout) == (0, "")
    host.settle()
    assert host.veths() == [] and host.leases() == 0
    assert [link["ifname"] for link in host.ip("link", netns=pod)] == ["lo"]
    assert host.cni("DEL", "never", None).code == 0


def test_delete_then_add_at_once(host: Host) -> None:
    """The old link may still wait for its batch; the new attachment does not care."""
    pod = host.pod()
    first = host.add("c1", pod)
    for _ in range(3):
        host.cni("DEL", "c1", pod)
        assert addresses(host.add("c1", pod)) != addresses(first)


def test_a_stale_delete_frees_nothing_of_a_newer_sandbox(host: Host) -> None:
    """The netns path is reused; the container ID is what counts."""
    pod = host.pod()
    host.add("old", pod)
    assert host.cni("DEL", "old", pod).code == 0
    host.add("new", pod)
    host.cni("DEL", "old", pod)
    host.settle()
    assert host.leases() == 1 and len(host.veths()) == 1


def test_vanished_namespace_still_releases(host: Host, run: Any) -> None:
    pod = host.pod()
    host.add("c1", pod)
    run("ip", "netns", "del", pod)
    assert host.cni("DEL", "c1", None, CNI_NETNS="/run/netns/none-such").code == 0
    host.settle()
    assert host.leases() == 0 and host.veths() == []


@pytest.mark.parametrize("breakage", ["address", "route", "port", "down", "link", "lease"])
def test_check(host: Host, breakage: str, run: Any) -> None:
    pod = host.pod()
    result = host.add("c1", pod)
    conf = host.conf | {"prevResult": result}
    passed = host.cni("CHECK", "c1", pod, conf=conf)
    assert (passed.code, passed.stdout) == (0, "")
    assert host.cni("CHECK", "c1", pod).json["code"] == 7
    (veth,) = host.veths()
    match breakage:
        case "address":
            run("ip", "-n", pod, "addr", "del", "fd00:10:244:1::2/128", "dev", "eth0")
        case "route":
            run("ip", "-n", pod, "route", "del", "default")
        case "port":
            run("ip", "-n", host.name, "link", "set", veth, "nomaster")
        case "down":
            run("ip", "-n", pod, "link", "set", "eth0", "down")
        case "link":
            run("ip", "-n", pod, "link", "del", "eth0")
        case "lease":
            assert host.server
            host.server.leases.release(host.server.leases.leases()[0].key)
    failed = host.cni("CHECK", "c1", pod, conf=conf)
    assert failed.code == 1 and failed.json["code"] in {3, 102}


def test_bad_namespaces_are_refused_before_any_change(host: Host, tmp_path: Any) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    for path in ("/run/netns/none-such", str(plain), f"/run/netns/{host.name}", "/proc/self/ns/mnt"):
        outcome = host.cni("ADD", "c1", None, CNI_NETNS=path)
        assert outcome.code == 1 and outcome.json["code"] == 8, path
    assert host.leases() == 0 and host.veths() == []


def test_no_block_yet(bare_host: Host) -> None:
    bare_host.start((), first_pass_wait=0.05)
    outcome = bare_host.cni("ADD", "c1", bare_host.pod())
    assert outcome.json["code"] == 11


def test_no_pod_is_wired_before_the_peers_have_heard_of_the_node(bare_host: Host) -> None:
    """As after a reboot, when the runtime has its configuration already: a Service would lead to the pod, and
    no router to the node. The next agent of the same boot does not wait again."""
    server, pod = bare_host.start(first_pass_wait=0.05), bare_host.pod()
    server.hold()
    refused = bare_host.cni("ADD", "c1", pod)
    assert refused.json["code"] == 11 and "no peer has heard" in refused.json["msg"]
    assert bare_host.cni("STATUS", conf=STATUS).code == 0, "the node is as ready as before"
    assert bare_host.cni("DEL", "c1", pod).code == 0
    with ThreadPoolExecutor() as pool:
        server._setups._first_pass_wait = 30.0
        asked = pool.submit(lambda: bare_host.cni("ADD", "c1", pod))
        with pytest.raises(TimeoutError):
            asked.result(0.3)
        server.release()
        assert asked.result(30).code == 0
    bare_host.stop()
    again = bare_host.start(first_pass_wait=0.05)
    again.hold()
    assert bare_host.cni("ADD", "c2", bare_host.pod()).code == 0


def test_restart_keeps_pods_and_leases(host: Host, ping: Any) -> None:
    one, two = host.pod(), host.pod()
    first = host.add("c1", one)
    host.stop()
    host.start()
    assert ping(one, "10.244.0.1")
    assert set(addresses(host.add("c2", two))).isdisjoint(addresses(first))
    assert host.cni("DEL", "c1", one).code == 0
    assert host.leases() == 1


def test_bridge_deleted_and_made_anew(host: Host, ping: Any, run: Any) -> None:
    pod = host.pod()
    host.add("c1", pod)
    run("ip", "-n", host.name, "link", "del", "l3net0")
    assert not ping(pod, "10.244.0.1", "0.2")
    host.stop()
    server = host.start()
    assert host.inside(server.reattach_ports) == host.veths()
    assert ping(pod, "10.244.0.1") and ping(pod, "fd00:10:244:1::1")
    assert host.inside(server.reattach_ports) == []  # the second pass is quiet
    other = host.pod()
    host.add("c2", other)  # workers had cached the old bridge's index
    assert ping(other, "10.244.0.1")


def test_agent_away(bare_host: Host) -> None:
    pod = bare_host.pod()
    assert bare_host.cni("ADD", "c1", pod).json["code"] == 11
    status = bare_host.cni("STATUS", conf=STATUS, L3NET_CNI_STATUS_WAIT="0")
    assert status.json["code"] == 50
    version = bare_host.cni("VERSION", conf=b"")
    assert version.code == 0 and "1.1.0" in version.json["supportedVersions"]
    (bare_host.base / "state").mkdir()
    done = bare_host.cni("DEL", "c1", pod)
    assert (done.code, done.stdout) == (0, "")
    assert len(list((bare_host.base / "state" / "spool").glob("*.del"))) == 1


def test_status_waits_for_an_agent_that_is_restarted(bare_host: Host) -> None:
    """One failed STATUS makes the node not ready, and services leave the pods that run there."""
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(lambda: bare_host.cni("STATUS", conf=STATUS, L3NET_CNI_STATUS_WAIT="30"))
        with pytest.raises(TimeoutError):
            asked.result(0.5)
        bare_host.start()
        assert asked.result(30).code == 0
        bare_host.stop()
        bare_host.start((), first_pass_wait=30)  # an agent that has not finished its first pass
        asked = pool.submit(lambda: bare_host.cni("STATUS", conf=STATUS))
        with pytest.raises(TimeoutError):
            asked.result(0.5)
        assert bare_host.server
        network = NodeNetwork(tuple(map(ip_network, ("10.244.0.0/20",))), 1500)
        bare_host.inside(lambda: bare_host.server and bare_host.server.update(network))
        assert asked.result(30).code == 0


def test_full_blocks_do_not_make_the_node_unready(bare_host: Host) -> None:
    server = bare_host.start(("10.244.0.0/29",))
    for number in range(5):
        assert bare_host.cni("STATUS", conf=STATUS).code == 0 and not server.problems()
        bare_host.add(f"c{number}")
    assert bare_host.cni("ADD", "c9", bare_host.pod()).json["code"] == 11
    assert bare_host.cni("STATUS", conf=STATUS).code == 0
    (problem,) = server.problems()
    assert "no address free in 10.244.0.0/29: 5 leased, 0 in cool-down" in problem
    bare_host.cni("DEL", "c0", None)
    assert "4 leased, 1 in cool-down" in server.problems()[0]


@pytest.mark.parametrize("conf", [{}, {"bridge": "cni0", "isGateway": True}], ids=["lease", "no-ipam"])
def test_an_abandoned_add_undoes_itself_alone(host: Host, conf: dict[str, Any], monkeypatch: Any) -> None:
    """The answer of an ADD is not taken; by the time that shows, DEL and another ADD have come."""
    server, pod = host.server, host.pod()
    assert server
    first: list[Answer] = []
    real = server.verbs.answer

    def answer(call: Call, *rest: Any) -> Answer:
        found = real(call, *rest)
        first.append(found)
        calls.append(call)
        return found

    calls: list[Call] = []
    monkeypatch.setattr(server.verbs, "answer", answer)
    whole = {**host.conf, **conf}
    host.add("c1", pod, conf=whole)
    host.cni("DEL", "c1", pod, conf=whole)
    host.add("c1", pod, conf=whole)
    before = host.veths()
    host.inside(lambda: server.verbs.abandon(calls[0], first[0]))
    host.settle()
    assert host.veths() == before and len(before) == 1
    host.inside(lambda: server.verbs.abandon(calls[2], first[2]))  # the control: its own it does undo
    host.settle()
    assert host.veths() == [] and host.leases() == 0


class FakeBridge:
    """Has lost the port of every lease."""

    closed = False

    def attach_ports(self, name: str, leases: Callable[[], Iterable[Lease]]) -> list[str]:
        assert name == "l3net0"
        return [lease.host_ifname for lease in leases()]

    def close(self) -> None:
        self.closed = True


def test_the_server_is_given_its_shells(bare_host: Host) -> None:
    bridge = FakeBridge()
    server = bare_host.start(shells=replace(KERNEL, bridge=lambda: bridge))
    bare_host.add("c1")
    for _ in range(2):
        assert bare_host.inside(server.reattach_ports) == bare_host.veths()
    bare_host.stop()
    assert bridge.closed


PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}


@pytest.mark.parametrize("place", range(5))
def test_a_part_that_is_added_and_the_kernel(bare_host: Host, run: Any, monkeypatch: Any, place: int) -> None:
    """In each place among the others: when it fails nothing of them is left; it is made, checked, deleted."""
    chain, real = ChainApplier(refuses=True), Verbs.appliers

    def rows(verbs: Verbs) -> list[Any]:
        found = [*real(verbs)]
        found.insert(place, chain)
        return found

    def left() -> tuple[bool, int, int, int, set[str]]:
        ruleset = run("ip", "netns", "exec", bare_host.name, "nft", "list", "ruleset")
        neighbours = [
            each for each in bare_host.ip("neigh", "show", "dev", "l3net0") if "PERMANENT" in each["state"]
        ]
        records = len(server.leases.records())
        return "8080" in ruleset, len(neighbours), records, bare_host.leases(), chain.chains

    monkeypatch.setattr(Verbs, "appliers", rows)
    server, pod = bare_host.start(), bare_host.pod()
    conf = {**bare_host.conf, "runtimeConfig": PORTS}
    outcome = bare_host.cni("ADD", "c1", pod, conf=conf)
    assert outcome.code == 1 and outcome.json["msg"] == "no chain"
    assert left() == (False, 0, 0, 0, set()) and bare_host.veths() == []
    chain.refuses = False
    result = bare_host.add("c1", pod, conf=conf)
    (veth,) = bare_host.veths()
    assert left() == (True, 2, 1, 1, {veth})
    checked = {**conf, "prevResult": result}
    assert bare_host.cni("CHECK", "c1", pod, conf=checked).code == 0
    chain.chains.clear()
    assert f"chain of {veth} is missing" in bare_host.cni("CHECK", "c1", pod, conf=checked).json["msg"]
    chain.chains.add(veth)
    assert bare_host.cni("DEL", "c1", pod, conf=conf).code == 0
    bare_host.settle()
    assert left() == (False, 0, 0, 0, set()) and bare_host.veths() == []
