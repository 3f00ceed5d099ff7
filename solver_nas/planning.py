"""From a request to a plan: pose, solve and draw, step by step through a strategy."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from solver_nas.change import Plan
from solver_nas.errors import ImpossibleError, RelaxedWarning, RequestError, TimeLimitError
from solver_nas.explain import Explanation, explain_conflict
from solver_nas.frontend import Handle
from solver_nas.job import Job
from solver_nas.solve import TIME_LIMIT, Status
from solver_nas.strategies import LOGGER, NAMED, Attempt, Stop, Strategy, Tell, Wishes
from solver_nas.weights import Initialiser, Initialisers, zeros

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solver_nas.asking import Ask, Worth
    from solver_nas.plan import Blueprint
    from solver_nas.requests import Target
    from solver_nas.strategies import Utility

OnFailure = Literal["relax", "raise", "keep"]
Init = Literal["preserve", "zeros"] | Initialiser
InitOf = Init | Mapping[Handle, Init]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a strategy has led to.

    Args:
        blueprint: the best change.
        utilities: what the neurons that were up for change are worth, by vertex.
        init: how new weights are made.
        notes: what the caller should know.
    """

    blueprint: Blueprint
    utilities: Mapping[str, NDArray[np.float64]]
    init: Initialisers
    notes: tuple[str, ...]


def strategy_of(on_failure: OnFailure, strategy: Strategy | None) -> Strategy:
    """The strategy that is meant.

    Raises:
        RequestError: neither word nor strategy.
    """
    if strategy is None:
        if on_failure not in NAMED:
            raise RequestError(f"on_failure is 'relax', 'raise' or 'keep', got {on_failure!r}")
        return NAMED[on_failure]
    if not isinstance(strategy, Strategy):
        raise RequestError(f"a strategy is made with solver_nas.strategies, got {strategy!r}")
    steps, usual = strategy.steps, NAMED[on_failure].steps
    if not steps:
        # Call-backs alone accompany what would have been done without them.
        return Strategy(usual, strategy.callbacks)
    if not strategy.attempts:
        # What to say, or how to end, comes behind trying what was asked for.
        ends = any(isinstance(step, Stop) for step in steps)
        steps = (usual[0], *steps, *(() if ends else usual[1:]))
    return Strategy(steps, strategy.callbacks)


def make_plan(
    ask: Ask,
    utility: Utility | None,
    strategy: Strategy,
    *,
    time_limit: float,
    seed: int,
    init: InitOf,
) -> tuple[Plan | None, Explanation | None]:
    """The best plan for a request, and why it is not what was asked for, if it is not.

    Args:
        ask: what is asked of which model.
        utility: what neurons are worth.
        strategy: what to try, and what to do if an exact wish is impossible.
        time_limit: for each call of the solver, in seconds.
        seed: for the solver and for new weights.
        init: how new weights are made.

    Returns:
        The plan (`None` where the strategy keeps everything as it is) and the explanation.
    """
    found, explanation = pursue(ask, utility, strategy, time_limit=time_limit, seed=seed, init=init)
    if found is None:
        return None, explanation
    return Plan(ask.model, found.blueprint, found.utilities, int(seed), found.init, found.notes), explanation


def pursue(
    ask: Ask,
    utility: Utility | None,
    strategy: Strategy,
    *,
    time_limit: float,
    seed: int,
    init: InitOf,
    quiet: bool = False,
) -> tuple[Found | None, Explanation | None]:
    """Go through the steps of a strategy until one works; arguments and result as for `make_plan`.

    With `quiet`, nothing is said, explained or raised if none works: there is another way to be tried.

    Raises:
        ImpossibleError: no step works, and none says to keep everything.
        TimeLimitError: likewise, and some step ran out of time.
    """
    check_seconds(time_limit)
    check_seed(seed)
    initialisers(init, {})
    pursuit = _Pursuit(ask, utility, time_limit, int(seed), init)
    for place, step in enumerate(strategy.steps):
        match step:
            case Attempt():
                later = any(isinstance(other, Attempt) for other in strategy.steps[place + 1 :])
                found = pursuit.attempt(step, later=later)
                if found is not None:
                    pursuit.warn("The nearest sizes were used instead.")
                    return found, pursuit.explanation
            case Tell() | Stop() if quiet:
                continue
            case Tell():
                pursuit.tell(step)
            case Stop(keep=True):
                pursuit.warn("Nothing was changed.")
                return None, pursuit.explain()
            case Stop():
                break
    if quiet:
        return None, None
    raise pursuit.failure()


def check_seconds(value: object) -> None:
    """A time limit is a positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise RequestError(f"the time limit is a positive number of seconds, got {value!r}")


def check_seed(seed: object) -> None:
    """A seed is a whole number from 0 on."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise RequestError(f"the seed is a whole number from 0 on, got {seed!r}")


def explain_request(ask: Ask, *, seed: int) -> Explanation:
    """Whether a request is possible; if not, why."""
    explanation = explain_conflict(ask.graph, ask.labels, ask.targets(), seed=seed)
    if explanation:
        # Sizes can fit where the order of neurons does not.
        try:
            Job(ask, ask.worth({}), TIME_LIMIT, seed, None).draw(ask.targets())
        except ImpossibleError as error:
            return Explanation(possible=False, reasons=(str(error),))
    return explanation


def initialisers(init: InitOf, options: Mapping[str, object]) -> Initialisers:
    """How new weights are made, by vertex.

    Raises:
        RequestError: it is none of the known words and no function.
    """
    if isinstance(init, Mapping):
        known = {handle.name: _initialiser(one, options) for handle, one in init.items()}
        return Initialisers(None, known)
    return Initialisers(_initialiser(init, options))


def _initialiser(init: Init, options: Mapping[str, object]) -> Initialiser | None:
    if callable(init):
        if not options:
            return init
        made = init
        return lambda rng, shape, spread: made(rng, shape, spread, **options)
    if options:
        raise RequestError(f"options are passed on to a function that makes new weights, but init is {init!r}")
    if init == "preserve":
        return None
    if init == "zeros":
        return zeros
    raise RequestError(f"init is 'preserve', 'zeros', a callable, or a mapping from vertices to these, got {init!r}")


def _stacklevel() -> int:
    """How far above the caller of this function the first line outside of this package stands."""
    package = str(Path(__file__).parent)
    frame, level = sys._getframe(1), 1  # noqa: SLF001 - `warnings` can skip files itself from Python 3.12 on
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level


class _Pursuit:
    """The way through a strategy: what was tried, and what came of it."""

    def __init__(self, ask: Ask, utility: Utility | None, time_limit: float, seed: int, init: InitOf) -> None:
        self._ask, self._utility, self._time_limit, self._seed, self._init = ask, utility, time_limit, seed, init
        self._targets = ask.targets()
        self._worths: dict[int, Worth] = {}
        self._tried: list[Target] = []
        self._late: TimeLimitError | None = None
        self._notes: list[str] = []
        self._warnings: list[tuple[str, str]] = []
        self.explanation: Explanation | None = None

    def attempt(self, step: Attempt, *, later: bool) -> Found | None:
        """The best change, or `None` if this step does not work."""
        utility = self._utility if step.utility is None else step.utility
        # One for all steps with the same utility: callers are asked once.
        worth = self._worths.setdefault(id(utility), self._ask.worth(utility))
        limit = self._time_limit if step.time_limit is None else step.time_limit
        job = Job(self._ask, worth, limit, self._seed, step.most_new)
        again, self._tried = bool(self._tried), step.targets(self._targets)
        if self._ask.refusal is not None:
            self.explanation = self._ask.refusal
            return None
        try:
            made = job.draw(self._tried)
        except ImpossibleError as error:
            if self.explanation is None:
                self.explanation = Explanation(possible=False, reasons=(str(error),))
            return None
        except TimeLimitError as error:
            self._late = error
            return None
        if made is None:
            if step.most_new is not None and self.explanation is None:
                unlimited = Job(self._ask, self._ask.worth({}), limit, self._seed, None).possible(self._tried)
                if unlimited:
                    text = f"not more than {step.most_new} new neurons may be inserted at any one place"
                    self.explanation = Explanation(possible=False, reasons=(text,))
            return None
        if made.certificate.status is Status.FEASIBLE and step.on_timeout == "next" and later:
            self._late = TimeLimitError(f"the best solution was not proven within {limit} s")
            return None
        if again:
            relaxed = step.wishes is Wishes.RELAXED
            was = "an exact request was impossible and was relaxed" if relaxed else "an earlier step did not work"
            self._notes.append(was)
        init = initialisers(self._init if step.init is None else step.init, step.options)
        return Found(made, worth.seen, init, (*self._notes, *job.notes))

    def explain(self) -> Explanation:
        """Why the latest attempt did not work."""
        if self.explanation is None and self._late is not None:
            # Not kept: that there was no time says nothing about what is possible.
            return Explanation(False, reasons=(str(self._late),), subject="Within the time limit this")
        if self.explanation is None:
            self.explanation = explain_conflict(
                self._ask.graph,
                self._ask.labels,
                self._tried,
                known_impossible=True,
                subject=self._ask.subject,
                time_limit=min(self._time_limit, 10.0),
                seed=self._seed,
            )
        return self.explanation

    def tell(self, step: Tell) -> None:
        """Log at once; warn when it is known how the story ends."""
        if step.level is None:
            self._warnings.append((str(self.explain()), step.text))
        elif LOGGER.isEnabledFor(step.level):
            LOGGER.log(step.level, "%s%s", f"{step.text}\n" if step.text else "", self.explain())

    def warn(self, ending: str) -> None:
        """Give the warnings that are due, with what has come of it."""
        for explanation, text in self._warnings:
            warnings.warn(RelaxedWarning(f"{explanation}\n{text or ending}"), stacklevel=_stacklevel())

    def failure(self) -> Exception:
        """The error of a strategy that has come to its end."""
        if self.explanation is None and self._late is not None:
            return self._late
        explanation = self.explain()
        return ImpossibleError(str(explanation), explanation.reasons, explanation.nearest)
