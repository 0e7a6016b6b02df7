"""Where the plugin without an agent logs, and its helper."""

from __future__ import annotations

import logging
import syslog


class _Syslog(logging.Handler):
    """libcni drops a failed plugin's standard error, so what is to be kept goes to the system's log."""

    def emit(self, record: logging.LogRecord) -> None:
        syslog.syslog(syslog.LOG_WARNING, self.format(record).replace("\n", " "))


def install() -> None:
    """From now on what is logged goes there, too."""
    logging.getLogger().addHandler(_Syslog())
