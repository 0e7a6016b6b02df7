"""`python tests/mutations/run.py`: see mutants.py."""

from __future__ import annotations

from mutants import main

if __name__ == "__main__":
    main()
