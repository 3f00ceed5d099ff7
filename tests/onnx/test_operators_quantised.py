"""Quantised models: scales and zero points go with the channels that they belong to."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from solver_nas import delta_nout
from solver_nas.onnx import load
from tests.onnx.models import (
    BATCH,
    DELTAS,
    FLOAT,
    TOKENS,
    Array,
    Builder,
    Middle,
    change,
    close,
    image,
    inputs,
    law,
    run,
    setting,
    tokens,
    weight,
)

#: A model that rounds to eighths of a bit makes steps, which fall this way or that.
STEPS = 0.05


def stored(made: Builder, shape: tuple[int, ...], axis: int | None, name: str, *, zeros: bool = True) -> str:
    """A weight of eight bits behind a DequantizeLinear, with a scale per channel, or one for all of them."""
    integers = made.rng.integers(-100, 100, shape).astype(np.int8)
    made.constant(integers, f"{name}.W")
    size = () if axis is None else (shape[axis],)
    scale = made.constant(made.rng.uniform(0.002, 0.008, size), f"{name}.scale")
    extra = [made.constant(np.zeros(size, np.int8), f"{name}.zero")] if zeros else []
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    return made.node("DequantizeLinear", f"{name}.W", scale, *extra, name=f"{name}.dequantised", **attributes)


def rounded(made: Builder, x: str, *, axis: int | None = None, size: int = 12) -> str:
    """Activations through eight bits and back."""
    shape = () if axis is None else (size,)
    scale = made.constant(np.full(shape, 0.02, np.float32) * (1 + np.arange(size) / size if axis else 1))
    zero = made.constant(np.zeros(shape, np.int8))
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    small = made.node("QuantizeLinear", x, scale, zero, **attributes)
    return made.node("DequantizeLinear", small, scale, zero, **attributes)


def quantised(axis: int | None, *, zeros: bool = True, activations: bool = False) -> ModelProto:
    """Convolutions with weights of eight bits."""
    made = Builder()
    y = made.input("x", BATCH, 2, 6, 6)
    for name, width, filters in (("first", 2, 12), ("head", 12, 3)):
        if activations:
            y = rounded(made, y)
        kernel = stored(made, (filters, width, 1, 1), axis, name, zeros=zeros)
        y = made.node("Conv", y, kernel, made.bias(filters, name), name=name)
    made.output(y)
    return made.model()


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("zeros", [True, False], ids=["zero points", "no zero points"])
@pytest.mark.parametrize("axis", [0, None], ids=["per channel", "per tensor"])
def test_weights(axis: int | None, zeros: bool, delta: int) -> None:
    done = law(quantised(axis, zeros=zeros), delta)
    assert weight(done.after, "first.W").dtype == np.int8
    assert weight(done.after, "first.W").shape == (12 + delta, 2, 1, 1)
    if axis is not None:
        assert weight(done.after, "first.scale").shape == (12 + delta,)
        assert weight(done.after, "head.scale").shape == (3,)
        if zeros:
            assert weight(done.after, "first.zero").shape == (12 + delta,)


@pytest.mark.parametrize("delta", [-1, -6])
@pytest.mark.parametrize("axis", [0, None], ids=["per channel", "per tensor"])
def test_weights_and_activations(axis: int | None, delta: int) -> None:
    law(quantised(axis, activations=True), delta, tolerance=STEPS)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("axis", [0, 1])
def test_scales_of_what_is_read(axis: int, delta: int) -> None:
    # (in, out) behind MatMul: scales per output, or per input.
    made = Builder()
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "first")
    y = made.node("MatMul", x, stored(made, (12, 9), axis, "head"), name="head")
    made.output(y, [BATCH, TOKENS, 9])
    done = law(made.model(), delta)
    assert weight(done.after, "head.scale").shape == ((12 + delta,) if axis == 0 else (9,))


@pytest.mark.parametrize("delta", DELTAS)
def test_turned_weights(delta: int) -> None:
    made = Builder()
    x = made.input("x", BATCH, TOKENS, 6)
    kernel = made.node("Transpose", stored(made, (12, 6), 0, "first"), perm=[1, 0])
    x = made.node("MatMul", x, kernel, name="first")
    made.output(made.linear(x, 12, 3, "head"))
    done = law(made.model(), delta)
    assert weight(done.after, "first.W").shape == (12 + delta, 6)
    assert weight(done.after, "first.scale").shape == (12 + delta,)


@pytest.mark.parametrize("delta", [-4, -8, -3])
def test_grouped_weights(delta: int) -> None:
    made = Builder()
    x = made.conv(made.input("x", BATCH, 2, 6, 6), 2, 16, "first")
    y = made.node("Conv", x, stored(made, (24, 4, 1, 1), 0, "mid"), made.bias(24, "mid"), group=4, name="mid")
    made.output(made.conv(y, 24, 3, "head"))
    done = law(made.model(), delta, vertex="mid")
    assert weight(done.after, "mid.scale").shape == (done.plan.sizes["mid"][1],)
    law(made.model(), delta, makers=("first",))


@pytest.mark.parametrize("delta", DELTAS)
def test_depthwise_weights(delta: int) -> None:
    made = Builder()
    x = made.conv(made.input("x", BATCH, 2, 6, 6), 2, 12, "first")
    y = made.node("Conv", x, stored(made, (12, 1, 3, 3), 0, "mid"), group=12, name="mid")
    made.output(made.conv(y, 12, 3, "head"))
    done = law(made.model(), delta)
    assert weight(done.after, "mid.scale").shape == (12 + delta,)
    assert setting(done.after, "mid", "group") == 12 + delta


@pytest.mark.parametrize("delta", [-1, -6])
@pytest.mark.parametrize("axis", [1, -3, None])
def test_activations(axis: int | None, delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        return rounded(made, x, axis=axis)

    law(image(middle), delta, tolerance=STEPS)


def test_new_channels_of_activations() -> None:
    law(image(lambda made, x: rounded(made, x, axis=1)), 3, tolerance=STEPS)


def test_blocks_are_pinned() -> None:
    made = Builder()
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "first")
    made.constant(made.rng.integers(-100, 100, (12, 8)).astype(np.int8), "W")
    scale = made.constant(made.rng.uniform(0.002, 0.008, (3, 8)))
    kernel = made.node("DequantizeLinear", "W", scale, axis=0, block_size=4, name="blocks")
    y = made.node("MatMul", x, kernel, name="mid")
    made.output(made.linear(y, 8, 3, "head"))
    proto = made.model()
    model = load(proto)
    assert weight(proto, "W").shape == (12, 8)
    # The weight itself becomes an ordinary one: it is stored as what it says.
    assert model["mid"].nout == 8


# -- operators that compute with integers ----------------------------------------------------------------


def integer_products(operator: str) -> Middle:
    """A product of integers between a dynamic quantisation and the way back."""

    def middle(made: Builder, x: str) -> str:
        small, scale, zero = made.many("DynamicQuantizeLinear", x, count=3, name="small")
        if operator == "MatMulInteger":
            kernel = made.constant(made.rng.integers(-100, 100, (12, 9)).astype(np.int8), "mid.W")
            zeros = made.constant(np.zeros(9, np.int8), "mid.zero")
        else:
            kernel = made.constant(made.rng.integers(-100, 100, (9, 12, 1, 1)).astype(np.int8), "mid.W")
            zeros = made.constant(np.int8(0), "mid.zero")
        y = made.node(operator, small, kernel, zero, zeros, name="mid")
        widths = made.constant(made.rng.uniform(0.001, 0.003, (9,) if operator == "MatMulInteger" else (9, 1, 1)))
        return made.node("Mul", made.node("Mul", made.node("Cast", y, to=FLOAT), scale), widths)

    return middle


@pytest.mark.parametrize("delta", [-1, -6])
@pytest.mark.parametrize("operator", ["MatMulInteger", "ConvInteger"])
def test_integer_products(operator: str, delta: int) -> None:
    frame = tokens if operator == "MatMulInteger" else image
    # What goes is silent: the range that is quantised always holds zero, but others may have been its ends.
    done = law(frame(integer_products(operator), width=9), delta, readers=(), makers=("first",), tolerance=STEPS)
    assert 12 + delta in weight(done.after, "mid.W").shape
    more = law(frame(integer_products(operator), width=9), -3, vertex="mid", tolerance=STEPS)
    assert 6 in weight(more.after, "mid.W").shape
    if operator == "MatMulInteger":
        assert weight(more.after, "mid.zero").shape == (6,)


def linear_products(operator: str, *, per_channel: bool, groups: int = 1) -> ModelProto:
    made = Builder()
    conv = operator == "QLinearConv"
    x = made.conv(made.input("x", BATCH, 2, 6, 6), 2, 12, "first") if conv else ""
    x = x or made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "first")
    one, zero = made.constant(0.03), made.constant(np.int8(0))
    size = (9,) if per_channel else ()
    shape = (9 if groups == 1 else 12, 12 // groups, 1, 1) if conv else (12, 9)
    size = (shape[0],) if conv and per_channel else size
    kernel = [
        made.constant(made.rng.integers(-100, 100, shape).astype(np.int8), "mid.W"),
        made.constant(made.rng.uniform(0.002, 0.004, size), "mid.scale"),
        made.constant(np.zeros(size, np.int8), "mid.zero"),
    ]
    given = [made.node("QuantizeLinear", x, one, zero), one, zero, *kernel, one, zero]
    if conv:
        given.append(made.constant(made.rng.integers(-500, 500, shape[0]).astype(np.int32), "mid.b"))
    attributes: dict[str, Any] = {"group": groups} if groups > 1 else {}
    y = made.node(operator, *given, name="mid", **attributes)
    y = made.node("DequantizeLinear", y, one, zero)
    width = shape[0] if conv else 9
    if conv:
        made.output(made.conv(y, width, 3, "head"), [BATCH, 3, 6, 6])
    else:
        made.output(made.linear(y, width, 3, "head"), [BATCH, TOKENS, 3])
    return made.model()


@pytest.mark.parametrize("delta", [-1, -6])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("operator", ["QLinearConv", "QLinearMatMul"])
def test_linear_products(operator: str, per_channel: bool, delta: int) -> None:
    proto = linear_products(operator, per_channel=per_channel)
    law(proto, delta, readers=(), makers=("first",), tolerance=STEPS)
    done = law(proto, -3, vertex="mid", tolerance=STEPS)
    assert weight(done.after, "mid.scale").shape == ((6,) if per_channel else ())


@pytest.mark.parametrize("zero", [0, 128])
@pytest.mark.parametrize("operator", ["DequantizeLinear", "MatMulInteger"])
def test_new_weights_are_nothing(operator: str, zero: int) -> None:
    made = Builder()
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "first")
    numbers = made.constant(made.rng.integers(0, 255, (12, 9)).astype(np.uint8), "mid.W")
    point = made.constant(np.uint8(zero), "mid.zero")
    if operator == "DequantizeLinear":
        y = made.node("MatMul", x, made.node(operator, numbers, made.constant(0.01), point), name="mid")
    else:
        sure = made.node("QuantizeLinear", x, made.constant(0.03), made.constant(np.uint8(100)))
        y = made.node(operator, sure, numbers, made.constant(np.uint8(100)), point, name="mid")
        y = made.node("Mul", made.node("Cast", y, to=TensorProto.FLOAT), made.constant(0.001))
    made.output(made.linear(y, 9, 3, "head"), [BATCH, TOKENS, 3])
    model = load(made.model())
    delta_nout(model["first"], 3)
    new = model.arrays["mid.W"][12:]
    assert (new == zero).all()
    assert new.shape == (3, 9)


def test_one_channel_and_one_scale() -> None:
    made = Builder()
    x = made.conv(made.input("x", BATCH, 2, 6, 6), 2, 12, "first")
    one, zero = made.constant(0.03), made.constant(np.int8(0))
    kernel = made.constant(made.rng.integers(-100, 100, (1, 12, 1, 1)).astype(np.int8))
    given = [made.node("QuantizeLinear", x, one, zero), one, zero, kernel, made.constant(0.003), zero, one, zero]
    y = made.node("DequantizeLinear", made.node("QLinearConv", *given), one, zero)
    made.output(y, [BATCH, 1, 6, 6])
    model = load(made.model())
    delta_nout(model["first"], -4)
    assert model["first"].nout == 8


@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
def test_a_single_channel_is_left(per_channel: bool) -> None:
    done = law(linear_products("QLinearConv", per_channel=per_channel), -8, vertex="mid", tolerance=STEPS)
    assert weight(done.after, "mid.W").shape == (1, 12, 1, 1)
    assert weight(done.after, "mid.scale").shape == ((1,) if per_channel else ())


def test_depthwise_linear_products() -> None:
    done = law(linear_products("QLinearConv", per_channel=True, groups=12), -6, tolerance=STEPS)
    assert setting(done.after, "mid", "group") == 6
    assert weight(done.after, "mid.b").shape == (6,)


def test_chains_of_integers() -> None:
    # Two products with nothing in between: what goes from the first is no zero there, but its zero point.
    made = Builder()
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "first")
    one, zero = made.constant(0.03), made.constant(np.int8(3))
    y = made.node("QuantizeLinear", x, one, zero)
    for name, width, filters in (("one", 12, 10), ("two", 10, 9)):
        kernel = made.constant(made.rng.integers(-100, 100, (width, filters)).astype(np.int8), f"{name}.W")
        y = made.node("QLinearMatMul", y, one, zero, kernel, made.constant(0.003), zero, one, zero, name=name)
    made.output(made.linear(made.node("DequantizeLinear", y, one, zero), 9, 3, "head"), [BATCH, TOKENS, 3])
    for delta in (-1, -5):
        done = change(made.model(), delta, "one")
        assert weight(done.after, "two.W").shape == (10 + delta, 9)


def test_half_precision() -> None:
    made = Builder()
    x = made.node("Cast", made.input("x", BATCH, 6), to=TensorProto.FLOAT16)
    half: dict[str, Any] = {}
    for name, width, filters in (("first", 6, 12), ("head", 12, 3)):
        kernel = made.constant(made.rng.normal(size=(width, filters)).astype(np.float16), f"{name}.W")
        half[name] = x = made.node("Tanh", made.node("MatMul", x, kernel, name=name))
    made.output(x, [BATCH, 3], TensorProto.FLOAT16)
    done = law(made.model(), -6, tolerance=5e-3)
    assert weight(done.after, "first.W").dtype == np.float16


def test_an_oracle_of_integers() -> None:
    # The same sum by hand, for a product per tensor.
    proto = quantised(None)
    done = change(proto, -6)
    given = inputs(proto)

    def dense(x: Array, name: str) -> Array:
        kernel = weight(done.after, f"{name}.W")[:, :, 0, 0].astype(np.float32) * weight(done.after, f"{name}.scale")
        return np.asarray(np.einsum("ncxy,oc->noxy", x, kernel) + weight(done.after, f"{name}.b")[:, None, None])

    close(run(done.after, given), [dense(dense(given["x"], "first"), "head")])
