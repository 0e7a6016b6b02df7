"""The whole suite against one plugin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from l3net.conformance import attach, detach, protocol
from l3net.conformance.bench import Bench
from l3net.conformance.verdict import CASES, CaseVerdict, judge
from l3net.errors import ConfigError

#: The modules whose cases are registered by importing them.
MODULES = (protocol, attach, detach)

#: What bridge + host-local are tried with, and by changed type names l3net without an agent.
BRIDGE_CONF: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "conformance",
    "type": "bridge",
    "bridge": "confbr0",
    "isDefaultGateway": True,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/112"}]]},
}
AGENT_CONF: dict[str, Any] = {"cniVersion": "1.0.0", "name": "l3net", "type": "l3net-cni"}


def default_conf(plugin: Path, *, standalone: bool) -> dict[str, Any]:
    """A configuration for a plugin we know. Raises ConfigError for another."""
    conf: dict[str, Any] = json.loads(json.dumps(BRIDGE_CONF))
    if plugin.name == "bridge":
        return conf
    if plugin.name != "l3net-cni":
        raise ConfigError(f"{plugin.name}: no configuration known for this plugin; give one with --conf")
    if not standalone:
        return dict(AGENT_CONF)
    conf["type"] = "l3net-cni"
    conf["ipam"]["type"] = "l3net-ipam"
    return conf


def run_suite(
    plugin: Path,
    conf: dict[str, Any],
    cni_path: str,
    *,
    only: str = "",
    resident: bool = False,
    progress: Callable[[CaseVerdict], None] = lambda _: None,
) -> list[CaseVerdict]:
    """Every case on a fresh host. The plugin's own agent is started where the configuration needs it.

    `resident`: as for `Bench`.
    """
    verdicts = []
    for each in CASES:
        if only and only not in f"{each.point} {each.title}":
            continue
        bench = Bench(plugin.resolve(), dict(conf), cni_path, resident)
        try:
            bench.open(agent=plugin.name == "l3net-cni" and "ipam" not in conf)
            ipam = bench.conf.get("ipam")
            if isinstance(ipam, dict):
                bench.conf["ipam"] = {**ipam, "dataDir": str(bench.base / "addresses")}
            verdict = judge(each, bench)
        finally:
            bench.close()
        progress(verdict)
        verdicts.append(verdict)
    return verdicts
