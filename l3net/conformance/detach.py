"""Cases on DEL, CHECK, STATUS and GC."""

from __future__ import annotations

from typing import Any

from l3net.conformance.attach import given
from l3net.conformance.bench import Bench, require, sh
from l3net.conformance.protocol import since
from l3net.conformance.verdict import case


@case("del", "DEL is silent, and repeats")
def repeats(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    before = bench.host_veths()
    bench.add(container, pod)
    for _ in range(3):
        bench.delete(container, pod)
    require(bench.host_veths() == before and not bench.links(pod), "an interface was left")


@case("del", "DEL of what was never added succeeds")
def never_added(bench: Bench) -> None:
    bench.delete(bench.name(), bench.pod())


@case("del", "DEL frees everything with CNI_NETNS empty, unset or vanished")
def without_netns(bench: Bench) -> None:
    with bench.small() as conf:
        before = bench.host_veths()
        for variant in ("empty", "unset", "vanished") * 2:  # six times over five addresses
            container, pod = bench.name(), bench.pod()
            bench.add(container, pod, conf)
            if variant == "vanished":
                sh("ip", "netns", "del", pod)
                bench.delete(container, pod, conf)
            elif variant == "empty":
                bench.delete(container, None, conf, CNI_NETNS="")
            else:
                bench.delete(container, None, conf)
            if bench.agent and bench.server is not None:
                require(not bench.server.leases.leases(), f"{variant}: the lease was left")
        require(bench.host_veths() == before, "a host interface was left")


@case("del", "DEL with CNI_NETNS empty takes the interface away")
def empty_netns_interface(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    before = bench.host_veths()
    bench.add(container, pod)
    bench.delete(container, None, CNI_NETNS="")
    require(bench.host_veths() == before, "the host interface was left")


@case("del", "DEL succeeds when the interface is gone already")
def interface_gone(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    bench.add(container, pod)
    sh("ip", "-n", pod, "link", "del", "eth0")
    bench.delete(container, pod)


@case("del", "DEL succeeds after the configuration's subnet changed")
def subnet_changed(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    before = bench.host_veths()
    bench.add(container, pod)
    with bench.small() as conf:
        bench.delete(container, pod, {**conf, "name": bench.conf["name"]})
    require(bench.host_veths() == before, "the host interface was left")


@case("del", "a stale DEL does not take a newer sandbox's interface")
def stale(bench: Bench) -> None:
    pod, old, new = bench.pod(), bench.name("old"), bench.name("new")
    bench.add(old, pod)
    bench.delete(old, pod)
    result = bench.add(new, pod)
    bench.delete(old, pod)
    kept = bench.addresses(pod)
    bench.delete(new, pod)
    require(kept == set(given(result)), "the newer sandbox lost its interface or address")


def check_conf(bench: Bench, result: dict[str, Any]) -> dict[str, Any]:
    return bench.having(prevResult=result)


@case("check", "CHECK passes straight after ADD, silently")
def passes(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    conf = check_conf(bench, bench.add(container, pod))
    outcome = bench.call("CHECK", container, pod, conf)
    bench.delete(container, pod)
    outcome.silence()


@case("check", "CHECK without prevResult is an error")
def no_previous(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    bench.add(container, pod)
    outcome = bench.call("CHECK", container, pod)
    bench.delete(container, pod)
    outcome.error()


def broken(bench: Bench, *argv: str) -> None:
    """CHECK after something was broken by `ip -n` (`POD` and `PORT` are filled in) must fail."""
    container, pod = bench.name(), bench.pod()
    before = bench.host_veths()
    result = bench.add(container, pod)
    (port,) = bench.host_veths() - before
    address = given(result)[0]
    words = {"POD": pod, "HOST": bench.host, "PORT": port, "ADDRESS": address}
    sh("ip", "-n", *(words.get(word, word) for word in argv))
    outcome = bench.call("CHECK", container, pod, check_conf(bench, result))
    bench.delete(container, pod)
    outcome.error()


@case("check", "CHECK notices a missing address")
def missing_address(bench: Bench) -> None:
    broken(bench, "POD", "addr", "del", "ADDRESS", "dev", "eth0")


@case("check", "CHECK notices a missing route")
def missing_route(bench: Bench) -> None:
    broken(bench, "POD", "route", "del", "default")


@case("check", "CHECK notices a missing interface")
def missing_interface(bench: Bench) -> None:
    broken(bench, "POD", "link", "del", "eth0")


@case("check", "CHECK notices a host interface off its bridge")
def off_bridge(bench: Bench) -> None:
    broken(bench, "HOST", "link", "set", "PORT", "nomaster")


@case("check", "CHECK tolerates what a later plugin changed in prevResult")
def tolerates(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    result = bench.add(container, pod)
    sh("ip", "-n", pod, "link", "set", "eth0", "address", "02:00:00:00:00:77")
    for entry in result["interfaces"]:
        if entry.get("sandbox"):
            entry["mac"] = "02:00:00:00:00:77"
    outcome = bench.call("CHECK", container, pod, check_conf(bench, result))
    bench.delete(container, pod)
    outcome.silence()


@case("check", "CHECK in a version before 0.4.0 is refused with code 1")
def check_too_old(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    conf = bench.having(cniVersion="0.3.1")
    result = bench.add(container, pod, conf)
    outcome = bench.call("CHECK", container, pod, {**conf, "prevResult": result})
    bench.delete(container, pod, conf)
    outcome.error(1)


@case("status", "STATUS is silent when ADD would work")
def status_ready(bench: Bench) -> None:
    since(bench, "1.1.0")
    bench.call("STATUS", None, None, bench.having(cniVersion="1.1.0"), None).silence()


@case("status", "STATUS answers 50 when the configuration's own pool is full, 0 when the node's blocks are")
def status_full(bench: Bench) -> None:
    since(bench, "1.1.0")
    with bench.small() as small:
        conf = {**small, "cniVersion": "1.1.0"}
        held = [(bench.name(), bench.pod()) for _ in range(5)]
        for each in held:
            bench.add(*each, conf)
        outcome = bench.call("STATUS", None, None, conf, None)
        for each in held:
            bench.delete(*each, conf)
        if bench.server is None:
            outcome.error(50)
        else:  # a runtime would call the node, and with it the pods that run there, not ready
            outcome.silence()


@case("status", "STATUS in a version before 1.1.0 is refused with code 1")
def status_too_old(bench: Bench) -> None:
    bench.call("STATUS", None, None, bench.having(cniVersion="1.0.0"), None).error(1)


def keep(*containers: str) -> dict[str, Any]:
    return {"cni.dev/valid-attachments": [{"containerID": each, "ifname": "eth0"} for each in containers]}


@case("gc", "GC frees exactly what is not listed")
def gc_frees(bench: Bench) -> None:
    since(bench, "1.1.0")
    conf = bench.having(cniVersion="1.1.0")
    live, dead, pod, other = bench.name(), bench.name(), bench.pod(), bench.pod()
    result = bench.add(live, pod, conf)
    before = bench.host_veths()
    bench.add(dead, other, conf)
    bench.call("GC", None, None, {**conf, **keep(live)}, None).silence()
    require(bench.host_veths() == before, "the unlisted attachment's host interface is still there")
    require(bench.addresses(pod) == set(given(result)), "the listed attachment suffered")
    bench.delete(live, pod, conf)


@case("gc", "GC without the list frees nothing; with an empty list everything")
def gc_empty(bench: Bench) -> None:
    since(bench, "1.1.0")
    conf = bench.having(cniVersion="1.1.0")
    container, pod = bench.name(), bench.pod()
    before = bench.host_veths()
    bench.add(container, pod, conf)
    bench.call("GC", None, None, conf, None).silence()
    require(bench.links(pod) == {"eth0"}, "a GC without a list took a live interface")
    bench.call("GC", None, None, {**conf, **keep()}, None).silence()
    require(bench.host_veths() == before, "an interface was left")


@case("gc", "GC leaves other networks alone")
def gc_other_network(bench: Bench) -> None:
    since(bench, "1.1.0")
    conf = bench.having(cniVersion="1.1.0")
    container, pod = bench.name(), bench.pod()
    bench.add(container, pod, conf)
    other = {**conf, "name": f"{conf['name']}-other", **keep()}
    bench.call("GC", None, None, other, None).silence()
    kept = bench.links(pod)
    bench.delete(container, pod, conf)
    require(kept == {"eth0"}, "another network's interface was taken")
