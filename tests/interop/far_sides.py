"""FRR, BIRD, GoBGP and OpenBGPD as the far side: configured from one description, read in one shape."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from far_openbgpd import OpenBgpd
from far_side import ROUTER_ID, FarSession, FarSide, Originated, Router, Seen

from l3net.lab import rib_follower
from l3net.lab.host import Host, python

__all__ = [
    "FAR_SIDES",
    "ROUTER_ID",
    "AnyFarSide",
    "Bird",
    "FarSession",
    "Frr",
    "Gobgp",
    "OpenBgpd",
    "Originated",
    "Router",
    "Seen",
]


class Frr(FarSide):
    kind = "frr"

    def start(
        self,
        sessions: Iterable[FarSession],
        originated: Iterable[Originated],
        *,
        port: int = 179,
        again: bool = False,
    ) -> None:
        self.start_with(_frr_config(list(sessions), list(originated)), port=port)

    def start_with(self, text: str, *, port: int = 179) -> None:
        """Run it with a configuration of the test's own."""
        config = self.write("frr.conf", text)
        self.write("vtysh.conf", "")
        sockets = [self.path(f"/run/frr/{name}") for name in ("zserv.api", "bgpd.vty")]
        for socket in sockets:
            socket.unlink(missing_ok=True)
        self.spawn("zebra", ["zebra", "-A", "127.0.0.1", "-P", "0"])
        self.wait(sockets[0].exists, "zebra")
        self.spawn("bgpd", ["bgpd", "-f", config, "-A", "127.0.0.1", "-P", "0", "-p", str(port)])
        self.wait(sockets[1].exists, "bgpd")

    def _vtysh(self, command: str) -> str:
        return self.run(["vtysh", "-c", command], check=False)

    def _path(self, prefix: str) -> dict[str, Any] | None:
        version = 6 if ":" in prefix else 4
        try:
            answer = json.loads(self._vtysh(f"show bgp ipv{version} unicast {prefix} json"))
        except ValueError:
            return None
        paths = [path for path in answer.get("paths", ()) if "peer" in path and not path.get("sourced")]
        return paths[0] if paths else None

    def seen(self, prefix: str) -> Seen | None:
        path = self._path(prefix)
        if path is None:
            return None
        communities = path.get("community", {}).get("string", "").split()
        communities += path.get("largeCommunity", {}).get("string", "").split()
        hops = [hop["ip"] for hop in path["nexthops"] if hop.get("scope") != "link-local"]
        segments = path.get("aspath", {}).get("string", "")
        return Seen(
            hops[0],
            tuple(int(number) for number in re.findall(r"\d+", segments)),
            frozenset(communities),
            path.get("metric", path.get("med")),
            path.get("locPrf"),
            _frr_extended(path.get("extendedCommunity", {}).get("string", "")),
        )

    def stale(self, prefix: str) -> bool:
        return bool((self._path(prefix) or {}).get("stale"))

    def notify(self, remote: str) -> None:
        self.run(["vtysh", "-c", f"clear bgp {remote}"])


def _frr_extended(text: str) -> frozenset[str]:
    """FRR does not tell a transitive link bandwidth from another."""
    names = {"RT": "rt", "SoO": "soo", "LB": "bandwidth"}
    found = re.findall(r"(RT|SoO|LB):([\d.]+):(\d+)", text)
    return frozenset(f"{names[name]}:{administrator}:{value}" for name, administrator, value in found)


def _frr_set(extended: Iterable[str]) -> list[str]:
    """The lines of a route-map; those of one kind stand in one, since a second would replace the first."""
    lines: list[str] = []
    for kind in ("rt", "soo"):
        values = [each.partition(":")[2] for each in extended if each.startswith(f"{kind}:")]
        lines += [f" set extcommunity {kind} {' '.join(values)}"] if values else []
    for each in extended:
        kind, _, value = each.split(":")
        if kind.startswith("bandwidth"):  # in Mbit/s
            which = "" if kind == "bandwidth-transitive" else " non-transitive"
            lines.append(f" set extcommunity bandwidth {int(value) * 8 // 1_000_000}{which}")
    return lines


def _frr_config(sessions: list[FarSession], originated: list[Originated]) -> str:
    lines = ["hostname far"]
    tags = sorted({(one.community, one.extended) for one in originated if one.community or one.extended})
    for number, (tag, extended) in enumerate(tags):
        lines.append(f"route-map TAG{number} permit 10")
        lines += [f" set community {tag}"] if tag else []
        lines += [*_frr_set(extended), "exit"]
    lines += [
        f"router bgp {sessions[0].local_as}",
        f" bgp router-id {ROUTER_ID}",
        " no bgp ebgp-requires-policy",
        " no bgp default ipv4-unicast",
        " no bgp network import-check",
        " bgp graceful-restart" if sessions[0].restart_time else " bgp graceful-restart-disable",
    ]
    if sessions[0].preserves and sessions[0].restart_time:
        lines.append(" bgp graceful-restart preserve-fw-state")
    for session in sessions:
        who = f" neighbor {session.remote}"
        lines += [
            f"{who} remote-as {session.remote_as}",
            f"{who} timers 3 9",
            f"{who} timers connect 1",
            f"{who} update-source {session.local}",
        ]
        if session.password:
            lines.append(f"{who} password {session.password}")
        if session.extended:
            lines.append(f"{who} capability extended-nexthop")
        if session.gtsm:
            lines.append(f"{who} ttl-security hops 1")
        if session.multihop is not None:
            lines.append(f"{who} ebgp-multihop {session.multihop}")
        if not session.dials:
            lines.append(f"{who} passive")
        if session.remote_port != 179:
            lines.append(f"{who} port {session.remote_port}")
    for version in (4, 6):
        lines.append(f" address-family ipv{version} unicast")
        lines += [f"  neighbor {each.remote} activate" for each in sessions if version in each.carried]
        for one in originated:
            if one.version == version:
                key = (one.community, one.extended)
                tag = f" route-map TAG{tags.index(key)}" if key in tags else ""
                lines.append(f"  network {one.prefix}{tag}")
        lines.append(" exit-address-family")
    return "\n".join(lines) + "\n"


class Bird(FarSide):
    kind = "bird"

    def start(
        self,
        sessions: Iterable[FarSession],
        originated: Iterable[Originated],
        *,
        port: int = 179,
        again: bool = False,
    ) -> None:
        config = self.write("bird.conf", _bird_config(list(sessions), list(originated), port))
        socket = self.path("/run/bird/bird.ctl")
        socket.unlink(missing_ok=True)
        # -R: recover from a graceful restart.
        self.spawn("bird", ["bird", "-f", "-c", config, *(["-R"] if again else [])])
        self.wait(socket.exists, "bird")

    def _shown(self, prefix: str) -> str:
        return self.run(["birdc", f"show route all for {prefix} where source = RTS_BGP"], check=False)

    def seen(self, prefix: str) -> Seen | None:
        shown = self._shown(prefix)
        if f"{prefix} " not in shown:
            return None
        found = dict(re.findall(r"^\s*BGP\.(\w+): ?(.*)$", shown, re.MULTILINE))
        communities = re.findall(r"\(([\d, ]+)\)", found.get("community", ""))
        communities += re.findall(r"\(([\d, ]+)\)", found.get("large_community", ""))
        return Seen(
            found["next_hop"].split()[0],
            tuple(map(int, found.get("as_path", "").split())),
            frozenset(re.sub(r", ?", ":", each) for each in communities),
            int(found["med"]) if "med" in found else None,
            int(found["local_pref"]) if "local_pref" in found else None,
            _bird_extended(found.get("ext_community", "")),
        )

    def stale(self, prefix: str) -> bool:
        name = re.search(rf"^{re.escape(prefix)} .*\[(node\d+) ", self._shown(prefix), re.MULTILINE)
        shown = self.run(["birdc", "show", "protocols", "all", name[1]], check=False) if name else ""
        return "graceful restart active" in shown

    def notify(self, remote: str) -> None:
        # `restart` is back within milliseconds, before the node's kernel has seen anything of it.
        self.run(["birdc", "disable", '"node*"'])
        time.sleep(0.5)
        self.run(["birdc", "enable", '"node*"'])


def _bird_extended(text: str) -> frozenset[str]:
    found = set()
    for entry in re.findall(r"\(([^)]*)\)", text):
        kind, first, second = entry.split(", ")
        if kind in ("rt", "ro"):
            found.add(f"{'soo' if kind == 'ro' else 'rt'}:{first}:{second}")
        elif kind in ("unknown 0x4004", "unknown 0x4"):  # link bandwidth
            (speed,) = struct.unpack("!f", int(second).to_bytes(4, "big"))
            name = "bandwidth" if kind == "unknown 0x4004" else "bandwidth-transitive"
            found.add(f"{name}:{first}:{speed:.0f}")
        else:
            found.add(f"raw:0x{int(first, 16):08x}{int(second, 16):08x}")
    return frozenset(found)


def _bird_add(extended: str) -> str:
    kind, administrator, value = extended.split(":")
    if kind.startswith("bandwidth"):
        head = (0x4004 if kind == "bandwidth" else 0x0004) << 16 | int(administrator)
        speed = struct.pack("!f", float(value)).hex()
        words = f"generic, {head:#x}, 0x{speed}"
    else:
        words = f"{'ro' if kind == 'soo' else kind}, {administrator}, {value}"
    return f"bgp_ext_community.add(({words})); "


def _bird_export(session: FarSession) -> str:
    prepend = f"bgp_path.prepend({session.local_as}); " * session.prepend
    return f"export filter {{ if source != RTS_STATIC then reject; {prepend}accept; }}"


def _bird_config(sessions: list[FarSession], originated: list[Originated], port: int) -> str:
    parts = [f"log stderr all;\nrouter id {ROUTER_ID};\nprotocol device {{ scan time 5; }}\n"]
    for version in (4, 6):
        parts.append(
            f"protocol kernel kernel{version} {{ learn; "
            f"ipv{version} {{ import all; export where source = RTS_BGP; }}; }}\n"
            f"protocol static static{version} {{ ipv{version};\n"
        )
        for one in originated:
            if one.version == version:
                tag = one.community.replace(":", ",")
                add = f"bgp_community.add(({tag})); " if tag else ""
                add += "".join(map(_bird_add, one.extended))
                parts.append(f"  route {one.prefix} blackhole{f' {{ {add}}}' if add else ''};\n")
        parts.append("}\n")
    for number, session in enumerate(sessions):
        lines = [
            f"local {session.local} port {port} as {session.local_as}",
            f"neighbor {session.remote} port {session.remote_port} as {session.remote_as}",
            "hold time 9",
            "connect delay time 1",
            "connect retry time 1",
            "error wait time 1, 2",
            f"multihop {session.multihop}" if session.multihop is not None else "direct",
        ]
        if session.password:
            lines.append(f'password "{session.password}"')
        if session.gtsm:
            lines.append("ttl security on")
        if not session.dials:
            lines.append("passive on")
        if session.restart_time:
            lines += ["graceful restart on", f"graceful restart time {session.restart_time}"]
        else:
            lines.append("graceful restart off")
        lines += [
            f"ipv{version} {{ import all; {_bird_export(session)}; next hop self; "
            f"{'extended next hop on; ' if session.extended and version == 4 else ''}}}"
            for version in session.carried
        ]
        body = "".join(f"  {line};\n" for line in lines)
        parts.append(f"protocol bgp node{number} {{\n{body}}}\n")
    return "".join(parts)


class Gobgp(FarSide):
    """It keeps no kernel routes; with `fib`, the lab's follower carries its best paths there."""

    kind = "gobgp"
    fib = False

    def start(
        self,
        sessions: Iterable[FarSession],
        originated: Iterable[Originated],
        *,
        port: int = 179,
        again: bool = False,
    ) -> None:
        originated = list(originated)
        self.start_with(_gobgp_config(list(sessions), port, originated), *(["-r"] if again else []))
        for one in originated:
            words = ["gobgp", "global", "rib", "add", one.prefix, "-a", f"ipv{one.version}"]
            words += ["nexthop", one.next_hop] if one.next_hop else []
            words += ["community", one.community] if one.community else []
            self.run(words)
        if self.fib:
            self.spawn("rib-follower", [*python(), str(Path(rib_follower.__file__)), "gobgp"])

    def start_with(self, text: str, *options: str) -> None:
        """Run it with a configuration of the test's own."""
        config = self.write("gobgpd.toml", text)
        self.spawn("gobgpd", ["gobgpd", "-f", config, "--api-hosts", "127.0.0.1:50051", *options])
        # It answers for a moment before it has begun, with an AS number of 0.
        self.wait(lambda: re.search(r"AS: +[1-9]", self.run(["gobgp", "global"], check=False)), "gobgpd")

    def _path(self, prefix: str) -> dict[str, Any] | None:
        version = 6 if ":" in prefix else 4
        shown = self.run(["gobgp", "global", "rib", "-a", f"ipv{version}", "-j"], check=False)
        try:
            rib = json.loads(shown)
        except ValueError:  # an empty table is told in words
            return None
        paths: list[dict[str, Any]] = rib.get(prefix, [])
        return paths[0] if paths else None

    def seen(self, prefix: str) -> Seen | None:
        path = self._path(prefix)
        if path is None:
            return None
        attributes = {attribute["type"]: attribute for attribute in path["attrs"]}
        segments = attributes.get(2, {}).get("as_paths") or []
        communities = [
            f"{each >> 16}:{each & 0xFFFF}" for each in attributes.get(8, {}).get("communities", ())
        ]
        communities += [
            f"{each['ASN']}:{each['LocalData1']}:{each['LocalData2']}"
            for each in attributes.get(32, {}).get("value", ())
        ]
        return Seen(
            attributes.get(3, {}).get("nexthop") or attributes[14]["nexthop"],
            tuple(number for segment in segments for number in segment["asns"]),
            frozenset(communities),
            attributes.get(4, {}).get("metric"),
            attributes.get(5, {}).get("value"),
            frozenset(map(_gobgp_extended, attributes.get(16, {}).get("value", ()))),
        )

    def stale(self, prefix: str) -> bool:
        return bool((self._path(prefix) or {}).get("stale"))

    def notify(self, remote: str) -> None:
        """Not by `reset`, after which it stays idle for 30 s, whatever its configuration says."""
        self.run(["gobgp", "neighbor", remote, "disable"])
        enable = ["gobgp", "neighbor", remote, "enable"]  # refused until the other has been done
        self.wait(lambda: self.host.run(enable, pod=self.pod, check=False).code == 0, "GoBGP to dial again")


def _gobgp_extended(told: dict[str, Any]) -> str:
    """It tells every link bandwidth as a non-transitive one, and long AS numbers with a dot."""
    if "bandwidth" in told:
        return f"bandwidth:{told['asn']}:{told['bandwidth']:.0f}"
    name = {2: "rt", 3: "soo"}.get(told["subtype"])
    if name is None or told["type"] > 2:
        return f"type {told['type']} {told['subtype']}"
    administrator, value = told["value"].split(":")
    if told["type"] == 2:
        high, low = map(int, administrator.split("."))
        administrator = str(high << 16 | low)
    return f"{name}:{administrator}:{value}"


def _gobgp_tags(originated: list[Originated]) -> list[str]:
    """Its command line knows route targets alone, and not those of long AS numbers: a policy for the rest."""
    tagged = [one for one in originated if one.extended]
    if not tagged:
        return []
    words = []
    for each in tagged[-1].extended:
        kind, administrator, value = each.split(":")
        if administrator.isdecimal() and int(administrator) > 0xFFFF:
            administrator = f"{int(administrator) >> 16}.{int(administrator) & 0xFFFF}"
        words.append(f"{'lb' if kind == 'bandwidth' else kind}:{administrator}:{value}")
    lines = ["[global.apply-policy.config]", 'import-policy-list = ["tag"]']
    for version in (4, 6):
        lines += ["[[defined-sets.prefix-sets]]", f'prefix-set-name = "tagged{version}"']
        for one in tagged:
            if one.version == version:
                lines += ["[[defined-sets.prefix-sets.prefix-list]]", f'ip-prefix = "{one.prefix}"']
    lines += ["[[policy-definitions]]", 'name = "tag"']
    for version in (4, 6):
        lines += [
            "[[policy-definitions.statements]]",
            f'name = "tag{version}"',
            "[policy-definitions.statements.conditions.match-prefix-set]",
            f'prefix-set = "tagged{version}"',
            "[policy-definitions.statements.actions.bgp-actions.set-ext-community]",
            'options = "add"',
            "[policy-definitions.statements.actions.bgp-actions.set-ext-community.set-ext-community-method]",
            f"communities-list = {json.dumps(words)}",
        ]
    return lines


def _gobgp_config(sessions: list[FarSession], port: int, originated: list[Originated]) -> str:
    lines = [
        "[global.config]",
        f"as = {sessions[0].local_as}",
        f'router-id = "{ROUTER_ID}"',
        f"port = {port}",
        *_gobgp_tags(originated),
    ]
    for session in sessions:
        lines += [
            "[[neighbors]]",
            "[neighbors.config]",
            f'neighbor-address = "{session.remote}"',
            f"peer-as = {session.remote_as}",
        ]
        if session.password:
            lines.append(f'auth-password = "{session.password}"')
        lines += [
            "[neighbors.transport.config]",
            f'local-address = "{session.local}"',
            f"remote-port = {session.remote_port}",
            f"passive-mode = {str(not session.dials).lower()}",
            "[neighbors.timers.config]",
            "connect-retry = 1",
            "idle-hold-time-after-reset = 1",
            "hold-time = 9",
            "keepalive-interval = 3",
        ]
        if session.gtsm:
            lines += ["[neighbors.ttl-security.config]", "enabled = true", "ttl-min = 255"]
        if session.multihop is not None:
            lines += ["[neighbors.ebgp-multihop.config]", "enabled = true"]
            lines.append(f"multihop-ttl = {session.multihop}")
        if session.restart_time:
            lines += ["[neighbors.graceful-restart.config]", "enabled = true"]
            lines.append(f"restart-time = {session.restart_time}")
            lines.append(f"long-lived-enabled = {str(bool(session.long_lived)).lower()}")
        for version in session.carried:
            lines += ["[[neighbors.afi-safis]]", "[neighbors.afi-safis.config]"]
            lines.append(f'afi-safi-name = "ipv{version}-unicast"')
            if session.restart_time:
                lines += ["[neighbors.afi-safis.mp-graceful-restart.config]", "enabled = true"]
            if session.long_lived:
                lines += ["[neighbors.afi-safis.long-lived-graceful-restart.config]", "enabled = true"]
                lines.append(f"restart-time = {session.long_lived}")
    return "\n".join(lines) + "\n"


AnyFarSide: TypeAlias = Frr | Bird | Gobgp | OpenBgpd
FAR_SIDES: dict[str, Callable[[Host, str | None], AnyFarSide]] = {
    "frr": Frr,
    "bird": Bird,
    "gobgp": Gobgp,
    "openbgpd": OpenBgpd,
}
