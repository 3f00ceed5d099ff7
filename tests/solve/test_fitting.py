"""Points that exceed their rows are made to fit, and settled ones cannot be bettered by one choice alone."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from solver_nas.solve.budgets.descent import Landscape, descend, settle
from solver_nas.solve.budgets.field import Choice, Field, Pair, Row
from solver_nas.solve.budgets.swaps import fit
from solver_nas.solve.parts import Part
from tests.solve.test_cells import random_field

_NOTHING = Part((), 0, (), (), (), (), (), (), None, (), (), (), (), ())
_ROUNDING = 1e-9
_SECONDS = 60.0  # more than any field takes


def chain(links: int, seed: int, share: float) -> Landscape:
    """Widths one after the other, of which neighbours are multiplied; there is room for a share of the products."""
    rng = np.random.default_rng(seed)
    widths = rng.integers(3, 9, links)
    choices = []
    for place, width in enumerate(widths.tolist()):
        states = np.arange(1, width + 1)
        gain = np.cumsum(np.sort(rng.lognormal(size=width))[::-1])
        choices.append(
            Choice(gain, states[:, None].astype(float), place, states[:, None], 0 * states[:, None], (place,), -1)
        )
    high = share * float((widths[1:] * widths[:-1]).sum())
    pairs = tuple(Pair(1 / high, place, place + 1) for place in range(links - 1))
    rows = (Row(np.zeros(links), pairs, {}, 1.0, "products"),)
    return Landscape(Field(_NOTHING, tuple(choices), np.eye(links), np.zeros(links), rows, np.arange(links), (), {}, 0))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
@pytest.mark.parametrize("links", [2, 30, 400])
def test_chains_are_made_to_fit(links: int, share: float) -> None:
    landscape = chain(links, links, share)
    everything = np.array([len(choice.gain) - 1 for choice in landscape.field.choices])
    found = fit(landscape, landscape.point(everything, np.ones(1)), time.perf_counter() + _SECONDS)
    assert found.violation <= _ROUNDING
    # Descent is hardly worse than giving up one thing after the other, and mostly better.
    descended = descend(landscape, time.perf_counter() + _SECONDS).point
    assert descended.violation <= _ROUNDING
    assert descended.gain >= 0.98 * found.gain


@pytest.mark.parametrize("seed", range(12))
def test_room_for_one_limit_is_made_where_another_gives_it(seed: int) -> None:
    chained = chain(8, seed, 0.5)
    full = descend(chained, time.perf_counter() + _SECONDS).point
    place = int(
        np.argmax([len(choice.gain) - state for choice, state in zip(chained.field.choices, full.states, strict=True)])
    )
    # One neuron more than there are here, which weighs little beside the products that it takes part in.
    least = Row(np.where(np.arange(8) == place, -1e-3, 0.0), (), {}, -1e-3 * (int(full.states[place]) + 2), "at least")
    field = chained.field
    landscape = Landscape(replace(field, rows=(*field.rows, least)))
    found = fit(landscape, landscape.point(full.states, np.ones(2)), time.perf_counter() + _SECONDS)
    assert found.violation <= _ROUNDING


@pytest.mark.parametrize("seed", range(60))
def test_fitting_makes_nothing_worse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    landscape = Landscape(random_field(rng))
    states = np.array([rng.integers(len(choice.gain)) for choice in landscape.field.choices])
    point = landscape.point(states, np.ones(len(landscape.field.rows)))
    found = fit(landscape, point, time.perf_counter() + _SECONDS)
    assert found.violation <= point.violation + _ROUNDING
    if point.violation == 0:
        assert np.array_equal(found.states, states)


@pytest.mark.parametrize("seed", range(8))
def test_no_choice_alone_is_better_than_settled_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    landscape = chain(12, seed, 0.5)
    prices = rng.uniform(0, 30, 1)

    def worth(states: np.ndarray) -> float:
        return landscape.gain(states) - float(prices @ landscape.excess(states))

    start = np.array([rng.integers(len(choice.gain)) for choice in landscape.field.choices])
    settled = settle(landscape, start, prices)
    assert worth(settled) >= worth(start) - _ROUNDING
    for place, choice in enumerate(landscape.field.choices):
        for state in range(len(choice.gain)):
            other = settled.copy()
            other[place] = state
            assert worth(other) <= worth(settled) + 1e-9 * (1 + abs(worth(settled)))
