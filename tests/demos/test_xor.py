"""The example that the library began with holds as often as it is said to."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.demos import xor


def test_one_trial_is_what_it_says() -> None:
    trial = xor.run(0)
    assert trial.original == pytest.approx(np.mean((trial.network(xor.X) - xor.Y) ** 2))
    assert trial.network["hidden"].nout == 32
    for pruned in (trial.least, trial.random, trial.most):
        assert pruned.network["hidden"].nout == 16
        assert pruned.loss == xor.loss(pruned.network)
        assert pruned.certificate.status.value == "optimal"
    assert trial.most.loss > trial.random.loss > trial.least.loss >= trial.original
    assert trial.original < 1e-3
    assert trial.distance == abs(trial.least.loss - trial.original)


def test_same_seed_same_trial() -> None:
    one, two = xor.run(4), xor.run(4)
    assert (one.original, one.least.loss, one.random.loss, one.most.loss) == (
        two.original,
        two.least.loss,
        two.random.loss,
        two.most.loss,
    )


def test_least_and_most_share_no_neuron() -> None:
    network = xor.train(1)
    worth = np.asarray(nn.default_utility(network["hidden"]))
    weights = network["hidden"].op.weight
    kept = np.sort(np.argsort(-worth, kind="stable")[:16])
    trial = xor.run(1)
    np.testing.assert_array_equal(trial.least.network["hidden"].op.weight, weights[kept])
    rest = np.setdiff1d(np.arange(32), kept)
    np.testing.assert_array_equal(trial.most.network["hidden"].op.weight, weights[rest])


def test_watching_uses_the_watched_metric() -> None:
    network = xor.train(2, xor.Metric.ACTIVATION_CONTRIBUTION)
    metric = nn.observed(network["hidden"]).metric
    assert metric is not None
    np.testing.assert_array_equal(nn.default_utility(network["hidden"]), metric)
    np.testing.assert_array_equal(network["hidden"].op.weight, xor.train(2)["hidden"].op.weight)


def test_fractions_count_what_holds() -> None:
    trials = [xor.run(seed) for seed in range(12)]
    found = xor.fractions(trials)
    # On 8000 seeds: 99.2 % and 84 %; all twelve of these hold the order.
    assert found["order"] == 1.0
    assert found["close_1e-5"] >= 9 / 12
    assert found["original_below_1e-3"] == 1.0
    assert found["close_1e-5"] == np.mean([abs(t.least.loss - t.original) < 1e-5 for t in trials])


@pytest.mark.slow
def test_the_default_is_as_good_as_measured() -> None:
    found = xor.fractions([xor.run(seed) for seed in range(300)])
    assert found["order"] >= 0.97
    assert found["close_1e-5"] >= 0.78


def test_a_surface_is_read_row_by_row() -> None:
    network = xor.train(0)
    values = xor.surface(network, np.array([0.0, 0.5, 1.0]))
    assert values[2, 0] == pytest.approx(network(np.array([[0.0, 1.0]]))[0, 0])
    assert values[1, 2] == pytest.approx(network(np.array([[1.0, 0.5]]))[0, 0])
