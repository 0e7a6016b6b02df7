"""What manages a machine's network, beside l3net: NetworkManager, ifupdown, the service of nftables, sysctl.

Each is made to do what administrators and upgrades of packages make it do. What l3net has in the kernel is
then as before, and where nothing of the machine's own network changed, it was so all the time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Protocol


class Machine(Protocol):
    """A node, as root's shell on it."""

    def __call__(self, command: str, *, check: bool = True) -> str: ...


#: All of l3net's in the kernel that others could take away, but for counters and what changes by itself.
THERE = r"""
for family in -4 -6; do
    ip $family -o address show dev l3net0 scope global | sed 's/^[0-9]*: //; s/ *valid_lft.*//'
    ip $family route show proto 108 | sed 's/ pref medium//' | sort
    ip $family rule
done
ip -o link show master l3net0 | sed 's/^[0-9]*: //; s/@.*//' | sort
bridge fdb show br l3net0 | grep permanent | sort
ip neigh show dev l3net0 nud permanent | sort
for table in "inet l3net" "inet l3net_count" "bridge l3net"; do
    nft -s list table $table 2>&1 | grep -E "^table|^	[a-z]|hook|Error" | sort
done
sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.l3net0.forwarding \
    net.ipv4.conf.l3net0.send_redirects
"""
#: Prints what went meanwhile; the watch has begun when it has seen a route come and go.
WATCHED = r"""
exec 3>/run/watched
ip monitor route address >&3 & watcher=$!
until grep -q "Deleted.*192.0.2.1" /run/watched; do
    ip route add 192.0.2.1 dev lo; ip route del 192.0.2.1 dev lo; sleep 0.5
done
{{ {act}; }} >/dev/null
sleep 2; kill $watcher
grep -E "^Deleted.*(proto 108|l3net0)" /run/watched || true
"""
NETWORK_MANAGER = """[connection]
id=uplink
type=ethernet
interface-name={interface}
[ipv4]
method=manual
address1={address4}
{routes4}[ipv6]
method=manual
address1={address6}
{routes6}"""
IFUPDOWN = """auto {interface}
iface {interface} inet static
    address {address4}
{routes4}iface {interface} inet6 static
    address {address6}
    accept_ra 0
    dad-attempts 0
{routes6}"""


def uplink(network: str, interface: str, form: str, route: Callable[[int, str, str], str]) -> str:
    """A manager's configuration of an interface, out of what `ip -batch` is given on a machine of the lab."""
    found = {"interface": interface}
    for version, digits in ((4, r"[\d./]+"), (6, r"[\da-f:/]*:[\da-f:/]*")):
        (address,) = re.findall(rf"^address replace ({digits}) dev {interface}\b", network, re.MULTILINE)
        ways = re.findall(rf"^route replace ({digits}) .*via (\S+) dev {interface}$", network, re.MULTILINE)
        found[f"address{version}"] = address
        found[f"routes{version}"] = "".join(route(n, *way) for n, way in enumerate(ways, start=1))
    return form.format(**found)


def written(path: str, text: str, mode: str = "644") -> str:
    """A command that writes a file."""
    return f"install -m {mode} /dev/null {path} && cat >{path} <<'EOT'\n{text}\nEOT\n"


def back(node: Machine, before: str, seconds: float = 600) -> None:
    """Wait until a node has all of l3net's again."""
    deadline = time.monotonic() + seconds
    while (now := node(THERE)) != before:
        lost = "\n".join(sorted(set(before.splitlines()) ^ set(now.splitlines())))
        assert time.monotonic() < deadline, f"not as before:\n{lost}"
        time.sleep(1)


def unmoved(node: Machine, act: str, before: str) -> None:
    """What the machine's manager does takes nothing of l3net's."""
    gone = node(WATCHED.format(act=act))
    assert gone == "", f"{act}\n{gone}"
    assert node(THERE) == before, act


def by_network_manager(node: Machine, interface: str) -> None:
    """The uplink becomes NetworkManager's, who comes to see every interface but Vagrant's."""
    before = node(THERE)
    network = node("cat /etc/l3net-lab/network.ip")
    profile = uplink(network, interface, NETWORK_MANAGER, lambda n, to, via: f"route{n}={to},{via}\n")
    keyfile = "/etc/NetworkManager/system-connections/uplink.nmconnection"
    node(
        "systemctl -q disable l3net-lab-network; rm -f /etc/NetworkManager/conf.d/10-nothing.conf\n"
        + written(
            "/etc/NetworkManager/conf.d/20-lab.conf", "[keyfile]\nunmanaged-devices=interface-name:eth0"
        )
        + written(keyfile, profile, "600")
        + f"ip address flush dev {interface}; systemctl -q enable --now NetworkManager\n"
        + "nmcli connection up uplink"
    )
    back(node, before)
    said = node("nmcli -t -f DEVICE,STATE device")
    states = dict(line.rsplit(":", 1) for line in said.splitlines())
    ours = {name: state for name, state in states.items() if name.startswith(("l3net0", "l3v"))}
    assert states[interface] == "connected" and "l3net0" in ours and len(ours) > 2, states
    assert set(ours.values()) == {"unmanaged"}, states
    for act in (
        "nmcli general reload",
        "nmcli connection reload",
        f"nmcli device reapply {interface}",
        "systemctl restart NetworkManager; nm-online -q -t 600",
    ):
        unmoved(node, act, before)
    for act in (
        "nmcli connection up uplink",
        "nmcli connection down uplink; nmcli connection up uplink",
        "nmcli networking off; nmcli networking on; nm-online -q -t 600",
    ):
        node(act)
        back(node, before)


def by_ifupdown(node: Machine, interface: str) -> None:
    """The uplink becomes ifupdown's, whose restart takes down Vagrant's interface too."""
    before = node(THERE)
    network = node("cat /etc/l3net-lab/network.ip")

    def route(_: int, to: str, via: str) -> str:
        return f"    up ip route replace {to} via {via} dev $IFACE\n"

    stanzas = uplink(network, interface, IFUPDOWN, route)
    node(
        "systemctl -q disable l3net-lab-network\n"
        f"cat >>/etc/network/interfaces <<'EOT'\n{stanzas}\nEOT\n"
        f"ip address flush dev {interface}; ifup {interface}"
    )
    back(node, before)
    unmoved(node, "ifup -a; ifquery --state", before)
    node(f"ifdown {interface}; ifup {interface}")
    back(node, before)
    node("systemd-run -q --unit again --property RemainAfterExit=yes systemctl restart networking")
    deadline = time.monotonic() + 600
    while "exited" not in node("systemctl show --property SubState again", check=False):
        assert time.monotonic() < deadline, "networking.service does not start again"
        time.sleep(1)
    node("systemctl stop again")
    back(node, before)


def flushed(node: Machine) -> None:
    """nftables' service, whose configuration in Debian begins by `flush ruleset`."""
    before = node(THERE)
    assert "\nflush ruleset\n" in node("cat /etc/nftables.conf")
    for verb in ("start", "reload", "restart"):
        node(f"systemctl {verb} nftables")
        back(node, before)
    node("systemctl stop nftables")
    back(node, before)


def set_again(node: Machine) -> None:
    """sysctl's files, one of which turns forwarding off."""
    before = node(THERE)
    unmoved(node, "sysctl -q --system; systemctl restart systemd-sysctl", before)
    off = "net.ipv4.ip_forward = 0\nnet.ipv6.conf.all.forwarding = 0\n"
    node(written("/etc/sysctl.d/60-hardened.conf", off))
    for act in ("sysctl -q --system", "systemctl restart systemd-sysctl"):
        node(act)
        back(node, before)
    node("rm /etc/sysctl.d/60-hardened.conf")
