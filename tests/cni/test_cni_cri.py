"""containerd as kubelet drives it: pod sandboxes by the CRI socket, their network by l3net and its agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Host

grpc = pytest.importorskip("grpc")
from cri import Runtime, Sandbox  # noqa: E402 - needs grpc
from cri_rig import containerd, remove_all, start  # noqa: E402

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture
def runtime(host: Host, tmp_path: Path) -> Iterator[Runtime]:
    plugin = {"type": "l3net-cni", "capabilities": {"portMappings": True}}
    conflist = {"cniVersion": "1.0.0", "name": "l3net", "plugins": [plugin]}
    with containerd(host, tmp_path / "cri", conflist, {"l3net-cni": host.plugin_dir / "l3net-cni"}) as found:
        yield found


def test_sandbox(host: Host, runtime: Runtime, ping: Callable[..., bool], run: Callable[..., str]) -> None:
    one = start(runtime, host, "web-0", ports=((0, 80, 8088),))
    two = start(runtime, host, "web-1")
    assert runtime.addresses(one) == ["10.244.0.2", "fd00:10:244:1::2"]
    assert runtime.addresses(two) == ["10.244.0.3", "fd00:10:244:1::3"]
    for address in runtime.addresses(one) + runtime.addresses(two):
        assert ping(host.name, address), address
    assert host.server is not None
    leases = {lease.key.container_id: lease for lease in host.server.leases.leases()}
    assert set(leases) == {one, two}
    pod = leases[one].pod
    assert (pod.namespace, pod.name, pod.uid) == ("shop", "web-0", "uid-web-0")
    assert leases[one].key.ifname == "eth0"
    assert "8088" in run("ip", "netns", "exec", host.name, "nft", "list", "ruleset")

    runtime.stop(one)
    runtime.stop(one)  # kubelet repeats it
    runtime.remove(one)
    host.settle()
    assert [lease.key.container_id for lease in host.server.leases.leases()] == [two]
    assert len(host.veths()) == 1
    assert ping(host.name, "10.244.0.3")
    # the address just released is in its cool-down
    again = start(runtime, host, "web-0")
    assert runtime.addresses(again) == ["10.244.0.4", "fd00:10:244:1::4"]
    remove_all(runtime)
    host.settle()
    assert host.leases() == 0 and host.veths() == []
    assert "8088" not in run("ip", "netns", "exec", host.name, "nft", "list", "ruleset")


def test_sandbox_while_the_agent_is_away(host: Host, runtime: Runtime) -> None:
    """No new pod without the agent, and nothing of it stays; a stop succeeds and is carried out later."""
    one = start(runtime, host, "web-0")
    host.stop()
    with pytest.raises(grpc.RpcError) as refused:
        runtime.run(Sandbox("web-1", "uid-web-1", cgroup_parent=f"/{host.name}"))
    assert "agent does not answer" in str(refused.value.details())
    runtime.stop(one)
    runtime.remove(one)
    assert runtime.sandboxes() == []
    spool = host.base / "state" / "spool"
    assert any(spool.glob("*.del"))
    server = host.start()
    host.settle()
    assert server.leases.leases() == [] and host.veths() == []
    assert not any(spool.glob("*.del"))
    assert runtime.addresses(start(runtime, host, "web-2"))[0] == "10.244.0.3"
