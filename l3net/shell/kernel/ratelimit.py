"""The netlink request that limits the rate of a link (tc-tbf(8), linux/pkt_sched.h)."""

from __future__ import annotations

import struct
from typing import Final

from l3net.shell.kernel.links import nested, text, u32
from l3net.shell.kernel.netlink import NLM_F_CREATE, NLM_F_REPLACE, Request, attribute

RTM_NEWQDISC: Final = 36
TC_H_ROOT: Final = 0xFFFFFFFF
TCA_KIND: Final = 1
TCA_OPTIONS: Final = 2
TCA_TBF_PARMS: Final = 1
TCA_TBF_RATE64: Final = 4
TCA_TBF_BURST: Final = 6
_TCMSG: Final = struct.Struct("=BxxxiIII")
_NSEC_PER_TICK: Final = 64  # PSCHED_SHIFT is 6
_LATENCY: Final = 0.025  # seconds a packet may wait, as the reference bandwidth plugin has it


def limit_rate(index: int, rate: int, burst: int) -> Request:
    """A token bucket (tc-tbf(8)) at the root of a link. `rate` in bits a second, `burst` in bits."""
    rate_bytes = max(1, rate // 8)
    burst_bytes = min(burst // 8 or max(rate_bytes // 10, 16384), 0xFFFFFFFF)
    ticks = min(int(burst_bytes * 1_000_000_000 / rate_bytes / _NSEC_PER_TICK), 0xFFFFFFFF)
    limit = min(int(rate_bytes * _LATENCY) + burst_bytes, 0xFFFFFFFF)
    # struct tc_ratespec (linklayer 1: ethernet, so that no rate table is needed), twice, limit, buffer, mtu
    ratespec = struct.pack("=BBHhHI", 0, 1, 0, -1, 0, min(rate_bytes, 0xFFFFFFFF))
    parms = ratespec + struct.pack("=BBHhHI", 0, 0, 0, 0, 0, 0) + struct.pack("=III", limit, ticks, 0)
    options = attribute(TCA_TBF_PARMS, parms) + u32(TCA_TBF_BURST, burst_bytes)
    if rate_bytes > 0xFFFFFFFF:
        options += attribute(TCA_TBF_RATE64, struct.pack("=Q", rate_bytes))
    body = _TCMSG.pack(0, index, 0, TC_H_ROOT, 0)
    body += text(TCA_KIND, "tbf") + nested(TCA_OPTIONS, options)
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)
