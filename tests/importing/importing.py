"""What the tests of importers share: run one on a file or on documents, and look at what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l3net.cli import importing
from l3net.importing.source import Finding, Imported, Outcome
from l3net.importing.writing import manifests

#: What is told of every pool of load balancers, once.
CLASSES = ["spec.allowedUses"]


def tell(source: str, *paths: Path, secrets: str = "kube-system") -> Imported:
    """Import files as the command does."""
    objects, broken = importing._of_files(paths)
    assert broken == []
    return importing._source(source)(objects, secrets)


def made(imported: Imported, kind: str) -> dict[str, Any]:
    """The specs of the manifests of a kind, by name, as they are written."""
    return {
        each["metadata"]["name"]: each.get("spec") for each in manifests(imported) if each["kind"] == kind
    }


def findings(imported: Imported, outcome: Outcome) -> list[Finding]:
    """In the order in which they were found; the manifests are made first, as that finds some too."""
    manifests(imported)
    return [each for each in dict.fromkeys(imported.findings) if each.outcome is outcome]


def outcomes(imported: Imported, outcome: Outcome) -> list[str]:
    """The fields with that outcome."""
    return [each.field for each in findings(imported, outcome)]
