"""The table: every row, in the order in which it is published."""

from __future__ import annotations

import rows_attributes
import rows_header
import rows_open
import rows_refresh
import rows_restart
import rows_session
import rows_update
from deviations import DEVIATIONS
from row import NOT_OFFERED, Row

#: Heading and rows of each part.
PARTS: dict[str, list[Row]] = {
    "Message header": rows_header.ROWS,
    "OPEN": rows_open.ROWS,
    "UPDATE": rows_update.ROWS,
    "Path attributes": rows_attributes.ROWS,
    "Timers, states, Cease and collisions": rows_session.ROWS,
    "Graceful restart": rows_restart.ROWS,
    "Route refresh": rows_refresh.ROWS,
}
TABLE: list[Row] = [row for rows in PARTS.values() for row in rows]


def expected(row: Row, outcome: str) -> bool:
    """Whether it is what l3net is documented to do."""
    if row.key in DEVIATIONS:
        return outcome == DEVIATIONS[row.key][0]
    return row.asked(outcome) and outcome != NOT_OFFERED
