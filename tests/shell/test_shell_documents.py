"""Manifest files into documents: bounds, positions, and YAML as Kubernetes reads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from l3net.shell.manifests import documents
from l3net.shell.manifests.documents import DocumentError, is_manifest, parse, read_bytes


def contents(text: str) -> list[object]:
    return [document.content for document in parse(text.encode())]


def test_positions() -> None:
    found = parse(b"# first\n---\na: 1\n---\n# nothing\n---\n\nb: 2\n")
    assert [(document.number, document.line) for document in found] == [(1, 3), (3, 8)]
    assert found[1].where("x.yaml") == "x.yaml:8 (document 3)"
    assert found[1].where("x.yaml", alone=True) == "x.yaml:8"


def test_lists_are_opened() -> None:
    found = parse(b"apiVersion: v1\nkind: List\nitems:\n- {kind: A}\n- {kind: B}\n")
    assert [document.content for document in found] == [{"kind": "A"}, {"kind": "B"}]
    assert found[1].where("x") == "x:1 (document 1) items[1]"
    typed = parse(b"{apiVersion: v1, kind: ServiceList, items: [{metadata: {name: a}}]}")
    assert typed[0].content == {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}


@pytest.mark.parametrize("text", ["", "\n", "---\n---\n", "# only words\n"])
def test_nothing_is_no_document(text: str) -> None:
    assert contents(text) == []


def test_scalars_as_in_kubernetes() -> None:
    """YAML 1.1's dates and base 60 would turn a community or a time into a number."""
    assert contents(
        "[{a: 64512:10, b: 2024-01-01, c: 1:2:3, d: 12, e: 0x1f, f: 1.5, g: 1e3, h: yes, i: ~}]"[1:-1]
    ) == [
        {
            "a": "64512:10",
            "b": "2024-01-01",
            "c": "1:2:3",
            "d": 12,
            "e": 31,
            "f": 1.5,
            "g": 1000.0,
            "h": True,
            "i": None,
        }
    ]
    assert contents("{a: 10.96.0.0/16, b: 10.96.0.10, c: -5, d: +5, e: fd00::1, f: 1_000, g: 0o17}")[0] == {
        "a": "10.96.0.0/16",
        "b": "10.96.0.10",
        "c": -5,
        "d": 5,
        "e": "fd00::1",
        "f": "1_000",
        "g": 15,
    }


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: [", 2, "not YAML"),
        ("a: 1\n--- \n\t- b", 3, "not YAML"),
        ("a: 1\na: 2", 2, "'a' appears twice"),
        ("x: {b: 1, b: 1}", 1, "'b' appears twice"),
        ("- a\n- b", 1, "not an object"),
        ("word", 1, "not an object"),
        ("a: !!python/object/apply:os.system [id]", 1, "not YAML"),
        ("a: &x [*x]", 1, "contains itself"),
        ("kind: List\nitems: [1]", 1, "items[0]"),
        ("kind: List\nitems: {a: b}", 1, "items is not a list"),
        ("? [a]\n: b", 1, "not YAML"),
    ],
)
def test_what_is_not_a_manifest(text: str, line: int, word: str) -> None:
    with pytest.raises(DocumentError, match=r".") as caught:
        parse(text.encode())
    assert word in str(caught.value)
    assert caught.value.line == line
    assert "\n" not in str(caught.value)


def test_merges_may_override() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: *a}"
    assert contents(text) == [{"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}]


def test_billion_laughs() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(DocumentError, match="aliases are expanded"):
        parse("\n".join(lines).encode())
    assert len(parse("\n".join(lines[:4]).encode())) == 1  # the control: the same, smaller


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_depth_is_bounded(text: str) -> None:
    with pytest.raises(DocumentError):
        parse(b"a: " + text.encode())
    with pytest.raises(DocumentError):
        parse(text.encode(), is_json=True)


def test_json() -> None:
    assert [document.content for document in parse(b'{"a": "64512:10"}', is_json=True)] == [{"a": "64512:10"}]
    for text, word in ((b'{"a": 1, "a": 2}', "twice"), (b"{a: 1}", "not JSON"), (b"\xff", "UTF-8")):
        with pytest.raises(DocumentError, match=word):
            parse(text, is_json=True)


def test_all_of_a_file_is_read(tmp_path: Path) -> None:
    text = b"x" * 300_000
    (tmp_path / "a.yaml").write_bytes(text)
    assert read_bytes(tmp_path / "a.yaml")[0] == text
    content, stamp = read_bytes(Path("/proc/self/stat"))  # does not tell its size
    assert content.startswith(str(os.getpid()).encode())
    assert stamp[2] == 0


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_BYTES", 8)
    (tmp_path / "a.yaml").write_text("12345678")
    assert read_bytes(tmp_path / "a.yaml")[0] == b"12345678"
    (tmp_path / "a.yaml").write_text("123456789")
    with pytest.raises(DocumentError, match="larger"):
        read_bytes(tmp_path / "a.yaml")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.yaml")  # reading it would wait for ever
    (tmp_path / "dir.yaml").mkdir()
    for name, word in (("pipe.yaml", "not a regular"), ("dir.yaml", "directory|regular"), ("no", "No such")):
        with pytest.raises(DocumentError, match=word):
            read_bytes(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.yaml", True),
        ("a.yml", True),
        ("a.json", True),
        (".a.yaml", False),
        ("a.yaml~", False),
        ("a.txt", False),
    ],
)
def test_names(name: str, read: bool) -> None:
    assert is_manifest(name) is read
