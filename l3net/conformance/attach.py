"""Cases on ADD."""

from __future__ import annotations

import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from l3net.conformance.bench import Bench, CaseFailed, NotApplicable, require
from l3net.conformance.protocol import since
from l3net.conformance.verdict import case


def given(result: dict[str, Any]) -> list[str]:
    return [entry["address"] for entry in result["ips"]]


@case("add", "the interface is up with exactly the result's addresses")
def addresses_match(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    result = bench.add(container, pod)
    (link,) = bench.ip(pod, "link", "show", "dev", "eth0")
    require("UP" in link["flags"], "the interface is down")
    seen = bench.addresses(pod)
    require(seen == set(given(result)), f"kernel {sorted(seen)}, result {sorted(given(result))}")
    bench.delete(container, pod)


@case("add", "ips.interface names the interface in the sandbox; host interfaces have an empty sandbox")
def indices_match(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    result = bench.add(container, pod)
    for entry in result["ips"]:
        interface = result["interfaces"][entry["interface"]]
        require(interface.get("sandbox") == f"/run/netns/{pod}", "its sandbox is not CNI_NETNS")
        require(interface["name"] == "eth0", "it is not CNI_IFNAME")
    names = {link["ifname"] for link in bench.ip(bench.host, "link", "show")}
    outside = [entry["name"] for entry in result["interfaces"] if not entry.get("sandbox")]
    require(outside and set(outside) <= names, f"host interfaces {outside} are not all there")
    bench.delete(container, pod)


@case("add", "MAC addresses in the result are the kernel's")
def macs_match(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    result = bench.add(container, pod)
    for entry in result["interfaces"]:
        netns = pod if entry.get("sandbox") else bench.host
        (link,) = bench.ip(netns, "link", "show", "dev", entry["name"])
        require(link["address"] == entry["mac"], f"{entry['name']}: {link['address']}, not {entry['mac']}")
    bench.delete(container, pod)


@case("add", "routes in the result are in the sandbox")
def routes_match(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    result = bench.add(container, pod)
    seen = set()
    for version in ("-4", "-6"):
        for route in bench.ip(pod, version, "route"):
            everything = "0.0.0.0/0" if version == "-4" else "::/0"
            seen.add(everything if route["dst"] == "default" else route["dst"].removesuffix("/32"))
    for route in result.get("routes", []):
        wanted = route["dst"].removesuffix("/32").removesuffix("/128")
        require(wanted in seen, f"{route['dst']} is missing")
    bench.delete(container, pod)


@case("add", "a repeated ADD is an error and disturbs nothing")
def repeated(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    first, before = bench.add(container, pod), bench.host_veths()
    bench.call("ADD", container, pod).error()
    require(bench.addresses(pod) == set(given(first)), "the addresses changed")
    require(bench.host_veths() == before, "host interfaces changed")
    bench.delete(container, pod)


@case("add", "an interface that exists is left alone, and no address is lost to the failure")
def interface_exists(bench: Bench) -> None:
    with bench.small() as conf:
        pod = bench.pod()
        first = bench.name()
        bench.add(first, pod, conf)
        for _ in range(6):
            bench.call("ADD", bench.name(), pod, conf).error()
        second, other = bench.name(), bench.pod()
        outcome = bench.call("ADD", second, other, conf)
        bench.delete(first, pod, conf)
        require(outcome.code == 0, "six failed ADDs used up a /29")
        bench.delete(second, other, conf)


@case("add", "the same container takes a second interface")
def second_interface(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    one = bench.add(container, pod)
    two = bench.add(container, pod, ifname="net1")
    require(not set(given(one)) & set(given(two)), "both have the same address")
    bench.delete(container, pod, ifname="net1")
    require(bench.addresses(pod) == set(given(one)), "deleting the second disturbed the first")
    bench.delete(container, pod)


@case("add", "a bad namespace is an error and leaves nothing")
def bad_netns(bench: Bench) -> None:
    before = bench.host_veths()
    plain = bench.base / "plain"
    plain.write_text("")
    for path in ("/run/netns/none-such-l3net", str(plain), "/proc/self/ns/mnt"):
        bench.call("ADD", bench.name(), None, CNI_NETNS=path).error()
    require(bench.host_veths() == before, "a host interface was left")


@case("add", "the plugin's own namespace is refused with code 8 before any change")
def own_netns(bench: Bench) -> None:
    before = {link["ifname"] for link in bench.ip(bench.host, "link", "show")}
    bench.call("ADD", bench.name(), None, CNI_NETNS=f"/run/netns/{bench.host}").error(8)
    after = {link["ifname"] for link in bench.ip(bench.host, "link", "show")}
    require("eth0" not in after and after - before <= {str(bench.conf.get("bridge", ""))}, "links were made")


@case("add", "an exhausted pool is a clear error without a host interface")
def exhausted(bench: Bench) -> None:
    with bench.small() as conf:
        held = [(bench.name(), bench.pod()) for _ in range(5)]
        found = [given(bench.add(*each, conf))[0] for each in held]
        before = bench.host_veths()
        pod = bench.pod()
        bench.call("ADD", bench.name(), pod, conf).error()
        require(bench.host_veths() == before and not bench.links(pod), "an interface was left")
        for each in held:
            bench.delete(*each, conf)
        plain = {address.split("/")[0] for address in found}
        bad = plain & {"10.99.0.0", "10.99.0.1", "10.99.0.7"}
        require(len(plain) == 5 and not bad, f"a /29 gave {sorted(plain)}")


@case("add", "a requested address (capability ips) is honoured; taken or out of range is an error")
def requested_address(bench: Bench) -> None:
    with bench.small() as conf:
        asking = {**conf, "runtimeConfig": {"ips": ["10.99.0.4"]}}
        container, pod = bench.name(), bench.pod()
        result = bench.add(container, pod, asking)
        try:
            require(given(result)[0].split("/")[0] == "10.99.0.4", f"got {given(result)}")
            bench.call("ADD", bench.name(), bench.pod(), asking).error()
            outside = {**conf, "runtimeConfig": {"ips": ["10.1.2.3"]}}
            bench.call("ADD", bench.name(), bench.pod(), outside).error()
        finally:
            bench.delete(container, pod, asking)


@case("add", "a requested MAC (capability mac) is honoured")
def requested_mac(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    conf = bench.having(runtimeConfig={"mac": "02:11:22:33:44:55"})
    bench.add(container, pod, conf)
    (link,) = bench.ip(pod, "link", "show", "dev", "eth0")
    bench.delete(container, pod, conf)
    require(link["address"] == "02:11:22:33:44:55", f"got {link['address']}")


@case("add", "forty parallel ADDs get distinct addresses")
def parallel(bench: Bench) -> None:
    pods = [(bench.name(), bench.pod()) for _ in range(40)]
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda each: bench.call("ADD", *each), pods))
        found = [address for outcome in results for address in given(outcome.result())]
        list(pool.map(lambda each: bench.delete(*each), pods))
    require(len(found) == len(set(found)), "an address was given twice")


@case("add", "killed anywhere in ADD, DEL leaves nothing")
def killed(bench: Bench) -> None:
    before = bench.host_veths()
    for step in range(12):
        container, pod = bench.name(), bench.pod()
        process = bench.spawn("ADD", container, pod)
        with process:
            if process.stdin is not None:
                process.stdin.write(bench.body(None))
                process.stdin.close()
            time.sleep(step * 0.0015)
            process.kill()
        bench.delete(container, pod)
        require(not bench.links(pod), f"killed after {step * 1.5:g} ms: an interface was left in the pod")
    require(bench.host_veths() == before, "host interfaces were left")


FAKE_IPAM = """#!/bin/sh
cat > {log}.stdin.$CNI_COMMAND
echo "$CNI_COMMAND" >> {log}
case "$CNI_COMMAND" in
ADD) {add} ;;
esac
"""


def fake_ipam(bench: Bench, add: str) -> tuple[dict[str, Any], Path]:
    """A configuration whose IPAM is a script that logs its calls."""
    if bench.agent:
        raise NotApplicable("addresses are the agent's; the configuration has no ipam")
    directory = bench.base / bench.name("fake")
    directory.mkdir()
    log = directory / "log"
    log.touch()
    script = directory / "fake-ipam"
    script.write_text(FAKE_IPAM.format(log=log, add=add))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    bench.environment["CNI_PATH"] = f"{directory}:{bench.cni_path}"
    return bench.having(ipam={"type": "fake-ipam"}), log


@case("delegate", "a failing IPAM plugin fails the ADD, and its DEL is called")
def ipam_fails(bench: Bench) -> None:
    conf, log = fake_ipam(bench, """echo '{"code": 107, "msg": "no"}'; exit 1""")
    pod, before = bench.pod(), bench.host_veths()
    bench.call("ADD", bench.name(), pod, conf).error()
    require(bench.host_veths() == before and not bench.links(pod), "an interface was left")
    require(log.read_text().split() == ["ADD", "DEL"], f"it was called for {log.read_text().split()}")


@case("delegate", "an IPAM plugin that gives no address fails the ADD")
def ipam_empty(bench: Bench) -> None:
    conf, _ = fake_ipam(bench, """echo '{"cniVersion": "0.4.0", "ips": []}'""")
    pod, before = bench.pod(), bench.host_veths()
    bench.call("ADD", bench.name(), pod, conf).error()
    require(bench.host_veths() == before and not bench.links(pod), "an interface was left")


@case("delegate", "ADD and DEL reach the IPAM plugin")
def ipam_called(bench: Bench) -> None:
    answer = '{"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.66.0.9/24"}]}'
    conf, log = fake_ipam(bench, f"echo '{answer}'")
    container, pod = bench.name(), bench.pod()
    result = bench.add(container, pod, conf)
    require(given(result) == ["10.66.0.9/24"], f"the result has {given(result)}")
    require(bench.addresses(pod) == {"10.66.0.9/24"}, "the pod has not the address given")
    bench.delete(container, pod, conf)
    require(log.read_text().split() == ["ADD", "DEL"], f"it was called for {log.read_text().split()}")


@case("delegate", "STATUS and GC reach the IPAM plugin")
def ipam_status(bench: Bench) -> None:
    since(bench, "1.1.0")
    conf, log = fake_ipam(bench, ":")
    conf["cniVersion"] = "1.1.0"
    bench.call("STATUS", None, None, conf, None).silence()
    bench.call("GC", None, None, {**conf, "cni.dev/valid-attachments": []}, None).silence()
    require({"STATUS", "GC"} <= set(log.read_text().split()), f"called for {log.read_text().split()}")


@case("chain", "an earlier plugin's result is kept in ours")
def chained(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    earlier = {
        "cniVersion": bench.conf["cniVersion"],
        "interfaces": [{"name": "dummy0", "mac": "02:00:00:00:00:09", "sandbox": f"/run/netns/{pod}"}],
        "ips": [{"version": "4", "address": "192.0.2.9/24", "interface": 0}],
    }
    if not str(bench.conf["cniVersion"]).startswith("0."):
        del earlier["ips"][0]["version"]
    result = bench.add(container, pod, bench.having(prevResult=earlier))
    bench.delete(container, pod)
    require(result["interfaces"][0]["name"] == "dummy0", "the earlier interface is gone")
    require("192.0.2.9/24" in given(result), "the earlier address is gone")
    for entry in result["ips"]:
        name = result["interfaces"][entry["interface"]]["name"]
        require(name == ("dummy0" if entry["address"] == "192.0.2.9/24" else "eth0"), "an index is wrong")


@case("add", "the pod reaches its gateway as soon as ADD answers")
def reaches_gateway(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    result = bench.add(container, pod)
    gateways = [entry["gateway"] for entry in result["ips"] if entry.get("gateway")]
    if not gateways:
        raise NotApplicable("no gateway in the result")
    try:
        for gateway in gateways:
            argv = ["ip", "netns", "exec", pod, "ping", "-c", "1", "-W", "1", gateway]
            if subprocess.run(argv, capture_output=True, check=False).returncode:
                raise CaseFailed(f"no answer from {gateway} to the first packet")
    finally:
        bench.delete(container, pod)
