"""Lists one collection and follows its changes, for ever: list in pages, watch, resume, list again.

What is known is compared with what a list says, so that a list after 410 Gone, after an outage or of another
scope yields the differences and nothing else. An object that means the same as before (a Node's heartbeat)
is no change. A server that is away changes nothing: attempts go on, ever more seldom, and no two agents in
step.

A watch is not believed for ever. Where the server's store was put back to an older snapshot, its versions go
back, and a watch from a version that is still to come hears nothing, or the half of it. So everything is
listed again when a version goes back (of a bookmark, an event, a list, or the answer to a write), when a
watch was silent for longer than its bookmarks, and now and then anyway. After a connection broke, as it does
when an API server is started anew, one of a process' reflectors asks for the version at once. Who could not
ask for long may find versions that have grown past what it knew: it lists before long.

A list that succeeds proves nothing of the watch that follows: attempts grow rarer until a watch has lived for
a while. A server or proxy whose every watch is refused with 410, unreadable, or of older versions than its
lists would otherwise be asked for all there is hundreds of times a second.
"""

from __future__ import annotations

import logging
import threading
from typing import Final, Protocol

from l3net.kube.registry import KINDS as DECLARED
from l3net.model import ObjectName
from l3net.ports import View
from l3net.shell.kubernetes.absence import Absence
from l3net.shell.kubernetes.api import ApiError, KubeApi, WatchLines
from l3net.shell.kubernetes.collection import Collection
from l3net.shell.kubernetes.freshness import Freshness
from l3net.shell.kubernetes.kinds import KubeKind, name_of, version_in
from l3net.shell.kubernetes.known import Hearer, KnownObjects
from l3net.shell.kubernetes.pacing import Pacing
from l3net.shell.kubernetes.selection import NOTHING, Scope, Selection
from l3net.shell.kubernetes.troubles import Trouble
from l3net.shell.kubernetes.versions import behind
from l3net.shell.threads import Started

log = logging.getLogger("l3net.kube")

#: The first and the longest wait between two attempts, in seconds; each is drawn from its upper half.
BACKOFF: Final = (0.5, 10.0)
LONGEST_RETRY_AFTER: Final = 60.0
#: A watch that lived this long (seconds) was none that failed.
SHORT_WATCH: Final = 5.0
#: Seconds between two lists of a kind although its watch runs well, drawn from this range; longer where there
#: are many objects (`freshness.OFTEN`).
RELIST: Final = (2400.0, 4800.0)


class Listener(Hearer, Protocol):
    """Where a reflector reports. Called from the reflector's thread."""

    def listed(self, reflector: Reflector) -> None:
        """Everything that there is has been delivered."""
        ...

    def trouble(self, reflector: Reflector, why: str) -> None:
        """What stands between us and the API server; empty: nothing any more."""
        ...

    def rewound(self, reflector: Reflector) -> None:
        """The server's versions went back: nothing that was read of it before can be relied on."""
        ...


class Reflector:
    """One collection, or what `only` selects of it. `by_name`: the one object is read by get and watch,
    without the right to list (secrets)."""

    def __init__(
        self,
        api: KubeApi,
        kind: KubeKind,
        listener: Listener,
        *,
        only: Selection = None,
        by_name: bool = False,
        backoff: tuple[float, float] = BACKOFF,
        relist: tuple[float, float] = RELIST,
    ) -> None:
        self._api, self.kind, self._listener = api, kind, listener
        self._scope, self._by_name = Scope(only), by_name
        self._pacing = Pacing(*backoff, api.threads.random)
        self._collection = Collection(api, kind, by_name=by_name)
        self._objects = KnownObjects(kind, listener)
        self._trouble = Trouble(lambda why: listener.trouble(self, why))
        self._version = ""  # to watch from; empty: list first
        self._highest = ""  # the latest version heard of
        self._distrusted = False  # versions went back: one that is known may stand for another content now
        self._fresh = Freshness(relist, api.threads)
        self._asked = False  # to list again
        self._lock = threading.Lock()
        self._monotonic = api.threads.monotonic
        self._stopped, self._woken = api.threads.event(), api.threads.event()
        self._watch: WatchLines | None = None
        self._absence = Absence(DECLARED[kind.kind], api.threads.random)
        self._broken = False  # a connection, since the last watch
        self._forbidden = False
        self._thread: Started | None = None

    @property
    def complete(self) -> bool:
        """Whether everything in scope has been delivered at least once."""
        return self._scope.known is not None

    @property
    def known(self) -> int | None:
        """Which scope, by its number, that is; None: not all of it is delivered."""
        return self._scope.known

    @property
    def forbidden(self) -> bool:
        """Whether the API server said that we may not read it."""
        return self._forbidden

    @property
    def only(self) -> Selection:
        return self._scope.only

    def view(self) -> View:
        """How old what we know is."""
        return self._fresh.view()

    def start(self) -> None:
        self._thread = self._api.threads.start(self._run, f"watch-{self.kind.plural}")

    def stop(self) -> None:
        """Returns at once; the thread ends soon after."""
        self._stopped.set()
        self._interrupt()

    def join(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def narrow(self, only: Selection) -> None:
        """Change the scope. What leaves it is reported as gone."""
        with self._lock:
            changed = self._scope.change(only)
        if changed:
            self._interrupt()

    def distrust(self) -> None:
        """Versions went back, or a view proved stale: list everything, soon, and compare all of it."""
        with self._lock:
            self._asked = True
        self._interrupt()

    def _interrupt(self) -> None:
        with self._lock:
            self._woken.set()
            if self._watch is not None:
                self._watch.interrupt()

    # --- the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        watched_scope = -1
        while not self._stopped.is_set():
            with self._lock:
                scope, asked = self._scope.number, self._asked
                self._asked = False
                self._woken.clear()
            if self._stopped.is_set():
                return
            if scope != watched_scope:
                self._version, watched_scope = "", scope
            if asked:
                self._version = self._highest = ""
                self._distrusted = True
                if self._stopped.wait(self._pacing.spread()):
                    return
                with self._lock:  # whoever asked meanwhile is answered by this list, too
                    self._asked = False
                    self._woken.clear()
            try:
                if self.only is NOTHING:
                    self._nothing(scope)
                    self._woken.wait()
                    continue
                if not self._version or self._by_name:
                    self._read(scope)
                elif self._fresh.due:
                    self._read(scope, cached=True)
                elif self._broken and self._api.versions.check_due(self._monotonic()):
                    self._check_store()
                self._broken = False
                began = self._monotonic()
                self._follow(scope)
                short = self._monotonic() - began < SHORT_WATCH
                self._pause(self._pacing.delay() if short else 0.0)
            except ApiError as err:
                self._broken = not err.code
                if self._broken:
                    self._fresh.broke()
                if err.silent:  # for longer than bookmarks are apart: not to be believed without a look
                    self._fresh.doubted()
                if err.unreadable:
                    self._version = ""  # from there the same line would come again
                if not self._woken.is_set():
                    self._failed(err, scope)
            except _RewoundError:
                log.warning("%s: the API server's versions went back; listing everything", self.kind.plural)
                self._listener.rewound(self)
                self.distrust()
            except Exception as err:  # a thread that ends unheard would leave this node behind for ever
                log.exception("watch %s", self.kind.plural)
                self._version = ""
                self._failed(ApiError(f"watch {self.kind.plural}: {type(err).__name__}"), scope)

    def _failed(self, err: ApiError, scope: int) -> None:
        absent = self._absence.met(err, self._monotonic(), held=bool(self._objects.names()))
        if absent is not None:
            self._nothing(scope)
            self._pause(absent)
            return
        self._forbidden = err.code == 403
        of_watch = err.unreadable
        if err.gone:
            # An answer, and no failure; but a list may be refused so as well, or the watch that follows one.
            recent = self._fresh.listed_within(self._pacing.longest)
            of_watch, self._version = bool(self._version), ""
            if of_watch and not recent:
                self._pacing.failures = 0
                return
        elif err.code and self._pacing.refused():
            self._version = ""
        wait = max(self._pacing.delay(), min(err.retry_after, LONGEST_RETRY_AFTER))
        # A connection that broke once is no news, nor is a version that is too old after an outage.
        if self._pacing.failures > (4 if err.gone else 1) or err.code in (401, 403, 404):
            self._trouble.meet(_explained(err, self.kind), of_watch=of_watch)
        self._pause(wait)

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._woken.wait(seconds)

    def _well(self) -> None:
        """The server answers."""
        self._pacing.answered()
        self._forbidden = False
        self._trouble.answered()

    # --- list --------------------------------------------------------------------------------------------

    def _read(self, scope: int, *, cached: bool = False) -> None:
        """`cached`: what the server has at hand will do, if it is not older than what we know."""
        if self._by_name:
            self._get()
        elif not cached or not self._list(cached=True):
            self._list()
        self._absence.over()
        self._delivered(scope)

    def _nothing(self, scope: int) -> None:
        """There is nothing to be read."""
        self._version = self._highest = ""
        self._objects.forget(set(self._objects.names()))
        self._delivered(scope)
        self._trouble.proven()

    def _delivered(self, scope: int) -> None:
        self._distrusted = False
        self._fresh.listed(len(self._objects.names()))
        self._well()
        self._scope.listed(scope)
        self._listener.listed(self)

    def _get(self) -> None:
        assert isinstance(self.only, ObjectName)  # noqa: S101 - for the type checker
        document = self._collection.get(self.only)
        if document is None:
            self._version = ""
            self._objects.forget(set(self._objects.names()))
            return
        self._version = version_in(document)
        self._objects.tell([document], distrusted=self._distrusted)

    def _list(self, *, cached: bool = False) -> bool:
        """List everything and take the differences. False: what was cached is too old, nothing was taken."""
        seen: set[ObjectName] = set()
        only, following = self.only, ""
        while True:
            version, following, documents = self._collection.page(only, following, cached=cached)
            if behind(version, self._highest):
                if cached:
                    return False
                # Read from the store itself, which is consistent: it has gone back.
                self._highest, self._distrusted = "", True
                self._listener.rewound(self)
            seen.update(filter(None, (name_of(document) for document in documents)))
            self._objects.tell(documents, distrusted=self._distrusted)
            if not following or self._stopped.is_set():
                break
        if not self._stopped.is_set():
            self._objects.forget(self._objects.names() - seen)
            self._version = self._highest = version
            self._api.versions.listed(self.kind.path, version)
        return True

    def _check_store(self) -> None:
        """Ask the store itself, by a list of one, where it stands. Raises _RewoundError."""
        path, known = self._api.versions.furthest()
        if not path:
            path, known = self.kind.path, self._highest
        if behind(self._collection.version_in_store(path), known):
            raise _RewoundError

    # --- watch -------------------------------------------------------------------------------------------

    def _follow(self, scope: int) -> None:
        watch = self._collection.watch(self.only, self._version)
        with self._lock:
            self._watch = watch
            if self._stopped.is_set() or scope != self._scope.number or self._asked:
                watch.interrupt()
        self._well()
        began = self._monotonic()
        self._fresh.resumed()
        try:
            for line in watch:
                self._line(line)
                if self._stopped.is_set() or scope != self._scope.number or self._asked:
                    return
        finally:
            with self._lock:
                self._watch = None
            if self._monotonic() - began > SHORT_WATCH:
                self._pacing.lived()

    def _line(self, line: bytes) -> None:
        self._fresh.heard()
        type_, version, document = self._collection.change(line)
        if document is None:
            self._fresh.bookmarked()
            self._advance(version)
            self._trouble.proven()
            return
        if self._version:
            self._check(version)
        if type_ == "DELETED":
            name = name_of(document)
            if name is not None:
                self._objects.forget({name})
        else:
            self._objects.tell([document], distrusted=self._distrusted)
        # Last: what could not be delivered is asked for again.
        self._advance(version)
        self._trouble.proven()

    def _check(self, version: str) -> None:
        """Raises _RewoundError for a version from before what was heard."""
        if behind(version, self._version):
            raise _RewoundError

    def _advance(self, version: str) -> None:
        if not version:
            return
        if self._version:  # else the watch begins with what there is, in any order
            self._check(version)
            self._version = version
        if not behind(version, self._highest):
            self._highest = version
            heard = self._api.versions.heard if self._by_name else self._api.versions.listed
            heard(self.kind.path, version)


class _RewoundError(Exception):
    """A version is lower than one heard before."""


def _explained(err: ApiError, kind: KubeKind) -> str:
    """What to do about it."""
    if err.code == 404 and DECLARED[kind.kind].ours:
        return f"{err}; {kind.plural} are not known to the API server: apply l3net's CRDs"
    if err.code == 403:
        return f"{err}; grant get, list and watch on {kind.plural} to l3net's service account"
    if err.code == 401:
        return f"{err}; the token or certificate is not accepted"
    return str(err)
