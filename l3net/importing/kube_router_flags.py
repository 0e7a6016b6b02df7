"""kube-router's flags: their names, and what becomes of those that have no facts of their own."""

from __future__ import annotations

from typing import Final

from l3net.importing.flags import Flags
from l3net.importing.source import Outcome, SourceObject

#: Those that need no value.
SWITCHES: Final = (
    "advertise-cluster-ip", "advertise-external-ip", "advertise-loadbalancer-ip", "advertise-pod-cidr",
    "auto-mtu", "bgp-graceful-restart", "cleanup-config", "disable-source-dest-check", "enable-cni",
    "enable-ibgp", "enable-ipv4", "enable-ipv6", "enable-overlay", "enable-pod-egress", "enable-pprof",
    "hairpin-mode", "help", "ipvs-graceful-termination", "ipvs-permit-all",
    "loadbalancer-default-class", "masquerade-all", "netpol-default-deny", "nodeport-bindon-all-ip",
    "nodes-full-mesh", "override-nexthop", "run-firewall", "run-loadbalancer", "run-router",
    "run-service-proxy", "version",
)  # fmt: skip
#: What is of the program alone.
_OWN: Final = (
    "auto-mtu", "cache-sync-timeout", "cleanup-config", "disable-source-dest-check", "enable-cni",
    "enable-ipv4", "enable-ipv6", "enable-pprof", "excluded-cidrs", "gobgp-admin-address",
    "gobgp-admin-port", "hairpin-mode", "health-addr", "health-port", "help", "hostname-override",
    "injected-routes-sync-period", "iptables-sync-period", "ipvs-graceful-period",
    "ipvs-graceful-termination", "ipvs-permit-all", "ipvs-sync-period", "kubeconfig",
    "loadbalancer-sync-period", "master", "metrics-addr", "metrics-path", "metrics-port",
    "routes-sync-period", "v", "version", "override-nexthop",
)  # fmt: skip
#: Kinds of service addresses: as flag and annotation, and as a field of AdvertisePolicy.
KINDS: Final = {"clusterip": "cluster-ip", "externalip": "external-ip", "loadbalancerip": "loadbalancer-ip"}


def told_of(each: SourceObject, flags: Flags) -> None:
    """What became of the flags that set something everywhere, or nothing in l3net."""
    for names, into in (
        (("cluster-asn",), "asNumber"),
        (("enable-ibgp",), "nodeToNodeMesh"),
        (("bgp-port",), "listenPort"),
        (("bgp-holdtime",), "holdTime"),
        (("bgp-graceful-restart", "bgp-graceful-restart-time"), "gracefulRestart"),
        (("service-cluster-ip-range",), "serviceCIDRs"),
        (("nodeport-bindon-all-ip",), "nodePortAddresses"),
        (("service-external-ip-range", "loadbalancer-ip-range"), "advertise"),
        (tuple(f"advertise-{word}" for word in ("pod-cidr", *KINDS.values())), "advertise"),
    ):
        for name in names:
            flags.carried(name, f"BGPConfiguration default spec.{into}")
    for name in ("peer-router-ips", "peer-router-asns", "peer-router-ports", "peer-router-multihop-ttl"):
        flags.carried(name, "BGPPeers")
    for name in _OWN:
        flags.carried(name, "not needed: of kube-router itself")
    if flags.on("nodes-full-mesh", default=True):
        flags.carried("nodes-full-mesh", "BGPConfiguration default spec.nodeToNodeMesh")
    else:
        flags.changed("nodes-full-mesh", "nodes of different ASes have sessions with one another as well")
    if flags.on("enable-overlay", default=True):
        each.note(Outcome.CHANGED, "--enable-overlay", "no tunnel: routers between the nodes' subnets "
                                                       "have to have "
                  "the pods' routes")  # fmt: skip
    flags.carried("enable-overlay", "no tunnel")
    for name in ("overlay-type", "overlay-encap", "overlay-encap-port"):
        flags.changed(name, "no tunnel: routers between the nodes' subnets have to have the pods' routes")
    flags.changed("bgp-graceful-restart-deferral-time", "routes are told as soon as they are known")
    flags.unsaid("router-id", "the router ID is the node's first IPv4 InternalIP")
    flags.unsaid("masquerade-all", "l3net masquerades what would not come back otherwise alone")
    flags.unsaid("netpol-default-deny", "write a NetworkPolicy that selects all pods in each namespace")
    if flags.on("run-service-proxy", default=True):
        flags.carried("run-service-proxy", "spec.serviceProxy: Auto, where no kube-proxy answers")
    else:
        flags.changed(
            "run-service-proxy", "spec.serviceProxy: Auto: l3net is one where no kube-proxy answers"
        )
    flags.changed("service-node-port-range", "l3net serves whatever nodePort a Service has")
    flags.changed("service-tcp-timeout", "the kernel's connection tracking has it")
    for name in ("run-router", "run-firewall"):
        if flags.on(name, default=True):
            flags.carried(name)
        else:
            flags.changed(name, "l3net does it all the same: routes, and policies that are declared")
