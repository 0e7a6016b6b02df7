"""The door by which speakers of the release before start ExaBGP: `python -P -m l3net.shell.exabgp`.

A package that is replaced under a running speaker must still start the next ExaBGP for it.
"""

from __future__ import annotations

from l3net.shell.speaker.exabgp import main

if __name__ == "__main__":
    main()
