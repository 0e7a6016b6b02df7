"""Selection by labels, as Kubernetes has it (meta/v1)."""

from __future__ import annotations

from dataclasses import dataclass

from l3net.model.terms import Labels


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of a LabelSelector's matchExpressions (Kubernetes meta/v1)."""

    key: str
    operator: str  # In, NotIn, Exists, DoesNotExist
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case _:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """A LabelSelector (Kubernetes meta/v1): every requirement must hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


EVERYTHING = Selector()
