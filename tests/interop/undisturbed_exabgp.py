"""ExaBGP as l3net runs it, but that nothing ends its sleep: run as `python undisturbed_exabgp.py CONFIG`.

Without a relay that asks it each second, and without the limits to a sleep and to an attempt, what it does is
done for its own timers, its sockets, its API processes and signals alone.
"""

from __future__ import annotations

import os
import sys

from l3net.shell.speaker import exabgp
from l3net.shell.speaker.supervisor import EXABGP_ENVIRONMENT

FOR_EVER = 3600.0


def main() -> None:
    os.environ.update(EXABGP_ENVIRONMENT | {"exabgp.bgp.openwait": "2"})
    assert exabgp.apply_patches()
    from exabgp.application.main import main as run_exabgp

    from l3net.shell.speaker import exabgp_dialling, exabgp_idling

    exabgp_idling.LONGEST = FOR_EVER  # type: ignore[misc]
    exabgp_dialling.CONNECT_LIMIT = FOR_EVER  # type: ignore[misc]
    sys.argv = ["exabgp", "server", sys.argv[1]]
    run_exabgp()


if __name__ == "__main__":
    main()
