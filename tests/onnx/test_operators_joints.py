"""What joins neurons and takes them apart: Concat, Split, Slice, Pad, Tile; their literals follow."""

from typing import Any

import pytest

from solver_nas import plan_change
from solver_nas.onnx import load
from tests.onnx.models import (
    DELTAS,
    FLOAT,
    TOKENS,
    Builder,
    Middle,
    held,
    image,
    law,
    literal,
    node_of,
    setting,
    tokens,
    vector,
    weight,
)

# -- Concat --------------------------------------------------------------------------------------------

CONCATS: dict[str, Middle] = {
    "with another layer": lambda m, x: m.node("Concat", x, m.conv("x", 2, 5, "second"), axis=1),
    "behind another layer": lambda m, x: m.node("Concat", m.conv("x", 2, 5, "second"), x, axis=1),
    "with itself": lambda m, x: m.node("Concat", x, x, axis=1),
    "with itself, changed": lambda m, x: m.node("Concat", x, m.node("Tanh", x), m.node("Abs", x), axis=1),
    "negative axis": lambda m, x: m.node("Concat", x, m.node("Neg", x), axis=-3),
    "with the input": lambda m, x: m.node("Concat", "x", x, axis=1),
    "of one": lambda m, x: m.node("Concat", x, axis=1),
    "of rows": lambda m, x: m.node("Concat", x, m.node("Tanh", x), axis=2),
    "of samples": lambda m, x: m.node("Concat", x, m.node("Tanh", x), axis=0),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", CONCATS)
def test_concat(case: str, delta: int) -> None:
    law(image(CONCATS[case]), delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("front", [False, True], ids=["behind", "before"])
def test_concat_with_a_constant(front: bool, delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        same = made.weight(2, 5, 12, name="more")
        return made.node("Concat", *((same, x) if front else (x, same)), axis=1)

    made = Builder()
    x = made.linear(made.input("x", 2, TOKENS, 6), 6, 12, "first")
    made.output(made.linear(middle(made, x), 12, 3, "head"))
    done = law(made.model(), delta)
    # The constant stands beside the tokens; its channels follow.
    assert weight(done.after, "more").shape == (2, 5, 12 + delta)


@pytest.mark.parametrize("delta", DELTAS)
def test_constant_channels_stay(delta: int) -> None:
    made = Builder()
    x = made.linear(made.input("x", 2, TOKENS, 6), 6, 12, "first")
    y = made.node("Concat", x, made.weight(2, TOKENS, 4, name="more"), axis=2)
    made.output(made.linear(y, 16, 3, "head"))
    done = law(made.model(), delta)
    assert weight(done.after, "head.W").shape[0] >= 12 + delta


def test_a_chain_of_concatenations() -> None:
    def dense_block(made: Builder, x: str) -> str:
        for number in range(3):
            new = made.node("Relu", made.conv(x, 12 + 4 * number, 4, f"layer{number}"))
            x = made.node("Concat", x, new, axis=1)
        return x

    layers = ("head", "layer0", "layer1", "layer2")
    for vertex in ("first", "layer0", "layer1"):
        law(image(dense_block), -2, vertex=vertex, readers=layers)
        law(image(dense_block), 3, vertex=vertex)


# -- Split ---------------------------------------------------------------------------------------------


def split(parts: list[int] | None, *, how: str = "input", count: int = 2, axis: int = 1) -> Middle:
    def middle(made: Builder, x: str) -> str:
        match how:
            case "input":
                extra = [] if parts is None else [made.numbers(*(parts))]
                pieces = made.many("Split", x, *extra, count=count, axis=axis, name="split")
            case "num_outputs":
                pieces = made.many("Split", x, count=count, axis=axis, num_outputs=count, name="split")
            case _:
                more: dict[str, Any] = {} if parts is None else {"split": parts}
                pieces = made.many("Split", x, count=count, axis=axis, name="split", **more)
        # Every piece another way, so that they cannot be mistaken for each other.
        changed = [made.node(f, piece) for f, piece in zip(("Tanh", "Neg", "Abs"), pieces, strict=False)]
        return made.node("Concat", *reversed(changed), axis=axis)

    return middle


SPLITS = {
    "equal": (split([6, 6]), 21),
    "uneven": (split([2, 7, 3], count=3), 21),
    "negative axis": (split([4, 8], axis=-3), 21),
    "unsaid": (split(None), 13),
    "num_outputs": (split(None, how="num_outputs", count=3), 18),
    "num_outputs uneven": (split(None, how="num_outputs", count=5), 18),
    "attribute": (split([2, 7, 3], how="attribute", count=3), 11),
    "old unsaid": (split(None, how="attribute", count=3), 11),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", SPLITS)
def test_split(case: str, delta: int) -> None:
    middle, opset = SPLITS[case]
    if case == "num_outputs uneven":
        middle = split(None, how="num_outputs", count=3)
    done = law(image(middle, opset=opset), delta)
    node = node_of(done.after, "split")
    parts = setting(done.after, "split", "split") if opset == 11 else literal(done.after, "split", 1)
    assert sum(parts) == 12 + delta
    assert len(parts) == len(node.output)
    assert not any(one.name == "num_outputs" for one in node.attribute)


@pytest.mark.parametrize("delta", DELTAS)
def test_split_then_added(delta: int) -> None:
    # Halves that meet: two neurons go at once. Gated linear units.
    def gated(made: Builder, x: str) -> str:
        one, other = made.many("Split", x, made.numbers(6, 6), count=2, axis=-1, name="split")
        return made.node("Mul", one, made.node("Sigmoid", other))

    done = law(tokens(gated), delta - delta % 2)
    size = done.plan.sizes["first"][1]
    assert literal(done.after, "split", 1) == [size // 2, size // 2]


def test_split_along_tokens() -> None:
    def middle(made: Builder, x: str) -> str:
        one, other = made.many("Split", x, made.numbers(2, 3), count=2, axis=1, name="split")
        return made.node("Concat", other, made.node("Neg", one), axis=1)

    done = law(tokens(middle), -6)
    assert literal(done.after, "split", 1) == [2, 3]


def test_a_part_that_nobody_reads() -> None:
    def middle(made: Builder, x: str) -> str:
        return made.many("Split", x, made.numbers(5, 7), count=2, axis=1, name="split")[1]

    proto = image(middle, width=7)
    model = load(proto)
    plan = plan_change({model["split:1"]: -2})
    plan.apply()
    assert literal(model.proto, "split", 1)[1] == 5


# -- Slice ---------------------------------------------------------------------------------------------


def cut(starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None = None) -> Middle:
    def middle(made: Builder, x: str) -> str:
        given = [made.numbers(*starts), made.numbers(*ends)]
        given += [] if axes is None else [made.numbers(*axes)]
        given += [] if steps is None else [made.numbers(*steps)]
        return made.node("Slice", x, *given, name="slice")

    return middle


FAR = 2**63 - 1
#: The operator, and how many channels are left of 12.
SLICES = {
    "middle": (cut([2], [9], [1]), 7),
    "negative end": (cut([2], [-1], [1]), 9),
    "negative both": (cut([-5], [-1], [1]), 4),
    "open end": (cut([4], [FAR], [1]), 8),
    "from the start": (cut([0], [5], [1]), 5),
    "negative axis": (cut([3], [8], [-3]), 5),
    "everything": (cut([0], [12], [1]), 12),
    "everything from behind": (cut([-12], [FAR], [1]), 12),
    "backwards by numbers": (cut([11], [-13], [1], [-1]), 12),
    "all axes": (cut([0, 3, 0, 1], [FAR, 11, FAR, 5], None), 8),
    "with steps": (cut([3, 0, 1], [11, 6, 6], [1, 2, 3], [1, 2, 3]), 8),
    "backwards": (cut([-1], [-FAR], [1], [-1]), 12),
    "rows only": (cut([1], [5], [2]), 12),
    "every second row": (cut([0], [FAR], [2], [2]), 12),
    "rows backwards": (cut([5], [-FAR], [2], [-1]), 12),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", SLICES)
def test_slice(case: str, delta: int) -> None:
    middle, width = SLICES[case]
    done = law(image(middle, width=width), delta, readers=(), makers=("first",), lighter=False)
    before, after = done.plan.sizes["slice"]
    assert before == width
    assert weight(done.after, "head.W").shape[1] == after
    # What is made and not read has the least utility to others, but both sizes stay consistent.
    assert done.plan.sizes["first"][1] == 12 + delta


@pytest.mark.parametrize("delta", DELTAS)
def test_limits_of_a_slice_follow(delta: int) -> None:
    # Two slices that cover everything, in another order.
    def middle(made: Builder, x: str) -> str:
        one = made.node("Slice", x, made.numbers(0), made.numbers(5), made.numbers(1), name="one")
        other = made.node("Slice", x, made.numbers(5), made.numbers(FAR), made.numbers(1), name="other")
        return made.node("Concat", made.node("Tanh", other), one, axis=1)

    done = law(image(middle), delta)
    end, start = literal(done.after, "one", 2), literal(done.after, "other", 1)
    assert end == start == [done.plan.sizes["one"][1]]


@pytest.mark.parametrize("delta", DELTAS)
def test_slice_with_attributes(delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        one = made.node("Slice", x, starts=[0], ends=[5], axes=[1], name="one")
        other = made.node("Slice", x, starts=[5], ends=[100], axes=[1], name="other")
        return made.node("Concat", made.node("Tanh", other), one, axis=1)

    done = law(image(middle, opset=9), delta)
    assert setting(done.after, "one", "ends") == setting(done.after, "other", "starts")
    assert setting(done.after, "one", "ends") == [done.plan.sizes["one"][1]]


def test_every_second_neuron_is_pinned() -> None:
    model = load(image(cut([0], [FAR], [1], [2]), width=6))
    assert [reason.vertex for reason in held(model)] == ["slice"]
    assert "2th neuron" in held(model)[0].rule


# -- Pad and Tile --------------------------------------------------------------------------------------


PADS: dict[str, tuple[Middle, int, int]] = {
    "channels": (lambda m, x: m.node("Pad", x, m.numbers(0, 2, 0, 0, 0, 3, 0, 0), name="pad"), 21, 17),
    "channels of ones": (
        lambda m, x: m.node("Pad", x, m.numbers(0, 2, 0, 0, 0, 0, 0, 0), m.constant(1.0), name="pad"),
        21,
        14,
    ),
    "named axes": (
        lambda m, x: m.node("Pad", x, m.numbers(1, 2), m.constant(0.0), m.numbers(1), name="pad"),
        21,
        15,
    ),
    "rows": (lambda m, x: m.node("Pad", x, m.numbers(0, 0, 1, 2, 0, 0, 2, 1), name="pad"), 21, 12),
    "reflected rows": (
        lambda m, x: m.node("Pad", x, m.numbers(0, 0, 1, 2, 0, 0, 2, 1), mode="reflect", name="pad"),
        21,
        12,
    ),
    "attributes": (lambda m, x: m.node("Pad", x, pads=[0, 2, 1, 0, 0, 3, 0, 1], name="pad"), 9, 17),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", PADS)
def test_pad(case: str, delta: int) -> None:
    middle, opset, width = PADS[case]
    done = law(image(middle, opset=opset, width=width), delta)
    assert weight(done.after, "head.W").shape[1] == width + delta


def test_reflected_channels_are_pinned() -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node("Pad", x, made.numbers(0, 1, 0, 0, 0, 1, 0, 0), mode="reflect", name="pad")

    model = load(image(middle, width=14))
    assert [reason.vertex for reason in held(model)] == ["pad"]


TILES: dict[str, tuple[Middle, int]] = {
    "channels": (lambda m, x: m.node("Tile", x, m.numbers(1, 3, 1, 1), name="tile"), 36),
    "rows": (lambda m, x: m.node("Tile", x, m.numbers(1, 1, 2, 1), name="tile"), 12),
    "both": (lambda m, x: m.node("Tile", x, m.numbers(1, 2, 1, 2), name="tile"), 24),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", TILES)
def test_tile(case: str, delta: int) -> None:
    middle, width = TILES[case]
    done = law(image(middle, width=width), delta)
    assert weight(done.after, "head.W").shape[1] == width // 12 * (12 + delta)


EXPANSIONS: dict[str, Middle] = {
    # A row of means over an image of a literal size.
    "literal": lambda m, x: m.node("Expand", m.node("GlobalAveragePool", x), m.numbers(1, 12, 6, 6), name="expand"),
    "ones": lambda m, x: m.node("Expand", m.node("GlobalAveragePool", x), m.numbers(6, 6), name="expand"),
    "as another": lambda m, x: m.node("Expand", m.node("GlobalMaxPool", x), m.node("Shape", x), name="expand"),
    "channels": lambda m, x: m.node(
        "Mul", x, m.node("Expand", m.node("ReduceMean", x, m.numbers(1)), m.node("Shape", x), name="expand")
    ),
    "channels, literally": lambda m, x: m.node(
        "Add",
        x,
        m.node("Expand", m.node("Slice", "x", m.numbers(0), m.numbers(1), m.numbers(1)), m.numbers(1, 12, 6, 6)),
    ),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("case", EXPANSIONS)
def test_expand(case: str, delta: int) -> None:
    # A mean over neurons is not the mean over those that are left; there, the package's own check is what remains.
    law(image(EXPANSIONS[case]), delta, readers=() if case == "channels" else ("head",), grows=case != "channels")


def test_vectors() -> None:
    law(vector(lambda m, x: m.node("Concat", x, m.node("Cast", m.node("Greater", x, x), to=FLOAT), axis=1)), -6)
