"""Every name and number l3net owns. Ownership is decided by these and by nothing else."""

from __future__ import annotations

from typing import Final

#: `rtm_protocol` of every route l3net puts in the kernel (rtnetlink(7); 'l' in ASCII, unused by others in
#: /etc/iproute2/rt_protos). A route with another protocol number is never touched.
RTPROT_L3NET: Final = 108

#: Metric of routes learned over BGP: behind connected routes (256 for IPv6), static ones and those of DHCP
#: and router advertisements (up to 1024), as administrative distances have it everywhere.
METRIC_BGP: Final = 2048
#: Metric of the routes to the service ranges on a host that has no other: behind everybody's.
METRIC_SERVICES: Final = 3072
#: Metric of the blackhole that backs a block: the last resort under the bridge's connected route.
METRIC_BLACKHOLE: Final = 4096
#: Metric of the blackhole that backs an announced aggregate. Another than that of blocks: which blocks a node
#: has had is read from the kernel.
METRIC_AGGREGATE: Final = 5120

BRIDGE: Final = "l3net0"
#: Host end of a pod's veth pair: prefix and eleven hex digits of the attachment's digest (IFNAMSIZ is 16).
VETH_PREFIX: Final = "l3v"
#: The one nftables table (family inet) l3net owns.
NFT_TABLE: Final = "l3net"

#: The nfnetlink_log group of ICMP errors about services.
ERROR_LOG_GROUP: Final = 1080
#: That of packets that policies drop and that are to be told of.
POLICY_LOG_GROUP: Final = 1081

#: The device by which packets for services go to the node that answers, its VXLAN network and its UDP port:
#: not 4789, which may be somebody else's to use between other hosts.
ENVELOPE: Final = "l3nvx0"
ENVELOPE_VNI: Final = 0x6C33
ENVELOPE_PORT: Final = 6109

#: Packets of pods that leave the cluster by another node bear a mark in these bits: the number of that node's
#: gateway behind the envelope. A rule of this priority leads by it to a table of theirs.
EGRESS_MARKS: Final = 0xFFFF0000
EGRESS_TABLES: Final = 0x6C330000
EGRESS_PRIORITY: Final = 10800

#: IANA protocol numbers, for nftables: it looks names up in /etc/protocols, which a slim system lacks.
PROTOCOL_NUMBERS: Final = {"tcp": 6, "udp": 17, "sctp": 132, "ipv6-icmp": 58}

API_GROUP: Final = "l3net.io"
API_VERSION: Final = "l3net.io/v1alpha1"

#: Annotations l3net reads.
ANNOTATION_AS_NUMBER: Final = "l3net.io/as-number"
ANNOTATION_ADVERTISE: Final = "l3net.io/advertise"
#: Of a Node, written by the controller: blocks beside those in spec.podCIDRs, separated by commas.
ANNOTATION_BLOCKS: Final = "l3net.io/blocks"
#: Of a Node, written by its agent when a block fills up: how many blocks it wants, as in `IPv4=2,IPv6=1`.
ANNOTATION_WANTS_BLOCKS: Final = "l3net.io/wants-blocks"
#: Of a Node, written by its agent: how many blocks of a pool with a namespaceSelector, as in `tenant-a=1`.
ANNOTATION_WANTS_POOLS: Final = "l3net.io/wants-pools"
#: Of a Node, by its agent: whether it takes what others hand on to it ("true", "false").
ANNOTATION_TAKES_PART: Final = "l3net.io/consistent-load-balancing"
#: Of a Node, written by people: the addresses of its links that its pods leave the cluster with, separated
#: by commas, and how many of a family there may be.
ANNOTATION_SNAT_ADDRESSES: Final = "l3net.io/snat-addresses"
MOST_SNAT_ADDRESSES: Final = 16
#: Of a Service, written by people: the addresses wanted, separated by commas; and services that may share.
ANNOTATION_LOAD_BALANCER_IPS: Final = "l3net.io/load-balancer-ips"
ANNOTATION_SHARING_KEY: Final = "l3net.io/sharing-key"
#: Of a Service, written by people: Random or Consistent, whatever spec.loadBalancing says.
ANNOTATION_LOAD_BALANCING: Final = "l3net.io/load-balancing"
CONSISTENT: Final = "Consistent"
RANDOM: Final = "Random"
#: Of a Pod: what it asks to send from beside its own addresses; of a Namespace: what its pods may ask for.
ANNOTATION_ALLOWED_ADDRESSES: Final = "l3net.io/allowed-addresses"
#: Of a Pod: public addresses that it asks for, separated by commas.
ANNOTATION_FLOATING_IPS: Final = "l3net.io/floating-ips"
#: Of a policy: "true" to have what it denies logged.
ANNOTATION_LOG_DROPS: Final = "l3net.io/log-drops"
#: Of a Namespace: whose it is. Pods of different tenants do not reach one another.
LABEL_TENANT: Final = "l3net.io/tenant"
#: spec.loadBalancerClass of the services whose addresses are l3net's to give.
LOAD_BALANCER_CLASS: Final = "l3net.io/bgp"

#: Of a Node that takes no part in announcing addresses from outside (KEP-1143).
LABEL_EXCLUDED: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
#: Of a Node: the zone that it is in.
LABEL_ZONE: Final = "topology.kubernetes.io/zone"
#: Of a Service or EndpointSlice that no proxy is to serve, whatever its ClusterIP (kube-proxy does not
#: either).
LABEL_HEADLESS: Final = "service.kubernetes.io/headless"
#: Of one that is another proxy's.
LABEL_PROXY: Final = "service.kubernetes.io/service-proxy-name"

RUN_DIR: Final = "/run/l3net"
STATE_DIR: Final = "/var/lib/l3net"
#: Under RUN_DIR; RUN_DIR is 0700 and sockets are 0600.
CNI_SOCKET: Final = "cni.sock"
AGENT_SOCKET: Final = "agent.sock"
SPEAKER_SOCKET: Final = "speaker.sock"
BFD_SOCKET: Final = "bfd.sock"
EXABGP_CONFIG: Final = "exabgp.conf"
#: What the speaker that runs is: its release of ExaBGP and of l3net.
SPEAKER_VERSION: Final = "speaker.version"
EXABGP_CHECKED: Final = "exabgp-checked.json"
#: Under STATE_DIR.
LEASE_DB: Final = "leases.db"
#: Deletions that came while no agent served, and those among them that nobody can read.
SPOOL: Final = "spool"
QUARANTINE: Final = "spool-quarantine"

CNI_NETWORK: Final = "l3net"
CNI_PLUGIN: Final = "l3net-cni"
