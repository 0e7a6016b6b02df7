"""What a process may do with the declared kinds, as RBAC rules (rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterator

from l3net.kube.registry import KINDS, DeclaredKind, access

Rule = dict[str, list[str]]


def rules(process: str) -> list[Rule]:
    """For the cluster role of the `agent` or the `controller`: the kinds that it reads whole."""
    return list(_grouped(process, [row for row in KINDS.values() if not row.by_name]))


def rules_by_name(process: str) -> list[Rule]:
    """For a role in one namespace: the kinds that it reads by name. The names are the cluster's to give."""
    return list(_grouped(process, [row for row in KINDS.values() if row.by_name]))


def _grouped(process: str, rows: list[DeclaredKind]) -> Iterator[Rule]:
    """One rule for all resources of a group that are granted the same verbs."""
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for row in rows:
        granted = access(row, process)
        if granted.verbs:
            resources.setdefault((row.group, granted.verbs), []).append(row.plural)
        if granted.status:
            resources.setdefault((row.group, granted.status), []).append(f"{row.plural}/status")
    for (group, verbs), names in resources.items():
        yield {"apiGroups": [group], "resources": names, "verbs": list(verbs)}
