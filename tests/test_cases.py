"""Known numbers for a residual network with a concatenation, and for smaller ones."""

import copy
from collections.abc import Callable

import numpy as np
import pytest

from solver_nas import (
    Network,
    absorb,
    concat,
    delta_nin,
    delta_nout,
    delta_size,
    explain,
    invariant,
    nn,
    plan_change,
    relaxed,
)
from solver_nas.errors import ImpossibleError, RelaxedWarning
from solver_nas.frontend import Handle
from solver_nas.nn.vertex import NetworkVertex

ONES = np.ones(6)


def row_means(v: Handle) -> np.ndarray | float:
    return np.abs(v.parameters["weight"]).mean(axis=1) if v.kind == "dense" else 0.0


def as_built() -> Network:
    net = Network()
    start = nn.dense(net.input("in", 6), 6, bias=False, name="start")
    split = nn.dense(start, 2, bias=False, name="split")
    parts = [invariant(lambda a, s=s: a * s, split, name=f"x{s}") for s in (2, 3, 5)]
    joined = concat(parts, name="joined")
    net.output((start + joined).named("out"))
    net["start"].op.weight = np.ones((6, 6))
    net["split"].op.weight = np.ones((2, 6))
    return net


@pytest.fixture
def built() -> Network:
    return as_built()


@pytest.fixture
def grown() -> Network:
    net = as_built()
    delta_nout(net["out"], relaxed(2), init="zeros")
    return net


def test_a0_as_built(built: Network) -> None:
    assert built(ONES).tolist() == [78, 78, 114, 114, 186, 186]
    assert {v.name: v.nout for v in built.vertices} == {
        "in": 6, "start": 6, "split": 2, "x2": 2, "x3": 2, "x5": 2, "joined": 6, "out": 6,
    }  # fmt: skip


def test_a1_a_relaxed_wish_takes_the_nearest_size(built: Network) -> None:
    before = copy.deepcopy(built)
    change = delta_nout(built["out"], relaxed(2), init="zeros")
    assert change
    assert [built[name].nout for name in ("start", "split", "joined", "out")] == [9, 3, 9, 9]
    assert built(ONES).tolist() == [78, 78, 0, 114, 114, 0, 186, 186, 0]
    assert before(ONES).tolist() == [78, 78, 114, 114, 186, 186]


def test_a2_an_impossible_wish_is_explained(built: Network) -> None:
    arrays = dict(built.arrays)
    change = delta_nout(built["out"], 2, on_failure="keep")
    assert not change
    assert built.arrays == arrays
    explanation = explain(built["out"], 2)
    assert not explanation
    for name in ("out", "joined", "split"):
        assert name in str(explanation)
    assert explanation.nearest == {"out": (6, 9)}
    with pytest.raises(ImpossibleError, match="multiple of 3") as caught:
        delta_nout(built["out"], 2, on_failure="raise")
    assert caught.value.nearest == {"out": (6, 9)}
    with pytest.warns(RelaxedWarning, match="nearest possible: 6, 9"):
        delta_nout(built["out"], 2, init="zeros")
    assert built(ONES).tolist() == [78, 78, 0, 114, 114, 0, 186, 186, 0]


@pytest.mark.parametrize(
    ("utility", "expected"),
    [
        (lambda v: np.arange(v.nout) + 1, [42, 0, 60, 0, 96, 0]),
        (lambda v: v.nout - np.arange(v.nout), [78, 78, 114, 114, 186, 186]),
        (row_means, [78, 78, 114, 114, 186, 186]),
        (None, [78, 78, 114, 114, 186, 186]),
    ],
    ids=["a3 position", "a4 opposite", "a5 weights", "default"],
)
def test_a3_to_a5_the_utility_decides(
    grown: Network, utility: Callable[[Handle], np.ndarray] | None, expected: list[int]
) -> None:
    delta_nout(grown["out"], -3, utility=utility)
    assert grown(ONES).tolist() == expected


def test_a6_one_request_after_the_other(grown: Network) -> None:
    delta_nout(grown["split"], relaxed(-2), init="zeros")
    delta_nout(grown["out"], 6, init="zeros")
    assert grown(ONES).tolist() == [42, 0, 0, 60, 0, 0, 96, 0, 0]


def test_a7_two_wishes_in_one_request(grown: Network) -> None:
    split, out = grown["split"], grown["out"]
    delta_nout({split: relaxed(-2), out: 3}, init="zeros")
    assert (split.nout, out.nout) == (4, 12)
    assert grown(ONES).tolist() == [78, 78, 0, 0, 114, 114, 0, 0, 186, 186, 0, 0]


def test_a8_wishes_for_inputs(grown: Network) -> None:
    joined, out = grown["joined"], grown["out"]
    delta_nin({joined: (3, relaxed(2), None), out: relaxed(1, 2)})
    assert joined.nin == (6, 6, 6)
    assert out.nin == (18, 18)


def test_a9_sizes_by_utility_alone(grown: Network) -> None:
    def worth(v: Handle) -> np.ndarray | float:
        u = np.asarray(row_means(v))
        shifted: np.ndarray = u - 0.4 * u.mean()
        return shifted

    delta_size(grown, utility=worth)
    assert [v.nout for v in grown.vertices] == [6, 6, 2, 2, 2, 2, 6, 6]


def down_columns(rows: int, columns: int) -> np.ndarray:
    return np.arange(1.0, rows * columns + 1).reshape(columns, rows).T


def test_b_weights_index_by_index() -> None:
    net = Network()
    in1, in2 = net.input("in1", 3), net.input("in2", 4)
    v1 = nn.dense(in1, 4, bias=False, name="v1")
    v2 = nn.dense(in2, 3, bias=False, name="v2")
    merged = concat([v1, v2], name="merged")
    v3 = nn.dense(in1, 7, bias=False, name="v3")
    add = (v3 + merged).named("add")
    v4 = nn.dense(merged, 2, bias=False, name="v4")
    net.output(add, v4)
    for v in (v1, v2, v3, v4):
        v.op.weight = down_columns(*v.op.weight.shape)

    def worth(v: Handle) -> np.ndarray | float:
        return np.array([10.0, 1.0, 10.0]) if v.name == "v2" else 1.0

    plan = plan_change({v2: -1, merged: 0}, utility=worth, init="zeros")
    plan.check()
    plan.apply()
    assert v1.op.weight.tolist() == [[1, 5, 9], [2, 6, 10], [3, 7, 11], [4, 8, 12], [0, 0, 0]]
    assert v2.op.weight.tolist() == [[1, 4, 7, 10], [3, 6, 9, 12]]
    assert v3.op.weight.tolist() == [
        [1, 8, 15], [2, 9, 16], [3, 10, 17], [4, 11, 18], [0, 0, 0], [5, 12, 19], [7, 14, 21],
    ]  # fmt: skip
    assert v4.op.weight.tolist() == [[1, 3, 5, 7, 0, 9, 13], [2, 4, 6, 8, 0, 10, 14]]
    assert plan.indices["merged"].tolist() == [0, 1, 2, 3, -1, 4, 6]


def test_d_two_layers() -> None:
    net = Network()
    layer1 = nn.dense(net.input("in", 3), 4, name="layer1")
    layer2 = nn.dense(layer1, 5, name="layer2")
    delta_nout(layer1, -2)
    assert (layer1.nout, layer2.nin, layer2.nout) == (2, (2,), 5)


def stacked() -> tuple[Network, NetworkVertex]:
    net = Network()
    layer1 = nn.dense(net.input("in", 3), 4, name="layer1")
    joined = concat([2 * layer1, 3 * layer1], name="joined")
    net.output(joined)
    return net, joined


def test_d_every_way_to_fail() -> None:
    net, joined = stacked()
    arrays = dict(net.arrays)
    with pytest.raises(ImpossibleError, match=r"joined\): 8 -> 9"):
        delta_nout(joined, 1, on_failure="raise")
    assert not delta_nout(joined, 1, on_failure="keep")
    assert net.arrays == arrays
    assert joined.nout == 8
    delta_nout(joined, relaxed(1))
    assert joined.nout == 10
    with pytest.warns(RelaxedWarning):
        delta_nout(joined, 1)
    assert joined.nout == 12


def test_the_example_of_the_readers(built: Network) -> None:
    split, out = built["split"], built["out"]
    assert not delta_nout(out, 2, on_failure="keep")
    delta_nout(built["out"], relaxed(2), init="zeros")
    delta_nout({split: relaxed(-2), out: 3}, utility=lambda v: np.arange(v.nout), seed=0)
    assert built(np.ones((1, 6))).shape == (1, 12)


def test_an_absorbing_vertex_of_the_users_own() -> None:
    net = Network()
    x = nn.dense(net.input("in", 3), 4, name="x")
    mine = absorb(lambda a, w: a @ w, x, parameters={"w": np.ones((4, 5))}, axes={"w": ("in", "out")}, name="mine")
    delta_nout({x: -1, mine: -2}, utility=lambda v: np.arange(v.nout))
    assert mine.op.w.shape == (3, 3)
    assert net(np.ones((2, 3))).shape == (2, 3)
