"""Fit a whole network into limits: narrower as far as a budget asks for it, wider as far as it allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.asking import Ask, Worth
from solver_nas.calibrate import Calibration, calibrate
from solver_nas.change import Plan
from solver_nas.editable import Editable
from solver_nas.errors import RequestError
from solver_nas.frontend import Handle, Model, untraced
from solver_nas.limits import listed
from solver_nas.limits.neurons import held_outputs
from solver_nas.limits.sizes import kept_whole
from solver_nas.normalise import check_normalisation, normalised
from solver_nas.planning import make_plan, strategy_of
from solver_nas.reconstruction import reconstruction
from solver_nas.requests import is_whole
from solver_nas.rounds import in_rounds
from solver_nas.sensitivity import measured
from solver_nas.solve import GAP, TIME_LIMIT
from solver_nas.utilities import contribution, deviation_times_outgoing
from solver_nas.verbs import Outcome, verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from solver_nas.change import Change
    from solver_nas.explain import Explanation
    from solver_nas.frontend import Handle
    from solver_nas.limits import Limits
    from solver_nas.normalise import Normalisation
    from solver_nas.planning import InitOf, OnFailure
    from solver_nas.strategies import Strategy, Utility

_GROWTH = 3  # times its size: how many new neurons of a vertex are worth anything by default


@verb(Plan)
def shrink(
    model: Model,
    limits: Limits,
    *,
    data: object = None,
    utility: Utility | None = None,
    normalise: Normalisation = "none",
    compensate: bool = True,
    rounds: int = 1,
    metric: Callable[[Any], float] | None = None,
    tolerance: float = 0.0,
    keep_outputs: bool = True,
    on_failure: OnFailure = "raise",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    gap: float = GAP,
    seed: int = 0,
    progress: bool | None = None,
) -> Outcome[Plan]:
    """Make a network fit into limits by removing the neurons that are worth least, wherever they are.

    How many neurons each layer loses is part of the answer, and so is a bound: `plan.certificate` says how much more
    utility could be kept at most.

    With samples (`data`), the network keeps what it computes as far as that can be done without training: what neurons
    are worth is measured (`measured(calibration)`), and the weights that remain are refitted (`plan.compensate`). Use
    samples that the network is not judged by afterwards. `plan.compensation.error` says how far its outputs are off.

    Args:
        model: the network.
        limits: such as `[params(net) <= 0.5 * now, multiple_of(8)]`; see `solver_nas.limits`.
        data: samples, as for `calibrate`, or what it has returned.
        utility: what neurons are worth; as for `delta_nout`. Neurons of different layers are weighed against each
            other, so that its scale matters: see `normalise`.
        normalise: puts the utilities of every vertex on one scale first: `"none"`, `"mean"`, `"sum"`, `"l2"`,
            `"gaussian"`, `"rank"`; see `solver_nas.normalise`.
        compensate: whether weights are refitted if there are samples.
        rounds: in how many steps, each by the same factor, with utilities measured anew in between. Several rounds are
            one step for `undo`; `change.rounds` has their plans, each compared with the network before it, and there is
            no `shrink.plan` for them.
        metric: a function of the model that says how good it is, higher being better: a round after which it is worse
            by more than `tolerance` is taken back, and is the last one. Use other samples than `data` in it.
        tolerance: how much of the metric may be lost.
        keep_outputs: whether what the network returns keeps all of its neurons.
        on_failure: if the limits cannot be kept, `"raise"` an error that says why, or `"keep"` the network.
        strategy: as for `delta_nout`.
        time_limit: for the solver, in seconds.
        gap: search ends when the selection is proven to be so close to the best one, as a fraction of the utility; 0
            to go on until it is proven best, or the time is up.
        seed: as for `delta_nout`.
        progress: whether to show bars while samples pass; by default on a terminal if it takes long.

    Returns:
        A `Change`; `shrink.plan(...)` gives the plan and changes nothing.

    Raises:
        ImpossibleError: the limits cannot be kept together; the message says which, and what could be reached.
        TimeLimitError: no selection was found in time.
        CalibrationError: samples that the network does not take.

    >>> from solver_nas import Network, limits, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 8), 32, name="hidden")
    >>> net.output(nn.dense(hidden, 4, name="out"))
    >>> bool(shrink(net, [limits.params(net) <= 0.5 * limits.now]))
    True
    >>> hidden.nout, limits.params(net).value
    (15, 199)
    """
    steps = strategy_of(on_failure, strategy, ("raise", "keep"))
    held = [held_outputs(_checked(model))] if keep_outputs else []
    if not (is_whole(rounds) and rounds >= 1):
        raise RequestError(f"rounds is a number from 1 on, got {rounds!r}")
    if not tolerance >= 0:
        raise RequestError(f"tolerance says how much of the metric may be lost, 0 or more, got {tolerance!r}")

    def made(wanted: Limits, samples: object) -> tuple[Plan | None, Explanation | None]:
        ask = Ask(model, free=tuple(model), limits=[_some(wanted), held], insert=False, gap=gap)
        calibration = calibration_of(model, samples, progress=progress)
        found: list[tuple[float, tuple[Plan | None, Explanation | None]]] = []
        for own in candidates(calibration, utility, compensate=compensate, progress=progress):
            worth = scaled(model, own, normalise)
            plan, explanation = make_plan(ask, worth, steps, time_limit=time_limit, seed=seed, init="preserve")
            error = math.inf
            if plan is not None and calibration is not None and (compensate or utility is None):
                plan, error = refitted(plan, calibration, compensate=compensate, progress=progress)
            found.append((error, (plan, explanation)))
        return min(found, key=lambda one: one[0])[1]

    if rounds == 1 and metric is None:
        return Outcome(model, made(limits, data), steps.callbacks)
    assert isinstance(model, Editable), "all models are"
    # Samples that can be gone through once are needed in every round.
    samples = _samples(data)

    def carried_out() -> Change:
        return in_rounds(
            model,
            _some(limits),
            lambda stage: made(stage, samples)[0],
            rounds=int(rounds),
            metric=metric,
            tolerance=tolerance,
            callbacks=steps.callbacks,
            progress=progress,
        )

    return Outcome(model, (None, None), steps.callbacks, steps=carried_out)


def refitted(plan: Plan, calibration: Calibration, *, compensate: bool, progress: bool | None) -> tuple[Plan, float]:
    """A plan with new weights, and how far its outputs are off, on samples that were held back; infinite if not known.

    Args:
        plan: without new weights.
        calibration: of its model.
        compensate: whether it gets new weights; otherwise, it stays as it is and is only judged.
        progress: whether to show a bar.
    """
    if plan.empty:
        return plan, math.inf
    changed = plan.compensate(calibration, progress=progress)
    assert changed.compensation is not None, "just made"
    error = changed.compensation.error if compensate else changed.compensation.plain
    return changed if compensate else plan, math.inf if math.isnan(error) else error


def candidates(
    calibration: Calibration | None, utility: Utility | None, *, compensate: bool, progress: bool | None
) -> Iterator[Utility | None]:
    """What is tried: the caller's, or several that are measured, of which no one is best for all networks.

    Measuring takes for granted that weights are refitted afterwards; where they are not, contributions are tried, too.
    """
    if calibration is None or utility is not None:
        yield utility
    else:
        yield measured(calibration, reconstruction, progress=progress)
        yield measured(calibration, deviation_times_outgoing, progress=progress)
        if not compensate:
            yield contribution


def _samples(data: object) -> object:
    """Samples that can be gone through as often as is needed."""
    if isinstance(data, Calibration):
        raise RequestError("in several rounds, the model is calibrated anew each time: give the samples themselves")
    return list(data) if isinstance(data, Iterator) else data


def calibration_of(model: Model, data: object, *, progress: bool | None) -> Calibration | None:
    """What is known from samples, if there are any.

    Raises:
        RequestError: a calibration of another model.
    """
    if data is None:
        return None
    if not isinstance(data, Calibration):
        assert isinstance(model, Editable), "all models are"
        return calibrate(model, data, progress=progress)
    if data.model is not model:
        raise RequestError("this is the calibration of another model; calibrate the one that is to be changed")
    return data


@verb(Plan)
def grow(
    model: Model,
    limits: Limits,
    *,
    promise: Utility | None = None,
    utility: Utility | None = None,
    normalise: Normalisation = "none",
    keep_outputs: bool = True,
    on_failure: OnFailure = "raise",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    gap: float = GAP,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Outcome[Plan]:
    """Use up a budget where growth is worth most; every neuron that is there stays.

    Args:
        model: the network.
        limits: such as `[params(net) <= 2 * now]`.
        promise: what new neurons are worth: a function `v -> what the first new neuron of v is worth, the second, and
            so on`, never rising (more of them than its length are worth nothing), or a mapping from vertices to
            such sequences. By default, new neurons are worth as much as the mean of those that are there, and less and
            less: the i-th one n / (n + i) of it, for n neurons, up to four times the size.
        utility: what neurons are worth that are there; as for `delta_nout`. The default promise is made from it.
        normalise: as for `shrink`.
        keep_outputs: whether what the network returns gets no new neurons.
        on_failure: as for `shrink`.
        strategy: as for `shrink`.
        time_limit: as for `shrink`.
        gap: as for `shrink`.
        seed: as for `delta_nout`.
        init: as for `delta_nout`.

    Returns:
        A `Change`; `grow.plan(...)` gives the plan and changes nothing.

    Raises:
        ImpossibleError: as for `shrink`.

    >>> from solver_nas import Network, limits, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 8), 32, name="hidden")
    >>> net.output(nn.dense(hidden, 4, name="out"))
    >>> bool(grow(net, [limits.params(net) <= 2 * limits.now]))
    True
    >>> hidden.nout, limits.params(net).value
    (64, 836)
    """
    worth = scaled(model, utility, normalise)
    held = [held_outputs(_checked(model))] if keep_outputs else []
    promised = diminishing(worth) if promise is None else promise
    ask = Ask(
        model,
        free=tuple(model),
        limits=[_some(limits), held, kept_whole("grow removes nothing")],
        promise=promised,
        gap=gap,
    )
    steps = strategy_of(on_failure, strategy, ("raise", "keep"))
    made = make_plan(ask, worth, steps, time_limit=time_limit, seed=seed, init=init)
    return Outcome(model, made, steps.callbacks)


def diminishing(utility: Utility | None = None, *, times: int = _GROWTH) -> Callable[[Handle], NDArray[np.float64]]:
    """A promise for `grow`: new neurons are worth the mean of those that are there, and less and less.

    The i-th new neuron of a vertex with n is worth mean * n / (n + i), so that m new ones are worth about
    n * mean * log(1 + m / n).

    Args:
        utility: what neurons are worth that are there; by default, as for `delta_nout`.
        times: how many times its size a vertex can get new neurons.
    """
    if not is_whole(times) or times < 0:
        raise RequestError(f"times is a whole number from 0 on, got {times!r}")

    def promise(vertex: Handle) -> NDArray[np.float64]:
        size = vertex.nout
        mean = float(np.mean(Worth(vertex.model, utility).of(vertex))) if size else 0.0
        places = np.arange(1, times * size + 1)
        return max(mean, 0.0) * size / (size + places)

    return promise


def scaled(model: Model, utility: Utility | None, how: Normalisation) -> Utility | None:
    """The caller's utility, or the model's own, on one scale."""
    check_normalisation(how)
    if how == "none":
        return utility
    return normalised(Worth(model, utility).of, how)


def _checked(model: object) -> Model:
    if not isinstance(model, Model):
        raise RequestError(f"expected a network, got {untraced(model)}")
    return model


def _some(limits: Limits) -> Limits:
    found = listed(limits)
    if not found:
        raise RequestError("give at least one limit, such as params(net) <= 0.5 * now")
    return found
