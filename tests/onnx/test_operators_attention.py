"""Attention that is one node, and rotary embeddings: heads and sizes of heads."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from solver_nas.onnx import load
from tests.onnx.models import (
    INT64,
    TOKENS,
    Array,
    Builder,
    Changed,
    by_hand,
    change,
    close,
    inputs,
    kept,
    law,
    run,
    setting,
    tokens,
    weight,
)

SIZE = 6


def attentive(
    *,
    heads: int = 4,
    shared: int | None = None,
    four: bool = False,
    mask: str = "none",
    values: int = SIZE,
    opset: int = 23,
    rotary: bool = False,
    **attributes: Any,
) -> ModelProto:
    """(N, T, 12) -> queries, keys, values -> Attention -> (N, T, 3)."""
    groups = shared or heads
    made = Builder(opset)
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 12, "first")
    three = [
        made.linear(x, 12, count * size, name)
        for name, count, size in zip("qkv", (heads, groups, groups), (SIZE, SIZE, values), strict=True)
    ]
    counts: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": groups}
    if rotary:
        angles = np.outer(np.arange(9), 1 / 10 ** np.linspace(0, 1, SIZE // 2))
        cache = [made.constant(np.cos(angles), "cos"), made.constant(np.sin(angles), "sin")]
        places = made.constant(np.tile(np.arange(TOKENS), (2, 1)))
        three[:2] = [
            made.node("RotaryEmbedding", one, *cache, places, num_heads=count, name=f"rotary.{name}")
            for name, one, count in zip("qk", three, (heads, groups), strict=False)
        ]
    if four:
        counts = {}
        three = [
            made.node("Transpose", made.node("Reshape", one, made.numbers(0, 0, count, size)), perm=[0, 2, 1, 3])
            for one, count, size in zip(three, (heads, groups, groups), (SIZE, SIZE, values), strict=True)
        ]
    masks: list[str] = []
    match mask:
        case "added":
            masks = [made.constant(np.triu(np.full((TOKENS, TOKENS), -1e4), 1))]
        case "true":
            masks = [made.constant(np.tril(np.ones((TOKENS, TOKENS), bool)))]
        case "by head":
            masks = [made.weight(heads, TOKENS, TOKENS, name="mask")]
        case "input":
            masks = [made.input("mask", 2, 1, TOKENS, TOKENS)]
        case _:
            pass
    y = made.node("Attention", *three, *masks, name="attention", **counts, **attributes)
    if four:
        y = made.node("Reshape", made.node("Transpose", y, perm=[0, 2, 1, 3]), made.numbers(0, 0, heads * values))
    made.output(made.linear(y, heads * values, 3, "head"), [2, TOKENS, 3])
    return made.model()


def numbers(done: Changed) -> tuple[int, int]:
    return setting(done.after, "attention", "q_num_heads"), setting(done.after, "attention", "kv_num_heads")


def spelled(done: Changed, given: dict[str, Array]) -> Array:
    """softmax(q k^T / root of the size that it had) v, with what is left of the weights."""

    def dense(x: Array, name: str) -> Array:
        return np.asarray(x @ weight(done.after, f"{name}.W") + weight(done.after, f"{name}.b"))

    x = dense(given["x"], "first")
    heads, groups = numbers(done)
    q, k, v = (
        dense(x, name).reshape(2, TOKENS, count, -1).transpose(0, 2, 1, 3)
        for name, count in zip("qkv", (heads, groups, groups), strict=True)
    )
    k, v = (one.repeat(heads // groups, axis=1) for one in (k, v))
    scores = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(SIZE))
    y = scores / scores.sum(-1, keepdims=True) @ v
    return dense(y.transpose(0, 2, 1, 3).reshape(2, TOKENS, -1), "head")


def test_heads_that_cannot_be_shared_are_pinned() -> None:
    model = load(attentive(heads=3, shared=2))
    (reason,) = model.labels.pinned
    assert reason.vertex == "attention"
    assert "3 heads of queries cannot share 2 heads of keys" in reason.rule


@pytest.mark.parametrize("delta", [-6, -12, -4, 4])
@pytest.mark.parametrize("four", [False, True], ids=["three axes", "four axes"])
def test_values(four: bool, delta: int) -> None:
    # Heads of six: one or two heads go, or one value of each head.
    done = law(attentive(four=four), delta, vertex="v")
    shapes = {name: weight(done.after, f"{name}.W").shape for name in ("q", "k", "v", "head")}
    assert shapes["v"][1] == shapes["head"][0] == 24 + delta
    assert shapes["q"] == shapes["k"]
    if not four:
        assert shapes["q"][1] % numbers(done)[0] == 0
        assert numbers(done)[0] == numbers(done)[1]
        if delta < 0:
            close([spelled(done, inputs(done.before))], run(done.after, inputs(done.before)))


@pytest.mark.parametrize("delta", [-4, -8, 4])
@pytest.mark.parametrize("four", [False, True], ids=["three axes", "four axes"])
def test_queries_and_keys(four: bool, delta: int) -> None:
    # One column of every head; what scores are divided by stays.
    done = law(attentive(four=four), delta, vertex="q", makers=("q", "k"))
    assert done.plan.sizes["q"] == done.plan.sizes["k"] == (24, 24 + delta)
    if done.plan.sizes["v"] == (24, 24):
        assert setting(done.after, "attention", "scale") == pytest.approx(SIZE**-0.5)


def test_whole_heads_need_no_scale() -> None:
    done = law(attentive(), -6, vertex="q", makers=())
    if numbers(done) == (3, 3):
        assert "scale" not in {one.name for one in done.after.graph.node[-3].attribute}
        rows = [{place // SIZE for place in kept(done, name).tolist()} for name in "qkv"]
        assert rows[0] == rows[1] == rows[2]


@pytest.mark.parametrize("delta", [-1, -6, 3])
def test_what_it_reads(delta: int) -> None:
    law(attentive(), delta, readers=("q", "k", "v"))


@pytest.mark.parametrize("delta", [-12, -4, 4])
@pytest.mark.parametrize("four", [False, True], ids=["three axes", "four axes"])
def test_shared_keys(four: bool, delta: int) -> None:
    # Four heads of queries, two of keys and values.
    done = law(attentive(shared=2, four=four), delta, vertex="q", makers=("q", "k"))
    assert done.plan.sizes["q"][1] == 2 * done.plan.sizes["k"][1]
    if not four:
        heads, groups = numbers(done)
        assert heads == 2 * groups
        if delta < 0:
            close([spelled(done, inputs(done.before))], run(done.after, inputs(done.before)))


@pytest.mark.parametrize("mask", ["added", "true", "by head", "input"])
@pytest.mark.parametrize("delta", [-6, -4])
def test_masks(delta: int, mask: str) -> None:
    done = law(attentive(mask=mask), delta, vertex="v")
    if mask == "by head":
        assert weight(done.after, "mask").shape[0] == numbers(done)[0]


@pytest.mark.parametrize("attributes", [{"is_causal": 1}, {"scale": 0.3}, {"softcap": 2.0}], ids=str)
def test_settings(attributes: dict[str, Any]) -> None:
    done = law(attentive(**attributes), -4, vertex="q", makers=("q", "k"))
    for name, value in attributes.items():
        assert setting(done.after, "attention", name) == pytest.approx(value)


def test_values_of_another_size() -> None:
    done = law(attentive(values=3), -4, vertex="v")
    assert weight(done.after, "v.W").shape[1] == 8


@pytest.mark.parametrize("opset", [23, 24])
def test_versions(opset: int) -> None:
    law(attentive(opset=opset), -6, vertex="v")


def test_scores_as_an_output() -> None:
    made = Builder(23)
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 12, "first")
    three = [made.linear(x, 12, 12, name) for name in "qkv"]
    y, *_, scores = made.many("Attention", *three, count=4, name="attention", q_num_heads=4, kv_num_heads=4)
    made.output(made.linear(y, 12, 3, "head"), [2, TOKENS, 3])
    made.output(scores, [2, 4, TOKENS, TOKENS])
    # A head that is returned stays; its values can still change.
    done = law(made.model(), -4, vertex="v")
    assert setting(done.after, "attention", "q_num_heads") == 4


@pytest.mark.parametrize("delta", [-1, -3, 2])
def test_earlier_tokens_hold_heads(delta: int) -> None:
    # Keys and values of earlier tokens come from outside: their shape cannot change, all else can.
    made = Builder(23)
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 12, "first")
    three = [made.linear(x, 12, 12, name) for name in "qkv"]
    past = [made.input(name, 2, 4, 2, 3) for name in ("past_key", "past_value")]
    y, key, value = made.many("Attention", *three, "", *past, count=3, name="attention", q_num_heads=4, kv_num_heads=4)
    made.output(made.linear(y, 12, 3, "head"), [2, TOKENS, 3])
    made.output(key, [2, 4, TOKENS + 2, 3])
    made.output(value, [2, 4, TOKENS + 2, 3])
    done = law(made.model(), delta, readers=("q", "k", "v"))
    assert weight(done.after, "v.W").shape == (12 + delta, 12)
    from solver_nas import explain

    assert not explain(load(made.model())["v"], 9).possible


def test_earlier_tokens_that_follow() -> None:
    # Earlier keys and values that the model makes itself.
    made = Builder(23)
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 12, "first")
    three = [made.linear(x, 12, 12, name) for name in "qkv"]
    past = []
    for name in ("pk", "pv"):
        one = made.linear(made.input(f"{name}.x", 2, 2, 5), 5, 12, name)
        past.append(made.node("Transpose", made.node("Reshape", one, made.numbers(0, 0, 4, 3)), perm=[0, 2, 1, 3]))
    # onnxruntime wants those that are present to be outputs as soon as there are past ones.
    y, key, value = made.many("Attention", *three, "", *past, count=3, name="attention", q_num_heads=4, kv_num_heads=4)
    made.output(made.linear(y, 12, 3, "head"), [2, TOKENS, 3])
    for name, one in (("key", key), ("value", value)):
        made.output(made.node("ReduceSum", one, made.numbers(1, 3), keepdims=0, name=name), [2, TOKENS + 2])
    for delta in (-3, -4, -6):
        done = law(made.model(), delta, vertex="v", readers=())
        assert done.plan.sizes["pv"] == done.plan.sizes["v"]


# -- rotary embeddings ---------------------------------------------------------------------------------


def rotated(*, four: bool = False, interleaved: int = 0, partial: int = 0, positions: bool = True) -> ModelProto:
    def middle(made: Builder, x: str) -> str:
        width = (partial or 6) // 2
        angles = np.outer(np.arange(9), 1 / 10 ** np.linspace(0, 1, width))
        table = [np.cos(angles), np.sin(angles)]
        extra = [made.constant(np.tile(np.arange(TOKENS), (2, 1)))] if positions else []
        if not positions:
            table = [np.tile(one[:TOKENS], (2, 1, 1)) for one in table]
        cache = [made.constant(one, name) for one, name in zip(table, ("cos", "sin"), strict=True)]
        attributes: dict[str, Any] = {
            "interleaved": interleaved,
            **({"rotary_embedding_dim": partial} if partial else {}),
        }
        if not four:
            return made.node("RotaryEmbedding", x, *cache, *extra, num_heads=4, name="rotary", **attributes)
        heads = made.node("Transpose", made.node("Reshape", x, made.numbers(0, 0, 4, 6)), perm=[0, 2, 1, 3])
        y = made.node("RotaryEmbedding", heads, *cache, *extra, name="rotary", **attributes)
        return made.node("Reshape", made.node("Transpose", y, perm=[0, 2, 1, 3]), made.numbers(0, 0, 24))

    made = Builder(23)
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 24, "first")
    made.output(made.linear(middle(made, x), 24, 3, "head"), [2, TOKENS, 3])
    return made.model()


ROTATIONS: dict[str, dict[str, Any]] = {
    "halves": {},
    "pairs": {"interleaved": 1},
    "four axes": {"four": True},
    "four axes, pairs": {"four": True, "interleaved": 1},
    "partial": {"partial": 4},
    "partial, pairs": {"partial": 4, "interleaved": 1},
    "angles by token": {"positions": False},
}


@pytest.mark.parametrize("delta", [-6, -8, -12])
@pytest.mark.parametrize("case", ROTATIONS)
def test_rotations(case: str, delta: int) -> None:
    done = law(rotated(**ROTATIONS[case]), delta)
    stay = np.zeros(24, bool)
    stay[kept(done)] = True
    table = stay.reshape(4, 6)
    heads = int(table.any(axis=1).sum())
    if not ROTATIONS[case].get("four"):
        assert setting(done.after, "rotary", "num_heads") == heads
    turned = ROTATIONS[case].get("partial", 6)
    planes = table[table.any(axis=1)][:, :turned]
    planes = (
        planes.reshape(heads, -1, 2)
        if ROTATIONS[case].get("interleaved")
        else planes.reshape(heads, 2, -1).swapaxes(1, 2)
    )
    # Both neurons of a plane stay or go, the same planes in all heads.
    assert (planes[..., 0] == planes[..., 1]).all()
    assert (planes == planes[:1]).all()
    assert weight(done.after, "cos").shape[-1] == planes[0, :, 0].sum()
    if "partial" in ROTATIONS[case]:
        assert setting(done.after, "rotary", "rotary_embedding_dim") == 2 * planes[0, :, 0].sum()


@pytest.mark.parametrize("delta", [-6, -8, -12])
def test_rotated_attention(delta: int) -> None:
    done = law(attentive(rotary=True), delta, vertex="q", makers=("q", "k"))
    heads, _ = numbers(done)
    assert setting(done.after, "rotary.q", "num_heads") == setting(done.after, "rotary.k", "num_heads") == heads
    assert weight(done.after, "cos").shape[-1] * 2 * heads == 24 + delta


def test_given_positions() -> None:
    made = Builder(23)
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 24, "first")
    angles = np.outer(np.arange(9), 1 / 10 ** np.linspace(0, 1, 3))
    places = made.input("places", 2, TOKENS, dtype=INT64)
    cache = [made.constant(np.cos(angles)), made.constant(np.sin(angles))]
    y = made.node("RotaryEmbedding", x, *cache, places, num_heads=4, name="rotary")
    made.output(made.linear(y, 24, 3, "head"), [2, TOKENS, 3])
    law(made.model(), -6)


# -- caches --------------------------------------------------------------------------------------------


def test_caches_that_are_written_to() -> None:
    made = Builder(24)
    x = made.linear(made.input("x", 2, TOKENS, 5), 5, 12, "first")
    past = made.linear(made.input("z", 2, 8, 5), 5, 12, "past")
    y = made.node("TensorScatter", past, x, made.constant(np.array([0, 2])), axis=1, name="scatter")
    made.output(made.linear(y, 12, 3, "head"), [2, 8, 3])
    proto = made.model()
    for delta in (-1, -6, 3):
        done = change(proto, delta, "first", unverified=True)
        assert done.plan.sizes["past"] == done.plan.sizes["first"] == (12, 12 + delta)


def test_the_helper_for_heads_is_right() -> None:
    # The oracle by hand, on a model in which nothing is left to chance.
    done = change(tokens(lambda made, x: made.node("Tanh", x)), -1)
    given = inputs(done.before)
    close(run(done.after, given), [by_hand(done, given, np.tanh)])
