"""The table of operators as a whole: nothing of the standard is forgotten, and what is pinned says why."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from solver_nas import explain
from solver_nas.onnx import load, operators
from solver_nas.onnx.rules.sealed import REASONS
from solver_nas.rules import rule_of
from solver_nas.rules.guarding import UnsupportedError
from tests.onnx.models import BATCH, BOOL, DELTAS, FLOAT, INT64, TOKENS, Builder, change, held, image, law, tokens

#: Those of this package: documents register one of their own, of another domain.
KNOWN = {name: one for name, one in operators().items() if "::" not in name}
#: What only this package calls an operator: what enters a body.
OWN = {"carried", "element", "round"}
#: Those that stand in no test by name, and why.
UNTESTED = {
    **dict.fromkeys(
        (
            *("ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceConstruct"),
            *("SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap"),
        ),
        "sequences hold what they touch, as SequenceAt and SplitToSequence do",
    ),
    **dict.fromkeys(
        ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer", "ImageDecoder"),
        "they read text or files",
    ),
    **dict.fromkeys(
        ("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix", "RandomNormal", "RandomUniform"),
        "they read no neurons",
    ),
    "Scatter": "the name of ScatterElements until version 11",
}


def standard() -> dict[str, int]:
    """Every operator of the standard domain that is not withdrawn, and its newest version."""
    return {schema.name: schema.since_version for schema in onnx.defs.get_all_schemas() if schema.domain == ""}


def test_every_operator_of_the_standard_has_a_rule() -> None:
    assert sorted(set(standard()) - set(KNOWN)) == []


def test_every_rule_is_for_an_operator() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    assert set(KNOWN) - known == OWN


@pytest.mark.parametrize("name", KNOWN)
def test_every_rule_says_what_it_does(name: str) -> None:
    found = operators()[name]
    assert found.name == name
    assert found.note
    registered = rule_of(f"onnx.{name}")
    assert registered is not None
    assert registered.exact == found.exact


def test_every_operator_stands_in_a_test() -> None:
    here = Path(__file__)
    text = "".join(path.read_text() for path in here.parent.glob("test_operators_*.py") if path != here)
    text += here.read_text().partition("# -- what is pinned")[2]
    named = set(re.findall(r'"(\w+)"', text))
    assert sorted(set(KNOWN) - named - OWN - set(UNTESTED)) == []
    assert sorted(set(UNTESTED) & named) == []


# -- what is pinned --------------------------------------------------------------------------------------

Make = Callable[[Builder, str], str]


def positions(made: Builder, *shape: int) -> str:
    return made.constant(np.zeros(shape, np.int64))


#: What is put behind (2, 12, 6, 6), and what it returns: any shape will do.
SEALED: dict[str, Make] = {
    "AffineGrid": lambda m, x: m.node(
        "AffineGrid", m.node("Reshape", x, m.numbers(2 * 12 * 6, 2, 3)), m.numbers(144, 1, 4, 4), name="sealed"
    ),
    "BitCast": lambda m, x: m.node("Cast", m.node("BitCast", x, to=6, name="sealed"), to=FLOAT),
    "CenterCropPad": lambda m, x: m.node("CenterCropPad", x, m.numbers(4, 4), axes=[2, 3], name="sealed"),
    "Col2Im": lambda m, x: m.node(
        "Col2Im", m.node("Reshape", x, m.numbers(2, 12, 36)), m.numbers(6, 6), m.numbers(1, 1), name="sealed"
    ),
    "Compress": lambda m, x: m.node("Compress", x, m.constant(np.arange(12) % 2 == 0), axis=1, name="sealed"),
    "Det": lambda m, x: m.node("Det", x, name="sealed"),
    "DFT": lambda m, x: m.node("DFT", m.node("Unsqueeze", x, m.numbers(4)), name="sealed"),
    "EyeLike": lambda m, x: m.node("EyeLike", m.node("Reshape", x, m.numbers(24, 36)), name="sealed"),
    "GatherElements": lambda m, x: m.node("GatherElements", x, positions(m, 2, 3, 6, 6), axis=1, name="sealed"),
    "GatherND": lambda m, x: m.node("GatherND", x, positions(m, 4, 2), name="sealed"),
    "MaxUnpool": lambda m, x: m.node("MaxUnpool", x, positions(m, 2, 12, 6, 6), kernel_shape=[1, 1], name="sealed"),
    "Multinomial": lambda m, x: m.node(
        "Cast", m.node("Multinomial", m.node("Flatten", x), sample_size=2, name="sealed"), to=FLOAT
    ),
    "NonMaxSuppression": lambda m, x: m.node(
        "Cast",
        m.node(
            "NonMaxSuppression",
            m.node("Reshape", x, m.numbers(2, 12 * 9, 4)),
            m.constant(np.ones((2, 1, 12 * 9))),
            name="sealed",
        ),
        to=FLOAT,
    ),
    "NonZero": lambda m, x: m.node("Cast", m.node("NonZero", x, name="sealed"), to=FLOAT),
    "OneHot": lambda m, x: m.node(
        "OneHot", m.node("Cast", x, to=INT64), m.constant(np.int64(4)), m.constant([0.0, 1.0]), name="sealed"
    ),
    "ScatterElements": lambda m, x: m.node(
        "ScatterElements", x, positions(m, 1, 1, 1, 1), m.constant(np.ones((1, 1, 1, 1))), axis=1, name="sealed"
    ),
    "ScatterND": lambda m, x: m.node("ScatterND", x, positions(m, 1, 4), m.constant([1.0]), name="sealed"),
    "STFT": lambda m, x: m.node(
        "STFT",
        m.node("Reshape", x, m.numbers(2, 432, 1)),
        m.constant(np.int64(8)),
        "",
        m.constant(np.int64(16)),
        name="sealed",
    ),
    "SoftmaxCrossEntropyLoss": lambda m, x: m.node(
        "SoftmaxCrossEntropyLoss", x, positions(m, 2, 6, 6), reduction="none", name="sealed"
    ),
    "NegativeLogLikelihoodLoss": lambda m, x: m.node(
        "NegativeLogLikelihoodLoss", x, positions(m, 2, 6, 6), reduction="none", name="sealed"
    ),
    "Unique": lambda m, x: m.node("Unique", x, name="sealed"),
    "SplitToSequence": lambda m, x: m.node(
        "SequenceAt", m.node("SplitToSequence", x, axis=1, name="sealed"), m.constant(np.int64(0))
    ),
}
#: Versions in which they are known.
OPSETS = {"BitCast": 26, "DFT": 20, "AffineGrid": 20}


def sealed(operator: str) -> ModelProto:
    made = Builder(OPSETS.get(operator, 21))
    x = made.conv(made.input("x", 2, 2, 6, 6), 2, 7, "before")
    x = made.conv(made.node("Relu", x), 7, 12, "first")
    y = SEALED[operator](made, x)
    rank = {"SplitToSequence": 4, "NonZero": 2, "Unique": 1, "NonMaxSuppression": 2}.get(operator)
    made.output(y, [None] * (len(made.shape(y)) if rank is None else rank))
    return made.model()


@pytest.mark.parametrize("operator", SEALED)
def test_what_is_pinned_says_why(operator: str) -> None:
    model = load(sealed(operator))
    rules = {reason.vertex: reason.rule for reason in held(model)}
    assert "sealed" in rules
    known = (REASONS[operator], "is not known", "depend on data")
    assert any(text in rules["sealed"] for text in known), rules["sealed"]
    assert not explain(model["first"], 11).possible
    # Everything in front of it is as free as before.
    told = explain(model["before"], 6)
    assert told.possible, str(told)


@pytest.mark.parametrize("operator", ["Compress", "GatherElements", "ScatterND", "CenterCropPad", "OneHot", "Det"])
@pytest.mark.parametrize("delta", [-1, 3])
def test_everything_else_changes(operator: str, delta: int) -> None:
    law(sealed(operator), delta, vertex="before", readers=("first",), pinned=True)


def test_lengths_and_numbers_have_no_neurons() -> None:
    # Their rules are for values whose shape nobody knows.
    for name in ("Constant", "Range", "Shape", "Size"):
        assert REASONS[name]


def test_a_reason_names_its_operator() -> None:
    assert "EyeLike" in str(UnsupportedError("EyeLike: what it makes depends on its place"))


# -- the newest ------------------------------------------------------------------------------------------

NEW: dict[str, tuple[int, Make, bool]] = {
    "Swish": (24, lambda m, x: m.node("Swish", x, alpha=1.5), True),
    "Gelu": (20, lambda m, x: m.node("Gelu", x, approximate="tanh"), True),
    "CumProd": (26, lambda m, x: m.node("CumProd", x, m.constant(np.int64(2))), True),
    "SwiGLU": (28, lambda m, x: m.node("SwiGLU", x, m.node("Tanh", x)), False),
    "CausalConvWithState": (
        27,
        lambda m, x: m.node(
            "Unsqueeze",
            m.many(
                "CausalConvWithState",
                m.node("Reshape", x, m.numbers(0, 12, 36)),
                m.weight(12, 1, 3, name="mid.W"),
                m.weight(12),
                count=2,
                name="mid",
            )[0],
            m.numbers(3),
        ),
        False,
    ),
    "DeformConv": (
        22,
        lambda m, x: m.node(
            "DeformConv",
            x,
            m.weight(9, 12, 1, 1, name="mid.W"),
            m.constant(np.full((2, 2, 6, 6), 0.3)),
            m.weight(9, name="mid.b"),
            name="mid",
        ),
        True,
    ),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("operator", NEW)
def test_the_newest(operator: str, delta: int) -> None:
    opset, middle, known = NEW[operator]
    made = Builder(opset)
    x = made.conv(made.input("x", 2, 2, 6, 6), 2, 12, "first")
    made.output(made.conv(middle(made, x), 9 if operator == "DeformConv" else 12, 3, "head"), [2, 3, None, None])
    proto = made.model()
    if not known:
        # onnxruntime has no kernel: what the file says is all there is to be seen.
        done = change(proto, delta, unverified=True)
        onnx.checker.check_model(done.after, full_check=True)
        return
    if operator == "DeformConv":
        law(proto, delta, readers=(), makers=("first",))
        law(proto, -3, vertex="mid")
        return
    law(proto, delta)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("axes", [(0, 1), (1, 0)], ids=str)
def test_sequences_in_reverse(axes: tuple[int, int], delta: int) -> None:
    made = Builder()
    x = made.linear(made.input("x", 4, 4, 6), 6, 12, "first")
    lengths = made.numbers(3, 4, 1, 2)
    y = made.node("ReverseSequence", x, lengths, batch_axis=axes[0], time_axis=axes[1])
    made.output(made.linear(y, 12, 3, "head"))
    law(made.model(), delta)


def test_groups_of_moved_channels_are_pinned() -> None:
    made = Builder(22)
    x = made.conv(made.input("x", 2, 2, 6, 6), 2, 12, "first")
    offsets = made.constant(np.full((2, 4, 6, 6), 0.3))
    y = made.node("DeformConv", x, made.weight(9, 12, 1, 1), offsets, offset_group=2, name="mid")
    made.output(made.conv(y, 9, 3, "head"))
    model = load(made.model())
    assert [reason.vertex for reason in held(model)] == ["mid"]


def test_linear_attention_is_pinned() -> None:
    made = Builder(27)
    x = made.linear(made.input("x", 2, TOKENS, 6), 6, 12, "first")
    y, _ = made.many(
        "LinearAttention", x, x, x, count=2, update_rule="linear", q_num_heads=4, kv_num_heads=4, name="attention"
    )
    made.output(made.linear(y, 12, 3, "head"), [2, TOKENS, 3])
    model = load(made.model())
    assert held(model)[0].vertex == "attention"


def test_triangles_hold_both_of_their_axes() -> None:
    # (N, T, C): rows and columns of the triangle are tokens and neurons.
    model = load(tokens(lambda made, x: made.node("Trilu", x, upper=0)))
    assert not explain(model["first"], 11).possible

    def spread(made: Builder, x: str) -> str:
        return made.node("Trilu", x, made.constant(np.int64(1)), upper=1)

    for delta in DELTAS:
        law(image(spread), delta)


def test_flags_are_no_neurons() -> None:
    made = Builder()
    flags = made.input("flags", BATCH, 12, dtype=BOOL)
    x = made.dense(made.node("Cast", flags, to=FLOAT), 12, 12, "first")
    made.output(made.dense(x, 12, 3, "head"))
    law(made.model(), -6)


def test_settings_are_plain_values() -> None:
    found: dict[str, Any] = {name: one.values for name, one in KNOWN.items()}
    assert found["Reshape"] == frozenset({1})
