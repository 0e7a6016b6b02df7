"""HTTP to a kube-apiserver: the official client's configuration and transport, bytes in and out.

Finding the server, TLS, proxies, authentication and the renewal of tokens are the `kubernetes` package's. Its
typed models are not used: they cost four times the memory (405 against 111 MiB for ten thousand services),
and its watchers neither back off nor notice a server that is gone without a word.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from l3net.errors import ConfigError, L3netError
from l3net.shell.kubernetes.servers import ServerMemory, Servers
from l3net.shell.kubernetes.transport import Configure, configured
from l3net.shell.kubernetes.versions import Versions
from l3net.shell.threads import REAL, Threads

#: Seconds to connect, and to wait for an answer or for the next piece of one.
CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 30.0
#: A watch says something once a minute (bookmarks); a host that is gone is noticed sooner, by TCP keepalive.
WATCH_TIMEOUT: Final = 130.0
#: After a 401 the configuration is read anew, at most this often (seconds).
RELOAD_EVERY: Final = 5.0
#: etcd holds no object larger than 1.5 MiB by default; a line of a watch is not much larger.
LONGEST_LINE: Final = 32 * 1024 * 1024
#: Read at once, whatever the length of a chunk.
PIECE: Final = 1024 * 1024

MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"


class ApiError(L3netError):
    """The API server refused, or could not be asked (`code` 0).

    `reason` is the Status' (meta/v1), such as Conflict; `retry_after` in seconds is what the server asks for.
    """

    def __init__(self, message: str, code: int = 0, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.code, self.reason, self.retry_after = code, reason, retry_after
        self.silent = False  # a watch said nothing for WATCH_TIMEOUT
        self.said = ""  # what the server says, without what was asked
        self.unreadable = False  # a watch said what cannot be used
        self.untrusted = False  # TLS failed: the server's certificate, or ours

    @property
    def gone(self) -> bool:
        """The resource version or continue token asked for is too old: list again."""
        return self.code == 410

    @property
    def conflict(self) -> bool:
        return self.code == 409

    @property
    def not_found(self) -> bool:
        return self.code == 404


class KubeApi:
    """One API server. Methods block and are safe to call from several threads; paths begin with `/api`.

    Raises ConfigError when the configuration cannot be used, ApiError when a request fails.
    """

    def __init__(
        self,
        kubeconfig: Path | None = None,
        context: str | None = None,
        memory: ServerMemory | None = None,
        *,
        threads: Threads = REAL,
        configure: Configure = configured,
    ) -> None:
        """`kubeconfig` None: the in-cluster configuration of a pod's service account. `memory`: of servers to
        ask where the configured one cannot be reached. `threads`: what those who ask it wait with."""
        self._kubeconfig, self._context, self._configure = kubeconfig, context, configure
        self.threads = threads
        self._lock = threading.Lock()
        self.servers = Servers(memory, threads.monotonic)
        self.versions = Versions()
        #: Requests by method and HTTP status; `none`: there was no answer.
        self.answers: dict[tuple[str, str], int] = {}
        self._load()

    @property
    def url(self) -> str:
        return str(self._transport.configuration.host)

    def _load(self) -> None:
        self._transport = self._configure(self._kubeconfig, self._context)
        self._loaded = self.threads.monotonic()

    def _reload(self, seen: object) -> bool:
        """After a 401, or a certificate that is not trusted: read the configuration again, unless another
        thread just did. Whether to try again."""
        with self._lock:
            if seen is not self._transport:
                return True
            if self.threads.monotonic() - self._loaded < RELOAD_EVERY:
                return False
            try:
                self._load()
            except ConfigError:
                return False
            return True

    # --- requests ----------------------------------------------------------------------------------------

    def get(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """`headers` beside those of the API: of a proxied request, for whom it is for."""
        return self._whole("GET", path, query, headers=headers)

    def create(self, path: str, document: Mapping[str, object]) -> bytes:
        return self._whole("POST", path, None, document)

    def replace(self, path: str, document: Mapping[str, object]) -> bytes:
        """Replace the object; with its metadata.resourceVersion set, a change by someone else is a 409."""
        return self._whole("PUT", path, None, document)

    def patch(self, path: str, change: object, kind: str = MERGE_PATCH) -> bytes:
        """A merge patch (RFC 7386) or JSON patch (RFC 6902).

        A merge patch that holds metadata.resourceVersion is a 409 when someone else was faster.
        """
        return self._whole("PATCH", path, None, change, kind)

    def delete(self, path: str, options: Mapping[str, object] | None = None) -> bytes:
        return self._whole("DELETE", path, None, options)

    def watch(self, path: str, query: Mapping[str, object]) -> WatchLines:
        """Open a watch."""
        return WatchLines(self._send("GET", path, query, None, "", WATCH_TIMEOUT))

    def _whole(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        response = self._send(method, path, query, body, content_type, READ_TIMEOUT, headers)
        try:
            data: bytes = response.read()
        except (HTTPError, OSError) as err:
            raise _unreachable(self.url, err) from None
        finally:
            response.release_conn()
        return data

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        content_type: str,
        timeout: float,
        more: Mapping[str, str] | None = None,
    ) -> Any:
        asked = method, path, query, body, content_type, timeout, more
        seen = self._transport
        try:
            used, response = self._counted(*asked)
        except ApiError as err:
            if not (err.untrusted and self._reload(seen)):
                raise
            used, response = self._counted(*asked)
        if response.status == 401 and self._reload(used):
            response.drain_conn()
            response.release_conn()
            _, response = self._counted(*asked)
        if response.status >= 400:
            raise _refused(method, path, response)
        return response

    def _counted(self, method: str, *asked: Any) -> tuple[object, Any]:
        status = "none"
        try:
            used, response = self._send_once(method, *asked)
            status = str(response.status)
        finally:
            with self._lock:
                self.answers[method, status] = self.answers.get((method, status), 0) + 1
        return used, response

    def _send_once(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        content_type: str,
        timeout: float,
        more: Mapping[str, str] | None = None,
    ) -> tuple[object, Any]:
        import urllib3  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        with self._lock:
            transport = self._transport
        configuration, pools = transport.configuration, (transport.pool, transport.around)
        headers = {"Accept": "application/json", "User-Agent": "l3net", **(more or {})}
        target = path + ("?" + _encoded(query) if query else "")
        try:
            # Renews a token that is due.
            for setting in configuration.auth_settings().values():
                if setting["in"] == "header" and setting["value"]:
                    headers[setting["key"]] = setting["value"]
            data = None
            if body is not None:
                headers["Content-Type"] = content_type
                data = json.dumps(body, separators=(",", ":")).encode()
            asked = {
                "body": data,
                "headers": headers,
                "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT, read=timeout),
                "preload_content": False,
                "retries": False,
                "redirect": False,
            }
            response = self._by_any_way(configuration.host.rstrip("/"), pools, method, target, asked)
        except (HTTPError, OSError) as err:
            raise self._lost(configuration.host, err) from None
        except Exception as err:
            # The renewal of a token may run anything (exec plugins). What it says may hold the token.
            raise ApiError(
                f"API server {configuration.host}: {type(err).__name__} on the way there"
            ) from None
        return transport, response

    def _by_any_way(
        self, host: str, pools: tuple[Any, Any], method: str, target: str, asked: Mapping[str, Any]
    ) -> Any:
        """By the configured address or, where no connection comes about, by the servers that were known last.
        A request that may have arrived is not made again."""
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError  # noqa: PLC0415

        pool, around = pools
        found: list[Exception] = []
        for way in self.servers.ways(host) if around is not None else [host]:
            try:
                response = (pool if way == host else around).request(method, way + target, **asked)
            except (NewConnectionError, ConnectTimeoutError) as err:
                self.servers.missed(host, way)
                found.insert(0 if way == host else len(found), err)  # the configured one's is what is told
            else:
                self.servers.arrived(host, way)
                return response
        raise found[0]

    def _lost(self, host: str, err: Exception) -> ApiError:
        found = _unreachable(host, err)
        if self._kubeconfig is None and not self.servers.known:
            told = ApiError(
                f"{found}; is this the service `kubernetes`, and no proxy translates it here? Name the API "
                "server itself: apiServer.host of the chart, or KUBERNETES_SERVICE_HOST"
            )
            told.untrusted = found.untrusted
            return told
        return found


class WatchLines:
    """The lines of a watch as they come; `interrupt` ends it from another thread."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        """Ends when the server ends the watch. Raises ApiError when the connection breaks or falls silent."""
        from urllib3.exceptions import HTTPError, ReadTimeoutError  # noqa: PLC0415

        rest = b""
        try:
            for piece in self._pieces():
                if b"\n" not in piece:
                    rest += piece
                    if len(rest) > LONGEST_LINE:
                        endless = ApiError(f"a line of a watch is longer than {LONGEST_LINE >> 20} MiB")
                        endless.unreadable = True
                        raise endless
                    continue
                *lines, rest = (rest + piece).split(b"\n")
                yield from filter(None, lines)
            if rest.strip():
                yield rest
        except (HTTPError, OSError, AttributeError, ValueError) as err:
            # The two last: urllib3 when its connection is shut down while it reads.
            broken = ApiError(f"watch: the connection broke ({type(err).__name__})")
            broken.silent = isinstance(err, ReadTimeoutError | TimeoutError)
            raise broken from None
        finally:
            self._response.close()

    def _pieces(self) -> Iterator[bytes]:
        response = self._response
        if response.chunked and response.supports_chunked_reads():
            yield from response.read_chunked(PIECE)
            return
        while piece := response.read1():  # read would wait until it has all it was asked for
            yield piece

    def interrupt(self) -> None:
        try:
            self._response.shutdown()
        except Exception:  # it has ended already
            self._response.close()


def _encoded(query: Mapping[str, object]) -> str:
    from urllib.parse import urlencode  # noqa: PLC0415

    return urlencode({key: str(value) for key, value in query.items()})


def _unreachable(host: object, err: Exception) -> ApiError:
    from urllib3.exceptions import NewConnectionError, SSLError, TimeoutError  # noqa: PLC0415

    if isinstance(err, NewConnectionError):
        why = "connection refused or no route"
    elif isinstance(err, TimeoutError):
        why = "no answer in time"
    elif isinstance(err, SSLError):
        why = "TLS failed: is the CA the right one?"
    else:
        why = f"the connection broke ({type(err).__name__})"
    found = ApiError(f"API server {host}: {why}")
    found.untrusted = isinstance(err, SSLError)
    return found


def _refused(method: str, path: str, response: Any) -> ApiError:
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    try:
        body = response.read(65536)
    except (HTTPError, OSError):
        body = b""
    finally:
        response.close()
    reason, message = "", ""
    try:
        document = json.loads(body)
        reason = str(document.get("reason", ""))
        message = str(document.get("message") or document.get("error", ""))  # of what is behind a proxy
    except (ValueError, AttributeError):
        pass
    text = " ".join(message.split())[:300] or response.reason or ""
    after = response.headers.get("Retry-After", "")
    found = ApiError(
        f"{method} {path}: {response.status} {text}".rstrip(),
        response.status,
        reason,
        float(after) if after.isdecimal() else 0.0,
    )
    found.said = text
    return found
