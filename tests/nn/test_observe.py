"""Observers see what passed through, and follow their neurons."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from solver_nas import nn
from solver_nas.api import delta_nout
from solver_nas.errors import LayerError
from solver_nas.observe import GRAM_LIMIT, Contribution, Every, Floats, by_neuron

FLOATS = st.floats(-8, 8, width=16)


@given(rows=arrays(np.float64, st.tuples(st.integers(1, 9), st.just(3)), elements=FLOATS), cut=st.integers(0, 9))
def test_statistics_of_parts_are_those_of_the_whole(rows: Floats, cut: int) -> None:
    parts = nn.ActivationStatistics.empty(3).seen(rows[:cut]).seen(rows[cut:])
    assert parts.count == len(rows)
    np.testing.assert_allclose(parts.mean, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(parts.moments, rows.T @ rows / len(rows), atol=1e-12)
    np.testing.assert_allclose(parts.deviation, rows.std(axis=0), atol=1e-6)
    alone = nn.ActivationStatistics.empty(3, pairs=False).seen(rows)
    assert alone.gram is None
    np.testing.assert_allclose(alone.power, parts.power, atol=1e-12)


def test_wide_layers_keep_the_diagonal_only() -> None:
    assert nn.ActivationStatistics.empty(GRAM_LIMIT).gram is not None
    assert nn.ActivationStatistics.empty(GRAM_LIMIT + 1).gram is None


def test_statistics_follow_their_neurons_and_new_ones_start_at_zero() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 4))
    moved = np.array([2, -1, 0])
    seen = nn.ActivationStatistics.empty(4).seen(rows)
    after = seen.select(moved)
    other = np.stack([rows[:, 2], np.zeros(20), rows[:, 0]], axis=1)
    np.testing.assert_allclose(after.moments, other.T @ other / 20, atol=1e-12)
    np.testing.assert_allclose(after.mean, other.mean(axis=0), atol=1e-12)
    np.testing.assert_array_equal(seen.select(np.arange(4)).moments, seen.moments)


def test_statistics_are_read_only() -> None:
    seen = nn.ActivationStatistics.empty(2).seen(np.ones((1, 2)))
    with pytest.raises(ValueError, match="read-only"):
        seen.moments[0] = 3.0


def test_contribution_weighs_the_newest_value_by_the_smoothing() -> None:
    first = Contribution(smoothing=0.25).seen(np.array([[1.0, -2.0], [3.0, 0.0]]), np.array([[2.0, 1.0], [-2.0, 5.0]]))
    assert first.metric is not None
    assert first.metric.tolist() == [(2 + 6) / 2, (2 + 0) / 2]
    second = first.seen(np.array([[8.0, 1.0]]), np.array([[1.0, 9.0]]))
    assert second.metric is not None
    assert second.metric.tolist() == [0.75 * 4 + 0.25 * 8, 0.75 * 1 + 0.25 * 9]
    assert second.steps == 2
    followed = second.select(np.array([1, -1])).metric
    assert followed is not None
    assert followed.tolist() == [second.metric[1], 0.0]


@pytest.mark.parametrize("period", [0, -1, True])
def test_a_period_is_positive(period: int) -> None:
    with pytest.raises(LayerError, match="positive number of steps"):
        Every(period)


@pytest.mark.parametrize("smoothing", [0.0, 1.5, float("nan")])
def test_smoothing_is_a_weight(smoothing: float) -> None:
    net = nn.Network()
    x = nn.dense(net.input("in", 2), 3, name="hidden")
    with pytest.raises(LayerError, match="'hidden': smoothing is the weight of the newest"):
        nn.ActivationContribution(x, smoothing=smoothing)
    assert "hidden" not in net.observers


def test_a_watched_vertex_is_the_vertex_and_survives_copying_renaming_and_resizing() -> None:
    net = nn.Network()
    hidden = nn.ActivationContribution(nn.dense(net.input("in", 2), 4, name="hidden"))
    net.output(nn.dense(hidden, 1, name="out"))
    assert hidden == net["hidden"]
    assert nn.observed(hidden).metric is None
    nn.fit(net, np.ones((3, 2)), np.ones((3, 1)), steps=3)
    metric = hidden.metric
    assert metric is not None
    twin = copy.deepcopy(net)
    delta_nout(net["hidden"], -2)
    assert hidden.metric is not None
    np.testing.assert_array_equal(np.sort(hidden.metric), np.sort(metric)[2:])
    hidden.named("first")
    assert hidden.metric is not None
    np.testing.assert_array_equal(nn.default_utility(net["first"]), hidden.metric)
    np.testing.assert_array_equal(nn.observed(twin["hidden"]).metric, metric)
    statistics = nn.observed(net["first"]).statistics
    assert statistics is not None
    assert statistics.moments.shape == (2, 2)


def test_a_vertex_without_neurons_cannot_be_watched() -> None:
    with pytest.raises(LayerError, match=r"'words' .* has no neurons"):
        nn.ActivationContribution(nn.Network().tokens("words"))


def test_observations_that_do_not_fit_the_vertex_are_not_used() -> None:
    net = nn.Network()
    hidden = nn.ActivationContribution(nn.dense(net.input("in", 2), 4, name="hidden"))
    nn.fit(net, np.ones((3, 2)), np.ones((3, 4)), steps=1)
    net.observers["hidden"] = net.observers["hidden"].select(np.arange(3))
    assert hidden.metric is None
    assert nn.observed(hidden).statistics is None
    np.testing.assert_array_equal(nn.default_utility(hidden), nn.magnitude(hidden))


def test_rows_are_in_the_order_of_the_neurons() -> None:
    net = nn.Network()
    image = net.input("image", (3, 4, 5))
    value = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    rows = by_neuron(value, net.tensor("image"))
    assert rows.shape == (2 * 4 * 5, 3)
    np.testing.assert_array_equal(rows[:, 1].reshape(2, 4, 5), value[:, 1])
    assert image.nout == 3
