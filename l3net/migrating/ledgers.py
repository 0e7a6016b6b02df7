"""Which container has which address, as others have written it down.

Three ledgers tell: what libcni keeps of each attachment (libcni/api.go, `cachedInfo`, in
/var/lib/cni/results), the files of the host-local plugin (l3net.ipam.import_host_local), and Calico's
IPAMBlock objects. Any of them may be absent; a pod that none of them knows cannot be moved, for the runtime's
DEL could not be matched with its lease.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from l3net.addresses import parse_address, parse_interface, parse_prefix
from l3net.errors import ConfigError
from l3net.ipam.lease import PodName
from l3net.model import Address

#: What libcni writes as `kind` of its files.
CACHE_KIND: Final = "cniCacheV1"
#: Calico's handle of an attachment: the network's name and the container ID.
_CALICO_HANDLE: Final = "k8s-pod-network."


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's interface as a ledger has it; what the ledger does not say is empty.

    `ports`: published ports of the host, as `8080/tcp`.
    """

    network: str
    container_id: str
    ifname: str
    addresses: tuple[Address, ...] = ()
    pod: PodName = field(default=PodName())
    netns: str = ""
    ports: tuple[str, ...] = ()


def cached(text: Mapping[str, Any]) -> Attachment | None:
    """One file of libcni's cache, parsed; None if it is of another kind or of an interface without an address
    (the loopback's). Raises ConfigError for one that is damaged."""
    if text.get("kind") != CACHE_KIND:
        return None
    container, network, ifname = (text.get(key) for key in ("containerId", "networkName", "ifName"))
    result = text.get("result")
    if not (isinstance(container, str) and isinstance(network, str) and isinstance(ifname, str)):
        raise ConfigError("containerId, networkName or ifName is missing")
    if not isinstance(result, Mapping):
        raise ConfigError("the result is missing")
    if ifname == "lo":
        return None
    try:
        addresses = tuple(parse_interface(each).ip for each in _addresses(result))
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise ConfigError(f"the result's addresses cannot be read: {err}") from None
    if not addresses:
        return None
    args = {str(pair[0]): str(pair[1]) for pair in text.get("cniArgs") or () if _is_pair(pair)}
    pod = PodName(
        args.get("K8S_POD_NAMESPACE", ""), args.get("K8S_POD_NAME", ""), args.get("K8S_POD_UID", "")
    )
    netns = text.get("netns") or _sandbox(result, ifname)
    return Attachment(network, container, ifname, addresses, pod, str(netns or ""), _ports(text))


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2


def _addresses(result: Mapping[str, Any]) -> list[str]:
    """Of a result of any version: `ips` since 0.3.0, `ip4` and `ip6` before."""
    found = [str(each["address"]) for each in result.get("ips") or ()]
    found += [str(result[key]["ip"]) for key in ("ip4", "ip6") if result.get(key)]
    return found


def _sandbox(result: Mapping[str, Any], ifname: str) -> str:
    for each in result.get("interfaces") or ():
        if isinstance(each, Mapping) and each.get("name") == ifname and each.get("sandbox"):
            return str(each["sandbox"])
    return ""


def _ports(text: Mapping[str, Any]) -> tuple[str, ...]:
    capabilities = text.get("capabilityArgs")
    mappings = capabilities.get("portMappings") if isinstance(capabilities, Mapping) else None
    return tuple(
        f"{each.get('hostPort')}/{str(each.get('protocol') or 'tcp').lower()}"
        for each in (mappings if isinstance(mappings, list) else ())
        if isinstance(each, Mapping) and each.get("hostPort")
    )


def calico_block(block: Mapping[str, Any]) -> list[Attachment]:
    """The addresses of pods in an IPAMBlock (crd.projectcalico.org/v1). Raises ConfigError.

    `allocations` has an index into `attributes` for each address of `cidr`.
    """
    spec = block.get("spec")
    if not isinstance(spec, Mapping):
        raise ConfigError("spec is missing")
    try:
        cidr = parse_prefix(str(spec.get("cidr")))
    except ValueError as err:
        raise ConfigError(f"spec.cidr: {err}") from None
    attributes = spec.get("attributes") or ()
    found = []
    for ordinal, index in enumerate(spec.get("allocations") or ()):
        if not isinstance(index, int) or not 0 <= index < len(attributes) or ordinal >= cidr.num_addresses:
            continue
        attribute = attributes[index]
        handle = str(attribute.get("handle_id") or "")
        if not handle.startswith(_CALICO_HANDLE):
            continue  # a tunnel's address, or another program's
        told = attribute.get("secondary") or {}
        pod = PodName(str(told.get("namespace") or ""), str(told.get("pod") or ""))
        address = parse_address(str(cidr.network_address + ordinal))
        container = handle.removeprefix(_CALICO_HANDLE)
        found.append(Attachment("k8s-pod-network", container, "eth0", (address,), pod))
    return found


#: Who claims an address: more than one container where a ledger has entries of pods that are gone.
Claims = Mapping[Address, Sequence[Attachment]]


def by_address(attachments: Iterable[Attachment]) -> Claims:
    """Who claims an address. What one ledger leaves out of a container, another fills in."""
    found: dict[Address, list[Attachment]] = {}
    for each in attachments:
        for address in each.addresses:
            claims = found.setdefault(address, [])
            for place, known in enumerate(claims):
                if known.container_id == each.container_id:
                    claims[place] = replace(
                        known,
                        pod=known.pod if known.pod.name else each.pod,
                        netns=known.netns or each.netns,
                        ports=known.ports or each.ports,
                    )
                    break
            else:
                claims.append(each)
    return found
