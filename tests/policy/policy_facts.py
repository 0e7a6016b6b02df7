"""Facts out of manifests, as a directory of them would give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from l3net.kube.translate import translate
from l3net.model import ClusterState, Kind


def read(documents: Iterable[dict[str, Any]]) -> ClusterState:
    """The state that manifests declare; what cannot be read is an error."""
    state = ClusterState()
    tables: dict[Kind, dict[Any, Any]] = {
        Kind.NODE: state.nodes,
        Kind.NAMESPACE: state.namespaces,
        Kind.POD: state.pods,
        Kind.NETWORK_POLICY: state.policies,
        Kind.CLUSTER_NETWORK_POLICY: state.cluster_policies,
    }
    for document in documents:
        found = translate(document)
        assert found is not None, f"nobody reads {document['kind']}"
        kind, name, fact = found
        tables[kind][name if name.namespace else name.name] = fact
    return state
