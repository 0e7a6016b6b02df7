"""What the plugin without an agent spares of the standard library. Imported before all that needs it."""

from __future__ import annotations

from l3net.late import spare

spare("logging", "traceback")  # of what was raised, when it is logged
