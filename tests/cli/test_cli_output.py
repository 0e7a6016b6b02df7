"""Tables: what others wrote into them stands there as it is; at a narrow terminal some columns give way."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from l3net.cli import output
from l3net.cli.columns import GAP, SHORTEST, SPARE, TEXT, TIGHT, fit
from l3net.cli.main import cli
from l3net.cli.output import output_option, print_table

PEERS = ("PEER", "ADDRESS", "STATE", "SENT", "QUEUED", "REFUSED")
ROW = ("n1-tor1-ipv6", "fd00:10:0:4::", "Idle (network unreachable; hold timer expired)", 3, 0, "2 bogonAS")


@pytest.fixture
def terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> pytest.CaptureFixture[str]:
    """Standard output is a terminal of 80 characters, whatever the machine's is."""
    monkeypatch.setattr(output, "_room", lambda: 80)
    return capsys


def test_a_cell_is_no_markup_and_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    said = "moved [to] rack [bold]7[/bold] [/x] " + "word " * 60
    print_table("Peers", ["NAME", "REASON"], [["tor", said]])
    printed = capsys.readouterr().out
    assert said.strip() in printed
    assert all(line == line.rstrip() for line in printed.splitlines())


def test_a_cell_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ["NAME"], [["tor\x1b[2J\nFAKE ROW\r"]])
    assert capsys.readouterr().out == "NAME\ntor [2J FAKE ROW\n"


def test_at_a_terminal_text_is_cut_and_names_are_whole(
    terminal: pytest.CaptureFixture[str],
) -> None:
    print_table("", PEERS, [ROW])
    told = terminal.readouterr()
    header, row = re.sub(r"\x1b\[\d*m", "", told.out).splitlines()
    assert len(row) <= 80
    assert "n1-tor1-ipv6  fd00:10:0:4::  Idle (network" in row
    assert "…" in row
    assert "REFUSED" in header
    assert "`-o wide`" in told.err


def test_wide_is_all_of_it(terminal: pytest.CaptureFixture[str]) -> None:
    @click.command()
    @output_option
    def show(output: str) -> None:
        assert output == "table"
        print_table("", PEERS, [ROW])

    show.main(["-o", "wide"], standalone_mode=False)
    told = terminal.readouterr().out
    assert all(str(cell) in told for cell in ROW)
    assert "…" not in told


@pytest.mark.parametrize(
    ("value", "term", "coloured"),
    [("", "xterm", True), ("1", "xterm", False), ("0", "xterm", False), ("", "dumb", False)],
)
def test_no_color(value: str, term: str, coloured: bool) -> None:
    """Colour is asked for. The control is an empty NO_COLOR and a terminal that knows colours."""

    @click.command()
    def show() -> None:
        click.secho("told", fg="red")

    group = click.Group(commands={"show": show}, callback=cli.callback)
    shown = CliRunner().invoke(group, ["show"], color=True, env={"NO_COLOR": value, "TERM": term})
    assert ("\x1b[" in shown.output) is coloured


NAMES = st.sampled_from([*SPARE, *sorted(TEXT), "NAME", "ADDRESS", "PREFIX"])


@given(
    st.lists(st.tuples(NAMES, st.integers(0, 60)), min_size=1, unique_by=lambda each: each[0]),
    st.integers(20, 200),
)
def test_what_gives_way(columns: list[tuple[str, int]], width: int) -> None:
    names = [name for name, _ in columns]
    natural = [max(len(name), size) for name, size in columns]
    layout = fit(names, natural, width)
    total = sum(layout.widths) + GAP * (len(layout.widths) - 1)
    # What is no text and not spare is there, in full; text keeps enough to be read.
    for index, (name, full) in enumerate(zip(names, natural, strict=True)):
        if index not in layout.shown:
            assert name in SPARE
            continue
        shown = layout.widths[layout.shown.index(index)]
        assert shown == full or (name in TEXT and min(full, max(TIGHT, len(name))) <= shown < full)
    usual = [
        min(natural[index], max(SHORTEST, len(names[index]))) if names[index] in TEXT else natural[index]
        for index in layout.shown
    ]
    if any(shown < least for shown, least in zip(layout.widths, usual, strict=True)):
        # Text is that short only where nothing else helps.
        assert sum(usual) + GAP * (len(usual) - 1) > width
        assert len(layout.shown) <= 2 or not any(names[index] in SPARE for index in layout.shown)
    if total > width:  # then there is nothing left that could give way
        assert len(layout.shown) <= 2 or not any(names[index] in SPARE for index in layout.shown)
        assert all(
            layout.widths[at] == min(natural[index], max(TIGHT, len(names[index])))
            for at, index in enumerate(layout.shown)
            if names[index] in TEXT
        )
    assert layout.whole == (layout.shown == tuple(range(len(names))) and list(layout.widths) == natural)
    assert len(layout.shown) >= min(2, len(names))
    assert fit(names, natural, None).whole


#: Of commands that were too wide: a row as they have it, what may go, and what is text there.
NARROW = {
    "bgp announced": (
        ("PREFIX", "KIND", "SERVICE", "PEER", "ADDRESS", "COMMUNITIES", "VERDICT"),
        (
            "fd00:10:244:1::/120",
            "loadBalancerIP",
            "default/web",
            "n1-tor1-ipv6",
            "fd00:10:0:2::",
            "",
            "familyNotNegotiated",
        ),
        ("ADDRESS", "KIND"),
        (),
    ),
    "history": (
        ("TIME", "KIND", "SUBJECT", "WHAT", "PEER", "BEFORE", "SINCE", "REASON"),
        (
            "2026-11-30 12:46:02.554",
            "announcement",
            "fd00:10:96::a/128",
            "announced",
            "n1-tor1-ipv6 (fd00:10:0:2::)",
            "via fd00:10:0:1::1",
            "via fd00:10:0:2::1",
            "default/web: advertised",
        ),
        ("KIND", "BEFORE"),
        ("PEER", "SINCE"),
    ),
}


@pytest.mark.parametrize("command", NARROW)
def test_a_table_fits_into_80_characters_by_what_it_can_spare(
    command: str, terminal: pytest.CaptureFixture[str]
) -> None:
    columns, row, spare, text = NARROW[command]
    print_table("", columns, [row], spare=spare, text=text)
    told = re.sub(r"\x1b\[\d*m", "", terminal.readouterr().out)
    assert max(map(len, told.splitlines())) <= 80, told
    assert row[0] in told, "what a row is about stays whole"
    print_table("", columns, [row])
    control = re.sub(r"\x1b\[\d*m", "", terminal.readouterr().out)
    assert max(map(len, control.splitlines())) > 80, "the control: without, it is too wide"


def test_what_is_spare_stays_where_there_is_room(terminal: pytest.CaptureFixture[str]) -> None:
    print_table("", ("NAME", "KIND"), [("n1", "node")], spare=("KIND",))
    assert "KIND" in terminal.readouterr().out
