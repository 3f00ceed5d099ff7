"""The engine against an oracle that tries every selection."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solver_nas import Network, Plan, concat, nn, plan_change, relaxed
from solver_nas.errors import ImpossibleError
from solver_nas.frontend import Handle
from solver_nas.graph import Port, Vertex
from solver_nas.labels import Tensor
from solver_nas.nn.vertex import NetworkVertex
from solver_nas.rules import Resized, Scope, rule
from solver_nas.rules.contract import einsum, elementwise
from solver_nas.rules.primitives import take
from solver_nas.rules.reshape import reshape
from solver_nas.testing.oracle import Step, Wanted, judge, sizes, sources, verdict

# -- operations of a test network ------------------------------------------------------------


def _living_rows(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    if vertex.attributes["groups"] == 1:
        return {}
    rows = resized.before[0].neurons.reshape(int(str(vertex.attributes["groups"])), -1)
    moved = [len(resized.moved(row.copy())) for row in rows]
    # Groups of one neuron each are as many as there are neurons.
    return {"groups": sum(moved) if rows.shape[1] == 1 else sum(size > 0 for size in moved)}


@rule("testing.rows", rewrite=_living_rows)
def _rows(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    groups = scope.attribute("groups", int)
    rows = reshape(scope, x, (None, groups, int(x.shape[1] or 0) // groups))
    return reshape(scope, rows, x.shape)


@rule("testing.grouped", rewrite=_living_rows)
def _grouped(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    groups = scope.attribute("groups", int)
    size, (out, per_group) = int(x.shape[1] or 0), scope.vertex.parameters["weight"].shape
    rows = reshape(scope, x, (None, groups, size // groups))
    weight = scope.weight("weight", ((groups, out // groups), (per_group,)))
    y = einsum(scope, "ngi,goi->ngo", rows, weight)
    return reshape(scope, y, (None, out))


def _bounds(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    start, stop = (int(str(vertex.attributes[name])) for name in ("start", "stop"))
    neurons = resized.before[0].neurons
    first = len(resized.moved(neurons[:start].copy()))
    return {"start": first, "stop": first + len(resized.moved(neurons[start:stop].copy()))}


@rule("testing.part", rewrite=_bounds)
def _part(scope: Scope) -> Tensor:
    return take(scope, scope.inputs[0], 1, slice(scope.attribute("start", int), scope.attribute("stop", int)))


@rule("testing.spread")
def _spread(scope: Scope) -> Tensor:
    (x,) = scope.inputs
    times = scope.attribute("times", int)
    column = reshape(scope, x, (None, x.shape[1], 1))
    wide = elementwise(scope, column, Tensor((None, 1, times)))
    return reshape(scope, wide, (None, int(x.shape[1] or 0) * times))


def build(steps: list[Step]) -> tuple[Network, list[NetworkVertex]]:
    net, made = Network(), list[NetworkVertex]()
    total = sizes(steps)
    for place, step in enumerate(steps):
        inside = [made[i] for i in step.inputs]
        name = f"v{place}"
        match step.kind:
            case "input":
                v = net.input(name, step.size)
            case "source":
                v = nn.dense(inside[0], step.size, name=name)
            case "sum":
                v = nn.add(inside, name=name)
            case "join":
                v = concat(inside, name=name)
            case "part":
                v = net.add("testing.part", name, inside, {"start": step.size, "stop": step.stop})
            case "rows":
                v = net.add("testing.rows", name, inside, {"groups": step.size})
            case "grouped":
                weight = np.zeros((step.size * step.stop, total[step.inputs[0]] // step.size))
                v = net.add("testing.grouped", name, inside, {"groups": step.size}, {"weight": weight})
            case _:
                v = net.add("testing.spread", name, inside, {"times": step.size})
        made.append(v)
    return net, made


# -- random networks -------------------------------------------------------------------------


@st.composite
def networks(draw: st.DrawFn, positions: int) -> list[Step]:
    """Networks with up to so many neurons in all sources together."""
    steps = [Step("input", size=draw(st.integers(1, 3)))]
    left = positions
    copied = {0: False}  # whether neurons stand several times in a row, so that no cut may go between them
    for _ in range(draw(st.integers(2, 7))):
        total = sizes(steps)
        _note_copies(steps, copied)
        known = st.integers(0, len(steps) - 1)
        changeable = st.sampled_from([i for i, step in enumerate(steps) if step.kind != "input"] or [0])
        kind = draw(st.sampled_from(["source", "source", "sum", "join", "part", "rows", "grouped", "spread"]))
        if kind == "source" and left:
            size = draw(st.integers(1, min(left, 4)))
            left -= size
            steps.append(Step("source", (draw(known),), size))
        elif kind == "sum":
            first = draw(known)
            others = [i for i, size in enumerate(total) if size == total[first]]
            if len(others) > 1:
                steps.append(Step("sum", (first, draw(st.sampled_from(others)))))
        elif kind == "join":
            inside = tuple(draw(st.lists(changeable, min_size=2, max_size=3)))
            if sum(total[i] for i in inside) <= 12:
                steps.append(Step("join", inside))
        elif kind == "part":
            of = draw(changeable)
            if total[of] > 1 and not copied[of]:
                start = draw(st.integers(0, total[of] - 1))
                steps.append(Step("part", (of,), start, draw(st.integers(start + 1, total[of]))))
        elif kind in ("rows", "grouped") and not all(copied[i] or steps[i].kind == "input" for i in copied):
            of = draw(changeable.filter(lambda i: not copied[i]))
            # One group of one neuron could grow in either way.
            groups = draw(st.sampled_from([g for g in (1, 2, 3) if total[of] % g == 0 and total[of] > 1] or [0]))
            if not groups:
                continue
            per_group = draw(st.integers(1, 2))
            if kind == "rows":
                steps.append(Step("rows", (of,), groups))
            elif groups * per_group <= left:
                left -= groups * per_group
                steps.append(Step("grouped", (of,), groups, per_group))
        elif kind == "spread":
            of = draw(changeable)
            if total[of] * 2 <= 12:
                steps.append(Step("spread", (of,), 2))
    return steps


def _note_copies(steps: list[Step], copied: dict[int, bool]) -> None:
    for place, step in enumerate(steps):
        own = step.kind in ("input", "source", "grouped")
        copied[place] = step.kind == "spread" or (not own and any(copied[i] for i in step.inputs))


@st.composite
def requests(draw: st.DrawFn, positions: int, growth: int) -> tuple[list[Step], list[Wanted], list[np.ndarray]]:
    steps = draw(networks(positions).filter(lambda found: bool(sources(found))))
    total = sizes(steps)
    able = [i for i, step in enumerate(steps) if step.kind != "input"]
    asked = draw(st.lists(st.sampled_from(able), min_size=0, max_size=3, unique=True))
    wishes = [Wanted(i, draw(st.integers(max(1 - total[i], -3), growth)), draw(st.booleans())) for i in asked]
    # Multiples of 1/4 are summed without rounding, so that equal utilities are equal for both.
    worth = st.integers(-8, 24).map(lambda quarter: quarter / 4)
    utility = [np.array(draw(st.lists(worth, min_size=n, max_size=n))) for n in total]
    return steps, wishes, utility


def agree(case: tuple[list[Step], list[Wanted], list[np.ndarray]], most_new: int) -> None:
    steps, wishes, utility = case
    net, made = build(steps)
    judged = judge(steps, wishes, utility, most_new)

    def worth(v: Handle) -> np.ndarray:
        return utility[int(v.name[1:])]

    request = [(made[w.step], w.delta if w.exact else relaxed(w.delta)) for w in wishes]
    try:
        plan = plan_change(request, also=net, utility=worth, on_failure="raise")
    except ImpossibleError:
        assert judged.key is None, "the engine found nothing, the oracle did"
        return
    plan.check()
    kept, new = _selection(net, steps, plan)
    mine = verdict(steps, wishes, utility, kept, new)
    assert mine.key is not None, "the engine's selection is not valid"
    if judged.key is None or mine.key < judged.key:
        assert new.max() > most_new, "better than everything that was tried"
    else:
        assert mine.key == pytest.approx(judged.key, abs=1e-9)
    assert plan.certificate.status.value == "optimal"
    assert plan.certificate.gap <= 1e-9


def _selection(net: Network, steps: list[Step], plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """The engine's answer as one row of the oracle's tables."""
    kept, new = [], []
    for place in sources(steps):
        neurons = net.labels.tensors[Port(f"v{place}")].neurons
        index = plan.indices[f"v{place}"]
        k = np.zeros(len(neurons), int)
        k[index[index >= 0]] = 1
        kept.append(k)
        new.append(plan.blueprint.moves.inserted(neurons))
    return np.concatenate(kept)[None], np.concatenate(new)[None]


@settings(max_examples=1500)
@given(requests(positions=8, growth=1))
def test_agrees_with_trying_everything_when_shrinking(
    case: tuple[list[Step], list[Wanted], list[np.ndarray]],
) -> None:
    agree(case, most_new=1)


@settings(max_examples=1000)
@given(requests(positions=5, growth=3))
def test_agrees_with_trying_everything_when_growing(
    case: tuple[list[Step], list[Wanted], list[np.ndarray]],
) -> None:
    agree(case, most_new=3)


def test_new_rows_of_one_neuron_stand_beside_the_rows_that_they_follow() -> None:
    steps = [
        Step("input", (), 1, 0),
        Step("source", (0,), 1, 0),
        Step("join", (1, 1), 0, 0),
        Step("grouped", (2,), 2, 1),
    ]
    agree((steps, [Wanted(1, 1, exact=True)], [np.zeros(1), np.zeros(1), np.zeros(2), np.zeros(2)]), most_new=1)
