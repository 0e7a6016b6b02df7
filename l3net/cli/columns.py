"""Which columns of a table give way where the terminal is too narrow for all of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

#: Columns that are left out of a table that is too wide, the first of them first: counts and details that
#: another command, `-o wide` or JSON tells as well.
SPARE: Final = (
    *("ECHO", "HOPS", "PEER SAYS", "DIAGNOSTIC", "DETECTION", "SEQUENCE", "HOST INTERFACE"),
    *("CONTAINER ID", "IFNAME", "NETWORK"),
    *("MSG RCVD", "MSG SENT", "MEMORY", "PID", "QUEUED", "OUT Q", "FLAPS", "VERSION"),
    *(
        "POD UID",
        "HOLD TIME",
        "CAPABILITIES",
        "COMMUNITIES",
        "MED",
        "LOCAL PREF",
        "RETURNED",
        "SENT",
        "RECEIVED",
    ),
)
#: Columns of text or of lists: cut with an ellipsis. All others hold names, addresses and numbers, which are
#: of no use in part.
TEXT: Final = frozenset(
    {
        *("ADDRESSES", "ANSWER", "AS PATH", "BLOCKS", "CAPABILITIES", "COMMUNITIES", "DAEMONS", "EGRESS"),
        *("FIELDS", "INGRESS", "LAST ERROR", "LEARNED", "MEMORY", "NEXT HOPS", "NODES", "PROBLEMS"),
        *("REASON", "REFUSED", "ROUTES", "STATE", "SUBJECT", "VERDICT", "WHAT", "WHAT IT DOES"),
        *("WHAT TO DO", "DETAIL", "BEFORE", "AFTER", "CHANGE", "CAUSE", "BY"),
    }
)
#: Columns that are left: one alone says nothing of what it names.
_FEWEST: Final = 2
#: Characters that a column of text keeps at least, and where that is too wide for the terminal.
SHORTEST: Final = 14
TIGHT: Final = 8
#: Characters between two columns.
GAP: Final = 2
ELLIPSIS: Final = "…"


class Layout(NamedTuple):
    """What is shown of a table: the columns by index, and the width of each in characters."""

    shown: tuple[int, ...]
    widths: tuple[int, ...]
    whole: bool
    """Nothing is cut or left out."""


def fit(
    columns: Sequence[str],
    natural: Sequence[int],
    width: int | None,
    spare: Sequence[str] = (),
    text: Collection[str] = (),
) -> Layout:
    """How a table fits into `width` characters; None is as wide as it likes.

    `natural` is the width that each column takes in full. Columns of SPARE, then those that are `spare` in
    this table, go while columns of TEXT, and those of `text`, that are as short as can be do not suffice;
    then the widest columns of text are cut. A table that is too wide even so stays so: an address that is
    cut can be used for nothing.
    """
    shown = list(range(len(columns)))
    if width is None or _total(natural) <= width:
        return Layout(tuple(shown), tuple(natural), True)

    def shortest(keep: int) -> list[int]:
        return [
            min(full, max(keep, len(name))) if name in TEXT or name in text else full
            for name, full in zip(columns, natural, strict=True)
        ]

    least = shortest(SHORTEST)
    for name in (*SPARE, *spare):
        if _total([least[each] for each in shown]) <= width or len(shown) <= _FEWEST:
            break
        shown = [each for each in shown if columns[each] != name]
    if _total([least[each] for each in shown]) > width:
        least = shortest(TIGHT)
    widths = [natural[each] for each in shown]
    floor = [least[each] for each in shown]
    while _total(widths) > width:
        cut = max(
            (each for each in range(len(shown)) if widths[each] > floor[each]),
            key=widths.__getitem__,
            default=None,
        )
        if cut is None:
            break
        widths[cut] -= 1
    whole = len(shown) == len(columns) and widths == [natural[each] for each in shown]
    return Layout(tuple(shown), tuple(widths), whole)


def cut(cell: str, width: int) -> str:
    """The cell in `width` characters, filled up with spaces or cut with an ellipsis."""
    return cell.ljust(width) if len(cell) <= width else cell[: width - 1] + ELLIPSIS


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(len(widths) - 1, 0)
