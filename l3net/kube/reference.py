"""The reference of l3net's resources as Markdown, from their schemas and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from l3net.kube.registry import KINDS
from l3net.kube.schema import definition, described, schema
from l3net.model import Kind

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_INTRO = """\
# Configuration

You configure l3net with objects in the cluster, or in a directory of manifests. A node itself needs only
the place to read them from:

    l3net agent --datastore dir:/etc/l3net/manifests

The agent reads these Kubernetes objects: {others}. It also reads {number} kinds of l3net's own, which
this page describes. All {number} have `apiVersion: l3net.io/v1alpha1`, and all except {namespaced} are
cluster-scoped. Most clusters need two of them: a `BGPConfiguration` with the AS number, and a `BGPPeer`
for each router.

The agent reads and uses in particular:

- Node: name, labels, `spec.podCIDRs`, whether it is unschedulable, taints, InternalIPs, the Ready condition.
  - The annotation `l3net.io/as-number` sets an AS number for this node.
  - The annotation `l3net.io/snat-addresses` names the node's addresses that pods use as source outside the
    cluster ([addresses.md](addresses.md#what-leaves-the-cluster)).
- Service: the annotation `l3net.io/advertise: "false"` stops its announcement.
- Pod: the annotation `l3net.io/allowed-addresses` adds source addresses and prefixes, separated by commas.
  The same annotation of its Namespace and `allowedAddresses` of its IPPool limit them.
- [kubernetes.md](kubernetes.md#policies) says what l3net reads of Pods and policies.

## Files

A manifest directory contains `*.yaml`, `*.yml` and `*.json` files, with any number of documents each. The
agent applies a file when it is written, renamed into place or removed, also through the links of a
mounted ConfigMap. It ignores subdirectories, and files whose names begin with a dot.

| limit | value |
|---|---|
| size of a file | 16 MiB |
| values in a document, including field names | 250,000 |
| levels of nesting | 100 |
| digits of a number | 100 |

The agent refuses larger input by name, before it uses memory.

Invalid input changes nothing. The last good version of the object stays in force, and one line names the
place:

    pools.yaml:9 (document 2) IPPool pods: spec.blockSize: a block of /31 has no room for a pod; at most 30

If two files contain the same object, the first file by name counts, and the other is reported. An unknown
field is an error that suggests a known one. `l3net validate PATH...` reports the same without an agent,
and exits with 2 if anything is wrong.

In the tables below, fields without a default are optional unless marked as required.
"""


def reference() -> str:
    """docs/configuration.md, complete."""
    ours = KINDS.ours()
    *others, last = (kind.value for kind in KINDS if kind not in ours)
    number = _NUMBERS[len(ours)] if len(ours) < len(_NUMBERS) else str(len(ours))
    namespaced = " and ".join(kind.value for kind in ours if KINDS[kind].namespaced)
    intro = _INTRO.replace("{others}", f"{', '.join(others)} and {last}").replace("{number}", number)
    intro = intro.replace("{namespaced}", namespaced)
    return "\n".join([intro, *(line for kind in ours for line in _kind(kind))])


def example(kind: Kind) -> str:
    """The manifest shown for a kind."""
    return described(kind).example()


def _kind(kind: Kind) -> Iterator[str]:
    names = definition(kind)["spec"]["names"]
    found = schema(kind)
    yield f"## {kind.value}"
    yield ""
    yield found["description"]
    yield ""
    aliases = ", ".join(f"`{name}`" for name in (names["plural"], *names["shortNames"]))
    yield f"Names for kubectl: {aliases}."
    yield ""
    yield f"```yaml\n{example(kind)}```"
    yield ""
    yield "| Field | Type | Default | Meaning |"
    yield "|---|---|---|---|"
    spec = found["properties"]["spec"]
    yield from _fields(spec, "")
    yield ""
    rules = list(_rules(found, "")) + list(_rules(spec, "spec"))
    if rules:
        yield "Further rules:"
        yield ""
        yield from (f"- {rule}" for rule in rules)
        yield ""


def _fields(found: Mapping[str, Any], path: str) -> Iterator[str]:
    required = found.get("required", ())
    for name, field in found.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        yield _row(where, field, required=name in required)
        yield from _fields(field, where)
        if "items" in field:
            yield from _fields(field["items"], f"{where}[]")


def _row(where: str, field: Mapping[str, Any], *, required: bool) -> str:
    default = "required" if required else _default(field)
    text = " ".join(field["description"].split())
    return f"| `{where}` | {_type(field)} | {default} | {text} |".replace("\n", " ")


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field or field["type"] == "object":
        return ""
    value = field["default"]
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    match field["type"]:
        case "array":
            return f"list of {_several(field['items'])}{_size(field)}"
        case "integer":
            bounds = [field.get("minimum"), field.get("maximum")]
            return "integer" if None in bounds else f"integer, {bounds[0]} to {bounds[1]}"
        case "object" if "additionalProperties" in field:
            return "map of strings"
        case "string" if field.get("format") == "cidr" or "/[0-9]" in field.get("pattern", ""):
            return "prefix"
        case "string" if "pattern" in field and "0-9a-fA-F:." in field["pattern"]:
            return "address"
        case "string" if "pattern" in field and ":" in field["pattern"]:
            return "community"
        case "string":
            return f"string{_length(field)}"
        case other:
            return str(other)


def _size(field: Mapping[str, Any]) -> str:
    low, high = field.get("minItems"), field.get("maxItems")
    if high is None:
        return ""
    return f"; {low} to {high} entries" if low else f"; at most {high} entries"


def _several(field: Mapping[str, Any]) -> str:
    """The type of a list's elements, in the plural where it has one."""
    single = _type(field)
    for word in ("integer", "string", "object", "prefix", "address", "community"):
        if single.startswith(word):
            many = {"prefix": "prefixes", "address": "addresses", "community": "communities"}.get(
                word, f"{word}s"
            )
            return many + single[len(word) :]
    return single


def _length(field: Mapping[str, Any]) -> str:
    return f", at most {field['maxLength']} characters" if "maxLength" in field else ""


def _rules(found: Mapping[str, Any], path: str) -> Iterator[str]:
    """The rules of objects (CEL); those of a single value stand beside it."""
    if found.get("type") == "object":
        for rule in found.get("x-kubernetes-validations", ()):
            where = (path + rule.get("fieldPath", "")).removeprefix("spec").strip(".")
            message = rule["message"]
            yield f"`{where}`: {message}." if where else f"{message[0].upper()}{message[1:]}."
    for name, below in found.get("properties", {}).items():
        if path:
            yield from _rules(below, f"{path}.{name}")
    if path and "items" in found:
        yield from _rules(found["items"], f"{path}[]")
