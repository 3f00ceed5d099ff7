"""From a request to a plan: pose, solve and draw, step by step through a strategy."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from solver_nas.change import Plan
from solver_nas.errors import GraphError, ImpossibleError, RelaxedWarning, RequestError, TimeLimitError
from solver_nas.explain import Explanation, explain_conflict
from solver_nas.frontend import Handle, owner
from solver_nas.job import Job
from solver_nas.requests import is_whole
from solver_nas.solve import Status
from solver_nas.strategies import LOGGER, NAMED, Attempt, Stop, Strategy, Tell, Wishes, check_seconds
from solver_nas.weights import Initialiser, Initialisers, zeros

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solver_nas.asking import Ask, Worth
    from solver_nas.frontend import Model
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


def strategy_of(
    on_failure: OnFailure, strategy: Strategy | None, words: Sequence[OnFailure] = ("relax", "raise", "keep")
) -> Strategy:
    """The strategy that is meant.

    Args:
        on_failure: the caller's word.
        strategy: the caller's strategy; goes before the word where it says what to try and how to end.
        words: those that make sense for the verb.

    Raises:
        RequestError: neither word nor strategy.
    """
    if str(on_failure) not in words:
        known = f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
        raise RequestError(f"on_failure is {known}, got {on_failure!r}")
    if strategy is None:
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
    made = Plan(ask.model, found.blueprint, found.utilities, int(seed), found.init, found.notes, ask.wanted, ask.limits)
    return made, explanation


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
    initialisers(init, {}, ask.owner)
    pursuit = _Pursuit(ask, utility, time_limit, int(seed), init)
    for step in strategy.steps:
        match step:
            case Attempt():
                found = pursuit.attempt(step)
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


def check_seed(seed: object) -> None:
    """A seed is a whole number from 0 on."""
    if not is_whole(seed) or seed < 0:
        raise RequestError(f"the seed is a whole number from 0 on, got {seed!r}")


def explain_request(ask: Ask, *, time_limit: float, seed: int) -> Explanation:
    """Whether a request is possible; if not, why."""
    check_seconds(time_limit)
    explanation = explain_conflict(
        ask.graph, ask.labels, ask.targets(), limits=ask.limits, insert=ask.insert, time_limit=time_limit, seed=seed
    )
    if explanation:
        # Sizes can fit where the order of neurons does not.
        try:
            Job(ask, ask.worth({}), time_limit, seed, None).draw(ask.targets())
        except ImpossibleError as error:
            return Explanation(possible=False, reasons=(str(error),))
    return explanation


def initialisers(init: InitOf, options: Mapping[str, object], model: Model) -> Initialisers:
    """How new weights are made, by vertex.

    Raises:
        RequestError: it is none of the known words and no function.
        GraphError: it names a vertex that is not of this model.
    """
    if not isinstance(init, Mapping):
        return Initialisers(_initialiser(init, options))
    known = {}
    for handle, one in init.items():
        if not isinstance(handle, Handle):
            raise RequestError(f"init is given for vertices such as net['hidden'], got {handle!r}")
        if owner(handle) is not model:
            raise GraphError(f"init is given for vertex {handle.name!r} of another network")
        known[handle.name] = _initialiser(one, options)
    return Initialisers(None, known)


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


def impossible(explanation: Explanation) -> ImpossibleError:
    """The error that carries an explanation."""
    found = explanation
    return ImpossibleError(str(found), found.reasons, found.nearest, found.limits, found.reachable)


class _Pursuit:
    """The way through a strategy: what was tried, and what came of it."""

    def __init__(self, ask: Ask, utility: Utility | None, time_limit: float, seed: int, init: InitOf) -> None:
        self._ask, self._utility, self._time_limit, self._seed, self._init = ask, utility, time_limit, seed, init
        self._targets = ask.targets()
        self._worths: dict[int, Worth] = {}
        self._tried: list[Target] = []
        self._late: TimeLimitError | None = None
        self._failures = 0
        self._warnings: list[tuple[str, str]] = []
        self.explanation: Explanation | None = None

    def attempt(self, step: Attempt) -> Found | None:
        """The best change, or `None` if this step does not work."""
        utility = self._utility if step.utility is None else step.utility
        # One for all steps with the same utility: callers are asked once.
        worth = self._worths.setdefault(id(utility), self._ask.worth(utility))
        limit = self._time_limit if step.time_limit is None else step.time_limit
        job = Job(self._ask, worth, limit, self._seed, step.most_new)
        self._tried = step.targets(self._targets)
        if self._ask.refusal is not None:
            self._failed(self._ask.refusal)
            return None
        try:
            made = job.draw(self._tried)
        except ImpossibleError as error:
            self._failed(Explanation(possible=False, reasons=(str(error),)))
            return None
        except TimeLimitError as error:
            self._late = error
            self._failed(None)
            return None
        if made is None:
            self._failed(self._limited(step, limit))
            return None
        if made.certificate.status is Status.FEASIBLE and step.on_timeout == "next":
            self._late = TimeLimitError(f"the best solution was not proven within {limit} s")
            self._failed(None)
            return None
        init = initialisers(self._init if step.init is None else step.init, step.options, self._ask.owner)
        return Found(made, worth.seen, init, (*self._note(step), *job.notes))

    def _failed(self, explanation: Explanation | None) -> None:
        """Remember that the latest step did not work, and why if that is known already."""
        self._failures += 1
        self.explanation = explanation

    def _note(self, step: Attempt) -> tuple[str, ...]:
        if not self._failures:
            return ()
        if self._late is not None:
            return (f"an earlier step ran out of time ({self._late})",)
        if step.wishes is Wishes.RELAXED:
            return ("an exact request was impossible and was relaxed",)
        return ("an earlier step of the strategy was impossible",)

    def _limited(self, step: Attempt, limit: float) -> Explanation | None:
        """That new neurons were limited, if nothing else stands in the way."""
        if step.most_new is None:
            return None
        if not Job(self._ask, self._ask.worth({}), limit, self._seed, None).possible(self._tried):
            return None
        text = f"not more than {step.most_new} new neurons may be inserted at any one place"
        wishes = " together with ".join(target.text for target in self._tried)
        return Explanation(possible=False, reasons=(text,), subject=self._ask.subject or wishes)

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
                limits=self._ask.limits,
                insert=self._ask.insert,
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
        return impossible(self.explain())
