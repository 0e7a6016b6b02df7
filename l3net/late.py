"""Methods of l3net's dataclasses, compiled when they are first used.

`dataclasses` writes the text of six to nine methods for each class and compiles each at the import: half of
the time that importing an agent takes, for hundreds of classes of which a process uses some methods of some.
Here the text waits in the class, and makes place for the very function that `dataclasses` would have made.
This is for classes of l3net alone, and for releases of Python that have the function which is replaced: 3.13
compiles a class's methods together. Elsewhere nothing changes but the time.

Some modules of the standard library import others that they seldom use, and that take longest: `spare` leaves
those out until they are used. The plugin logs nothing as a rule, and `logger` spares it `logging`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from logging import Logger


class Spared(ModuleType):
    """Stands for a module in another that seldom uses it. The real one is imported when it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def spare(module: str, *seldom: str) -> None:
    """Import a module without those that it seldom uses, as `import` names them. What is imported already
    stays as it is, and others who import those that were spared get the real ones."""
    if module in sys.modules:
        return
    spared = {name: Spared(name) for name in seldom if name not in sys.modules}
    sys.modules.update(spared)
    try:
        importlib.import_module(module)
    finally:
        for name, stand_in in spared.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


_before_logging: list[Callable[[], None]] = []


def before_logging(prepare: Callable[[], None]) -> None:
    """Have `prepare` called once, before the first line is logged by a `logger`."""
    _before_logging.append(prepare)


def begin_logging() -> None:
    """What waits for the first line is done now."""
    while _before_logging:
        _before_logging.pop()()


class _Logger:
    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        begin_logging()
        return getattr(importlib.import_module("logging").getLogger(self._name), name)


def logger(name: str) -> Logger:
    """As `logging.getLogger`, in modules of the plugin; `logging` is imported when something is logged."""
    return cast("Logger", _Logger(name))


spare("dataclasses", "inspect", "copy")  # of classes without a docstring, and of asdict()

import dataclasses  # noqa: E402

_create: Callable[..., Any] | None = getattr(dataclasses, "_create_fn", None)
_OURS = "l3net"


class Late:
    """A method that is text yet. The class that has it gets the function in its place at the first look."""

    __slots__ = ("__name__", "_function", "_of")

    def __init__(self, name: str, *of: Any) -> None:
        self.__name__ = name
        self._of: tuple[Any, ...] = of
        self._function: Any = None

    def _made(self) -> Any:
        function = self._function
        if function is None:
            assert _create is not None  # noqa: S101 - for the type checker
            args, body, more = self._of
            function = self._function = _create(self.__name__, args, body, **more)
        return function

    def __get__(self, one: object, kind: type) -> Any:
        function, name = self._made(), self.__name__
        for owner in kind.__mro__:
            if owner.__dict__.get(name) is self:
                function.__qualname__ = f"{owner.__qualname__}.{name}"
                setattr(owner, name, function)
        return function.__get__(one, kind)

    def __call__(self, *args: Any, **more: Any) -> Any:
        """As the function: `dataclasses` wraps a __repr__."""
        return self._made()(*args, **more)


def _later(name: str, args: Any, body: Any, **more: Any) -> Any:
    assert _create is not None  # noqa: S101 - for the type checker
    module = (more.get("globals") or {}).get("__name__", "")
    if module.partition(".")[0] != _OURS:
        return _create(name, args, body, **more)
    return Late(name, args, body, more)


def install() -> None:
    """Before any module of l3net that has a dataclass."""
    if _create is not None:
        dataclasses._create_fn = _later  # type: ignore[attr-defined]
