"""A real agent on the tests' API server, with pods that the real plugin attaches: first sync, events, ADD."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cni import Runtime, sh
from kube import cpu, memory, process
from policies import declared

from l3net.shell.kernel.namespaces import open_own, setns

ROOT = Path(__file__).parents[2]
#: linux/netlink.h and linux/netfilter/nfnetlink.h.
NETLINK_NETFILTER, NFNLGRP_NFTABLES = 12, 7
SCRIPT = Path(__file__).parents[1] / "policy.py"


@dataclass
class Sync:
    """From the agent's start until the policies of its pods are in the kernel: CPU in seconds, its own and
    nft's, memory in MiB."""

    what: str
    seconds: float
    own: float
    nft: float
    rss: float
    peak: float


@dataclass
class Event:
    """Milliseconds from the request to the API until the kernel tells of the change, and of CPU for each."""

    what: str
    times: list[float]
    own: float
    nft: float


def serve(directory: Path, pods: int, policies: int) -> None:
    """The API server's process."""
    from apiserver import FakeApiServer  # noqa: PLC0415 - on the path of this process alone

    api = FakeApiServer()
    api.put(declared.node())
    api.put({"apiVersion": "l3net.io/v1alpha1", "kind": "BGPConfiguration", "metadata": {"name": "default"}})
    for document in declared.cluster(pods, policies):
        api._put(document)
        api._history.clear()
    api.start()
    api.kubeconfig(directory / "kubeconfig.new")
    (directory / "kubeconfig.new").rename(directory / "kubeconfig")
    signal.pause()


class Place:
    """A host's network namespace, which this process is in until the end, with its API server."""

    def __init__(self, undo: ExitStack, base: Path, plugin: Path, pods: int, policies: int) -> None:
        self._undo, self._base, self._plugin = undo, base, plugin
        self.pods, self.policies = pods, policies
        self.host = f"l3b{uuid.uuid4().hex[:6]}"
        self._namespace(self.host)
        self.local = declared.local(pods)
        self._pods = [self._namespace(f"{self.host}p{place}") for place in range(len(self.local))]
        self._containers = [uuid.uuid4().hex for _ in self.local]
        home = open_own()
        undo.callback(os.close, home)
        undo.callback(setns, home)
        with Path(f"/run/netns/{self.host}").open() as entry:
            setns(entry.fileno())
        for words in (
            "link set lo up",
            "link add up0 type veth peer name down0",
            "link set up0 up",
            "link set down0 up",
            "addr add 10.9.0.1/24 dev up0",
        ):
            sh("ip", *words.split())
        argv = [sys.executable, str(SCRIPT), "--serve", str(base), "--pods", str(pods)]
        undo.enter_context(process([*argv, "--policies", str(policies)], base / "api.log"))
        self._until((base / "kubeconfig").exists, "the API server", 300)
        config = json.loads((base / "kubeconfig").read_text())
        self._url = config["clusters"][0]["cluster"]["server"]
        self.agent: subprocess.Popen[bytes] | None = None

    def _namespace(self, name: str) -> str:
        sh("ip", "netns", "add", name)
        self._undo.callback(sh, "ip", "netns", "del", name)
        return name

    def _until(self, condition: Callable[[], float | None], what: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                log = self._base / "agent.log"
                print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
                raise SystemExit(f"waited {seconds:g} s in vain for {what}")
            time.sleep(0.02)

    # --- the agent ---------------------------------------------------------------------------------------

    def start(self, what: str, attached: int) -> Sync:
        argv = [sys.executable, "-m", "l3net.cli.main", "agent", "--node-name", declared.ME]
        argv += ["--kubeconfig", str(self._base / "kubeconfig")]
        argv += ["--run-dir", str(self._base / "run"), "--state-dir", str(self._base / "state")]
        sh("sh", "-c", "nft delete table inet l3net 2>/dev/null || true")
        began = time.monotonic()
        with (self._base / "agent.log").open("ab") as log:
            self.agent = agent = subprocess.Popen(argv, stdout=log, stderr=log, cwd=ROOT)
        self._undo.callback(agent.wait)
        self._undo.callback(agent.kill)
        self._until(lambda: self.judged() >= attached, f"{attached} pods in the table")
        seconds = time.monotonic() - began
        own, nft = cpu(agent.pid)
        time.sleep(2)
        rss, peak = memory(agent.pid, "VmRSS"), memory(agent.pid, "VmHWM")
        return Sync(what, seconds, own, nft, rss, peak)

    def judged(self) -> int:
        """Pods that have policies in the kernel; with none expected, whether there is a table."""
        done = subprocess.run(
            ["nft", "-j", "list", "map", "inet", "l3net", "ingress4"], capture_output=True, check=False
        )
        if done.returncode:
            time.sleep(0.1)
            return -1
        found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
        return sum(len(each["map"].get("elem", ())) for each in found if "map" in each)

    def settled(self) -> None:
        """Until it has nothing to do: the pods it was told of last are with it."""
        assert self.agent
        before = -1.0
        while (now := sum(cpu(self.agent.pid))) - before > 0.1:
            before = now
            time.sleep(3)

    def kill(self) -> None:
        assert self.agent
        self.agent.kill()
        self.agent.wait()

    # --- pods of this node -------------------------------------------------------------------------------

    def _call(self, command: str, place: int) -> float:
        namespace, name = declared.name_of(self.local[place])
        environment = {
            "PATH": os.environ["PATH"],
            "L3NET_CNI_SOCKET": str(self._base / "run" / "cni.sock"),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}",
        }
        conf = {"cniVersion": "1.0.0", "name": "l3net", "type": "l3net-cni"}
        return Runtime(self._plugin, conf, environment).call(
            command, self._containers[place], self._pods[place]
        )

    def add(self) -> list[float]:
        return [self._call("ADD", place) for place in range(len(self.local))]

    def delete(self) -> list[float]:
        return [self._call("DEL", place) for place in range(len(self.local))]

    # --- what happens in the cluster ---------------------------------------------------------------------

    def ask(self, method: str, path: str, document: dict[str, Any] | None = None) -> None:
        data = json.dumps(document).encode() if document is not None else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310
        urllib.request.urlopen(request, timeout=30).read()  # noqa: S310

    def remove_pod(self, number: int) -> None:
        namespace, name = declared.name_of(number)
        self.ask("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}")

    def make_pod(self, number: int) -> float:
        """It is made without an address, as pods are; the moment it is given one."""
        namespace, _ = declared.name_of(number)
        self.ask("POST", f"/api/v1/namespaces/{namespace}/pods", declared.pod(number))
        time.sleep(0.05)
        began = time.monotonic()
        self.touch_pod(number, 0)
        return began

    def touch_pod(self, number: int, turn: int) -> None:
        """A change that means nothing to policies."""
        namespace, name = declared.name_of(number)
        document = declared.pod(number)
        document["status"]["containerStatuses"][0]["restartCount"] = turn
        self.ask("PUT", f"/api/v1/namespaces/{namespace}/pods/{name}/status", document)

    def wide(self, shard: str) -> None:
        path = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"
        if shard == "s1":
            self.ask("POST", path, declared.wide_policy(shard))
        elif shard:
            self.ask("PUT", f"{path}/wide", declared.wide_policy(shard))
        else:
            self.ask("DELETE", f"{path}/wide")

    def peers(self) -> list[int]:
        """Pods elsewhere whose addresses a set of this node holds."""
        listed = subprocess.run(
            ["nft", "list", "table", "inet", "l3net"], capture_output=True, check=True
        ).stdout
        held = set(listed.decode().replace(",", " ").split())
        mine = set(self.local)
        return [n for n in range(self.pods) if n not in mine and declared.addresses(n)[0] in held]

    def measure(
        self,
        what: str,
        changes: Iterable[Callable[[], float | None]],
        *,
        heard: bool = True,
        pause: float = 0.12,
    ) -> Event:
        """One after the other, each when the one before is over, or with no pause as fast as it goes."""
        assert self.agent
        times: list[float] = []
        number = 0
        before = cpu(self.agent.pid)
        with Transactions() as transactions:
            for number, change in enumerate(changes, 1):  # noqa: B007
                began = time.monotonic()
                began = change() or began
                if heard:
                    times.append((transactions.next(10) - began) * 1000)
                time.sleep(pause)
                transactions.forget()
            if not pause:
                time.sleep(3)
        now = cpu(self.agent.pid)
        own, nft = ((new - old) * 1000 / number for new, old in zip(now, before, strict=True))
        return Event(what, times, own, nft)


class Transactions:
    """Hears of nftables transactions in this network namespace."""

    def __enter__(self) -> Transactions:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._socket.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
        self._socket.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def next(self, seconds: float) -> float:
        """The moment of the next one."""
        ready, _, _ = select.select([self._socket], [], [], seconds)
        if not ready:
            raise SystemExit(f"nothing was changed in the kernel within {seconds:g} s")
        return time.monotonic()

    def forget(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    self._socket.recv(1 << 20)
                except OSError as err:
                    if err.errno != errno.ENOBUFS:
                        raise


def events(place: Place, turns: int) -> Iterator[Event]:
    drawn = random.Random(2)  # noqa: S311 - which pods, not secrets
    peers = place.peers()
    known = {*peers, *place.local}
    others = [number for number in range(place.pods) if number not in known]

    for what, of, heard in (("in a policy's set here", peers, True), ("in none", others, False)):
        chosen = drawn.sample(of, min(turns, len(of)))
        goes = (partial(place.remove_pod, number) for number in chosen)
        yield place.measure(f"pod elsewhere goes, {what}", goes, heard=heard)
        comes = (partial(place.make_pod, number) for number in chosen)
        yield place.measure(f"pod elsewhere comes, {what}", comes, heard=heard)
    burst = (partial(place.touch_pod, number, turn) for turn in (8, 9) for number in others[:1000])
    yield place.measure("of 2,000 that come as fast as they go", burst, heard=False, pause=0)
    touched = drawn.sample(others, min(turns, len(others)))
    touches = (partial(place.touch_pod, number, 7) for number in touched)
    yield place.measure("pod elsewhere, nothing that counts", touches, heard=False)
    yield place.measure("nothing at all", (lambda: None for _ in range(turns)), heard=False)
    for what, shard in (("comes", "s1"), ("changes", "s2"), ("goes", "")):
        yield place.measure(f"policy with {place.pods // 5} peers {what}", [partial(place.wide, shard)])
