"""What a neuron is worth if its readers are refitted, against least squares by brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from solver_nas import Network, calibrate, nn
from solver_nas.errors import UtilityError
from solver_nas.reconstruction import reconstruction

Floats = NDArray[np.float64]


def built(seed: int, hidden: int, outputs: int) -> tuple[Network, Floats]:
    """A network with one hidden layer, and samples in which its neurons hang together."""
    rng = np.random.default_rng(seed)
    net = Network(seed=seed)
    first = nn.dense(net.input("x", 3), hidden, activation="tanh", name="hidden")
    net.output(nn.dense(first, outputs, name="out"))
    return net, rng.normal(size=(40, 3))


def missing(net: Network, x: Floats, gone: tuple[int, ...]) -> float:
    """What the best refit of the last layer without some neurons cannot give back, as a fraction of its variance."""
    a = np.asarray(net.activations(x)["hidden"])
    y = a @ net.arrays["out.weight"].T
    y = y - y.mean(axis=0)
    kept = np.delete(a, gone, axis=1)
    design = np.column_stack([kept, np.ones(len(x))])
    fitted, *_ = np.linalg.lstsq(design, y, rcond=None)
    return float(((y - design @ fitted) ** 2).sum() / (y**2).sum())


@given(seed=st.integers(0, 1000), hidden=st.integers(2, 6), outputs=st.integers(1, 3))
def test_the_cheapest_neuron_costs_what_a_refit_without_it_misses(seed: int, hidden: int, outputs: int) -> None:
    net, x = built(seed, hidden, outputs)
    calibrate(net, x, held_back=0)
    worth = np.asarray(reconstruction(net["hidden"]))
    alone = [missing(net, x, (neuron,)) for neuron in range(hidden)]
    # The ridge makes neurons a little harder to stand in for than they are.
    assert worth.min() == pytest.approx(min(alone), rel=0.2, abs=3e-3)


@given(seed=st.integers(0, 1000))
def test_what_goes_together_adds_up_to_what_a_refit_misses(seed: int) -> None:
    net, x = built(seed, 6, 2)
    calibrate(net, x, held_back=0)
    worth = np.asarray(reconstruction(net["hidden"]))
    order = np.argsort(worth)
    for count in range(1, 6):
        lost = missing(net, x, tuple(order[:count]))
        # Utilities never fall, so that their sum may be more.
        assert lost <= worth[order[:count]].sum() + 3e-3


def test_greedy_choices_are_near_the_best_ones() -> None:
    ratios = []
    for seed in range(30):
        net, x = built(seed, 6, 2)
        calibrate(net, x, held_back=0)
        order = np.argsort(np.asarray(reconstruction(net["hidden"])))
        best = min(missing(net, x, gone) for gone in combinations(range(6), 3))
        ratios.append(missing(net, x, tuple(order[:3])) / best)
    assert np.median(ratios) < 1.2


def test_copies_and_constants_are_worth_nothing() -> None:
    net, x = built(0, 5, 2)
    weight, bias = net.arrays["hidden.weight"].copy(), net.arrays["hidden.bias"].copy()
    weight[3], bias[3] = weight[1], bias[1]
    weight[4], bias[4] = 0.0, 0.7
    net.arrays["hidden.weight"], net.arrays["hidden.bias"] = weight, bias
    calibrate(net, x, held_back=0)
    worth = np.asarray(reconstruction(net["hidden"]))
    assert worth[4] < 1e-9
    assert min(worth[1], worth[3]) < 5e-3 < max(worth[1], worth[3])


def test_what_is_returned_cannot_be_stood_in_for() -> None:
    net, x = built(0, 5, 3)
    calibrate(net, x, held_back=0)
    y = np.asarray(net(x))
    power = (y**2).mean(axis=0) / (y**2).mean(axis=0).sum()
    assert np.allclose(np.sort(np.asarray(reconstruction(net["out"]))), np.sort(power))


def test_neurons_behind_a_flattening_count_with_all_their_positions() -> None:
    net = Network(seed=2)
    conv = nn.conv(net.input("x", (2, 4, 4)), 5, 3, name="conv")
    net.output(nn.dense(nn.flatten(conv, name="flat"), 3, name="out"))
    x = np.random.default_rng(0).normal(size=(60, 2, 4, 4))
    calibrate(net, x, held_back=0)
    a = np.asarray(net.activations(x)["flat"])
    y = a @ net.arrays["out.weight"].T
    y = y - y.mean(axis=0)
    alone = []
    for neuron in range(5):
        kept = np.delete(a.reshape(60, 5, 4), neuron, axis=1).reshape(60, -1)
        design = np.column_stack([kept, np.ones(60)])
        fitted, *_ = np.linalg.lstsq(design, y, rcond=None)
        alone.append(((y - design @ fitted) ** 2).sum() / (y**2).sum())
    assert np.asarray(reconstruction(net["conv"])).min() == pytest.approx(min(alone), rel=0.2, abs=3e-3)


def test_many_neurons_go_several_at_once_in_much_the_same_order() -> None:
    net, _ = built(0, 600, 4)
    x = np.random.default_rng(1).normal(size=(900, 3))
    calibrate(net, x, held_back=0)
    worth = np.asarray(reconstruction(net["hidden"]))
    assert np.isfinite(worth).all()
    assert (worth >= 0).all()
    assert missing(net, x, tuple(np.argsort(worth)[:400])) < 0.05
    assert missing(net, x, tuple(np.argsort(-worth)[:400])) >= missing(net, x, tuple(np.argsort(worth)[:400]))


def test_what_was_not_recorded_is_asked_for() -> None:
    net, _ = built(0, 4, 2)
    with pytest.raises(UtilityError, match="call calibrate"):
        reconstruction(net["hidden"])


def test_vertices_without_neurons_of_their_own_are_worth_nothing() -> None:
    net = Network()
    net.output(nn.relu(nn.dense(net.input("x", 2), 3, name="dense"), name="relu"))
    calibrate(net, np.ones((3, 2)))
    assert reconstruction(net["relu"]) == 0.0
