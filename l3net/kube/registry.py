"""The declared kinds: one row each, from which everything that is said of a kind follows.

Translation, validation, the paths of the Kubernetes API, the declared state, the roles in deploy/, the
reference and the metrics read these rows. To add a kind: its fact and its field of ClusterState in
`l3net.model`, a module that reads it, a row here; for one of ours the CRD and an example in schemas/ too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources as files
from importlib.resources.abc import Traversable
from typing import Any, Final, TypeAlias

from l3net.kube import core, pods, policies, resources
from l3net.kube.fields import Field
from l3net.model import BgpConfiguration, ClusterState, Fact, Kind, ObjectName
from l3net.naming import API_GROUP, API_VERSION

Reader: TypeAlias = Callable[[Field, ObjectName], Fact | None]


@dataclass(frozen=True, slots=True)
class Access:
    """What a process may do with the objects of a kind, and with their status: verbs of RBAC."""

    verbs: tuple[str, ...] = ()
    status: tuple[str, ...] = ()


NO_ACCESS: Final = Access()
WATCH: Final = Access(("list", "watch"))
#: Read, and told in its status how it fares.
JUDGE: Final = Access(("get", "list", "watch"), ("patch",))


@dataclass(frozen=True, slots=True)
class Definition:
    """The CRD of a kind, and of one of ours the manifest that the reference shows: files of one folder."""

    folder: Traversable
    name: str

    def text(self) -> str:
        """The CustomResourceDefinition, as the YAML to apply."""
        return self.folder.joinpath(f"{self.name}.yaml").read_text(encoding="utf-8")

    def example(self) -> str:
        """A manifest, as people write it. Of a kind of ours."""
        return self.folder.joinpath(f"{self.name}.example.yaml").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class DeclaredKind:
    """One kind: where the API has it, how it is read, where its facts are kept, who may do what with it.

    `held_in`: the field of ClusterState, which maps names to facts (namespace and name, if `namespaced`);
    or, with `absent`, holds the fact of the one object that counts, named `default`, and what `absent` makes
    where there is none. `names_secrets`: its facts may name Secrets, which are then read. `by_name`: objects
    are read one by one, those that others name, never all. `optional`: an API server may not know the kind,
    and then there are none.
    """

    kind: Kind
    group: str  # "": Kubernetes' core
    version: str
    plural: str
    read: Reader
    held_in: str
    namespaced: bool = False
    definition: Definition | None = None  # of a kind of ours, and of one of others' that we ship
    absent: Callable[[], Fact] | None = None
    names_secrets: bool = False
    by_name: bool = False
    optional: bool = False
    agent: Access = NO_ACCESS
    controller: Access = NO_ACCESS

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def ours(self) -> bool:
        return self.group == API_GROUP

    def put(self, state: ClusterState, name: ObjectName, fact: Fact | None) -> None:
        """Put an object into the declared state, or delete it."""
        if self.absent is not None:
            if name.name == "default":
                setattr(state, self.held_in, self.absent() if fact is None else fact)
            return
        held: dict[Any, Fact] = getattr(state, self.held_in)
        key = name if self.namespaced else name.name
        if fact is None:
            held.pop(key, None)
        else:
            held[key] = fact

    def count(self, state: ClusterState) -> int:
        """How many objects of the kind are declared. Not for the kind with one object that counts."""
        return len(getattr(state, self.held_in))

    def objects(self, state: ClusterState) -> Iterator[tuple[ObjectName, Fact]]:
        """Those of the declared state; the one named `default`, though it be absent."""
        held: Any = getattr(state, self.held_in)
        if self.absent is not None:
            yield ObjectName("", "default"), held
            return
        for key, fact in held.items():
            yield key if self.namespaced else ObjectName("", key), fact


class Registry(Mapping[Kind, DeclaredKind]):
    """The rows, by kind; and by the apiVersion and kind that a document bears."""

    def __init__(self, *rows: DeclaredKind) -> None:
        self._rows: dict[Kind, DeclaredKind] = {}
        self._named: dict[tuple[str, str], DeclaredKind] = {}
        for row in rows:
            self.add(row)

    def add(self, row: DeclaredKind) -> None:
        self._rows[row.kind] = row
        self._named[row.api_version, row.kind.value] = row

    def remove(self, kind: Kind) -> None:
        row = self._rows.pop(kind)
        del self._named[row.api_version, kind.value]

    def __getitem__(self, kind: Kind) -> DeclaredKind:
        return self._rows[kind]

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, api_version: str, kind: str) -> DeclaredKind | None:
        return self._named.get((api_version, kind))

    def ours(self) -> tuple[Kind, ...]:
        """Those of the group l3net.io."""
        return tuple(row.kind for row in self._rows.values() if row.ours)

    def defined(self) -> tuple[Kind, ...]:
        """Those whose CRD is shipped: ours, and what of others' a cluster may lack."""
        return tuple(row.kind for row in self._rows.values() if row.definition is not None)

    def watched(self, process: str) -> tuple[Kind, ...]:
        """Those that the `agent` or `controller` reads whole; ours first: they say what else is read."""
        rows = [
            row for row in self._rows.values() if not row.by_name and "watch" in access(row, process).verbs
        ]
        return tuple(row.kind for row in sorted(rows, key=lambda row: not row.ours))


def access(row: DeclaredKind, process: str) -> Access:
    """Of the `agent`, or of the `controller`."""
    return row.agent if process == "agent" else row.controller


_SCHEMAS: Final = files.files("l3net.kube").joinpath("schemas")
_GROUP, _VERSION = API_GROUP, API_VERSION.rpartition("/")[2]

KINDS: Final = Registry(
    DeclaredKind(
        Kind.NODE, "", "v1", "nodes", core.node, "nodes",
        agent=Access(("get", "list", "watch", "patch"), ("patch",)),  # its own: wishes, NetworkUnavailable
        controller=Access(("get", "list", "watch", "patch")),  # blocks
    ),
    DeclaredKind(
        Kind.SERVICE, "", "v1", "services", core.service, "services",
        namespaced=True, agent=WATCH, controller=JUDGE,
    ),
    DeclaredKind(
        Kind.ENDPOINT_SLICE, "discovery.k8s.io", "v1", "endpointslices", core.endpoint_slice, "slices",
        namespaced=True, agent=WATCH,
    ),
    DeclaredKind(
        Kind.NAMESPACE, "", "v1", "namespaces", core.namespace, "namespaces",
        agent=WATCH, controller=WATCH,
    ),
    DeclaredKind(
        Kind.POD, "", "v1", "pods", pods.pod, "pods",
        namespaced=True, agent=WATCH, controller=WATCH,
    ),
    DeclaredKind(
        Kind.NETWORK_POLICY, "networking.k8s.io", "v1", "networkpolicies", policies.network_policy,
        "policies", namespaced=True, agent=WATCH, controller=WATCH,
    ),
    DeclaredKind(
        Kind.CLUSTER_NETWORK_POLICY, "policy.networking.k8s.io", "v1alpha2", "clusternetworkpolicies",
        policies.cluster_network_policy, "cluster_policies",
        optional=True, definition=Definition(_SCHEMAS, "clusternetworkpolicies"),
        agent=WATCH, controller=WATCH,
    ),
    DeclaredKind(
        Kind.SERVICE_CIDR, "networking.k8s.io", "v1", "servicecidrs", core.service_cidr, "service_cidrs",
        optional=True, agent=WATCH, controller=WATCH,
    ),
    DeclaredKind(
        Kind.SECRET, "", "v1", "secrets", core.secret, "secrets",
        namespaced=True, by_name=True, agent=Access(("get", "watch")),
    ),
    DeclaredKind(
        Kind.BGP_CONFIGURATION, _GROUP, _VERSION, "bgpconfigurations", resources.bgp_configuration,
        "configuration", absent=BgpConfiguration, names_secrets=True,
        definition=Definition(_SCHEMAS, "bgpconfigurations"), agent=WATCH, controller=JUDGE,
    ),
    DeclaredKind(
        Kind.BGP_PEER, _GROUP, _VERSION, "bgppeers", resources.bgp_peer, "peers",
        names_secrets=True,
        definition=Definition(_SCHEMAS, "bgppeers"),
        agent=JUDGE,  # how the node's sessions are
        controller=JUDGE,
    ),
    DeclaredKind(
        Kind.BGP_FILTER, _GROUP, _VERSION, "bgpfilters", resources.bgp_filter, "filters",
        definition=Definition(_SCHEMAS, "bgpfilters"), agent=WATCH, controller=JUDGE,
    ),
    DeclaredKind(
        Kind.IP_POOL, _GROUP, _VERSION, "ippools", resources.ip_pool, "pools",
        definition=Definition(_SCHEMAS, "ippools"), agent=WATCH, controller=JUDGE,
    ),
    DeclaredKind(
        Kind.FLOATING_IP, _GROUP, _VERSION, "floatingips", resources.floating_ip, "floating",
        namespaced=True,
        optional=True,  # CRDs of an older release do not have it
        definition=Definition(_SCHEMAS, "floatingips"), agent=WATCH, controller=JUDGE,
    ),
    DeclaredKind(
        Kind.EGRESS_IP, _GROUP, _VERSION, "egressips", resources.egress_ip, "egress",
        optional=True,  # CRDs of an older release do not have it
        definition=Definition(_SCHEMAS, "egressips"), agent=WATCH, controller=JUDGE,
    ),
)  # fmt: skip
