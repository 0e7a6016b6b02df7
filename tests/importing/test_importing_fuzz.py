"""Whatever stands in a dump, an import ends, says so, and writes nothing that l3net would refuse."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from l3net.cli import importing
from l3net.importing.source import Outcome
from l3net.importing.writing import manifests
from l3net.kube.translate import translate

HERE = Path(__file__).parent
#: What nobody expects there.
JUNK: tuple[Any, ...] = (
    None, True, -1, 2**70, 1.5, "", "x", "é\n", "10.0.0.0/8", "::/0", "10.0.0.300", [], {}, [None], [[]],
    {"a": {"b": 1}},
    {"matchLabels": {"a": 1}}, "all()", "!(", ["203.0.113.9-203.0.113.1"], "1:2:3:4", "0s", 10**9,
)  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    if isinstance(value, dict):
        return found + [place for key in value for place in places(value[key], (*at, key))]
    if isinstance(value, list):
        return found + [place for number, each in enumerate(value) for place in places(each, (*at, number))]
    return found


def spoiled(documents: list[dict[str, Any]], dice: random.Random) -> list[dict[str, Any]]:
    """With one to three values replaced or taken away."""
    documents = copy.deepcopy(documents)
    for _ in range(dice.randint(1, 3)):
        *above, last = dice.choice(places(documents))
        inside: Any = documents
        for key in above:
            inside = inside[key]
        if dice.random() < 0.2 and isinstance(inside, dict):
            del inside[last]
        else:
            inside[last] = copy.deepcopy(dice.choice(JUNK))
    return [each for each in documents if isinstance(each, dict)]


@pytest.mark.parametrize("source", list(importing.LISTED))
@pytest.mark.parametrize("seeds", [range(50), pytest.param(range(50, 4000), marks=pytest.mark.soak)])
def test_any_dump_is_imported_as_far_as_it_goes(source: str, seeds: range) -> None:
    objects, _ = importing._of_files((HERE / f"inputs_{source.replace('-', '_')}.yaml",))
    documents = [yaml.safe_load(yaml.safe_dump(dict(content))) for content, _ in objects]
    told = 0
    for seed in seeds:
        dump = spoiled(documents, random.Random(seed))
        found = importing._source(source)([(each, "dump") for each in dump], "kube-system")
        for each in manifests(found):
            translate(each)
        unsaid = [finding for finding in found.findings if finding.outcome is Outcome.UNSAID]
        assert not [finding for finding in unsaid if "please report" in finding.detail], (seed, unsaid)
        told += bool(unsaid)
    assert told > len(seeds) / 4  # the control: there is something to tell
