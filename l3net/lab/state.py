"""Where a lab keeps its files: /run/l3net-lab/NAME, written before anything is started."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from l3net.errors import ConfigError, L3netError
from l3net.lab.errors import LabError, LabExistsError, NoLabError, TopologyError
from l3net.lab.parse import parse_topology
from l3net.lab.topology import RouterKind, Topology
from l3net.shell.manifests.documents import DocumentError, one_value

LABS = Path("/run/l3net-lab")
DEFAULT_NAME = "l3net"
_MAX_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class TopologySource:
    """A topology file's text and the router kind that overrides what it says."""

    text: str
    where: str
    router_kind: RouterKind | None = None

    def topology(self) -> Topology:
        try:
            document = one_value(self.text.encode())
        except DocumentError as err:
            where = f"{self.where}:{err.line}" if err.line else self.where
            raise TopologyError(where, str(err)) from None
        try:
            return parse_topology(document, self.router_kind)
        except TopologyError as err:
            raise TopologyError(f"{self.where}: {err.where}" if err.where else self.where, err.why) from None


def read_source(path: Path | None, router_kind: RouterKind | None = None) -> TopologySource:
    """A topology file; None is the one that ships with l3net."""
    if path is None:
        text = resources.files("l3net.lab").joinpath("topologies/default.yaml").read_text()
        return TopologySource(text, "default.yaml", router_kind)
    return TopologySource(read_text(path), str(path), router_kind)


def read_text(path: Path, error: Callable[[str, str], L3netError] = TopologyError) -> str:
    """A file that describes a lab, or what is done to one; it may be a pipe. Raises TopologyError, or what
    `error` makes of the file and why."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SIZE + 1)
        if len(content) > _MAX_SIZE:
            raise error(str(path), "larger than 1 MiB")
        return content.decode("utf-8-sig")
    except OSError as err:
        raise error(str(path), f"cannot be read: {err.strerror}") from None
    except UnicodeDecodeError as err:
        raise error(str(path), f"is not UTF-8 text (byte {err.start})") from None


def lab_directory(name: str) -> Path:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise ConfigError(f"{name!r} is not a lab's name: a-z, 0-9 and '-', at most 32")
    return LABS / name


def refuse_taken(name: str) -> None:
    """Raises LabExistsError if there is a lab of that name."""
    if lab_directory(name).exists():
        raise _exists(name)


def _exists(name: str) -> LabExistsError:
    return LabExistsError(f"there is a lab {name!r} already: `l3net lab down{_option(name)}` removes it")


def create(name: str, source: TopologySource) -> Path:
    """Make a lab's directory and record what it is made of. Raises LabExistsError if there is one already."""
    directory = lab_directory(name)
    LABS.mkdir(mode=0o755, exist_ok=True)
    try:
        directory.mkdir(mode=0o755)
    except FileExistsError:
        raise _exists(name) from None
    kind = source.router_kind.value if source.router_kind else None
    record = {"topology": source.text, "where": source.where, "routerKind": kind}
    temporary = directory / "lab.json.new"
    temporary.write_text(json.dumps(record))
    temporary.rename(directory / "lab.json")
    return directory


def load(name: str) -> tuple[Path, Topology]:
    """The directory and topology of a lab that is there. Raises NoLabError."""
    directory = lab_directory(name)
    try:
        record = json.loads((directory / "lab.json").read_text())
    except FileNotFoundError:
        raise NoLabError(f"there is no lab {name!r}: `l3net lab up{_option(name)}` creates it") from None
    except (OSError, ValueError) as err:
        raise LabError(f"{directory}/lab.json: {err}; `l3net lab down{_option(name)}` clears up") from None
    kind = RouterKind(record["routerKind"]) if record["routerKind"] else None
    return directory, TopologySource(record["topology"], record["where"], kind).topology()


def set_aside(name: str) -> bool:
    """Take a lab's directory off its name, so that a host about to start finds none and gives up."""
    directory, aside = lab_directory(name), LABS / f".removed-{name}"
    if aside.exists():
        shutil.rmtree(aside)
    try:
        directory.rename(aside)
    except FileNotFoundError:
        return False
    return True


def remove_aside(name: str) -> None:
    """Remove what `set_aside` left."""
    shutil.rmtree(LABS / f".removed-{name}", ignore_errors=True)
    with contextlib.suppress(OSError):  # other labs live there, or none did
        LABS.rmdir()


def _option(name: str) -> str:
    return "" if name == DEFAULT_NAME else f" --name {name}"
