"""`l3net cni`, `l3net ipam` and `l3net conformance` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from l3net.cli.main import cli
from l3net.errors import ConfigError, NotRunningError

if TYPE_CHECKING:
    from conftest import Host


def l3net(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.netns
def test_install_waits_for_the_agent(bare_host: Host, tmp_path: Path) -> None:
    bin_dir, conf_dir = tmp_path / "bin", tmp_path / "net.d"
    arguments = ["cni", "install", "--bin-dir", str(bin_dir), "--conf-dir", str(conf_dir)]
    arguments += ["--plugin-dir", str(bare_host.plugin_dir), "--run-dir", str(bare_host.base / "run")]
    early = l3net(*arguments)
    assert isinstance(early.exception, NotRunningError) and not conf_dir.exists()
    assert {path.name for path in bin_dir.iterdir()} == {"l3net-cni", "l3net-ipam", "l3net-standalone"}
    bare_host.start()
    assert l3net(*arguments).exit_code == 0
    (conflist,) = conf_dir.iterdir()
    found = json.loads(conflist.read_text())
    assert found["cniVersions"] == ["1.0.0", "1.1.0"] and found["plugins"][0]["type"] == "l3net-cni"
    assert "in place already" in l3net(*arguments).output
    removed = l3net("cni", "uninstall", "--bin-dir", str(bin_dir), "--conf-dir", str(conf_dir))
    assert removed.exit_code == 0
    assert not list(bin_dir.iterdir()) and not list(conf_dir.iterdir())


@pytest.mark.netns
def test_ipam(host: Host) -> None:
    host.add("c1", CNI_ARGS="K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=u1;IgnoreUnknown=1")
    host.add("c2")
    state = ["ipam", "--state-dir", str(host.base / "state")]

    def rows(*arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(l3net(*state, *arguments, "-o", "json").stdout)
        return found

    listed = rows("show")
    assert [row["pod"] for row in listed] == ["shop/web-1", ""]
    assert rows("who", "10.244.0.2")[0]["containerID"] == "c1"
    assert l3net(*state, "who", "10.244.0.77").exit_code == 1
    assert host.inside(lambda: l3net(*state, "check")).exit_code == 0
    assert l3net(*state, "release", "10.244.0.2", "--yes").exit_code == 0
    assert [row["containerID"] for row in rows("show")] == ["c2"]
    assert [row["event"] for row in rows("history", "10.244.0.2")] == ["release", "assign"]
    checked = host.inside(lambda: l3net(*state, "check", "-o", "json"))
    assert checked.exit_code == 1
    assert [row["what"] for row in json.loads(checked.stdout)] == ["interface without lease"]


@pytest.mark.netns
def test_rebuild_from_the_kernel(host: Host) -> None:
    """A store lost with all its files comes back out of the host interfaces' aliases."""
    for name in ("c1", "c2", "c3"):
        host.add(name)
    assert host.server
    before = {(lease.key, tuple(a.address for a in lease.addresses)) for lease in host.server.leases.leases()}
    host.stop()
    state = host.base / "state"
    refused = l3net("ipam", "--state-dir", str(state), "rebuild")
    assert isinstance(refused.exception, ConfigError)
    for path in state.glob("leases.db*"):
        path.unlink()
    done = host.inside(lambda: l3net("ipam", "--state-dir", str(state), "rebuild"))
    assert "3 attachments" in done.output
    server = host.start()
    assert {(l.key, tuple(a.address for a in l.addresses)) for l in server.leases.leases()} == before  # noqa: E741
    host.add("c4")
    assert len({a.address for l in server.leases.leases() for a in l.addresses}) == 8  # noqa: E741
    assert host.cni("DEL", "c1", None).code == 0
    assert host.leases() == 3


def test_import_host_local(tmp_path: Path) -> None:
    directory = tmp_path / "podman"
    directory.mkdir()
    (directory / "10.88.0.5").write_text("abc\r\neth0")
    (directory / "fd00:88::5").write_text("abc\r\neth0")
    (directory / "10.88.0.6").write_text("old-format")
    (directory / "last_reserved_ip.0").write_text("10.88.0.6")
    (directory / "lock").write_text("")
    state = ["ipam", "--state-dir", str(tmp_path / "state")]
    done = l3net(*state, "import-host-local", str(directory))
    assert "imported 2 of 2" in done.output
    again = l3net(*state, "import-host-local", str(directory))
    assert "imported 0 of 2" in again.output
    listed = json.loads(l3net(*state, "show", "-o", "json").stdout)
    assert [row["addresses"] for row in listed] == [["10.88.0.5", "fd00:88::5"], ["10.88.0.6"]]
    assert {row["network"] for row in listed} == {"podman"}
