"""LabelSelectors (Kubernetes meta/v1) as facts."""

from __future__ import annotations

from l3net.kube.fields import Field
from l3net.model import EVERYTHING, Requirement, Selector

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def selector(field: Field) -> Selector:
    """matchLabels and matchExpressions as requirements; an absent or empty selector selects everything."""
    equal = [Requirement(key, "In", (value,)) for key, value in sorted(field["matchLabels"].labels().items())]
    further = [_requirement(item) for item in field["matchExpressions"].items()]
    return Selector((*equal, *further)) if equal or further else EVERYTHING


def _requirement(field: Field) -> Requirement:
    operator = field["operator"].text()
    if operator not in _OPERATORS:
        raise field["operator"].wrong(f"must be one of {', '.join(_OPERATORS)}")
    values = tuple(sorted({item.text() for item in field["values"].items()}))
    if (operator in ("In", "NotIn")) != bool(values):
        raise field["values"].wrong("values go with In and NotIn, and only with them")
    return Requirement(field["key"].text(), operator, values)
