"""A host in a network namespace of its own, with the agent's CNI server in it, and pods to attach."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest
from plugin_helpers import end_helpers, helpers_in

from l3net.attach.server import CniServer
from l3net.cni.setup import NodeNetwork
from l3net.ipam.ranges import first_address
from l3net.model import BridgePlan
from l3net.shell.files.cniinstall import standalone_script
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.namespaces import setns

T = TypeVar("T")
PLUGIN_SOURCE = Path(__file__).parents[2] / "plugin"
BLOCKS = ("10.244.0.0/20", "fd00:10:244:1::/116")
CONF = {"cniVersion": "1.0.0", "name": "l3net", "type": "l3net-cni"}
REFERENCE_PLUGINS = Path("/usr/lib/cni")


def sh(*argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def plugin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugins, built from source."""
    out = tmp_path_factory.mktemp("cni-bin")
    sh("sh", str(PLUGIN_SOURCE / "build.sh"), str(out))
    standalone = out / "l3net-standalone"
    standalone.write_text(standalone_script())
    standalone.chmod(0o755)
    return out


@dataclass
class Outcome:
    """How a plugin ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found


@dataclass
class Host:
    """A machine: a network namespace, its agent's CNI server, and the pods made for it."""

    name: str
    plugin_dir: Path
    base: Path
    undo: ExitStack
    conf: dict[str, Any] = field(default_factory=lambda: dict(CONF))
    #: The plugin is called in its runtime's own namespaces, as on a machine. Otherwise each call has a mount
    #: namespace of its own (`ip netns exec`), where no helper is left.
    at_home: bool = False
    server: CniServer | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def inside(self, work: Callable[[], T]) -> T:
        """Run in a thread that has entered the host's namespace."""
        result: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            try:
                setns(descriptor)
                result.append(work())
            except BaseException as err:
                errors.append(err)
            finally:
                os.close(descriptor)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return result[0]

    def start(
        self, blocks: tuple[str, ...] = BLOCKS, *, cool_down: float = 60.0, **options: Any
    ) -> CniServer:
        networks = tuple(map(ip_network, blocks))

        def run() -> CniServer:
            server = CniServer(self.base / "run" / "cni.sock", self.base / "state", **options)
            server.start()
            if networks:
                bridge = KernelBridge()
                gateways = frozenset((first_address(each), each.prefixlen) for each in networks)
                bridge.apply(BridgePlan("l3net0", "02:6c:33:00:00:01", 1500, gateways))
                bridge.close()
                server.update(NodeNetwork(networks, 1500, cool_down=cool_down))
            return server

        self.server = self.inside(run)
        return self.server

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.server = None

    def pod(self) -> str:
        """A network namespace as a runtime makes it; its name."""
        name = f"{self.name}p{next(self._numbers)}"
        sh("ip", "netns", "add", name)
        self.undo.callback(sh, "ip", "netns", "del", name, check=False)
        return name

    def cni(
        self,
        command: str,
        container: str = "c1",
        pod: str | None = None,
        ifname: str = "eth0",
        conf: dict[str, Any] | bytes | None = None,
        **environment: str | None,
    ) -> Outcome:
        """Execute the plugin as a runtime does. An environment value of None removes the variable."""
        merged: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": ifname,
            "CNI_PATH": f"{self.plugin_dir}:{REFERENCE_PLUGINS}",
            "L3NET_CNI_SOCKET": str(self.base / "run" / "cni.sock"),
            "L3NET_CNI_SPOOL": str(self.base / "state" / "spool"),
            "L3NET_CNI_HELPERS": str(self.base / "helpers"),
            "L3NET_CNI_STATE": str(self.base / "standalone"),  # of a configuration that names none
            "CNI_NETNS": f"/run/netns/{pod}" if pod else None,
            **environment,
        }
        body = conf if isinstance(conf, bytes) else json.dumps(self.conf if conf is None else conf).encode()
        done = subprocess.run(
            [*self.runtime(), str(self.plugin_dir / "l3net-cni")],
            input=body,
            capture_output=True,
            env={key: value for key, value in merged.items() if value is not None},
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    def runtime(self) -> list[str]:
        """What to put before the plugin."""
        if self.at_home:
            return ["nsenter", f"--net=/run/netns/{self.name}", "sh", "-c", '"$0"; exit $?']
        return ["ip", "netns", "exec", self.name]

    def helpers(self) -> list[int]:
        """The processes that take calls where there is no agent."""
        return helpers_in(self.base / "helpers")

    def add(self, container: str = "c1", pod: str | None = None, **more: Any) -> dict[str, Any]:
        outcome = self.cni("ADD", container, pod or self.pod(), **more)
        assert outcome.code == 0, outcome
        return outcome.json

    def ip(self, *arguments: str, netns: str | None = None) -> Any:
        """`ip -j`, in the host or a pod."""
        found = sh("ip", "-j", "-n", netns or self.name, *arguments)
        return json.loads(found or "[]")

    def veths(self) -> list[str]:
        return [link["ifname"] for link in self.ip("link", "show") if link["ifname"].startswith("l3v")]

    def leases(self) -> int:
        assert self.server is not None
        return len(self.server.leases.leases())

    def settle(self) -> None:
        """Wait until released links are gone."""
        assert self.server is not None
        assert self.server.settle()


@pytest.fixture
def bare_host(plugin_dir: Path, tmp_path: Path) -> Iterator[Host]:
    """A host without an agent."""
    with ExitStack() as undo:
        name = f"l3c{uuid.uuid4().hex[:8]}"
        sh("ip", "netns", "add", name)
        undo.callback(sh, "ip", "netns", "del", name, check=False)
        sh("ip", "-n", name, "link", "set", "lo", "up")
        host = Host(name, plugin_dir, tmp_path, undo)
        undo.callback(host.stop)
        undo.callback(end_helpers, tmp_path / "helpers")
        yield host


@pytest.fixture
def host(bare_host: Host) -> Host:
    """A host whose agent serves."""
    bare_host.start()
    return bare_host


@pytest.fixture
def run() -> Callable[..., str]:
    return sh


@pytest.fixture
def ping() -> Callable[..., bool]:
    """One packet and its answer; five seconds cover a neighbour entry that failed before."""

    def send(netns: str, address: str, wait: str = "5") -> bool:
        argv = ["ip", "netns", "exec", netns, "ping", "-c", "1", "-W", wait, address]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    return send
