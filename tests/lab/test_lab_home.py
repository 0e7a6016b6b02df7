"""What runs in a host of a lab writes into no home of the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_rig import Rig

pytestmark = pytest.mark.netns


def test_a_router_leaves_no_history_in_the_users_home(rig: Rig) -> None:
    rig.start_tor()
    history = Path.home() / ".history_frr"
    before = history.stat().st_mtime_ns if history.exists() else None
    rig.vtysh("show version")
    assert (history.stat().st_mtime_ns if history.exists() else None) == before
    assert rig.tor.run(["sh", "-c", "echo ~"]).stdout.strip() == str(rig.tor.directory)
    assert [each.name for each in rig.tor.directory.iterdir() if each.name == ".history_frr"] == [
        ".history_frr"
    ]
