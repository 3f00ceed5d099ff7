"""What gives the same numbers another shape: heads, groups, pixels; literal sizes follow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from solver_nas.onnx import load
from tests.onnx.models import (
    BATCH,
    DELTAS,
    TOKENS,
    Builder,
    Middle,
    image,
    kept,
    law,
    literal,
    setting,
    tokens,
    vector,
    weight,
)

# -- Flatten and Reshape -------------------------------------------------------------------------------


def flattened(how: str, *, opset: int = 21, size: int = 3) -> Builder:
    """(N, C, 3, 3) -> (N, C * 9) -> Gemm."""
    made = Builder(opset)
    x = made.conv(made.input("x", BATCH, 2, size, size), 2, 12, "first")
    area = size * size
    match how:
        case "flatten":
            y = made.node("Flatten", x, axis=1, name="flat")
        case "flatten, negative":
            y = made.node("Flatten", x, axis=-3, name="flat")
        case "zero":
            y = made.node("Reshape", x, made.numbers(0, 12 * area), name="flat")
        case "minus one":
            y = made.node("Reshape", x, made.numbers(-1, 12 * area), name="flat")
        case "both":
            y = made.node("Reshape", x, made.numbers(0, -1), name="flat")
        case "computed":
            batch = made.node("Gather", made.node("Shape", x), made.constant(np.int64(0)))
            shape = made.node("Concat", made.node("Unsqueeze", batch, made.numbers(0)), made.numbers(-1), axis=0)
            y = made.node("Reshape", x, shape, name="flat")
        case "computed, literal":
            batch = made.node("Gather", made.node("Shape", x), made.numbers(0))
            shape = made.node("Concat", batch, made.numbers(12 * area), axis=0)
            y = made.node("Reshape", x, shape, name="flat")
        case "product":
            sizes = made.node("Shape", x)
            rest = made.node("ReduceProd", made.node("Slice", sizes, made.numbers(1), made.numbers(4)), keepdims=1)
            shape = made.node("Concat", made.node("Slice", sizes, made.numbers(0), made.numbers(1)), rest, axis=0)
            y = made.node("Reshape", x, shape, name="flat")
        case _:
            raise KeyError(how)
    made.output(made.dense(made.node("Tanh", y), 12 * area, 3, "head"))
    return made


FLATTENS = ("flatten", "flatten, negative", "zero", "minus one", "both", "computed", "computed, literal", "product")


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("how", FLATTENS)
def test_flatten(how: str, delta: int) -> None:
    done = law(flattened(how).model(), delta)
    assert weight(done.after, "head.W").shape[0] == 9 * (12 + delta)
    if how in ("zero", "minus one"):
        assert literal(done.after, "flat", 1)[1] == 9 * (12 + delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("opset", [9, 11])
def test_flatten_in_old_versions(opset: int, delta: int) -> None:
    law(flattened("flatten", opset=opset).model(), delta)
    law(flattened("zero", opset=opset).model(), delta)


@pytest.mark.parametrize("delta", DELTAS)
def test_flatten_behind_the_channels(delta: int) -> None:
    # (N, T, C) -> (N * T, C): neurons are not merged with anything.
    def middle(made: Builder, x: str) -> str:
        flat = made.node("Flatten", x, axis=2, name="flat")
        return made.node("Reshape", flat, made.numbers(-1, TOKENS, 12), name="back")

    done = law(tokens(middle), delta)
    assert literal(done.after, "back", 1) == [-1, TOKENS, 12 + delta]


RESHAPES: dict[str, Callable[[Builder, str], str]] = {
    "to a row of pixels": lambda m, x: m.node("Reshape", x, m.numbers(0, 12, -1, 1), name="reshape"),
    "zeros for all that stays": lambda m, x: m.node("Reshape", x, m.numbers(0, 0, 36, 1), name="reshape"),
    "new axes of one": lambda m, x: m.node("Reshape", x, m.numbers(-1, 12, 6, 6), name="reshape"),
    "there and back": lambda m, x: m.node(
        "Reshape", m.node("Reshape", x, m.numbers(-1, 12, 36)), m.numbers(-1, 12, 6, 6), name="reshape"
    ),
    "through a vector": lambda m, x: m.node(
        "Reshape", m.node("Reshape", x, m.numbers(-1, 12 * 36)), m.numbers(-1, 12, 6, 6), name="reshape"
    ),
    "as another": lambda m, x: m.node("Reshape", m.node("Flatten", x), m.node("Shape", x), name="reshape"),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", RESHAPES)
def test_reshape(case: str, delta: int) -> None:
    done = law(image(RESHAPES[case]), delta)
    if case in ("to a row of pixels", "new axes of one", "there and back", "through a vector"):
        assert 12 + delta in literal(done.after, "reshape", 1)
    if case == "zeros for all that stays":
        assert literal(done.after, "reshape", 1) == [0, 0, 36, 1]


@pytest.mark.parametrize("delta", DELTAS)
def test_an_output_that_is_reshaped(delta: int) -> None:
    # Sizes of nobody: (N, T, C) -> (N * T, C) by a computed product, head, and back.
    made = Builder()
    x = made.linear(made.input("x", BATCH, "T", 6), 6, 12, "first")
    sizes = made.node("Shape", x)
    rows = made.node("Mul", made.node("Gather", sizes, made.numbers(0)), made.node("Gather", sizes, made.numbers(1)))
    flat = made.node("Reshape", x, made.node("Concat", rows, made.numbers(12), axis=0), name="flat")
    y = made.dense(flat, 12, 3, "head")
    made.output(y, [None, 3])
    given = {"x": np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)}
    law(made.model(), delta, given=given)


def test_a_reshape_that_mixes_channels_with_pixels_is_pinned_or_whole() -> None:
    # (C, 6, 6) seen as (C / 8, ...): 12 channels of 36 in rows of 48 have no common divisor to follow.
    def middle(made: Builder, x: str) -> str:
        odd = made.node("Reshape", x, made.numbers(0, 16, 27), name="odd")
        return made.node("Reshape", odd, made.numbers(0, 12, 6, 6), name="back")

    proto = image(middle)
    from solver_nas import explain

    model = load(proto)
    assert not explain(model["first"], -1).possible


# -- Transpose -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("there", [[0, 2, 3, 1], [0, 3, 1, 2], [1, 0, 2, 3], [3, 2, 1, 0]], ids=str)
def test_transpose(there: list[int], delta: int) -> None:
    back = [there.index(axis) for axis in range(4)]

    def middle(made: Builder, x: str) -> str:
        return made.node("Transpose", made.node("Tanh", made.node("Transpose", x, perm=there)), perm=back)

    law(image(middle), delta)


@pytest.mark.parametrize("delta", DELTAS)
def test_transpose_by_default(delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node("Transpose", made.node("Tanh", made.node("Transpose", x)))

    law(image(middle), delta)


@pytest.mark.parametrize("delta", DELTAS)
def test_channels_last(delta: int) -> None:
    # A patch embedding as vision transformers have it: (N, C, H, W) -> (N, C, HW) -> (N, HW, C).
    made = Builder()
    x = made.conv(made.input("x", BATCH, 2, 6, 6), 2, 12, "first")
    flat = made.node("Reshape", x, made.numbers(0, 12, -1), name="flat")
    y = made.node("Add", made.node("Transpose", flat, perm=[0, 2, 1]), made.weight(1, 36, 12, name="places"))
    made.output(made.linear(y, 12, 3, "head"))
    done = law(made.model(), delta)
    assert weight(done.after, "places").shape == (1, 36, 12 + delta)
    assert literal(done.after, "flat", 1) == [0, 12 + delta, -1]


# -- Squeeze and Unsqueeze -----------------------------------------------------------------------------


def pooled(made: Builder, x: str) -> str:
    return made.node("GlobalAveragePool", x)


SQUEEZES: dict[str, tuple[int, dict[str, Any] | None, list[int] | None]] = {
    "input": (21, None, [2, 3]),
    "negative": (21, None, [-1, -2]),
    "unsaid": (21, None, None),
    "attribute": (11, {"axes": [2, 3]}, None),
    "unsaid attribute": (11, None, None),
}


@pytest.mark.parametrize("delta", [*DELTAS, -11])
@pytest.mark.parametrize("case", SQUEEZES)
def test_squeeze(case: str, delta: int) -> None:
    # With -11 a single channel is left, which must not be squeezed as well.
    opset, attributes, axes = SQUEEZES[case]
    made = Builder(opset)
    # Two samples: one would be squeezed by those that do not name their axes.
    x = made.conv(made.input("x", 2, 2, 4, 4), 2, 12, "first")
    extra = [] if axes is None else [made.numbers(*axes)]
    y = made.node("Squeeze", pooled(made, x), *extra, name="squeeze", **(attributes or {}))
    made.output(made.dense(y, 12, 3, "head"), [2, 3])
    done = law(made.model(), delta)
    assert done.plan.sizes["squeeze"] == (12, 12 + delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("opset", [11, 21])
def test_unsqueeze(opset: int, delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        if opset == 11:
            return made.node("Squeeze", made.node("Unsqueeze", x, axes=[2, 3]), axes=[2, 3])
        wide = made.node("Unsqueeze", made.node("Unsqueeze", x, made.numbers(-1)), made.numbers(1))
        return made.node("Squeeze", wide, made.numbers(1, 3))

    law(vector(middle, opset=opset), delta)


# -- heads ---------------------------------------------------------------------------------------------


def attention(*, computed: bool = False, heads: int = 4, groups: int | None = None) -> Middle:
    """Attention as exporters spell it; with fewer heads of keys and values than of queries if `groups` is given."""
    size = 3

    def headed(made: Builder, x: str, count: int, name: str) -> str:
        y = made.linear(x, 12, count * size, name)
        if computed:
            sizes = made.node("Shape", y)
            front = [made.node("Gather", sizes, made.numbers(axis)) for axis in (0, 1)]
            shape = made.node("Concat", *front, made.numbers(count, size), axis=0)
        else:
            shape = made.numbers(0, TOKENS, count, size)
        return made.node("Transpose", made.node("Reshape", y, shape, name=f"{name}.heads"), perm=[0, 2, 1, 3])

    def middle(made: Builder, x: str) -> str:
        q = headed(made, x, heads, "q")
        k, v = (headed(made, x, groups or heads, name) for name in "kv")
        if groups:
            k, v = (repeated(made, one) for one in (k, v))
        scores = made.node("MatMul", q, made.node("Transpose", k, perm=[0, 1, 3, 2]))
        shares = made.node("Softmax", made.node("Mul", scores, made.constant(0.5)), axis=-1)
        y = made.node("Transpose", made.node("MatMul", shares, v), perm=[0, 2, 1, 3])
        y = made.node("Reshape", y, made.numbers(0, 0, -1 if computed else heads * size), name="joined")
        return made.linear(y, heads * size, 12, "o")

    def repeated(made: Builder, x: str) -> str:
        """Every row of keys and values for two rows of queries."""
        wide = made.node("Expand", made.node("Unsqueeze", x, made.numbers(2)), made.numbers(1, 1, 2, 1, 1))
        return made.node("Reshape", wide, made.numbers(0, heads, TOKENS, size), name=made.fresh("rows"))

    return middle


@pytest.mark.parametrize("computed", [False, True], ids=["literal", "computed"])
@pytest.mark.parametrize("delta", [-4, -6, -3, 4])
def test_heads(delta: int, computed: bool) -> None:
    done = law(tokens(attention(computed=computed)), delta, vertex="v", readers=())
    shapes = {name: weight(done.after, f"{name}.W").shape for name in "qkvo"}
    assert shapes["v"][1] == shapes["o"][0] == 12 + delta
    assert shapes["q"] == shapes["k"]
    *_, heads, size = done.model["v.heads"].shape
    assert (heads or 0) * (size or 0) == 12 + delta
    assert done.model["q.heads"].shape[2] == heads
    if not computed:
        assert literal(done.after, "v.heads", 1) == [0, TOKENS, heads, size]


@pytest.mark.parametrize("delta", [-3, -6, -4])
def test_a_head_goes_with_all_that_is_its_own(delta: int) -> None:
    # Silencing the output weights of what goes is an independent statement where whole heads go.
    done = law(tokens(attention()), delta, vertex="v", readers=())
    heads = literal(done.after, "q.heads", 1)[2]
    rows = [len({place // 3 for place in kept(done, name).tolist()}) for name in "qkv"]
    assert rows == [heads] * 3


def test_heads_from_the_input_of_the_block() -> None:
    done = law(tokens(attention()), -6, readers=("q", "k", "v"), vertex="first")
    assert [weight(done.after, f"{name}.W").shape for name in "qkv"] == [(6, 12)] * 3


@pytest.mark.parametrize("delta", [-6, -3, 4])
def test_grouped_queries(delta: int) -> None:
    # Four heads of queries share two of keys and values.
    done = law(tokens(attention(groups=2)), delta, vertex="q", readers=())
    shapes = {name: weight(done.after, f"{name}.W").shape[1] for name in "qkv"}
    assert shapes["k"] * 2 == shapes["q"]


# -- shuffles ------------------------------------------------------------------------------------------


def shuffled(made: Builder, x: str) -> str:
    """(N, 3, 4, H, W) turned to (N, 4, 3, H, W)."""
    split = made.node("Reshape", x, made.numbers(0, 3, 4, 6, 6), name="split")
    turned = made.node("Transpose", split, perm=[0, 2, 1, 3, 4])
    return made.node("Reshape", turned, made.numbers(0, 12, 6, 6), name="merged")


@pytest.mark.parametrize("delta", [-3, -6, 3])
def test_channel_shuffle(delta: int) -> None:
    done = law(image(shuffled), delta)
    groups, size = literal(done.after, "split", 1)[1:3]
    assert groups * size == 12 + delta
    assert literal(done.after, "merged", 1)[1] == 12 + delta


def shaken(made: Builder, x: str) -> str:
    """Pixel shuffle by hand: (N, 3, 2, 2, H, W) -> (N, 3, H, 2, W, 2) -> (N, 3, 2H, 2W)."""
    split = made.node("Reshape", x, made.numbers(-1, 3, 2, 2, 6, 6), name="split")
    turned = made.node("Transpose", split, perm=[0, 1, 4, 2, 5, 3])
    return made.node("Reshape", turned, made.numbers(-1, 3, 12, 12), name="merged")


PIXELS: dict[str, tuple[Middle, int]] = {
    "DCR": (lambda m, x: m.node("DepthToSpace", x, blocksize=2, mode="DCR", name="pixels"), 3),
    "CRD": (lambda m, x: m.node("DepthToSpace", x, blocksize=2, mode="CRD", name="pixels"), 3),
    "by default": (lambda m, x: m.node("DepthToSpace", x, blocksize=2, name="pixels"), 3),
    "back": (lambda m, x: m.node("SpaceToDepth", x, blocksize=2, name="pixels"), 48),
    "by hand": (shaken, 3),
}


@pytest.mark.parametrize("delta", [-4, -8, 4])
@pytest.mark.parametrize("case", PIXELS)
def test_pixels(case: str, delta: int) -> None:
    middle, width = PIXELS[case]
    done = law(image(middle), delta)
    assert weight(done.after, "head.W").shape[1] * 12 == width * (12 + delta)
    if case == "by hand":
        assert literal(done.after, "split", 1) == [-1, (12 + delta) // 4, 2, 2, 6, 6]


def test_versions_of_pixels() -> None:
    law(image(lambda m, x: m.node("DepthToSpace", x, blocksize=2), opset=9), -4)
    law(image(lambda m, x: m.node("SpaceToDepth", x, blocksize=3), opset=9), -4)


def test_literals_stay_where_nothing_changes() -> None:
    made = Builder()
    x = made.conv(made.input("x", BATCH, 2, 6, 6), 2, 12, "first")
    y = made.node("Reshape", made.conv(x, 12, 4, "second"), made.numbers(0, 4, 36), name="reshape")
    made.output(made.node("Transpose", y, perm=[0, 2, 1], name="turn"), [None, 36, 4])
    done = law(made.model(), -6, readers=("second",))
    assert literal(done.after, "reshape", 1) == [0, 4, 36]
    assert setting(done.after, "turn", "perm") == [0, 2, 1]
