"""What can go wrong, one class per thing that the caller can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class SolverNasError(Exception):
    """Any error that this library raises on purpose."""


class GraphError(SolverNasError, ValueError):
    """The structure is wrong: an unknown, foreign or repeated vertex, a cycle, a wrong slot."""


class LayerError(SolverNasError, ValueError):
    """A layer's arrays, declared axes or inputs do not fit together."""


class RuleError(SolverNasError, ValueError):
    """A rule cannot say how neurons flow through an operation, or forgot to."""


class BrokenRuleError(SolverNasError):
    """The code of a rule has a mistake: it raised something else than a `RuleError`, or returned no tensor."""


class UtilityError(SolverNasError, ValueError):
    """A utility has the wrong length, or is not a finite number."""


class RequestError(SolverNasError, ValueError):
    """A request makes no sense on its own, whatever the network allows."""


class ImpossibleError(SolverNasError):
    """A request contradicts the network or another request.

    Attributes:
        reasons: the smallest set of relations and requests that conflict, in words.
        nearest: vertex name -> the nearest sizes below and above that would work, ascending.
        limits: the declared limits that take part in the conflict.
        reachable: limit -> how far it would have to give if it alone did; `None` if that does not help.
    """

    def __init__(
        self,
        message: str,
        reasons: tuple[str, ...] = (),
        nearest: Mapping[str, tuple[int, ...]] | None = None,
        limits: tuple[str, ...] = (),
        reachable: Mapping[str, float | None] | None = None,
    ) -> None:
        """Keep the explanation beside its text."""
        super().__init__(message)
        self.reasons = reasons
        self.nearest = dict(nearest or {})
        self.limits = limits
        self.reachable = dict(reachable or {})


class TimeLimitError(SolverNasError, TimeoutError):
    """The time limit passed before any solution was found; ask for more time."""


class PlanError(SolverNasError):
    """A plan does not fit the model that it is applied to, or is inconsistent in itself."""


class StoreError(SolverNasError, ValueError):
    """A network cannot be written to a file, or a file does not hold one.

    The message names the place and the way out: give a function of yours a name, import what registers an
    operation, update the library, or take another copy of a file that is damaged.
    """


class CaptureError(SolverNasError, ValueError):
    """A module's operations cannot be written down; the message names the line, and other ways to the same end."""


class VerificationError(SolverNasError):
    """A changed model does not compute what it should, or cannot be run; the model is what it was.

    The message says what was compared. Where the inputs that were made up do not suit the model, give some.
    """


class TrainingError(SolverNasError, ArithmeticError):
    """The loss is not finite: lower the learning rate, or look at the data."""


class CalibrationError(SolverNasError, ValueError):
    """Samples that do not pass through the model, or of which nothing can be learned: NaN, none at all."""


class ExtraError(SolverNasError, ImportError):
    """A package that only some of the library needs is missing; the message says how to install it."""


class RecordingWarning(UserWarning):
    """Some neurons, or all of them, were not seen while contributions were recorded."""


class RelaxedWarning(UserWarning):
    """An exact request was impossible; the nearest sizes were used instead."""
