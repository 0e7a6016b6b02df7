"""What is told of a connection that the kernel tracks: whether its beginning was seen."""

from __future__ import annotations

import socket

import pytest

from l3net.shell.kernel.conntrack import (
    CTA_IP_V4_DST,
    CTA_IP_V4_SRC,
    CTA_PROTO_DST_PORT,
    CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT,
    CTA_PROTOINFO,
    CTA_PROTOINFO_TCP,
    CTA_PROTOINFO_TCP_FLAGS_ORIGINAL,
    CTA_STATUS,
    CTA_TUPLE_IP,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_PROTO,
    CTA_TUPLE_REPLY,
    IP_CT_TCP_FLAG_BE_LIBERAL,
    IPS_DST_NAT,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    _tracked,
)
from l3net.shell.kernel.netlink import attribute

ONE, OTHER = (socket.inet_aton(f"10.0.0.{number}") for number in (1, 2))
TCP, UDP, SCTP = 6, 17, 132


def side(source: bytes, source_port: int, destination: bytes, port: int, protocol: int) -> bytes:
    ends = attribute(CTA_IP_V4_SRC, source) + attribute(CTA_IP_V4_DST, destination)
    ports = attribute(CTA_PROTO_NUM, bytes([protocol]))
    ports += attribute(CTA_PROTO_SRC_PORT, source_port.to_bytes(2, "big"))
    ports += attribute(CTA_PROTO_DST_PORT, port.to_bytes(2, "big"))
    return attribute(CTA_TUPLE_IP, ends) + attribute(CTA_TUPLE_PROTO, ports)


@pytest.mark.parametrize(
    ("protocol", "status", "flags", "unsure"),
    [
        (UDP, IPS_SEEN_REPLY, None, True),
        (UDP, IPS_SEEN_REPLY | IPS_DST_NAT, None, False),
        (UDP, IPS_SRC_NAT, None, False),
        (SCTP, IPS_SEEN_REPLY, None, False),
        (TCP, IPS_SEEN_REPLY, 0x03, False),
        (TCP, IPS_SEEN_REPLY, 0x03 | IP_CT_TCP_FLAG_BE_LIBERAL, True),
        (TCP, IPS_SEEN_REPLY | IPS_DST_NAT, IP_CT_TCP_FLAG_BE_LIBERAL, False),
        (TCP, IPS_SEEN_REPLY, None, False),
    ],
)
def test_whether_the_other_end_may_have_begun_it(
    protocol: int, status: int, flags: int | None, unsure: bool
) -> None:
    """UDP has no beginning; of TCP tracking says whether it came upon it in the middle (nf_conntrack_tcp.h);
    SCTP is not picked up, and what is translated was seen as it began."""
    body = bytes((socket.AF_INET, 0, 0, 0))
    body += attribute(CTA_TUPLE_ORIG, side(ONE, 1000, OTHER, 80, protocol))
    body += attribute(CTA_TUPLE_REPLY, side(OTHER, 80, ONE, 1000, protocol))
    body += attribute(CTA_STATUS, status.to_bytes(4, "big"))
    if flags is not None:
        of_tcp = attribute(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, bytes([flags, 0]))
        body += attribute(CTA_PROTOINFO, attribute(CTA_PROTOINFO_TCP, of_tcp))
    found = _tracked(body, {ONE}, frozenset())
    assert found is not None and found.unsure is unsure
    assert (str(found.source), found.source_port, str(found.destination), found.port) == (
        "10.0.0.1",
        1000,
        "10.0.0.2",
        80,
    )
