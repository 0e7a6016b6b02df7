"""What a DEL without an agent and a helper begins with: the interface goes while the program is read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from l3net.attach.removal import Removal
from l3net.attach.stores import Stores
from l3net.cli.standalone import begun_removal
from l3net.cni.ifname import host_ifname
from l3net.cni.setup import Setup
from l3net.errors import StillWiredError
from l3net.ipam.lease import LeaseKey, LeaseStoreError
from l3net.shell.files.leases import SqliteLeases
from l3net.shell.kernel.netlink import Netlink

if TYPE_CHECKING:
    from conftest import Host

pytestmark = pytest.mark.netns

KEY = LeaseKey("plain", "c1", "eth0")
DEL = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}


def conf(host: Host, **changes: Any) -> dict[str, Any]:
    ipam = {
        "type": "l3net-ipam",
        "dataDir": str(host.base / "data"),
        "ranges": [[{"subnet": "10.71.0.0/24"}]],
    }
    found = {"cniVersion": "1.0.0", "name": "plain", "type": "l3net-cni", "bridge": "plain0"}
    return {**found, "ipam": ipam, **changes}


def test_it_deletes_one_link(bare_host: Host, run: Any) -> None:
    host, name = bare_host, host_ifname(KEY)
    for link in (name, "other0"):
        run("ip", "-n", host.name, "link", "add", link, "type", "bridge")

    def removed(name: str) -> bool:
        with Netlink() as netlink:
            return Removal(name).doom(netlink, name)

    assert host.inside(lambda: removed(name))
    assert [link["ifname"] for link in host.ip("link")] == ["lo", "other0"]
    assert host.inside(lambda: removed(name)) is False, "there is none any more"
    assert host.inside(lambda: Removal(name).flush())
    with pytest.raises(StillWiredError, match="delete lo") as caught:
        host.inside(lambda: removed("lo"))
    assert caught.value.code == errno.EOPNOTSUPP
    assert host.inside(lambda: Removal("lo").flush()) is False


def test_it_answers_for_the_link_it_deletes_alone(bare_host: Host) -> None:
    def asked() -> None:
        with Netlink() as netlink:
            Removal("other0").doom(netlink, host_ifname(KEY))

    with pytest.raises(StillWiredError):
        bare_host.inside(asked)


@pytest.mark.parametrize(
    ("environment", "changes"),
    [
        ({"CNI_CONTAINERID": "../x"}, {}),
        ({"CNI_CONTAINERID": ""}, {}),
        ({"CNI_IFNAME": "a/b"}, {}),
        ({}, {"name": ""}),
        ({}, {"cniVersion": "9.9.9"}),
    ],
)
def test_what_is_no_valid_call_begins_nothing(
    bare_host: Host, environment: dict[str, str], changes: dict[str, Any]
) -> None:
    stdin = json.dumps(conf(bare_host, **changes)).encode()
    assert bare_host.inside(lambda: begun_removal({**DEL, **environment}, stdin)) is None
    assert bare_host.inside(lambda: begun_removal(DEL, b"{")) is None
    assert bare_host.inside(lambda: begun_removal(DEL, json.dumps(conf(bare_host)).encode())), "the control"


def test_the_link_of_another_plugin_is_not_its_own(bare_host: Host, run: Any) -> None:
    """`l3net-ipam` gives addresses back, whatever links there are."""
    host, pod = bare_host, bare_host.pod()
    host.add("c1", pod, conf=conf(host))
    environment = {
        **DEL, "PATH": os.environ["PATH"], "CNI_PATH": str(host.plugin_dir), "L3NET_CNI_HELPER_IDLE": "0",
    }  # fmt: skip
    argv = ["ip", "netns", "exec", host.name, str(host.plugin_dir / "l3net-ipam")]
    done = subprocess.run(argv, input=json.dumps(conf(host)).encode(), env=environment, check=False)
    assert done.returncode == 0 and len(host.veths()) == 1
    assert host.cni("DEL", "c1", pod, conf=conf(host)).code == 0 and host.veths() == []


def test_a_store_that_fails_is_not_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper is forked afterwards, and SQLite's files are no child's."""
    stores, setup = Stores(), Setup(bridge="", store=str(tmp_path / "data"))

    def held() -> list[str]:
        names = [str(each.resolve()) for each in Path("/proc/self/fd").iterdir()]
        return [name for name in names if str(tmp_path) in name]

    stores(setup)
    assert held(), "the control"
    stores.close()
    assert not held()

    def failing(store: SqliteLeases) -> None:
        raise LeaseStoreError("it fails")

    monkeypatch.setattr(SqliteLeases, "settle_boot", failing)
    with pytest.raises(LeaseStoreError):
        Stores()(setup)
    assert not held()


def test_a_lease_outlives_a_link_that_cannot_be_deleted(
    bare_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the link is deleted last: its address stays its own."""
    from l3net.cli import onecall
    from l3net.cni.frame import Call

    host, pod = bare_host, bare_host.pod()
    host.add("c1", pod, conf=conf(host))
    call = Call(DEL, json.dumps(conf(host)).encode())
    monkeypatch.setenv("L3NET_CNI_STATE", str(host.base / "standalone"))

    def refused() -> Any:
        removal = Removal(host_ifname(KEY))
        removal.flush()
        monkeypatch.setattr(removal, "_code", errno.EBUSY)
        return onecall.standalone(call, None, removal, close=True)

    answer = host.inside(refused)
    assert answer.exit_code == 1 and b"EBUSY" in answer.stdout
    store = SqliteLeases(host.base / "data/leases.db")
    assert [lease.key for lease in store.leases()] == [KEY]
    store.close()
    assert host.cni("DEL", "c1", pod, conf=conf(host)).code == 0
