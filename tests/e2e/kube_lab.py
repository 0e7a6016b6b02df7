"""A lab whose nodes follow an API server, with a controller; and stand-ins for what a lab does not have.

The API server is the tests' own, and kubectl, which is real, speaks to it. Stand-ins are: `systemctl` inside
the hosts, which starts and stops l3net's processes as systemd would; and what kubelet and a Deployment do.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from apiserver import FakeApiServer

from l3net.lab.errors import LabError
from l3net.lab.host import Host
from l3net.lab.manifests import POD_PORT, cluster_manifests, endpoint_slices
from l3net.lab.nodes import l3net_command, node_environment
from l3net.lab.pods import add_pod, delete_pod, find_plugin, read_pod
from l3net.lab.up import Lab
from l3net.lab.wait import until

_SYSTEMCTL = """#!/bin/sh
# systemctl start|stop|restart UNIT
here={here}
unit=${{2%.service}}; name=${{unit#l3net-}}
stop() {{
    pid=$(cat "$here/$name.pid" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || return 0
    while [ -e "/proc/$pid" ]; do sleep 0.05; done
}}
start() {{
    rm -f "$here/$name.pid"
    cd "$here"
    setsid sh -c 'echo $$ >"$0.pid"; exec "./$0.start"' "$name" </dev/null >>"$name.log" 2>&1 &
}}
case $1 in stop) stop ;; start) start ;; restart) stop; start ;; *) exit 1 ;; esac
"""


def install_systemctl(host: Host, **options: list[str]) -> None:
    """For what `options` has the arguments of (`agent` and the like), and kubelet; in /usr/local/sbin."""
    place = host.directory / "sbin"
    place.mkdir(exist_ok=True)
    _executable(place / "systemctl", _SYSTEMCTL.format(here=shlex.quote(str(host.directory))))
    host.run(["mount", "--bind", str(place), "/usr/local/sbin"])
    for name, argv in options.items():
        told = [f"export {key}={shlex.quote(value)}" for key, value in node_environment().items()]
        lines = ["#!/bin/sh", *told, f"exec {shlex.join(l3net_command(name, *argv))}", ""]
        _executable(host.directory / f"{name}.start", "\n".join(lines))
    _executable(host.directory / "kubelet.start", "#!/bin/sh\n")


def _executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class Cluster:
    """`lab`, whose nodes have no blocks but those that the controller gives them."""

    def __init__(self, lab: Lab, api: FakeApiServer) -> None:
        self.lab, self.api = lab, api
        self.names = {node.name: node.name for node in lab.topology.nodes}  # host to Node
        self.kubeconfig = api.kubeconfig(lab.directory / "kubeconfig")
        self._plugin = find_plugin()
        self._ended = threading.Event()
        self.wrong = ""

    def declare(self) -> None:
        """All of the lab's manifests, but for podCIDRs; Pods are not there yet."""
        for documents in cluster_manifests(self.lab.topology).values():
            for document in documents:
                if document["kind"] != "Node":
                    self.api.put(document)
        for node in self.lab.topology.nodes:
            self.register(node.name)

    def register(self, host: str, *, schedulable: bool = True) -> None:
        """As kubelet does when it starts, also with --register-schedulable=false."""
        nodes = cluster_manifests(self.lab.topology)["nodes.yaml"]
        document: dict[str, Any] = next(each for each in nodes if each["metadata"]["name"] == host)
        labels = {"kubernetes.io/hostname": self.names[host]}
        spec = {} if schedulable else {"unschedulable": True}
        self.api.put({**document, "metadata": {"name": self.names[host], "labels": labels}, "spec": spec})

    # --- processes ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Agents and the controller, in place of the agents that followed the directory."""
        for node in self.lab.topology.nodes:
            self._install(node.name)
            self.lab.host(node.name).run(["systemctl", "restart", "l3net-agent"])
        install_systemctl(self.lab.host("client"), controller=["--kubeconfig", str(self.kubeconfig)])
        self.lab.host("client").run(["systemctl", "start", "l3net-controller"])
        for node in self.lab.topology.nodes:
            self.ready(node.name)

    def _install(self, name: str) -> None:
        options = ["--kubeconfig", str(self.kubeconfig)]
        agent = [*options, "--node-name", self.names[name]]
        install_systemctl(self.lab.host(name), speaker=[], agent=agent)

    def replace(self, name: str, node: str | None = None) -> None:
        """Another machine on the same link, with nothing on its disk: it joins as `node`, cordoned."""
        host = self.lab.host(name)
        for unit in ("l3net-agent", "l3net-speaker"):
            host.run(["systemctl", "stop", unit])
        nowhere = str(host.directory / "none")  # the machine's own plugins are not the host's
        host.run(["l3net", "uninstall", "--keep-state", "--bin-dir", nowhere, "--conf-dir", nowhere])
        host.run(["sh", "-c", "rm -rf /var/lib/l3net/*"])
        self.names[name] = node or name
        self._install(name)
        self.register(name, schedulable=False)
        for unit in ("l3net-speaker", "l3net-agent"):
            host.run(["systemctl", "start", unit])

    def ready(self, name: str) -> None:
        host = self.lab.host(name)

        def up() -> bool:
            try:
                status = host.status()
            except Exception:  # it starts
                return False
            blocks = status.get("blocks") or []
            return bool(status.get("ready")) and len(blocks) >= 2

        until(up, 60, lambda: f"{name} has no blocks:\n{host.log_tail('agent')}")

    # --- kubelet, a Deployment, and EndpointSlices ---------------------------------------------------------

    @contextmanager
    def kubelets(self) -> Iterator[None]:
        """A pod runs where its node may have it; one that is evicted leaves its services before it ends."""
        thread = threading.Thread(target=self._keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _keep(self) -> None:
        while not self._ended.wait(0.1):
            try:
                self._look()
            except LabError as err:
                self.wrong = str(err)  # the runtime tries again as well

    def _look(self) -> None:
        for node in self.lab.topology.nodes:
            host = self.lab.host(node.name)
            document = self.api.get("Node", self.names[node.name])
            if document is None and (started := host.directory / "kubelet.pid").exists():
                started.unlink()
                self.register(node.name)
            schedulable = document is not None and not document["spec"].get("unschedulable")
            for pod in node.pods:
                told = self.api.get("Pod", pod) is not None
                runs = (host.directory / f"pod-{pod}.json").exists()
                if runs and not told:
                    self._slices(without=pod)
                    self._ended.wait(1.0)  # as a preStop hook has it
                    delete_pod(host, pod, self._plugin)
                elif schedulable and not runs and self._has_blocks(node.name):
                    self._begin(self.names[node.name], host, pod)

    def _has_blocks(self, host: str) -> bool:
        document = self.api.get("Node", self.names[host])
        return document is not None and len(document["spec"].get("podCIDRs", ())) >= 2

    def _begin(self, node: str, host: Host, pod: str) -> None:
        try:
            made = add_pod(host, pod, self._plugin)
        except LabError:
            delete_pod(host, pod, self._plugin)
            raise
        for address in made.addresses:  # ready, and only then an endpoint
            place = f"[{address}]" if address.version == 6 else str(address)
            asked = ["curl", "-s", "-m", "1", f"http://{place}:{POD_PORT}/"]
            until(lambda asked=asked: host.run(asked, check=False).code == 0, 30, f"{pod} does not answer")
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": True}
        addresses = [{"ip": str(address)} for address in made.addresses]
        self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": pod, "namespace": "default", "ownerReferences": [owner]},
                "spec": {"nodeName": node},
                "status": {"phase": "Running", "podIP": addresses[0]["ip"], "podIPs": addresses},
            }
        )
        self._slices()

    def _slices(self, without: str = "") -> None:
        found = {}
        for pod, node in self.lab.topology.pods.items():
            with suppress(LabError):
                if pod != without:
                    found[pod] = read_pod(self.lab.host(node.name), pod).addresses
        self.api.put(*endpoint_slices(self.lab.topology, found))


@contextmanager
def cluster_of(lab: Lab) -> Iterator[Cluster]:
    """`lab` has to be up, with its pods; they come anew."""
    with FakeApiServer() as api:
        spaces = [Path(f"/proc/{lab.host(node.name).pid}/ns/net") for node in lab.topology.nodes]
        spaces.append(Path(f"/proc/{lab.host('client').pid}/ns/net"))
        with api.served_in(spaces):
            cluster = Cluster(lab, api)
            for pod in lab.topology.pods:
                lab.delete_pod(pod)
            cluster.declare()
            cluster.start()
            with cluster.kubelets():
                until(lambda: _all_serve(cluster), 60, lambda: f"no pods: {cluster.wrong}")
                until(lambda: _answers(lab), 60, "the service does not answer")
                yield cluster


def _all_serve(cluster: Cluster) -> bool:
    pods = cluster.lab.topology.pods
    return all(cluster.api.get("Pod", pod) is not None for pod in pods)


def _answers(lab: Lab) -> bool:
    """Ten times in a row, by both families: routers spread over nodes."""
    once = "curl -s -m 1 http://10.96.0.10/ && curl -s -m 1 'http://[fd00:10:96::a]/' || exit 1"
    asked = f"for i in 1 2 3 4 5 6 7 8 9 10; do {once}; done"
    return lab.host("client").run(["sh", "-c", asked], check=False).code == 0
