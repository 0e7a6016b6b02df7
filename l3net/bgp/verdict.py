"""Every answer policy can give about a path, with the words the operator sees."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Export(enum.Enum):
    """Why a prefix of this node's is announced to a peer or not. The value is what the operator sees."""

    ANNOUNCED = "announced"
    SESSION_DOWN = "sessionDown"  # it is as soon as the session is up
    NODE_DRAINING = "nodeDraining"  # the node leaves
    MESH_PEER = "meshPeer"  # every node serves service addresses itself
    FAMILY_NOT_NEGOTIATED = "familyNotNegotiated"  # BGPPeer.spec.families, or the peer does not speak it
    NO_NEXT_HOP = "noNextHop"  # the session's link has no address of the family
    FILTERED = "filteredBy"


class Verdict(enum.Enum):
    """Why a path is used or not. The value is the name in `l3net status` and in metrics."""

    ACCEPTED = "accepted"
    DEFAULT_ROUTE = "defaultRoute"  # refused unless BGPConfiguration.spec.import.defaultRoute
    OWN_BLOCK = "ownBlock"
    OWN_NETWORK = "ownNetwork"  # one of BGPConfiguration.spec.advertise.networks: ours comes first
    SERVICE_CIDR = "serviceCIDR"
    NODE_SUBNET = "nodeSubnet"
    NOT_OF_NODE = "notOfNode"  # over the mesh a node may announce its own blocks only
    FAMILY_NOT_NEGOTIATED = "familyNotNegotiated"  # the session does not carry it (BGPPeer.spec.families)
    MARTIAN = "martian"  # loopback, link-local, multicast and the like
    OWN_AS = "asPathLoop"  # RFC 4271 section 9.1.2: our AS is in the AS_PATH
    AS_ZERO = "asZero"  # RFC 7607: AS 0 is in the AS_PATH
    CONFEDERATION = "confederationSegment"  # RFC 5065 section 5: in the AS_PATH, and we are in none
    REFLECTION_LOOP = "reflectionLoop"  # RFC 4456 section 8: our router ID or cluster ID is on the path
    NEXT_HOP_SELF = "nextHopSelf"  # RFC 4271 section 5.1.3
    NEXT_HOP_INVALID = "nextHopInvalid"  # loopback, unspecified or multicast
    NEXT_HOP_UNKNOWN = "nextHopUnknown"  # neither the peer nor a node (BGPPeer.spec.thirdPartyNextHops)
    BOGON_PREFIX = "bogonPrefix"  # BGPConfiguration.spec.import.bogons
    BOGON_AS = "bogonAS"
    NO_POLICY = "noImportPolicy"  # RFC 8212: nothing names it (import.ebgpRequiresPolicy)
    OUTSIDE_IMPORT_CIDRS = "outsideImportCIDRs"  # BGPConfiguration.spec.import.cidrs
    MAX_PREFIXES = "maxPrefixes"  # the peer has announced its limit (BGPPeer.spec.maxPrefixes)
    UNRESOLVED = "unresolved"  # RFC 4271 section 9.1.2: accepted, and its next hop leads nowhere now
    FILTERED = "filteredBy"


#: Verdicts on what the cluster itself has announced and its routers pass back, and on the links of its nodes:
#: wherever nodes share routers there are such, and nobody has to do anything.
RETURNED: Final = frozenset(
    {
        Verdict.OWN_BLOCK,
        Verdict.OWN_NETWORK,
        Verdict.SERVICE_CIDR,
        Verdict.NODE_SUBNET,
        Verdict.OWN_AS,
        Verdict.REFLECTION_LOOP,
        Verdict.NEXT_HOP_SELF,
    }
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and, where a filter gave it, the filter's name."""

    verdict: Verdict
    by: str = ""

    def __str__(self) -> str:
        return f"{self.verdict.value}:{self.by}" if self.by else self.verdict.value


#: What refuses a path, for who reads it without the manual.
_MEANINGS: Final = {
    Verdict.DEFAULT_ROUTE: "a default route; import.defaultRoute takes them",
    Verdict.OWN_BLOCK: "it lies inside a block of this node",
    Verdict.OWN_NETWORK: "this node announces it itself (advertise.networks)",
    Verdict.SERVICE_CIDR: "it lies inside a service range, or is a service address",
    Verdict.NODE_SUBNET: "it holds a link of this node or another node's address (import.nodeSubnets)",
    Verdict.NOT_OF_NODE: "over the mesh a node announces its own blocks alone",
    Verdict.FAMILY_NOT_NEGOTIATED: "the session does not carry its family (families of the BGPPeer)",
    Verdict.MARTIAN: "loopback, link-local, multicast or the like",
    Verdict.OWN_AS: "our AS is in the AS path (RFC 4271 section 9.1.2)",
    Verdict.AS_ZERO: "AS 0 is in the AS path (RFC 7607)",
    Verdict.CONFEDERATION: "a confederation's segment is in the AS path (RFC 5065 section 5)",
    Verdict.REFLECTION_LOOP: "our router ID or cluster ID is on the path (RFC 4456 section 8)",
    Verdict.NEXT_HOP_SELF: "its next hop is this node",
    Verdict.NEXT_HOP_INVALID: "its next hop is not an address of a router",
    Verdict.NEXT_HOP_UNKNOWN: "its next hop is neither the peer nor a node (thirdPartyNextHops)",
    Verdict.BOGON_PREFIX: "the prefix is a bogon (import.bogons)",
    Verdict.BOGON_AS: "a bogon AS is in the AS path (import.bogons)",
    Verdict.NO_POLICY: "no policy names it (RFC 8212): import.cidrs, or a filter of the peer",
    Verdict.OUTSIDE_IMPORT_CIDRS: "it lies outside import.cidrs",
    Verdict.MAX_PREFIXES: "the peer has announced its limit (maxPrefixes)",
    Verdict.UNRESOLVED: "its next hop leads nowhere now (RFC 4271 section 9.1.2)",
    Verdict.FILTERED: "the filter refuses it",
}


def meaning(judgement: Judgement) -> str:
    """Why a path is refused, in words; empty where it is not."""
    return _MEANINGS.get(judgement.verdict, "")


ACCEPTED = Judgement(Verdict.ACCEPTED)
