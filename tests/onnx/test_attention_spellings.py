"""Attention as exporters spell it: how queries, keys and values come out of one layer, and how they are rotated."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from onnx import ModelProto

from tests.onnx.models import (
    TOKENS,
    Array,
    Builder,
    Changed,
    change,
    close,
    inputs,
    kept,
    law,
    run,
    weight,
)

HEADS, SIZE = 4, 6
WIDTH = HEADS * SIZE
Three = list[str]


def unpacked(how: str) -> Callable[[Builder, str], Three]:
    """(N, T, 3 * heads * size) -> three times (N, heads, T, size)."""

    def headed(made: Builder, x: str) -> str:
        return made.node("Transpose", made.node("Reshape", x, made.numbers(0, 0, HEADS, SIZE)), perm=[0, 2, 1, 3])

    def split(made: Builder, x: str) -> Three:
        parts = made.many("Split", x, made.numbers(WIDTH, WIDTH, WIDTH), count=3, axis=-1)
        return [headed(made, part) for part in parts]

    def sliced(made: Builder, x: str) -> Three:
        ends = (0, WIDTH, 2 * WIDTH, 3 * WIDTH)
        pairs = pairwise(ends)
        return [headed(made, made.node("Slice", x, *(made.numbers(one) for one in (*pair, 2)))) for pair in pairs]

    def stacked(made: Builder, x: str) -> str:
        table = made.node("Reshape", x, made.numbers(0, 0, 3, HEADS, SIZE), name="table")
        return made.node("Transpose", table, perm=[2, 0, 3, 1, 4])

    def gathered(made: Builder, x: str) -> Three:
        table = stacked(made, x)
        return [made.node("Gather", table, made.constant(np.int64(place)), axis=0) for place in range(3)]

    def squeezed(made: Builder, x: str) -> Three:
        parts = made.many("Split", stacked(made, x), made.numbers(1, 1, 1), count=3, axis=0)
        return [made.node("Squeeze", part, made.numbers(0)) for part in parts]

    def inside(made: Builder, x: str) -> Three:
        # All three of a head beside each other, as in GPT-NeoX.
        table = made.node("Reshape", x, made.numbers(0, 0, HEADS, 3 * SIZE))
        turned = made.node("Transpose", table, perm=[0, 2, 1, 3])
        return made.many("Split", turned, made.numbers(SIZE, SIZE, SIZE), count=3, axis=-1)

    ways = {"split": split, "slices": sliced, "gather": gathered, "split and squeeze": squeezed, "inside": inside}
    return ways[how]


def rotated(made: Builder, x: str) -> str:
    """The halves of a head turned into each other, by angles that the model holds."""
    angles = np.outer(np.arange(TOKENS), 1 / 10 ** np.linspace(0, 1, SIZE // 2))
    angles = np.concatenate([angles, angles], axis=-1)
    first = made.node("Slice", x, made.numbers(0), made.numbers(SIZE // 2), made.numbers(3))
    second = made.node("Slice", x, made.numbers(SIZE // 2), made.numbers(2**63 - 1), made.numbers(3))
    turned = made.node("Concat", made.node("Neg", second), first, axis=-1)
    cosine = made.node("Mul", x, made.constant(np.cos(angles)))
    return made.node("Add", cosine, made.node("Mul", turned, made.constant(np.sin(angles))))


def packed(how: str, *, rotary: bool = False) -> ModelProto:
    made = Builder()
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 12, "first")
    q, k, v = unpacked(how)(made, made.linear(x, 12, 3 * WIDTH, "qkv"))
    if rotary:
        q, k = rotated(made, q), rotated(made, k)
    scores = made.node("MatMul", q, made.node("Transpose", k, perm=[0, 1, 3, 2]), name="scores")
    shares = made.node("Softmax", made.node("Mul", scores, made.constant(SIZE**-0.5)), axis=-1)
    y = made.node("Transpose", made.node("MatMul", shares, v, name="context"), perm=[0, 2, 1, 3])
    y = made.node("Reshape", y, made.numbers(0, 0, -1))
    made.output(made.linear(y, WIDTH, 3, "head"), [2, TOKENS, 3])
    return made.model()


WAYS = ("split", "slices", "gather", "split and squeeze", "inside")


def table(done: Changed, how: str) -> Array:
    """(three, heads, size): what stays."""
    stay = np.zeros(3 * WIDTH, bool)
    stay[kept(done, "qkv")] = True
    return stay.reshape(HEADS, 3, SIZE).swapaxes(0, 1) if how == "inside" else stay.reshape(3, HEADS, SIZE)


@pytest.mark.parametrize("delta", [-18, -36])
@pytest.mark.parametrize("how", WAYS)
def test_heads_of_a_packed_layer(how: str, delta: int) -> None:
    done = law(packed(how), delta, vertex="qkv", readers=())
    stay = table(done, how)
    heads = np.asarray(stay.any(axis=2))
    assert (heads == heads[:1]).all()
    *_, size = done.model["context"].shape
    assert heads[0].sum() * (size or 0) * 3 == 3 * WIDTH + delta or how in ("split", "slices")
    # By hand: the same attention with what is left of the weights.
    x = inputs(done.before)["x"] @ weight(done.before, "first.W") + weight(done.before, "first.b")
    kernel, bias = (weight(done.before, f"qkv.{name}") for name in "Wb")
    three = x @ kernel + bias
    three = three.reshape(2, TOKENS, HEADS, 3, SIZE).swapaxes(2, 3) if how == "inside" else three
    q, k, v = (three.reshape(2, TOKENS, 3, HEADS, SIZE) * stay).transpose(2, 0, 3, 1, 4)
    scores = np.exp(q @ k.swapaxes(-1, -2) * SIZE**-0.5)
    y = scores / scores.sum(-1, keepdims=True) @ v
    y = y.transpose(0, 2, 1, 3).reshape(2, TOKENS, WIDTH)
    expected = y @ weight(done.before, "head.W") + weight(done.before, "head.b")
    close(run(done.after, inputs(done.before)), [expected])


@pytest.mark.parametrize("how", WAYS)
def test_a_packed_layer_grows(how: str) -> None:
    law(packed(how), 12, vertex="qkv", readers=())


@pytest.mark.parametrize("delta", [-1, -6, 3])
@pytest.mark.parametrize("how", WAYS)
def test_what_a_packed_layer_reads(how: str, delta: int) -> None:
    law(packed(how), delta, readers=("qkv",))


@pytest.mark.parametrize("delta", [-18, -24])
@pytest.mark.parametrize("how", WAYS)
def test_rotations_spelled_out(how: str, delta: int) -> None:
    # The two neurons of a plane stay together; heads may go as a whole.
    done = law(packed(how, rotary=True), delta, vertex="qkv", readers=())
    for part in table(done, how)[:2]:
        assert (part[:, : SIZE // 2] == part[:, SIZE // 2 :]).all()


def repeated(*, by: str) -> ModelProto:
    """Two heads of keys and values for four of queries, repeated as the common libraries do."""
    made = Builder()
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 12, "first")
    three = []
    for name, count in (("q", 4), ("k", 2), ("v", 2)):
        one = made.node("Reshape", made.linear(x, 12, count * SIZE, name), made.numbers(0, 0, count, SIZE))
        three.append(made.node("Transpose", one, perm=[0, 2, 1, 3]))

    def wide(one: str) -> str:
        match by:
            case "expand":
                y = made.node(
                    "Expand", made.node("Unsqueeze", one, made.numbers(2)), made.numbers(2, 2, 2, TOKENS, SIZE)
                )
            case "computed expand":
                sizes = made.node("Shape", one)
                front, back = (
                    made.node("Slice", sizes, made.numbers(start), made.numbers(end)) for start, end in ((0, 2), (2, 4))
                )
                shape = made.node("Concat", front, made.numbers(2), back, axis=0)
                y = made.node("Expand", made.node("Unsqueeze", one, made.numbers(2)), shape)
            case "tile":
                y = made.node("Tile", made.node("Unsqueeze", one, made.numbers(2)), made.numbers(1, 1, 2, 1, 1))
            case "concat":
                alone = made.node("Unsqueeze", one, made.numbers(2))
                y = made.node("Concat", alone, alone, axis=2)
            case _:
                return made.node("Gather", one, made.numbers(0, 0, 1, 1), axis=1)
        return made.node("Reshape", y, made.numbers(0, 4, TOKENS, SIZE))

    q, k, v = three[0], wide(three[1]), wide(three[2])
    scores = made.node("MatMul", q, made.node("Transpose", k, perm=[0, 1, 3, 2]))
    y = made.node("MatMul", made.node("Softmax", scores, axis=-1), v)
    y = made.node("Reshape", made.node("Transpose", y, perm=[0, 2, 1, 3]), made.numbers(0, 0, 4 * SIZE))
    made.output(made.linear(y, 4 * SIZE, 3, "head"), [2, TOKENS, 3])
    return made.model()


@pytest.mark.parametrize("delta", [-12, -4, -8])
@pytest.mark.parametrize("by", ["expand", "computed expand", "tile", "concat", "gather"])
def test_shared_keys(by: str, delta: int) -> None:
    done = law(repeated(by=by), delta, vertex="q", readers=())
    assert weight(done.after, "q.W").shape[1] == 24 + delta
    assert 2 * weight(done.after, "k.W").shape[1] == 24 + delta


def test_keys_of_two_parts_grow() -> None:
    # Keys that are a sum: new neurons of both parts have to be silent.
    made = Builder()
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 12, "first")
    q, one, two, v = (made.linear(x, 12, 8, name) for name in ("q", "one", "two", "v"))
    scores = made.node("MatMul", q, made.node("Transpose", made.node("Add", one, two), perm=[0, 2, 1]))
    y = made.node("MatMul", made.node("Softmax", scores, axis=-1), v)
    made.output(made.linear(y, 8, 3, "head"), [2, TOKENS, 3])
    done = change(made.model(), 3, "q")
    close(run(done.after, inputs(done.before)), run(done.before, inputs(done.before)))
