"""What the agent says of itself, and what the host lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from l3net.doctor.findings import Finding, NodeLook, Peer, PodLook, Severity
from l3net.doctor.tracking import judge_tracking
from l3net.naming import CNI_PLUGIN

#: Verdicts on a block that are somebody's doing (bgp.verdict.Export), and so may be meant, or not.
_CONFIGURED = ("filteredBy", "noNextHop")
_LITTLE_SPACE = 0.05


def peers_of(status: Mapping[str, Any]) -> list[Peer]:
    """The peers of an agent's status (`l3net status -o json`)."""
    return [
        Peer(
            name=row["name"],
            address=row["address"],
            as_number=row["asNumber"],
            local_address=row["localAddress"],
            port=row["port"],
            listen_port=row["listenPort"],
            established=row["state"] == "established",
            reason=row["reason"],
            password=row["password"],
            gtsm=row["gtsm"],
            passive=row["passive"],
            announced=row["announced"],
            received=row["received"],
            accepted=row["accepted"],
            flaps=row["flaps"],
            refused=row["refused"],
            over_limit=tuple(row["overLimit"]),
            interface=row["interface"],
        )
        for row in status["peers"]
        if row["state"] != "refused"  # has no session to look at; its reason is among the problems
    ]


#: Seconds after which a kind of which nothing was heard is trouble: a bookmark comes each minute, and a
#: silent watch is given up, and everything listed, after 130 s.
SILENT = 600.0


def judge_views(status: Mapping[str, Any]) -> list[Finding]:
    """How old what the agent knows of the cluster is."""
    found = []
    youngest: list[float] = []
    for row in status.get("views") or ():
        ages = [age for age in (row["listedSeconds"], row["bookmarkSeconds"]) if age is not None]
        if not ages:
            continue  # not listed yet: the agent says so itself
        youngest.append(min(ages))
        if min(ages) > SILENT:
            found.append(
                Finding(
                    "view",
                    row["kind"],
                    Severity.PROBLEM,
                    f"nothing was received for {min(ages):.0f} s: neither a list nor a bookmark",
                    "ask the API server (`kubectl get --raw /readyz`); restart the agent if it is well",
                )
            )
    if youngest and not found:
        what = f"every kind was updated within the last {max(youngest):.0f} s"
        found.append(Finding("view", status["node"], Severity.OK, what))
    return found


def judge_pods(pods: Mapping[str, Any]) -> list[Finding]:
    """The pods' side of an agent's status."""
    found = []
    if pods.get("adopted"):
        found.append(
            Finding(
                "leases",
                "adopted",
                Severity.WARNING,
                f"{pods['adopted']} running attachments were not in the lease store when the agent started, "
                "and were taken into it from what the kernel shows",
                "if --state-dir was changed or emptied on purpose, nothing; `l3net ipam history` lists them",
            )
        )
    found += [
        Finding(
            "agent",
            fault["part"],
            Severity.WARNING,
            f"failed {fault['count']} times since the start, the last time with: {fault['last']}",
            "the agent's log with --log-level debug has where",
        )
        for fault in pods.get("faults", ())
        if not fault["lasting"]  # what lasts is among the problems
    ]
    return found


def judge_proxy(status: Mapping[str, Any]) -> list[Finding]:
    """Who translates services on the node."""
    proxy = status.get("serviceProxy")
    if not proxy:  # an agent of an older release
        return []
    if proxy["on"] and proxy["kubeProxy"]:
        return [
            Finding(
                "services",
                status["node"],
                Severity.WARNING,
                f"translated by l3net, and by kube-proxy ({proxy['kubeProxy']}) beside it: {proxy['why']}",
                "remove kube-proxy, or set serviceProxy: Auto in the BGPConfiguration",
            )
        ]
    who = "translated by l3net" if proxy["on"] else "left to another service proxy"
    return [Finding("services", status["node"], Severity.OK, f"{who}: {proxy['why']}")]


#: How an agent's problem begins that says the same as the finding of the speaker.
_NO_SPEAKER = "the speaker cannot be reached"


def speaker_away(status: Mapping[str, Any]) -> bool:
    """Whether no session can be up because nobody speaks BGP here: then nothing is wrong with any peer."""
    return not status.get("speakerConnected", True)


def _speaker(status: Mapping[str, Any]) -> Iterator[Finding]:
    if speaker_away(status):
        yield Finding(
            "speaker",
            status["node"],
            Severity.PROBLEM,
            "the speaker (`l3net speaker`, ExaBGP) does not answer the agent: no BGP session is up, whatever "
            "the peers do",
            "start it (`systemctl status l3net-speaker`, or its pod); its log says why it ended",
        )


def judge_agent(status: Mapping[str, Any]) -> list[Finding]:
    """The agent itself, its problems, its speaker, its pods' side, its routes."""
    found = list(_speaker(status))
    if status["ready"]:
        found.append(Finding("agent", status["node"], Severity.OK, f"ready, l3net {status['version']}"))
    else:
        found.append(
            Finding(
                "agent",
                status["node"],
                Severity.PROBLEM,
                f"not ready: {status['unready']}",
                ("start the speaker first" if found else "look at the peers below")
                if status["reconciled"]
                else "see the agent's log: the datastore (directory or API server) may be out of reach",
            )
        )
    found += [
        Finding("agent", status["node"], Severity.PROBLEM, text, "correct what the text names")
        for text in status["problems"]
        if not (speaker_away(status) and text.startswith(_NO_SPEAKER))
    ]
    found += judge_pods(status.get("pods") or {})  # an agent of an older release has none
    found += judge_views(status)
    found += judge_proxy(status)
    if not status["blocks"]:
        found.append(
            Finding(
                "agent",
                status["node"],
                Severity.WARNING,
                "the node has no block: pods get no address",
                "give it spec.podCIDRs, or run the controller with an IPPool for pods",
            )
        )
    refused = any(text.startswith("peer ") for text in status["problems"])
    if not status["peers"] and not refused:
        found.append(
            Finding(
                "peer",
                "-",
                Severity.WARNING,
                "the node has no BGP peer",
                "declare a BGPPeer that selects this node, or leave nodeToNodeMesh on with other nodes",
            )
        )
    return found + judge_routes(status)


def judge_routes(status: Mapping[str, Any]) -> list[Finding]:
    """Whether the kernel has them; nothing of a status without."""
    if "routes" not in status:
        return []
    found = []
    absent = [route["prefix"] for route in status["routes"] if not route["inKernel"]]
    if absent:
        listed = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
        found.append(
            Finding(
                "routes",
                status["node"],
                Severity.PROBLEM,
                f"{len(absent)} wanted routes are not in the kernel: {listed}",
                "`l3net status` names what the kernel refused; `ip route show proto 108` shows the "
                "actual state",
            )
        )
    else:
        count = len(status["routes"])
        found.append(
            Finding("routes", status["node"], Severity.OK, f"all {count} wanted routes are in the kernel")
        )
    return found


def judge_node(look: NodeLook, ecmp: bool) -> list[Finding]:
    """The host. `ecmp`: whether a route of ours has several next hops."""
    kernel = [*_forwarding(look), *_service_routes(look), *_answers(look, ecmp), *judge_tracking(look)]
    found = [*kernel, *_rivals(look), *_store(look), *_runtime(look)]
    if any(each.check == "kernel" for each in found):
        return found
    return [Finding("kernel", "host", Severity.OK, "forwarding and connection tracking are in order"), *found]


def _rivals(look: NodeLook) -> Iterator[Finding]:
    for each in look.rivals:
        yield Finding(
            "address",
            each.address,
            Severity.PROBLEM,
            f"another host on {each.interface} answers for it ({', '.join(each.macs)}): what is for this "
            "node reaches either",
            "find that host by its MAC, and give it another address",
        )


def _forwarding(look: NodeLook) -> Iterator[Finding]:
    for version, on in sorted(look.forwarding.items()):
        if on is False:
            name = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
            yield Finding(
                "kernel",
                f"IPv{version}",
                Severity.PROBLEM,
                f"{name} is 0: nothing is forwarded to pods",
                "the agent turns it on at its start; find what turns it off again (sysctl.d, another agent)",
            )
    if look.not_forwarding:
        yield Finding(
            "kernel",
            ", ".join(look.not_forwarding),
            Severity.PROBLEM,
            "net.ipv4.conf.*.forwarding of these interfaces is 0: what comes in by them goes to no pod",
            f"find what turns it off (sysctl.d, a network manager); `sysctl net.ipv4.conf."
            f"{look.not_forwarding[0]}.forwarding=1` turns it on",
        )


def _service_routes(look: NodeLook) -> Iterator[Finding]:
    if look.unroutable:
        listed = ", ".join(look.unroutable)
        yield Finding(
            "routes",
            "services",
            Severity.PROBLEM,
            f"the host's own processes have no route to services ({listed}): they cannot reach them",
            "name the serviceCIDRs in the BGPConfiguration: l3net routes them where nothing else does",
        )


def _answers(look: NodeLook, ecmp: bool) -> Iterator[Finding]:
    """Whether answers are taken by any of several ways."""
    if ecmp and look.strict_rp_filter:
        yield Finding(
            "kernel",
            ", ".join(look.strict_rp_filter),
            Severity.WARNING,
            "rp_filter is 1 (strict) and routes have several next hops: answers that come in by another link "
            "than the kernel would send by are dropped",
            "set net.ipv4.conf.all.rp_filter and those of the interfaces to 2 (loose) or 0",
        )


def _store(look: NodeLook) -> Iterator[Finding]:
    """Where leases are kept."""
    if look.state_free is not None and look.state_free < _LITTLE_SPACE:
        yield Finding(
            "leases",
            "disk",
            Severity.PROBLEM,
            f"{look.state_free:.1%} of the lease store's file system is free: pods cannot be "
            "added when it is full",
            "make room, or put --state-dir on another file system",
        )
    if look.quarantine is not None:
        directory, count = look.quarantine
        yield Finding(
            "leases",
            directory,
            Severity.WARNING,
            f"{count} deletions of pods that came while no agent served could not be read: the addresses "
            "they were to free are freed when the pod's interface is gone",
            "look at `l3net ipam check`, then remove the files",
        )


def judge_data_path(look: PodLook, dropping: Sequence[str]) -> list[Finding]:
    """What two pods made for a moment could reach; `dropping`: chains of others that may keep them from
    it."""
    suspects = f"; these chains drop what no rule of theirs takes: {', '.join(dropping)}" if dropping else ""
    if look.refused:
        return [
            Finding(
                "pods",
                "probe",
                Severity.PROBLEM,
                f"a pod could not be added: {look.refused}",
                "a runtime gets the same answer; see the agent's log",
            )
        ]
    if look.skipped:
        return [
            Finding(
                "pods",
                "probe",
                Severity.WARNING,
                f"no pod could be tried: {look.skipped}",
                "run the doctor as root on the host, or in the agent's container",
            )
        ]
    found = [
        Finding(
            "pods",
            f"IPv{version}",
            Severity.PROBLEM,
            f"a pod does not reach the node's gateway address{suspects}",
            "look at `nft list ruleset` for input rules of others, and at `bridge link`",
        )
        for version, passed in sorted(look.gateway.items())
        if not passed
    ]
    found += [
        Finding(
            "pods",
            f"IPv{version}",
            Severity.PROBLEM,
            f"two pods of this node do not reach each other: forwarded packets are dropped{suspects}",
            "let that firewall accept what comes from and goes to the bridge l3net0 "
            "(`iptables -A FORWARD -i l3net0 -j ACCEPT`, and -o), or give it another policy",
        )
        for version, passed in sorted(look.between.items())
        if not passed and look.gateway.get(version, True)
    ]
    if found:
        return found
    families = " and ".join(f"IPv{version}" for version in sorted(look.between)) or "no family"
    found.append(Finding("pods", "probe", Severity.OK, f"two temporary pods reach each other ({families})"))
    if dropping:
        found.append(
            Finding(
                "pods",
                "firewall",
                Severity.WARNING,
                f"pods of this node pass{suspects}",
                "see that they accept what comes in for pods by the uplinks, too",
            )
        )
    return found


def cut_off(status: Mapping[str, Any], dead_links: Mapping[str, str]) -> list[Finding]:
    """Peers that have no session because their link is dead: no address of ours leads there any more."""
    return [
        Finding(
            "peer",
            f"{row['name']} ({row['address']})",
            Severity.PROBLEM,
            f"its link {dead_links[row['address']]} has no carrier",
            f"look at the cable and the port on the other side: `ip link show {dead_links[row['address']]}`",
        )
        for row in status["peers"]
        if row["state"] == "refused" and row["address"] in dead_links
    ]


def filtered_blocks(exports: Sequence[Mapping[str, Any]], peer: str) -> list[str]:
    """The node's own blocks that a peer is not told of for a reason that somebody has configured."""
    return [
        f"{row['prefix']} ({row['verdict']})"
        for row in exports
        if row["peer"] == peer and row["kind"] == "block" and row["verdict"].partition(":")[0] in _CONFIGURED
    ]


def _runtime(look: NodeLook) -> Sequence[Finding]:
    if look.plugin is None:
        return []
    if not look.plugin:
        return [
            Finding(
                "cni",
                CNI_PLUGIN,
                Severity.WARNING,
                "the plugin is not in the directory of CNI plugins: no runtime can add pods",
                "run `l3net cni install`, or name the directory with --bin-dir",
            )
        ]
    if not look.network_configuration:
        return [
            Finding(
                "cni",
                "configuration",
                Severity.WARNING,
                "there is no network configuration: kubelet reports the node as not ready",
                "run `l3net cni install`, or name the directory with --conf-dir",
            )
        ]
    if not look.ours_first:
        return [
            Finding(
                "cni",
                look.network_configuration,
                Severity.WARNING,
                "runtimes take the first configuration by name, and this one is not l3net's",
                "remove it, or give it a name that comes later",
            )
        ]
    return [Finding("cni", look.network_configuration, Severity.OK, "plugin and configuration are in place")]
