"""Whether a program of this host has a port: out of /proc/net, in the namespace of the process."""

from __future__ import annotations

import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from l3net.model import Address

#: States of a socket that takes what comes (net/tcp_states.h): TCP_LISTEN; of UDP one without a peer.
_STATES: Final = {"tcp": "0A", "udp": "07"}


def listens(address: Address, protocol: str, port: int, root: Path = Path("/proc/self/net")) -> bool:
    """On that address, or on all: a socket for IPv6 on all addresses is taken for one of IPv4, too."""
    if protocol not in _STATES:
        return False
    for version, name in ((4, protocol), (6, f"{protocol}6")):
        with suppress(OSError, ValueError):
            for line in (root / name).read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                host, _, its_port = local.partition(":")
                if state != _STATES[protocol] or int(its_port, 16) != port:
                    continue
                found = _address(host)
                if found == address or (int(found) == 0 and version in (address.version, 6)):
                    return True
    return False


def _address(text: str) -> Address:
    """Words of 32 bits, each in the order of this machine."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    found = ip_address(raw)
    return getattr(found, "ipv4_mapped", None) or found
