"""What stands behind each verdict, in a sentence, and what to do about it."""

from __future__ import annotations

from typing import Final

from l3net.bgp.verdict import Export
from l3net.services.verdicts import Reason

#: Verdict on a service address: what is so, and what to do.
OF_REASON: Final[dict[Reason, tuple[str, str]]] = {
    Reason.OTHER_PROXY: (
        "the label service.kubernetes.io/service-proxy-name gives it to another proxy",
        "take the label off, if l3net is to serve it",
    ),
    Reason.HEADLESS: (
        "the label service.kubernetes.io/headless tells proxies not to serve it",
        "take the label off, or ask for the pods' own addresses",
    ),
    Reason.OPTED_OUT: (
        'the annotation l3net.io/advertise: "false" keeps it from being announced',
        "take the annotation off",
    ),
    Reason.NOT_SELECTED: (
        "advertise.serviceSelector of the BGPConfiguration does not select the service",
        'give the service the labels that are selected, or the annotation l3net.io/advertise: "true"',
    ),
    Reason.KIND_DISABLED: (
        "addresses of this kind are not announced (advertise of the BGPConfiguration)",
        "enable the kind under spec.advertise of the BGPConfiguration, and name its CIDRs",
    ),
    Reason.OUTSIDE_ALLOW_LIST: (
        "it lies in none of the CIDRs that advertise of the BGPConfiguration allows",
        "add its CIDR under spec.advertise, or give the service an address that is allowed",
    ),
    Reason.OTHER_LOAD_BALANCER_CLASS: (
        "spec.loadBalancerClass makes it another load balancer's",
        "set loadBalancerClass to l3net.io/bgp, or leave it to the other",
    ),
    Reason.CONFLICTING_OWNER: (
        "it is the ClusterIP of another service, which keeps it (CVE-2020-8554)",
        "give the service another external address",
    ),
    Reason.NODE_ADDRESS: (
        "it is an address of a node: announced, it would draw that node's own traffic",
        "give the service another external address",
    ),
    Reason.CONFLICTING_PORT: (
        "an older service answers there on every port of this one",
        "use other ports or another address; the older service keeps what it has",
    ),
    Reason.NODE_UNKNOWN: ("no Node object is known for this node", "look at --node-name of the agent"),
    Reason.NODE_NOT_READY: (
        "the Node is not ready, and so announces no services",
        "`kubectl describe node` says why; kubelet has to report Ready",
    ),
    Reason.NODE_EXCLUDED: (
        "the label node.kubernetes.io/exclude-from-external-load-balancers excludes this node",
        "take the label off the Node, or look at the other nodes",
    ),
    Reason.NO_ENDPOINTS: (
        "it has no endpoint that is ready",
        "compare the service's selector and targetPort with the pods' labels and ports, and see whether they "
        "are ready: `kubectl get endpointslices`",
    ),
    Reason.NO_LOCAL_ENDPOINTS: (
        "its traffic policy is Local, and no endpoint that is ready runs on this node",
        "nodes with endpoints announce it; look there, or set the traffic policy to Cluster",
    ),
    Reason.NODE_DRAINING: (
        "this node is drained, and other nodes serve it",
        "nothing, if that is meant; `l3net node undrain`, or uncordon the node",
    ),
}

#: Verdict on a prefix for one peer.
OF_EXPORT: Final[dict[Export, tuple[str, str]]] = {
    Export.SESSION_DOWN: ("the session is down", "`l3net doctor` says why"),
    Export.NODE_DRAINING: (
        "this node is drained",
        "nothing, if that is meant; `l3net node undrain`, or uncordon the node",
    ),
    Export.MESH_PEER: ("nodes of the mesh serve it themselves", ""),
    Export.FAMILY_NOT_NEGOTIATED: (
        "the session does not carry its address family",
        "name the family in `families` of the BGPPeer, and activate it on the router",
    ),
    Export.NO_NEXT_HOP: (
        "the session's link has no address of its family to announce as next hop",
        "give the link an address of the family, or use extendedNextHop (RFC 8950)",
    ),
    Export.FILTERED: (
        "a filter of the BGPPeer refuses it",
        "look at that BGPFilter's export rules; `l3net bgp plan` shows what a change would do",
    ),
}
