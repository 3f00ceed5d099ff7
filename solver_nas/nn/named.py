"""Under which name a function of the user's stands in files."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from solver_nas.errors import LayerError

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])

# Searched from the first to the last: functions need not be hashable.
_FUNCTIONS: dict[str, Callable[..., Any]] = {}


@overload
def register(name: str) -> Callable[[F], F]: ...


@overload
def register(name: str, function: F) -> F: ...


def register(name: object, function: F | None = None) -> F | Callable[[F], F]:
    """Give a function a name, so that networks with layers made of it can be saved and loaded.

    Files hold names, never code. The same function has to be registered under the same name where the file
    is loaded. It may have further names: files made with any of them can be loaded, the first one is written.

    Args:
        name: unique in the process; with a prefix of your own (`"mine.swish"`) it stays so.
        function: what to call by that name; without it, a decorator.

    Returns:
        The function itself.

    Raises:
        LayerError: the name belongs to another function.

    >>> @register("docs.double")
    ... def double(a):
    ...     return 2 * a
    >>> register("docs.double", double) is double
    True
    """
    if not isinstance(name, str) or not name:
        raise LayerError(f"register takes a name first, such as 'mine.swish', got {name!r}")
    free: str = name

    def keep(named: F) -> F:
        if not callable(named):
            raise LayerError(f"register: what is called {free!r} has to be a function, got {named!r}")
        if not _same(_FUNCTIONS.setdefault(free, named), named):
            raise LayerError(f"the name {free!r} belongs to {_FUNCTIONS[free]!r}; give {named!r} another one")
        return named

    return keep if function is None else keep(function)


def function_of(name: str) -> Callable[..., Any] | None:
    """The function of that name, if there is one."""
    return _FUNCTIONS.get(name)


def name_of(function: Callable[..., Any]) -> str | None:
    """The first name of a function, if it has one."""
    return next((name for name, known in _FUNCTIONS.items() if _same(known, function)), None)


def _same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    # Python makes a new object each time a method is taken from its owner.
    return one is other or (isinstance(one, MethodType) and isinstance(other, MethodType) and one == other)
