"""The pages are in plain sentences: short on average, none very long, and no words that hide who acts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
#: Words of a sentence: the mean of a page, and the longest.
MEAN, LONGEST = 17, 60
#: Words that hide who does something, and what to write instead. Patterns, without regard to case.
BANNED = {
    r"whoever|whosoever": "anyone who, or the name of the program",
    r"wherefore|thereof|whereby": "so, of it, by which",
    r"one another": "each other",
    r"likewise": "say it, or 'the same'",
    r"of ours": "l3net's",
    r"anew": "again",
    r"(?:is|are) told (?:apart|of)": "is distinguished, is reported",
    r"(?:is|are) (?:handed|given) out": "is assigned",
    r"hand(?:s|ed)? on": "forward",
    r"at the (?:least|most)": "at least, at most",
    r"far side": "peer, router",
    r"what (?:holds|goes|stays|stands)": "a noun",
    r"(?:is|are) left to know": "not supported",
}
#: Pages that test suites write, in their own words.
GENERATED = {"bgp-conformance.md", "cni-conformance.md"}
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$|<!-- (\w+) begin -->.*?<!-- \2 end -->", re.MULTILINE | re.DOTALL)
_NO_PROSE = re.compile(r"\s*(?:\||#|!\[|<)| {4}\S")
_ITEM = re.compile(r"^\s*(?:-|\d+\.) ")
_END = re.compile(r"(?<=[.!?:])(?:\*\*)?\s+(?=[A-Z`*\"(]|l3net)|(?<=[.!?]\*\*)\s+")


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs and items of lists, without headings, tables and code."""
    for block in re.split(r"\n\s*\n", _FENCE.sub("", text)):
        found: list[str] = []
        for line in block.splitlines():
            if _NO_PROSE.match(line):
                continue
            if _ITEM.match(line) and found:
                yield " ".join(found)
                found = []
            found.append(_ITEM.sub("", line).strip())
        if found:
            yield " ".join(found)


def sentences(text: str) -> list[str]:
    """Links by their words, code as one word."""
    found = []
    for paragraph in paragraphs(text):
        bare = re.sub(r"`[^`]*`", "`x`", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph))
        found += [sentence for sentence in _END.split(bare) if sentence.strip()]
    return found


def faults(text: str, longest: int = LONGEST) -> list[str]:
    counted = sorted((len(sentence.split()), sentence) for sentence in sentences(text))
    found = [f"{words} words: {sentence}" for words, sentence in counted if words > longest]
    if counted and (mean := sum(words for words, _ in counted) / len(counted)) > MEAN:
        found.append(f"{mean:.1f} words a sentence, at most {MEAN}: split the longest, {counted[-1][1]}")
    plain = re.sub(r"`[^`\n]*`|\]\([^)]*\)|<a id=[^>]*>", "", _FENCE.sub("", text))
    for pattern, instead in BANNED.items():
        found += [
            f"'{hit[0]}' in '...{plain[max(0, hit.start() - 40) : hit.end() + 20]}...': write {instead}"
            for hit in re.finditer(rf"\b(?:{pattern})\b", plain, re.IGNORECASE)
        ]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_in_plain_sentences(page: Path) -> None:
    if page.name not in GENERATED:
        assert faults(page.read_text()) == []


def test_what_is_not_would_be_found() -> None:
    """The control."""
    assert (
        faults("A node announces its blocks. It withdraws them when it drains: see `l3net node drain`.") == []
    )
    assert "write anyone who" in faults("Whoever reads it may write it.")[0]
    assert faults("| likewise |") == ["'likewise' in '...| likewise |...': write say it, or 'the same'"]
    assert faults("```\nlikewise\n```\nSee `likewise`.") == []
    long = "a node that " * 40 + "ends."
    assert [fault.split(":")[0] for fault in faults(long)] == [
        "121 words",
        "121.0 words a sentence, at most 17",
    ]
    assert len(faults("One is short. " * 9 + long)) == 1
    assert faults(long, 121) == [f"121.0 words a sentence, at most {MEAN}: split the longest, {long}"]
    assert len(sentences("- one\n- two. Three\n\n# No\n\n    no\n\nFour [five](six). `Seven.` eight")) == 5
