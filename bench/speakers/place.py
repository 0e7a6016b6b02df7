"""Where it happens: two hosts on a link, `near` with the speaker under test, `far` with its peer."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

from l3net.lab.host import Host, find_hosts, kill_holders, start_holder, wait_ready

NEAR, FAR, NEAR_AS, FAR_AS = "10.90.0.1", "10.90.0.2", 65001, 65002
#: The address whose coming and going is timed alone.
SINGLE = "203.0.113.7"
FIRST = ip_address("100.64.0.0")
SINK = Path(__file__).with_name("sink.py")


def prefixes(number: int) -> list[str]:
    return [str(FIRST + each) for each in range(number)]


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def until(condition: Callable[[], object], what: str, seconds: float = 180, every: float = 0.005) -> float:
    """Wait; the moment it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:g} s in vain for {what}")
        time.sleep(every)
    return time.monotonic()


class Place:
    """Made and removed as a context; nothing of it is left."""

    def __init__(self, addresses: int = 0) -> None:
        self.name = f"b{uuid.uuid4().hex[:8]}"
        self.directory = Path("/run/l3net-lab") / self.name
        self.addresses = addresses
        self.near: Host
        self.far: Host

    def __enter__(self) -> Place:
        self.directory.mkdir(parents=True)
        try:
            holders = {name: start_holder(self.name, name, self.directory) for name in ("near", "far")}
            for name, holder in holders.items():
                wait_ready(name, holder)
            hosts = find_hosts(self.name, self.directory)
            self.near, self.far = hosts["near"], hosts["far"]
            self._ip(self.near, f"link add up0 type veth peer name down0 netns {self.far.pid}")
            for host, link, address in ((self.near, "up0", NEAR), (self.far, "down0", FAR)):
                self._ip(host, f"link set {link} up")
                self._ip(host, f"addr add {address}/16 dev {link}")
            for address in self.far_addresses():
                self._ip(self.far, f"addr add {address}/16 dev down0")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        kill_holders(self.name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def far_addresses(self) -> list[str]:
        return [str(ip_address("10.90.1.0") + each + 1) for each in range(self.addresses)]

    @staticmethod
    def _ip(host: Host, arguments: str) -> None:
        enter = ["nsenter", f"--net=/proc/{host.pid}/ns/net", "--", "ip"]
        subprocess.run([*enter, *arguments.split()], check=True)

    def kernel_routes(self) -> int:
        """IPv4 prefixes in the main table of `near`; milliseconds for 100,000."""
        text = Path(f"/proc/{self.near.pid}/net/fib_triestat").read_text()
        main = text.split("Main:")[-1]
        return int(main.split("Prefixes:")[1].split()[0])

    def processes(self, words: Mapping[str, str], file: str) -> Iterator[tuple[str, str]]:
        """Of each process of `near` whose command line has a word: the word's name, and a file of /proc."""
        space = Path(f"/proc/{self.near.pid}/ns/pid").readlink()
        for entry in Path("/proc").iterdir():
            try:
                if not entry.name.isdigit() or (entry / "ns/pid").readlink() != space:
                    continue
                argv = (entry / "cmdline").read_bytes().decode().split("\0")
                text = (entry / file).read_text()
            except OSError:
                continue
            for name, word in words.items():
                if any(part == word or part.endswith(f"/{word}") for part in argv):
                    yield name, text

    def rss(self, **words: str) -> dict[str, float]:
        """MiB of the process of `near` whose command line has a word; by the name given."""
        found: dict[str, float] = {}
        for name, text in self.processes(words, "status"):
            kib = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
            found[name] = max(found.get(name, 0.0), kib / 1024)
        return found

    def cpu(self, **words: str) -> dict[str, float]:
        """Seconds of processor time that processes of `near` have used; by the name given."""
        found: dict[str, float] = dict.fromkeys(words, 0.0)
        for name, text in self.processes(words, "stat"):
            for thread in Path(f"/proc/{text.split()[0]}/task").iterdir():
                with contextlib.suppress(OSError):  # it has ended
                    found[name] += int((thread / "schedstat").read_text().split()[0]) / 1e9
        return found

    # --- far sides ---------------------------------------------------------------------------------------

    def start_sink(self) -> SinkLog:
        log = self.far.directory / "sink.txt"
        log.unlink(missing_ok=True)
        self.far.spawn("sink", [sys.executable, "-ISE", str(SINK), str(FAR_AS), SINGLE, str(log)])
        until(log.exists, "the sink")
        return SinkLog(log)

    def start_frr(self, networks: Iterable[str] = ()) -> Frr:
        lines = [
            f"router bgp {FAR_AS}",
            f" bgp router-id {FAR}",
            " no bgp ebgp-requires-policy",
            " no bgp network import-check",
            " coalesce-time 0",
            f" neighbor {NEAR} remote-as {NEAR_AS}",
            f" neighbor {NEAR} timers connect 1",
            f" neighbor {NEAR} advertisement-interval 0",
            " address-family ipv4 unicast",
            f"  neighbor {NEAR} route-map NOTHING out",
            *(f"  network {network}/32" for network in networks),
            " exit-address-family",
            "exit",
            "route-map NOTHING deny 10",
        ]
        config = self.far.directory / "bgpd.conf"
        config.write_text("\n".join(lines) + "\n")
        config.chmod(0o644)
        vty = Path(f"/proc/{self.far.pid}/root/run/frr/bgpd.vty")
        vty.unlink(missing_ok=True)
        # Without zebra: what its own kernel would cost is no part of any figure.
        self.far.spawn("bgpd", ["bgpd", "-f", str(config), "-A", "127.0.0.1", "-P", "0", "-Z"])
        until(vty.exists, "bgpd")
        return Frr(vty)


class SinkLog:
    """What the sink noted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def skip(self) -> None:
        self._at = self._path.stat().st_size

    def events(self) -> list[list[str]]:
        """Whole lines since `skip`."""
        with self._path.open() as file:
            file.seek(self._at)
            return [line.split() for line in file.read().split("\n")[:-1]]

    def up(self) -> dict[str, float]:
        return {event[2]: float(event[1]) for event in self.events() if event[0] == "up"}

    def mark(self, sign: str) -> float | None:
        """When the single prefix came (+) or went (-)."""
        for event in self.events():
            if event[0] == "update" and event[4] == sign:
                return float(event[1])
        return None

    def wait_mark(self, sign: str) -> float:
        until(lambda: self.mark(sign) is not None, f"the single prefix {sign}", 60, every=0.002)
        found = self.mark(sign)
        assert found is not None
        return found

    def total(self) -> tuple[int, int, float]:
        """(announced, withdrawn, time of the last UPDATE)."""
        updates = [event for event in self.events() if event[0] == "update"]
        return (
            sum(int(event[2]) for event in updates),
            sum(int(event[3]) for event in updates),
            float(updates[-1][1]) if updates else 0.0,
        )


class Frr:
    """bgpd by its own socket: a question costs no process."""

    def __init__(self, vty: Path, as_number: int = FAR_AS, peer: str = NEAR) -> None:
        self._as_number, self._neighbor = as_number, peer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(vty))
        self.say("enable")

    def say(self, command: str) -> str:
        self._socket.sendall(command.encode() + b"\0")
        answer = b""
        while not (len(answer) >= 4 and answer[-4:-1] == b"\0\0\0"):  # three zeros and a status end it
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise SystemExit("bgpd has gone")
            answer += chunk
        return answer[:-4].decode()

    def _peer(self) -> dict[str, object]:
        summary = json.loads(self.say("show bgp ipv4 unicast summary json"))
        peer: dict[str, object] = summary.get("peers", {}).get(self._neighbor, {})
        return peer

    def established(self) -> bool:
        return self._peer().get("state") == "Established"

    def received(self) -> int:
        return int(str(self._peer().get("pfxRcd", 0)))

    def let_out(self, everything: bool) -> float:
        """Announce all networks, or withdraw them; the moment it was asked for."""
        self._enter()
        at = time.monotonic()
        self.say(f"{'no ' if everything else ''}neighbor {self._neighbor} route-map NOTHING out")
        self.say("end")
        self.say(f"clear bgp ipv4 unicast {self._neighbor} soft out")
        return at

    def network(self, address: str, on: bool) -> float:
        """Originate one address, or withdraw it; the moment it was asked for."""
        self._enter()
        at = time.monotonic()
        self.say(f"{'' if on else 'no '}network {address}/32")
        self.say("end")
        return at

    def _enter(self) -> None:
        for command in ("configure terminal", f"router bgp {self._as_number}", "address-family ipv4 unicast"):
            self.say(command)
