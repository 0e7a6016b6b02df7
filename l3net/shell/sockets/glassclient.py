"""Asks a node's looking glass over HTTP, for commands: without aiohttp, and each request by itself."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

from l3net.errors import NotRunningError

#: Seconds to connect, and for a whole answer.
CONNECT: Final = 3.0
WHOLE: Final = 60.0
#: Of an answer, in bytes.
LONGEST: Final = 256 << 20


def fetch(
    url: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], patience: float
) -> tuple[int, bytes]:
    """Status and body; no redirect is followed, and no proxy asked. `patience` in seconds for the next piece.
    Raises NotRunningError."""
    split = urlsplit(url)
    kind = http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
    connection = kind(split.hostname or "", split.port, timeout=CONNECT)
    until = time.monotonic() + WHOLE
    try:
        connection.connect()
        connection.sock.settimeout(patience)
        connection.request("GET", f"{split.path}{path}?{urlencode(query)}", headers=dict(headers))
        response = connection.getresponse()
        pieces, size = [], 0
        while piece := response.read1(1 << 18):
            pieces.append(piece)
            size += len(piece)
            if size > LONGEST or time.monotonic() > until:
                raise NotRunningError(f"the answer of {url} has no end")
        return response.status, b"".join(pieces)
    except TimeoutError:
        raise NotRunningError(f"no looking glass answers on {url}") from None
    except (OSError, http.client.HTTPException, ValueError) as err:
        why = err.strerror if isinstance(err, OSError) and err.strerror else type(err).__name__
        raise NotRunningError(
            f"no looking glass answers on {url} ({why}); does `l3net glass` run there?"
        ) from None
    finally:
        connection.close()
