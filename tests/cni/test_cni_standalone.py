"""Without an agent: the keys of bridge and host-local, delegation both ways, masquerade and spoof check."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from l3net.shell.files.leases import SqliteLeases

if TYPE_CHECKING:
    from conftest import Host, Outcome

pytestmark = pytest.mark.netns

REFERENCE = Path("/usr/lib/cni")
needs_reference = pytest.mark.skipif(
    not (REFERENCE / "bridge").exists(), reason="reference plugins are not installed"
)


def conf(host: Host, **changes: Any) -> dict[str, Any]:
    ipam = {
        "type": "l3net-ipam",
        "dataDir": str(host.base / "data"),
        "ranges": [[{"subnet": "10.71.0.0/24"}], [{"subnet": "fd00:71::/64"}]],
        "routes": [{"dst": "192.0.2.0/24"}],
    }
    found = {"cniVersion": "1.0.0", "name": "plain", "type": "l3net-cni", "bridge": "plain0"}
    return {**found, "isGateway": True, "ipam": {**ipam, **changes.pop("ipam", {})}, **changes}


def test_a_call_costs_no_heavy_import() -> None:
    """It is a process of its own, and a container waits for it."""
    code = (
        "import sys; import l3net.cli.standalone;"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('l3net.')};"
        "heavy = {'agent', 'bgp', 'doctor', 'explain', 'fib', 'firewall', 'kube', 'ports', 'services'};"
        "print(sorted(rooms & heavy))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def other_plugin(host: Host, name: str, command: str, pod: str, body: dict[str, Any]) -> Any:
    """Execute a reference plugin in the host."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_PATH": f"{host.plugin_dir}:{REFERENCE}",
        "L3NET_CNI_HELPERS": str(host.base / "helpers"),  # one is left: its caller is the other plugin
    }
    argv = ["ip", "netns", "exec", host.name, str(REFERENCE / name)]
    done = subprocess.run(
        argv, input=json.dumps(body).encode(), capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout) if done.stdout else None


def test_bridge_keys(bare_host: Host, ping: Any) -> None:
    host, one, two = bare_host, bare_host.pod(), bare_host.pod()
    changes: dict[str, Any] = {"isDefaultGateway": True, "mtu": 1400, "hairpinMode": True}
    result = host.add("c1", one, conf=conf(host, **changes))
    host.add("c2", two, conf=conf(host, **changes))
    assert [entry["address"] for entry in result["ips"]] == ["10.71.0.2/24", "fd00:71::2/64"]
    assert {route["dst"] for route in result["routes"]} == {"192.0.2.0/24", "0.0.0.0/0", "::/0"}
    (link,) = host.ip("link", "show", "dev", "eth0", netns=one)
    assert link["mtu"] == 1400
    port = host.ip("-d", "link", "show", "dev", result["interfaces"][1]["name"])[0]
    assert port["linkinfo"]["info_slave_data"]["hairpin"] is True
    for address in ("10.71.0.1", "10.71.0.3", "fd00:71::1", "fd00:71::3"):
        assert ping(one, address)


def test_port_isolation(bare_host: Host, ping: Any) -> None:
    host, one, two = bare_host, bare_host.pod(), bare_host.pod()
    for name, pod in (("c1", one), ("c2", two)):
        host.add(name, pod, conf=conf(host, portIsolation=True))
    assert ping(one, "10.71.0.1")
    assert not ping(one, "10.71.0.3", "0.3")


def test_force_address(bare_host: Host, run: Any) -> None:
    host = bare_host
    host.add("c1", conf=conf(host))
    run("ip", "-n", host.name, "addr", "del", "10.71.0.1/24", "dev", "plain0")
    run("ip", "-n", host.name, "addr", "add", "10.71.0.99/24", "dev", "plain0")
    pod = host.pod()
    refused = host.cni("ADD", "c2", pod, conf=conf(host))
    assert refused.json["code"] == 104 and "10.71.0.99" in refused.json["msg"]
    assert len(host.veths()) == 1
    host.add("c2", pod, conf=conf(host, forceAddress=True))
    (link,) = host.ip("addr", "show", "dev", "plain0")
    assert "10.71.0.1" in {each["local"] for each in link["addr_info"]}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"vlan": 7}, 2),
        ({"hairpinMode": True, "promiscMode": True}, 7),
        ({"mtu": "big"}, 7),
        ({"isGateway": "yes"}, 7),
        ({"bridge": "a" * 16}, 7),
        ({"ipam": {"ranges": [[{"subnet": "10.71.0.0/33"}]]}}, 7),
        ({"ipam": {"ranges": [[{"subnet": "10.71.0.0/31"}]]}}, 7),
        ({"ipam": {"ranges": [[{"subnet": "10.71.0.0/24"}], [{"subnet": "10.71.0.0/25"}]]}}, 7),
        ({"ipam": {"ranges": [[{"subnet": "10.71.0.0/24", "rangeStart": "10.72.0.1"}]]}}, 7),
        ({"ipam": {"ranges": [[{"subnet": "10.71.0.0/24"}, {"subnet": "fd00::/64"}]]}}, 7),
        ({"ipam": {"type": "none-such"}}, 7),
        ({"ipam": {"resolvConf": "/none/such"}}, 7),
    ],
)
def test_bad_configurations_change_nothing(bare_host: Host, changes: dict[str, Any], code: int) -> None:
    pod = bare_host.pod()
    outcome = bare_host.cni("ADD", "c1", pod, conf=conf(bare_host, **changes))
    assert outcome.code == 1 and outcome.json["code"] == code
    assert [link["ifname"] for link in bare_host.ip("link")] == ["lo"]


def test_delete_when_the_configuration_broke(bare_host: Host) -> None:
    pod = bare_host.pod()
    bare_host.add("c1", pod, conf=conf(bare_host))
    broken = conf(bare_host, mtu="big")
    store = SqliteLeases(bare_host.base / "data/leases.db")
    assert len(store.leases()) == 1, "the control"
    assert bare_host.cni("DEL", "c1", pod, conf=broken).code == 0
    assert bare_host.veths() == []
    assert store.leases() == [], "it is looked for where the configuration has its leases"
    store.close()


def test_resolv_conf_and_ip_ranges(bare_host: Host, tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("# x\nnameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:5\n")
    body = conf(bare_host, ipam={"resolvConf": str(resolv), "ranges": None})
    body["runtimeConfig"] = {"ipRanges": [[{"subnet": "10.72.0.0/24", "rangeStart": "10.72.0.50"}]]}
    result = bare_host.add("c1", conf=body)
    assert result["ips"][0]["address"] == "10.72.0.50/24"
    assert result["dns"]["nameservers"] == ["192.0.2.53"] and result["dns"]["options"] == ["ndots:5"]


def outside(host: Host, run: Any) -> str:
    """A machine beyond the host that knows no way back to the pods."""
    name = host.pod()
    run("ip", "-n", host.name, "link", "add", "up0", "type", "veth", "peer", "name", "eth9", "netns", name)
    for netns, link, number in ((host.name, "up0", 1), (name, "eth9", 2)):
        run("ip", "-n", netns, "addr", "add", f"203.0.113.{number}/24", "dev", link)
        run("ip", "-n", netns, "addr", "add", f"2001:db8:9::{number}/64", "dev", link, "nodad")
        run("ip", "-n", netns, "link", "set", link, "up")
    return name


@pytest.mark.parametrize("masquerade", [True, False])
def test_masquerade(bare_host: Host, run: Any, ping: Any, masquerade: bool) -> None:
    host, pod = bare_host, bare_host.pod()
    outside(host, run)
    body = conf(host, isDefaultGateway=True, ipMasq=masquerade)
    host.add("c1", pod, conf=body)
    wait = "5" if masquerade else "0.3"
    assert ping(pod, "203.0.113.2", wait) is masquerade
    assert ping(pod, "2001:db8:9::2", wait) is masquerade
    host.cni("DEL", "c1", pod, conf=body)
    assert "10.71.0.2" not in run("ip", "netns", "exec", host.name, "nft", "list", "ruleset")


@pytest.mark.parametrize("pinned", [True, False])
def test_spoof_check(bare_host: Host, run: Any, ping: Any, pinned: bool) -> None:
    host, pod = bare_host, bare_host.pod()
    host.add("c1", pod, conf=conf(host, macspoofchk=pinned))
    assert ping(pod, "10.71.0.1")
    run("ip", "-n", pod, "link", "set", "eth0", "address", "02:00:00:00:00:66")
    assert ping(pod, "10.71.0.1", "0.3") is not pinned


@needs_reference
def test_delegating_to_host_local(bare_host: Host, tmp_path: Path) -> None:
    data = tmp_path / "host-local"
    body = conf(bare_host)
    body["ipam"] = {"type": "host-local", "dataDir": str(data), "subnet": "10.73.0.0/24"}
    pod = bare_host.pod()
    result = bare_host.add("c1", pod, conf=body)
    assert result["ips"][0]["address"] == "10.73.0.2/24"
    assert (data / "plain" / "10.73.0.2").exists()
    checked = bare_host.cni("CHECK", "c1", pod, conf={**body, "prevResult": result})
    assert checked.code == 0, checked
    assert bare_host.cni("ADD", "c1", pod, conf=body).json["code"] == 101
    assert (data / "plain" / "10.73.0.2").exists()  # the repeated ADD did not release it
    assert bare_host.cni("DEL", "c1", pod, conf=body).code == 0
    assert not (data / "plain" / "10.73.0.2").exists() and bare_host.veths() == []


@needs_reference
@pytest.mark.parametrize("main", ["bridge", "ptp", "macvlan"])
def test_ipam_of_a_reference_plugin(bare_host: Host, main: str, run: Any) -> None:
    host, pod = bare_host, bare_host.pod()
    if main == "macvlan":
        run("ip", "-n", host.name, "link", "add", "lower0", "type", "veth", "peer", "name", "lower1")
        made = ["ip", "-n", host.name, "link", "add", "link", "lower0", "name", "try0", "type", "macvlan"]
        if subprocess.run(made, capture_output=True, check=False).returncode:
            pytest.skip("this kernel has no macvlan")
        run("ip", "-n", host.name, "link", "del", "try0")
        for end in ("lower0", "lower1"):
            run("ip", "-n", host.name, "link", "set", end, "up")
    # with its gateway: the reference's CHECK does not find a route it gave a gateway itself
    routes = [{"dst": "192.0.2.0/24", "gw": "10.71.0.1"}]
    body = {**conf(host, ipam={"routes": routes}), "type": main, "master": "lower0"}
    result = other_plugin(host, main, "ADD", pod, body)
    assert [entry["address"] for entry in result["ips"]] == ["10.71.0.2/24", "fd00:71::2/64"]
    other_plugin(host, main, "CHECK", pod, {**body, "prevResult": result})
    other_plugin(host, main, "DEL", pod, body)
    again = other_plugin(host, main, "ADD", pod, body)
    assert again["ips"][0]["address"] == "10.71.0.3/24"  # the first is in its cool-down
    other_plugin(host, main, "DEL", pod, body)


@needs_reference
def test_ipam_over_the_agents_blocks(host: Host) -> None:
    """Without ranges of its own, l3net-ipam asks the agent."""
    pod = host.pod()
    socket = str(host.base / "run" / "cni.sock")
    body = {"cniVersion": "1.0.0", "name": "other", "type": "bridge", "bridge": "other0"}
    body |= {"ipam": {"type": "l3net-ipam"}}
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_PATH": f"{host.plugin_dir}:{REFERENCE}",
        "L3NET_CNI_SOCKET": socket,
    }

    def call(command: str) -> Outcome:
        done = subprocess.run(
            ["ip", "netns", "exec", host.name, str(REFERENCE / "bridge")],
            input=json.dumps(body).encode(),
            capture_output=True,
            env={**environment, "CNI_COMMAND": command},
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done  # type: ignore[return-value]

    result = json.loads(call("ADD").stdout)
    assert result["ips"][0]["address"] == "10.244.0.2/20" and host.leases() == 1
    assert host.server
    assert not host.inside(host.server.audit).leases  # no interface of ours to compare with
    assert not host.inside(host.server.audit).leases
    call("DEL")
    assert host.leases() == 0


def test_another_boot_frees_the_leases(bare_host: Host) -> None:
    """Standalone has no agent to do it at start: the first call after a boot does."""
    from l3net.ipam.lease import LeaseKey, Wanted
    from l3net.ipam.ranges import block_sets
    from l3net.shell.files.leases import SqliteLeases

    path = bare_host.base / "data" / "leases.db"
    before = SqliteLeases(path, boot="an earlier boot")
    before.assign(Wanted(LeaseKey("plain", "dead", "eth0"), block_sets([])))
    before.close()
    bare_host.add("c1", conf=conf(bare_host))
    after = SqliteLeases(path)
    assert [lease.key.container_id for lease in after.leases()] == ["c1"]
    after.close()
