"""Who may read: the checks that every request passes, and the headers that every answer has."""

from __future__ import annotations

import hmac
from typing import Final

from aiohttp import web

from l3net.glass.settings import TOKEN_HEADER, Settings, allowed_host

#: Of a path with its query, in characters, and of one parameter.
LONGEST_TARGET: Final = 2048
LONGEST_VALUE: Final = 512
METHODS: Final = ("GET", "HEAD")
#: Nothing but the page's own files runs, and nobody frames it. Colours are set by script (CSSOM), which no
#: `style-src` forbids; there is no inline style.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def refusal(request: web.BaseRequest, settings: Settings, *, facts: bool) -> tuple[int, str] | None:
    """Status and reason where a request is not answered. `facts`: more is asked for than the page's files."""
    if request.method not in METHODS:
        return 405, "this page only answers GET"
    if len(request.raw_path) > LONGEST_TARGET:
        return 414, f"a request has at most {LONGEST_TARGET} characters"
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not allowed_host(hosts[0], settings.hosts):
        return 421, "this name is not one of the page's: --allow-host NAME allows it"
    if facts and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return 403, "another site's page may not ask"
    if facts and settings.token and not _has_token(request, settings.token):
        return 401, "a token is needed: Authorization: Bearer TOKEN"
    return None


def _has_token(request: web.BaseRequest, token: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    candidates = [given.strip() if scheme.lower() == "bearer" else "", request.headers.get(TOKEN_HEADER, "")]
    # Both are compared, whatever the first says: the time tells nothing.
    right = [hmac.compare_digest(each.encode(errors="replace"), token.encode()) for each in candidates]
    return any(right)
