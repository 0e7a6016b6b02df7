"""The pods of l3net-glass in a cluster: where the looking glass of each node is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from l3net.errors import NotRunningError
from l3net.shell.kubernetes.api import ApiError, KubeApi

SELECTOR: Final = "app.kubernetes.io/name=l3net,app.kubernetes.io/component=glass"
AGENT_SELECTOR: Final = "app.kubernetes.io/name=l3net,app.kubernetes.io/component=agent"
#: The port's name in the pod.
PORT: Final = "glass"


@dataclass(frozen=True, slots=True)
class GlassPod:
    """`url` is its own address; `ask` goes by the API server's proxy and blocks."""

    node: str
    url: str
    name: str
    port: int
    namespace: str
    api: KubeApi

    def ask(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body. Raises NotRunningError where no answer comes."""
        place = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}:{self.port}/proxy{path}"
        try:
            return 200, self.api.get(place, query, headers)
        except ApiError as err:
            if err.code in (0, 502, 503, 504):
                raise NotRunningError(f"by the API server: {err.said or err}") from None
            return err.code, json.dumps({"error": err.said or str(err)}).encode()


class GlassPods:
    """`list` them as they are now."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api, self._namespace = api, namespace

    def list(self) -> list[GlassPod]:
        """Those that run, one a node. Raises ApiError."""
        answer = self._api.get(
            f"/api/v1/namespaces/{self._namespace}/pods",
            {"labelSelector": SELECTOR, "fieldSelector": "status.phase=Running"},
        )
        found = {
            pod.node: pod for item in json.loads(answer)["items"] if (pod := self._pod(item)) is not None
        }
        return [found[node] for node in sorted(found)]

    def agents(self) -> Sequence[str]:
        """The nodes that have a pod of the agent, whatever its state. Raises ApiError."""
        answer = self._api.get(
            f"/api/v1/namespaces/{self._namespace}/pods", {"labelSelector": AGENT_SELECTOR}
        )
        nodes = {item.get("spec", {}).get("nodeName") for item in json.loads(answer)["items"]}
        return sorted(node for node in nodes if node)

    def _pod(self, item: Mapping[str, Any]) -> GlassPod | None:
        metadata, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
        ports = [
            each["containerPort"]
            for container in spec.get("containers", ())
            for each in container.get("ports", ())
            if each.get("name") == PORT
        ]
        address, node = status.get("podIP"), spec.get("nodeName")
        if not (ports and address and node) or "deletionTimestamp" in metadata:
            return None
        host = f"[{address}]" if ip_address(address).version == 6 else address
        return GlassPod(
            node, f"http://{host}:{ports[0]}", metadata["name"], ports[0], self._namespace, self._api
        )
