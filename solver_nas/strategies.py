"""What to do when a request cannot be met as it was asked for: steps that are tried one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from solver_nas.errors import RequestError
from solver_nas.requests import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Strategy", "after", "exact", "fail", "keep", "log", "log_changes", "mixed", "relaxed", "validate", "warn"]

LOGGER = logging.getLogger("solver_nas")

Utility = Callable[[Any], object] | Mapping[Any, object]
#: Called with the `Change` that has just been made, inside its transaction: an exception takes it back.
Callback = Callable[[Any], object]


class Wishes(Enum):
    """How seriously an attempt takes what was asked for."""

    MIXED = "as asked"
    EXACT = "every wish exactly"
    RELAXED = "every wish as nearly as possible"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of the solver; what is `None` is taken from the request."""

    wishes: Wishes
    utility: Utility | None = None
    time_limit: float | None = None
    on_timeout: Literal["use", "next"] = "use"
    most_new: int | None = None
    init: Any = None
    options: Mapping[str, object] = field(default_factory=dict)

    def targets(self, targets: Sequence[Target]) -> list[Target]:
        """The wishes as this attempt takes them."""
        match self.wishes:
            case Wishes.MIXED:
                return list(targets)
            case Wishes.EXACT:
                return [target.tightened() for target in targets]
            case Wishes.RELAXED:
                return [target.loosened() for target in targets]


@dataclass(frozen=True, slots=True)
class Tell:
    """Say why what came before did not work: as a warning (`level` is `None`), or to the log."""

    level: int | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Give up: with an error, or by leaving everything as it is."""

    keep: bool


Step = Attempt | Tell | Stop


@dataclass(frozen=True, slots=True)
class Strategy:
    """Steps that are tried one after the other until one works; made by the functions of this module.

    Args:
        steps: attempts, messages and, at the end, what to do if nothing works.
        callbacks: called with the `Change` once it is made; an exception in one takes the change back.

    >>> patient = mixed(time_limit=2.0, on_timeout="next").then(log("info")).then(relaxed()).then(keep())
    >>> len(patient.steps)
    4
    """

    steps: tuple[Step, ...] = ()
    callbacks: tuple[Callback, ...] = ()

    def __post_init__(self) -> None:
        """Check that these are steps."""
        steps: tuple[object, ...] = self.steps
        wrong = [step for step in steps if not isinstance(step, Attempt | Tell | Stop)]
        if wrong:
            raise RequestError(f"the steps of a strategy are made with solver_nas.strategies, got {wrong[0]!r}")

    def then(self, other: Strategy) -> Strategy:
        """This strategy, and if it does not work, another one; the call-backs of both."""
        if not isinstance(other, Strategy):
            raise RequestError(f"a strategy is followed by a strategy, such as strategies.keep(), got {other!r}")
        return Strategy(self.steps + other.steps, self.callbacks + other.callbacks)

    def after(self, callback: Callback) -> Strategy:
        """The same strategy with one more call-back."""
        if not callable(callback):
            raise RequestError(f"a call-back is a function of a Change, got {callback!r}")
        return replace(self, callbacks=(*self.callbacks, callback))

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The calls of the solver."""
        return tuple(step for step in self.steps if isinstance(step, Attempt))


def _attempt(
    wishes: Wishes,
    utility: Utility | None,
    time_limit: float | None,
    on_timeout: Literal["use", "next"],
    most_new: int | None,
    init: Any,
    options: Mapping[str, object] | None,
) -> Strategy:
    if on_timeout not in ("use", "next"):
        raise RequestError(f"on_timeout is 'use' (the best that was found) or 'next' (step), got {on_timeout!r}")
    if time_limit is not None:
        check_seconds(time_limit)
    _check_number(most_new)
    if options is not None and not isinstance(options, Mapping):
        raise RequestError(f"options are keyword arguments for init, such as {{'gain': 0.1}}, got {options!r}")
    return Strategy((Attempt(wishes, utility, time_limit, on_timeout, most_new, init, dict(options or {})),))


def check_seconds(value: object) -> None:
    """A time limit is a positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) > 0:
        raise RequestError(f"the time limit is a positive number of seconds, got {value!r}")


def _check_number(most_new: object) -> None:
    if most_new is not None and (isinstance(most_new, bool) or not isinstance(most_new, int) or most_new < 0):
        raise RequestError(f"most_new is a whole number of neurons from 0 on, got {most_new!r}")


def mixed(
    *,
    utility: Utility | None = None,
    time_limit: float | None = None,
    on_timeout: Literal["use", "next"] = "use",
    most_new: int | None = None,
    init: Any = None,
    options: Mapping[str, object] | None = None,
) -> Strategy:
    """Try what was asked for: exact wishes exactly, relaxed ones as nearly as possible.

    Args:
        utility: for this step alone; by default that of the call.
        time_limit: for this step alone, in seconds.
        on_timeout: what to do with a solution that is not proven when the time is up: `"use"` it, or go on
            with the `"next"` step.
        most_new: upper bound of new neurons at any one place (those that come and go together are one).
        init: how new weights are made in this step; by default as the call says.
        options: keyword arguments that are passed on to `init`.
    """
    return _attempt(Wishes.MIXED, utility, time_limit, on_timeout, most_new, init, options)


def exact(
    *,
    utility: Utility | None = None,
    time_limit: float | None = None,
    on_timeout: Literal["use", "next"] = "use",
    most_new: int | None = None,
    init: Any = None,
    options: Mapping[str, object] | None = None,
) -> Strategy:
    """Try to meet every wish exactly, relaxed ones too; arguments as for `mixed`."""
    return _attempt(Wishes.EXACT, utility, time_limit, on_timeout, most_new, init, options)


def relaxed(
    *,
    utility: Utility | None = None,
    time_limit: float | None = None,
    on_timeout: Literal["use", "next"] = "use",
    most_new: int | None = None,
    init: Any = None,
    options: Mapping[str, object] | None = None,
) -> Strategy:
    """Try to meet every wish as nearly as possible; arguments as for `mixed`."""
    return _attempt(Wishes.RELAXED, utility, time_limit, on_timeout, most_new, init, options)


def fail() -> Strategy:
    """Raise `ImpossibleError` with the explanation. So does a strategy that ends without this."""
    return Strategy((Stop(keep=False),))


def keep() -> Strategy:
    """Leave everything as it is; the verb returns a false `Change` with the explanation."""
    return Strategy((Stop(keep=True),))


def warn(text: str = "") -> Strategy:
    """Give a `RelaxedWarning` with the explanation, and go on."""
    return Strategy((Tell(None, text),))


def log(level: int | str = logging.WARNING, text: str = "") -> Strategy:
    """Log the explanation with the logger `solver_nas`, and go on.

    Args:
        level: of the `logging` module, as a number or a name such as `"info"`.
        text: stands before the explanation.
    """
    return Strategy((Tell(_level(level), text),))


def _level(level: int | str) -> int:
    known = logging.getLevelNamesMapping()
    found = known.get(level.upper()) if isinstance(level, str) else level
    if not isinstance(found, int) or isinstance(found, bool):
        raise RequestError(f"a log level is a number or one of {', '.join(map(str.lower, known))}, got {level!r}")
    return found


def after(callback: Callback) -> Strategy:
    """Only a call-back, to be put behind other steps with `then`."""
    return Strategy().after(callback)


def log_changes(level: int | str = logging.INFO) -> Strategy:
    """A call-back that logs what was changed."""
    found = _level(level)
    return after(lambda change: LOGGER.log(found, "%s", change))


def validate(check: Callable[[Any], object]) -> Strategy:
    """A call-back that looks at the changed model; the change is taken back if it raises or returns something false.

    A check that returns `None` says nothing against the change.

    Args:
        check: called with the model.
    """
    if not callable(check):
        raise RequestError(f"a check is a function of the changed model, got {check!r}")

    def callback(change: Any) -> None:
        answer = check(change.model)
        if answer is not None and not answer:
            raise RequestError("the changed model did not pass the check of the strategy and was taken back")

    return after(callback)


#: The strategies behind the words of `on_failure`.
NAMED: Mapping[str, Strategy] = {
    "relax": mixed().then(warn()).then(relaxed()).then(fail()),
    "raise": mixed().then(fail()),
    "keep": mixed().then(keep()),
}
