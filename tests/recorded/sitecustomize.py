"""Python imports this at its start, where tests have put this directory on its path."""

from __future__ import annotations

import os

import printed_json

if os.environ.get(printed_json.PLACE):
    printed_json.install()
