"""The command of `world/`: see `--help`."""

from __future__ import annotations

from world.__main__ import main

if __name__ == "__main__":
    main()
