"""Whether l3net is the service proxy of its node, beside a kube-proxy that may come and go.

Two of them translate alike, but what either refuses, masquerades or remembers is not the other's: so one of
them does all of it. kube-proxy is known by its answers; what it left in the kernel says only that it may be
about to come back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from l3net.model import ServiceProxy

#: --metrics-bind-address of kube-proxy, unless somebody chose another, as its --healthz-bind-address is
#: config.HEALTH_PORT: TCP ports.
METRICS_PORT: Final = 10249
#: Seconds for which a kube-proxy whose tables are there is waited for: while it starts, or is replaced.
PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class ProxySeen:
    """`answers`: by what kube-proxy answers on this node. `tables`: what of its is in the kernel, if that was
    looked for. Empty: nothing."""

    answers: str = ""
    tables: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether services are translated by l3net here, and why."""

    on: bool
    why: str


class ProxyMode:
    """(now, setting, what is seen) -> Standing. `was`: what the agent before this one did since the boot;
    None: there was none."""

    def __init__(self, was: bool | None) -> None:
        self._on = bool(was)
        self._answering: float | None = None  # since when
        self._silent: float | None = None

    def asks_for_tables(self, setting: ServiceProxy, answers: str) -> bool:
        """Whether the tables matter: where it comes or goes. To look for them costs more than to ask."""
        return setting is ServiceProxy.AUTO and self._on is bool(answers)

    def decide(self, now: float, setting: ServiceProxy, seen: ProxySeen) -> Standing:
        """As of now."""
        found = self._decide(now, setting, seen)
        self._on = found.on
        return found

    def _decide(self, now: float, setting: ServiceProxy, seen: ProxySeen) -> Standing:
        if seen.answers:
            self._silent = None
            self._answering = now if self._answering is None else self._answering
        else:
            self._answering = None
            self._silent = now if self._silent is None else self._silent
        if setting is ServiceProxy.ENABLED:
            beside = f"; kube-proxy ({seen.answers}) answers, too" if seen.answers else ""
            return Standing(True, f"serviceProxy is Enabled{beside}")
        if setting is ServiceProxy.DISABLED:
            return Standing(False, "serviceProxy is Disabled")
        if self._answering is not None:
            if self._on and not seen.tables and now - self._answering < PATIENCE:
                return Standing(True, f"kube-proxy ({seen.answers}) answers, and has no tables yet")
            return Standing(False, f"kube-proxy ({seen.answers}) answers on this node")
        if self._on or not seen.tables:
            return Standing(True, "no kube-proxy answers on this node")
        if self._silent is not None and now - self._silent < PATIENCE:
            return Standing(
                False,
                f"kube-proxy has left its tables ({seen.tables}) and may come back: it is waited for, "
                f"{PATIENCE:g} s",
            )
        return Standing(True, "no kube-proxy answers on this node; its tables are there still")
