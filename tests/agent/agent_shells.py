"""The real shells of an agent, for tests that build one in their own process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

from l3net.agent.loop import Agent
from l3net.agent.shells import Speaker
from l3net.cli.agent_shells import SPEAKER_RETRY, _connect, node_shells
from l3net.config import AgentSettings
from l3net.config import DatastoreChoice as Chosen
from l3net.naming import SPEAKER_SOCKET
from l3net.shell.files.entries import Entries
from l3net.shell.speaker.config import SpeakerConfig


def speaker(directory: Path) -> Speaker:
    """With this run directory."""
    connect = _connect(Entries(directory), SPEAKER_SOCKET, SPEAKER_RETRY)
    return Speaker(connect, SpeakerConfig(directory), partial(token_hex, 4))


def agent(directory: Path, datastore: Any) -> Agent:
    """`n1`, which follows a datastore; to be called in a running event loop."""
    settings = AgentSettings("n1", Chosen(directory=directory), directory, directory)
    return Agent(settings, node_shells(settings, datastore))
