"""How much outputs change when neurons go: measured, and in one unit."""

from __future__ import annotations

import numpy as np
import pytest

from solver_nas import Network, calibrate, nn
from solver_nas.errors import CalibrationError, UtilityError
from solver_nas.magnitude import magnitude
from solver_nas.sensitivity import measured
from tests.calibration.kinds import KINDS, Kind


def chain() -> Network:
    """Two hidden layers, of which the second hardly matters: what comes out is nearly all from the first."""
    net = Network(seed=0)
    first = nn.dense(net.input("x", 4), 8, activation="tanh", name="first")
    second = nn.dense(first, 8, activation="tanh", name="second")
    direct = nn.dense(first, 3, name="direct")
    net.output(nn.add([direct, nn.dense(second, 3, name="side")], name="sum"))
    net.arrays["side.weight"] = 1e-3 * net.arrays["side.weight"]
    return net


X = np.random.default_rng(0).normal(size=(64, 4))


def test_layers_that_matter_little_are_worth_little() -> None:
    net = chain()
    found = measured(calibrate(net, X, held_back=0))
    first, second = (np.asarray(found(net[name])) for name in ("first", "second"))
    assert second.sum() < 1e-4 * first.sum()


def test_the_error_is_that_of_outputs_whose_readers_were_refitted() -> None:
    net = Network(seed=3)
    net.output(nn.dense(nn.dense(net.input("x", 4), 8, activation="tanh", name="hidden"), 3, name="out"))
    found = measured(calibrate(net, X, held_back=0), magnitude, widths=(0.5,))
    ((share, lost),) = found.curves["hidden"]
    gone = np.argsort(np.asarray(magnitude(net["hidden"])))[:4]
    a, y = np.asarray(net.activations(X)["hidden"]), np.asarray(net(X))
    design = np.column_stack([np.delete(a, gone, axis=1), np.ones(len(X))])
    y = y - y.mean(axis=0)
    fitted, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = ((y - design @ fitted) ** 2).mean() / (y**2).mean()
    assert share == 0.5
    assert 1 - np.exp(-lost) == pytest.approx(error, rel=0.05)


def test_what_goes_adds_up_to_what_was_measured() -> None:
    net = chain()
    found = measured(calibrate(net, X, held_back=0))
    for name in ("first", "second"):
        worth = np.sort(np.asarray(found(net[name])))
        for share, lost in found.curves[name]:
            # Slopes are made to rise, which may take from one step and give to another.
            assert worth[: round(share * len(worth))].sum() <= lost * 1.2 + 1e-12
        assert worth[: round(0.75 * 8)].sum() == pytest.approx(found.curves[name][-1][1], rel=0.2)


def test_the_order_within_a_layer_is_that_of_the_utility() -> None:
    net = chain()
    found = measured(calibrate(net, X, held_back=0), magnitude)
    assert np.array_equal(np.argsort(np.asarray(found(net["first"]))), np.argsort(np.asarray(magnitude(net["first"]))))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_form_of_a_network_gives_the_same(kind: Kind) -> None:
    first, other = KINDS[0], kind
    curves = [
        list(measured(calibrate(one.build(), one.samples(16), batch_size=4, held_back=0)).curves.values())
        for one in (first, other)
    ]
    # What is returned can change in a network of NumPy layers only.
    for left, right in zip(curves[0][:2], curves[1][:2], strict=True):
        assert np.allclose(left, right, rtol=1e-3, atol=1e-6)


def test_probabilities_are_compared_before_the_softmax() -> None:
    net = Network(seed=0)
    hidden = nn.dense(net.input("x", 4), 8, activation="tanh", name="hidden")
    logits = nn.dense(hidden, 3, name="logits")
    net.output(nn.softmax(logits, name="soft"))
    # So sure of itself that probabilities are 0 and 1 whatever happens.
    net.arrays["logits.weight"] = 1e3 * net.arrays["logits.weight"]
    found = measured(calibrate(net, X, held_back=0))
    assert found.curves["hidden"][0][1] > 1e-4


@pytest.mark.parametrize("widths", [(), (0.0,), (0.5, 0.4), (1.0,)])
def test_widths_are_shares_between_none_and_all(widths: tuple[float, ...]) -> None:
    net = chain()
    with pytest.raises(CalibrationError, match="widths are shares"):
        measured(calibrate(net, X, held_back=0), widths=widths)


def test_a_utility_that_is_no_number_is_told() -> None:
    net = chain()
    with pytest.raises(UtilityError, match="first"):
        measured(calibrate(net, X, held_back=0), lambda v: np.full(v.nout, np.nan))


def test_nothing_of_the_model_changes() -> None:
    net = chain()
    found = calibrate(net, X, held_back=0)
    before, observers = dict(net.arrays), dict(net.observers)
    measured(found)
    assert all(net.arrays[key] is array for key, array in before.items())
    assert net.observers == observers
