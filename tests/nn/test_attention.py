"""Attention against loops over heads and steps, and how its heads hang together."""

import numpy as np
import pytest

from solver_nas import nn, plan_change, relaxed
from solver_nas.classes import classify
from solver_nas.errors import LayerError
from solver_nas.testing.laws import check_masked
from solver_nas.testing.zoo import ZOO, inputs, randomised

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def attended(q: Array, k: Array, v: Array, heads: int, shared: int, causal: bool) -> Array:
    """One sample, (steps, features) each; one head and one query at a time."""
    size, values = q.shape[1] // heads, v.shape[1] // shared
    y = np.zeros((len(q), heads * values))
    for head in range(heads):
        source = head // (heads // shared)
        for step, query in enumerate(q[:, head * size : (head + 1) * size]):
            seen = step + 1 if causal else len(k)
            scores = k[:seen, source * size : (source + 1) * size] @ query / np.sqrt(size)
            share = np.exp(scores) / np.exp(scores).sum()
            mixed = share @ v[:seen, source * values : (source + 1) * values]
            y[step, head * values : (head + 1) * values] = mixed
    return y


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "shared"), [(1, 1), (3, 3), (4, 2), (4, 1)])
def test_values(heads: int, shared: int, causal: bool) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (
        rng.normal(size=(2, 5, heads * 3)),
        rng.normal(size=(2, 5, shared * 3)),
        rng.normal(size=(2, 5, shared * 2)),
    )
    net = nn.Network()
    given = [net.input(name, x.shape[1:], axis=-1) for name, x in zip("qkv", (q, k, v), strict=True)]
    nn.attend(*given, num_heads=heads, kv_heads=shared, causal=causal)
    samples = zip(q, k, v, strict=True)
    expected = np.array([attended(a, b, c, heads, shared, causal) for a, b, c in samples])
    np.testing.assert_allclose(net(q, k, v), expected)
    np.testing.assert_allclose(net(q[0], k[0], v[0]), expected[0])


def test_attention_is_attend_between_dense_layers() -> None:
    net = nn.Network()
    x, context = net.input("x", (5, 6), axis=-1), net.input("context", (4, 3), axis=-1)
    out = nn.attention(x, context, num_heads=4, kv_heads=2, head_dim=3, value_dim=2, units=7, name="a")
    assert out.shape == (None, 5, 7)
    assert [net[f"a.{part}"].nout for part in ("query", "key", "value", "heads")] == [12, 6, 4, 8]
    assert [vertex.name for vertex in net["a.key"].inputs] == ["context"]
    found = net.activations(*inputs(net, np.random.default_rng(0)).values())
    query, key, value = (found[f"a.{part}"][0] for part in ("query", "key", "value"))
    np.testing.assert_allclose(found["a.heads"][0], attended(query, key, value, 4, 2, False))


def _labels(net: nn.Network, part: str, rows: int) -> Array:
    class_of, _ = classify(net.labels)
    classes: Array = class_of[net.tensor(part).neurons["label"]].reshape(rows, -1)
    return classes


def test_query_and_key_dimensions_are_tied_head_by_head() -> None:
    net = nn.Network()
    nn.attention(net.input("x", (5, 6), axis=-1), num_heads=2, name="a")
    query, key, value = (_labels(net, f"a.{part}", 2) for part in ("query", "key", "value"))
    np.testing.assert_array_equal(query, key)
    assert len(np.unique(query)) == 6
    assert not np.isin(value, query).any()
    np.testing.assert_array_equal(_labels(net, "a.heads", 2), value)


def test_query_heads_that_share_a_key_go_together() -> None:
    net = nn.Network()
    nn.attention(net.input("x", (5, 8), axis=-1), num_heads=4, kv_heads=2, name="a")
    query, key = _labels(net, "a.query", 4), _labels(net, "a.key", 2)
    np.testing.assert_array_equal(query, np.repeat(key, 2, axis=0))


@pytest.mark.parametrize(("part", "delta"), [("query", -4), ("value", -3), ("query", -6)])
def test_heads_or_dimensions_go(part: str, delta: int) -> None:
    net = ZOO["attention"].build(3)
    plan = plan_change(net[f"layer.{part}"], relaxed(delta), utility=lambda v: np.arange(1.0, v.nout + 1))
    after = plan.blueprint.after.vertex("layer.heads").attributes
    sizes = {name: plan.sizes[f"layer.{name}"][1] for name in ("query", "key", "value", "heads")}
    assert sizes["query"] == sizes["key"]
    assert sizes["value"] == sizes["heads"]
    assert after["num_heads"] == after["kv_heads"]
    assert sizes["query"] % int(str(after["num_heads"])) == 0
    assert after["scale"] == 0.5
    if not any((index < 0).any() for index in plan.indices.values()):
        check_masked(net, plan, inputs(net, np.random.default_rng(0)))


def test_grouped_heads_stay_grouped() -> None:
    net = ZOO["attention, grouped"].build(3)
    plan = plan_change(net["layer.key"], -2, utility=lambda v: np.arange(1.0, v.nout + 1))
    after = plan.blueprint.after.vertex("layer.heads").attributes
    assert (after["num_heads"], after["kv_heads"]) in {(4, 2), (6, 3)}
    check_masked(net, plan, inputs(net, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 4}, "attention 'a': 4 heads do not divide 6 features; give head_dim"),
        ({"num_heads": 0}, "num_heads is an integer of at least 1, got 0"),
        ({"num_heads": 6, "kv_heads": 4}, "kv_heads is 4, which does not divide 6"),
        ({"num_heads": 2, "head_dim": 0}, "head_dim is an integer of at least 1"),
        ({"num_heads": 2, "units": 0}, "units is an integer of at least 1"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    net = nn.Network()
    x = net.input("x", (5, 6), axis=-1)
    with pytest.raises(LayerError, match=message):
        nn.attention(x, name="a", **arguments)  # type: ignore[arg-type] # wrong on purpose
    assert len(net) == 1


def test_keys_have_to_fit_queries() -> None:
    net = nn.Network()
    x, y = net.input("x", (5, 6), axis=-1), net.input("y", (5, 4), axis=-1)
    with pytest.raises(LayerError, match="'y' has 4 features; 2 heads as large as those of 'x' need 6"):
        nn.attend(x, y, y, num_heads=2)


def test_a_causal_step_sees_nothing_that_follows() -> None:
    net = nn.Network()
    nn.attention(net.input("x", (5, 6), axis=-1), num_heads=2, causal=True)
    randomised(net, 0)
    x = np.random.default_rng(0).normal(size=(1, 5, 6))
    other = x.copy()
    other[:, 3:] += 1
    before, after = net(x), net(other)
    np.testing.assert_allclose(before[:, :3], after[:, :3])
    assert (np.abs(before[:, 3:] - after[:, 3:]) > 1e-6).any()
