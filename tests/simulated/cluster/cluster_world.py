"""A cluster's side in simulated time: two controllers and a node's datastore, all of them real, on a model of
an API server. Each step of a case (cluster_case.py) is a method here.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from cluster_case import CLIENTS, NODES
from cluster_clients import NAMESPACE, Client
from cluster_views import GRACE
from kube_follower import namespace, network_policy, own, peer, pod
from sim_api import SimApi
from sim_etcd import Object, Snapshot, place_of
from sim_faults import Refusal
from threads import SimThread, SimThreads, sleep

from l3net.errors import L3netError
from l3net.ipam.ledger import Ledger, encode
from l3net.shell.kubernetes.writer import LEASE, LEDGER, KubeOwnNode


class ClusterWorld:
    """Methods without an underscore are steps."""

    def __init__(self, threads: SimThreads, seed: int, watchers: Callable[[Client], Any]) -> None:
        self.threads, self.watchers, self.seed = threads, watchers, seed
        self.api = SimApi(threads, seed)
        self.faults, self.etcd = self.api.faults, self.api.etcd
        self.clients = {name: Client(self, name) for name in CLIENTS}
        self.agents = Client(self, "agents")
        self._agents = self.agents.api()
        self._snapshots: list[tuple[float, Snapshot]] = []
        self._insisting: dict[str, SimThread] = {}
        self.edited = 0.0  # when the ledger was edited by hand last
        self.restored = 0.0
        self.lease_back = 0.0  # when the lease was deleted, or put back, last
        self.apart_for: dict[str, tuple[float, float]] = {}  # by client: nothing arrives since, until
        self.reported: dict[tuple[str, str], tuple[bool, float]] = {}  # by peer and node: state, and when

    @property
    def now(self) -> float:
        """The loop's seconds."""
        return self.threads.loop.time()

    def _later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        self.threads.loop.call_later(seconds, call, *args)

    @property
    def insisting(self) -> bool:
        """Whether an agent still has something to say."""
        return any(thread.is_alive() for thread in self._insisting.values())

    def keep_snapshot(self) -> None:
        """Called now and then, as a cluster's backup is."""
        self._snapshots.append((self.now, self.etcd.snapshot()))

    def _get(self, kind: str, name: str, space: str = "") -> Object | None:
        return self.etcd.get(kind, name, space)

    def _gone(self, kind: str, name: str, space: str = "") -> None:
        if self._get(kind, name, space) is not None:
            self.etcd.remove(place_of(kind), (space, name))

    def _put_spec(self, document: Object) -> None:
        """As `kubectl apply`: what others wrote stays."""
        space = document["metadata"].get("namespace", "")
        old = self._get(document["kind"], document["metadata"]["name"], space)
        if old is not None:
            document = {**old, "spec": document.get("spec", {})}
        self.etcd.put(document)

    # --- what people and kubelets do ---------------------------------------------------------------------

    def node(self, name: str) -> None:
        if self._get("Node", name) is None:
            number = int(name[1:])
            addresses = [f"10.0.0.{number + 10}", f"fd00::{number + 10}"]
            if number % 2:
                addresses.reverse()
            self.etcd.put(
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": name},
                    "spec": {},
                    "status": {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]},
                }
            )

    def node_gone(self, name: str) -> None:
        self._gone("Node", name)

    def node_again(self, name: str) -> None:
        self.node_gone(name)
        self.node(name)

    def node_swap(self, gone: str, comes: str, seconds: float) -> None:
        """One goes for longer than the grace time, and another comes in its place."""
        self.node_gone(gone)
        self._later(GRACE + seconds, self.node, comes)

    def beat(self, name: str) -> None:
        found = self._get("Node", name)
        if found is not None:
            found["status"]["conditions"] = [
                {"type": "Ready", "status": "True", "lastHeartbeatTime": f"{self.now}"}
            ]
            self.etcd.put(found)

    def label(self, name: str, colour: str) -> None:
        found = self._get("Node", name)
        if found is not None:
            found["metadata"]["labels"] = {"colour": colour}
            self.etcd.put(found)

    def wish(self, name: str, version: int, count: int) -> None:
        """The node's agent wants more blocks, until it is heard."""
        own_node = KubeOwnNode(self._agents, name)
        self._insist(name, lambda: own_node.want_blocks({version: count}))

    def warn(self, name: str, message: str) -> None:
        own_node = KubeOwnNode(self._agents, name)
        self._insist(name, lambda: own_node.warn("Late", message))

    def sessions(self, count: int, of: str, up: int) -> None:
        """Some nodes at once say what became of theirs."""
        for name in NODES[:count]:
            if self._get("Node", name) is not None and self._get("BGPPeer", of) is not None:
                self._say_session(KubeOwnNode(self._agents, name), name, of, bool(up))

    def _say_session(self, own_node: KubeOwnNode, name: str, of: str, up: bool) -> None:
        self.reported.pop((of, name), None)

        def say() -> None:
            self.reported.pop((of, name), None)
            own_node.report_sessions(of, [("10.0.0.9", up, "")])
            self.reported[of, name] = up, self.now

        self._insist(name, say, f"sessions {of}")

    def _insist(self, node: str, call: Callable[[], None], key: str = "") -> None:
        key = f"{node} {key}"
        process = self.agents.process
        assert process is not None

        def work() -> None:
            for _ in range(60):
                if self._get("Node", node) is None:
                    return
                try:
                    call()
                except L3netError:
                    sleep(process, 5)
                else:
                    return

        before = self._insisting.get(key)

        def in_turn() -> None:
            """An agent says one thing after the other."""
            if before is not None:
                before.join()
            work()

        self._insisting[key] = process.start(in_turn, "insists")

    def pool(self, name: str, cidr: str, size: int) -> None:
        spec: Object = {"cidr": cidr}
        spec |= {"blockSize": size} if size else {"allowedUses": ["LoadBalancer"]}
        self._put_spec(own("IPPool", name, **spec))

    def pool_gone(self, name: str) -> None:
        self._gone("IPPool", name)

    def pool_back(self, name: str, seconds: float) -> None:
        """Deleted, and applied again."""
        cidr, size = {"four": ("10.244.0.0/18", 24), "six": ("fd00:244::/112", 120)}[name]
        self.pool_gone(name)
        self._later(seconds, self.pool, name, cidr, size)

    def service(self, name: str, dual: int) -> None:
        address = f"10.96.0.{int(name[1:]) + 10}"
        spec: Object = {
            "type": "LoadBalancer",
            "loadBalancerClass": "l3net.io/bgp",
            "clusterIP": address,
            "clusterIPs": [address, f"fd00:96::{int(name[1:]) + 10}"][: 1 + dual],
            "ports": [{"port": 80, "protocol": "TCP"}],
        }
        metadata = {"name": name, "namespace": "default"}
        self._put_spec({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})

    def service_gone(self, name: str) -> None:
        self._gone("Service", name, "default")

    def service_again(self, name: str, dual: int) -> None:
        self.service_gone(name)
        self.service(name, dual)

    def service_type(self, name: str, kind: str) -> None:
        found = self._get("Service", name, "default")
        if found is not None:
            found["spec"]["type"] = kind
            if kind != "LoadBalancer":
                found.pop("status", None)  # as an API server does
            self.etcd.put(found)

    def ingress_lost(self, name: str) -> None:
        """Somebody empties the service's status."""
        found = self._get("Service", name, "default")
        if found is not None:
            found.pop("status", None)
            self.etcd.put(found)

    def service_range(self, name: str) -> None:
        """As the API server tells of its own; old ones do not know the kind."""
        spec = {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]}
        metadata = {"name": name}
        self._put_spec(
            {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": metadata, "spec": spec}
        )

    def peer(self, name: str) -> None:
        self._put_spec(peer(name, address="10.0.0.9" if name == "tor" else "fd00::9"))

    def peer_gone(self, name: str) -> None:
        self._gone("BGPPeer", name)

    def namespaces(self, count: int) -> None:
        for number in range(count):
            self._put_spec(namespace(f"space{number}"))

    def namespaces_gone(self) -> None:
        for number in range(12):
            self._gone("Namespace", f"space{number}")

    def pod(self, name: str, on: str) -> None:
        if self._get("Pod", name, "default") is None:
            self.etcd.put(pod(name, f"10.244.9.{int(name[1:])}", on))

    def pod_gone(self, name: str) -> None:
        self._gone("Pod", name, "default")

    def policy(self, name: str) -> None:
        self._put_spec(network_policy(name))

    def policy_gone(self, name: str) -> None:
        self._gone("NetworkPolicy", name, "default")

    def mesh(self, on: int) -> None:
        self._put_spec(own("BGPConfiguration", "default", nodeToNodeMesh=bool(on)))

    def spoil(self, what: str, seconds: float) -> None:
        """An object becomes one that cannot be used, and is mended."""
        kind, name, space, field = {
            "node": ("Node", "n2", "", "taints"),
            "service": ("Service", "s1", "default", "ports"),
            "pool": ("IPPool", "four", "", "cidr"),
            "peer": ("BGPPeer", "tor", "", "asNumber"),
        }[what]
        found = self._get(kind, name, space)
        if found is None or (field not in found["spec"] and what != "node"):
            return
        good = copy.deepcopy(found["spec"].get(field))
        found["spec"][field] = "what is this"
        self.etcd.put(found)
        self._later(seconds, self._mend, kind, name, space, field, good)

    def _mend(self, kind: str, name: str, space: str, field: str, good: object) -> None:
        found = self._get(kind, name, space)
        if found is not None and found["spec"].get(field) == "what is this":
            if good is None:
                del found["spec"][field]
            else:
                found["spec"][field] = good
            self.etcd.put(found)

    # --- faults of the API -------------------------------------------------------------------------------

    def refuse(self, code: int, verb: str, plural: str, seconds: float, after: int, share: float) -> None:
        text = str(after) if after else ""
        self.faults.refusals.append(
            Refusal(self.now + seconds, code, verb, plural, retry_after=text, share=share)
        )

    def forbid(self, code: int, plural: str, seconds: float) -> None:
        self.faults.refusals.append(Refusal(self.now + seconds, code, plural=plural))

    def undefined(self, plural: str, seconds: float) -> None:
        """Its CRD is not there."""
        self.faults.refusals.append(Refusal(self.now + seconds, 404, plural=plural, began=self.now))

    def gone_watches(self, plural: str, seconds: float) -> None:
        """Lists are answered, and every watch is refused as too old."""
        self.faults.refusals.append(Refusal(self.now + seconds, 410, "watch", plural))

    def down(self, seconds: float) -> None:
        self.faults.refused_until = max(self.faults.refused_until, self.now + seconds)
        for server in self.api.servers:
            server.restart()

    def lost(self, seconds: float) -> None:
        """The API's hosts are gone without a word, and come back as if nothing had been."""
        self.faults.lost_until = max(self.faults.lost_until, self.now + seconds)
        for number in range(len(self.api.servers)):
            self.silent(number, seconds)

    def apart(self, name: str, seconds: float) -> None:
        """Nothing of one client arrives."""
        since, until = self.apart_for.get(name, (0.0, 0.0))
        self.apart_for[name] = (since if until > self.now else self.now), max(until, self.now + seconds)
        self.faults.apart[name] = self.apart_for[name][1]
        for server in self.api.servers:
            self._later(seconds, server.wake)

    def cut(self) -> None:
        for server in self.api.servers:
            server.cut()

    def slow(self, seconds: float, least: float, most: float) -> None:
        self.faults.slow.append((self.now + seconds, least, most))

    def lose(self, seconds: float, share: float) -> None:
        self.faults.losing.append((self.now + seconds, share))

    def torn(self, seconds: float, share: float) -> None:
        self.faults.torn.append((self.now + seconds, share))

    def html(self, seconds: float, share: float) -> None:
        self.faults.proxied.append((self.now + seconds, share))

    def spoil_watch(self, how: str, plural: str, seconds: float) -> None:
        self.faults.spoiling.append((self.now + seconds, how, plural))

    def silent(self, server: int, seconds: float) -> None:
        self.api.servers[server].set(silent=True)
        self._later(seconds, lambda: self.api.servers[server].set(silent=False))

    def lag(self, server: int, seconds: float) -> None:
        self.api.servers[server].set(lagging=True)
        self._later(seconds, lambda: self.api.servers[server].set(lagging=False))

    def restart_server(self, server: int) -> None:
        self.api.servers[server].restart()

    def compact(self) -> None:
        self.etcd.compact()

    def restore(self, seconds: float) -> None:
        """etcd is put back to what it was this long ago."""
        wanted = self.now - seconds
        older = [snapshot for when, snapshot in self._snapshots if when <= wanted]
        if older and older[-1].version < self.etcd.version:
            self.restored = self.lease_back = self.now
            self.api.restore(older[-1])

    def ledger(self, how: str, which: int) -> None:
        """Somebody edits it."""
        found = self._get("ConfigMap", LEDGER, NAMESPACE)
        if found is None:
            return
        self.edited = self.now
        lines = [line for line in (found.get("data") or {}).get("blocks", "").splitlines() if line]
        match how:
            case "delete":
                self._gone("ConfigMap", LEDGER, NAMESPACE)
                return
            case "empty":
                found["data"] = encode(Ledger())
            case "broken":
                found["data"]["blocks"] = "what is this\n"
                self._later(30, self._ledger_again, json.loads(json.dumps(lines)))
            case "gone":
                nodes = {name for _, name in self.etcd.objects[place_of("Node")]}
                kept = [line for line in lines if line.partition(" ")[0] in nodes]
                found["data"]["blocks"] = "".join(f"{line}\n" for line in kept)
            case "drop" if lines:
                del lines[which % len(lines)]
                found["data"]["blocks"] = "".join(f"{line}\n" for line in lines)
            case "swap" if len(lines) > 1:
                names, held = zip(*(line.split(" ", 1) for line in lines), strict=True)
                turned = held[1:] + held[:1]
                found["data"]["blocks"] = "".join(
                    f"{name} {blocks}\n" for name, blocks in zip(names, turned, strict=True)
                )
        self.etcd.put(found)

    def lease_gone(self) -> None:
        """Somebody deletes it."""
        self.lease_back = self.now
        self._gone("Lease", LEASE, NAMESPACE)

    def _ledger_again(self, lines: list[str]) -> None:
        found = self._get("ConfigMap", LEDGER, NAMESPACE)
        if found is not None and found["data"].get("blocks") == "what is this\n":
            found["data"]["blocks"] = "".join(f"{line}\n" for line in lines)
            self.etcd.put(found)

    # --- faults of clients -------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        self.clients[name].start()

    def restart(self, name: str, seconds: float) -> None:
        """Killed, and started after a while."""
        self.clients[name].kill()
        self._later(seconds, self.start, name)

    def stop(self, name: str, seconds: float) -> None:
        """Ended as by SIGTERM, and started after a while."""
        client = self.clients[name]
        if client.process is not None and client.running:
            client.process.terminate()
        self._later(20, client.kill)
        self._later(20 + seconds, self.start, name)

    def pause(self, name: str, seconds: float) -> None:
        process = self.clients[name].process
        if process is not None and not process.paused:
            process.pause()
            self._later(seconds, process.resume)

    def move(self, name: str) -> None:
        """Its connections lead to the other server."""
        client = self.clients[name]
        client.server = 1 - client.server
        if client.link is not None:
            client.link.server = client.server
        self.cut()

    def skew(self, name: str, seconds: float) -> None:
        client = self.clients[name]
        client.skew = seconds
        if client.process is not None:
            client.process.skew = seconds
