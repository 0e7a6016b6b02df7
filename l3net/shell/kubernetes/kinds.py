"""Where each kind is in the API, and a decoder that keeps of its JSON what l3net reads.

The lean types name the fields that `kube.translate` looks at (a test holds them to it); everything else is
skipped by the parser. Leaves are left untyped: what is wrong there is `translate`'s to say. An object that
does not even have the shape of its kind is decoded whole, so that it is named, and the others go on; one that
cannot be decoded at all (nested beyond measure, a number of thousands of digits) is known by its name alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypedDict, TypeVar

import msgspec

from l3net.kube.registry import KINDS as DECLARED
from l3net.model import Kind, ObjectName

Document: TypeAlias = dict[str, Any]


class _Meta(TypedDict, total=False):
    name: Any
    namespace: Any
    resourceVersion: Any
    labels: Any
    annotations: Any
    creationTimestamp: Any
    deletionTimestamp: Any


class _Named(TypedDict, total=False):
    metadata: _Meta


class _Taint(TypedDict, total=False):
    key: Any
    effect: Any


class _NodeSpec(TypedDict, total=False):
    podCIDR: Any
    podCIDRs: Any
    unschedulable: Any
    taints: list[_Taint] | None


class _Typed(TypedDict, total=False):
    type: Any
    address: Any
    status: Any
    message: Any


class _NodeStatus(TypedDict, total=False):
    addresses: list[_Typed] | None
    conditions: list[_Typed] | None


class _Node(TypedDict, total=False):
    metadata: _Meta
    spec: _NodeSpec | None
    status: _NodeStatus | None


class _Port(TypedDict, total=False):
    name: Any
    protocol: Any
    port: Any


class _ServicePort(_Port, total=False):
    nodePort: Any


class _ServiceSpec(TypedDict, total=False):
    type: Any
    clusterIP: Any
    clusterIPs: Any
    externalIPs: Any
    ports: list[_ServicePort] | None
    internalTrafficPolicy: Any
    externalTrafficPolicy: Any
    healthCheckNodePort: Any
    sessionAffinity: Any
    sessionAffinityConfig: Any
    loadBalancerSourceRanges: Any
    loadBalancerClass: Any
    loadBalancerIP: Any
    publishNotReadyAddresses: Any


class _Ingress(TypedDict, total=False):
    ip: Any
    ipMode: Any


class _Balancer(TypedDict, total=False):
    ingress: list[_Ingress] | None


class _ServiceStatus(TypedDict, total=False):
    loadBalancer: _Balancer | None


class _Service(TypedDict, total=False):
    metadata: _Meta
    spec: _ServiceSpec | None
    status: _ServiceStatus | None


class _Conditions(TypedDict, total=False):
    ready: Any
    serving: Any
    terminating: Any


class _Endpoint(TypedDict, total=False):
    addresses: Any
    conditions: _Conditions | None
    nodeName: Any
    hints: Any


class _EndpointSlice(TypedDict, total=False):
    metadata: _Meta
    addressType: Any
    endpoints: list[_Endpoint] | None
    ports: list[_Port] | None


class _Ranges(TypedDict, total=False):
    cidrs: Any


class _ServiceCidr(TypedDict, total=False):
    metadata: _Meta
    spec: _Ranges | None


# As l3net.naming and kube.pods have them; a type checker wants to see them here.
_PodAnnotations = TypedDict(
    "_PodAnnotations",
    {"l3net.io/allowed-addresses": Any, "l3net.io/floating-ips": Any, "kubernetes.io/config.hash": Any},
    total=False,
)


class _PodMeta(TypedDict, total=False):
    name: Any
    namespace: Any
    uid: Any
    resourceVersion: Any
    labels: Any
    annotations: _PodAnnotations | None
    creationTimestamp: Any
    deletionTimestamp: Any


class _ContainerPort(TypedDict, total=False):
    name: Any
    protocol: Any
    containerPort: Any


class _Container(TypedDict, total=False):
    ports: list[_ContainerPort] | None


class _InitContainer(TypedDict, total=False):
    restartPolicy: Any
    ports: list[_ContainerPort] | None


class _PodSpec(TypedDict, total=False):
    nodeName: Any
    hostNetwork: Any
    containers: list[_Container] | None
    initContainers: list[_InitContainer] | None


class _PodIP(TypedDict, total=False):
    ip: Any


class _Condition(TypedDict, total=False):
    type: Any
    status: Any
    lastTransitionTime: Any


class _PodStatus(TypedDict, total=False):
    phase: Any
    podIP: Any
    podIPs: list[_PodIP] | None
    conditions: list[_Condition] | None


class _Pod(TypedDict, total=False):
    metadata: _PodMeta
    spec: _PodSpec | None
    status: _PodStatus | None


_PolicyAnnotations = TypedDict("_PolicyAnnotations", {"l3net.io/log-drops": Any}, total=False)


class _PolicyMeta(TypedDict, total=False):
    name: Any
    namespace: Any
    resourceVersion: Any
    annotations: _PolicyAnnotations | None


class _Policy(TypedDict, total=False):
    """All of the spec: a field of it that is not known has to be seen."""

    metadata: _PolicyMeta
    spec: Any


class _BareMeta(TypedDict, total=False):
    name: str
    namespace: str
    resourceVersion: str


class _Bare(TypedDict, total=False):
    metadata: _BareMeta


T = TypeVar("T")


class _ListMeta(msgspec.Struct):
    version: str = msgspec.field(name="resourceVersion", default="")
    following: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, Generic[T]):
    """A page of a list (ListMeta, meta/v1)."""

    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[T] | None = None


@dataclass(frozen=True)
class Lean:
    """Decoders of one kind: of a page of a list, and of one object."""

    page: msgspec.json.Decoder[Any]
    one: msgspec.json.Decoder[Any]

    @staticmethod
    def of(shape: Any) -> Lean:
        return Lean(msgspec.json.Decoder(_List[shape]), msgspec.json.Decoder(shape))


_ANY: Final = Lean.of(dict[str, Any])
_RAW: Final = msgspec.json.Decoder(_List[msgspec.Raw])
_NAMED: Final = msgspec.json.Decoder(_Bare)
#: The key under which a document that holds nothing but its metadata says why.
UNREADABLE: Final = "l3net.io/unreadable"


@dataclass(frozen=True)
class KubeKind:
    """One kind: where it is, and how to read it. `namespaced` objects are read from every namespace."""

    kind: Kind
    root: str  # /api/v1 or /apis/GROUP/VERSION
    plural: str
    namespaced: bool = False
    lean: Lean = field(default=_ANY, compare=False)

    @property
    def api_version(self) -> str:
        return self.root.removeprefix("/apis/").removeprefix("/api/")

    @property
    def path(self) -> str:
        """Of the collection."""
        return f"{self.root}/{self.plural}"

    def path_of(self, name: ObjectName) -> str:
        """Of one object."""
        if self.namespaced:
            return f"{self.root}/namespaces/{name.namespace}/{self.plural}/{name.name}"
        return f"{self.root}/{self.plural}/{name.name}"

    def page(self, data: bytes) -> tuple[str, str, list[Document]]:
        """Resource version, continue token and objects of a list. Raises ValueError for what is no list."""
        try:
            try:
                found = self.lean.page.decode(data)
                items = [self._whole(item) for item in found.items or ()]
            except msgspec.ValidationError:
                found = _RAW.decode(data)
                items = [self.one(item) for item in found.items or ()]
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        return found.metadata.version, found.metadata.following, items

    def one(self, data: bytes | msgspec.Raw) -> Document:
        """Raises ValueError for what is no object."""
        try:
            return self._whole(self.lean.one.decode(data))
        except (msgspec.ValidationError, RecursionError):
            pass
        try:
            return self._whole(_ANY.one.decode(data))
        except msgspec.ValidationError as err:
            found: Document = dict(_NAMED.decode(data))
            return self._whole(found | {UNREADABLE: f"cannot be read: {err}"})
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def _whole(self, document: Document) -> Document:
        """Items of a list lack what the list says once."""
        document["apiVersion"], document["kind"] = self.api_version, self.kind.value
        return document


#: What is kept of the JSON of a kind; all of it where nothing is said.
_LEAN: Final = {
    Kind.NODE: Lean.of(_Node),
    Kind.NAMESPACE: Lean.of(_Named),
    Kind.SERVICE: Lean.of(_Service),
    Kind.ENDPOINT_SLICE: Lean.of(_EndpointSlice),
    Kind.POD: Lean.of(_Pod),
    Kind.NETWORK_POLICY: Lean.of(_Policy),
    Kind.CLUSTER_NETWORK_POLICY: Lean.of(_Policy),
    Kind.SERVICE_CIDR: Lean.of(_ServiceCidr),
}


class _Kinds(Mapping[Kind, KubeKind]):
    """Every declared kind, as its row has it."""

    def __getitem__(self, kind: Kind) -> KubeKind:
        row = DECLARED[kind]
        root = f"/apis/{row.api_version}" if row.group else f"/api/{row.version}"
        return KubeKind(kind, root, row.plural, row.namespaced, _LEAN.get(kind, _ANY))

    def __iter__(self) -> Iterator[Kind]:
        return iter(DECLARED)

    def __len__(self) -> int:
        return len(DECLARED)


KINDS: Final = _Kinds()


class WatchEvent(msgspec.Struct):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class _VersionMeta(TypedDict, total=False):
    resourceVersion: str


class _Version(TypedDict, total=False):
    metadata: _VersionMeta


class _Status(TypedDict, total=False):
    code: int
    reason: str
    message: str


_event = msgspec.json.Decoder(WatchEvent)
_version = msgspec.json.Decoder(_Version)
_status = msgspec.json.Decoder(_Status)


def watch_event(line: bytes) -> WatchEvent:
    """Raises ValueError for what is no line of a watch."""
    return _event.decode(line)


def version_of(raw: msgspec.Raw) -> str:
    """The resource version of any object. Raises ValueError."""
    found = _version.decode(raw).get("metadata") or {}
    return found.get("resourceVersion", "")


def status_of(raw: msgspec.Raw) -> tuple[int, str]:
    """Code and message of a Status. Raises ValueError."""
    found = _status.decode(raw)
    return found.get("code", 0), " ".join((found.get("message") or found.get("reason", "")).split())[:300]


def name_of(document: Document) -> ObjectName | None:
    """Of the object; None where its metadata has no name."""
    metadata = _metadata(document)
    name = metadata.get("name")
    return ObjectName(metadata.get("namespace") or "", name) if isinstance(name, str) else None


def version_in(document: Document) -> str:
    """Its resource version."""
    return str(_metadata(document).get("resourceVersion", ""))


def _metadata(document: Document) -> Document:
    found = document.get("metadata")
    return found if isinstance(found, dict) else {}
