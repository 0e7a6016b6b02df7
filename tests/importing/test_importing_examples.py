"""What each project's documentation shows as examples, written anew with other names and numbers: what of
them cannot be said is known, and nothing else is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing import findings, tell

from l3net.importing.source import Outcome


@pytest.mark.parametrize(
    ("source", "unsaid"),
    [
        ("calico", [
            "BGPConfiguration node.worker spec",
            "BGPFilter mine spec.exportV4[1]",
            "BGPPeer rack spec.reachableBy",
            "IPReservation kept ",
        ]),
        ("metallb", ["L2Advertisement metallb-system/example "]),
        ("cilium", [
            "CiliumBGPAdvertisement ads spec.advertisements[1]",
            "CiliumBGPNodeConfigOverride worker spec.bgpInstances[0].localPort",
            "CiliumBGPNodeConfigOverride worker spec.bgpInstances[0].routerID",
            "CiliumLoadBalancerIPPool blue spec.allowFirstLastIPs",
        ]),
        ("kube-router", [
            "DaemonSet kube-system/kube-router --peer-router-passwords",
            "DaemonSet kube-system/kube-router --router-id",
            "Service shop/web metadata.annotations.kube-router.io/service.scheduler",
        ]),
    ],
    ids=["calico", "metallb", "cilium", "kube-router"],
)  # fmt: skip
def test_an_example(source: str, unsaid: list[str]) -> None:
    found = tell(source, Path(__file__).with_name(f"example_{source.replace('-', '_')}.yaml"))
    lost = [f"{each.kind} {each.name} {each.field}" for each in findings(found, Outcome.UNSAID)]
    assert sorted(lost) == sorted(unsaid)
    assert found.skipped == 0
