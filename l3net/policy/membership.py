"""Which pods each selection in use chooses, kept as pods, labels and selections come and go.

Pods of one namespace with the same labels are a group, and a selection chooses groups: a pod that comes or
goes costs what its group is chosen by, and a selection that comes costs a look at each group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from l3net.firewall.policycontents import PolicyContents
from l3net.model import Labels, ObjectName, PodSelection, Selector
from l3net.policy.known import chooses
from l3net.policy.sets import PodEntry, PodSet


@dataclass(eq=False, slots=True)
class _Group:
    namespace: str
    labels: Labels
    pods: dict[ObjectName, PodEntry] = field(default_factory=dict)
    chosen_by: set[PodSelection] = field(default_factory=set)


_Identity = tuple[str, frozenset[tuple[str, str]]]


class Membership:
    """Keeps the sets of `contents` that are of pods."""

    def __init__(self, contents: PolicyContents) -> None:
        self._contents = contents
        self._groups: dict[_Identity, _Group] = {}
        self._of_namespace: dict[str, set[_Identity]] = {}
        self._group_of: dict[ObjectName, _Group] = {}
        self._labels: dict[str, Labels] = {}  # of namespaces
        self._sets: dict[PodSelection, dict[PodSet, int]] = {}  # those in use, by how many policies
        self._of_one: dict[str, set[PodSelection]] = {}  # selections of one namespace, by its name
        self._of_many: set[PodSelection] = set()  # those that choose namespaces by labels
        self._chosen: dict[PodSelection, set[_Group]] = {}  # by each of those

    @property
    def selections(self) -> int:
        """How many are in use."""
        return len(self._sets)

    # --- pods --------------------------------------------------------------------------------------------

    def put(self, pod: ObjectName, labels: Labels, entry: PodEntry | None) -> None:
        """A pod as it is now; None: it is none of any selection's."""
        old = self._group_of.get(pod)
        new = self._group(pod.namespace, labels) if entry is not None else None
        before = old.pods.get(pod) if old is not None else None
        if new is old and before == entry:
            return
        if new is not None and entry is not None:
            for each in new.chosen_by:
                self._count(each, entry, 1)
            new.pods[pod] = entry
            self._group_of[pod] = new
        if old is not None and before is not None:
            for each in old.chosen_by:
                self._count(each, before, -1)
            if new is not old:
                del old.pods[pod]
                if new is None:
                    del self._group_of[pod]
                if not old.pods:
                    self._forget(old)

    def _group(self, namespace: str, labels: Labels) -> _Group:
        identity = namespace, frozenset(labels.items())
        found = self._groups.get(identity)
        if found is None:
            found = self._groups[identity] = _Group(namespace, labels)
            self._of_namespace.setdefault(namespace, set()).add(identity)
            found.chosen_by = {
                each
                for each in (*self._of_one.get(namespace, ()), *self._of_many)
                if self._chooses(each, found)
            }
            for selection in found.chosen_by:
                self._chosen[selection].add(found)
        return found

    def _forget(self, group: _Group) -> None:
        identity = group.namespace, frozenset(group.labels.items())
        del self._groups[identity]
        for selection in group.chosen_by:
            self._chosen[selection].discard(group)
        of_namespace = self._of_namespace[group.namespace]
        of_namespace.discard(identity)
        if not of_namespace:
            del self._of_namespace[group.namespace]

    def _chooses(self, selection: PodSelection, group: _Group) -> bool:
        return chooses(selection, group.namespace, self._labels.get(group.namespace, {}), group.labels)

    def _count(self, selection: PodSelection, entry: PodEntry, difference: int) -> None:
        for each in self._sets[selection]:
            self._count_in(each, (entry,), difference)

    def _count_in(self, of: PodSet, entries: Iterable[PodEntry], difference: int) -> None:
        change = self._contents.add if difference > 0 else self._contents.remove
        names = {version: of.name(version) for version in (4, 6)}
        for entry in entries:
            for version, element in entry.elements(of):
                change(names[version], element)

    # --- namespaces --------------------------------------------------------------------------------------

    def label(self, namespace: str, labels: Labels) -> None:
        """The labels of a namespace; none when it is gone."""
        if self._labels.get(namespace, {}) == labels:
            return
        if labels:
            self._labels[namespace] = labels
        else:
            self._labels.pop(namespace, None)
        for identity in self._of_namespace.get(namespace, ()):
            group = self._groups[identity]
            for selection in self._of_many:
                was, now = selection in group.chosen_by, self._chooses(selection, group)
                if was != now:
                    self._choose(selection, group, chosen=now)

    def _choose(self, selection: PodSelection, group: _Group, *, chosen: bool) -> None:
        (group.chosen_by.add if chosen else group.chosen_by.discard)(selection)
        (self._chosen[selection].add if chosen else self._chosen[selection].discard)(group)
        for entry in group.pods.values():
            self._count(selection, entry, 1 if chosen else -1)

    def labels_of(self, namespace: str) -> Labels:
        return self._labels.get(namespace, {})

    # --- selections --------------------------------------------------------------------------------------

    def use(self, of: PodSet) -> None:
        """A set is looked into by one more policy."""
        sets = self._sets.get(of.selection)
        if sets is None:
            sets = self._sets[of.selection] = {}
            self._begin(of.selection)
        if of in sets:
            sets[of] += 1
            return
        for version in (4, 6):
            self._contents.put_set(of.name(version), of.type_of(version))
        sets[of] = 1
        for group in self._chosen[of.selection]:
            self._count_in(of, group.pods.values(), 1)

    def leave(self, of: PodSet) -> None:
        """By one less."""
        sets = self._sets[of.selection]
        sets[of] -= 1
        if sets[of]:
            return
        del sets[of]
        for version in (4, 6):
            self._contents.drop_set(of.name(version))
        if not sets:
            for group in self._chosen.pop(of.selection):
                group.chosen_by.discard(of.selection)
            del self._sets[of.selection]
            self._end(of.selection)

    def _begin(self, selection: PodSelection) -> None:
        where = selection.namespaces
        if isinstance(where, Selector):
            self._of_many.add(selection)
        else:
            self._of_one.setdefault(where, set()).add(selection)
        chosen = self._chosen[selection] = set()
        for group in self._reached(selection):
            if self._chooses(selection, group):
                group.chosen_by.add(selection)
                chosen.add(group)

    def _end(self, selection: PodSelection) -> None:
        where = selection.namespaces
        if isinstance(where, Selector):
            self._of_many.discard(selection)
        else:
            self._of_one[where].discard(selection)
            if not self._of_one[where]:
                del self._of_one[where]

    def _reached(self, selection: PodSelection) -> Iterable[_Group]:
        """The groups in namespaces that a selection may choose."""
        where = selection.namespaces
        if isinstance(where, str):
            names: Iterable[str] = (where,)
        else:
            names = [each for each in self._of_namespace if where.matches(self._labels.get(each, {}))]
        return [self._groups[each] for name in names for each in self._of_namespace.get(name, ())]

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many pods, groups and selections there are."""
        return {"pods": len(self._group_of), "groups": len(self._groups), "selections": len(self._sets)}
