"""A lease store on a disk that is full, too small or read-only: refused in plain words, nothing left behind.

The disks are mounted in mount namespaces that end with their processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from served import AGENT

from l3net.shell.files.leases import SqliteLeases

if TYPE_CHECKING:
    from conftest import Host, Outcome

pytestmark = pytest.mark.netns

READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"'
SMALL = 'mount -t tmpfs -o size="$SIZE" none "$1"'


def mounted(host: Host, script: str, directory: Path, *argv: str) -> list[str]:
    """`ip netns exec` makes a mount namespace; the script mounts something on the directory in it."""
    enter = ["ip", "netns", "exec", host.name, "sh", "-ec", script + '; shift; exec "$@"', "sh"]
    return [*enter, str(directory), *argv]


def called(host: Host, command: str, pod: str, conf: dict[str, Any], script: str, data: Path) -> Outcome:
    """The standalone plugin with its store on such a disk."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_PATH": str(host.plugin_dir),
        "SIZE": "64k",
    }
    argv = mounted(host, script, data, str(host.plugin_dir / "l3net-cni"))
    body = json.dumps(conf).encode()
    done = subprocess.run(argv, input=body, capture_output=True, env=environment, timeout=60, check=False)
    return type(host.cni("VERSION"))(done.returncode, done.stdout.decode(), done.stderr.decode())


def standalone_conf(data: Path) -> dict[str, Any]:
    ipam = {"type": "l3net-ipam", "dataDir": str(data), "subnet": "10.70.0.0/24", "coolDown": 0}
    conf = {"cniVersion": "1.0.0", "name": "disks", "type": "l3net-cni", "bridge": "disks0"}
    return {**conf, "isDefaultGateway": True, "ipam": ipam}


def leases_in(data: Path) -> int:
    store = SqliteLeases(data / "leases.db", verify=True)
    try:
        return len(store.leases())
    finally:
        store.close()


def test_standalone_on_a_read_only_disk(bare_host: Host, tmp_path: Path) -> None:
    host, data, pod = bare_host, tmp_path / "data", bare_host.pod()
    conf = standalone_conf(data)
    host.add("c1", pod, conf=conf)
    assert host.cni("DEL", "c1", pod, conf=conf).code == 0
    refused = called(host, "ADD", pod, conf, READ_ONLY, data)
    assert refused.code == 1 and refused.json["code"] == 5, refused
    assert str(data) in refused.json["msg"]
    assert host.veths() == [] and leases_in(data) == 0
    # an attachment from before: its DEL fails (a success would leak the lease), and works later
    host.add("c1", pod, conf=conf)
    refused = called(host, "DEL", pod, conf, READ_ONLY, data)
    assert refused.code == 1 and refused.json["code"] == 5, refused
    assert leases_in(data) == 1
    assert host.cni("DEL", "c1", pod, conf=conf).code == 0
    assert host.veths() == [] and leases_in(data) == 0


def test_standalone_on_a_tiny_disk(bare_host: Host, tmp_path: Path) -> None:
    """64 KiB: not even an empty store and its log fit."""
    host, data, pod = bare_host, tmp_path / "data", bare_host.pod()
    data.mkdir()
    refused = called(host, "ADD", pod, standalone_conf(data), SMALL, data)
    assert refused.code == 1 and refused.json["code"] == 11, refused
    assert "full" in refused.json["msg"]
    assert host.veths() == []
    assert [link["ifname"] for link in host.ip("link", netns=pod)] == ["lo"]


@contextmanager
def agent(host: Host, script: str) -> Iterator[Callable[..., None]]:
    """The agent's CNI side in a process, its state on such a disk; yields what runs sh commands there."""
    state = host.base / "state"
    state.mkdir(exist_ok=True)
    argv = mounted(host, script, state, sys.executable, "-c", AGENT, str(host.base))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout and serving.stderr
            line = serving.stdout.readline()
            if line != "ready\n":
                raise RuntimeError(serving.stderr.read())

            def there(command: str) -> None:
                enter = ["nsenter", "--mount", "-t", str(serving.pid), "sh", "-c", command, "sh", str(state)]
                subprocess.run(enter, check=True, capture_output=True)

            yield there
        finally:
            serving.kill()


def test_agent_on_a_disk_that_fills_up(bare_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZE", "4m")
    host = bare_host
    with agent(host, SMALL) as there:
        pods = [host.pod() for _ in range(2)]
        host.add("c0", pods[0])
        there('cat /dev/zero >"$1/filler" 2>/dev/null || true')
        # what the log has room for may succeed; then ADD is refused and leaves nothing
        for number in range(64):
            outcome = host.cni("ADD", f"n{number}", pods[1])
            if outcome.code:
                break
            if host.cni("DEL", f"n{number}", pods[1]).code:
                there('rm "$1/filler"')
                assert host.cni("DEL", f"n{number}", pods[1]).code == 0
                there('cat /dev/zero >"$1/filler" 2>/dev/null || true')
        assert outcome.code == 1 and outcome.json["code"] == 11, outcome
        assert "full" in outcome.json["msg"]
        assert len(host.veths()) <= 2
        assert [link["ifname"] for link in host.ip("link", netns=pods[1])] == ["lo"]
        checked = host.cni("CHECK", "c0", pods[0], conf={**host.conf, "prevResult": {}})
        assert checked.code == 0, checked  # what only reads goes on
        there('rm "$1/filler"')
        host.add("after", pods[1])
        gc = {"cniVersion": "1.1.0", "name": "l3net", "type": "l3net-cni", "cni.dev/valid-attachments": []}
        assert host.cni("GC", conf=gc).code == 0
        assert host.cni("ADD", "c0", pods[0]).code == 0  # gone, so that it can be made again
        assert host.cni("DEL", "c0", pods[0]).code == 0


def test_agent_on_a_read_only_disk(bare_host: Host) -> None:
    """A new store cannot be made, which the agent says; with one from before it serves what only reads."""
    host, pods = bare_host, [bare_host.pod() for _ in range(2)]
    with pytest.raises(RuntimeError, match=r"LeaseStoreError: .*leases\.db: "), agent(host, READ_ONLY):
        pass
    status = {**host.conf, "cniVersion": "1.1.0"}
    with agent(host, "true"):
        assert host.cni("STATUS", conf=status).code == 0
        result = host.add("c0", pods[0])
    with agent(host, READ_ONLY):
        assert host.cni("CHECK", "c0", pods[0], conf={**host.conf, "prevResult": result}).code == 0
        assert host.cni("STATUS", conf=status).json["code"] == 50
        refused = host.cni("ADD", "c1", pods[1])
        assert refused.code == 1 and refused.json["code"] == 5, refused
        refused = host.cni("DEL", "c0", pods[0])
        assert refused.code == 1 and refused.json["code"] == 5, refused
        assert [link["ifname"] for link in host.ip("link", netns=pods[1])] == ["lo"]
    with agent(host, "true"):
        assert host.cni("DEL", "c0", pods[0]).code == 0
        host.add("c1", pods[1])
