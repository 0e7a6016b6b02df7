"""Every link in the documents leads somewhere: to a file that is there, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"))
    if ".venv" not in page.parts
]
_LINK = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_NAMED = re.compile(r'<a id="([^"]+)">')
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)


def links(text: str) -> list[str]:
    bare = _CODE.sub("", _FENCE.sub("", text))
    return [one or other for one, other in _LINK.findall(bare)]


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        name, number = slug, 0
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found | set(_NAMED.findall(text))


def broken(page: Path, text: str) -> list[str]:
    wrong = []
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue  # elsewhere
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            wrong.append(f"{link}: there is no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            wrong.append(f"{link}: {target.name} has no such heading")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page, page.read_text()) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    page = ROOT / "README.md"
    assert broken(
        page, "[a](docs/none.md) [b](docs/cni.md#no-such) `[c](docs/none.md)` [d](https://example.net)"
    ) == [
        "docs/none.md: there is no such file",
        "docs/cni.md#no-such: cni.md has no such heading",
    ]
    assert anchors("# A `b` c\n## A b, c!\n```\n# no\n```\n# A b c") == {"a-b-c", "a-b-c-1", "a-b-c-2"}


def test_there_are_links_at_all() -> None:
    assert sum(len(links(page.read_text())) for page in PAGES) > 100
