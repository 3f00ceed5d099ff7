"""The verbs: ask for sizes, and get the best network that has them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from solver_nas.change import Change, Plan
from solver_nas.errors import (
    GraphError,
    ImpossibleError,
    RelaxedWarning,
    RequestError,
    TimeLimitError,
)
from solver_nas.explain import Explanation, explain_conflict
from solver_nas.frontend import Handle, Model, owner
from solver_nas.graph import Port
from solver_nas.labels import Reason, Tie
from solver_nas.order import DisorderError
from solver_nas.plan import draw
from solver_nas.problem import pose
from solver_nas.requests import input_targets, output_targets
from solver_nas.solve import TIME_LIMIT, Status, certify, select, solve
from solver_nas.utility import checked
from solver_nas.weights import Initialiser, zeros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from solver_nas.labels import Labels
    from solver_nas.plan import Blueprint
    from solver_nas.requests import Delta, DeltaIn, Target

Utility = Callable[[Any], object] | Mapping[Any, object]
OnFailure = Literal["relax", "raise", "keep"]
Init = Literal["preserve", "zeros"] | Initialiser


def delta_nout(
    request: Handle | Mapping[Any, Any] | Iterable[tuple[Any, Any]],
    delta: Delta | None = None,
    *,
    utility: Utility | None = None,
    on_failure: OnFailure = "relax",
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: Init = "preserve",
) -> Change:
    """Change how many output neurons vertices have, keeping the neurons of the highest total utility.

    Every size that hangs together with these is changed along. Vertices that no request reaches stay
    exactly as they are.

    Args:
        request: one vertex (with `delta`), or vertex -> delta for several at once.
        delta: number of neurons to add (or, negative, to remove); `relaxed(n)` for "about n".
        utility: what neurons are worth: a callable `v -> vector of length v.nout, or one number`, or a
            mapping from vertices to those (vertices that are not in it are worth nothing). Only called for
            vertices that may change. By default `default_utility`.
        on_failure: when an exact request is impossible: `"relax"` warns, says why, and takes the nearest
            sizes; `"raise"` raises `ImpossibleError`; `"keep"` changes nothing and returns a false `Change`.
        time_limit: for the solver, in seconds.
        seed: for ties in the solver and for new weights.
        init: new weights: `"preserve"` (the network computes what it did), `"zeros"`, or a callable
            `(rng, shape, spread) -> array`.

    Returns:
        A `Change` with the plan and its certificate.

    Raises:
        RequestError: the request makes no sense in itself.
        UtilityError: a utility is not finite, or has the wrong length.
        ImpossibleError: see `on_failure`.
        TimeLimitError: no solution was found in time.

    In every case of an error the network is what it was.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 2), 32, name="hidden")
    >>> out = nn.dense(hidden, 1, name="out")
    >>> bool(delta_nout(hidden, -16))
    True
    >>> hidden, out
    (<hidden: dense 2 -> 16>, <out: dense 16 -> 1>)
    """
    asked = _pairs(request, delta)
    return _change(_Ask(_model_of(asked), outputs=asked), utility, on_failure, time_limit, seed, init)


def delta_nin(
    request: Handle | Mapping[Any, Any] | Iterable[tuple[Any, Any]],
    delta: DeltaIn = None,
    *,
    utility: Utility | None = None,
    on_failure: OnFailure = "relax",
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: Init = "preserve",
) -> Change:
    """Change how many input neurons vertices have.

    Args:
        request: one vertex (with `delta`), or vertex -> delta for several at once.
        delta: one number for a vertex with one input; a tuple with one entry per input slot otherwise,
            `None` for a slot that may do as it likes; `relaxed(1, None, 2)` relaxes all of them.
        utility: as for `delta_nout`.
        on_failure: as for `delta_nout`.
        time_limit: as for `delta_nout`.
        seed: as for `delta_nout`.
        init: as for `delta_nout`.
    """
    asked = _pairs(request, delta)
    return _change(_Ask(_model_of(asked), inputs=asked), utility, on_failure, time_limit, seed, init)


def delta_size(
    vertices: Model | Iterable[Handle],
    *,
    utility: Utility | None = None,
    on_failure: OnFailure = "relax",
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: Init = "preserve",
) -> Change:
    """Let a whole network, or some of its vertices, take the sizes that are worth most.

    No size is asked for: neurons of negative utility go, all others stay, as far as they can without each other.

    Args:
        vertices: a network, or the vertices that may change (others change along where they must).
        utility: as for `delta_nout`; here it usually has negative entries.
        on_failure: as for `delta_nout`.
        time_limit: as for `delta_nout`.
        seed: as for `delta_nout`.
        init: as for `delta_nout`.
    """
    return _change(_ask(None, None, None, vertices), utility, on_failure, time_limit, seed, init)


def plan_change(
    request: Model | Handle | Mapping[Any, Any] | Iterable[Any] | None = None,
    delta: Delta | None = None,
    *,
    nin: Mapping[Any, Any] | None = None,
    also: Model | Iterable[Handle] = (),
    utility: Utility | None = None,
    on_failure: Literal["relax", "raise"] = "relax",
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: Init = "preserve",
) -> Plan:
    """Work out a change without making it.

    Args:
        request: as for `delta_nout`, or as for `delta_size`.
        delta: as for `delta_nout`.
        nin: wishes for inputs, as for `delta_nin`; may be combined with the others.
        also: a network or vertices that may change too, where that gains utility.
        utility: as for `delta_nout`.
        on_failure: as for `delta_nout`, but for `"keep"`.
        time_limit: as for `delta_nout`.
        seed: as for `delta_nout`.
        init: as for `delta_nout`.

    Returns:
        A plan to look at (`print(plan)`, `plan.sizes`, `plan.indices`, `plan.certificate`), to verify
        (`plan.check()`) and to carry out (`plan.apply()`).
    """
    plan, explanation = _plan(_ask(request, delta, nin, also), utility, on_failure, time_limit, seed, init)
    if plan is None:
        raise _impossible(explanation)
    return plan


def explain(
    request: Handle | Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None,
    delta: Delta | None = None,
    *,
    nin: Mapping[Any, Any] | None = None,
    seed: int = 0,
) -> Explanation:
    """Say whether a request is possible, and if not, why not and what would be.

    Args:
        request: as for `delta_nout`.
        delta: as for `delta_nout`.
        nin: as for `plan_change`.
        seed: for the solver.

    Returns:
        An explanation: true if the request is possible; `print` it for the words.
    """
    ask = _ask(request, delta, nin)
    return explain_conflict(ask.model.graph, ask.model.labels, ask.targets(), seed=seed)


class _Ask:
    """What is asked of which model."""

    def __init__(
        self,
        model: Model,
        outputs: Sequence[tuple[Handle, Any]] = (),
        inputs: Sequence[tuple[Handle, Any]] = (),
        free: Sequence[Handle] = (),
    ) -> None:
        self.model = model
        self._outputs, self._inputs = outputs, inputs
        self.free = tuple(Port(handle.name) for handle in free)

    def targets(self) -> tuple[Target, ...]:
        graph, labels = self.model.graph, self.model.labels
        outputs = output_targets(graph, labels, [(v.name, d) for v, d in self._outputs])
        inputs = input_targets(graph, labels, [(v.name, d) for v, d in self._inputs])
        return (*outputs, *inputs)


def _pairs(request: object, delta: object) -> list[tuple[Handle, object]]:
    if isinstance(request, Handle):
        if delta is None:
            raise RequestError(f"by how much should {request.name!r} change? Give a number of neurons")
        return [(request, delta)]
    if delta is not None:
        raise RequestError("a delta goes with a single vertex; for several, give a mapping from vertices to deltas")
    pairs = list(request.items()) if isinstance(request, Mapping) else request
    if not isinstance(pairs, Iterable) or isinstance(pairs, Model | str):
        raise RequestError(f"expected a vertex, or a mapping from vertices to deltas, got {request!r}")
    found = list(pairs)
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise RequestError(f"expected pairs (vertex, delta), got {pair!r}")
    return found


def _model_of(asked: Sequence[tuple[Handle, object]]) -> Model:
    if not asked:
        raise RequestError("the request is empty: name at least one vertex")
    models = [owner(handle) for handle, _ in asked]
    for (handle, _), model in zip(asked, models, strict=True):
        if model is not models[0]:
            raise GraphError(f"vertex {handle.name!r} belongs to another network than {asked[0][0].name!r}")
    return models[0]


def _ask(request: object, delta: object, nin: Mapping[Any, Any] | None, also: Model | Iterable[Handle] = ()) -> _Ask:
    inputs, free = list((nin or {}).items()), list(also)
    outputs: list[tuple[Handle, object]] = []
    if isinstance(request, Model) or (
        isinstance(request, list | tuple) and request and all(isinstance(item, Handle) for item in request)
    ):
        free += list(request)
    elif request is not None:
        outputs = _pairs(request, delta)
    model = _model_of([*outputs, *inputs, *((handle, None) for handle in free)])
    return _Ask(model, outputs, inputs, free)


def _change(ask: _Ask, utility: Utility | None, on_failure: str, time_limit: float, seed: int, init: Init) -> Change:
    plan, explanation = _plan(ask, utility, on_failure, time_limit, seed, init)
    if plan is None:
        return Change(None, str(explanation))
    plan.apply()
    return Change(plan, str(explanation) if explanation else "")


def _plan(
    ask: _Ask, utility: Utility | None, on_failure: str, time_limit: float, seed: int, init: Init
) -> tuple[Plan | None, Explanation | None]:
    if on_failure not in ("relax", "raise", "keep"):
        raise RequestError(f"on_failure is 'relax', 'raise' or 'keep', got {on_failure!r}")
    if not time_limit > 0:
        raise RequestError(f"the time limit is a positive number of seconds, got {time_limit!r}")
    worth = _Worth(ask.model, utility)
    targets = ask.targets()
    notes: list[str] = []
    explanation = None
    try:
        made = _draw(ask, targets, worth, time_limit, seed, notes)
    except ImpossibleError as error:
        if on_failure == "keep":
            return None, Explanation(possible=False, reasons=(str(error),))
        raise
    if made is None:
        explanation = explain_conflict(ask.model.graph, ask.model.labels, targets, seed=seed)
        if on_failure == "raise":
            raise _impossible(explanation)
        if on_failure == "keep":
            return None, explanation
        made = _draw(ask, [target.loosened() for target in targets], worth, time_limit, seed, notes)
        if made is None:
            raise _impossible(explanation)
        text = f"{explanation}\nThe nearest sizes were used instead."
        warnings.warn(RelaxedWarning(text), stacklevel=4)
        notes.append("an exact request was impossible and was relaxed")
    return Plan(ask.model, made, worth.seen, seed, _initialiser(init), tuple(notes)), explanation


def _impossible(explanation: Explanation | None) -> ImpossibleError:
    if explanation is None or explanation.possible:
        return ImpossibleError("the request is impossible")
    return ImpossibleError(str(explanation), explanation.reasons, explanation.nearest)


def _initialiser(init: Init) -> Initialiser | None:
    if init == "preserve":
        return None
    if init == "zeros":
        return zeros
    if callable(init):
        return init
    raise RequestError(f"init is 'preserve', 'zeros' or a callable, got {init!r}")


class _Worth:
    """Asks the caller what neurons are worth, once per vertex, and remembers the answers."""

    def __init__(self, model: Model, utility: Utility | None) -> None:
        self._model, self._utility = model, utility
        self.seen: dict[str, NDArray[np.float64]] = {}
        if isinstance(utility, Mapping):
            for handle in utility:
                if owner(handle) is not model:
                    raise GraphError(f"the utility names vertex {handle.name!r} of another network")

    def __call__(self, port: Port) -> NDArray[np.float64]:
        """The utility of a vertex's neurons."""
        if port.vertex not in self.seen:
            handle = self._model.handle(port.vertex)
            if self._utility is None:
                value: object = self._model.default_utility(handle)
            elif isinstance(self._utility, Mapping):
                value = self._utility.get(handle, 0.0)
            else:
                value = self._utility(handle)
            vector = checked(value, handle.nout, port.vertex)
            self.seen[port.vertex] = np.zeros(handle.nout) if vector is None else vector
        return self.seen[port.vertex]


def _draw(
    ask: _Ask, targets: Sequence[Target], worth: _Worth, time_limit: float, seed: int, notes: list[str]
) -> Blueprint | None:
    """The best blueprint, or `None` if the request is impossible."""
    labels = ask.model.labels
    try:
        return _draw_with(ask, labels, targets, worth, time_limit, seed)
    except DisorderError as error:
        disorder = error
    # Fewer choices, of which any can be put in order: first the same columns in all rows, then no new neurons.
    for stricter, insert, note in (
        (_alike(labels), True, "all rows of a rectangle keep the same columns"),
        (_alike(labels), False, "no new neurons are inserted"),
    ):
        try:
            made = _draw_with(ask, stricter, targets, worth, time_limit, seed, insert=insert)
        except DisorderError:
            continue
        if made is not None:
            notes.append(f"{note}, since their order would not fit otherwise ({disorder})")
            return made
    raise ImpossibleError(
        f"the request is impossible: the neurons cannot be put in an order that fits ({disorder})"
    ) from disorder


def _alike(labels: Labels) -> Labels:
    """The same labels with the columns of every rectangle tied across its rows: fewer choices, any order fits."""
    ties = tuple(
        Tie(
            joint.cells[:-1].reshape(-1),
            joint.cells[1:].reshape(-1),
            Reason(joint.reason.vertex, "columns alike"),
        )
        for joint in labels.joints
        if len(joint.rows) > 1
    )
    return replace(labels, ties=(*labels.ties, *ties))


def _draw_with(
    ask: _Ask,
    labels: Labels,
    targets: Sequence[Target],
    worth: _Worth,
    time_limit: float,
    seed: int,
    *,
    insert: bool = True,
) -> Blueprint | None:
    clock = [time.perf_counter()]
    problem = pose(labels, targets, worth, everywhere=ask.free, insert=insert)
    clock.append(time.perf_counter())
    counts = solve(problem, time_limit=time_limit, seed=seed)
    clock.append(time.perf_counter())
    if counts.status is Status.INFEASIBLE:
        return None
    if counts.status is Status.UNKNOWN:
        raise TimeLimitError(f"no solution was found within {time_limit} s; give it more time")
    seconds = dict(zip(("pose", "solve"), np.diff(clock).tolist(), strict=True))
    certificate = certify(problem, counts, seconds)
    blueprint = draw(ask.model.graph, labels, problem.class_of, select(problem, counts), certificate)
    seconds["plan"] = time.perf_counter() - clock[-1]
    return blueprint
