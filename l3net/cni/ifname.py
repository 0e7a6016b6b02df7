"""The name of an attachment's host end. Apart, because DEL begins with it."""

from __future__ import annotations

from l3net.ipam.lease import LeaseKey
from l3net.naming import VETH_PREFIX

try:  # as `random` of the standard library does: to load OpenSSL takes longer than all of the plugin's work
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:  # Python 3.12 has another of that kind
    from hashlib import sha256

__all__ = ["host_ifname", "sha256"]


def host_ifname(key: LeaseKey) -> str:
    """The host end's name: the same attachment, the same name, so that DEL finds it without any record."""
    digest: str = sha256(f"{key.network}\0{key.container_id}\0{key.ifname}".encode()).hexdigest()
    return VETH_PREFIX + digest[:11]
