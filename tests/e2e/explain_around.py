"""Set-ups whose fault lies around l3net: on a link, in what others do on the node, in what has run out. Each
kind with one beside it that looks alike and is well."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from explain_bench import EXTERNAL, Bench, Case
from explain_broken import OUT, SERVICE

from l3net.lab.topology import BgpSession

WRONG = "02:00:00:00:00:99"
RIVAL = "rival"


def _router(bench: Bench, host: str = "n1", far: str = "tor") -> list[BgpSession]:
    """The sessions of a host with one router."""
    return [each for each in bench.lab.topology.sessions(host) if each.remote_host == far]


def _ip(bench: Bench, host: str, *lines: str, check: bool = True) -> None:
    for line in lines:
        bench.run(host, f"ip {line}", check=check)


# --- neighbours -------------------------------------------------------------------------------------------


def _stale(*versions: int) -> Case:
    """The entry of the router is that of a host that is not there, and nothing corrects it."""

    def act(bench: Bench) -> None:
        for each in _router(bench):
            if each.remote.version in versions:
                _ip(bench, "n1", f"neigh replace {each.remote} dev tor lladdr {WRONG} nud permanent")

    def undo(bench: Bench) -> None:
        for each in _router(bench):
            _ip(bench, "n1", f"neigh del {each.remote} dev tor", check=False)

    shown = EXTERNAL[0] if versions == (4,) else f"[{EXTERNAL[1]}]"
    subject = SERVICE if len(versions) == 2 else f"{{client{versions[0]}}} {shown}:80"
    named = "both families" if len(versions) == 2 else f"IPv{versions[0]}"
    targets = OUT if len(versions) == 2 else (OUT[versions[0] == 6],)
    return Case(
        f"a stale neighbour entry of the router, {named}",
        "neighbourStale",
        subject,
        targets=targets,
        act=act,
        undo=undo,
    )


def _static(bench: Bench) -> None:
    """A permanent entry, and the right one."""
    for each in _router(bench):
        mac = bench.run("tor", "cat /sys/class/net/n1/address").strip()
        _ip(bench, "n1", f"neigh replace {each.remote} dev tor lladdr {mac} nud permanent")


def _no_static(bench: Bench) -> None:
    for each in _router(bench):
        _ip(bench, "n1", f"neigh del {each.remote} dev tor", check=False)


#: Sends a datagram to each address, so that its ARP and neighbour discovery tell whoever has the address.
_SPEAK = """
import socket, sys
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (address, 9))
"""


def _rival_has(bench: Bench, addresses: list[str]) -> None:
    """A third host on the segment between tor and n1, whose end at tor becomes a switch."""
    own = [f"{each.local}/{_length(bench, each)}" for each in _router(bench, "tor", "n1")]
    mac = bench.run("tor", "cat /sys/class/net/n1/address").strip()
    _ip(
        bench,
        "tor",
        f"link add seg address {mac} type bridge",
        *(f"addr del {each} dev n1" for each in own),
        "link set n1 master seg",
        "link set seg up",
        *(f"addr add {each} dev seg{' nodad' * (':' in each)}" for each in own),
        f"netns add {RIVAL}",
        f"link add rp type veth peer name rv netns {RIVAL}",
        "link set rp master seg",
        "link set rp up",
        f"-n {RIVAL} link set rv up",
        *(f"-n {RIVAL} addr add {each} dev rv{' nodad' * (':' in each)}" for each in addresses),
    )


def _rival_speaks(bench: Bench, far: str) -> None:
    """To one of the two that share the segment with it, who believes it."""
    sessions = _router(bench, "n1", "tor") if far == "tor" else _router(bench, "tor", "n1")
    words = ["ip", "netns", "exec", RIVAL, sys.executable, "-c", _SPEAK]
    bench.host("tor").run([*words, *(str(each.remote) for each in sessions)])


def _length(bench: Bench, session: BgpSession) -> int:
    links = bench.lab.topology.links_of("tor")
    ends = [address for link in links for address in link.end("tor").addresses]
    return next(each.network.prefixlen for each in ends if each.ip == session.local)


def _has_node(bench: Bench) -> None:
    addresses = [f"{each.local}/{_length(bench, peer)}" for each, peer in _pairs(bench)]
    _rival_has(bench, addresses)
    _rival_speaks(bench, "tor")


def _has_router(bench: Bench) -> None:
    addresses = [f"{each.remote}/{_length(bench, peer)}" for each, peer in _pairs(bench)]
    _rival_has(bench, addresses)
    _rival_speaks(bench, "n1")


def _has_its_own(bench: Bench) -> None:
    _rival_has(bench, ["198.18.7.2/24", "fd00:18:7::2/64"])


def _pairs(bench: Bench) -> list[tuple[BgpSession, BgpSession]]:
    """Each session of n1 with tor, as either has it."""
    return [
        (near, far)
        for near in _router(bench)
        for far in _router(bench, "tor", "n1")
        if near.local == far.remote
    ]


def _rival_leaves(bench: Bench) -> None:
    _ip(bench, "tor", f"netns del {RIVAL}", "link del rp", "link del seg", check=False)
    bench.lab.number("tor")
    _ip(bench, "n1", "neigh flush dev tor", "-6 neigh flush dev tor", check=False)


def links() -> Iterator[Case]:
    """Who takes packets on a link."""
    yield _stale(4, 6)
    yield _stale(4)
    yield _stale(6)
    yield Case(
        "another host has the node's addresses",
        "duplicateAddress",
        SERVICE,
        targets=OUT,
        act=_has_node,
        undo=_rival_leaves,
    )
    yield Case(
        "another host has the router's addresses",
        "duplicateAddress",
        SERVICE,
        targets=OUT,
        act=_has_router,
        undo=_rival_leaves,
    )


def links_that_are_well() -> Iterator[Case]:
    """The same, where each is who it says."""
    yield Case(
        "a permanent neighbour entry that is right", "", SERVICE, targets=OUT, act=_static, undo=_no_static
    )
    yield Case(
        "a third host on the link with addresses of its own",
        "",
        f"{{client6}} [{EXTERNAL[1]}]:80",
        targets=OUT,
        act=_has_its_own,
        undo=_rival_leaves,
    )


BROKEN_AROUND = (*links(),)
HEALTHY_AROUND = (*links_that_are_well(),)
