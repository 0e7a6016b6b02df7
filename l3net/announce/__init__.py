"""What this node announces of its own, and why: one list of sources, which agent, plan and status all read.

A source is one module and one row of `SOURCES`. What of it a peer hears is `adj_rib_out`'s to decide.
"""

from __future__ import annotations
