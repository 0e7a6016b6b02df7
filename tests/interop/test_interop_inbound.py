"""Who dials in: held to the password and the TTL of its own session, and turned away without one."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv6Address, ip_address

import pytest
from direct_exabgp import Direct, session
from far_sides import FarSession, Originated
from node_rig import brought_up
from stage import FAR_ADDRESS, NODE_ADDRESS, ORIGINATED, Stage, far_session

from l3net.bgp.events import StateChanged
from l3net.bgp.exabgp.commands import RELOAD, SHOW_NEIGHBORS
from l3net.bgp.sessions import Session
from l3net.model import Address

pytestmark = pytest.mark.netns
versions = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
#: GoBGP takes its time to dial: over one family it has to do.
both = pytest.mark.parametrize(
    ("kind", "version"),
    [
        pytest.param("frr", 4, id="frr-IPv4"),
        pytest.param("frr", 6, id="frr-IPv6", marks=pytest.mark.soak),
        pytest.param("bird", 4, id="bird-IPv4", marks=pytest.mark.soak),
        pytest.param("bird", 6, id="bird-IPv6"),
        pytest.param("gobgp", 4, id="gobgp-IPv4", marks=pytest.mark.soak),
    ],
)
PASSWORD = b"right-one"
#: A router that the node waits for, so that it listens whatever else it holds. It never comes.
ABSENT = {4: "10.90.0.77", 6: "fd90::77"}


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Stage, Direct]]:
    with brought_up(Stage()) as stage:
        direct = Direct(stage, [])
        yield stage, direct
        direct.close()


@pytest.fixture
def direct(running: tuple[Stage, Direct]) -> Iterator[Direct]:
    """ExaBGP with no session; the far side not running."""
    stage, direct = running
    yield direct
    if stage.far is not None:
        stage.far.kill()
        stage.far = None
    hold(direct)
    stage.until(lambda: ":179" not in listening(stage), "the node to listen no more")


def hold(direct: Direct, *sessions: Session) -> None:
    direct.text = direct.configure(sessions)
    direct.ask(RELOAD)


def waited_for(version: int = 4, **how: object) -> Session:
    return session(version, passive=True, listen=True, **how)


def absent(version: int) -> Session:
    return waited_for(version, name="absent", peer_address=ip_address(ABSENT[version]))


def listening(stage: Stage) -> str:
    return stage.node.run(["ss", "-Hltn"]).stdout


def far(direct: Direct, kind: str, version: int, **how: object) -> None:
    side = direct.stage.far_side(kind)
    side.start(
        [far_session(version, **how)],
        [Originated(ORIGINATED[version])],
    )


def far_goes(direct: Direct) -> None:
    assert direct.stage.far is not None
    direct.stage.far.kill()


def up(direct: Direct, peer: Address | str) -> bool:
    return StateChanged(ip_address(str(peer)), "up") in direct.messages


@contextmanager
def captured(stage: Stage, name: str = "wire") -> Iterator[None]:
    stage.node.log(name).unlink(missing_ok=True)
    stage.node.spawn(name, ["tcpdump", "-lnni", "up0", "tcp", "port", "179"])
    stage.until(lambda: "listening on" in stage.node.read_log(name), "tcpdump")
    yield
    stage.node.kill(name)
    stage.until(lambda: not stage.node.alive(name), "tcpdump to end")


def turned_away(stage: Stage, version: int) -> bool:
    """Whether the far side has been answered by a reset of port 179."""
    node = re.escape(NODE_ADDRESS[version])
    return re.search(rf" {node}\.179 > \S+ Flags \[R", stage.node.read_log("wire")) is not None


def spoke(stage: Stage, version: int) -> bool:
    """Whether BGP at port 179 of the node has said anything."""
    node = re.escape(NODE_ADDRESS[version])
    said = re.findall(rf" {node}\.179 > .* length (\d+)", stage.node.read_log("wire"))
    return any(int(octets) for octets in said)


@both
def test_a_password_is_demanded_of_who_dials_in(direct: Direct, kind: str, version: int) -> None:
    stage = direct.stage
    hold(direct, waited_for(version, password=PASSWORD), absent(version))
    direct.messages.clear()
    before = stage.counter(stage.node, "TCPMD5NotFound")
    far(direct, kind, version)
    direct.until(lambda: stage.counter(stage.node, "TCPMD5NotFound") > before, "an unsigned SYN")
    assert not up(direct, FAR_ADDRESS[version])
    far_goes(direct)
    with captured(stage):
        far(direct, kind, version, password=PASSWORD.decode())
        direct.until(lambda: up(direct, FAR_ADDRESS[version]), "the session, by the password")
        stage.until(lambda: spoke(stage, version), "its OPEN on the wire")
    for line in stage.node.read_log("wire").splitlines():
        assert "Flags" not in line or "md5" in line, f"unsigned (RFC 2385, option 19): {line}"


@versions
@pytest.mark.parametrize("password", [None, PASSWORD], ids=["plain", "MD5"])
def test_anothers_password_comes_and_goes_unnoticed(
    direct: Direct, version: int, password: bytes | None
) -> None:
    """Both are waited for at one socket, which has the keys of both."""
    held = waited_for(version, password=password)
    hold(direct, held, absent(version))
    direct.messages.clear()
    far(direct, "bird", version, **({"password": password.decode()} if password else {}))
    direct.until(lambda: up(direct, FAR_ADDRESS[version]), "the session")
    for other in (b"one", b"another", None):
        hold(direct, held, replace(absent(version), password=other))
        direct.until(lambda: ABSENT[version] in str(direct.ask(SHOW_NEIGHBORS)), "the other to be held anew")
    peer = ip_address(FAR_ADDRESS[version])
    assert StateChanged(peer, "down") not in [
        replace(each, reason="") for each in direct.messages if isinstance(each, StateChanged)
    ]
    # Nor has the socket forgotten its key.
    far_goes(direct)
    direct.until(
        lambda: any(isinstance(e, StateChanged) and e.state == "down" for e in direct.messages), "it"
    )
    direct.messages.clear()
    far(direct, "bird", version, **({"password": password.decode()} if password else {}))
    direct.until(lambda: up(direct, FAR_ADDRESS[version]), "the session again")


@both
@pytest.mark.parametrize("how", [{"password": PASSWORD}, {"gtsm": True}, {}], ids=["MD5", "GTSM", "plain"])
def test_who_is_dialled_is_not_let_in(
    direct: Direct, kind: str, version: int, how: dict[str, object]
) -> None:
    """It has a session, but one that it could join from its side without what the session demands."""
    stage = direct.stage
    if (not how and kind != "frr") or ("gtsm" in how and kind == "gobgp"):
        pytest.skip("as with FRR, which is quicker to dial again")
    how = how or {"port": 1}  # nobody is there: only the far side's own call could bring it up
    hold(direct, session(version, **how), absent(version))
    direct.messages.clear()
    with captured(stage):
        far(direct, kind, version)
        direct.until(lambda: turned_away(stage, version), "the far side to be turned away")
        assert not up(direct, FAR_ADDRESS[version])
        assert not spoke(stage, version)
        # The control: one that waits takes the call.
        far_goes(direct)
        hold(direct, waited_for(version), absent(version))
        far(direct, kind, version)
        direct.until(lambda: up(direct, FAR_ADDRESS[version]), "the session that waits")
        stage.until(lambda: spoke(stage, version), "its OPEN on the wire")


@both
def test_a_ttl_is_demanded_of_who_dials_in(direct: Direct, kind: str, version: int) -> None:
    stage = direct.stage
    hold(direct, waited_for(version, gtsm=True), absent(version))
    direct.messages.clear()
    with captured(stage):
        far(direct, kind, version)
        direct.until(lambda: turned_away(stage, version), "the far side to be turned away")
        assert not up(direct, FAR_ADDRESS[version])
        assert not spoke(stage, version)
    far_goes(direct)
    far(direct, kind, version, gtsm=True)
    direct.until(lambda: up(direct, FAR_ADDRESS[version]), "the session, by TTL 255")


#: Calls with a source address and TTL of choice, and what comes of each: BGP's first octets, or nothing.
CALLS = """
import json, socket, sys
target, *cases = sys.argv[1:]
heard = []
for case in cases:
    source, ttl = case.split("/")
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    sock = socket.socket(family)
    level, option = (41, socket.IPV6_UNICAST_HOPS) if ":" in source else (0, socket.IP_TTL)
    sock.setsockopt(level, option, int(ttl))
    sock.bind((source, 0))
    sock.settimeout(20)
    try:
        sock.connect((target, 179))
        sock.sendall(bytes.fromhex("ff" * 16 + "001d01" + "04" + "fdea" + "0009" + "0a5a0002" + "00"))
        heard.append(sock.recv(16).hex())
    except ConnectionError:
        heard.append("")
    sock.close()
print(json.dumps(heard))
"""
SAID = "ff" * 16


@versions
def test_each_is_held_to_its_own_ttl(direct: Direct, version: int) -> None:
    """Sessions with GTSM and without share a socket, and each has what it asks for; strangers nothing."""
    stage = direct.stage
    other = {4: "10.90.0.3", 6: "fd90::3"}[version]
    stranger = {4: "10.90.0.4", 6: "fd90::4"}[version]
    length, nodad = (24, []) if version == 4 else (64, ["nodad"])
    for address in (other, stranger):
        stage.tor.run(["ip", "addr", "replace", f"{address}/{length}", "dev", "down0", *nodad])
    gtsm = waited_for(version, gtsm=True)
    plain = waited_for(version, name="other", peer_address=ip_address(other))
    hold(direct, gtsm, plain)
    far_end = FAR_ADDRESS[version]
    cases = [f"{far_end}/254", f"{stranger}/255", f"{far_end}/1", f"{far_end}/255", f"{other}/64"]
    argv = [sys.executable, "-c", CALLS, NODE_ADDRESS[version], *cases]
    assert json.loads(stage.tor.run(argv).stdout) == ["", "", "", SAID, SAID]
    hold(direct, plain)  # and none of it stays behind
    argv = [sys.executable, "-c", CALLS, NODE_ADDRESS[version], f"{other}/64", f"{far_end}/255"]
    assert json.loads(stage.tor.run(argv).stdout) == [SAID, ""]


#: Calls a link-local address, signed or not, and says how the answer begins.
CALL = """
import socket, sys
from ipaddress import ip_address
from l3net.shell.speaker.listening import set_key
target, link, password = sys.argv[1:]
sock = socket.socket(socket.AF_INET6)
if password:
    set_key(sock, ip_address(target), password.encode())
sock.settimeout(20 if password else 3)
sock.connect((target, 179, 0, socket.if_nametoindex(link)))
message = bytes.fromhex("ff" * 16 + "001d01" + "04" + "fdea" + "0009" + "0a5a0002" + "00")
sock.sendall(message)
print(sock.recv(16).hex())
"""


def link_local(stage: Stage, side: str) -> IPv6Address:
    host, link = {"node": (stage.node, "up0"), "tor": (stage.tor, "down0")}[side]

    def find() -> list[str]:
        shown = host.run(["ip", "-6", "-j", "addr", "show", "dev", link, "scope", "link"]).stdout
        return re.findall(r'"local":"(fe80:[^"]+)"', shown)

    stage.until(find, "a link-local address")
    return IPv6Address(find()[0])


def test_link_local(direct: Direct) -> None:
    stage = direct.stage
    near, far_end = link_local(stage, "node"), link_local(stage, "tor")
    hold(
        direct,
        waited_for(
            6,
            peer_address=far_end,
            local_address=near,
            source_interface="up0",
            password=PASSWORD,
        ),
    )
    stage.until(lambda: f"[{near}]%up0:179" in listening(stage), "the node to listen")
    before = stage.counter(stage.node, "TCPMD5NotFound")
    argv = [sys.executable, "-c", CALL, str(near), "down0"]
    unsigned = stage.tor.run([*argv, ""], check=False)
    assert unsigned.code != 0
    assert stage.counter(stage.node, "TCPMD5NotFound") > before
    # ExaBGP's OPEN, or the NOTIFICATION that says what it misses in ours: it has spoken.
    assert stage.tor.run([*argv, PASSWORD.decode()]).stdout.strip() == "ff" * 16


@versions
def test_an_address_that_is_not_there_yet_costs_no_other_session(direct: Direct, version: int) -> None:
    """Also at ExaBGP's start, which it used to be the end of."""
    stage = direct.stage
    missing = {4: "10.90.0.200", 6: "fd90::200"}[version]
    linkless = waited_for(
        6,
        name="linkless",
        peer_address=ip_address("fe80::77"),
        local_address=ip_address("fe80::78"),
        source_interface="gone0",
    )
    hold(direct, waited_for(version, local_address=ip_address(missing)), linkless)
    old = stage.exabgp_pid()
    stage.node.run(["kill", "-9", str(old)])
    stage.until(lambda: stage.exabgp_pid() not in (0, old), "a new ExaBGP")
    direct.close()
    direct.connect()
    direct.messages.clear()
    stage.node.run(["ip", "addr", "add", f"{missing}/{24 if version == 4 else 64}", "dev", "up0"])
    side = stage.far_side("bird")
    side.start([FarSession(FAR_ADDRESS[version], missing)], [Originated(ORIGINATED[version])])
    direct.until(lambda: up(direct, FAR_ADDRESS[version]), "the session at the address that has come")
    stage.node.run(["ip", "addr", "del", f"{missing}/{24 if version == 4 else 64}", "dev", "up0"])


@pytest.mark.parametrize("kind", ["frr", "bird"])
@versions
def test_a_session_that_is_dialled_comes_up_though_the_far_side_dials_too(
    direct: Direct, kind: str, version: int
) -> None:
    """On a node that listens for others: that its calls are turned away does not disturb ours."""
    hold(direct, session(version), absent(version))
    direct.messages.clear()
    far(direct, kind, version)
    direct.until(lambda: up(direct, FAR_ADDRESS[version]), "the session")
    assert not any(isinstance(each, StateChanged) and each.state == "down" for each in direct.messages[-3:])
