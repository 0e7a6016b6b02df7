"""One collection of the API, or one object of it, as it is asked for: list, get, watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from l3net.model import ObjectName
from l3net.shell.kubernetes.api import ApiError, KubeApi, WatchLines
from l3net.shell.kubernetes.kinds import Document, KubeKind, status_of, version_in, version_of, watch_event
from l3net.shell.kubernetes.selection import Selection
from l3net.shell.kubernetes.selection import query as query_of

PAGE: Final = 500
#: Seconds after which the server ends a watch, drawn from this range, so that not all agents come at once.
WATCH_SECONDS: Final = (300, 600)


class Collection:
    """`by_name`: one object is read by get and watch, without the right to list. Raises ApiError."""

    def __init__(self, api: KubeApi, kind: KubeKind, *, by_name: bool) -> None:
        self._api, self._kind, self._by_name = api, kind, by_name

    def get(self, name: ObjectName) -> Document | None:
        """The object of that name; None: there is none."""
        try:
            data = self._api.get(self._kind.path_of(name))
            return self._kind.one(data)
        except ValueError as err:
            raise ApiError(f"{self._kind.path}: not an object: {err}") from None
        except ApiError as err:
            if err.not_found:
                return None
            raise

    def page(self, only: Selection, following: str, *, cached: bool) -> tuple[str, str, list[Document]]:
        """Resource version, continue token and objects; `cached`: as the server has them at hand."""
        query: dict[str, object] = {"limit": PAGE, **query_of(only)}
        if cached:
            query["resourceVersion"] = "0"
        if following:
            query["continue"] = following
        return self._page(self._kind.path, query)

    def version_in_store(self, path: str) -> str:
        """Where the store itself stands, by a list of one of the collection at `path`."""
        return self._page(path, {"limit": 1})[0]

    def _page(self, path: str, query: Mapping[str, object]) -> tuple[str, str, list[Document]]:
        data = self._api.get(path, query)
        try:
            return self._kind.page(data)
        except ValueError as err:
            raise ApiError(f"{path}: not a list: {err}") from None

    def watch(self, only: Selection, version: str) -> WatchLines:
        """Changes after a version; with none, what there is first."""
        query: dict[str, object] = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": self._api.threads.random.randint(*WATCH_SECONDS),
            **query_of(only),
        }
        path = self._kind.path
        if version:
            query["resourceVersion"] = version
        if self._by_name and isinstance(only, ObjectName):
            path = f"{self._kind.root}/namespaces/{only.namespace}/{self._kind.plural}"
        return self._api.watch(path, query)

    def change(self, line: bytes) -> tuple[str, str, Document | None]:
        """A line of a watch: what happened, the version then, and the object; a bookmark has none."""
        what = f"watch {self._kind.plural}"
        try:
            event = watch_event(line)
            if event.type == "BOOKMARK":
                return event.type, version_of(event.object), None
            if event.type == "ERROR":
                code, message = status_of(event.object)
                raise ApiError(f"{what}: {code} {message}", code)
            document = self._kind.one(event.object)
        except (ValueError, RecursionError) as err:
            unreadable = ApiError(f"{what}: unreadable line: {err}")
            unreadable.unreadable = True
            raise unreadable from None
        return event.type, version_in(document), document
