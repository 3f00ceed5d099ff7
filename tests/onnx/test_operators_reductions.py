"""What takes many numbers together: over other axes than the neurons', and over the neurons themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from solver_nas import explain
from solver_nas.onnx import load
from tests.onnx.models import (
    BATCH,
    DELTAS,
    FLOAT,
    INT64,
    TOKENS,
    Array,
    Builder,
    by_hand,
    close,
    held,
    image,
    inputs,
    law,
    run,
    tokens,
    vector,
)

REDUCTIONS: dict[str, Callable[[Array, int], Array]] = {
    "ReduceSum": lambda x, axis: x.sum(axis, keepdims=True),
    "ReduceMean": lambda x, axis: x.mean(axis, keepdims=True),
    "ReduceMax": lambda x, axis: x.max(axis, keepdims=True),
    "ReduceMin": lambda x, axis: x.min(axis, keepdims=True),
    "ReduceProd": lambda x, axis: x.prod(axis, keepdims=True),
    "ReduceL1": lambda x, axis: np.abs(x).sum(axis, keepdims=True),
    "ReduceL2": lambda x, axis: np.sqrt((x**2).sum(axis, keepdims=True)),
    "ReduceSumSquare": lambda x, axis: (x**2).sum(axis, keepdims=True),
    "ReduceLogSum": lambda x, axis: np.log(x.sum(axis, keepdims=True)),
    "ReduceLogSumExp": lambda x, axis: np.log(np.exp(x).sum(axis, keepdims=True)),
}
#: With axes as an input since these versions.
AXES_INPUT = {operator: 13 if operator == "ReduceSum" else 18 for operator in REDUCTIONS}


def reduced(operator: str, *, axes: list[int], old: bool = False, keepdims: int = 1) -> ModelProto:
    """Reduce, and multiply the result with what was reduced, so that all goes on as before."""

    def middle(made: Builder, x: str) -> str:
        positive = made.node("Add", made.node("Abs", x), made.constant(0.5))
        if old:
            y = made.node(operator, positive, axes=axes, keepdims=keepdims)
        else:
            y = made.node(operator, positive, made.numbers(*axes), keepdims=keepdims)
        if not keepdims:
            y = made.node("Unsqueeze", y, axes=axes) if old else made.node("Unsqueeze", y, made.numbers(*axes))
        return made.node("Mul", x, made.node("Tanh", y))

    return image(middle, opset=11 if old else 21)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("operator", REDUCTIONS)
def test_over_pixels(operator: str, keepdims: int, delta: int) -> None:
    law(reduced(operator, axes=[2, 3], keepdims=keepdims), delta)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("operator", REDUCTIONS)
def test_over_pixels_in_old_versions(operator: str, keepdims: int) -> None:
    law(reduced(operator, axes=[2, 3], old=True, keepdims=keepdims), -6)
    law(reduced(operator, axes=[-1, -2], old=True), -6)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("old", [False, True], ids=["input", "attribute"])
@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize("operator", REDUCTIONS)
def test_over_channels(operator: str, axis: int, old: bool, delta: int) -> None:
    done = law(reduced(operator, axes=[axis], old=old), delta, readers=(), grows=False)
    if delta > 0:
        return
    given = inputs(done.before)
    function = REDUCTIONS[operator]
    expected = by_hand(done, given, lambda x: x * np.tanh(function(np.abs(x) + 0.5, 1)))
    close(run(done.after, given), [expected])


@pytest.mark.parametrize("delta", [-1, -6, 3])
@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean", "ReduceMax"])
def test_channels_that_are_gone(operator: str, delta: int) -> None:
    # (N, C, H, W) -> (N, H, W): nothing of the channels is left.
    made = Builder()
    x = made.conv(made.input("x", BATCH, 2, 6, 6), 2, 12, "first")
    made.output(made.node(operator, x, made.numbers(1), keepdims=0))
    done = law(made.model(), delta, readers=(), makers=("first",) if operator == "ReduceSum" else (), grows=False)
    assert done.plan.sizes["first"][1] == 12 + delta
    if operator == "ReduceSum" and delta > 0:
        # New neurons add to a sum, unless what they are made of is silent.
        given = inputs(done.before)
        assert run(done.after, given)[0].shape == run(done.before, given)[0].shape


def test_over_everything() -> None:
    made = Builder()
    x = made.conv(made.input("x", 2, 2, 6, 6), 2, 12, "first")
    made.output(made.node("ReduceSum", x, keepdims=0), [])
    law(made.model(), -6, readers=(), makers=("first",))


@pytest.mark.parametrize("delta", DELTAS)
def test_over_nothing(delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node("ReduceSum", x, noop_with_empty_axes=1)

    law(image(middle), delta)


# -- softmax -------------------------------------------------------------------------------------------


def softmax(x: Array, axis: int | tuple[int, ...]) -> Array:
    shares = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(shares / shares.sum(axis, keepdims=True))


SOFT: dict[str, Callable[[Array, int], Array]] = {
    "Softmax": softmax,
    "LogSoftmax": lambda x, axis: np.log(softmax(x, axis)),
    "Hardmax": lambda x, axis: (x == x.max(axis, keepdims=True)).astype(x.dtype),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize("operator", SOFT)
def test_softmax_over_channels(operator: str, axis: int, delta: int) -> None:
    done = law(image(lambda m, x: m.node(operator, x, axis=axis)), delta, readers=(), grows=False)
    if delta < 0:
        given = inputs(done.before)
        close(run(done.after, given), [by_hand(done, given, lambda x: SOFT[operator](x, 1))])


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", SOFT)
def test_softmax_over_pixels(operator: str, delta: int) -> None:
    law(image(lambda m, x: m.node(operator, x, axis=-1)), delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("axis", [None, 1, 2])
def test_softmax_as_it_was(axis: int | None, delta: int) -> None:
    # Until version 13, all axes from the given one on are taken together; the default is 1.
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    done = law(tokens(lambda m, x: m.node("Softmax", x, **attributes), opset=11), delta, readers=(), grows=False)
    if delta < 0:
        given = inputs(done.before)
        axes = tuple(range(axis or 1, 3))
        close(run(done.after, given), [by_hand(done, given, lambda x: softmax(x, axes))])


# -- positions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_positions_of_pixels(operator: str, keepdims: int) -> None:
    def middle(made: Builder, x: str) -> str:
        place = made.node("Cast", made.node(operator, x, axis=2, keepdims=keepdims), to=FLOAT)
        if not keepdims:
            place = made.node("Unsqueeze", place, made.numbers(2))
        return made.node("Mul", x, place)

    for delta in DELTAS:
        law(image(middle), delta)


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_positions_of_channels_hold_them(operator: str) -> None:
    def middle(made: Builder, x: str) -> str:
        place = made.node("Cast", made.node(operator, x, axis=1, name="place"), to=FLOAT)
        return made.node("Mul", made.conv("x", 2, 12, "other"), place)

    proto = image(middle)
    model = load(proto)
    told = explain(model["first"], 11)
    assert not told.possible
    assert any("positions are numbers" in reason for reason in told.reasons)
    for delta in DELTAS:
        law(proto, delta, vertex="other")


@pytest.mark.parametrize("delta", DELTAS)
def test_the_largest_tokens(delta: int) -> None:
    # Of each neuron the two largest of five.
    def middle(made: Builder, x: str) -> str:
        values, places = made.many("TopK", x, made.numbers(2), axis=1, count=2, name="top")
        return made.node("Add", values, made.node("Cast", places, to=FLOAT))

    law(tokens(middle), delta)


def test_the_largest_neurons_hold_all() -> None:
    def middle(made: Builder, x: str) -> str:
        values, _ = made.many("TopK", x, made.numbers(4), axis=-1, count=2, name="top")
        return values

    model = load(tokens(middle))
    told = explain(model["first"], 11)
    assert not told.possible
    assert any("positions are numbers" in reason for reason in told.reasons)


def test_running_totals() -> None:
    def along(axis: int) -> ModelProto:
        return tokens(lambda m, x: m.node("CumSum", x, m.constant(np.int64(axis)), exclusive=1))

    for delta in DELTAS:
        law(along(1), delta)
    assert not explain(load(along(-1))["first"], 11).possible


def test_costs_of_tokens() -> None:
    # A mean over tokens in front of a classifier.
    made = Builder()
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "first")
    y = made.node("ReduceMean", x, made.numbers(1), keepdims=0)
    made.output(made.dense(y, 12, 3, "head"))
    for delta in DELTAS:
        law(made.model(), delta)


def test_axes_that_are_given() -> None:
    # Which axes go is data: all is held.
    made = Builder()
    axes = made.input("axes", 1, dtype=INT64)
    x = made.conv(made.input("x", BATCH, 2, 6, 6), 2, 12, "first")
    made.output(made.node("ReduceSum", x, axes, name="sum", keepdims=1), [BATCH, None, None, None])
    model = load(made.model())
    assert [reason.vertex for reason in held(model)] == ["sum"]
    assert "is not known" in held(model)[0].rule


def test_vectors() -> None:
    for delta in DELTAS:
        law(
            vector(lambda m, x: m.node("ReduceSum", m.node("Unsqueeze", x, m.numbers(2)), m.numbers(2), keepdims=0)),
            delta,
        )
