"""Every way to peer against every far side: FRR, BIRD 2, GoBGP 3 and OpenBGPD, over IPv4 and IPv6.

Each test brings a session up, sees a prefix cross it each way, and looks at both RIBs. Where a setting keeps
others out (MD5, GTSM, TTL), the control is a wrong setting first, and the kernel's own counter of what it
refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from far_sides import AnyFarSide, FarSession, Originated, Seen
from node_rig import NODE, peer
from stage import (
    BEHIND,
    BLOCKS,
    FAR_ADDRESS,
    NODE_ADDRESS,
    ORIGINATED,
    TAGGED,
    Stage,
    configuration,
    far_session,
    served_stage,
)

pytestmark = pytest.mark.netns


def sides(*now: tuple[str, int]) -> pytest.MarkDecorator:
    """Each kind with each family, and with some of them in `make test`."""
    every = [(kind, version) for kind in ("frr", "bird", "gobgp", "openbgpd") for version in (4, 6)]
    return pytest.mark.parametrize(
        ("kind", "version"),
        [
            pytest.param(
                kind,
                version,
                id=f"{kind}-IPv{version}",
                marks=() if (kind, version) in now else pytest.mark.soak,
            )
            for kind, version in every
        ],
    )


each_side = sides(("frr", 4), ("bird", 6), ("gobgp", 4), ("openbgpd", 6))
two_sides = sides(("frr", 4), ("bird", 6))
other_two = sides(("gobgp", 4), ("openbgpd", 6))

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "bgp", "namespace": "kube-system"},
    "stringData": {"password": "right-one"},
}
PASSWORD = {"secretKeyRef": {"name": "bgp", "key": "password"}}


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with served_stage() as stage:
        yield stage


@pytest.fixture
def stage(running: Stage) -> Stage:
    """The node with no peer; the far side not running. One node serves all tests of a worker."""
    running.clear()
    return running


def start(
    stage: Stage, kind: str, session: FarSession, *, port: int = 179, pod: str | None = None
) -> AnyFarSide:
    """The far side, with one prefix of each family that the session carries."""
    far = stage.far_side(kind, pod)
    originated = [
        # GoBGP does not find an address of the other family by itself, and OpenBGPD takes the loopback's.
        Originated(ORIGINATED[version], next_hop="" if version == session.version else FAR_ADDRESS[version])
        for version in session.carried
    ]
    far.start([session], originated, port=port)
    return far


def declare(stage: Stage, version: int, *others: dict[str, Any], **spec: object) -> None:
    stage.declare("node.yaml", NODE, configuration(), peer("far", FAR_ADDRESS[version], **spec), *others)


def crossed(stage: Stage, far: AnyFarSide, version: int, hop: str = "") -> Seen:
    """Wait until a prefix of the family has crossed each way; the node's path as the far side has it."""
    stage.until(lambda: ORIGINATED[version] in stage.learned(), "the far side's prefix in the kernel")
    stage.until(lambda: far.seen(BLOCKS[version]), "the node's block at the far side")
    assert stage.learned()[ORIGINATED[version]] == FAR_ADDRESS[version]
    seen = far.seen(BLOCKS[version])
    assert seen is not None
    assert seen.next_hop == (hop or NODE_ADDRESS[version])
    return seen


def row(stage: Stage) -> dict[str, Any]:
    (found,) = stage.peers().values()
    return found


def states(stage: Stage) -> list[str]:
    return [found["state"] for found in stage.peers().values()]


@each_side
def test_plain_and_both_dial(stage: Stage, kind: str, version: int) -> None:
    far = start(stage, kind, far_session(version))
    declare(stage, version)
    seen = crossed(stage, far, version)
    assert seen.as_path == (65001,)
    path = stage.paths()[ORIGINATED[version]]
    assert path["asPath"] == [65002]
    assert row(stage)["type"] == "eBGP"


@each_side
def test_md5(stage: Stage, kind: str, version: int) -> None:
    far = start(stage, kind, far_session(version, password="right-one"))  # noqa: S106
    before = refused_md5(stage)
    wrong = {**SECRET, "stringData": {"password": "wrong-one"}}
    declare(stage, version, wrong, password=PASSWORD)
    stage.until(lambda: refused_md5(stage) > before, "the wrong password to be refused")
    stage.until(lambda: states(stage) == ["down"], "the peer, down")
    declare(stage, version, SECRET, password=PASSWORD)
    crossed(stage, far, version)


def refused_md5(stage: Stage) -> int:
    """Segments both kernels dropped for their signature."""
    names = ("TCPMD5Failure", "TCPMD5NotFound", "TCPMD5Unexpected")
    return sum(stage.counter(host, name) for host in (stage.node, stage.tor) for name in names)


@other_two
def test_gtsm(stage: Stage, kind: str, version: int) -> None:
    start(stage, kind, far_session(version))  # sends with the TTL of any eBGP peer
    before = stage.counter(stage.node, "TCPMinTTLDrop")
    declare(stage, version, gtsm=True)
    stage.until(lambda: stage.counter(stage.node, "TCPMinTTLDrop") > before, "a low TTL to be refused")
    stage.until(lambda: states(stage) == ["down"], "the peer, down")
    stage.clear()
    far = start(stage, kind, far_session(version, gtsm=True))
    declare(stage, version, gtsm=True)
    crossed(stage, far, version)


@two_sides
def test_export_filter(stage: Stage, kind: str, version: int) -> None:
    """Communities, AS_PATH and MED as the far side's RIB has them."""
    operations = {
        "addCommunities": ["65001:77", "65001:1:2"],
        "prependASPath": [65001, 65001],
        "setMED": 50,
    }
    rules = {"export": [{"action": "Accept", "operations": operations}]}
    far = start(stage, kind, far_session(version))
    declare(stage, version, named_filter(rules), filters=["policy"])
    seen = crossed(stage, far, version)
    assert seen.communities == {"65001:77", "65001:1:2"}
    assert seen.as_path == (65001, 65001, 65001)
    assert seen.med == 50
    # A filter that rejects: withdrawn over the same session.
    since = row(stage)["flaps"]
    declare(stage, version, named_filter({"export": [{"action": "Reject"}]}), filters=["policy"])
    stage.until(lambda: far.seen(BLOCKS[version]) is None, "the withdrawal")
    assert row(stage)["flaps"] == since
    assert row(stage)["state"] == "established"


def named_filter(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "BGPFilter",
        "metadata": {"name": "policy"},
        "spec": spec,
    }


@other_two
def test_import_filter(stage: Stage, kind: str, version: int) -> None:
    """Rejected by community and accepted with another preference; lifted over the same session."""
    rules = [
        {"action": "Reject", "communities": ["65002:13"]},
        {
            "action": "Accept",
            "operations": {"setLocalPreference": 50},
            "asPathPrefix": [65002],
            "peerType": "eBGP",
        },
    ]
    far = stage.far_side(kind)
    far.start(
        [far_session(version)],
        [Originated(ORIGINATED[version]), Originated(TAGGED[version], community="65002:13")],
    )
    declare(stage, version, named_filter({"import": rules}), filters=["policy"])
    wanted = {ORIGINATED[version], TAGGED[version]}
    stage.until(lambda: wanted <= stage.paths().keys(), "both prefixes")
    stage.until(lambda: ORIGINATED[version] in stage.learned(), "the accepted one in the kernel")
    assert TAGGED[version] not in stage.learned()
    paths = stage.paths()
    assert paths[TAGGED[version]]["verdict"] == "filteredBy:policy"
    assert paths[ORIGINATED[version]]["localPreference"] == 50
    declare(stage, version)  # the control: without the filter both are used
    stage.until(lambda: wanted <= stage.learned().keys(), "both in the kernel")
    assert row(stage)["flaps"] == 0


@two_sides
def test_both_families_over_one_session(stage: Stage, kind: str, version: int) -> None:
    far = start(stage, kind, far_session(version, versions=(4, 6)))
    declare(stage, version, families=["IPv4", "IPv6"])
    for each in (4, 6):
        crossed(stage, far, each)
    assert len(stage.peers()) == 1


@other_two
def test_ibgp(stage: Stage, kind: str, version: int) -> None:
    rules = {"export": [{"action": "Accept", "peerType": "iBGP", "operations": {"setLocalPreference": 70}}]}
    far = start(stage, kind, far_session(version, local_as=65001))
    declare(stage, version, named_filter(rules), filters=["policy"], asNumber=65001)
    seen = crossed(stage, far, version)
    assert seen.as_path == ()
    assert seen.local_preference == 70
    assert row(stage)["type"] == "iBGP"
    assert stage.paths()[ORIGINATED[version]]["localPreference"] == 100


@two_sides
def test_four_byte_as_numbers_at_both_ends(stage: Stage, kind: str, version: int) -> None:
    """RFC 6793; the node speaks as another AS than its own to this peer."""
    ours, theirs = 4_200_000_001, 4_200_000_002
    far = start(stage, kind, far_session(version, local_as=theirs, remote_as=ours))
    declare(stage, version, asNumber=theirs, localASNumber=ours)
    assert crossed(stage, far, version).as_path == (ours,)
    assert stage.paths()[ORIGINATED[version]]["asPath"] == [theirs]


@two_sides
def test_the_far_side_dials_alone(stage: Stage, kind: str, version: int) -> None:
    """Ours is passive and listens on a port of its own."""
    far = start(stage, kind, far_session(version, remote_port=1790))
    spec = peer("far", FAR_ADDRESS[version], passive=True)
    stage.declare("node.yaml", NODE, configuration(listenPort=1790), spec)
    crossed(stage, far, version)
    assert sockets(stage) == {"1790"}


@other_two
def test_the_node_dials_alone(stage: Stage, kind: str, version: int) -> None:
    """The far side is passive and listens on a port of its own."""
    far = start(stage, kind, far_session(version, dials=False), port=1790)
    declare(stage, version, port=1790)
    crossed(stage, far, version)
    assert sockets(stage, theirs=True) == {"1790"}


def sockets(stage: Stage, *, theirs: bool = False) -> set[str]:
    """The node's, or the far side's, port of the connections that stand."""
    shown = stage.node.run(["ss", "-Htn", "state", "established"]).stdout
    return {line.split()[3 if theirs else 2].rpartition(":")[2] for line in shown.splitlines()}


@two_sides
def test_multihop(stage: Stage, kind: str, version: int) -> None:
    """Two hops away, through a router that counts what dies there."""
    behind = BEHIND[version]
    prefix, name = {4: ("10.98.0.0/24", "OutTimeExcds"), 6: ("fd98::/64", "Icmp6OutTimeExcds")}[version]
    stage.kernel(f"-{version} route replace {prefix} via {FAR_ADDRESS[version]}")
    session = FarSession(behind, NODE_ADDRESS[version], multihop=2)
    far = start(stage, kind, session, pod="behind")
    before = stage.counter(stage.tor, name)
    spec = {"asNumber": 65002, "filters": []}
    stage.declare("node.yaml", NODE, configuration(), peer("far", behind, multihop=1, **spec))
    stage.until(lambda: stage.counter(stage.tor, name) > before, "a TTL of 1 to die on the way")
    stage.until(lambda: states(stage) == ["down"], "the peer, down")
    stage.declare("node.yaml", NODE, configuration(), peer("far", behind, multihop=2, **spec))
    crossed(stage, far, version)
