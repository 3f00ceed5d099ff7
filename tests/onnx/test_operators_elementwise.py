"""What works position by position: sizes follow, whatever is broadcast."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from tests.onnx.models import DELTAS, FLOAT, Builder, Middle, held, image, law, tokens, vector, weight

FUNCTIONS = (
    *("Abs", "Asinh", "Atan", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"),
    *("HardSwish", "Identity", "LeakyRelu", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink"),
    *("Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu"),
)


def small(made: Builder, x: str) -> str:
    return made.node("Mul", made.node("Tanh", x), made.constant(0.9))


def large(made: Builder, x: str) -> str:
    return made.node("Add", made.node("Abs", x), made.constant(1.5))


#: Those that want numbers of a certain range, and what brings them there.
RANGES: dict[str, Middle] = {
    **dict.fromkeys(("Acos", "Asin", "Atanh", "Cosh", "Sinh"), small),
    **dict.fromkeys(("Sqrt", "Log", "Acosh"), large),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", FUNCTIONS)
def test_functions(operator: str, delta: int) -> None:
    law(image(lambda made, x: made.node(operator, x)), delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", RANGES)
def test_functions_of_a_range(operator: str, delta: int) -> None:
    law(tokens(lambda made, x: made.node(operator, RANGES[operator](made, x))), delta)


def constant(operator: str, shape: tuple[int, ...], *, left: bool = False) -> Middle:
    """An operator with a constant on one side; positive, so that it may divide."""

    def middle(made: Builder, x: str) -> str:
        other = made.constant(np.abs(made.rng.normal(size=shape)) + 0.5)
        return made.node(operator, other, x) if left else made.node(operator, x, other)

    return middle


BINARY = ("Add", "Sub", "Mul", "Div")
CONSTANTS = [(), (1,), (12, 1, 1), (1, 12, 1, 1), (1, 1, 1), (12, 6, 1), (6,), (1, 12, 6, 6)]


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("shape", CONSTANTS, ids=str)
@pytest.mark.parametrize("operator", BINARY)
def test_constants(operator: str, shape: tuple[int, ...], left: bool, delta: int) -> None:
    law(image(constant(operator, shape, left=left)), delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", ["Max", "Min", "Mean", "Sum", "Add", "Sub", "Mul"])
def test_two_tensors(operator: str, delta: int) -> None:
    # A neuron of both branches goes, or of neither.
    def middle(made: Builder, x: str) -> str:
        return made.node(operator, x, made.conv(x, 12, 12, "second"))

    done = law(image(middle), delta, readers=("head", "second"))
    assert weight(done.after, "second.W").shape[:2] == (done.plan.sizes["second"][1], done.plan.sizes["first"][1])


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", ["Max", "Min", "Mean", "Sum"])
def test_many_operands(operator: str, delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node(operator, x, made.constant(0.3), made.node("Tanh", x), made.weight(12, 1, 1))

    law(image(middle), delta)


@pytest.mark.parametrize("operator", ["Max", "Min", "Mean", "Sum"])
def test_one_operand(operator: str) -> None:
    law(image(lambda m, x: m.node(operator, x)), -1)


def excited(made: Builder, x: str) -> str:
    """Squeeze and excitation: (N, C, 1, 1) is broadcast over an image."""
    pooled = made.node("GlobalAveragePool", x)
    gate = made.conv(made.node("Relu", made.conv(pooled, 12, 4, "down")), 4, 12, "up")
    return made.node("Mul", x, made.node("Sigmoid", gate))


def outer(made: Builder, x: str) -> str:
    """(N, 1, T, C) + (N, T, 1, C)."""
    return made.node(
        "ReduceSum",
        made.node("Add", made.node("Unsqueeze", x, made.numbers(1)), made.node("Unsqueeze", x, made.numbers(2))),
        made.numbers(1),
        keepdims=0,
    )


def ranked(made: Builder, x: str) -> str:
    """(C,) of a computed vector broadcast against (N, T, C)."""
    return made.node("Add", x, made.node("ReduceMean", x, made.numbers(0, 1), keepdims=0))


BROADCAST = {
    "outer sum": tokens(outer),
    "lower rank": tokens(ranked),
    "mean of tokens": tokens(lambda m, x: m.node("Sub", x, m.node("ReduceMean", x, m.numbers(1)))),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", BROADCAST)
def test_broadcasting(case: str, delta: int) -> None:
    law(BROADCAST[case], delta)


@pytest.mark.parametrize("delta", DELTAS)
def test_squeeze_and_excitation(delta: int) -> None:
    law(image(excited), delta, readers=("head", "down"))


def test_a_channel_that_is_broadcast_stays_one() -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node("Add", x, made.node("GlobalMaxPool", made.conv(x, 12, 1, "single")))

    done = law(image(middle), -6, readers=("head", "single"))
    assert weight(done.after, "single.W").shape[0] == 1
    assert done.model["single"].nout == 1


def condition(made: Builder, x: str) -> str:
    return made.node("Greater", x, made.constant(0.1))


COMPARISONS: dict[str, Middle] = {
    "Greater": lambda m, x: m.node("Greater", x, m.weight(12, 1, 1)),
    "GreaterOrEqual": lambda m, x: m.node("GreaterOrEqual", m.weight(12, 1, 1), x),
    "Less": lambda m, x: m.node("Less", x, m.node("Tanh", x)),
    "LessOrEqual": lambda m, x: m.node("LessOrEqual", x, m.constant(0.2)),
    "Equal": lambda m, x: m.node("Equal", m.node("Relu", x), m.constant(0.0)),
    "And": lambda m, x: m.node("And", condition(m, x), m.constant(np.arange(12).reshape(12, 1, 1) % 3 > 0)),
    "Or": lambda m, x: m.node("Or", condition(m, x), m.node("Less", x, m.constant(-0.4))),
    "Xor": lambda m, x: m.node("Xor", condition(m, x), m.node("Less", x, m.constant(0.4))),
    "Not": lambda m, x: m.node("Not", condition(m, x)),
    "IsNaN": lambda m, x: m.node("Not", m.node("IsNaN", x)),
    "IsInf": lambda m, x: m.node("Not", m.node("IsInf", x)),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", COMPARISONS)
def test_truth(case: str, delta: int) -> None:
    law(image(lambda m, x: m.node("Cast", COMPARISONS[case](m, x), to=FLOAT)), delta)


def integers(made: Builder, x: str, dtype: int = TensorProto.INT32) -> str:
    return made.node("Cast", made.node("Mul", made.node("Abs", x), made.constant(7.0)), to=dtype)


UNSIGNED = TensorProto.UINT8
INTEGERS: dict[str, Middle] = {
    "BitwiseAnd": lambda m, x: m.node(
        "BitwiseAnd", integers(m, x), m.constant(np.arange(12, dtype=np.int32).reshape(12, 1, 1))
    ),
    "BitwiseOr": lambda m, x: m.node("BitwiseOr", integers(m, x), m.constant(np.int32(5))),
    "BitwiseXor": lambda m, x: m.node("BitwiseXor", integers(m, x), integers(m, m.node("Tanh", x))),
    "BitwiseNot": lambda m, x: m.node("BitwiseNot", integers(m, x)),
    "BitShift": lambda m, x: m.node(
        "BitShift",
        integers(m, x, UNSIGNED),
        m.constant((np.arange(12) % 3).astype(np.uint8).reshape(12, 1, 1)),
        direction="LEFT",
    ),
    "Mod": lambda m, x: m.node("Mod", integers(m, x), m.constant(1 + np.arange(12, dtype=np.int32).reshape(12, 1, 1))),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", INTEGERS)
def test_integers(case: str, delta: int) -> None:
    law(image(lambda m, x: m.node("Cast", INTEGERS[case](m, x), to=FLOAT)), delta)


CHOICES: dict[str, Callable[[], ModelProto]] = {
    "where": lambda: image(lambda m, x: m.node("Where", condition(m, x), x, m.node("Tanh", x))),
    "where per channel": lambda: image(lambda m, x: m.node("Where", condition(m, x), x, m.weight(12, 1, 1))),
    "where scalar": lambda: image(lambda m, x: m.node("Where", condition(m, x), m.constant(-1.0), x)),
    "where constant mask": lambda: image(
        lambda m, x: m.node("Where", m.constant(np.arange(12).reshape(12, 1, 1) % 2 == 0), x, m.constant(0.5))
    ),
    "where mask of tokens": lambda: tokens(
        lambda m, x: m.node("Where", m.constant(np.arange(5).reshape(5, 1) % 2 == 0), x, m.constant(0.5))
    ),
    "clip": lambda: image(lambda m, x: m.node("Clip", x, m.constant(-0.3), m.constant(0.5))),
    "clip below": lambda: image(lambda m, x: m.node("Clip", x, m.constant(-0.3))),
    "clip above": lambda: image(lambda m, x: m.node("Clip", x, "", m.constant(0.2))),
    "clip attributes": lambda: image(lambda m, x: m.node("Clip", x, min=-0.3, max=0.5), opset=9),
    "pow": lambda: vector(lambda m, x: m.node("Pow", x, m.constant(2.0))),
    "pow per feature": lambda: vector(lambda m, x: m.node("Pow", m.node("Exp", x), m.weight(12))),
    "pow of a constant": lambda: vector(lambda m, x: m.node("Pow", m.constant(1.5), x)),
    "prelu shared": lambda: image(lambda m, x: m.node("PRelu", x, m.weight(1))),
    "prelu per channel": lambda: image(lambda m, x: m.node("PRelu", x, m.weight(12, 1, 1))),
    "prelu per feature": lambda: vector(lambda m, x: m.node("PRelu", x, m.weight(12))),
    "prelu computed": lambda: image(lambda m, x: m.node("PRelu", x, m.node("GlobalAveragePool", x))),
    "unsqueezed constant": lambda: image(
        lambda m, x: m.node("Mul", x, m.node("Unsqueeze", m.weight(12), m.numbers(1, 2)))
    ),
    "reshaped constant": lambda: image(
        lambda m, x: m.node("Add", x, m.node("Reshape", m.weight(12), m.numbers(1, -1, 1, 1)))
    ),
    "reshaped by numbers": lambda: image(
        lambda m, x: m.node("Add", x, m.node("Reshape", m.weight(12), m.numbers(12, 1, 1)))
    ),
    "half constant": lambda: image(
        lambda m, x: m.node("Add", x, m.node("Cast", m.constant(np.ones((12, 1, 1), np.float16)), to=FLOAT))
    ),
    "swish": lambda: image(lambda m, x: m.node("Mul", x, m.node("Sigmoid", x))),
    "fmod": lambda: image(lambda m, x: m.node("Mod", x, m.constant(0.7), fmod=1)),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", CHOICES)
def test_choices(case: str, delta: int) -> None:
    law(CHOICES[case](), delta)


CASTS: dict[str, Middle] = {
    "half": lambda m, x: m.node("Cast", m.node("Tanh", m.node("Cast", x, to=TensorProto.FLOAT16)), to=FLOAT),
    "double": lambda m, x: m.node("Cast", m.node("Cast", x, to=TensorProto.DOUBLE), to=FLOAT),
    "like a tensor": lambda m, x: m.node("CastLike", m.node("Cast", x, to=TensorProto.DOUBLE), x),
    "like a constant": lambda m, x: m.node("CastLike", m.node("Cast", x, to=TensorProto.DOUBLE), m.constant(0.0)),
    "identities": lambda m, x: m.node("Identity", m.node("Identity", x)),
    "dropout": lambda m, x: m.node("Dropout", x, m.constant(0.5)),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", CASTS)
def test_casts(case: str, delta: int) -> None:
    law(image(CASTS[case]), delta, tolerance=2e-3 if case == "half" else 2e-5)


@pytest.mark.parametrize("delta", DELTAS)
def test_dropout_with_its_mask(delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        y, mask = made.many("Dropout", x, made.constant(0.5), made.constant(np.array(False)), count=2)
        return made.node("Mul", y, made.node("Cast", mask, to=FLOAT))

    law(image(middle), delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", ["RandomNormalLike", "RandomUniformLike"])
def test_noise_follows(operator: str, delta: int) -> None:
    # Noise of no strength: what is random cannot be compared.
    def middle(made: Builder, x: str) -> str:
        noise = made.node(operator, x, seed=1.0)
        return made.node("Add", x, made.node("Mul", noise, made.constant(0.0)))

    law(image(middle), delta)


@pytest.mark.parametrize("delta", DELTAS)
def test_coins_follow(delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        coins = made.node("Bernoulli", made.node("Sigmoid", x), dtype=FLOAT)
        return made.node("Add", x, made.node("Mul", coins, made.constant(0.0)))

    law(image(middle), delta)


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 22, 23, 24])
def test_versions(opset: int) -> None:
    law(image(lambda m, x: m.node("Relu", m.node("Add", x, m.weight(12, 1, 1))), opset=opset), -6)


def test_the_broadcasting_of_old_is_pinned() -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node("Add", x, made.weight(12), broadcast=1, axis=1, name="old")

    from solver_nas.onnx import load

    model = load(image(middle, opset=6))
    (reason,) = held(model)
    assert reason.vertex == "old"
    assert "version 7" in reason.rule
