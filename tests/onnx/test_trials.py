"""Inputs that changes are tried out with, where nobody gives any, and what they cannot show."""

from __future__ import annotations

from copy import copy, deepcopy

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from solver_nas import create_edge, delta_nout, explain, insert, plan_change, relaxed, remove, replace
from solver_nas.errors import BrokenRuleError, GraphError, RuleError, VerificationError
from solver_nas.labels import Tensor
from solver_nas.onnx import Op, load, operator
from solver_nas.onnx.comparison import compare
from solver_nas.onnx.runtime import distances, largest, trials
from solver_nas.rules.primitives import same
from tests.onnx.models import Builder


def test_numbers_that_are_positive_where_others_are_none() -> None:
    made = Builder()
    y = made.dense(made.node("Log", made.input("x", "n", 6)), 6, 8, "first")
    made.output(made.dense(y, 8, 3, "head"), ["n", 3])
    model = load(made.model())
    delta_nout(model["first"], -3)
    assert model["first"].nout == 5


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param(np.zeros((0, 6), np.float32), "returns nothing", id="no samples"),
        pytest.param(np.full((2, 6), np.nan, np.float32), "no finite number", id="no numbers"),
    ],
)
def test_what_shows_nothing_is_refused(given: np.ndarray, text: str) -> None:
    made = Builder()
    made.output(made.dense(made.dense(made.input("x", "n", 6), 6, 8, "first"), 8, 3, "head"), ["n", 3])
    model = load(made.model(), inputs={"x": given})
    with pytest.raises(VerificationError, match=f"{text}.*--data"):
        delta_nout(model["first"], -3)
    assert model["first"].nout == 8


@pytest.mark.parametrize("positions", [77, 12])
def test_tables_of_positions_may_be_short(positions: int) -> None:
    made = Builder()
    ids = made.input("ids", "n", "t", dtype=TensorProto.INT64)
    length = made.node("Squeeze", made.node("Slice", made.node("Shape", ids), made.numbers(1), made.numbers(2)))
    zero, one = made.constant(np.array(0)), made.constant(np.array(1))
    where = made.node("Gather", made.weight(positions, 8), made.node("Range", zero, length, one))
    y = made.node("Add", made.node("Gather", made.weight(50, 8), ids), where)
    made.output(made.linear(made.linear(y, 8, 12, "first"), 12, 3, "head"), ["n", "t", 3])
    model = load(made.model())
    delta_nout(model["first"], -2)
    assert model["first"].nout == 10


def test_what_is_counted_goes_too() -> None:
    made = Builder()
    y = made.dense(made.input("x", "n", 6), 6, 8, "first")
    positive = made.node("Cast", made.node("GreaterOrEqual", y, made.constant(np.float32(0))), to=TensorProto.INT64)
    count = made.node("Cast", made.node("ReduceSum", positive, made.numbers(1), keepdims=1), to=TensorProto.FLOAT)
    made.output(made.dense(made.node("Mul", y, count), 8, 3, "head"), ["n", 3])
    delta_nout(load(made.model())["first"], -3)


def _tokens(*, free: bool) -> ModelProto:
    """Tokens are put before others, and have as many channels."""
    made = Builder()
    x = made.input("x", "n", 4, 6)
    y = made.linear(x, 6, 8, "first")
    samples = made.node("Slice", made.node("Shape", x), made.numbers(0), made.numbers(1))
    shape = made.node("Concat", samples, made.numbers(5, 8), axis=0)
    token = made.node("Expand", made.weight(1, 5, 8), shape)
    y = made.node("Add", made.node("Concat", token, y, axis=1), made.weight(1, 9, 8))
    y = made.node("LayerNormalization", y, made.weight(8), made.weight(8))
    made.output(y if free else made.linear(y, 8, 3, "head"), ["n", 9, 8 if free else 3])
    return made.model()


@pytest.mark.parametrize("delta", [-1, 3])
@pytest.mark.parametrize("free", [False, True], ids=["inside", "returned"])
def test_the_axis_that_changes_is_compared(delta: int, free: bool) -> None:
    model = load(_tokens(free=free), free_outputs=free)
    delta_nout(model["first"], delta)
    assert model["first"].nout == 8 + delta


@pytest.mark.parametrize("delta", [-2, -4])
def test_bodies_follow_shapes_that_are_computed_in_part(delta: int) -> None:
    made = Builder()
    x, flag = made.input("x", "n", 5, 6), made.input("flag", dtype=TensorProto.BOOL)
    front = made.node("Slice", made.node("Shape", x), made.numbers(0), made.numbers(2))
    y = made.linear(x, 6, 8, "first")
    y = made.node("Reshape", y, made.node("Concat", front, made.numbers(2, 4), axis=0))
    y = made.node("Reshape", made.node("Relu", y), made.node("Concat", front, made.numbers(8), axis=0))
    branches = [
        helper.make_graph(
            [helper.make_node(kind, [y], [kind])],
            kind,
            [],
            [helper.make_tensor_value_info(kind, TensorProto.FLOAT, ["n", 5, 8])],
        )
        for kind in ("Relu", "Sigmoid")
    ]
    y = made.node("If", flag, then_branch=branches[0], else_branch=branches[1])
    made.output(made.linear(y, 8, 3, "head"), ["n", 5, 3])
    model = load(made.model())
    delta_nout(model["first.plus"], delta)
    (node,) = (node for node in model.proto.graph.node if node.op_type == "If")
    for attribute in node.attribute:
        assert attribute.g.output[0].type.tensor_type.shape.dim[2].dim_value == 8 + delta


def test_sizes_that_are_written_down_are_not_open() -> None:
    made = Builder()
    y = made.linear(made.input("x", "n", "t", 6), 6, 8, "first")
    y = made.node("Reshape", y, made.numbers(14, 8))
    y = made.node("Reshape", made.node("Relu", y), made.numbers(2, 7, 8))
    made.output(made.linear(y, 8, 3, "head"), ["n", "t", 3])
    model = load(made.model(), {"x": (2, 7, 6)})
    delta_nout(model["first"], -3)
    assert model({"x": np.ones((2, 7, 6), np.float32)})["head.plus"].shape == (2, 7, 3)


def test_what_is_claimed_of_an_edit_is_seen_in_more_than_one_sample() -> None:
    made = Builder()
    # Nearly all sums are positive.
    wide = made.node("Gemm", made.input("x", "n", 6), made.weight(6, 8), made.constant(np.full(8, 2.5)), name="first")
    made.output(made.dense(wide, 8, 3, "head"), ["n", 3])
    model = load(made.model())
    edit = insert(model["first"], lambda x: x.model.add("Relu", x))
    assert "computes something else" in str(edit)


def test_what_takes_gigabytes_is_tried_with_small_sizes() -> None:
    made = Builder()
    x = made.node("Reshape", made.conv(made.input("x", "n", 3, "h", "w"), 3, 4, "first"), made.numbers(0, 4, -1))
    weights = made.node("Softmax", made.node("MatMul", made.node("Transpose", x, perm=[0, 2, 1]), x), axis=-1)
    y = made.node("MatMul", x, weights)
    made.output(made.node("ReduceMean", y, made.numbers(2), keepdims=0), ["n", 4])
    model = load(made.model(), free_outputs=True)
    assert largest(model.structure, 2) > 10**8
    given = next(trials(model.structure, np.random.default_rng(0)))
    assert given["x"].shape == (2, 3, 32, 32)
    delta_nout(model["first"], -1)


def test_a_branch_need_not_fit_all_sizes() -> None:
    made = Builder()
    x = made.input("x", "n", "t", 6)
    wide = made.linear(x, 6, 8, "first")
    four = made.node("Equal", made.node("Gather", made.node("Shape", x), made.constant(np.array(1))), made.constant(4))
    four_tokens, any_tokens = Builder(), Builder()
    results = four_tokens.node("Reshape", wide, made.numbers(-1, 4, 8)), any_tokens.node("Relu", wide)
    branches = [
        helper.make_graph(
            inner.nodes, name, [], [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)], inner.initializers
        )
        for name, inner, result in zip(("then", "other"), (four_tokens, any_tokens), results, strict=True)
    ]
    y = made.node("If", four, then_branch=branches[0], else_branch=branches[1])
    made.output(made.linear(y, 8, 3, "head"), ["n", "t", 3])
    for given in (None, {"x": (2, 7, 6)}, {"x": (2, 4, 6)}):
        model = load(made.model(), given)
        for length in (4, 7):
            assert model({"x": np.ones((2, length, 6), np.float32)})["head.plus"].shape == (2, length, 3)


def test_ranks_may_depend_on_sizes() -> None:
    made = Builder()
    x, flag = made.input("x", "n", 6), made.input("flag", dtype=TensorProto.BOOL)
    wide = made.dense(x, 6, 8, "first")
    samples = made.node("Gather", made.node("Shape", x), made.constant(np.array(0)))
    alone = made.node("Equal", samples, made.constant(np.array(1)))

    def body(inner: Builder, result: str) -> GraphProto:
        out = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
        return helper.make_graph(inner.nodes, "body", [], [out], inner.initializers)

    single, several, outer, other = (Builder() for _ in range(4))
    then = body(single, single.node("Squeeze", wide, made.numbers(0), name="single"))
    y = outer.node("If", alone, then_branch=then, else_branch=body(several, several.node("Identity", wide)))
    outer_then = body(outer, outer.node("Reshape", outer.node("Relu", y), made.numbers(-1, 8), name="back"))
    y = made.node("If", flag, then_branch=outer_then, else_branch=body(other, other.node("Relu", wide, name="plain")))
    made.output(made.dense(y, 8, 3, "head"), ["n", 3])
    given = {"x": np.ones((1, 6), np.float32), "flag": np.array(True)}
    # A branch that no size fits pins what it reads.
    assert not any(explain(load(made.model(), shapes)["first"], -3) for shapes in (None, {"x": (4, 6)}))
    model = load(made.model(), {"x": (1, 6)}, inputs=given)
    delta_nout(model["first"], -3)
    for count in (1, 5):
        again = {"x": np.ones((count, 6), np.float32), "flag": np.array(True)}
        assert model(again)["head"].shape == (count, 3)


# -- constants ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [(0, 1), (1,)], ids=["both", "one"])
def test_weights_that_are_split(used: tuple[int, ...]) -> None:
    made = Builder()
    first = made.dense(made.input("x", "n", 6), 6, 8, "first")
    parts = made.many("Split", made.weight(8, 10), made.numbers(4, 6), count=2, axis=1)
    y = made.node("Concat", *(made.node("MatMul", first, parts[one], name=f"part{one}") for one in used), axis=1)
    made.output(made.dense(made.node("Relu", y), sum((4, 6)[one] for one in used), 3, "head"), ["n", 3])
    for vertex, delta in (("first", -3), (f"part{used[-1]}", -1), ("first", 2)):
        model = load(made.model())
        size = model[vertex].nout
        delta_nout(model[vertex], delta)
        assert load(model.proto)[vertex].nout == size + delta


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_what_is_computed_in_another_precision_is_another_weight(kind: int) -> None:
    made = Builder()
    first = made.dense(made.input("x", "n", 6), 6, 8, "first")
    weight, scale = made.weight(8, 5), made.weight(5)
    plain = made.node("Mul", weight, scale)
    rough = made.node("Mul", made.node("Cast", weight, to=kind), made.node("Cast", scale, to=kind))
    one = made.node("MatMul", first, plain)
    two = made.node("MatMul", first, made.node("Cast", rough, to=TensorProto.FLOAT))
    made.output(made.dense(made.node("Concat", one, two, axis=1), 10, 3, "head"), ["n", 3])
    model = load(made.model())
    delta_nout(model["first"], -3)
    assert model["first"].nout == 5


@pytest.mark.parametrize("turned", [False, True])
def test_large_weights_that_are_computed_alike(turned: bool) -> None:
    made = Builder()
    first = made.dense(made.input("x", "n", 6), 6, 80, "first")
    weight, scale = made.weight(80, 80, name="weight"), made.weight(80)
    alike = [made.node("Mul", weight, scale) for _ in range(2)]
    y = first
    for place, one in enumerate(reversed(alike) if turned else alike):
        y = made.node("Relu", made.node("MatMul", y, one, name=f"layer{place}"))
    made.output(made.dense(made.node("MatMul", y, weight, name="plain"), 80, 3, "head"), ["n", 3])
    for vertex in ("plain", "first"):
        model = load(made.model())
        plan = plan_change(model[vertex], relaxed(-5))
        plan.apply()
        assert load(model.proto)[vertex].nout == model[vertex].nout < 80


@pytest.mark.parametrize("computed", [False, True])
def test_weights_that_are_returned_stay(computed: bool) -> None:
    made = Builder()
    first = made.dense(made.input("x", "n", 6), 6, 8, "first")
    weight = made.weight(8, 8, name="weight")
    weight = made.node("Mul", weight, made.weight(8)) if computed else weight
    y = made.node("MatMul", made.dense(first, 8, 8, "second"), weight, name="third")
    made.output(made.dense(y, 8, 3, "head"), ["n", 3])
    made.output(weight, [8, 8])
    model = load(made.model())
    assert not explain(model["second"], -1)
    delta_nout(model["first"], -2)
    assert model["first"].nout == 6


def test_constants_that_only_onnxruntime_computes() -> None:
    made = Builder(opset=17)
    first = made.dense(made.input("x", "n", 6), 6, 8, "first")
    parts = [
        made.node("DequantizeLinear", made.constant(np.arange(-16, 16, dtype=np.int8).reshape(8, 4)), made.constant(s))
        for s in (0.1, 0.2)
    ]
    made.output(made.dense(made.node("MatMul", first, made.node("Concat", *parts, axis=1)), 8, 3, "head"), ["n", 3])
    model = load(made.model())
    delta_nout(model["first"], -3)
    assert model["first"].nout == 5


def test_constants_that_nobody_computes_are_pinned() -> None:
    made = Builder()
    first = made.dense(made.input("x", "n", 6), 6, 8, "first")
    weight = made.node("Gelu", made.weight(8, 8), domain="com.microsoft", name="strange")
    y = made.node("MatMul", made.dense(first, 8, 8, "second"), weight)
    made.output(made.dense(y, 8, 3, "head"), ["n", 3])
    model = load(made.model())
    assert not explain(model["second"], -1)
    delta_nout(model["first"], -2)


def test_sparse_constants_are_pinned() -> None:
    made = Builder()
    values = numpy_helper.from_array(np.arange(1, 49, dtype=np.float32), "values")
    places = numpy_helper.from_array(np.arange(48), "places")
    sparse = made.node("Constant", sparse_value=helper.make_sparse_tensor(values, places, [6, 8]))
    wide = made.node("MatMul", made.input("x", "n", 6), sparse, name="wide")
    made.output(made.dense(made.dense(wide, 8, 10, "first"), 10, 3, "head"), ["n", 3])
    model = load(made.model())
    assert model["wide"].nout == 0
    delta_nout(model["first"], -3)


def test_comparison_finds_sizes_that_suit() -> None:
    made = Builder()
    ids = made.input("ids", "n", "t", dtype=TensorProto.INT64)
    length = made.node("Squeeze", made.node("Slice", made.node("Shape", ids), made.numbers(1), made.numbers(2)))
    where = made.node("Range", made.constant(np.array(0)), length, made.constant(np.array(1)))
    made.output(made.linear(made.node("Gather", made.weight(30, 8), where), 8, 3, "head"), ["t", 3])
    model = load(made.model())
    assert compare(model, copy(model), repeats=1).distance == 0


def test_copies_have_a_history() -> None:
    made = Builder()
    made.output(made.dense(made.dense(made.input("x", "n", 6), 6, 8, "first"), 8, 3, "head"), ["n", 3])
    model = load(made.model(), history=3)
    for twin in (copy(model), deepcopy(model)):
        delta_nout(twin["first"], -1)
        twin.undo()
        assert (twin["first"].nout, model["first"].nout) == (8, 8)


# -- edits ----------------------------------------------------------------------------------------------


def test_a_block_can_be_inserted_where_sizes_are_given() -> None:
    made = Builder()
    y = made.conv(made.input("x", "n", 3, "h", "w"), 3, 8, "first")
    made.output(made.node("GlobalAveragePool", made.conv(y, 8, 4, "head")), ["n", 4, 1, 1])
    model = load(made.model(), {"x": (1, 3, 12, 20)})

    def block(x):  # type: ignore[no-untyped-def] # a handle comes, a handle goes
        inner = x.model.add("Relu", x.model.add("Conv", x, np.ones((5, 8, 1, 1), np.float32)))
        return x.model.add("Add", x, x.model.add("Conv", inner, np.zeros((8, 5, 1, 1), np.float32)))

    assert "computes what it did" in str(insert(model["first"], block))
    assert model["Conv_1"].nout == 5


def test_an_edit_that_not_all_inputs_survive_is_no_harmless_one() -> None:
    made = Builder()
    ids = made.input("ids", "n", "t", dtype=TensorProto.INT64)
    table = made.node("Gather", made.weight(50, 8, name="table"), ids, name="embed")
    made.output(made.linear(table, 8, 3, "head"), ["n", "t", 3])
    model = load(made.model())
    smaller = model.arrays["table"][:40]
    before = model.proto
    try:
        edit = replace(model["embed"], lambda x: x.model.add("Gather", smaller, x))
    except VerificationError:
        assert model.proto == before
    else:
        assert "computes something else" in str(edit)


def test_nothing_stands_behind_what_is_returned() -> None:
    made = Builder()
    made.output(made.dense(made.dense(made.input("x", "n", 6), 6, 8, "first"), 8, 3, "head"), ["n", 3])
    model = load(made.model())
    before = model.proto
    (end,) = (handle for handle in model if handle.kind == "onnx.output")
    with pytest.raises(GraphError, match="is what the model returns"):
        insert(end, lambda x: x.model.add("Relu", x))
    assert model.proto == before


def test_edges_that_do_not_fit_leave_everything() -> None:
    made = Builder()
    x = made.input("x", "n", 3, 8, 8)
    y = made.node("Concat", *(made.conv(x, 3, 4, name, kernel=3) for name in ("one", "two")), axis=1, name="both")
    made.output(made.node("GlobalAveragePool", made.conv(y, 8, 4, "head")), ["n", 4, 1, 1])
    model = load(made.model())
    before = model.proto
    with pytest.raises((GraphError, RuleError, VerificationError)):
        create_edge(model["x"], model["both"])
    assert model.proto == before


@pytest.mark.filterwarnings("ignore::solver_nas.errors.RelaxedWarning")
def test_means_can_be_removed_or_are_refused() -> None:
    made = Builder()
    y = made.linear(made.input("x", "n", 5, 6), 6, 8, "first")
    mean = made.node("ReduceMean", y, made.numbers(2), keepdims=1, name="mean")
    made.output(made.linear(made.node("Sub", y, mean), 8, 3, "head"), ["n", 5, 3])
    model = load(made.model())
    before = model.proto
    for edit in (remove, lambda handle: replace(handle, lambda x: x.model.add("Sigmoid", x))):
        try:
            edit(model["mean"])
        except (GraphError, RuleError, VerificationError):
            assert model.proto == before
        else:
            model.undo()


# -- rules ----------------------------------------------------------------------------------------------


def _unary(kind: str) -> ModelProto:
    made = Builder()
    y = made.node(kind, made.dense(made.input("x", "n", 6), 6, 8, "first"), domain="tests")
    made.output(made.dense(y, 8, 3, "head"), ["n", 3])
    return made.model()


def test_a_rule_with_a_mistake_is_named() -> None:
    @operator("tests::Broken", note="fails", shape=lambda shape: shape)
    def _broken(op: Op) -> Tensor:
        return op.tensor(1 // 0)

    with pytest.raises(BrokenRuleError, match=r"rule for operator 'tests::Broken' failed at .*ZeroDivisionError"):
        load(_unary("Broken"))


def test_a_rule_can_be_defined_again() -> None:
    def define(wrong: bool) -> None:
        @operator("tests::Again", note="neuron by neuron", shape=lambda shape: shape)
        def _again(op: Op) -> Tensor:
            return same(op.scope, op.tensor(5 if wrong else 0))

    define(wrong=True)
    define(wrong=False)
    assert load(_unary("Again"))["first"].nout == 8
    with pytest.raises(RuleError, match="has a rule already"):
        operator("tests::Again", note="another function")(lambda op: op.tensor(0))


def test_distances_are_relative_to_the_largest_number_of_an_output() -> None:
    # Nearly all probabilities are tiny.
    one = np.array([0.99, *np.full(100, 1e-6)], np.float32)
    other = one + np.array([0, *np.full(100, 5e-6)], np.float32)
    assert distances({"p": one}, {"p": other})["p"] == pytest.approx(5e-6 / 0.99, rel=1e-3)
