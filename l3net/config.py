"""Settings of the agent, parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from l3net.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Datastore:
    """Where the declared state is: a directory of manifests, or the Kubernetes API.

    `directory` None is the API, reached as `kubeconfig` says or, when that is None too, as a pod does.
    """

    directory: Path | None = None
    kubeconfig: Path | None = None


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`mtu` is that of pods in bytes, None to take the uplink's."""

    node_name: str
    datastore: Datastore
    run_dir: Path
    state_dir: Path
    mtu: int | None = None


def datastore(option: str | None, kubeconfig: Path | None, *, in_cluster: bool) -> Datastore:
    """What --datastore and --kubeconfig choose; without them, the API of the cluster around us.

    Raises ConfigError.
    """
    if option is None:
        if kubeconfig is None and not in_cluster:
            raise ConfigError(
                "no declared state to follow: give --datastore dir:PATH for a directory of manifests, or"
                " --kubeconfig FILE for a cluster (in a pod, --datastore kubernetes is the default)"
            )
        return Datastore(kubeconfig=kubeconfig)
    if option == "kubernetes":
        return Datastore(kubeconfig=kubeconfig)
    kind, _, rest = option.partition(":")
    if kind != "dir" or not rest:
        raise ConfigError(
            f"--datastore {option}: write dir:PATH, the directory that holds the manifests, or kubernetes"
        )
    return Datastore(Path(rest))
