"""Several smaller changes instead of one: after each, it is looked again what neurons are worth."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.change import Change
from solver_nas.errors import RequestError
from solver_nas.limits import View, listed
from solver_nas.progress import progress as show_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solver_nas.change import Plan
    from solver_nas.editable import Editable
    from solver_nas.limits import Limit, Limits


def in_rounds(
    model: Editable,
    limits: Limits,
    once: Callable[[list[Limit]], Plan | None],
    *,
    rounds: int,
    metric: Callable[[Editable], float] | None,
    tolerance: float,
    callbacks: Sequence[Callable[[Change], object]],
    progress: bool | None,
) -> Change:
    """Come to limits by equal factors, round by round.

    Args:
        model: it is changed; an exception takes everything back.
        limits: at the end.
        once: the plan for one round's limits; `None` if they cannot be kept, and the network is to be kept then.
        rounds: how many.
        metric: how good the model is; higher is better.
        tolerance: how much of that may be lost: the round that loses more is taken back, and it is the last.
        callbacks: told of every round that was made; an exception in one of them takes everything back.
        progress: whether to show a bar; by default on a terminal if it takes long.

    Returns:
        The change of all rounds that were kept; its explanation says if there should have been more.
    """
    view = View.of(model)
    stages = [
        [one for limit in listed(limits) for one in limit.stage(view, Fraction(number, rounds))]
        for number in range(1, rounds + 1)
    ]
    made: list[Plan] = []
    told = ""
    with model.transaction():
        before = score(metric, model)
        with show_progress("rounds", rounds, show=progress) as advance:
            for number, stage in enumerate(stages, 1):
                try:
                    with model.transaction():
                        plan = once(stage)
                        if plan is None:
                            told = f"round {number} of {rounds}: its limits cannot be kept"
                            break
                        plan.apply()
                        now = score(metric, model)
                        if before is not None and now is not None and not now >= before - tolerance:
                            raise _TooMuchError(
                                f"round {number} of {rounds} was taken back: the metric fell from {before:.6g} to "
                                f"{now:.6g}, more than {tolerance:.6g}"
                            )
                        for callback in callbacks:
                            callback(Change(model, plan))
                        made.append(plan)
                except _TooMuchError as error:
                    told = str(error)
                    break
                advance()
    return Change(model, made[-1] if made else None, told, tuple(made))


class _TooMuchError(Exception):
    """A round has lost too much; takes it back."""


def score(metric: Callable[[Editable], float] | None, model: Editable) -> float | None:
    """How good the model is, if anybody asks.

    Raises:
        RequestError: the metric says something that is no number.
    """
    if metric is None:
        return None
    if not callable(metric):
        raise RequestError(f"a metric is a function of the model that returns a number, got {metric!r}")
    found = metric(model)
    try:
        value = float(found)
    except (TypeError, ValueError) as error:
        raise RequestError(f"a metric is a function of the model that returns a number, got {found!r}") from error
    if np.isnan(value):
        raise RequestError("the metric is NaN")
    return value
