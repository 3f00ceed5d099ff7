"""Ridge regression from sums: against least squares on the rows themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver_nas.regression import RIDGES, EachNeuron, Moments, best, straight


def rows(seed: int, count: int, features: int, outputs: int, noise: float) -> tuple[Any, Any]:
    """Inputs, and outputs that depend on them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(1.0, 2.0, (count, features)) @ rng.normal(size=(features, features))
    return x, x @ rng.normal(size=(features, outputs)) + 3.0 + noise * rng.normal(size=(count, outputs))


def sums(x: Any, y: Any) -> Moments:
    """Of one group."""
    found = Moments()
    found.add(x[None], y[None], y[None])
    return found


@given(seed=st.integers(0, 500), noise=st.sampled_from([0.0, 0.3, 3.0, 30.0]), count=st.sampled_from([6, 12, 60]))
def test_the_ridge_that_is_best_on_what_was_held_back(seed: int, noise: float, count: int) -> None:
    x, y = rows(seed, count + 20, 4, 3, noise)
    fitting, held = sums(x[:count], y[:count]), sums(x[count:], y[count:])
    found = best(fitting, held, centred=True, bias=True)
    assert found is not None
    change, shift, refit = found

    def left(ridge: float) -> float:
        """By the rows themselves."""
        mean_x, mean_y = x[:count].mean(axis=0), y[:count].mean(axis=0)
        apart = x[:count] - mean_x
        square = apart.T @ apart / count
        square += ridge * np.trace(square) / len(square) * np.eye(len(square))
        weight = np.linalg.solve(square, apart.T @ (y[:count] - mean_y) / count)
        return float(((y[count:] - (x[count:] - mean_x) @ weight - mean_y) ** 2).sum())

    whole = float((y[count:] ** 2).sum())
    lefts = [left(ridge) / whole for ridge in RIDGES]
    made = 0.0 if change is None else x[count:] @ change[0]
    made = made + (0.0 if shift is None else shift.reshape(-1))
    assert refit.left == pytest.approx(float(((y[count:] - made) ** 2).sum()) / whole, abs=1e-7)
    # The way down from the middle ends in a valley.
    place = RIDGES.index(refit.ridge) if np.isfinite(refit.ridge) else None
    if place is not None:
        around = lefts[max(place - 1, 0) : place + 2]
        assert lefts[place] <= min(around) + 1e-7
    assert refit.left <= 1.0


@given(seed=st.integers(0, 500), rising=st.booleans())
def test_lines_are_least_squares_neuron_by_neuron(seed: int, rising: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(2.0, 3.0, (50, 4))
    y = (1 if rising else -1) * rng.uniform(0.5, 2.0, 4) * x + rng.normal(size=4) + 0.1 * rng.normal(size=(50, 4))
    found = EachNeuron(4)
    found.add(x[:20], y[:20])
    found.add(x[20:], y[20:])
    slope, shift = found.line()
    for neuron in range(4):
        if rising:
            expected = np.polyfit(x[:, neuron], y[:, neuron], 1)
            assert np.allclose((slope[neuron], shift[neuron]), expected)
        else:
            # Nothing is turned round: only the mean is put right.
            assert slope[neuron] == 1
            assert shift[neuron] == pytest.approx((y - x)[:, neuron].mean())
    error = ((y - slope * x - shift) ** 2).sum(axis=0)
    assert np.allclose(found.error(slope, shift), error)


def test_neurons_that_got_worse_on_what_was_held_back_stay_as_they_are() -> None:
    fitting, held = EachNeuron(3), EachNeuron(3)
    x = np.random.default_rng(0).normal(size=(40, 3))
    fitting.add(x, x + np.array([1.0, 1.0, 0.0]))
    held.add(x, x + np.array([1.0, -1.0, 0.0]))
    slope, shift, refit = fitting.best(held, steepest=None)
    assert np.array_equal(slope, [1, 1, 1])
    assert np.allclose(shift, [1, 0, 0])
    assert refit.left < refit.error


def test_neurons_that_never_move_have_no_slope() -> None:
    seen = EachNeuron(2)
    seen.add(np.full((10, 2), 3.0), np.full((10, 2), 5.0))
    slope, shift = seen.line()
    assert np.array_equal(slope, [1, 1])
    assert np.array_equal(shift, [2, 2])


def test_lines_are_told_from_curves() -> None:
    x = np.linspace(-1, 1, 20)[:, None] * np.ones(3)
    gain = np.array([2.0, -0.5, 0.0])
    found = straight(x, gain * x + 7)
    assert found is not None
    assert np.allclose(found, gain)
    assert straight(x, np.maximum(x, 0)) is None
    assert straight(x, np.zeros_like(x)) is None
    assert straight(x[:2], x[:2]) is None
