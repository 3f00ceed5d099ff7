"""LSTM, GRU and RNN: hidden neurons go with their gates, states, peepholes and readers."""

from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from solver_nas.graph import Port
from tests.onnx.models import (
    BATCH,
    INT64,
    Array,
    Builder,
    Changed,
    change,
    close,
    inputs,
    law,
    literal,
    node_of,
    reference,
    run,
    setting,
    weight,
    zero,
)

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
WIDTH, STEPS, HIDDEN = 6, 4, 8
DELTAS = (-1, -4, 3)
OPERATORS = tuple(GATES)


def recurrent(
    operator: str,
    direction: str = "forward",
    *,
    bias: bool = True,
    states: str = "none",
    outputs: tuple[int, ...] = (0,),
    peepholes: bool = False,
    lengths: str = "none",
    opset: int = 21,
    **attributes: Any,
) -> ModelProto:
    """Dense, recurrent, dense: (steps, batch, width) -> the outputs that are wanted, each through a head."""
    made = Builder(opset)
    gates, count = GATES[operator], 2 if direction == "bidirectional" else 1
    batch: int | str = 2 if states in ("initializers", "same") or lengths == "constant" else BATCH
    x = made.linear(made.input("x", STEPS, batch, 5), 5, WIDTH, "first")
    given = [
        x,
        made.weight(count, gates * HIDDEN, WIDTH, name="W"),
        made.weight(count, gates * HIDDEN, HIDDEN, name="R"),
    ]
    given.append(made.weight(count, 2 * gates * HIDDEN, name="B") if bias else "")
    match lengths:
        case "input":
            given.append(made.input("lengths", batch, dtype=6))
        case "constant":
            given.append(made.constant(np.array([4, 2], np.int32), "lengths"))
        case _:
            given.append("")
    for name in ("h", "c")[: 2 if operator == "LSTM" else 1]:
        match states:
            case "inputs":
                given.append(made.linear(made.input(f"{name}0", count, batch, 4), 4, HIDDEN, name))
            case "zeros":
                width = made.node("Gather", made.node("Shape", x), made.numbers(1))
                shape = made.node("Concat", made.numbers(count), width, made.numbers(HIDDEN), axis=0)
                given.append(made.node("ConstantOfShape", shape, name=name))
            case "initializers":
                given.append(made.weight(count, 2, HIDDEN, name=name))
            case "none":
                break
            case _:
                # One row for the whole batch, as an initializer that is expanded.
                given.append(
                    made.node("Expand", made.weight(count, 1, HIDDEN, name=name), made.numbers(count, 2, HIDDEN))
                )
    if peepholes:
        given += [""] * (7 - len(given))
        given.append(made.weight(count, 3 * HIDDEN, name="P"))
    names = [f"rnn.{place}" if place in outputs else "" for place in range(max(outputs) + 1)]
    node = helper.make_node(operator, given, names, name="rnn", hidden_size=HIDDEN, direction=direction, **attributes)
    made.nodes.append(node)
    for place in outputs:
        y = names[place]
        if count == 1:
            y = made.node("Squeeze", y, made.numbers(1 if place == 0 else 0))
        elif place == 0:
            y = made.node("Transpose", y, perm=[0, 2, 1, 3])
            y = made.node("Reshape", y, made.numbers(0, 0, count * HIDDEN), name="joined")
        else:
            y = made.node("Transpose", y, perm=[1, 0, 2])
            y = made.node("Reshape", y, made.numbers(0, count * HIDDEN), name=f"joined{place}")
        y = made.linear(y, count * HIDDEN, 3, f"head{place}")
        made.output(y, [STEPS, batch, 3] if place == 0 else [batch, 3])
    return made.model()


def kept_cells(done: Changed, vertex: str = "rnn") -> Array:
    """(directions, hidden): which of them stay."""
    tensor = done.labels.tensors[Port(vertex)]
    block = next(block for block in tensor.blocks if block.axes[-1] == len(tensor.shape) - 1)
    index = done.plan.blueprint.moves.flat(block.neurons)[1]
    kept = np.zeros(block.neurons.size, bool)
    kept[index[index >= 0]] = True
    return kept.reshape(-1, HIDDEN)


def judged(proto: ModelProto, delta: int, given: dict[str, Array] | None = None) -> Changed:
    """The law: so many hidden neurons more in every direction; those that go are silenced in what reads them."""
    directions, rows, _ = weight(proto, "R").shape
    done = change(proto, directions * delta, "rnn", given=given)
    given = inputs(proto) if given is None else given
    oracle = ModelProto()
    oracle.CopyFrom(proto)
    if delta < 0:
        kept = kept_cells(done)
        assert [row.sum() for row in kept] == [HIDDEN + delta] * directions
        state = next(one for one in oracle.graph.initializer if one.name == "R")
        state.CopyFrom(numpy_helper.from_array((weight(proto, "R") * kept[:, None, :]).astype(np.float32), "R"))
        for tensor in proto.graph.initializer:
            if tensor.name.startswith("head") and tensor.name.endswith("W"):
                zero(oracle, tensor.name, 0, np.flatnonzero(~kept.reshape(-1)).tolist())
    close(run(done.after, given), run(oracle, given))
    size = HIDDEN + delta
    assert setting(done.after, "rnn", "hidden_size") == size
    assert weight(done.after, "R").shape == (directions, rows // HIDDEN * size, size)
    return done


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "bare"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_hidden_neurons(operator: str, direction: str, bias: bool, delta: int) -> None:
    proto = recurrent(operator, direction, bias=bias)
    done = judged(proto, delta)
    if bias:
        assert weight(done.after, "B").shape[1] == 2 * GATES[operator] * (HIDDEN + delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_what_it_reads(operator: str, direction: str, delta: int) -> None:
    done = law(recurrent(operator, direction), delta, readers=(), makers=("first",))
    assert weight(done.after, "W").shape[2] == WIDTH + delta
    assert setting(done.after, "rnn", "hidden_size") == HIDDEN


@pytest.mark.parametrize("states", ["inputs", "zeros", "initializers", "same"])
@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_first_states(operator: str, delta: int, states: str) -> None:
    proto = recurrent(operator, states=states)
    done = judged(proto, delta)
    if states == "initializers":
        assert weight(done.after, "h").shape == (1, 2, HIDDEN + delta)
    if states == "inputs":
        assert weight(done.after, "h.W").shape == (4, HIDDEN + delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("states", ["inputs", "zeros", "initializers"])
def test_first_states_of_both_directions(states: str, delta: int) -> None:
    done = judged(recurrent("LSTM", "bidirectional", states=states), delta)
    if delta == -4 and states != "inputs":
        # Each direction keeps its own best ones, whatever it starts with.
        one, other = kept_cells(done)
        assert (one != other).any()


def subsets(count: int) -> list[tuple[int, ...]]:
    return list(chain.from_iterable(combinations(range(count), size) for size in range(1, count + 1)))


@pytest.mark.parametrize("delta", [-4, 3])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(
    ("operator", "outputs"),
    [*(("LSTM", one) for one in subsets(3)), *(("GRU", one) for one in subsets(2)), ("RNN", (1,))],
)
def test_any_of_its_outputs(operator: str, outputs: tuple[int, ...], direction: str, delta: int) -> None:
    proto = recurrent(operator, direction, outputs=outputs)
    done = judged(proto, delta)
    assert [bool(name) for name in node_of(done.after, "rnn").output] == [
        place in outputs for place in range(max(outputs) + 1)
    ]


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_peepholes(direction: str, delta: int) -> None:
    proto = recurrent("LSTM", direction, peepholes=True, outputs=(0, 2))
    done = judged(proto, delta)
    assert weight(done.after, "P").shape[1] == 3 * (HIDDEN + delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("lengths", ["input", "constant"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_lengths_of_sequences(operator: str, lengths: str, delta: int) -> None:
    proto = recurrent(operator, lengths=lengths, outputs=(0, 1))
    given = inputs(proto)
    if lengths == "input":
        given["lengths"] = np.array([4, 2], np.int32)
    judged(proto, delta, given=given)


def test_candidates_before_the_gate() -> None:
    for delta in DELTAS:
        judged(recurrent("GRU", linear_before_reset=1), delta)


@pytest.mark.parametrize("opset", [9, 11, 14, 22])
def test_versions(opset: int) -> None:
    # Squeeze is spelled with attributes before version 13: only what is read is looked at there.
    made = Builder(opset)
    x = made.linear(made.input("x", STEPS, BATCH, 5), 5, WIDTH, "first")
    count = 4 * HIDDEN
    given = [x, made.weight(1, count, WIDTH, name="W"), made.weight(1, count, HIDDEN, name="R")]
    y = made.node("LSTM", *given, hidden_size=HIDDEN, name="rnn")
    made.output(made.linear(y, HIDDEN, 3, "head0"))
    judged(made.model(), -4)


@pytest.mark.parametrize("delta", DELTAS)
def test_layers_on_layers(delta: int) -> None:
    made = Builder()
    x = made.linear(made.input("x", STEPS, BATCH, 5), 5, WIDTH, "first")
    for number, width in enumerate((WIDTH, HIDDEN)):
        kernel, state = made.weight(1, 3 * HIDDEN, width), made.weight(1, 3 * HIDDEN, HIDDEN)
        y = made.node("GRU", x, kernel, state, hidden_size=HIDDEN, name=f"gru{number}")
        x = made.node("Squeeze", y, made.numbers(1))
    made.output(made.linear(x, HIDDEN, 3, "head"))
    done = law(made.model(), delta, vertex="gru0", readers=())
    assert setting(done.after, "gru0", "hidden_size") == HIDDEN + delta
    assert setting(done.after, "gru1", "hidden_size") == HIDDEN
    done = law(made.model(), delta, vertex="gru1", readers=())
    assert setting(done.after, "gru1", "hidden_size") == HIDDEN + delta


def test_an_embedding_before_it() -> None:
    made = Builder()
    table = made.weight(20, WIDTH, name="table")
    x = made.node("Gather", table, made.input("ids", STEPS, BATCH, dtype=INT64), name="first")
    given = [x, made.weight(1, 4 * HIDDEN, WIDTH, name="W"), made.weight(1, 4 * HIDDEN, HIDDEN, name="R")]
    y = made.node("LSTM", *given, hidden_size=HIDDEN, name="rnn")
    made.output(made.linear(made.node("Squeeze", y, made.numbers(1)), HIDDEN, 3, "head0"))
    proto = made.model()
    given_ids = {"ids": np.arange(8).reshape(4, 2)}
    for delta in DELTAS:
        law(proto, delta, readers=(), given=given_ids)
        judged(proto, delta, given=given_ids)


def test_literal_shapes_of_states() -> None:
    done = judged(recurrent("LSTM", "bidirectional"), -4)
    assert literal(done.after, "joined", 1) == [0, 0, 8]


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_batches_first(operator: str, delta: int) -> None:
    # onnxruntime has no kernel for this layout: ONNX's reference implementation has.
    made = Builder()
    x = made.linear(made.input("x", 2, STEPS, 5), 5, WIDTH, "first")
    count = GATES[operator] * HIDDEN
    given = [x, made.weight(1, count, WIDTH, name="W"), made.weight(1, count, HIDDEN, name="R")]
    y = made.node(operator, *given, hidden_size=HIDDEN, layout=1, name="rnn")
    flat = made.node("Squeeze", y, made.numbers(2), name="flat")
    made.output(made.linear(flat, HIDDEN, 3, "head0"), [2, STEPS, 3])
    proto = made.model()
    for vertex in ("first", "rnn"):
        done = change(proto, delta, vertex, unverified=True)
        assert weight(done.after, "W").shape[2] == WIDTH + (delta if vertex == "first" else 0)
        assert setting(done.after, "rnn", "hidden_size") == HIDDEN + (delta if vertex == "rnn" else 0)
        if delta > 0:
            close(reference(done.after, inputs(proto)), reference(proto, inputs(proto)))
