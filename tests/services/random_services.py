"""Random Services and their EndpointSlices, as documents out of a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service_reference import HEADLESS, PROXY, Document

ZONES = ("east", "west")
PORTS = (80, 443, 8443)
TARGETS = (8080, 8081)


@dataclass(frozen=True)
class Spot:
    """Where an endpoint can be: one address of each family, by version, and its node."""

    addresses: dict[int, str]
    node: str


class Maker:
    """Makes services one by one; no two have an address or a node port in common."""

    def __init__(self, seed: str, spots: Sequence[Spot], nodes: Sequence[str], ranges: Sequence[str]) -> None:
        self._random = random.Random(seed)
        self._spots, self._nodes, self._ranges = spots, nodes, ranges
        self._count = 0

    def _chance(self, of: float) -> bool:
        return self._random.random() < of

    def service(self) -> list[Document]:
        """One, and its slices."""
        self._count += 1
        number, pick = self._count, self._random
        versions = pick.choice(((4,), (6,), (4, 6), (6, 4)))
        kind = pick.choice(("ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"))
        spec: dict[str, Any] = {
            "type": kind,
            "clusterIPs": [_address(version, "10.96", "fd00:96::", number) for version in versions],
            "ports": [],
        }
        spec["clusterIP"] = spec["clusterIPs"][0]
        for index in range(pick.choice((1, 1, 2))):
            port = {"name": "ab"[index], "port": PORTS[index], "protocol": pick.choice(("TCP", "UDP"))}
            if kind == "NodePort" or (kind == "LoadBalancer" and self._chance(0.8)):
                port["nodePort"] = 30000 + 2 * number + index
            spec["ports"].append(port)
        if self._chance(0.3):
            spec["internalTrafficPolicy"] = "Local"
        if kind != "ClusterIP" and self._chance(0.5):
            spec["externalTrafficPolicy"] = "Local"
        if self._chance(0.3):
            spec["externalIPs"] = [_address(pick.choice(versions), "198.18", "fd00:18::", number)]
        metadata: dict[str, Any] = {"name": f"s{number}", "namespace": "default", "labels": {}}
        if self._chance(0.05):
            metadata["labels"][pick.choice((PROXY, HEADLESS))] = "other"
        if self._chance(0.03):
            spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
            spec.pop("externalIPs", None)
        made: Document = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        if kind == "LoadBalancer":
            if self._chance(0.15):
                spec["loadBalancerSourceRanges"] = pick.sample(self._ranges, pick.randint(1, 3))
            ingress = [{"ip": _address(version, "198.19", "fd00:19::", number)} for version in versions]
            if self._chance(0.1):
                ingress[0]["ipMode"] = "Proxy"
            made["status"] = {"loadBalancer": {"ingress": ingress}}
        return [made, *self._slices(number, versions, spec["ports"], metadata["labels"])]

    def _slices(
        self, number: int, versions: Sequence[int], ports: Sequence[Document], labels: dict[str, str]
    ) -> list[Document]:
        found: list[Document] = []
        for version in versions:
            places = [spot for spot in self._spots if self._chance(0.5)]
            hinted = self._random.choice(("", "", "", "forNodes", "forZones", "both"))
            # Named ports may differ from pod to pod: then there is a slice for each.
            parts = 2 if self._chance(0.3) else 1
            for part in range(parts):
                targets = [
                    {"name": each["name"], "protocol": each["protocol"], "port": self._random.choice(TARGETS)}
                    for each in ports
                    if self._chance(0.95)
                ]
                found.append(
                    {
                        "apiVersion": "discovery.k8s.io/v1",
                        "kind": "EndpointSlice",
                        "metadata": {
                            "name": f"s{number}-{version}-{part}",
                            "namespace": "default",
                            "labels": {"kubernetes.io/service-name": f"s{number}", **labels},
                        },
                        "addressType": f"IPv{version}",
                        "ports": targets,
                        "endpoints": [self._endpoint(spot, version, hinted) for spot in places[part::parts]],
                    }
                )
        return found

    def _endpoint(self, spot: Spot, version: int, hinted: str) -> Document:
        pick = self._random
        made: Document = {"addresses": [spot.addresses[version]], "nodeName": spot.node}
        match pick.randrange(8):
            case 0:
                made["conditions"] = {"ready": False, "serving": True, "terminating": True}
            case 1:
                made["conditions"] = {"ready": False, "serving": False, "terminating": pick.random() < 0.5}
            case 2:
                made["conditions"] = {"ready": False, "serving": True, "terminating": False}
            case 3 | 4 | 5:
                made["conditions"] = {"ready": True, "serving": True, "terminating": False}
            case 6:
                made["conditions"] = {"ready": True}
        if hinted and pick.random() < 0.95:
            made["hints"] = {}
            if hinted != "forZones":
                made["hints"]["forNodes"] = [{"name": each} for each in pick.sample(self._nodes, 1)]
            if hinted != "forNodes":
                zones = pick.sample(ZONES, pick.choice((1, 1, 2)))
                made["hints"]["forZones"] = [{"name": each} for each in zones]
        return made


def _address(version: int, four: str, six: str, number: int) -> str:
    return f"{four}.{number >> 8}.{number & 255}" if version == 4 else f"{six}{number:x}"
