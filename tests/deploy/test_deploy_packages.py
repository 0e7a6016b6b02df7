"""The wheel and the Debian package: what they hold, that it runs where it is installed, and what is left when
it is gone."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from machine_root import new_root

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "build" / "cni" / "l3net-cni"
ENVIRONMENT = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}

pytestmark = pytest.mark.skipif(not PLUGIN.exists(), reason="`make plugin` has not run")


def packed(what: str, to: Path, pattern: str = "*") -> Path:
    argv = [sys.executable, str(ROOT / "tools" / "package"), what, "--to", str(to)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=1800)
    assert done.returncode == 0, done.stderr
    (made,) = to.glob(pattern)
    return made


def test_a_build_without_its_packages_ends_with_what_failed(tmp_path: Path) -> None:
    nowhere = {**ENVIRONMENT, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    argv = [sys.executable, str(ROOT / "tools" / "package"), "wheel", "--to", str(tmp_path / "to")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=nowhere, timeout=300)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No matching distribution found" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("tools/package: exit code 1 of: ")


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)


@contextmanager
def containerd(base: Path) -> Iterator[list[str]]:
    """A containerd of its own, with a network of its own; the argv of a ctr that talks to it."""
    for name in ("root", "state"):
        (base / name).mkdir(parents=True)
    (base / "config.toml").write_text(
        f'version = 2\nroot = "{base}/root"\nstate = "{base}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{base}/c.sock"\n'
    )
    ctr = ["ctr", "--address", str(base / "c.sock")]
    argv = ["unshare", "--net", "containerd", "--config", str(base / "config.toml")]
    with (base / "log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as daemon:
        try:
            for _ in range(100):
                if run([*ctr, "version"]).returncode == 0:
                    break
                time.sleep(0.1)
            yield ctr
        finally:
            daemon.terminate()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.mark.soak
def test_the_wheel_is_reproducible(wheel: Path, tmp_path: Path) -> None:
    """Another time, another directory, another umask."""
    before = os.umask(0o077)
    try:
        again = packed("wheel", tmp_path / "again")
    finally:
        os.umask(before)
    digests = {hashlib.sha256(each.read_bytes()).hexdigest() for each in (wheel, again)}
    assert len(digests) == 1


def test_the_wheel_is_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as held:
        names = held.namelist()
        modes = {each.filename: each.external_attr >> 16 & 0o777 for each in held.infolist()}
    assert modes["l3net/plugins/x86_64/l3net-cni"] == 0o755
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "l3net").rglob("*.py")}
    assert wanted <= set(names)
    assert any(name.endswith("share/man/man1/l3net-agent.1") for name in names)
    assert not any("__pycache__" in name or name.startswith("tests/") for name in names)


def test_the_wheel_brings_its_plugins(wheel: Path, tmp_path: Path) -> None:
    """In an environment with nothing else of ours, far from the working tree."""
    home = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    packages = next(home.glob("lib/python*/site-packages"))
    argv = [sys.executable, "-m", "pip", "-q", "--python", str(home / "bin" / "python"), "install"]
    subprocess.run([*argv, "--no-deps", "--no-index", str(wheel)], check=True)
    (packages / "needed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # what it needs of others
    program = str(home / "bin" / "l3net")
    plugins = tmp_path / "bin"
    argv = [program, "cni", "install", "--no-conf", "--bin-dir", str(plugins)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    where = [sys.executable, "-c", "import l3net; print(l3net.__file__)"]
    where[0] = str(home / "bin" / "python")
    assert str(home) in subprocess.run(where, capture_output=True, text=True, check=True, cwd="/").stdout
    assert {each.name for each in plugins.iterdir()} == {"l3net-cni", "l3net-ipam", "l3net-standalone"}
    for name in ("l3net-cni", "l3net-ipam"):
        asked = subprocess.run(
            [str(plugins / name)], input="{}", env={"CNI_COMMAND": "VERSION"}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        assert "1.1.0" in json.loads(asked.stdout)["supportedVersions"]


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.timeout(5400)
def test_the_debian_package_comes_runs_and_goes(tmp_path: Path) -> None:
    """In a root file system of its own: installed, used, removed, purged; and made twice alike."""
    (tmp_path / "machine").mkdir()
    machine = new_root(tmp_path / "machine", more=True)
    made = packed("deb", tmp_path / "one")
    (machine.directory / "tree" / "l3net.deb").write_bytes(made.read_bytes())

    def there() -> set[str]:
        """Files that the base has not, but for dpkg's own. An overlay keeps directories."""
        paths = (path for path in machine.upper.rglob("*") if path.is_symlink() or path.is_file())
        found = {str(path.relative_to(machine.upper)) for path in paths}
        return {each for each in found if not each.startswith(("var/lib/dpkg", "var/log", "var/cache"))}

    assert machine.run("true").code == 0
    before = there()
    came = machine.run("dpkg -i /vagrant/l3net.deb")
    assert came.code == 0, came.output
    assert {"usr/bin/l3net", "lib/systemd/system/l3net-agent.service"} <= there() or {
        "usr/bin/l3net",
        "usr/lib/systemd/system/l3net-agent.service",
    } <= there()
    used = machine.run(
        "set -e; cd /; l3net --version; l3net validate /etc/l3net/manifests; "
        "l3net cni install --no-conf; CNI_COMMAND=VERSION /opt/cni/bin/l3net-cni </dev/null | grep -q 1.1.0; "
        "test -x /opt/cni/bin/l3net-standalone; python3 -c 'import l3net' 2>/dev/null && exit 9; "
        "test -s /usr/share/bash-completion/completions/l3net; test -s /usr/share/man/man1/l3net-agent.1.gz; "
        'test "$(stat -c %a /etc/l3net/manifests)" = 700; '
        "grep -rlE '/tmp|/work|/root/' /usr/lib/l3net/bin /usr/lib/l3net/pyvenv.cfg && exit 8; "
        "l3net status || test $? = 3"
    )
    assert used.code == 0, used.output
    again = machine.run("dpkg -i /vagrant/l3net.deb && dpkg -V l3net")
    assert again.code == 0, again.output
    gone = machine.run(
        "ip link add l3net0 type bridge && nft add table inet l3net && nft add table inet others || exit 9; "
        "mkdir -p /var/lib/l3net; touch /var/lib/l3net/leases.db; dpkg --purge l3net || exit 8; "
        "ip link show l3net0 2>/dev/null && exit 7; nft list tables"
    )
    assert gone.code == 0, gone.output
    assert "table inet others" in gone.output.splitlines()
    assert "table inet l3net" not in gone.output.splitlines()
    left = {each for each in there() - before if not each.startswith(("opt", "dev", "run", "proc", "sys"))}
    assert not left, left
    twice = packed("deb", tmp_path / "two")
    assert twice.read_bytes() == made.read_bytes()


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.timeout(5400)
def test_the_image_is_read_by_containerd_and_runs(tmp_path: Path) -> None:
    """Made twice alike; its bill of materials names what is in it."""
    missing = [each for each in ("mmdebstrap", "containerd", "ctr") if shutil.which(each) is None]
    if missing or importlib.util.find_spec("spdx_tools") is None:
        pytest.skip(f"needs {', '.join(missing) or 'spdx-tools'}: `make image` installs it")
    (tmp_path / "one").mkdir()
    one = packed("image", tmp_path / "one", "*.oci.tar")
    bill = json.loads(next((tmp_path / "one").glob("*.spdx.json")).read_text())
    names = {each["name"] for each in bill["packages"]}
    assert {"l3net", "exabgp", "pyroute2", "nftables", "libc6"} <= names and "pip" not in names
    two = packed("image", tmp_path / "two", "*.oci.tar")
    assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(two.read_bytes()).digest()
    with containerd(tmp_path / "c") as ctr:
        assert run([*ctr, "images", "import", str(one)]).returncode == 0
        script = (
            "l3net --version && l3net version --all -o json && nft --version && cat /etc/apt/sources.list"
        )
        done = run([*ctr, "run", "--rm", "docker.io/library/l3net:0.1.0", "x", "sh", "-c", script])
        if "cgroup" in done.stderr and done.returncode:
            pytest.skip(f"needs a machine where runc may make cgroups: {done.stderr[-100:]}")
        assert done.returncode == 0, done.stderr
        assert '"exabgp"' in done.stdout and "nftables v" in done.stdout
        assert done.stdout.splitlines()[-2] == "deb http://deb.debian.org/debian bookworm main"
