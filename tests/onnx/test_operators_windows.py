"""What slides windows over pixels: convolutions, pooling, resizing."""

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
    Builder,
    Middle,
    held,
    image,
    law,
    setting,
    weight,
)

# -- convolutions --------------------------------------------------------------------------------------

SPATIAL = {1: (9,), 2: (7, 6), 3: (5, 4, 4)}


def convolution(rank: int, *, transposed: bool = False, bias: bool = True, **attributes: Any) -> ModelProto:
    """x -> Conv -> Tanh -> Conv, with a window of three."""
    made = Builder()
    x = made.input("x", BATCH, 2, *SPATIAL[rank])
    shape = (2, 12) if transposed else (12, 2)
    kernel = made.weight(*shape, *[3] * rank, name="first.W")
    extra = [made.bias(12, "first")] if bias else []
    operator = "ConvTranspose" if transposed else "Conv"
    y = made.node("Tanh", made.node(operator, x, kernel, *extra, name="first", **attributes))
    made.output(made.conv(y, 12, 3, "head", rank), [BATCH, 3, *[None] * rank])
    return made.model()


#: Attributes for every number of dimensions, cut to those that there are.
GEOMETRY: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"bias": False},
    "padding": {"pads": [1] * 6},
    "same": {"auto_pad": "SAME_UPPER"},
    "strides": {"strides": [2, 2, 1]},
    "dilations": {"dilations": [2, 1, 1]},
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("geometry", GEOMETRY)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
def test_convolutions(transposed: bool, rank: int, geometry: str, delta: int) -> None:
    attributes: dict[str, Any] = {
        name: value[: 2 * rank if name == "pads" else rank] if isinstance(value, list) else value
        for name, value in GEOMETRY[geometry].items()
    }
    done = law(convolution(rank, transposed=transposed, **attributes), delta)
    assert weight(done.after, "first.W").shape[0 if not transposed else 1] == 12 + delta
    assert weight(done.after, "head.W").shape[1] == 12 + delta


@pytest.mark.parametrize("delta", DELTAS)
def test_what_a_transposed_convolution_reads(delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node("ConvTranspose", x, made.weight(12, 5, 2, 2, name="up.W"), strides=[2, 2], name="up")

    done = law(image(middle), delta, readers=(), makers=("first",))
    assert weight(done.after, "up.W").shape == (12 + delta, 5, 2, 2)


def grouped(groups: int, filters: int, *, transposed: bool = False, channels: int = 12, rank: int = 2) -> Middle:
    """A grouped convolution in the middle."""

    def middle(made: Builder, x: str) -> str:
        shape = (channels, filters // groups) if transposed else (filters, channels // groups)
        kernel = made.weight(*shape, *[3] * rank, name="mid.W")
        operator = "ConvTranspose" if transposed else "Conv"
        bias = made.bias(filters, "mid")
        y = made.node(operator, x, kernel, bias, group=groups, pads=[1] * rank * 2, name="mid")
        return made.node("Tanh", y)

    return middle


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
def test_depthwise(transposed: bool, rank: int, delta: int) -> None:
    done = law(image(grouped(12, 12, transposed=transposed, rank=rank), rank=rank), delta)
    assert setting(done.after, "mid", "group") == 12 + delta
    assert weight(done.after, "mid.W").shape[:2] == (12 + delta, 1)


@pytest.mark.parametrize("delta", [-1, -6])
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
def test_depthwise_with_a_multiplier(transposed: bool, delta: int) -> None:
    done = law(image(grouped(12, 24, transposed=transposed)), delta)
    assert setting(done.after, "mid", "group") == 12 + delta
    made = done.plan.sizes["mid"][1]
    assert made % (12 + delta) == 0
    assert weight(done.after, "head.W").shape[1] == made


@pytest.mark.parametrize("delta", [-12, -6, 12])
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
def test_outputs_of_a_multiplier(transposed: bool, delta: int) -> None:
    # 24 outputs of 12 channels: one for each channel less, or three channels with both of theirs.
    done = law(image(grouped(12, 24, transposed=transposed)), delta, vertex="mid")
    groups = setting(done.after, "mid", "group")
    assert weight(done.after, "mid.b").shape == (24 + delta,)
    assert (24 + delta) % groups == 0


@pytest.mark.parametrize("delta", [-4, -8, -3, 4])
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
@pytest.mark.parametrize("vertex", ["first", "mid"])
def test_groups(vertex: str, transposed: bool, delta: int) -> None:
    # Four groups: 16 channels in, 24 out.
    proto = image(grouped(4, 24, channels=16, transposed=transposed), channels=16)
    done = law(proto, delta, vertex=vertex, makers=("first",))
    groups = setting(done.after, "mid", "group")
    shape = weight(done.after, "mid.W").shape
    inside, outside = done.plan.sizes["first"][1], done.plan.sizes["mid"][1]
    if transposed:
        assert shape[:2] == (inside, outside // groups)
    else:
        assert shape[:2] == (outside, inside // groups)
    assert inside % groups == outside % groups == 0


def test_the_best_of_each_group() -> None:
    # One of four goes in every group, each its own worst one.
    proto = image(grouped(4, 24, channels=16), channels=16)
    done = law(proto, -4, readers=(), makers=("first",))
    gone = done.gone("first", 1)
    if setting(done.after, "mid", "group") == 4:
        assert [place // 4 for place in gone] == [0, 1, 2, 3]
    assert len({place % 4 for place in gone}) > 1, "the seed makes the same column the worst of all groups"


@pytest.mark.parametrize("delta", DELTAS)
def test_a_separable_block(delta: int) -> None:
    # Depthwise, pointwise, residual.
    def middle(made: Builder, x: str) -> str:
        y = grouped(12, 12)(made, x)
        return made.node("Add", x, made.conv(y, 12, 12, "point"))

    done = law(image(middle), delta, readers=("head", "point"))
    assert setting(done.after, "mid", "group") == 12 + delta


def test_kernels_that_are_computed() -> None:
    # A kernel that is an activation: its channels are tied, its window is not.
    made = Builder()
    x = made.conv(made.input("x", 1, 2, 6, 6), 2, 12, "first")
    kernel = made.node("Reshape", made.dense(made.input("z", 4, 5), 5, 12, "second"), made.numbers(4, 12, 1, 1))
    made.output(made.node("Conv", x, kernel, name="dynamic"))
    for delta in (-1, -6):
        done = law(made.model(), delta, readers=(), makers=("first", "second"))
        assert done.plan.sizes["second"] == done.plan.sizes["first"]
    law(made.model(), 3)


# -- pooling -------------------------------------------------------------------------------------------

POOLS: dict[str, dict[str, Any]] = {
    "AveragePool": {"kernel_shape": [2, 2]},
    "MaxPool": {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 0]},
    "LpPool": {"kernel_shape": [2, 2], "p": 2},
    "GlobalAveragePool": {},
    "GlobalMaxPool": {},
    "GlobalLpPool": {"p": 2},
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", POOLS)
def test_pooling(operator: str, delta: int) -> None:
    law(image(lambda m, x: m.node(operator, x, **POOLS[operator])), delta)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("operator", ["AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"])
def test_pooling_in_other_dimensions(operator: str, rank: int) -> None:
    window: dict[str, Any] = {} if operator.startswith("Global") else {"kernel_shape": [2] * rank}
    law(image(lambda m, x: m.node(operator, x, **window), rank=rank), -6)


@pytest.mark.parametrize("opset", [9, 11, 22])
def test_versions_of_pooling(opset: int) -> None:
    law(image(lambda m, x: m.node("MaxPool", x, kernel_shape=[2, 2]), opset=opset), -6)
    law(image(lambda m, x: m.node("AveragePool", x, kernel_shape=[2, 2]), opset=opset), -6)


def test_positions_of_the_largest_are_pinned() -> None:
    # Max-unpooling counts through all channels and pixels.
    def middle(made: Builder, x: str) -> str:
        y, places = made.many("MaxPool", x, count=2, kernel_shape=[2, 2], strides=[2, 2], name="pool")
        return made.node("MaxUnpool", y, places, kernel_shape=[2, 2], strides=[2, 2], name="unpool")

    model = load(image(middle))
    assert {reason.vertex for reason in held(model)} == {"pool:1", "unpool"}
    assert not explain(model["first"], 11).possible


# -- other sizes ---------------------------------------------------------------------------------------

RESIZES: dict[str, tuple[Middle, int]] = {
    "scales": (lambda m, x: m.node("Resize", x, "", m.constant([1.0, 1.0, 2.0, 1.5])), 21),
    "sizes": (lambda m, x: m.node("Resize", x, "", "", m.numbers(2, 12, 9, 8), mode="linear", name="resize"), 21),
    "named axes": (lambda m, x: m.node("Resize", x, "", "", m.numbers(9, 8), axes=[2, 3], mode="nearest"), 21),
    "scales, opset 11": (
        lambda m, x: m.node("Resize", x, m.constant(np.zeros(0)), m.constant([1.0, 1.0, 2.0, 2.0])),
        11,
    ),
    "scales, opset 10": (lambda m, x: m.node("Resize", x, m.constant([1.0, 1.0, 2.0, 2.0])), 10),
    "upsample, opset 9": (lambda m, x: m.node("Upsample", x, m.constant([1.0, 1.0, 2.0, 2.0]), mode="nearest"), 9),
    "upsample, opset 7": (lambda m, x: m.node("Upsample", x, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest"), 8),
    "computed": (
        lambda m, x: m.node(
            "Resize",
            x,
            "",
            "",
            m.node("Concat", m.node("Slice", m.node("Shape", x), m.numbers(0), m.numbers(2)), m.numbers(9, 8), axis=0),
        ),
        21,
    ),
}


def resized(case: str) -> ModelProto:
    middle, opset = RESIZES[case]
    made = Builder(opset)
    x = made.conv(made.input("x", 2, 2, 6, 6), 2, 12, "first")
    made.output(made.conv(middle(made, x), 12, 3, "head"), [2, 3, None, None])
    return made.model()


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", RESIZES)
def test_resize(case: str, delta: int) -> None:
    law(resized(case), delta)


def test_resized_channels_are_pinned() -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node("Resize", x, "", made.constant([1.0, 2.0, 1.0, 1.0]), name="resize")

    model = load(image(middle, width=24))
    assert [reason.vertex for reason in held(model)] == ["resize"]
    assert "channels themselves" in held(model)[0].rule


@pytest.mark.parametrize("delta", DELTAS)
def test_grid_samples(delta: int) -> None:
    made = Builder()
    x = made.conv(made.input("x", 2, 2, 6, 6), 2, 12, "first")
    grid = made.node("Tanh", made.input("grid", 2, 4, 5, 2))
    made.output(made.conv(made.node("GridSample", x, grid), 12, 3, "head"))
    law(made.model(), delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("constant", [False, True], ids=["given", "constant"])
def test_a_grid_of_many(constant: bool, delta: int) -> None:
    made = Builder()
    x = made.conv(made.input("x", 1, 2, 6, 6), 2, 12, "first")
    grid = made.constant(np.linspace(-0.9, 0.8, 40).reshape(1, 4, 5, 2)) if constant else made.input("grid", 1, 4, 5, 2)
    made.output(made.conv(made.node("GridSample", x, grid), 12, 3, "head"))
    law(made.model(), delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", ["RoiAlign", "MaxRoiPool"])
def test_regions(operator: str, delta: int) -> None:
    made = Builder()
    x = made.conv(made.input("x", 2, 2, 6, 6), 2, 12, "first")
    corners = np.array([[0, 0, 3, 3], [1, 2, 5, 5], [0, 1, 4, 2]], np.float32)
    if operator == "RoiAlign":
        regions = [made.constant(corners), made.constant(np.array([0, 1, 1]))]
        y = made.node(operator, x, *regions, output_height=2, output_width=2)
    else:
        regions = [made.constant(np.concatenate([[[0], [1], [1]], corners], axis=1).astype(np.float32))]
        y = made.node(operator, x, *regions, pooled_shape=[2, 2])
    made.output(made.conv(y, 12, 3, "head"))
    law(made.model(), delta)


def test_columns_to_images_are_pinned() -> None:
    made = Builder(18)
    x = made.conv(made.input("x", 1, 2, 5), 2, 12, "first", 1)
    y = made.node("Col2Im", x, made.numbers(5, 5), made.numbers(1, 5), name="image")
    made.output(y, [1, None, 5, 5])
    model = load(made.model())
    assert [reason.vertex for reason in held(model)] == ["image"]


def test_types() -> None:
    # A convolution in double precision.
    made = Builder()
    x = made.conv(made.input("x", BATCH, 2, 6, 6), 2, 12, "first")
    y = made.node("Cast", made.node("Cast", x, to=11), to=FLOAT)
    made.output(made.conv(y, 12, 3, "head"))
    law(made.model(), -6)
