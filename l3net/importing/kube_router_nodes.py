"""kube-router's annotations of Nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from l3net.addresses import contains, parse_address
from l3net.community import AnyCommunity
from l3net.importing.flags import number, quoted
from l3net.importing.source import Imported, Outcome, SourceObject, only, standard_community
from l3net.kube.fields import Field
from l3net.model import Address, Kind, ObjectName, Prefix
from l3net.naming import ANNOTATION_AS_NUMBER

_DOMAIN = "kube-router.io/"
_MOST_PREPENDED = 8
_POSITIONAL = ("peer.ips", "peer.asns", "peer.ports", "peer.passwords", "peer.localips")


@dataclass(frozen=True, slots=True)
class Router:
    """A peer. `locked`: its session has a password, which is known nowhere here."""

    address: Address
    as_number: int
    port: int = 179
    local: Address | None = None
    locked: bool = False


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """What a node does with routes: what it puts on those it tells routers, and what it takes of none."""

    communities: frozenset[AnyCommunity] = frozenset()
    prepend: tuple[int, ...] = ()
    rejects: tuple[Prefix, ...] = ()


@dataclass(slots=True)
class Nodes:
    """What the Nodes say, by their names."""

    into: Imported
    names: set[str] = field(default_factory=set)
    routers: dict[str, list[Router]] = field(default_factory=dict)
    policies: dict[str, NodePolicy] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    sources: dict[str, SourceObject] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)  # the cluster ID of those that reflect
    blocks: list[Prefix] = field(default_factory=list)

    def read(self, each: SourceObject) -> None:
        """Raises ManifestError."""
        name = each.name.name
        self.names.add(name)
        self.sources[name] = each
        self.blocks += each.spec["podCIDRs"].prefixes()
        notes = each["metadata"]["annotations"]
        said = _own(notes)
        if not said:
            return
        if "node.asn" in said:
            self.numbers[name] = number(said["node.asn"], 2**32 - 1)
            asn = {ANNOTATION_AS_NUMBER: str(self.numbers[name])}
            self.into.annotate(Kind.NODE, ObjectName("", name), **asn)
            each.carried(said["node.asn"], f"annotation {ANNOTATION_AS_NUMBER} of the Node")
        self.routers[name] = self._routers(each, said)
        self.policies[name] = self._policy(each, said)
        if "rr.server" in said:
            self.servers[name] = said["rr.server"].text()
        for word in ("rr.server", "rr.client"):
            if word in said:
                each.changed(
                    said[word],
                    "topology: RouteReflectors, with reflectors that l3net chooses; to name them, label "
                    "these nodes and set routeReflector.nodeSelector",
                )
        for word, at in said.items():
            if word in ("pod-cidr", "pod-cidrs"):
                each.unsaid(
                    at, "l3net takes a node's blocks from spec.podCIDRs, or from pools by its controller"
                )
            elif word == "bgp-local-addresses":
                each.changed(at, "nodes listen for peers that are passive alone")
            elif not each.told_of(at):
                each.unsaid(at, "l3net import does not know this annotation")

    def compare_prepended(self, everywhere: int) -> None:
        """Where an AS number is put in front that is not the node's: `everywhere` is that of nodes without
        one."""
        for name, policy in self.policies.items():
            own = self.numbers.get(name, everywhere)
            if any(each != own for each in policy.prepend):
                self.sources[name].note(
                    Outcome.CHANGED,
                    f"metadata.annotations.{_DOMAIN}path-prepend.as",
                    f"the node's own AS {own} stands first in the AS path, and what is prepended behind it; "
                    "kube-router has it the other way round. The length is the same",
                )

    def block_size(self, cidr: Prefix) -> int | None:
        """Prefix length of the nodes' blocks in a range."""
        return next((block.prefixlen for block in self.blocks if contains(cidr, block)), None)

    def _routers(self, each: SourceObject, said: dict[str, Field]) -> list[Router]:
        found = [_one(item) for item in _documents(said["peers"])] if "peers" in said else []
        if "peers" in said:
            each.carried(said["peers"], "BGPPeers of this node")
            _secrets(each, said["peers"], found)
        lists = {word: _parts(said[word]) for word in _POSITIONAL if word in said}
        addresses, numbers = lists.get("peer.ips", []), lists.get("peer.asns", [])
        if len(addresses) != len(numbers):
            raise (said.get("peer.asns") or said["peer.ips"]).wrong(
                "peer.ips and peer.asns have to have as many"
            )
        positional: list[Router] = []
        for place, (at, of) in enumerate(zip(addresses, numbers, strict=True)):
            port, password, local = (_at(lists.get(word), place) for word in _POSITIONAL[2:])
            positional.append(
                Router(
                    address(at),
                    number(of, 2**32 - 1),
                    number(port, 65535) if port else 179,
                    address(local) if local else None,
                    locked=password is not None,
                )
            )
        for word in lists:
            if word != "peer.passwords":
                each.carried(said[word], "BGPPeers of this node")
        if "peer.passwords" in said:
            _secrets(each, said["peer.passwords"], positional)
        return [*found, *positional]

    def _policy(self, each: SourceObject, said: dict[str, Field]) -> NodePolicy:
        communities = frozenset(standard_community(at) for at in _parts(said.get("node.bgp.communities")))
        rejects = tuple(at.prefix() for at in _parts(said.get("node.bgp.customimportreject")))
        prepend: tuple[int, ...] = ()
        prepending = said.get("path-prepend.as"), said.get("path-prepend.repeat-n")
        if prepending[0] is not None and prepending[1] is not None:
            prepend = (number(prepending[0], 2**32 - 1),) * number(prepending[1], _MOST_PREPENDED)
        for word in (
            "node.bgp.communities",
            "node.bgp.customimportreject",
            "path-prepend.as",
            "path-prepend.repeat-n",
        ):
            if word in said:
                each.carried(said[word], "a BGPFilter kube-router-... of the node's BGPPeers")
        if "node.bgp.customimportreject" in said:
            each.note(
                Outcome.CHANGED, said["node.bgp.customimportreject"].path, "of routers, not of other nodes"
            )
        return NodePolicy(communities, prepend, rejects)


def _own(notes: Field) -> dict[str, Field]:
    """kube-router's annotations. Raises ManifestError, with no value in it: some are passwords."""
    if not isinstance(notes.value, Mapping):
        return {}
    found = {str(key): notes[str(key)] for key in notes.value if str(key).startswith(_DOMAIN)}
    for at in found.values():
        quoted(at)
    return {key.removeprefix(_DOMAIN): at for key, at in found.items()}


def address(at: Field) -> Address:
    """Raises ManifestError."""
    try:
        return parse_address(at.text())
    except ValueError:
        raise at.wrong("is not an address") from None


def _secrets(each: SourceObject, at: Field, routers: list[Router]) -> None:
    if any(router.locked for router in routers):
        each.unsaid(
            at,
            "passwords stand in the annotation; the BGPPeers refer to Secrets of their own names, key "
            "password: make them",
        )
    else:
        each.carried(at)


def _documents(at: Field) -> list[Field]:
    """YAML inside of an annotation. What stands there is told in no error."""
    try:
        found = yaml.safe_load(at.text())
    except (yaml.YAMLError, ValueError, RecursionError):
        raise at.wrong("is not YAML") from None
    if not isinstance(found, list):
        raise at.wrong("must be a list")
    return [Field(f"{at.path}[{place}]", item) for place, item in enumerate(found)]


def _one(at: Field) -> Router:
    only(at, "remoteip", "remoteasn", "localip", "password", "port")
    local = at["localip"]
    return Router(
        address(at["remoteip"]),
        at["remoteasn"].integer(1, 2**32 - 1),
        at["port"].integer(1, 65535, default=179),
        address(local) if local.present else None,
        locked=bool(at["password"].value),
    )


def _parts(at: Field | None) -> list[Field]:
    """The elements of a list with commas, empty ones too."""
    if at is None:
        return []
    return [Field(at.path, word.strip()) for word in at.text().split(",")]


def _at(fields: list[Field] | None, place: int) -> Field | None:
    return fields[place] if fields and place < len(fields) and fields[place].value else None
