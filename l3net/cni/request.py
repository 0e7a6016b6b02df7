"""A CNI call as received: environment and standard input, checked and typed (CNI 1.1.0, section 2)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.versions import SUPPORTED, WHEN_ABSENT, has_verb
from l3net.ipam.lease import LeaseKey

COMMANDS: Final = ("ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION")

#: Environment each verb requires beside CNI_COMMAND.
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": ("CNI_PATH",),
    "STATUS": (),
    "VERSION": (),
}
#: Longest accepted standard input, in bytes; the thin client has the same limit.
MAX_STDIN: Final = 8 << 20
MAX_CONTAINER_ID: Final = 255

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_BAD_IFNAME = re.compile(r"[/:\s\0]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `conf` is the network configuration as decoded; `environment` holds the CNI_* variables."""

    command: str
    version: str
    network: str
    conf: Mapping[str, Any]
    container_id: str = ""
    ifname: str = ""
    netns: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def runtime_config(self) -> Mapping[str, Any]:
        """What the runtime passes for capabilities, keys in the case the specification writes them.

        containerd 1.6 (go-cni before 1.1.8) passes `HostPort`, `IngressRate`, `Servers`: plugins in Go do not
        notice, for Go's decoder does not mind the case.
        """
        found = self.conf.get("runtimeConfig")
        return _small_initials(found) if isinstance(found, Mapping) else NOTHING

    @property
    def previous(self) -> Mapping[str, Any] | None:
        found = self.conf.get("prevResult")
        return found if isinstance(found, Mapping) else None

    @property
    def key(self) -> LeaseKey:
        """The attachment that is meant."""
        return LeaseKey(self.network, self.container_id, self.ifname)

    @property
    def brings_addresses(self) -> bool:
        """Whether the configuration has an `ipam` of its own; otherwise the node's blocks are used."""
        return "ipam" in self.conf or "bridge" in self.conf


def _small_initials(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key[:1].lower() + key[1:]: _small_initials(each) for key, each in value.items()}
    return [_small_initials(each) for each in value] if isinstance(value, list) else value


def parse_args(text: str) -> dict[str, str]:
    """CNI_ARGS: `KEY=value;KEY=value`. Raises CniError 4."""
    if _CONTROL.search(text):
        raise CniError(failure.BAD_ENVIRONMENT, "CNI_ARGS holds a control character")
    pairs = {}
    for part in filter(None, text.split(";")):
        key, sign, value = part.partition("=")
        if not sign or not key:
            raise CniError(failure.BAD_ENVIRONMENT, f"CNI_ARGS: {part!r} is not KEY=value")
        pairs[key] = value
    return pairs


def check_identifiers(container_id: str, ifname: str) -> None:
    """Refuse names the specification forbids (and that would be paths or options elsewhere)."""
    if container_id and (not _IDENTIFIER.fullmatch(container_id) or len(container_id) > MAX_CONTAINER_ID):
        raise CniError(
            failure.BAD_ENVIRONMENT,
            "CNI_CONTAINERID is not valid",
            f"it must begin with a letter or digit, go on with those, '_', '.' or '-', and have at most "
            f"{MAX_CONTAINER_ID} characters",
        )
    if ifname and (
        len(ifname.encode(errors="replace")) > 15 or ifname in {".", ".."} or _BAD_IFNAME.search(ifname)
    ):  # dev_valid_name() in the kernel
        raise CniError(
            failure.BAD_ENVIRONMENT,
            f"CNI_IFNAME {ifname[:40]!r} is not valid",
            "an interface name has at most 15 bytes and no '/', ':' or white space",
        )


def decode_conf(stdin: bytes) -> Mapping[str, Any]:
    """Standard input as a JSON object. Raises CniError 6."""
    if len(stdin) > MAX_STDIN:
        raise CniError(failure.CANNOT_DECODE, f"network configuration is larger than {MAX_STDIN} bytes")
    try:
        conf = json.loads(stdin)
    except (ValueError, RecursionError) as err:
        why = str(err) if isinstance(err, ValueError) else "nested too deeply"
        raise CniError(failure.CANNOT_DECODE, f"network configuration is not JSON: {why}") from None
    if not isinstance(conf, dict):
        raise CniError(failure.CANNOT_DECODE, "network configuration is not a JSON object")
    if b"\\ud" in stdin.lower() and not _is_text(json.dumps(conf, ensure_ascii=False)):
        raise CniError(
            failure.CANNOT_DECODE, "network configuration holds half a surrogate pair (\\ud800 ...)"
        )
    return conf


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: no bytes of an environment that were none, no half a pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def conf_version(conf: Mapping[str, Any]) -> str:
    """The specification version asked for. Raises CniError 1 (unknown) or 6 (not a string)."""
    version = conf.get("cniVersion", WHEN_ABSENT) or WHEN_ABSENT
    if not isinstance(version, str):
        raise CniError(failure.CANNOT_DECODE, "cniVersion is not a string")
    if version not in SUPPORTED:
        raise CniError(
            failure.INCOMPATIBLE_VERSION,
            f"incompatible CNI version: the configuration is {version!r}",
            f"supported are {', '.join(SUPPORTED)}",
        )
    return version


def parse_request(environment: Mapping[str, str], stdin: bytes) -> Request:
    """Check and type a call. Raises CniError with the code the specification gives each fault."""
    for name, value in environment.items():
        if name.startswith("CNI_") and not _is_text(name + value):
            raise CniError(
                failure.BAD_ENVIRONMENT, f"{ascii(name)[1:-1][:40]} is not UTF-8", ascii(value)[:80]
            )
    command = environment.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise CniError(failure.BAD_ENVIRONMENT, f"unknown CNI_COMMAND: {command[:40]!r}")
    missing = [name for name in REQUIRED[command] if not environment.get(name)]
    if missing:
        raise CniError(
            failure.BAD_ENVIRONMENT,
            "required environment variables are missing",
            f"{command} needs {', '.join(missing)}",
        )
    container_id, ifname = environment.get("CNI_CONTAINERID", ""), environment.get("CNI_IFNAME", "")
    if command in {"ADD", "CHECK", "DEL"}:
        check_identifiers(container_id, ifname)
    args = parse_args(environment.get("CNI_ARGS", ""))
    conf = decode_conf(stdin)
    version = conf_version(conf)
    network = conf.get("name")
    if not isinstance(network, str) or not _IDENTIFIER.fullmatch(network):
        raise CniError(
            failure.INVALID_CONFIG,
            "network name is missing" if not network else "network name is not valid",
            "it must begin with a letter or digit and go on with those, '_', '.' or '-'",
        )
    if not has_verb(version, command):
        raise CniError(
            failure.INCOMPATIBLE_VERSION, f"{command} is not part of CNI {version}", "use a newer cniVersion"
        )
    return Request(
        command=command,
        version=version,
        network=network,
        conf=conf,
        container_id=container_id,
        ifname=ifname,
        netns=environment.get("CNI_NETNS", ""),
        args=args,
        environment=dict(environment),
    )


def valid_attachments(conf: Mapping[str, Any]) -> frozenset[tuple[str, str]] | None:
    """The attachments GC must keep; None if absent. libcni sends them under two names. Raises CniError 7."""
    found = conf.get("cni.dev/valid-attachments", conf.get("cni.dev/attachments"))
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise CniError(failure.INVALID_CONFIG, "cni.dev/valid-attachments is not a list of objects")
    kept = set()
    for each in found:
        container, ifname = each.get("containerID"), each.get("ifname")
        if not isinstance(container, str) or not isinstance(ifname, str) or not container or not ifname:
            # one that cannot be read might be any: better to free nothing than a live address
            raise CniError(
                failure.INVALID_CONFIG, "cni.dev/valid-attachments: containerID or ifname is missing"
            )
        kept.add((container, ifname))
    return frozenset(kept)
