"""Neurons stand where the changed network's operations put them, and every reader finds its own."""

import numpy as np
import pytest

from solver_nas import Network, concat, delta_nout, explain, nn, plan_change, relaxed
from solver_nas.errors import ImpossibleError, RelaxedWarning
from solver_nas.frontend import Handle
from solver_nas.job import is_divided
from solver_nas.nn.vertex import NetworkVertex
from solver_nas.testing.laws import check_masked
from tests.benchmarks.architectures import ARCHITECTURES


def shuffled(x: NetworkVertex, groups: int) -> NetworkVertex:
    """A channel shuffle of vectors."""
    rows = nn.reshape(x, (groups, x.nout // groups), name=f"{x.name}.rows")
    return nn.flatten(nn.transpose(rows, (0, 2, 1), name=f"{x.name}.swapped"), name=f"{x.name}.shuffled")


def build(kind: str) -> Network:
    net = Network(seed=3)
    x = nn.dense(net.input("in", 5), 8, name="x")
    mixed = shuffled(x, 2)
    match kind:
        case "read":
            last = mixed
        case "with a layer":
            last = mixed + nn.dense(net["in"], 8, name="other")
        case "with itself":
            last = mixed + x
        case "in halves":
            left, right = nn.split(mixed, 2)
            last = concat([right, nn.relu(left)])
        case _:
            last = nn.concat([x, mixed, x])
    net.output(nn.dense(last, 3, name="out"))
    return net


KINDS = ["read", "with a layer", "in halves", "beside itself"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("delta", [-4, -2, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_shuffle(kind: str, delta: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = build(kind)
    plan = plan_change(net["x"], delta, utility=lambda v: rng.random(v.nout))
    plan.check()
    check_masked(net, plan, {"in": rng.normal(size=(4, 5))})
    plan.apply()
    assert net["x"].nout == 8 + delta


@pytest.mark.parametrize("delta", [-4, -2, 2])
def test_a_shuffle_that_meets_its_own_input_has_no_order(delta: int) -> None:
    """Position p of x meets position s(p), where s depends on how many neurons there are: pairs would change."""
    net = build("with itself")
    graph, arrays = net.graph, {key: array.tobytes() for key, array in net.arrays.items()}
    with pytest.raises(ImpossibleError, match="no order of the neurons fits: vertex"):
        plan_change(net["x"], delta, on_failure="raise")
    assert not explain(net["x"], delta)
    with pytest.warns(RelaxedWarning, match="no order of the neurons fits"):
        assert plan_change(net["x"], delta).empty
    plan = plan_change(net["x"], relaxed(delta), utility={net["x"]: np.arange(8.0)})
    plan.check()
    assert plan.empty
    assert plan.certificate.objective == 28
    assert plan.certificate.bound >= 28
    assert not delta_nout(net["x"], delta, on_failure="keep")
    assert net.graph is graph
    assert {key: array.tobytes() for key, array in net.arrays.items()} == arrays


def uneven(v: Handle) -> np.ndarray:
    """The first row's best columns are the second row's worst ones."""
    return np.array([9.0, 8, 1, 2, 1, 2, 9, 8]) if v.name == "x" else np.zeros(v.nout)


def test_every_row_keeps_its_own_best_columns() -> None:
    plan = plan_change(build("read")["x"], -4, utility=uneven)
    assert plan.indices["x"].tolist() == [0, 1, 6, 7]
    # The j-th survivors of both rows stand side by side.
    assert plan.indices["x.shuffled"].tolist() == [0, 5, 2, 7]


def test_a_layer_that_meets_a_shuffle_is_put_in_its_order() -> None:
    net = build("with a layer")
    plan = plan_change(net["x"], -4, utility=uneven)
    assert plan.indices["x"].tolist() == [0, 1, 6, 7]
    assert plan.indices["other"].tolist() == plan.indices["x.shuffled"].tolist() == [0, 5, 2, 7]
    assert not plan.notes
    check_masked(net, plan, {"in": np.random.default_rng(0).normal(size=(4, 5))})


def test_where_no_order_fits_all_rows_keep_the_same_columns() -> None:
    net = build("in halves")
    plan = plan_change(net["x"], -4, utility=uneven)
    first, second = plan.indices["x"][:2], plan.indices["x"][2:] - 4
    assert first.tolist() == second.tolist()
    assert "all rows of a rectangle keep the same columns" in plan.notes[0]


def test_copies_of_a_neuron_are_told_apart() -> None:
    """Three copies of a tensor, shuffled so that dropping neurons changes whose copy comes first."""
    net = Network(seed=1)
    x = nn.dense(net.input("in", 3), 4, name="x")
    mixed = shuffled(concat([x, 2 * x, 3 * x], name="three"), 2)
    net.output(nn.dense(mixed, 2, name="out"))
    plan = plan_change(x, -2, utility=lambda v: np.arange(v.nout) if v.name == "x" else np.zeros(v.nout))
    # Two by two in both rows: [2, 3] alone would leave two neurons in the first row and four in the second.
    assert plan.indices["x"].tolist() == [1, 3]
    check_masked(net, plan, {"in": np.random.default_rng(0).normal(size=(4, 3))})


def test_flipped_copies_shrink_from_both_ends() -> None:
    net = Network(seed=1)
    x = nn.dense(net.input("in", 3), 5, name="x")
    net.output((x + nn.flip(x)).named("sum"))
    plan = plan_change(x, -2, utility=lambda v: np.array([5.0, 1, 5, 2, 5]) if v.name == "x" else 0.0)
    assert plan.indices["x"].tolist() == [0, 2, 4]
    check_masked(net, plan, {"in": np.random.default_rng(0).normal(size=(4, 3))})


@pytest.mark.parametrize(("architecture", "divided"), [("shufflenet_v2", True), ("vit_b", False), ("resnet50", False)])
def test_time_is_left_where_columns_of_a_rectangle_go_different_ways(architecture: str, divided: bool) -> None:
    assert is_divided(ARCHITECTURES[architecture].build(0.25, weights="zeros").labels) == divided
