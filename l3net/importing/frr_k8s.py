"""FRRConfiguration of frr-k8s (frrk8s.metallb.io): routers and their neighbours, what these are told and
what is taken of them. MetalLB writes some itself, a node each; people write others beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from l3net.importing import neighbors
from l3net.importing.source import Imported, SourceObject, as_number, object_name
from l3net.importing.telling import Peering, Told
from l3net.kube.fields import Field
from l3net.kube.selectors import selector
from l3net.model import Action, BfdSettings, BgpPeer, Family, FilterRule, Prefix, PrefixOperator

_ANY_TTL: Final = 255


class Reader:
    """Puts neighbours into `peerings`; one that is there already is told and gives what both say."""

    def __init__(
        self,
        into: Imported,
        secrets: str,
        peerings: dict[str, Peering],
        own: dict[str, int],
        networks: set[Prefix],
    ) -> None:
        self._into, self._secrets = into, secrets
        self._peerings, self._own, self._networks = peerings, own, networks

    def read(self, each: SourceObject, *, native: bool) -> None:
        """`native`: MetalLB's own resources are among the objects, of which it makes FRRConfigurations."""
        if native and each.name.name.startswith("metallb-"):
            each.carried("spec", "not needed: MetalLB makes it of its BGPPeers and BGPAdvertisements")
            return
        bgp = each.spec["bgp"]
        profiles = {item["name"].text(): neighbors.bfd(each, item) for item in bgp["bfdProfiles"].items()}
        for item in bgp["bfdProfiles"].items():
            each.carried(item["name"], "where it is used")
        each.carried(each.spec["nodeSelector"], "BGPPeer spec.nodeSelector")
        if each.spec["raw"]["rawConfig"].text(default=""):
            each.unsaid(each.spec["raw"], "l3net's speaker is not FRR: it reads no configuration of FRR's")
        else:
            each.carried(each.spec["raw"])
        for router in bgp["routers"].items():
            if router["vrf"].text(default=""):
                each.unsaid(router, "l3net speaks in the host's own table alone, in no VRF")
                continue
            self._router(each, router, profiles)

    def _router(self, each: SourceObject, router: Field, profiles: dict[str, BfdSettings]) -> None:
        own, prefixes = as_number(router["asn"]), router["prefixes"].prefixes()
        self._networks.update(prefixes)
        each.carried(router["asn"], "BGPConfiguration default spec.asNumber, or localASNumber")
        each.changed(
            router["prefixes"],
            "BGPConfiguration default spec.advertise.networks: every node has them, and backs them by a "
            "blackhole route; each peer hears those that are meant for it",
        )
        each.unsaid(router["id"], "the router ID is the node's first IPv4 InternalIP")
        if any(True for _ in router["imports"].items()):
            each.unsaid(router["imports"], "l3net speaks in the host's own table alone, in no VRF")
        for item in router["neighbors"].items():
            self._neighbor(each, item, own, prefixes, profiles)

    def _neighbor(
        self,
        each: SourceObject,
        at: Field,
        own: int,
        prefixes: tuple[Prefix, ...],
        profiles: dict[str, BfdSettings],
    ) -> None:
        interface = at["interface"].text(default="") or None
        source = at["sourceaddress"]
        profile = at["bfdProfile"].text(default="")
        if profile and profile not in profiles:
            raise at["bfdProfile"].wrong(f"there is no profile {profile[:60]} in spec.bgp.bfdProfiles")
        name = object_name(each.name.name, interface or str(at["address"].address()).replace(":", "-"))
        by_address = source.present and any(mark in source.text() for mark in ".:")
        peer = BgpPeer(
            name=name,
            address=None if interface else at["address"].address(),
            interface=interface,
            as_number=neighbors.peer_as(each, at, "asn", own, interface),
            port=at["port"].integer(0, 65535, default=179) or 179,
            node_selector=selector(each.spec["nodeSelector"]),
            families=frozenset(Family) if at["dualStackAddressFamily"].flag(default=False) else None,
            password=neighbors.password(each, at, name, self._secrets),
            local_address=source.address() if by_address else None,
            source_interface=source.text() if source.present and not by_address else None,
            multihop=_ANY_TTL if at["ebgpMultiHop"].flag(default=False) else None,
            hold_time=neighbors.hold_time(at["holdTime"]),
            graceful_restart=None if at["enableGracefulRestart"].flag(default=False) else 0,
            bfd=profiles.get(profile),
        )
        peer = neighbors.without_echo(each, at["bfdProfile"], peer)
        peering = self._same(peer) or self._peerings.setdefault(name, Peering(peer))
        self._own.setdefault(peering.peer.name, own)
        peering.told += self._told(each, at["toAdvertise"], prefixes)
        peering.taken += self._taken(each, at["toReceive"]["allowed"])
        for field in (
            "asn", "interface", "address", "port", "dualStackAddressFamily", "sourceaddress", "ebgpMultiHop",
            "holdTime", "enableGracefulRestart", "bfdProfile", "disableMP",
        ):  # fmt: skip
            each.carried(at[field], f"BGPPeer {peering.peer.name}")
        neighbors.told_of_timers(each, at)

    def _same(self, peer: BgpPeer) -> Peering | None:
        return next(
            (
                each
                for each in self._peerings.values()
                if (each.peer.address, each.peer.interface) == (peer.address, peer.interface)
                and peer.node_selector in (each.peer.node_selector, type(peer.node_selector)())
            ),
            None,
        )

    def _told(self, each: SourceObject, at: Field, prefixes: tuple[Prefix, ...]) -> list[Told]:
        whole = at["allowed"]["mode"].text(default="filtered") == "all"
        allowed = prefixes if whole else at["allowed"]["prefixes"].prefixes()
        found = {prefix: Told(prefix, longest=prefix.prefixlen) for prefix in allowed}
        for item in at["withLocalPref"].items():
            for prefix in item["prefixes"].prefixes():
                if prefix in found:
                    preference = item["localPref"].integer(0, 2**32 - 1)
                    found[prefix] = replace(found[prefix], local_preference=preference)
        for item in at["withCommunity"].items():
            tag = neighbors.community(item["community"])
            for prefix in item["prefixes"].prefixes():
                if prefix in found:
                    found[prefix] = replace(found[prefix], communities=found[prefix].communities | {tag})
        each.carried(at, "a BGPFilter of the BGPPeer, spec.export")
        return list(found.values())

    def _taken(self, each: SourceObject, at: Field) -> list[FilterRule]:
        each.carried(at, "a BGPFilter of the BGPPeer, spec.import")
        if at["mode"].text(default="filtered") == "all":
            return [FilterRule(Action.ACCEPT)]
        rules = []
        for item in at["prefixes"].items():
            cidr, low, high = item["prefix"].prefix(), item["ge"], item["le"]
            # FRR: without ge and le that very prefix; with ge alone, to the longest there is
            exact = not low.value and not high.value
            rules.append(
                FilterRule(
                    Action.ACCEPT,
                    cidr,
                    operator=PrefixOperator.EQUAL if exact else PrefixOperator.IN,
                    min_length=low.integer(1, 128) if low.value else None,
                    max_length=high.integer(1, 128) if high.value else None,
                )
            )
        return rules
