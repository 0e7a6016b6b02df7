"""What a bundle is made of: commands that read, sysctls, ends of logs; and secrets, to leave them out."""

from __future__ import annotations

import base64
import re
import subprocess
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from l3net.errors import L3netError
from l3net.naming import EXABGP_CONFIG
from l3net.shell.kernel.nftcommand import find_nft

#: Seconds for one command, and octets of what it prints.
PATIENCE: Final = 20.0
LONGEST: Final = 64 << 20
#: What stands in the place of a secret.
BLOT: Final = "[left out]"
#: Where ExaBGP's configuration has them.
_PASSWORD: Final = re.compile(r'^\s*md5-password\s+"?(?P<value>.+?)"?\s*;\s*$', re.MULTILINE)
#: A secret this short would blot out half of every text; it is left out of ExaBGP's configuration alone.
_SHORTEST: Final = 4
_SYSCTLS: Final = ("net/ipv4", "net/ipv6", "net/netfilter", "net/core", "net/bridge")
#: sysctl(8) has dots for slashes, and slashes for the dots in a link's name.
_DOTTED: Final = str.maketrans("./", "/.")
#: Directories of sysctls with an entry for each neighbour or route cache: nobody asks for those.
_SKIPPED: Final = ("neigh",)


class BundleError(L3netError):
    """A part cannot be had, or the archive cannot be written."""


def commands() -> Mapping[str, Sequence[str]]:
    """File names, and the commands that fill them. Each only reads."""
    found: dict[str, Sequence[str]] = {
        "links.json": ["ip", "-d", "-s", "-j", "link"],
        "addresses.json": ["ip", "-j", "addr"],
        "rules.txt": ["ip", "rule"],
        "rules6.txt": ["ip", "-6", "rule"],
        "routes.txt": ["ip", "route", "show", "table", "all"],
        "routes6.txt": ["ip", "-6", "route", "show", "table", "all"],
        "neighbours.txt": ["ip", "-s", "neigh"],
        "bridge-links.txt": ["bridge", "-d", "link"],
        "bridge-fdb.txt": ["bridge", "fdb"],
        "sockets.txt": ["ss", "-tunlpi"],
        "processes.txt": ["ps", "-eo", "pid,ppid,etime,rss,stat,comm"],
        "counters.txt": [
            "cat",
            "/proc/self/net/netstat",
            "/proc/self/net/snmp",
            "/proc/self/net/softnet_stat",
        ],
    }
    try:
        found["nftables.txt"] = [find_nft(), "list", "ruleset"]
    except L3netError:
        found["nftables.txt"] = ["nft", "list", "ruleset"]
    return found


def run(command: Sequence[str], patience: float = PATIENCE, codes: Collection[int] = (0,)) -> str:
    """What a command prints. Raises BundleError."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        raise BundleError(f"`{command[0]}` took more than {patience:g} s") from None
    except OSError as err:
        raise BundleError(f"`{command[0]}`: {err.strerror}") from err
    if done.returncode not in codes:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise BundleError(f"`{command[0]}` failed ({done.returncode}){': ' + said[-1] if said else ''}")
    return done.stdout[:LONGEST].decode(errors="backslashreplace")


def sysctls(root: Path = Path("/proc/sys")) -> str:
    """Those of networking, a line each as sysctl(8) has them."""
    lines = []
    for directory in _SYSCTLS:
        for path in sorted((root / directory).rglob("*")):
            if any(part in _SKIPPED for part in path.parts) or not path.is_file():
                continue
            try:
                value = path.read_text(errors="replace").strip().replace("\n", " ")
            except OSError:
                continue  # some can only be written
            lines.append(f"{str(path.relative_to(root)).translate(_DOTTED)} = {value}")
    return "\n".join(lines) + "\n"


def read_tail(path: Path, lines: int) -> str:
    """The end of a text file. Raises OSError."""
    with path.open(errors="backslashreplace") as file:
        return "".join(deque(file, lines))


def secrets_of(run_dir: Path) -> frozenset[str]:
    """The passwords that ExaBGP has been given."""
    try:
        text = (run_dir / EXABGP_CONFIG).read_text(errors="backslashreplace")
    except OSError:
        return frozenset()
    found = {match["value"] for match in _PASSWORD.finditer(text)}
    return frozenset(found | {plain for each in found if (plain := _plain(each))})


def _plain(encoded: str) -> str:
    """Out of base64, as ExaBGP is given a password; empty for what is none."""
    try:
        return base64.b64decode(encoded, validate=True).decode(errors="backslashreplace")
    except ValueError:
        return ""


def scrubbed(text: str, hidden: Collection[str]) -> str:
    """Without passwords: where ExaBGP's configuration has them, and wherever else one stands."""
    text = _PASSWORD.sub(lambda match: match[0].replace(match["value"], BLOT), text)
    for secret in sorted(hidden, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, BLOT)
    return text
