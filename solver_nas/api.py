"""The verbs: ask for sizes, and get the best network that has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from solver_nas.asking import Ask
from solver_nas.change import Change, carry_out
from solver_nas.errors import GraphError, RequestError
from solver_nas.explain import EXPLAINING
from solver_nas.frontend import Handle, Model, owner, untraced
from solver_nas.planning import explain_request, impossible, make_plan, strategy_of
from solver_nas.solve import GAP, TIME_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.change import Plan
    from solver_nas.explain import Explanation
    from solver_nas.limits import Limits
    from solver_nas.planning import InitOf, OnFailure
    from solver_nas.requests import Delta, DeltaIn
    from solver_nas.strategies import Strategy, Utility


def delta_nout(
    request: Handle | Mapping[Any, Any] | Iterable[tuple[Any, Any]],
    delta: Delta | None = None,
    *,
    limits: Limits = (),
    utility: Utility | None = None,
    on_failure: OnFailure = "relax",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Change:
    """Change how many output neurons vertices have, keeping the neurons of the highest total utility.

    Every size that hangs together with these is changed along. Vertices that no request reaches stay
    exactly as they are.

    Args:
        request: one vertex (with `delta`), or vertex -> delta for several at once.
        delta: number of neurons to add (or, negative, to remove); `relaxed(n)` for "about n".
        limits: what the changed network may cost and which sizes it may have; see `solver_nas.limits`. Vertices
            that a limit speaks of may change too.
        utility: what neurons are worth: a callable `v -> vector of length v.nout, or one number`, or a
            mapping from vertices to those (vertices that are not in it are worth nothing). Only called for
            vertices that may change. By default `default_utility`.
        on_failure: when an exact request is impossible: `"relax"` warns, says why, and takes the nearest
            sizes; `"raise"` raises `ImpossibleError`; `"keep"` changes nothing and returns a false `Change`.
        strategy: more than a word can say: steps to try one after the other, see `solver_nas.strategies`.
        time_limit: for the solver, in seconds; what it has found by then is used.
        seed: for ties in the solver and for new weights.
        init: new weights: `"preserve"` (the network computes what it did), `"zeros"`, or a callable
            `(rng, shape, spread) -> array`; `spread` is the standard deviation of the present weights. A
            mapping from vertices to these makes a difference between layers.

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
    return _change(
        Ask(_model_of(asked), outputs=asked, limits=limits),
        utility,
        strategy_of(on_failure, strategy),
        time_limit,
        seed,
        init,
    )


def delta_nin(
    request: Handle | Mapping[Any, Any] | Iterable[tuple[Any, Any]],
    delta: DeltaIn = None,
    *,
    limits: Limits = (),
    utility: Utility | None = None,
    on_failure: OnFailure = "relax",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Change:
    """Change how many input neurons vertices have.

    Args:
        request: one vertex (with `delta`), or vertex -> delta for several at once.
        delta: one number for a vertex with one input; a tuple with one entry per input slot otherwise,
            `None` for a slot that may do as it likes; `relaxed(1, None, 2)` relaxes all of them.
        limits: as for `delta_nout`.
        utility: as for `delta_nout`.
        on_failure: as for `delta_nout`.
        strategy: as for `delta_nout`.
        time_limit: as for `delta_nout`.
        seed: as for `delta_nout`.
        init: as for `delta_nout`.
    """
    asked = _pairs(request, delta)
    return _change(
        Ask(_model_of(asked), inputs=asked, limits=limits),
        utility,
        strategy_of(on_failure, strategy),
        time_limit,
        seed,
        init,
    )


def delta_size(
    vertices: Model | Iterable[Handle],
    *,
    limits: Limits = (),
    utility: Utility | None = None,
    on_failure: OnFailure = "relax",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Change:
    """Let a whole network, or some of its vertices, take the sizes that are worth most.

    No size is asked for: neurons of negative utility go, all others stay, as far as they can without each other.
    With the default utility, which is never negative, nothing happens.

    Args:
        vertices: a network, or the vertices that may change (others change along where they must).
        limits: as for `delta_nout`.
        utility: as for `delta_nout`; here it usually has negative entries.
        on_failure: as for `delta_nout`.
        strategy: as for `delta_nout`.
        time_limit: as for `delta_nout`.
        seed: as for `delta_nout`.
        init: as for `delta_nout`.
    """
    return _change(
        _ask(None, None, None, vertices, limits), utility, strategy_of(on_failure, strategy), time_limit, seed, init
    )


def plan_change(
    request: Model | Handle | Mapping[Any, Any] | Iterable[Any] | None = None,
    delta: Delta | None = None,
    *,
    nin: Mapping[Any, Any] | None = None,
    also: Model | Iterable[Handle] = (),
    limits: Limits = (),
    utility: Utility | None = None,
    on_failure: Literal["relax", "raise"] = "relax",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    gap: float = GAP,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Plan:
    """Work out a change without making it.

    Args:
        request: as for `delta_nout`, or as for `delta_size`.
        delta: as for `delta_nout`.
        nin: wishes for inputs, as for `delta_nin`; may be combined with the others.
        also: a network or vertices that may change too, where that gains utility.
        limits: as for `delta_nout`.
        utility: as for `delta_nout`.
        on_failure: as for `delta_nout`, but for `"keep"`.
        strategy: as for `delta_nout`, but it must not keep everything; its call-backs are not called.
        time_limit: as for `delta_nout`.
        gap: with limits, how close to the best selection is good enough, as a fraction of the utility.
        seed: as for `delta_nout`.
        init: as for `delta_nout`.

    Returns:
        A plan to look at (`print(plan)`, `plan.sizes`, `plan.indices`, `plan.certificate`), to verify
        (`plan.check()`) and to carry out (`plan.apply()`).
    """
    if on_failure not in ("relax", "raise"):
        raise RequestError(f"on_failure is 'relax' or 'raise' for a plan, got {on_failure!r}")
    ask, steps = _ask(request, delta, nin, also, limits, gap), strategy_of(on_failure, strategy)
    plan, explanation = make_plan(ask, utility, steps, time_limit=time_limit, seed=seed, init=init)
    if plan is None:
        assert explanation is not None, "keeping everything is explained"
        raise impossible(explanation)
    return plan


def explain(
    request: Handle | Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None,
    delta: Delta | None = None,
    *,
    nin: Mapping[Any, Any] | None = None,
    limits: Limits = (),
    time_limit: float = EXPLAINING,
    seed: int = 0,
) -> Explanation:
    """Say whether a request is possible, and if not, why not and what would be.

    Args:
        request: as for `delta_nout`.
        delta: as for `delta_nout`.
        nin: as for `plan_change`.
        limits: as for `delta_nout`.
        time_limit: in seconds; if it is up, an explanation may have lines that are not needed.
        seed: for the solver.

    Returns:
        An explanation: true if the request is possible; `print` it for the words.
    """
    return explain_request(_ask(request, delta, nin, (), limits), time_limit=time_limit, seed=seed)


def _pairs(request: object, delta: object) -> list[tuple[Handle, object]]:
    if isinstance(request, Handle):
        if delta is None:
            raise RequestError(f"by how much should {request.name!r} change? Give a number of neurons")
        return [(request, delta)]
    if delta is not None:
        raise RequestError(
            f"a delta goes with a single vertex such as net['hidden'], got {request!r}; for several, give a mapping"
        )
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


def _ask(
    request: object,
    delta: object,
    nin: Mapping[Any, Any] | None,
    also: Model | Iterable[Handle],
    limits: Limits,
    gap: float = GAP,
) -> Ask:
    if delta is not None and not isinstance(request, Handle):
        raise RequestError("a delta goes with a single vertex; for several, give a mapping from vertices to deltas")
    if isinstance(also, Handle) or not isinstance(also, Iterable):
        raise RequestError(f"expected a network or a list of vertices, got {untraced(also)}")
    inputs, free = list(dict(nin or {}).items()), list(also)
    outputs: list[tuple[Handle, object]] = []
    if isinstance(request, Model) or (
        isinstance(request, list | tuple) and request and all(isinstance(item, Handle) for item in request)
    ):
        free += list(request)
    elif request is not None:
        outputs = _pairs(request, delta)
    model = _model_of([*outputs, *inputs, *((handle, None) for handle in free)])
    return Ask(model, outputs, inputs, free, limits, gap=gap)


def _change(
    ask: Ask, utility: Utility | None, strategy: Strategy, time_limit: float, seed: int, init: InitOf
) -> Change:
    plan, explanation = make_plan(ask, utility, strategy, time_limit=time_limit, seed=seed, init=init)
    return carry_out(ask.model, plan, explanation, strategy.callbacks)
