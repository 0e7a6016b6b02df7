"""What stands in the way of reading a collection, said when it begins and when it ends."""

from __future__ import annotations

from collections.abc import Callable


class Trouble:
    """`tell` hears why, and "" when all is well."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._why = ""
        self._of_watch = False  # lists do not end it

    def meet(self, why: str, *, of_watch: bool) -> None:
        """`of_watch`: a watch is what fails, whatever lists say."""
        self._say(why)
        self._of_watch = of_watch

    def answered(self) -> None:
        """The server answers."""
        if not self._of_watch:
            self._say("")

    def proven(self) -> None:
        """A watch says what can be used."""
        if self._of_watch:
            self._of_watch = False
            self._say("")

    def _say(self, why: str) -> None:
        if why != self._why:
            self._why = why
            self._tell(why)
