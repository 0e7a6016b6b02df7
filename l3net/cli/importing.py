"""`l3net import`."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import click

from l3net.cli import options
from l3net.cli.output import json_text, output_option, print_table
from l3net.cli.validate import files_of
from l3net.errors import ConfigError, L3netError
from l3net.importing.source import Finding, Imported, Outcome
from l3net.shell.manifests.documents import (
    MAX_BYTES,
    DocumentError,
    TooLargeError,
    bounded,
    is_manifest,
    parse,
    read_bytes,
)
from l3net.shell.manifests.tree import printable

Objects: TypeAlias = list[tuple[Mapping[str, object], str]]
#: What is listed of a cluster: group and version, and its resources. Later versions first: the first that the
#: API server knows is taken.
Listed: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]

_CALICO: Final[tuple[Listed, ...]] = (
    (
        ("apis/projectcalico.org/v3", "apis/crd.projectcalico.org/v1"),
        (
            "bgpconfigurations", "bgppeers", "bgpfilters", "ippools", "ipreservations", "networkpolicies",
            "globalnetworkpolicies", "globalnetworksets", "networksets", "hostendpoints", "tiers",
        ),
    ),
    (("api/v1",), ("nodes",)),
)  # fmt: skip
_METALLB: Final[tuple[Listed, ...]] = (
    (("apis/metallb.io/v1beta2", "apis/metallb.io/v1beta1"), ("bgppeers",)),
    (
        ("apis/metallb.io/v1beta1",),
        (
            "ipaddresspools",
            "bgpadvertisements",
            "l2advertisements",
            "bfdprofiles",
            "communities",
            "addresspools",
        ),
    ),
    (("apis/frrk8s.metallb.io/v1beta1",), ("frrconfigurations",)),
    (("api/v1",), ("services",)),
)
_CILIUM: Final[tuple[Listed, ...]] = (
    (
        ("apis/cilium.io/v2", "apis/cilium.io/v2alpha1"),
        (
            "ciliumbgpclusterconfigs", "ciliumbgppeerconfigs", "ciliumbgpadvertisements",
            "ciliumbgpnodeconfigoverrides", "ciliumloadbalancerippools", "ciliumbgppeeringpolicies",
            "ciliumpodippools", "ciliuml2announcementpolicies", "ciliumnetworkpolicies",
            "ciliumclusterwidenetworkpolicies", "ciliumegressgatewaypolicies",
        ),
    ),
    (("api/v1",), ("services",)),
)  # fmt: skip
_KUBE_ROUTER: Final[tuple[Listed, ...]] = (
    (("apis/apps/v1",), ("daemonsets",)),
    (("api/v1",), ("nodes", "services")),
)
LISTED: Final = {
    "calico": _CALICO, "metallb": _METALLB, "cilium": _CILIUM, "kube-router": _KUBE_ROUTER
}  # fmt: skip
_SHOWN: Final = {
    Outcome.UNSAID: "cannot be said",
    Outcome.CHANGED: "changed in meaning",
    Outcome.CARRIED: "carried over",
}


class Source(Protocol):
    """A module of l3net.importing."""

    def __call__(self, objects: Objects, secrets: str) -> Imported: ...


@click.group(
    name="import", short_help="Make l3net's manifests of what Calico, MetalLB, Cilium or kube-router have."
)
def import_group() -> None:
    """Read another system's configuration, write l3net's manifests, and report for every field whether it is
    carried over, changes its meaning, or cannot be expressed.

    Manifests go to standard output and the report to standard error; with --out the manifests go to files
    and the report to standard output. Nothing is applied: read the report, then run `l3net validate` and
    `l3net plan`. Passwords are not copied: references to Secrets are kept, and inline passwords are only
    named.

    Exit code 0: nothing is lost (fields may change their meaning); 2: something cannot be expressed or
    read (with --strict also: something changes its meaning); 1: nothing of the source was read, or
    nothing could be written.

    \b
    kubectl get bgppeers.metallb.io,ipaddresspools.metallb.io -A -o yaml >old.yaml
    l3net import metallb old.yaml --out new/
    l3net import calico --from-cluster >new.yaml
    """


def _given(namespace: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What every source's command takes. `namespace` is where its Secrets are by default."""
    given = (
        click.argument(
            "paths", metavar="[FILE|DIR|-]...", nargs=-1, type=click.Path(path_type=Path, readable=False)
        ),
        click.option("--from-cluster", is_flag=True, help="Read the objects from the Kubernetes API."),
        options.kubeconfig("With --from-cluster: how to reach the API server."),
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False, readable=False),
            metavar="DIR",
            help="Write the manifests here, one file per kind. Existing files are replaced.",
        ),
        click.option(
            "--secret-namespace",
            default=namespace,
            show_default=True,
            metavar="NAMESPACE",
            help="Namespace of Secrets that objects refer to only by name.",
        ),
        click.option("--strict", is_flag=True, help="Also exit with 2 if something changes its meaning."),
        output_option,
        click.pass_context,
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(given):
            function = each(function)
        return function

    return decorate


@import_group.command(short_help="Import Calico's BGP, pools, nodes and policies.")
@_given("kube-system")
def calico(context: click.Context, **given: Any) -> None:
    """Import Calico's BGPConfiguration, BGPPeer, BGPFilter and IPPool, its annotations of Nodes, and its
    policies as far as Kubernetes policies can express them. docs/migration.md has a table.

    Files may contain several documents, Lists, and everything that `kubectl get -o yaml` and `calicoctl
    get -o yaml` print. Objects of other systems are skipped.

    \b
    kubectl get bgpconfigurations,bgppeers,bgpfilters,ippools,nodes -o yaml | l3net import calico - --out new/
    l3net import calico --from-cluster -o json --out new/
    """
    _run(context, "calico", **given)


@import_group.command(short_help="Import MetalLB's pools, peers and advertisements, and frr-k8s'.")
@_given("metallb-system")
def metallb(context: click.Context, **given: Any) -> None:
    """Import MetalLB's IPAddressPool, BGPPeer, BGPAdvertisement, BFDProfile and Community, its annotations of
    Services, and FRRConfigurations of frr-k8s. docs/migration.md has a table.

    MetalLB does not handle the pods' network, so the result announces no pod blocks. Remove podBlocks if
    l3net should also route the pods.

    \b
    kubectl get ipaddresspools,bgppeers,bgpadvertisements,bfdprofiles,communities -A -o yaml >old.yaml
    l3net import metallb old.yaml --out new/
    """
    _run(context, "metallb", **given)


@import_group.command(short_help="Import Cilium's BGP control plane and its pools.")
@_given("kube-system")
def cilium(context: click.Context, **given: Any) -> None:
    """Import Cilium's CiliumBGPClusterConfig, CiliumBGPPeerConfig, CiliumBGPAdvertisement,
    CiliumBGPNodeConfigOverride, CiliumLoadBalancerIPPool and CiliumPodIPPool, the older
    CiliumBGPPeeringPolicy, and its annotations of Services. docs/migration.md has a table.

    \b
    kubectl get ciliumbgpclusterconfigs,ciliumbgppeerconfigs,ciliumbgpadvertisements -o yaml >old.yaml
    kubectl get ciliumloadbalancerippools -o yaml >pools.yaml
    l3net import cilium old.yaml pools.yaml --out new/
    """
    _run(context, "cilium", **given)


@import_group.command(name="kube-router", short_help="Import kube-router's flags and annotations.")
@_given("kube-system")
def kube_router(context: click.Context, **given: Any) -> None:
    """Import the flags of kube-router's DaemonSet, and its annotations of Nodes and Services.
    docs/migration.md has a table.

    \b
    kubectl get -n kube-system daemonset kube-router -o yaml >old.yaml
    kubectl get nodes,services -A -o yaml >noted.yaml
    l3net import kube-router old.yaml noted.yaml --out new/
    """
    _run(context, "kube-router", **given)


def _run(
    context: click.Context,
    name: str,
    *,
    paths: tuple[Path, ...],
    from_cluster: bool,
    kubeconfig: Path | None,
    out: Path | None,
    secret_namespace: str,
    strict: bool,
    output: str,
) -> None:
    if from_cluster == bool(paths):
        raise click.UsageError("give files or directories, - for standard input, or --from-cluster")
    try:
        objects, broken = _of_cluster(LISTED[name], kubeconfig) if from_cluster else _of_files(paths)
        imported = _source(name)(objects, secret_namespace)
        found = _manifests(imported)
        imported.findings += broken
        _write(found, out)
    except L3netError as err:
        raise ImportFailedError(str(err)) from err
    _report(imported, found, output, err=out is None)
    if not found and imported.skipped == len(objects):
        raise ImportFailedError(
            f"nothing of {name}'s was read: give what `l3net import {name} --help` names, or --from-cluster"
        )
    outcomes = {finding.outcome for finding in imported.findings}
    if Outcome.UNSAID in outcomes or (strict and Outcome.CHANGED in outcomes):
        context.exit(2)


class ImportFailedError(L3netError):
    """Nothing was written."""

    exit_code = 1


def _source(name: str) -> Source:
    module = importlib.import_module(f"l3net.importing.{name.replace('-', '_')}")
    found: Source = module.imported
    return found


# --- reading -----------------------------------------------------------------------------------------------


def _of_files(paths: tuple[Path, ...]) -> tuple[Objects, list[Finding]]:
    objects: Objects = []
    broken: list[Finding] = []
    for path in files_of(paths):
        name = printable(path)
        try:
            content = (
                bounded(sys.stdin.buffer.read(MAX_BYTES + 1)) if str(path) == "-" else read_bytes(path)[0]
            )
            documents = parse(content, is_json=name.endswith(".json"))
        except DocumentError as err:
            where = f"{name}:{err.line}" if err.line else name
            instead = " or read the cluster with --from-cluster" if isinstance(err, TooLargeError) else ""
            broken.append(Finding(Outcome.UNSAID, "", "", "", f"{where}: {err}{instead}", where))
            continue
        alone = len(documents) == 1
        objects += [(document.content, document.where(name, alone=alone)) for document in documents]
    return objects, broken


def _of_cluster(listed: tuple[Listed, ...], kubeconfig: Path | None) -> tuple[Objects, list[Finding]]:
    """What an API server does not know is not there. Raises ApiError, ConfigError."""
    from l3net.shell.kubernetes.api import ApiError, KubeApi  # noqa: PLC0415 - after --help

    api = KubeApi(kubeconfig)
    objects: Objects = []
    broken: list[Finding] = []
    for versions, resources in listed:
        for resource in resources:
            for version in versions:
                place = f"/{version}/{resource}"
                try:
                    kind, items = _listed(api.get(place), place)
                except ApiError as err:
                    if err.not_found:
                        continue
                    if err.code != 403:
                        raise
                    broken.append(
                        Finding(Outcome.UNSAID, "", "", "", f"{resource}: {err.said or err}", place)
                    )
                    break
                of = {"apiVersion": version.partition("/")[2], "kind": kind}
                objects += [({**of, **item}, f"{place} {_named(item)}") for item in items]
                break
    return objects, broken


def _listed(answer: bytes | str, place: str) -> tuple[str, list[dict[str, Any]]]:
    """The kind and the objects of a list. Raises ConfigError: whatever is between may answer as well."""
    import json  # noqa: PLC0415

    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        found = None
    items = (found.get("items") or []) if isinstance(found, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ConfigError(
            f"{place}: the answer is not a list of objects: is the server of the kubeconfig an API server?"
        )
    return str(found.get("kind", "")).removesuffix("List"), items


def _named(item: Mapping[str, Any]) -> str:
    metadata = item.get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    return "/".join(str(found[key]) for key in ("namespace", "name") if found.get(key))


# --- writing -----------------------------------------------------------------------------------------------


def _manifests(imported: Imported) -> list[dict[str, Any]]:
    from l3net.importing.writing import manifests  # noqa: PLC0415 - after --help

    return manifests(imported)


def _yaml(manifests: Iterable[dict[str, Any]]) -> str:
    import yaml  # noqa: PLC0415

    return yaml.safe_dump_all(manifests, sort_keys=False, default_flow_style=False, explicit_start=True)


def _write(manifests: list[dict[str, Any]], out: Path | None) -> None:
    """Nodes and Services come to files of their own: they are annotations for objects that exist. What is in
    the way of one file keeps all from being replaced."""
    if out is None:
        click.echo(_yaml(manifests) if manifests else "", nl=False)
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = {each.name for each in out.iterdir() if is_manifest(each.name)}
        with ExitStack() as stack:
            ready: dict[Path, Path] = {}
            for kind in dict.fromkeys(each["kind"] for each in manifests):
                file = out / f"{kind.lower()}.yaml"
                if file.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
                ready[file] = new = out / f".{file.name}.new"
                stack.callback(new.unlink, missing_ok=True)
                new.write_text(_yaml(each for each in manifests if each["kind"] == kind), encoding="utf-8")
                others.discard(file.name)
            for file, new in ready.items():
                new.replace(file)
    except OSError as err:
        raise ConfigError(f"{printable(Path(err.filename or out))}: {err.strerror}") from None
    if others:
        click.echo(
            f"{printable(out)} holds manifests of something else: {', '.join(sorted(others))}", err=True
        )


def _report(imported: Imported, manifests: list[dict[str, Any]], output: str, *, err: bool) -> None:
    order = list(_SHOWN)
    findings = sorted(imported.findings, key=lambda each: (order.index(each.outcome), each.kind, each.name))
    counts = Counter(each.outcome for each in findings)
    if output == "table":
        _say(err, lambda: _table(findings, counts, imported, manifests))
        return
    value = {
        "counts": {outcome.value: counts[outcome] for outcome in Outcome},
        "skipped": imported.skipped,
        "findings": [
            {
                "outcome": each.outcome.value,
                "kind": each.kind,
                "name": each.name,
                "field": each.field,
                "detail": each.detail,
                "where": each.where,
            }
            for each in findings
        ],
        "manifests": [_named_manifest(each) for each in manifests],
    }
    if output == "json":
        click.echo(json_text(value, indent=2), err=err)
    else:
        import yaml  # noqa: PLC0415

        click.echo(yaml.safe_dump(value, sort_keys=False, default_flow_style=False), nl=False, err=err)


def _named_manifest(manifest: dict[str, Any]) -> dict[str, str]:
    metadata = manifest["metadata"]
    return {
        "kind": manifest["kind"], "namespace": metadata.get("namespace", ""), "name": metadata["name"]
    }  # fmt: skip


def _table(
    findings: list[Finding],
    counts: Counter[Outcome],
    imported: Imported,
    manifests: list[dict[str, Any]],
) -> None:
    if findings:
        print_table(
            "",
            ("OUTCOME", "OBJECT", "FIELD", "DETAIL"),
            [
                (_SHOWN[each.outcome], f"{each.kind} {each.name}".strip(), each.field, each.detail)
                for each in findings
            ],
        )
    told = ", ".join(f"{counts[outcome]} {words}" for outcome, words in reversed(_SHOWN.items()))
    others = "1 object is" if imported.skipped == 1 else f"{imported.skipped} objects are"
    skipped = f"; {others} no configuration of this source" if imported.skipped else ""
    click.echo(f"{len(manifests)} manifest{'' if len(manifests) == 1 else 's'}; {told}{skipped}")


def _say(err: bool, print_it: Callable[[], None]) -> None:
    """To standard error: the table printer knows standard output alone."""
    if not err:
        print_it()
        return
    plain, sys.stdout = sys.stdout, sys.stderr
    try:
        print_it()
    finally:
        sys.stdout = plain
