"""A lab of machines reached over ssh, for the same checks as the namespace lab: what `vagrant/` makes.

ssh is the system's, with a configuration file such as `vagrant ssh-config` prints. What takes knowledge of a
machine (its pods, its agent, its links) is done there by the command `l3net-lab` that provisioning put there.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from l3net.lab.errors import LabError
from l3net.lab.kubeadm import node_pools
from l3net.lab.machine import LabPod, Output
from l3net.lab.machines import HEAD, machine_addressing
from l3net.lab.manifests import pools, render, service_documents
from l3net.lab.topology import RouterKind, Topology
from l3net.lab.vyos import vyos_interfaces
from l3net.naming import ANNOTATION_LOAD_BALANCING

_MACHINE = "/usr/local/sbin/l3net-lab"
_LOGS = "/run/l3net-lab-spawned"
_ADMIN = "/etc/kubernetes/admin.conf"
_MANIFESTS = "/etc/l3net/manifests"
_ROUTER = "/etc/l3net-lab/router"
#: Runs a command as root, whoever logs in.
_AS_ROOT = 'if [ "$(id -u)" -eq 0 ]; then exec "$@"; else exec sudo -n -- "$@"; fi'
_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15")
#: What is asked in other words than FRR's.
_SOFTWARE = {"bird": RouterKind.BIRD, "openbgpd": RouterKind.OPENBGPD}
#: What ssh itself ends with when it could not run the command.
_SSH_FAILED = 255


@dataclass(frozen=True, slots=True)
class SshMachine:
    """A host by its name in an ssh configuration. Commands share a connection if there is one, and get
    `patience` times their limits of time."""

    name: str
    config: Path
    control: Path
    patience: float = 1.0

    @property
    def python(self) -> Sequence[str]:
        return ("python3", "-ISE")

    def run(
        self,
        argv: Sequence[str],
        *,
        text: str | None = None,
        pod: str | None = None,
        timeout: float = 30,
        check: bool = True,
    ) -> Output:
        inside = [*argv] if pod is None else [_MACHINE, "pod-exec", pod, *argv]
        # ssh hands one string to the peer's shell.
        remote = shlex.join(["sh", "-c", _AS_ROOT, "sh", *inside])
        options = [*_OPTIONS, *self._path()]
        told = " ".join(argv)
        told = told if len(told) < 200 else f"{told[:200]}..."
        try:
            done = subprocess.run(
                ["ssh", "-F", str(self.config), *options, self.name, remote],
                input="" if text is None else text,
                capture_output=True,
                text=True,
                timeout=timeout * self.patience + 30,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name}: `{told}` took more than {timeout * self.patience:g} s") from None
        except FileNotFoundError:
            raise LabError("there is no ssh on this machine: install openssh-client") from None
        if done.returncode == _SSH_FAILED:
            raise self._unreached(done.stderr)
        if check and done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip())[-600:]
            raise LabError(f"{self.name}: `{told}` failed ({done.returncode}): {said}")
        return Output(done.returncode, done.stdout, done.stderr)

    def connect(self) -> None:
        """Open the connection that the commands share. Raises LabError."""
        shared = [
            "-o",
            "ControlMaster=yes",
            "-o",
            "ControlPersist=yes",
            "-o",
            f"ControlPath={self.control}/%C",
        ]
        # It stays in the background and would hold a pipe open: what it says goes to a file.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                ["ssh", "-F", str(self.config), *_OPTIONS, *shared, "-fN", self.name],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False,
            )  # fmt: skip
            said.seek(0)
            if done.returncode != 0:
                raise self._unreached(said.read().decode(errors="replace"))

    def disconnect(self) -> None:
        argv = [
            "ssh",
            "-F",
            str(self.config),
            "-o",
            f"ControlPath={self.control}/%C",
            "-O",
            "exit",
            self.name,
        ]
        subprocess.run(argv, capture_output=True, check=False)

    def _path(self) -> tuple[str, str]:
        return "-o", f"ControlPath={self.control}/%C"

    def _unreached(self, said: str) -> LabError:
        return LabError(
            f"{self.name} is not reached over ssh: {said.strip()[-300:] or 'no answer'}; "
            f"is the machine up, and does {self.config} name it?"
        )

    def spawn(self, name: str, argv: Sequence[str]) -> None:
        script = (
            f'mkdir -p {_LOGS}; cd {_LOGS}; name=$1; shift; : >"$name.log"; '
            '(setsid "$@" </dev/null >"$name.log" 2>&1 & echo $! >"$name.pid")'
        )
        self.run(["sh", "-c", script, "sh", name, *argv])

    def kill(self, name: str, sign: int = signal.SIGTERM) -> None:
        self.run(["sh", "-c", f'kill -{int(sign)} "$(cat {_LOGS}/{name}.pid)"'], check=False)

    def alive(self, name: str) -> bool:
        return self.run(["sh", "-c", f'kill -0 "$(cat {_LOGS}/{name}.pid)"'], check=False).code == 0

    def read_log(self, name: str) -> str:
        return self.run(["cat", f"{_LOGS}/{name}.log"], check=False).stdout

    def status(self) -> dict[str, Any]:
        answer = json.loads(self.run(["l3net", "status", "-o", "json"]).stdout)
        return answer if isinstance(answer, dict) else {}


@dataclass(frozen=True, slots=True)
class SshLab:
    """Machines that run what a topology says. `vyos` are the routers that are VyOS."""

    topology: Topology
    hosts: Mapping[str, SshMachine]
    kubernetes: bool
    vyos: frozenset[str]
    patience: float = 1.0

    def host(self, name: str) -> SshMachine:
        try:
            return self.hosts[name]
        except KeyError:
            raise LabError(f"there is no host {name!r}: {', '.join(self.hosts)}") from None

    def pod(self, name: str) -> LabPod:
        host = self.host(self.topology.pods[name].name)
        shown = host.run(["ip", "-j", "address", "show", "dev", "eth0"], pod=name).stdout
        found = [
            ip_address(entry["local"])
            for link in json.loads(shown)
            for entry in link.get("addr_info", [])
            if entry.get("scope") == "global"
        ]
        return LabPod(name, host, tuple(found))

    def interface(self, host: str, interface: str) -> str:
        return vyos_interfaces(self.topology, host)[interface] if host in self.vyos else interface

    def number(self, host: str) -> None:
        if host in self.vyos:
            text = machine_addressing(self.topology, host, vyos=True)
            self.host(host).run(["ip", "-batch", "-"], text=text)
        else:
            self.host(host).run([_MACHINE, "network"])

    def set_nat_outgoing(self, nat_outgoing: bool | None) -> None:
        if self.kubernetes:
            kubectl = ["kubectl", "--kubeconfig", _ADMIN, "apply", "--server-side", "--force-conflicts"]
            documents = node_pools(self.topology, nat_outgoing)
            self._first().run([*kubectl, "-f", "-"], text=render(documents), timeout=60)
            return
        self._declare("pools.yaml", render(pools(self.topology, nat_outgoing)))

    def set_consistent(self, consistent: bool) -> None:
        if self.kubernetes:
            said = f"{ANNOTATION_LOAD_BALANCING}{'=Consistent' if consistent else '-'}"
            names = [service.name for service in self.topology.services]
            kubectl = ["kubectl", "--kubeconfig", _ADMIN, "annotate", "--overwrite", "service"]
            self._first().run([*kubectl, *names, said], timeout=60)
            return
        documents = service_documents(self.topology, consistent=consistent)
        self._declare("services.yaml", render(documents))

    def _declare(self, file: str, text: str) -> None:
        """On hosts without Kubernetes: a file of the directory that each node reads, as it was there."""
        new = f"{_MANIFESTS}/.{file}.new"
        script = f"umask 077 && cat >{new} && mv {new} {_MANIFESTS}/{file}"
        for node in self.topology.nodes:
            self.host(node.name).run(["sh", "-c", script], text=HEAD + text)

    def delete_pod(self, name: str) -> None:
        self._of_pod(name).run([_MACHINE, "pod-delete", name], timeout=150)

    def make_pod(self, name: str) -> LabPod:
        self._of_pod(name).run([_MACHINE, "pod-make", name], timeout=240)
        return self.pod(name)

    def complaint(self, pod: str) -> str | None:
        return None

    def kill_agent(self, node: str) -> None:
        self.host(node).run([_MACHINE, "agent-kill"])

    def start_agent(self, node: str) -> None:
        self.host(node).run([_MACHINE, "agent-start"], timeout=120)

    def _first(self) -> SshMachine:
        """The node with the cluster's API server."""
        return self.host(self.topology.nodes[0].name)

    def _of_pod(self, name: str) -> SshMachine:
        return self._first() if self.kubernetes else self.host(self.topology.pods[name].name)


def open_ssh_lab(topology: Topology, config: Path, control: Path, patience: float = 1.0) -> SshLab:
    """The lab whose hosts an ssh configuration names; what runs on its routers and nodes is asked.

    `control` is a directory of one's own for shared connections, with a short path (it holds sockets). Raises
    LabError if a machine is not reached or is none of the lab's.
    """
    if not config.is_file():
        raise LabError(f"there is no {config}: `vagrant ssh-config >{config}` writes it")
    hosts = {host: SshMachine(host, config, control, patience) for host in topology.hosts}
    try:
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(SshMachine.connect, hosts.values()))
        return _look(topology, hosts, patience)
    except BaseException:
        for machine in hosts.values():
            machine.disconnect()
        raise


def _look(topology: Topology, hosts: Mapping[str, SshMachine], patience: float) -> SshLab:
    """What runs on the machines."""
    kinds = {router.name: _router_kind(hosts[router.name]) for router in topology.routers}
    vyos = frozenset(name for name, kind in kinds.items() if kind == "vyos")
    routers = tuple(
        replace(router, kind=_SOFTWARE.get(kinds[router.name], RouterKind.FRR)) for router in topology.routers
    )
    kubernetes = bool(topology.nodes) and _mode(hosts[topology.nodes[0].name]) == "kubernetes"
    return SshLab(replace(topology, routers=routers), hosts, kubernetes, vyos, patience)


def _router_kind(machine: SshMachine) -> str:
    """What provisioning has made of a machine: more than one may be installed. Without its word, what is."""
    script = (
        f"[ -d /opt/vyatta ] && echo vyos || cat {_ROUTER} 2>/dev/null"
        " || command -v birdc || command -v bgpctl || command -v vtysh"
    )
    said = machine.run(["sh", "-c", script], check=False).stdout.strip().rpartition("/")[2]
    signs = {"birdc": "bird", "bgpctl": "openbgpd", "vtysh": "frr"}
    kind = signs.get(said, said if said in {"vyos", *signs.values()} else "")
    if not kind:
        raise LabError(f"{machine.name} runs none of VyOS, BIRD, OpenBGPD and FRR: is it provisioned?")
    return kind


def _mode(machine: SshMachine) -> str:
    return machine.run(["cat", "/etc/l3net-lab/mode"], check=False).stdout.strip()


def close_ssh_lab(lab: SshLab) -> None:
    """End the shared connections."""
    for machine in lab.hosts.values():
        machine.disconnect()
