"""Where l3net does something else than the RFC asks: what, and why. The tests expect exactly this."""

from __future__ import annotations

from row import USED, WITHDRAWN

#: Key of a row to (outcome, reason).
DEVIATIONS: dict[str, tuple[str, str]] = {
    "open-extended-first-length": (
        "NOTIFICATION 2/4",
        "ExaBGP knows the extended form by 255 in both places, which is what RFC 9072 has senders write",
    ),
    "update-without-as-path": (USED, "ExaBGP takes a missing AS_PATH for an empty one"),
    "update-unknown-well-known": (
        USED,
        "ExaBGP takes it for an optional one: the session is not lost for an attribute of a later RFC",
    ),
    "update-error-without-routes": (
        USED,
        "ExaBGP treats it as withdraw, of no routes: the session is kept",
    ),
    "path-empty-segment": (USED, "ExaBGP takes it for nothing"),
    "path-set": (
        USED,
        "Taken as RFC 4271 has it, for the aggregates of older routers; RFC 9774 is of 2025",
    ),
    "local-pref-external-length": (
        WITHDRAWN,
        "ExaBGP withdraws the route, as of an internal peer, which is the stronger of the two",
    ),
    "cease-sent": (
        "closed",
        "ExaBGP closes the connection of a neighbour that its configuration no longer has, without a word",
    ),
}
#: Being mended: key to what is missing. The test is expected to fail, and says so once it does not.
WAITS: dict[str, str] = {}
