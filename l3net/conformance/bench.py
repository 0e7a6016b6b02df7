"""The machine a plugin is tried on: a host namespace, pods, and the plugin executed as a runtime does."""

from __future__ import annotations

import copy
import itertools
import json
import os
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, TypeVar

from l3net.attach.server import CniServer
from l3net.cni.setup import NodeNetwork
from l3net.ipam.ranges import first_address
from l3net.model import BridgePlan
from l3net.shell.kernel.bridge import KernelBridge
from l3net.shell.kernel.namespaces import setns

T = TypeVar("T")


class CaseFailed(Exception):  # noqa: N818 - a verdict, not an error of ours
    """What the plugin did wrong, in one line."""


class NotApplicable(Exception):  # noqa: N818
    """Why a case says nothing about this plugin."""


def require(condition: object, why: str) -> None:
    if not condition:
        raise CaseFailed(why)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one execution ended."""

    code: int
    stdout: bytes
    stderr: bytes

    def object(self) -> dict[str, Any]:
        """Standard output as exactly one JSON object. Raises CaseFailed."""
        try:
            found = json.loads(self.stdout)
        except ValueError:
            raise CaseFailed(f"standard output is not one JSON object: {self.stdout[:120]!r}") from None
        require(isinstance(found, dict), "standard output is not a JSON object")
        return dict(found)

    def error(self, *codes: int) -> dict[str, Any]:
        """A failure as the specification wants it, with one of the codes (any if none given)."""
        require(self.code != 0, "it succeeded")
        found = self.object()
        require(isinstance(found.get("code"), int) and found.get("msg"), "the error lacks code or msg")
        if codes and found["code"] not in codes:
            raise CaseFailed(
                f"error code {found['code']}, not {' or '.join(map(str, codes))}: {found['msg']}"
            )
        return found

    def result(self) -> dict[str, Any]:
        """A success with a result."""
        if self.code:
            raise CaseFailed(f"it failed: {self.stdout[:200].decode(errors='replace').strip()}")
        return self.object()

    def silence(self) -> None:
        """A success without output."""
        if self.code:
            raise CaseFailed(f"it failed: {self.stdout[:200].decode(errors='replace').strip()}")
        require(not self.stdout.strip(), "it printed something on standard output")


#: What calls the plugin and waits for it, in the namespaces that it was called in itself.
_RESIDENT: Final = ("sh", "-c", '"$0"; exit $?')


def sh(*argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise CaseFailed(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Bench:
    """One host and its pods; `conf` is the configuration under test. Everything goes with `close`.

    `resident`: the plugin is called in its runtime's own namespaces, as on a machine, so that l3net leaves a
    helper; otherwise each call has a mount namespace of its own.
    """

    plugin: Path
    conf: dict[str, Any]
    cni_path: str
    resident: bool = False
    undo: ExitStack = field(default_factory=ExitStack)
    environment: dict[str, str] = field(default_factory=dict)
    server: CniServer | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def agent(self) -> bool:
        """Whether the addresses are the agent's (no `ipam` in the configuration)."""
        return self.server is not None

    def open(self, *, agent: bool) -> None:
        self.base = Path(self.undo.enter_context(tempfile.TemporaryDirectory(prefix="l3conf")))
        self.host = f"l3f{uuid.uuid4().hex[:7]}"
        self._namespace(self.host)
        sh("ip", "-n", self.host, "link", "set", "lo", "up")
        self.environment["L3NET_CNI_SPOOL"] = str(self.base / "state" / "spool")
        self.environment["L3NET_CNI_SOCKET"] = str(self.base / "run" / "cni.sock")
        self.environment["L3NET_CNI_HELPERS"] = str(self.base / "helpers")
        self.environment["L3NET_CNI_HELPER_IDLE"] = "10"
        self.undo.callback(self._end_helpers)
        self.environment["L3NET_CNI_STATE"] = str(self.base / "standalone")
        if agent:
            self.server = self.inside(self._serve)
            self.undo.callback(self.server.stop)
            self.blocks("10.88.0.0/16", "fd00:88::/112")

    def close(self) -> None:
        self.undo.close()

    def _end_helpers(self) -> None:
        for path in (self.base / "helpers").glob("*.pid"):
            with suppress(OSError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)

    def _namespace(self, name: str) -> None:
        sh("ip", "netns", "add", name)
        self.undo.callback(sh, "ip", "netns", "del", name, check=False)

    def _serve(self) -> CniServer:
        server = CniServer(self.base / "run" / "cni.sock", self.base / "state")
        server.start()
        return server

    def blocks(self, *blocks: str) -> None:
        """Give the agent its node's blocks."""
        networks = tuple(map(ip_network, blocks))

        def apply() -> None:
            bridge = KernelBridge()
            gateways = frozenset((first_address(block), block.prefixlen) for block in networks)
            bridge.apply(BridgePlan("l3net0", "0a:58:00:00:00:01", 1500, gateways))
            bridge.close()

        self.inside(apply)
        if self.server is not None:
            self.server.update(NodeNetwork(networks, 1500, cool_down=0.0))

    def inside(self, work: Callable[[], T]) -> T:
        """Run in a thread that has entered the host."""
        found: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            descriptor = os.open(f"/run/netns/{self.host}", os.O_RDONLY)
            try:
                setns(descriptor)
                found.append(work())
            except BaseException as err:
                failed.append(err)
            finally:
                os.close(descriptor)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    # --- pods and configurations -------------------------------------------------------------------------

    def pod(self) -> str:
        """A pod's namespace; its name."""
        name = f"{self.host}p{next(self._numbers)}"
        self._namespace(name)
        return name

    def name(self, prefix: str = "c") -> str:
        """A container ID no one had."""
        return f"{prefix}{uuid.uuid4().hex}"

    def having(self, **changes: Any) -> dict[str, Any]:
        """The configuration with keys changed; None removes one."""
        found = copy.deepcopy(self.conf) | changes
        return {key: value for key, value in found.items() if value is not None}

    @contextmanager
    def small(self) -> Iterator[dict[str, Any]]:
        """A configuration over a /29 (five addresses) of IPv4."""
        if self.agent:
            self.blocks("10.99.0.0/29")
            try:
                yield self.conf
            finally:
                self.blocks("10.88.0.0/16", "fd00:88::/112")
            return
        ipam = dict(self.conf.get("ipam") or {})
        if not ({"ranges", "subnet"} & set(ipam)):
            raise NotApplicable("the configuration names no ranges")
        ipam.pop("subnet", None)
        ipam["ranges"] = [[{"subnet": "10.99.0.0/29"}]]
        ipam["coolDown"] = 0  # ours; the reference reuses at once
        number = next(self._numbers)
        yield self.having(name=f"{self.conf['name']}-small{number}", bridge=f"small{number}", ipam=ipam)

    # --- executing ---------------------------------------------------------------------------------------

    def call(
        self,
        command: str | None,
        container: str | None = "c0",
        pod: str | None = None,
        conf: Mapping[str, Any] | bytes | None = None,
        ifname: str | None = "eth0",
        **environment: str | None,
    ) -> Outcome:
        """Execute the plugin; an environment value of None leaves the variable out."""
        through = _RESIDENT if self.resident else ()
        process = self.spawn(command, container, pod, conf, ifname, through=through, **environment)
        try:
            stdout, stderr = process.communicate(self.body(conf), timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise CaseFailed("it did not answer within 60 s") from None
        return Outcome(process.returncode, stdout, stderr)

    def body(self, conf: Mapping[str, Any] | bytes | None) -> bytes:
        return conf if isinstance(conf, bytes) else json.dumps(self.conf if conf is None else conf).encode()

    def spawn(
        self,
        command: str | None,
        container: str | None,
        pod: str | None,
        conf: Mapping[str, Any] | bytes | None = None,
        ifname: str | None = "eth0",
        *,
        through: Sequence[str] = (),
        **environment: str | None,
    ) -> subprocess.Popen[bytes]:
        """Start the plugin; standard input is the caller's to write."""
        del conf
        merged: dict[str, str | None] = {
            "PATH": os.environ.get("PATH", os.defpath),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": ifname,
            "CNI_PATH": self.cni_path,
            "CNI_NETNS": f"/run/netns/{pod}" if pod else None,
            **self.environment,
            **environment,
        }
        entered = (
            ["nsenter", f"--net=/run/netns/{self.host}"] if through else ["ip", "netns", "exec", self.host]
        )
        return subprocess.Popen(
            [*entered, *through, str(self.plugin)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={key: value for key, value in merged.items() if value is not None},
        )

    def add(
        self, container: str, pod: str, conf: Mapping[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        return self.call("ADD", container, pod, conf, **more).result()

    def delete(
        self, container: str, pod: str | None = None, conf: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        self.call("DEL", container, pod, conf, **more).silence()

    # --- looking -----------------------------------------------------------------------------------------

    def ip(self, netns: str, *arguments: str) -> Any:
        return json.loads(sh("ip", "-j", "-n", netns, *arguments) or "[]")

    def host_veths(self) -> set[str]:
        """Host ends, once links being deleted are gone."""
        if self.server is not None:
            self.server.settle()
        found = self.ip(self.host, "-d", "link", "show", "type", "veth")
        return {link["ifname"] for link in found if link}

    def links(self, pod: str) -> set[str]:
        """Interfaces of a pod but the loopback, once links being deleted are gone."""
        if self.server is not None:
            self.server.settle()
        return {link["ifname"] for link in self.ip(pod, "link", "show") if link} - {"lo"}

    def addresses(self, pod: str, ifname: str = "eth0") -> set[str]:
        with suppress(CaseFailed):
            (found, *_) = self.ip(pod, "addr", "show", "dev", ifname)
            return {
                f"{each['local']}/{each['prefixlen']}"
                for each in found["addr_info"]
                if each["scope"] == "global"
            }
        return set()
