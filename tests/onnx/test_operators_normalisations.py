"""Normalisations: by channel, by sample, by group; scales and shifts follow."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto

from solver_nas import explain
from solver_nas.errors import StoreError
from solver_nas.onnx import load
from tests.onnx.models import (
    BATCH,
    DELTAS,
    TOKENS,
    Array,
    Builder,
    Middle,
    by_hand,
    close,
    held,
    image,
    inputs,
    law,
    literal,
    run,
    setting,
    tokens,
    vector,
    weight,
)


def positive(made: Builder, size: int) -> str:
    return made.constant(np.abs(made.rng.normal(size=size)) + 0.5)


def batch_norm(made: Builder, x: str) -> str:
    return made.node(
        "BatchNormalization",
        x,
        positive(made, 12),
        made.weight(12),
        made.weight(12, name="mean"),
        positive(made, 12),
        name="norm",
    )


#: Every channel by itself.
SINGLE: dict[str, Callable[[], ModelProto]] = {
    "batch": lambda: image(batch_norm),
    "batch of vectors": lambda: vector(batch_norm),
    "batch in one dimension": lambda: image(batch_norm, rank=1),
    "batch in three": lambda: image(batch_norm, rank=3),
    "batch, opset 9": lambda: image(batch_norm, opset=9),
    "batch, opset 14": lambda: image(batch_norm, opset=14),
    "instance": lambda: image(
        lambda m, x: m.node("InstanceNormalization", x, positive(m, 12), m.weight(12), name="norm")
    ),
    "mean and variance of channels": lambda: image(
        lambda m, x: m.node("MeanVarianceNormalization", x, axes=[0, 2, 3]), width=12
    ),
    "mean and variance of pixels": lambda: image(
        lambda m, x: m.node("MeanVarianceNormalization", x, axes=[2, 3]), width=12
    ),
    "lengths along rows": lambda: image(lambda m, x: m.node("LpNormalization", x, axis=2, p=2)),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", SINGLE)
def test_every_channel_by_itself(case: str, delta: int) -> None:
    done = law(SINGLE[case](), delta)
    if "batch" in case:
        assert weight(done.after, "mean").shape == (12 + delta,)


SCALE, SHIFT = np.linspace(0.5, 1.5, 12), np.linspace(-0.3, 0.4, 12)
EPSILON = 1e-5


def standard(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray((x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + EPSILON))


def layer_norm(made: Builder, x: str) -> str:
    return made.node("LayerNormalization", x, made.constant(SCALE, "scale"), made.constant(SHIFT), axis=-1, name="norm")


def bare_norm(made: Builder, x: str) -> str:
    return made.node("LayerNormalization", x, made.constant(SCALE, "scale"), name="norm")


def spelled_norm(made: Builder, x: str) -> str:
    """As exporters write it."""
    axes = made.numbers(-1)
    middle = made.node("Sub", x, made.node("ReduceMean", x, axes))
    variance = made.node("ReduceMean", made.node("Pow", middle, made.constant(2.0)), axes)
    spread = made.node("Sqrt", made.node("Add", variance, made.constant(EPSILON)))
    scaled = made.node("Mul", made.node("Div", middle, spread), made.constant(SCALE, "scale"))
    return made.node("Add", scaled, made.constant(SHIFT))


def rms_norm(made: Builder, x: str) -> str:
    return made.node("RMSNormalization", x, made.constant(SCALE, "scale"), axis=-1, epsilon=EPSILON, name="norm")


def spelled_rms(made: Builder, x: str) -> str:
    mean = made.node("ReduceMean", made.node("Mul", x, x), made.numbers(-1))
    length = made.node("Reciprocal", made.node("Sqrt", made.node("Add", mean, made.constant(EPSILON))))
    return made.node("Mul", made.constant(SCALE, "scale"), made.node("Mul", x, length))


def rms(x: Array) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON))


#: The middle, the function, whether scales and shifts come behind it, and the opset.
TOGETHER: dict[str, tuple[Middle, Callable[[Array], Array], bool, bool, int]] = {
    "layer": (layer_norm, lambda x: standard(x, (-1,)), True, True, 17),
    "layer without a shift": (bare_norm, lambda x: standard(x, (-1,)), True, False, 21),
    "layer, spelled out": (spelled_norm, lambda x: standard(x, (-1,)), True, True, 21),
    "rms": (rms_norm, rms, True, False, 23),
    "rms, spelled out": (spelled_rms, rms, True, False, 21),
    "lengths": (
        lambda m, x: m.node("LpNormalization", x, p=2),
        lambda x: x / np.sqrt((x**2).sum(-1, keepdims=True)),
        False,
        False,
        21,
    ),
    "sums": (
        lambda m, x: m.node("LpNormalization", x, p=1, axis=2),
        lambda x: x / np.abs(x).sum(-1, keepdims=True),
        False,
        False,
        21,
    ),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", TOGETHER)
def test_over_the_neurons_that_remain(case: str, delta: int) -> None:
    middle, function, scales, shifts, opset = TOGETHER[case]
    done = law(tokens(middle, opset=opset), delta, readers=(), grows=False)
    if delta > 0:
        return
    stay = np.delete(np.arange(12), done.gone("first", -1))
    scale, shift = (SCALE[stay] if scales else 1.0), (SHIFT[stay] if shifts else 0.0)
    given = inputs(done.before)
    close(run(done.after, given), [by_hand(done, given, lambda x: function(x) * scale + shift)])
    if scales:
        assert weight(done.after, "scale").shape == (12 + delta,)


@pytest.mark.parametrize("delta", DELTAS)
def test_layers_over_several_axes(delta: int) -> None:
    # (N, T, C) normalised over tokens and neurons; the scale is (T, C).
    def middle(made: Builder, x: str) -> str:
        return made.node("LayerNormalization", x, made.weight(TOKENS, 12, name="scale"), axis=1)

    done = law(tokens(middle), delta, readers=(), grows=False)
    assert weight(done.after, "scale").shape == (TOKENS, 12 + delta)


@pytest.mark.parametrize("delta", DELTAS)
def test_mean_and_variance_of_everything(delta: int) -> None:
    done = law(
        image(lambda m, x: m.node("MeanVarianceNormalization", x, axes=[1, 2, 3]), width=12),
        delta,
        readers=(),
        grows=False,
    )
    if delta < 0:
        given = inputs(done.before)
        expected = by_hand(done, given, lambda x: standard(x, (1, 2, 3)))
        np.testing.assert_allclose(run(done.after, given)[0], expected, atol=1e-3)


@pytest.mark.parametrize("delta", DELTAS)
def test_local_response(delta: int) -> None:
    def lrn(x: Array) -> Array:
        padded = np.pad(x**2, [(0, 0), (1, 1), (0, 0), (0, 0)])
        total = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
        return np.asarray(x / (1.0 + 0.5 / 3 * total) ** 0.75)

    done = law(
        image(lambda m, x: m.node("LRN", x, size=3, alpha=0.5, beta=0.75, bias=1.0)), delta, readers=(), grows=False
    )
    if delta < 0:
        given = inputs(done.before)
        close(run(done.after, given), [by_hand(done, given, lrn)])


# -- groups --------------------------------------------------------------------------------------------


def grouped(groups: int) -> Middle:
    def middle(made: Builder, x: str) -> str:
        scale, shift = made.weight(12, name="scale"), made.weight(12, name="shift")
        return made.node("GroupNormalization", x, scale, shift, num_groups=groups, name="norm")

    return middle


def spelled_groups(groups: int) -> Middle:
    """As exporters write it: every group is a single channel of an instance normalisation."""

    def middle(made: Builder, x: str) -> str:
        flat = made.node("Reshape", x, made.numbers(0, groups, -1), name="grouped")
        ones, zeros = made.constant(np.ones(groups), "ones"), made.constant(np.zeros(groups))
        y = made.node("InstanceNormalization", flat, ones, zeros, name="norm")
        y = made.node("Reshape", y, made.node("Shape", x), name="back")
        scale, shift = made.weight(12, 1, 1, name="scale"), made.weight(12, 1, 1, name="shift")
        return made.node("Add", made.node("Mul", y, scale), shift)

    return middle


@pytest.mark.parametrize("delta", [-3, -6, -4, 3])
@pytest.mark.parametrize("spelled", [False, True], ids=["one node", "spelled out"])
def test_groups(spelled: bool, delta: int) -> None:
    done = law(image((spelled_groups if spelled else grouped)(3), width=12), delta, readers=(), grows=False)
    stay = np.delete(np.arange(12), done.gone("first", 1))
    # A group goes as a whole, or each keeps equally many.
    rows = [sum(place // 4 == group for place in stay) for group in range(3)]
    groups = sum(count > 0 for count in rows)
    assert len({count for count in rows if count}) == 1
    assert weight(done.after, "scale").shape[0] == 12 + delta
    if spelled:
        assert literal(done.after, "grouped", 1) == [0, groups, -1]
        assert weight(done.after, "ones").shape == (groups,)
    else:
        assert setting(done.after, "norm", "num_groups") == groups
    if delta > 0:
        return
    scale, shift = (weight(done.before, name).reshape(12)[stay][:, None, None] for name in ("scale", "shift"))

    def function(x: Array) -> Array:
        return standard(x.reshape(len(x), groups, -1), (2,)).reshape(x.shape) * scale + shift

    given = inputs(done.before)
    close(run(done.after, given), [by_hand(done, given, function)])


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("spelled", [False, True], ids=["one node", "spelled out"])
def test_a_single_group(spelled: bool, delta: int) -> None:
    done = law(image((spelled_groups if spelled else grouped)(1), width=12), delta, readers=(), grows=False)
    assert weight(done.after, "scale").shape[0] == 12 + delta


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("spelled", [False, True], ids=["one node", "spelled out"])
def test_as_many_groups_as_channels(spelled: bool, delta: int) -> None:
    done = law(image((spelled_groups if spelled else grouped)(12), width=12), delta)
    if not spelled:
        assert setting(done.after, "norm", "num_groups") == 12 + delta


def test_groups_of_version_18_are_refused() -> None:
    # ONNX's checker has no other word for it than that it is deprecated.
    with pytest.raises(StoreError, match="deprecated"):
        load(image(grouped(3), opset=18, width=12))


@pytest.mark.parametrize("delta", [-3, -4, -6, 4])
@pytest.mark.parametrize("spelled", [False, True], ids=["one node", "spelled out"])
def test_normalised_heads(spelled: bool, delta: int) -> None:
    # (N, T, H, D) normalised over D with a scale that all heads share: the same columns go in every head.
    def middle(made: Builder, x: str) -> str:
        heads = made.node("Reshape", x, made.numbers(0, 0, 4, 3), name="heads")
        scale = made.weight(3, name="scale")
        if spelled:
            mean = made.node("ReduceMean", made.node("Mul", heads, heads), made.numbers(-1))
            y = made.node("Div", heads, made.node("Sqrt", made.node("Add", mean, made.constant(EPSILON))))
            y = made.node("Mul", y, scale)
        else:
            y = made.node("RMSNormalization", heads, scale, epsilon=EPSILON)
        return made.node("Reshape", y, made.numbers(0, 0, 12), name="back")

    done = law(tokens(middle, opset=23), delta, readers=(), grows=False)
    *_, heads, size = done.model["heads"].shape
    assert weight(done.after, "scale").shape == (size,)
    assert (heads or 0) * (size or 0) == 12 + delta
    if delta < 0:
        scale = weight(done.after, "scale")

        def function(x: Array) -> Array:
            return np.asarray((rms(x.reshape(*x.shape[:2], heads or 0, size or 0)) * scale).reshape(x.shape))

        given = inputs(done.before)
        close(run(done.after, given), [by_hand(done, given, function)])


@pytest.mark.parametrize("delta", [-4, -3, -8])
def test_heads_that_are_weighed_against_each_other(delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        heads = made.node("Reshape", x, made.numbers(0, 0, 4, 3), name="heads")
        return made.node("Reshape", made.node("Softmax", heads, axis=2), made.numbers(0, 0, 12))

    done = law(tokens(middle), delta, readers=())
    *_, heads, size = done.model["heads"].shape

    def function(x: Array) -> Array:
        table = np.exp(x.reshape(*x.shape[:2], heads or 0, size or 0))
        return np.asarray((table / table.sum(2, keepdims=True)).reshape(x.shape))

    given = inputs(done.before)
    close(run(done.after, given), [by_hand(done, given, function)])


# -- what a rule does not cover ------------------------------------------------------------------------


def test_statistics_as_outputs_are_pinned() -> None:
    made = Builder()
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "first")
    y, mean = made.many("LayerNormalization", x, made.weight(12), count=2, name="norm")
    made.output(made.linear(y, 12, 3, "head"))
    made.output(mean, [BATCH, TOKENS, 1])
    model = load(made.model())
    assert [reason.vertex for reason in held(model)] == ["norm:1"]
    assert not explain(model["first"], 11).possible


def test_beside_what_is_pinned_all_else_changes() -> None:
    made = Builder()
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, 12, "other")
    x = made.linear(made.node("Relu", x), 12, 12, "first")
    y, mean = made.many("LayerNormalization", x, made.weight(12), count=2, name="norm")
    made.output(made.linear(made.node("Sub", y, mean), 12, 3, "head"))
    law(made.model(), -6, vertex="other", readers=("first",), pinned=True)


@pytest.mark.parametrize("delta", DELTAS)
def test_a_residual_stream(delta: int) -> None:
    # Everything that is added to the stream changes with it.
    def block(made: Builder, x: str) -> str:
        for number in range(2):
            normed = made.node("LayerNormalization", x, made.weight(12), made.weight(12))
            inner = made.node("Gelu", made.linear(normed, 12, 20, f"up{number}"))
            x = made.node("Add", x, made.linear(inner, 20, 12, f"down{number}"))
        return x

    done = law(tokens(block), delta, readers=(), grows=False)
    assert weight(done.after, "down0.W").shape == (20, 12 + delta)
    law(tokens(block), delta, vertex="up0", readers=("down0",))
