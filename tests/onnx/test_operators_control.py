"""If, Loop, Scan and local functions: neurons pass through bodies, weights in them and around them follow."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, helper

from solver_nas import explain
from solver_nas.onnx import load
from tests.onnx.models import (
    BATCH,
    DELTAS,
    FLOAT,
    TOKENS,
    Builder,
    change,
    close,
    held,
    inputs,
    kept,
    law,
    run,
    tokens,
    vector,
    weight,
)

BOOL = 9


def body(name: str, fill: Callable[[Builder], None]) -> GraphProto:
    """A graph in a graph; names of values in it are its own."""
    made = Builder()
    fill(made)
    return made.graph(name)


def initializer(proto: ModelProto, node: str, branch: str, name: str) -> tuple[int, ...]:
    """The shape of an initializer in a body."""
    found = next(one for one in proto.graph.node if one.name == node)
    graph = next(one.g for one in found.attribute if one.name == branch)
    return tuple(next(one.dims for one in graph.initializer if one.name == name))


# -- If ------------------------------------------------------------------------------------------------


def branching(*, inside: bool, nested: bool = False) -> ModelProto:
    """Two layers, of which one is taken; their weights lie in the branches or outside of them."""
    made = Builder()
    flag = made.input("flag", 1, dtype=BOOL)
    x = made.dense(made.input("x", BATCH, 6), 6, 12, "first")
    if not inside:
        for name in ("then", "else"):
            made.weight(12, 10, name=f"{name}.W")
            made.bias(10, name)

    def branch(name: str, activation: str) -> Callable[[Builder], None]:
        def fill(inner: Builder) -> None:
            if inside:
                inner.rng = np.random.default_rng(len(name))
                inner.weight(12, 10, name="W")
                inner.weight(10, name="b")
            kernel, bias = ("W", "b") if inside else (f"{name}.W", f"{name}.b")
            y = inner.node("Gemm", x, kernel, bias, name="layer")
            if nested:
                y = inner.node(
                    "If",
                    flag,
                    then_branch=body("deep", lambda deep: deep.output(deep.node("Tanh", y), [BATCH, 10])),
                    else_branch=body("deep", lambda deep: deep.output(deep.node("Neg", y), [BATCH, 10])),
                    name="inner",
                )
            inner.output(inner.node(activation, y, name="activation"), [BATCH, 10])

        return fill

    y = made.node(
        "If",
        flag,
        then_branch=body("then", branch("then", "Tanh")),
        else_branch=body("else", branch("else", "Sigmoid")),
        name="choice",
    )
    made.output(made.dense(y, 10, 3, "head"), [BATCH, 3])
    return made.model()


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("inside", [False, True], ids=["weights outside", "weights inside"])
def test_branches(inside: bool, nested: bool, delta: int) -> None:
    proto = branching(inside=inside, nested=nested)
    for flag in (True, False):
        given = {**inputs(proto), "flag": np.array([flag])}
        # What the branches return.
        done = law(proto, delta, vertex="choice", given=given, lighter=False)
        assert weight(done.after, "head.W").shape == (10 + delta, 3)
        # What they read: silenced where it is made.
        done = law(proto, delta, given=given, readers=(), makers=("first",), lighter=False)
        assert weight(done.after, "first.W").shape == (6, 12 + delta)
        for branch in ("then", "else"):
            shape = (
                initializer(done.after, "choice", f"{branch}_branch", "W")
                if inside
                else weight(done.after, f"{branch}.W").shape
            )
            assert shape == (12 + delta, 10)


@pytest.mark.parametrize("delta", [-1, -6])
def test_weights_that_both_branches_reorder_are_one(delta: int) -> None:
    # As exporters do with the gates of a recurrence.
    made = Builder()
    flag = made.input("flag", dtype=BOOL)
    x = made.dense(made.input("x", BATCH, 6), 6, 12, "first")
    kernel = made.weight(12, 80, name="kernel")

    def branch(activation: str) -> Callable[[Builder], None]:
        def fill(inner: Builder) -> None:
            one, two = (
                inner.node("Slice", kernel, *(inner.numbers(number) for number in (start, start + 40, 1)))
                for start in (0, 40)
            )
            y = inner.node("MatMul", x, inner.node("Concat", two, one, axis=1), name="layer")
            inner.output(inner.node(activation, y), [BATCH, 80])

        return fill

    y = made.node("If", flag, then_branch=body("then", branch("Tanh")), else_branch=body("else", branch("Sigmoid")))
    made.output(made.dense(y, 80, 3, "head"), [BATCH, 3])
    proto = made.model()
    model = load(proto)
    assert sum(array.size for array in model.arrays.values()) == 6 * 12 + 12 + 12 * 80 + 80 * 3 + 3
    for flag_now in (True, False):
        done = law(proto, delta, given={**inputs(proto), "flag": np.array(flag_now)}, readers=(), makers=("first",))
        sizes = [math.prod(tensor.dims) for tensor in done.after.graph.initializer]
        assert sizes.count((12 + delta) * 80) == 1
        assert len(done.after.SerializeToString()) < len(proto.SerializeToString())


@pytest.mark.parametrize("delta", DELTAS)
def test_one_branch_lets_through(delta: int) -> None:
    made = Builder()
    flag = made.input("flag", dtype=BOOL)
    x = made.dense(made.input("x", BATCH, 6), 6, 12, "first")
    y = made.node(
        "If",
        flag,
        then_branch=body("then", lambda inner: inner.output(inner.node("Relu", x), [BATCH, 12])),
        else_branch=body("else", lambda inner: inner.output(inner.node("Identity", x), [BATCH, 12])),
        name="choice",
    )
    made.output(made.dense(y, 12, 3, "head"), [BATCH, 3])
    law(made.model(), delta)


def test_a_choice_that_is_made() -> None:
    # Exporters ask whether an axis is 1 and squeeze it then: one branch is never taken.
    made = Builder()
    x = made.conv(made.input("x", 2, 2, 4, 4), 2, 12, "first")
    pooled = made.node("GlobalAveragePool", x)
    last = made.node("Gather", made.node("Shape", pooled), made.constant(np.int64(3)))
    one = made.node("Equal", last, made.constant(np.int64(1)))
    y = made.node(
        "If",
        one,
        then_branch=body("then", lambda m: m.output(m.node("Flatten", pooled), [2, None])),
        else_branch=body("else", lambda m: m.output(m.node("Flatten", pooled, axis=2), [None, None])),
        name="choice",
    )
    made.output(made.dense(y, 12, 3, "head"), [2, 3])
    for delta in DELTAS:
        law(made.model(), delta)


# -- Loop ----------------------------------------------------------------------------------------------


def looping(*, inside: bool, collect: bool = False) -> ModelProto:
    """x = tanh(x W + b), three times; what each round makes may be collected."""
    made = Builder()
    x = made.dense(made.input("x", 2, 6), 6, 12, "first")
    if not inside:
        made.weight(12, 12, name="W")
        made.weight(12, name="b")

    def fill(inner: Builder) -> None:
        inner.input("round", dtype=7)
        inner.input("going", dtype=BOOL)
        inner.input("state", 2, 12)
        if inside:
            inner.weight(12, 12, name="W")
            inner.weight(12, name="b")
        y = inner.node("Tanh", inner.node("Gemm", "state", "W", "b", name="step"), name="next")
        inner.output(inner.node("Identity", "going", name="on"), [], BOOL)
        inner.output(y, [2, 12])
        if collect:
            inner.output(inner.node("Neg", y, name="seen"), [2, 12])

    given = [made.constant(np.int64(3)), made.constant(np.array(True)), x]
    names = made.many("Loop", *given, count=2 if collect else 1, body=body("body", fill), name="loop")
    y = names[0]
    if collect:
        y = made.node("Add", y, made.node("ReduceSum", names[1], made.numbers(0), keepdims=0))
    made.output(made.dense(y, 12, 3, "head"), [2, 3])
    return made.model()


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("collect", [False, True], ids=["states", "states and rounds"])
@pytest.mark.parametrize("inside", [False, True], ids=["weights outside", "weights inside"])
def test_loops(inside: bool, collect: bool, delta: int) -> None:
    # What goes is read in the body: silencing the weights there is what the package does. Growth is the statement here,
    # and the loop by hand.
    proto = looping(inside=inside, collect=collect)
    done = law(proto, delta, readers=(), lighter=False)
    shape = initializer(done.after, "loop", "body", "W") if inside else weight(done.after, "W").shape
    assert shape == (12 + delta, 12 + delta)
    if delta < 0 and not inside and not collect:
        x = inputs(proto)["x"] @ weight(done.after, "first.W") + weight(done.after, "first.b")
        for _ in range(3):
            x = np.tanh(x @ weight(proto, "W")[np.ix_(kept(done), kept(done))] + weight(proto, "b")[kept(done)])
        close(run(done.after, inputs(proto)), [x @ weight(done.after, "head.W") + weight(done.after, "head.b")])


def test_a_state_that_is_returned_stays() -> None:
    made = Builder()
    x = made.dense(made.input("x", 2, 6), 6, 12, "first")

    def fill(inner: Builder) -> None:
        inner.input("round", dtype=7)
        inner.input("going", dtype=BOOL)
        inner.input("state", 2, 12)
        inner.output(inner.node("Identity", "going"), [], BOOL)
        inner.output(inner.node("Tanh", "state", name="next"), [2, 12])

    given = [made.constant(np.int64(3)), made.constant(np.array(True)), x]
    made.output(made.node("Loop", *given, body=body("body", fill), name="loop"), [2, 12])
    assert not explain(load(made.model())["first"], 11).possible


# -- Scan ----------------------------------------------------------------------------------------------


def scanning(*, inside: bool = True, reverse: int = 0) -> ModelProto:
    """h = tanh(h R + x W): a recurrence over (tokens, batch, features), all states and the last one."""
    made = Builder()
    x = made.linear(made.input("x", TOKENS, 2, 6), 6, 12, "first")
    start = made.linear(made.input("h", 2, 4), 4, 10, "start")
    if not inside:
        made.weight(12, 10, name="W")
        made.weight(10, 10, name="R")

    def fill(inner: Builder) -> None:
        inner.input("state", 2, 10)
        inner.input("element", 2, 12)
        if inside:
            inner.weight(12, 10, name="W")
            inner.weight(10, 10, name="R")
        y = inner.node("Add", inner.node("MatMul", "state", "R"), inner.node("MatMul", "element", "W"), name="sum")
        inner.output(inner.node("Tanh", y, name="next"), [2, 10])
        inner.output(inner.node("Identity", "next", name="out"), [2, 10])

    names = made.many(
        "Scan",
        start,
        x,
        count=2,
        body=body("body", fill),
        num_scan_inputs=1,
        scan_input_directions=[reverse],
        name="scan",
    )
    made.output(made.linear(names[0], 10, 3, "last"), [2, 3])
    made.output(made.linear(names[1], 10, 3, "head"), [TOKENS, 2, 3])
    return made.model()


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("inside", [False, True], ids=["weights outside", "weights inside"])
def test_scans(inside: bool, reverse: int, delta: int) -> None:
    proto = scanning(inside=inside, reverse=reverse)

    def shape(after: ModelProto, name: str) -> tuple[int, ...]:
        return initializer(after, "scan", "body", name) if inside else weight(after, name).shape

    # What is walked over.
    done = law(proto, delta, readers=(), makers=("first",), lighter=False)
    assert shape(done.after, "W") == (12 + delta, 10)
    # The state.
    done = law(proto, delta, vertex="start", readers=(), lighter=False)
    assert shape(done.after, "W") == (12, 10 + delta)
    assert shape(done.after, "R") == (10 + delta, 10 + delta)
    assert weight(done.after, "last.W").shape == weight(done.after, "head.W").shape == (10 + delta, 3)


@pytest.mark.parametrize("delta", [-1, -5, 3])
def test_a_recurrence_by_hand(delta: int) -> None:
    proto = scanning(inside=False)
    done = change(proto, delta, "start")
    given = inputs(proto)
    x = given["x"] @ weight(proto, "first.W") + weight(proto, "first.b")
    h = given["h"] @ weight(done.after, "start.W") + weight(done.after, "start.b")
    states = []
    for step in x:
        h = np.tanh(h @ weight(done.after, "R") + step @ weight(done.after, "W"))
        states.append(h)
    expected = [
        one @ weight(done.after, f"{name}.W") + weight(done.after, f"{name}.b")
        for name, one in (("last", h), ("head", np.stack(states)))
    ]
    close(run(done.after, given), expected)


def test_axes_of_sequences() -> None:
    # (batch, tokens, features), walked over along axis 1 and collected there.
    made = Builder()
    x = made.linear(made.input("x", 2, TOKENS, 6), 6, 12, "first")

    def fill(inner: Builder) -> None:
        inner.input("state", 2, 12)
        inner.input("element", 2, 12)
        inner.output(inner.node("Add", "state", "element", name="next"), [2, 12])
        inner.output(inner.node("Tanh", "next", name="out"), [2, 12])

    start = made.linear(made.input("h", 2, 4), 4, 12, "start")
    names = made.many(
        "Scan",
        start,
        x,
        count=2,
        body=body("body", fill),
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
        name="scan",
    )
    made.output(made.linear(names[1], 12, 3, "head"), [2, TOKENS, 3])
    for delta in DELTAS:
        done = law(made.model(), delta)
        assert done.plan.sizes["start"] == (12, 12 + delta)


# -- local functions -----------------------------------------------------------------------------------


def with_function(proto: ModelProto) -> ModelProto:
    """The same model with a function `mine::gate(x) = x * sigmoid(x)` for every Mish."""
    made = ModelProto()
    made.CopyFrom(proto)
    for node in made.graph.node:
        if node.op_type == "Mish":
            node.op_type, node.domain = "gate", "mine"
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
    made.functions.append(helper.make_function("mine", "gate", ["x"], ["y"], nodes, [helper.make_opsetid("", 21)], []))
    made.opset_import.append(helper.make_opsetid("mine", 1))
    return made


@pytest.mark.parametrize("delta", DELTAS)
def test_local_functions(delta: int) -> None:
    plain = vector(lambda made, x: made.node("Mish", made.dense(made.node("Mish", x), 12, 12, "second")))
    law(with_function(plain), delta, readers=("second",))
    law(with_function(plain), delta, vertex="second")


def test_a_function_nobody_wrote() -> None:
    # An operator of a foreign domain holds what it touches, and is named; all else can change.
    made = Builder()
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "first")
    y = made.linear(made.node("Relu", x), 12, 10, "second")
    strange = made.node("Mystery", y, domain="elsewhere", name="strange")
    made.output(made.linear(strange, 10, 3, "head"), [BATCH, TOKENS, 3])
    model = load(made.model())
    (reason, *_) = held(model)
    assert reason.vertex == "strange"
    assert "nobody knows" in reason.rule
    assert not explain(model["second"], 9).possible
    assert explain(model["first"], 11).possible


def test_types_of_states() -> None:
    # A counter beside the state.
    proto = tokens(lambda made, x: made.node("Cast", made.node("Greater", x, made.constant(0.0)), to=FLOAT))
    law(proto, -6)
