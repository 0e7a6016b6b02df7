"""Calico's part of a Node: annotations of Kubernetes' object, or Calico's own; and which nodes reflect
routes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from l3net.addresses import parse_interface
from l3net.importing.source import Imported, Outcome, SourceObject, as_number
from l3net.kube.fields import Field
from l3net.model import (
    Address,
    BgpConfiguration,
    Kind,
    Labels,
    ObjectName,
    Prefix,
    Selector,
    Topology,
)
from l3net.naming import ANNOTATION_AS_NUMBER

_PREFIX = "projectcalico.org/"


@dataclass(slots=True)
class Nodes:
    """What the Nodes say: their links' subnets, their labels, and the cluster IDs of route reflectors."""

    links: set[Prefix] = field(default_factory=set)
    labels: dict[str, Labels] = field(default_factory=dict)
    clusters: dict[str, str] = field(default_factory=dict)

    def read(self, each: SourceObject, into: Imported) -> None:
        """Put the annotations that it needs into `into`. Raises ManifestError."""
        name = each.name.name
        self.labels[name] = each["metadata"]["labels"].labels()
        if each.api_version == "v1":
            notes = each["metadata"]["annotations"]
            found = {
                "as": notes[f"{_PREFIX}ASNumber"],
                "4": notes[f"{_PREFIX}IPv4Address"],
                "6": notes[f"{_PREFIX}IPv6Address"],
                "cluster": notes[f"{_PREFIX}RouteReflectorClusterID"],
            }
            for key, value in notes.labels().items():
                if key.startswith(_PREFIX) and notes[key].path not in {at.path for at in found.values()}:
                    each.carried(Field(notes[key].path, value), "not needed: Calico's own note")
            own = {
                item["address"].text(default="")
                for item in each["status"]["addresses"].items()
                if item["type"].value == "InternalIP"
            }
        else:
            bgp = each.spec["bgp"]
            found = {
                "as": bgp["asNumber"],
                "4": bgp["ipv4Address"],
                "6": bgp["ipv6Address"],
                "cluster": bgp["routeReflectorClusterID"],
            }
            own = {
                item["address"].text(default="").partition("/")[0] for item in each.spec["addresses"].items()
            }
        if found["as"].present:
            number = as_number(found["as"])
            into.annotate(Kind.NODE, ObjectName("", name), **{ANNOTATION_AS_NUMBER: str(number)})
            each.carried(found["as"], f"annotation {ANNOTATION_AS_NUMBER} of the Node")
        for version in "46":
            self._address(each, found[version], own)
        if found["cluster"].text(default=""):
            self.clusters[name] = found["cluster"].text()
            each.carried(found["cluster"], "BGPConfiguration default spec.routeReflector")

    def _address(self, each: SourceObject, at: Field, own: set[str]) -> None:
        if not at.text(default=""):
            return
        try:
            found = parse_interface(at.text())
        except ValueError:
            raise at.wrong("is not an address") from None
        if "/" in at.text():
            self.links.add(found.network)
        if str(found.ip) in own or not own:
            each.carried(at, "the Node's InternalIP")
        else:
            each.unsaid(
                at, f"l3net knows a node by its InternalIP ({', '.join(sorted(own))}), not by {found.ip}"
            )

    def known(self, version: int) -> bool:
        """Whether any subnet of that IP version is known."""
        return any(link.version == version for link in self.links)

    def on_link(self, address: Address) -> bool:
        return any(address in link for link in self.links)

    def reflecting(
        self, each: SourceObject, remote: Selector, configuration: BgpConfiguration
    ) -> BgpConfiguration | None:
        """The configuration with route reflectors, if that is what a BGPPeer with a peerSelector is for."""
        chosen = {name for name, labels in self.labels.items() if remote.matches(labels)}
        if not chosen or not chosen <= self.clusters.keys():
            return None
        clusters = sorted({self.clusters[name] for name in chosen})
        try:
            cluster = IPv4Address(clusters[0])
        except ValueError:
            return None
        if len(clusters) > 1:
            each.note(
                Outcome.CHANGED, "spec.peerSelector",
                f"all route reflectors are one cluster in l3net: {clusters[0]}, not "
                f"{', '.join(clusters[1:])} too",
            )  # fmt: skip
        each.changed(
            "spec",
            "nodes that reflect routes are topology: RouteReflectors with routeReflector.nodeSelector; every "
            "node has sessions with all of them, and they with one another",
        )
        return replace(
            configuration,
            mesh=True,
            topology=Topology.REFLECTORS,
            cluster_id=cluster,
            reflector_selector=remote,
        )
