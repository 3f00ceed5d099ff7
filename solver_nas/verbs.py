"""What a verb is: a function that does something to a network, with a plan that says beforehand what it would do."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Generic, ParamSpec, Protocol, TypeVar, cast

from solver_nas.change import Change, Planned, carry_out
from solver_nas.errors import RelaxedWarning, RequestError
from solver_nas.planning import impossible

if TYPE_CHECKING:
    from solver_nas.explain import Explanation
    from solver_nas.frontend import Model
    from solver_nas.strategies import Callback

P = ParamSpec("P")
T = TypeVar("T", bound=Planned)
T_co = TypeVar("T_co", bound=Planned, covariant=True)


class Outcome(Generic[T]):
    """What working out a change has come to."""

    def __init__(
        self,
        model: Model,
        made: tuple[T | None, Explanation | None],
        callbacks: tuple[Callback, ...] = (),
        *,
        steps: Callable[[], Change] | None = None,
    ) -> None:
        """Keep what the verb has found.

        Args:
            model: what changes.
            made: the plan, and why it is not what was asked for.
            callbacks: told of the change.
            steps: carries out what has no plan beforehand, since each step depends on those before it.
        """
        self.model, (self.plan, self.explanation), self.callbacks = model, made, callbacks
        self.steps = steps


class Verb(Protocol[P, T_co]):
    """A verb: call it to do it, call its `plan` to see first what it would do."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Change:
        """Make the change: all of it, or nothing."""

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """A dry run: the plan for the change; nothing is changed until `plan.apply()`."""


def verb(planned: type[T]) -> Callable[[Callable[P, Outcome[T]]], Verb[P, T]]:
    """Make a verb of a function that works a change out; help and signature are those of the function.

    Args:
        planned: what its plans are.
    """

    def decorate(work_out: Callable[P, Outcome[T]]) -> Verb[P, T]:
        @wraps(work_out)
        def do(*args: P.args, **kwargs: P.kwargs) -> Change:
            made = work_out(*args, **kwargs)
            if made.steps is not None:
                return made.steps()
            warning = getattr(made.plan, "warning", "")
            if warning:
                warnings.warn(RelaxedWarning(warning), stacklevel=2)
            return carry_out(made.model, made.plan, made.explanation, made.callbacks)

        @wraps(work_out)
        def plan(*args: P.args, **kwargs: P.kwargs) -> T:
            made = work_out(*args, **kwargs)
            if made.steps is not None:
                raise RequestError(
                    "rounds with a metric cannot be planned, nor several rounds: each depends on what the one before "
                    "it has made"
                )
            if made.plan is None:
                assert made.explanation is not None, "keeping everything is explained"
                raise impossible(made.explanation)
            return made.plan

        # What is returned is shown as it is, not as what both are made from.
        for function, answer in ((do, Change), (plan, planned)):
            shown = inspect.signature(work_out).replace(return_annotation=answer)
            setattr(function, "__signature__", shown)  # noqa: B010 - `inspect` reads it, no type knows it
        do.plan = plan  # type: ignore[attr-defined]  # a function with a second way of calling it
        return cast("Verb[P, T]", do)

    return decorate
