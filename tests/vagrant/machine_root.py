"""A Debian (or Ubuntu) root file system to provision: made once by mmdebstrap, then lent out as an overlay.

What is run in it is in namespaces of its own (mounts, processes, network) behind pivot_root: it sees neither
this machine's files nor its links. Packages are those of this machine's release, from where its apt gets
them; they are downloaded when the root is made, so that provisioning itself needs no network.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).parents[2]
#: Raised with every change of what is below, so that an old root is not taken for a new one.
_RECIPE = "3"
_HOME = TREE / "build" / "machine-root"
_TIMEOUT = 900
#: There from the start, since every machine has them; the rest is installed by the provisioning under test.
_COMMON = ["iproute2", "iputils-ping", "traceroute", "procps", "nftables", "curl", "ca-certificates",
           "diffutils", "python3"]  # fmt: skip
_LATER = ["frr"]
#: Of the root for nodes and other routers as well.
_COMMON_MORE = ["python3-venv", "gcc", "libc6-dev", "conntrack", "kmod"]
_LATER_MORE = ["bird2", "openbgpd", "podman", "buildah", "runc", "containerd"]
_INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends"

# In namespaces of its own: the overlay becomes the root, and nothing of the old one stays visible.
_ENTER = r"""
set -e
root=$1; shift
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mkdir -p "$root/run/lock"
mkdir -p "$root/oldroot"
cd "$root"
pivot_root . oldroot
umount -l /oldroot
rmdir /oldroot
cd /
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command in a root ended, and all that it said."""

    code: int
    output: str


class RootError(Exception):
    """The root could not be made; says which command failed and how."""


def release() -> tuple[str, str]:
    """This machine's distribution and codename."""
    pairs = (line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    found = {key: value.strip('"') for key, value in pairs}
    return found.get("ID", ""), found.get("VERSION_CODENAME", "")


def base(more: bool = False) -> Path:
    """The root that all overlays share, made if it is not there; `more`: of nodes and of any router, not of
    clients and of routers with FRR alone, which takes half as long to make. Raises RootError."""
    distribution, codename = release()
    if distribution not in {"debian", "ubuntu"}:
        raise RootError(f"mmdebstrap makes roots of Debian and Ubuntu, this machine runs {distribution}")
    plain = base() if more else None
    name = f"{codename}-more" if more else codename
    _HOME.mkdir(parents=True, exist_ok=True)
    root, done = _HOME / name, _HOME / f"{name}.{_RECIPE}"
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes, one root
        if done.exists():
            return root
        shutil.rmtree(root, ignore_errors=True)
        if plain is None:
            _make(root, codename)
        else:
            _make_more(root, plain)
        done.touch()
    return root


def _make(root: Path, codename: str) -> None:
    sources = _sources(codename)
    if not any(line.split()[2] == codename for line in sources):
        raise RootError(
            f"apt on this machine has no source for {codename}: `apt-get indextargets` lists none"
        )
    settings = _run(["apt-config", "dump", "Acquire"], "apt-config").splitlines()
    wanted = [line for line in settings if line.lower().startswith(("acquire::http", "acquire::https"))]
    # A root that is thrown away need not survive a power cut.
    options = ["--dpkgopt=force-unsafe-io", *(f"--aptopt={line}" for line in wanted)]
    later = f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" {_INSTALL} --download-only {" ".join(_LATER)}'
    # With the lists and the packages that apt has, unlike others.
    options += ["--skip=cleanup/apt", f"--customize-hook={later}"]
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(_COMMON)}"]
    # It mounts proc in its target: not in our namespace.
    apart = ["unshare", "--mount", "--propagation", "private", "--"]
    _run([*apart, *argv, *options, codename, str(root), *sources], "mmdebstrap")
    (root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in sources))
    (root / "etc/apt/apt.conf.d/90machine").write_text("".join(f"{line}\n" for line in wanted))
    # For mirrors behind a proxy with a certificate of its own.
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    if authorities.exists():
        target = root / "etc/ssl/certs" / authorities.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(authorities, target)
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    _cut_off(root)


def _make_more(root: Path, plain: Path) -> None:
    _run(["cp", "-a", "--reflink=auto", str(plain), str(root)], "cp")
    for name in ("resolv.conf", "hosts"):
        shutil.copyfile(f"/etc/{name}", root / "etc" / name)
    script = (
        f"apt-get update -q && {_INSTALL} {' '.join(_COMMON_MORE)}"
        f" && {_INSTALL} --download-only {' '.join(_LATER_MORE)}"
    )
    _run(entered(root, ["sh", "-c", script], network=True), "apt-get in the new root")
    _cut_off(root)


def _cut_off(root: Path) -> None:
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")


def _sources(codename: str) -> list[str]:
    """The lines of a sources.list: this machine's own release, updates and security, as its apt has them."""
    form = "$(REPO_URI) $(CODENAME) $(RELEASE) $(COMPONENT)"
    argv = ["apt-get", "indextargets", "Created-By: Packages", "--format", form]
    told = _run(argv, "apt-get indextargets")
    if not told.strip():  # its lists were cleaned away, as images of machines do; it tells of those it has
        _run(["apt-get", "update", "-q"], "apt-get update")
        told = _run(argv, "apt-get indextargets")
    suites = {codename, f"{codename}-updates", f"{codename}-security"}
    found = [line.split() for line in told.splitlines() if len(line.split()) == 4]
    return sorted({f"deb {uri} {suite} {component}" for uri, _, suite, component in found if suite in suites})


def wheels(codename_root: Path) -> Path:
    """What l3net needs from PyPI, as wheels for the root's Python. Raises RootError."""
    directory = _HOME / "wheels"
    version = next(path.name for path in (codename_root / "usr/bin").glob("python3.*[0-9]"))
    done = directory / f"{version}.{_RECIPE}"
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], "setuptools>=68", "wheel"]
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists() and done.read_text().splitlines() == wanted:
            return directory
        shutil.rmtree(directory, ignore_errors=True)
        platforms = [f"manylinux2014_{platform.machine()}", f"manylinux_2_28_{platform.machine()}"]
        argv = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        argv += ["--only-binary=:all:", "--implementation", "cp", "-d", str(directory)]
        argv += ["--python-version", version.removeprefix("python")]
        argv += [part for name in platforms for part in ("--platform", name)]
        _run([*argv, *wanted], "pip download")
        done.write_text("\n".join(wanted))
    return directory


def _run(argv: Sequence[str], what: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError:
        raise RootError(f"{what}: {argv[0]} is not installed: `make setup-test`") from None
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RootError(f"{what} failed ({done.returncode}); does apt (or pip) reach its mirror?\n{said}")
    return done.stdout


def entered(root: Path, argv: Sequence[str], *, network: bool = False) -> list[str]:
    """A command line that runs in a root, with a network of its own unless it is to have this machine's."""
    own = [] if network else ["--net"]
    unshared = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", *own]
    return [*unshared, "--propagation", "private", "--", "sh", "-c", _ENTER, "sh", str(root), *argv]


@dataclass(frozen=True, slots=True)
class MachineRoot:
    """An overlay over the base root, with a copy of the working tree in /vagrant."""

    directory: Path
    base: Path
    wheels: Path

    @property
    def upper(self) -> Path:
        """What differs from the base."""
        return self.directory / "upper"

    def run(self, script: str, environment: Mapping[str, str] | None = None) -> Ended:
        """Run a shell script as root of the machine. Everything it starts ends with it."""
        mounted = (
            'mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"\n'
            'mount --bind "$3" "$2/root/wheels"; mount --bind "$2/tree" "$2/root/vagrant"\n'
            'mount -o remount,bind,ro "$2/root/vagrant"\n'
            'root="$2/root"; shift 3; set -- "$root" "$@"\n'
        )
        unshared = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--kill-child"]
        argv = [*unshared, "--propagation", "private", "--", "sh", "-c", "set -e\n" + mounted + _ENTER, "sh"]
        argv += [str(self.base), str(self.directory), str(self.wheels), "sh", "-c", script]
        kept = {"HOME": "/root", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_TIMEOUT, check=False,
            env={**kept, **(environment or {})}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout)


def new_root(directory: Path, more: bool = False) -> MachineRoot:
    """A machine with nothing on it but the working tree; `more` as of base(). Raises RootError."""
    found = base(more)
    for name in ("upper/wheels", "upper/vagrant", "upper/etc", "work", "root", "none"):
        (directory / name).mkdir(parents=True)
    (directory / "upper/etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    left_out = shutil.ignore_patterns(
        ".*", "build", "__pycache__", "*.egg-info", "dist", "report", "tests", "bench"
    )
    shutil.copytree(TREE, directory / "tree", ignore=left_out)
    return MachineRoot(directory, found, wheels(found) if more else directory / "none")


if __name__ == "__main__":
    os.umask(0o022)
    print(base(more=True), wheels(base(more=True)))  # noqa: T201
