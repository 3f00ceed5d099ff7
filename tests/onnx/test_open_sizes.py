"""Models that leave sizes open have to work for all of them afterwards, not only for those that were tried out."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper

from solver_nas import delta_nout, explain, plan_change
from solver_nas.onnx import OnnxModel, load
from solver_nas.onnx.runtime import distance
from tests.onnx.models import Builder

Array = np.ndarray


def _answers(model: OnnxModel, inputs: dict[str, Array]) -> dict[str, Array]:
    """What a saved model says in a session of its own."""
    return load(model.proto)(inputs)


def _picture(*shape: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)}


def test_a_number_that_was_the_same_in_all_trials_is_no_constant() -> None:
    # H % 32 is 0 for all multiples of 32, which sizes are tried out with.
    made = Builder()
    x = made.input("x", "n", 3, "h", "w")
    first = made.node("Conv", x, made.weight(8, 3, 1, 1), name="first")
    height = made.node("Gather", made.node("Shape", x), made.numbers(2))
    starts = made.node("Concat", made.numbers(4), made.node("Mod", height, made.numbers(32)), axis=0)
    ends = made.node("Concat", made.numbers(8), height, axis=0)
    part = made.node("Slice", first, starts, ends, made.numbers(1, 2), name="part")
    second = made.node("Conv", part, made.weight(4, 4, 1, 1))
    made.output(made.node("GlobalAveragePool", second), ["n", 4, 1, 1])
    proto = made.model()
    model = load(proto)
    # What the slice does not read is worth nothing, so that it goes, and the limits of the slice change.
    delta_nout(model["first"], -2, utility={model["first"]: [0, 0, 1, 1, 1, 1, 1, 1]})
    assert model["first"].nout == 6
    for height_now in (64, 40, 300):
        given = _picture(2, 3, height_now, 20)
        assert distance(load(proto)(given), _answers(model, given)) < 1e-5


def test_inputs_with_batches_of_different_names() -> None:
    made = Builder()
    one, two = made.input("a", "n", 4), made.input("b", "m", 4)
    wide = made.node("MatMul", made.node("Add", one, two), made.weight(4, 8), name="wide")
    batch = made.node("Gather", made.node("Shape", wide), made.numbers(0))
    target = made.node("Concat", batch, made.numbers(2), made.numbers(4), axis=0)
    heads = made.node("Transpose", made.node("Reshape", wide, target), perm=[0, 2, 1])
    flat = made.node("Reshape", heads, made.node("Concat", batch, made.numbers(8), axis=0))
    made.output(made.node("MatMul", flat, made.weight(8, 3)), ["n", 3])
    model = load(made.model())
    delta_nout(model["wide"], -2)
    for samples in (1, 2, 5):
        given = {name: np.ones((samples, 4), np.float32) for name in "ab"}
        assert _answers(model, given)[model.proto.graph.output[0].name].shape == (samples, 3)


def _branches(source: str) -> tuple[GraphProto, GraphProto]:
    def branch(name: str, *, pooled: bool) -> GraphProto:
        inner = Builder(seed=len(name))
        y = inner.node("Conv", source, inner.weight(8, 6, 1, 1, name=f"{name}.w"), name=name)
        y = inner.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]) if pooled else inner.node("Relu", y)
        out = helper.make_tensor_value_info(y, TensorProto.FLOAT, None)
        return helper.make_graph(inner.nodes, name, [], [out], inner.initializers)

    return branch("then", pooled=True), branch("other", pooled=False)


@pytest.mark.parametrize("given", [None, {"x": (8, 3, 16, 16)}], ids=["open", "given"])
def test_the_branch_for_other_sizes_follows(given: dict[str, tuple[int, ...]] | None) -> None:
    made = Builder()
    x = made.input("x", "n", 3, 16, 16)
    first = made.node("Conv", x, made.weight(6, 3, 1, 1), name="first")
    samples = made.node("Gather", made.node("Shape", x), made.constant(np.array(0)))
    many = made.node("Greater", samples, made.constant(np.array(4)))
    then, other = _branches(first)
    y = made.node("If", many, name="if", then_branch=then, else_branch=other)
    made.output(made.node("GlobalAveragePool", made.node("Conv", y, made.weight(4, 8, 1, 1))), ["n", 4, 1, 1])
    model = load(made.model(), given)
    name = next(handle.name for handle in model if handle.name == "then")
    plan = plan_change(model[name], -2)
    assert plan.sizes["other"] == (8, 6)
    plan.apply()
    for samples_now in (9, 1):
        (answer,) = _answers(model, _picture(samples_now, 3, 16, 16)).values()
        assert answer.shape == (samples_now, 4, 1, 1)


@pytest.mark.parametrize("how", ["slice", "gather", "token"])
def test_tables_that_are_cut_by_shapes_follow(how: str) -> None:
    made = Builder()
    x = made.input("x", "n", "t", 5)
    h = made.node("MatMul", x, made.weight(5, 16), name="wide")
    shape = made.node("Shape", x)
    length = made.node("Gather", shape, made.numbers(1))
    if how == "slice":
        table = made.node("Slice", made.weight(1, 512, 16), made.numbers(0), length, made.numbers(1))
        y = made.node("Add", h, table)
    elif how == "gather":
        scalar = made.node("Gather", shape, made.constant(np.array(1)))
        places = made.node("Range", made.constant(np.array(0)), scalar, made.constant(np.array(1)))
        y = made.node("Add", h, made.node("Gather", made.weight(512, 16), places))
    else:
        batch = made.node("Gather", shape, made.numbers(0))
        target = made.node("Concat", batch, made.numbers(1), made.numbers(1), axis=0)
        y = made.node("Concat", made.node("Expand", made.weight(1, 1, 16), target), h, axis=1)
    made.output(made.node("MatMul", made.node("Relu", y), made.weight(16, 4)), ["n", "u", 4])
    proto = made.model()
    model = load(proto)
    assert explain(model["wide"], -4)
    delta_nout(model["wide"], -4)
    for steps in (3, 17):
        (answer,) = _answers(model, _picture(2, steps, 5)).values()
        assert answer.shape == (2, steps + (how == "token"), 4)


def test_huge_numbers_do_not_hide_the_others() -> None:
    one = {"y": np.array([-1e9, 1.0, 2.0, 3.0], np.float32)}
    other = {"y": np.array([-1e9, 1.0, 2.0, 3.5], np.float32)}
    assert distance(one, other) == pytest.approx(0.5 / 3)
    assert distance(one, one) == 0


def test_any_number_of_samples_where_the_model_says_so() -> None:
    # With two batches of names of their own, it is tried out with one sample of each.
    made = Builder()
    one, two = made.input("a", "n", 4), made.input("b", "m", 4)
    y = made.node("MatMul", made.node("Concat", one, two, axis=1), made.weight(8, 3), name="head")
    made.output(y, ["n", 3])
    model = load(made.model())
    given = {name: np.ones((5, 4), np.float32) for name in "ab"}
    (answer,) = model(given).values()
    assert answer.shape == (5, 3)
