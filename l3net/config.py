"""Settings of the agent, parsed once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from l3net.errors import ConfigError

#: UDP port by which nodes hand on ICMP errors about services.
ERROR_RELAY_PORT = 6108
#: TCP port by which kube-proxy says whether a node may draw traffic: load balancers ask there.
HEALTH_PORT = 10256


@dataclass(frozen=True, slots=True)
class DatastoreChoice:
    """Where the declared state is: a directory of manifests, or the Kubernetes API.

    `directory` None is the API, reached as `kubeconfig` says or, when that is None too, as a pod does.
    """

    directory: Path | None = None
    kubeconfig: Path | None = None


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`mtu` is that of pods in bytes, None to take the uplink's. `error_relay_port`: UDP, 0 for none.

    `health_port`: TCP, where load balancers ask whether the node may draw traffic, 0 for none.
    `closed_ports`, protocol and port of this node, are closed to pods beside those of routing; `open_ports`
    are its own as well, and pods may ask them.
    """

    node_name: str
    datastore: DatastoreChoice
    run_dir: Path
    state_dir: Path
    mtu: int | None = None
    error_relay_port: int = ERROR_RELAY_PORT
    health_port: int = HEALTH_PORT
    closed_ports: frozenset[tuple[str, int]] = frozenset()
    open_ports: frozenset[tuple[str, int]] = frozenset()

    @property
    def asked_ports(self) -> frozenset[tuple[str, int]]:
        """`open_ports`, and that of health checks."""
        return self.open_ports | ({("tcp", self.health_port)} if self.health_port else set())


def datastore(option: str | None, kubeconfig: Path | None, *, in_cluster: bool) -> DatastoreChoice:
    """What --datastore and --kubeconfig choose; without them, the API of the cluster around us.

    Raises ConfigError.
    """
    if option is None:
        if kubeconfig is None and not in_cluster:
            raise ConfigError(
                "no declared state to follow: give --datastore dir:PATH for a directory of manifests, or"
                " --kubeconfig FILE for a cluster (in a pod, --datastore kubernetes is the default)"
            )
        return DatastoreChoice(kubeconfig=kubeconfig)
    if option == "kubernetes":
        return DatastoreChoice(kubeconfig=kubeconfig)
    kind, _, rest = option.partition(":")
    if kind != "dir" or not rest:
        raise ConfigError(
            f"--datastore {option}: write dir:PATH, the directory that holds the manifests, or kubernetes"
        )
    return DatastoreChoice(Path(rest))


def listen_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:9618` or `[::1]:9618`. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
        number = int(port)
        if not 1 <= number <= 65535 or (address.version == 6) is not (bare != host):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"--metrics-address {text}: write ADDRESS:PORT, such as 127.0.0.1:9618 or [::1]:9618"
        ) from None
    return str(address), number
