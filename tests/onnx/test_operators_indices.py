"""What picks by positions: Gather with constant ones, tables that numbers are looked up in."""

import numpy as np
import pytest

from solver_nas import plan_change
from tests.onnx.models import (
    BATCH,
    DELTAS,
    INT64,
    TOKENS,
    Builder,
    Middle,
    image,
    kept,
    law,
    literal,
    weight,
)

# -- Gather --------------------------------------------------------------------------------------------


def gathered(*places: int, axis: int = 1) -> Middle:
    return lambda made, x: made.node("Gather", x, made.numbers(*places), axis=axis, name="gather")


GATHERS = {
    "a permutation": (gathered(3, 0, 11, 7, 1, 2, 4, 5, 6, 10, 9, 8), 12),
    "negative places": (gathered(-1, -2, -3, *range(9)), 12),
    "a part": (gathered(8, 2, 5, 3), 4),
    "repeats": (gathered(*range(12), 3, 3, 7), 15),
    "negative axis": (gathered(*reversed(range(12)), axis=-3), 12),
}


@pytest.mark.parametrize("delta", [-1, -6])
@pytest.mark.parametrize("case", GATHERS)
def test_gather(case: str, delta: int) -> None:
    middle, width = GATHERS[case]
    done = law(image(middle, width=width), delta, readers=(), makers=("first",), lighter=False)
    places = literal(done.after, "gather", 1)
    before = [place % 12 for place in literal(done.before, "gather", 1)]
    stay = kept(done).tolist()
    assert [stay[place] for place in places] == [place for place in before if place in stay]


@pytest.mark.parametrize("case", ["a permutation", "a part", "negative axis"])
def test_gather_grows(case: str) -> None:
    middle, width = GATHERS[case]
    done = law(image(middle, width=width), 3)
    assert len(literal(done.after, "gather", 1)) == done.plan.sizes["gather"][1]


@pytest.mark.parametrize("delta", DELTAS)
def test_gather_of_a_token(delta: int) -> None:
    # The class token: a scalar index on another axis.
    def middle(made: Builder, x: str) -> str:
        return made.node("Gather", x, made.constant(np.int64(0)), axis=1, name="gather")

    made = Builder()
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "first")
    made.output(made.dense(middle(made, x), 12, 3, "head"))
    law(made.model(), delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("place", [3, -1])
def test_a_single_channel(place: int, delta: int) -> None:
    # It has to stay, wherever it stands then; all others may go.
    def middle(made: Builder, x: str) -> str:
        one = made.node("Gather", x, made.constant(np.int64(place)), axis=1, name="gather")
        return made.node("Mul", x, made.node("Unsqueeze", one, made.numbers(1)))

    done = law(image(middle), delta)
    (now,) = literal(done.after, "gather", 1)
    assert kept(done)[now] == place % 12


@pytest.mark.parametrize("delta", DELTAS)
def test_one_layer_in_two_places(delta: int) -> None:
    # A twin network: the same kernel for both inputs.
    made = Builder()
    twins = []
    kernel, bias = made.weight(12, 2, 1, 1, name="first.W"), made.weight(12, name="first.b")
    for name in ("first", "second"):
        x = made.input(f"{name}.x", BATCH, 2, 6, 6)
        twins.append(made.node("Tanh", made.node("Conv", x, kernel, bias, name=name)))
    made.output(made.conv(made.node("Sub", *twins), 12, 3, "head"))
    done = law(made.model(), delta)
    assert weight(done.after, "first.W").shape == (12 + delta, 2, 1, 1)
    assert done.plan.sizes["first"] == done.plan.sizes["second"]


def embedding(*, tied: str) -> Builder:
    made = Builder()
    table = made.weight(20, 12, name="table")
    x = made.node("Gather", table, made.input("ids", BATCH, TOKENS, dtype=INT64), axis=0, name="first")
    y = made.node("Tanh", made.linear(x, 12, 12, "mid"))
    match tied:
        case "transposed":
            made.output(made.node("MatMul", y, made.node("Transpose", table, perm=[1, 0]), name="logits"))
        case "gemm":
            flat = made.node("Reshape", y, made.numbers(-1, 12), name="flat")
            made.output(made.node("Gemm", flat, table, transB=1, name="logits"))
        case _:
            made.output(made.linear(y, 12, 20, "head"))
    return made


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("tied", ["no", "transposed", "gemm"])
def test_embeddings(tied: str, delta: int) -> None:
    proto = embedding(tied=tied).model()
    done = law(proto, delta, readers=("mid",) if tied == "no" else (), given={"ids": np.array([[1, 5, 19, 0, 7]])})
    assert weight(done.after, "table").shape == (20, 12 + delta)
    if tied != "no":
        # The table is read where numbers are looked up and where they are compared: both lengths are one.
        assert done.plan.sizes["mid"] == (12, 12 + delta)


def test_the_length_of_a_table_stays() -> None:
    done = law(embedding(tied="no").model(), -6, vertex="mid", given={"ids": np.array([[1, 5, 19, 0, 7]])})
    assert weight(done.after, "table").shape == (20, 12)


def test_positions_from_data_pin_the_axis() -> None:
    made = Builder()
    x = made.dense(made.input("x", BATCH, 6), 6, 12, "first")
    y = made.dense(made.node("Relu", x), 12, 10, "second")
    picked = made.node("Gather", y, made.input("ids", 4, dtype=INT64), axis=1, name="gather")
    made.output(made.dense(picked, 4, 3, "head"))
    proto = made.model()
    done = law(proto, -6, readers=("second",))
    from solver_nas.errors import ImpossibleError, RequestError

    with pytest.raises((ImpossibleError, RequestError)):
        plan_change({done.model["second"]: -1}, on_failure="raise")
