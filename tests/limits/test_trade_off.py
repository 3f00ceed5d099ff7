"""The curve of kept utility against a budget: its ends, its numbers, and what it says where nothing was found."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from solver_nas import Network, concat, grow, measure_latency, nn, shrink, trade_off
from solver_nas.errors import GraphError, ImpossibleError, RequestError
from solver_nas.limits import (
    Grid,
    LatencyTable,
    activation_memory,
    fixed,
    keep,
    latency,
    macs,
    minimum,
    now,
    params,
    removed_at_most,
    sizes,
    weight_memory,
)


@pytest.fixture
def net() -> Network:
    found = Network(seed=0)
    x = found.input("in", 3)
    for name in ("a", "b"):
        x = nn.dense(x, 8, activation="relu", name=name)
    found.output(nn.dense(x, 2, name="out"))
    return found


def tiles(_: str, inputs: tuple[int, ...], outputs: int) -> float:
    return -(-outputs // 4) * -(-sum(inputs) // 4) * 1e-6


COSTS: dict[str, Any] = {
    "parameters": params,
    "a seventh": lambda net: params(net) / 7,
    "a sum": lambda net: macs(net) * 0.1 + params(net) / 3,
    "seconds": lambda net: latency(net, tiles),
    "a peak": activation_memory,
}


@pytest.mark.parametrize("name", COSTS)
def test_the_curve_goes_from_the_least_to_the_present(net: Network, name: str) -> None:
    cost = COSTS[name]
    curve = trade_off(net, cost(net), 5)
    assert not curve.missing
    assert len(curve.points) == 5
    assert curve.points[0].cost == pytest.approx(curve.smallest, rel=1e-8)
    assert curve.points[-1].cost == cost(net).value
    assert curve.points[-1].kept == pytest.approx(1.0)
    assert all(point.kept <= point.bound + 1e-9 for point in curve.points)
    kept = [point.kept for point in curve.points]
    assert kept == sorted(kept)


def test_budgets_can_be_named(net: Network) -> None:
    curve = trade_off(net, params(net), [0.75, 0.5])
    assert [point.budget for point in curve.points] == [0.5 * params(net).value, 0.75 * params(net).value]
    assert len(trade_off(net, params(net), np.int64(3)).points) == 3  # type: ignore[arg-type]
    for wrong in ([], [0.5, 2], [0.0], "half", [float("nan")], 1, 2.5):
        with pytest.raises(RequestError):
            trade_off(net, params(net), wrong)  # type: ignore[arg-type]


def test_utilities_below_zero_make_no_nonsense(net: Network) -> None:
    curve = trade_off(net, params(net), 3, utility=lambda v: np.linspace(-1, 1, v.nout))
    assert all(point.kept <= point.bound + 1e-9 <= 1 + 2e-9 for point in curve.points)


def test_a_cost_of_nothing_can_be_printed(net: Network) -> None:
    assert "of now" in str(trade_off(net, 0 * params(net), 2))


def test_other_limits_that_cannot_be_kept_are_named(net: Network) -> None:
    with pytest.raises(ImpossibleError, match=r"params <= 5: .* is possible"):
        trade_off(net, macs(net), 3, limits=[params(net) <= 5])


def test_what_is_possible_is_said_for_each_vertex_and_in_its_own_terms(net: Network) -> None:
    with pytest.raises(ImpossibleError) as caught:
        shrink(net, [params(net, ["a", "b"]) <= 60, minimum(6, ["a", "b"])])
    reachable = caught.value.reachable
    assert reachable["minimum(6) (vertex 'a')"] == 5
    assert reachable["minimum(6) (vertex 'b')"] == 5
    with pytest.raises(ImpossibleError) as caught:
        shrink(net, [sizes[net["a"]] <= 5, removed_at_most(0.25, "a")])
    assert caught.value.reachable["removed_at_most(0.25) (vertex 'a')"] == 0.375


def test_outputs_need_not_have_a_minimum(net: Network) -> None:
    assert shrink(net, [minimum(4), params(net) <= 0.7 * now])
    assert net["out"].nout == 2


def test_what_nobody_asked_for_is_called_by_its_name(net: Network) -> None:
    with pytest.raises(ImpossibleError, match="keep_outputs=True, the default"):
        shrink(net, [sizes[net["out"]] <= 1])
    with pytest.raises(ImpossibleError, match="grow removes nothing"):
        grow(net, [sizes[net["a"]] <= 5])
    with pytest.raises(ImpossibleError, match="no neurons are added, which would make it possible"):
        shrink(net, [minimum(20, "a")])


def test_a_plan_says_what_limited_costs_come_to(net: Network) -> None:
    plan = shrink.plan(net, [params(net) <= 0.5 * now, sizes[net["a"]] >= 2])
    lines = [line for line in str(plan).splitlines() if line.startswith("params")]
    assert lines == [f"params: 122 -> {plan.cost(params(net)):g}   (params <= 0.5 * now)"]
    for wrong in (params(net) <= 3, 5, None):
        with pytest.raises(RequestError, match=r"a cost is an expression such as macs\(net\)"):
            plan.cost(wrong)  # type: ignore[arg-type]


def test_the_better_ones_stay_where_utilities_are_below_zero(net: Network) -> None:
    worth = -np.array([3.0, 1, 2, 4, 5, 6, 7, 8])
    for how in ("none", "mean", "sum", "l2", "gaussian", "rank"):
        plan = shrink.plan(
            net,
            [sizes[net["a"]] == 3, fixed("b")],
            utility={net["a"]: worth, net["b"]: np.ones(8)},
            normalise=how,
        )
        assert plan.indices["a"].tolist() == [0, 1, 2], how


def test_costs_of_another_network_are_refused(net: Network) -> None:
    other = Network()
    other.output(nn.dense(other.input("in", 3), 2, name="out"))
    for cost in (params(other), macs(other), weight_memory(other), activation_memory(other), latency(other, tiles)):
        with pytest.raises(GraphError, match="of another network"):
            shrink(net, [cost <= now])
    with pytest.raises(RequestError, match="latency takes a network"):
        latency(None, tiles)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "axis",
    [np.array([8, 1], np.uint64), np.array([8, 1], np.uint8), [1, 1], [2**63], [-1, 4], [1.5], [[1], [2, 3]]],
    ids=["falling uint64", "falling uint8", "twice", "too large", "negative", "parts", "ragged"],
)
def test_axes_of_a_grid_ascend(axis: Any) -> None:
    with pytest.raises(RequestError):
        Grid(axis, [1], np.zeros((len(axis), 1)))


@pytest.mark.parametrize(
    "seconds",
    [[[1, 2], [3]], [["a", "b"]], [[1j, 2]], [[1e300, 1e301]], [1.0, 2.0], 5.0],
    ids=["ragged", "words", "complex", "too long", "a row", "a number"],
)
def test_times_of_a_grid_are_a_table_of_numbers(seconds: Any) -> None:
    for make in (Grid, Grid.smoothed):
        with pytest.raises(RequestError):
            make([1], [1, 2], seconds)
    with pytest.raises(RequestError, match="vertex name -> Grid"):
        LatencyTable(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(options, id=str(number))
        for number, options in enumerate(
            [
                {"gap": None},
                {"gap": "0.1"},
                {"gap": 1j},
                {"gap": [0.1]},
                {"gap": True},
                {"gap": 1.0},
                {"normalise": np.array(["mean"])},
                {"normalise": 5},
                {"on_failure": np.array(["raise"])},
                {"utility": {"a": [1.0]}, "normalise": "mean"},
                {"utility": {"a": [1.0]}},
                {"utility": lambda _: 1e300},
            ]
        )
    ],
)
def test_options_that_make_no_sense(net: Network, options: dict[str, Any]) -> None:
    with pytest.raises((RequestError, GraphError, ValueError), match=r"got|given|up to"):
        shrink(net, [params(net) <= 0.5 * now], **options)
    assert params(net).value == 122


def test_half_a_parameter_is_a_slip(net: Network) -> None:
    with pytest.raises(RequestError, match=r"for a fraction of what there is now, write 0\.5 \* now"):
        params(net) <= 0.5  # noqa: B015 - the comparison makes the limit
    with pytest.raises(RequestError, match="<=, >= or =="):
        params(net) != 100  # noqa: B015
    assert repr(params(net) <= Fraction(1, 2)) == "params <= 0.5"  # whoever writes that means it


def test_sizes_that_are_not_known_are_not_timed() -> None:
    images = Network(seed=0)
    x = nn.conv(images.input("image", (3, None, None)), 4, 3, name="conv")
    images.output(nn.dense(nn.global_avg_pool(x), 2, name="out"))
    with pytest.raises(RequestError, match=r"measure_latency\(net, \(3, 224, 224\)\)"):
        measure_latency(images)
    assert measure_latency(images, (3, 8, 8), points=2).grids["conv"].seconds.max() > 0


def test_a_cost_of_too_many_sizes_says_what_to_do() -> None:
    net = Network(seed=0)
    x = net.input("in", 8)
    wide = [nn.dense(x, 64, name=f"wide{place}") for place in range(3)]
    net.output(nn.dense(concat(wide, name="all"), 4, name="out"))
    with pytest.raises(RequestError, match=r"depends on 4 sizes at once.*give a LatencyTable"):
        shrink(net, [latency(net, tiles) <= 0.5 * now])
    assert shrink(net, [latency(net, tiles, of="wide*") <= 0.5 * now])


def test_an_array_without_axes_is_no_list(net: Network) -> None:
    array: Any = np.array(5)
    places: list[Callable[[], object]] = [
        lambda: shrink(net, [minimum(2, array)]),
        lambda: shrink(net, array),
        lambda: shrink(net, [macs(net, array) <= 0.5 * now]),
        lambda: keep(net["a"], array),
    ]
    for place in places:
        with pytest.raises(RequestError, match=r"got array\(5\)"):
            place()


def test_seconds_and_limits_of_numpy_will_do(net: Network) -> None:
    assert shrink(net, [params(net) <= 0.5 * now], time_limit=np.float32(5), gap=np.float32(0.1))  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [1e-300, 1e300, 10**400, -1.0, float("nan"), 1j])
def test_times_that_nothing_takes_are_refused(net: Network, seconds: Any) -> None:
    with pytest.raises(RequestError, match="expected seconds from 0 on"):
        shrink(net, [latency(net, lambda *_: seconds) <= 0.5 * now])


def test_constants_of_expressions_count(net: Network) -> None:
    both = sizes[net["a"]] + sizes[net["b"]] + 5
    with pytest.raises(ImpossibleError) as caught:
        shrink(net, [both <= 8, minimum(4, "a")])
    assert next(iter(caught.value.reachable.values())) == 10
    curve = trade_off(net, params(net) + 1000, 3)
    assert not curve.missing
    assert curve.smallest == 1000 + 3 + 1 + 1 + 1 + 2 + 2
    assert trade_off(net, both, 5).smallest == 7


def test_all_moments_of_a_peak_give_way_together() -> None:
    net = Network(seed=0)
    x = net.input("in", 2)
    for name in ("a", "b", "c"):
        x = nn.dense(x, 20, name=name)
    net.output(nn.dense(x, 2, name="out"))
    held = [sizes[net["a"]] + sizes[net["c"]] >= 24]
    peak = activation_memory(net)
    with pytest.raises(ImpossibleError) as caught:
        shrink(net, [peak <= 100, *held])
    least = caught.value.reachable["activation_memory <= 100"]
    assert least is not None
    assert shrink.plan(net, [peak <= least, *held]).cost(peak) == least
    with pytest.raises(ImpossibleError):
        shrink(net, [peak <= least - 1, *held])
    curve = trade_off(net, peak, 3, limits=held)
    assert not curve.missing
    assert curve.smallest == least
