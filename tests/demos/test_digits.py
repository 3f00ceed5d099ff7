"""A network that reads digits keeps most of what it knows with half of its channels."""

import sys

import numpy as np
import pytest

from solver_nas.demos import digits
from solver_nas.demos.digits import Choice
from solver_nas.errors import ExtraError


def test_images_held_back_are_not_trained_on() -> None:
    data = digits.load(3)
    assert data.x.shape == (1200, 1, 8, 8)
    assert data.x_held_back.shape == (597, 1, 8, 8)
    assert data.x.min() == 0.0
    assert data.x.max() == 1.0
    other = digits.load(4)
    assert not np.array_equal(data.y, other.y)
    every = np.sort(np.concatenate([data.x, data.x_held_back]).reshape(1797, -1).sum(axis=1))
    np.testing.assert_array_equal(
        every, np.sort(np.concatenate([other.x, other.x_held_back]).reshape(1797, -1).sum(axis=1))
    )


def test_half_of_the_channels_go_in_one_request() -> None:
    net = digits.build(0)
    twin, certificate = digits.prune(net)
    before = {vertex.name: vertex.nout for vertex in net.vertices if vertex.kind == "conv"}
    after = {vertex.name: vertex.nout for vertex in twin.vertices if vertex.kind == "conv"}
    assert sum(before.values()) - before["back"] == 2 * (sum(after.values()) - after["back"])
    assert after["back"] == after["stem"], "both sides of the residual connection"
    assert twin["joined"].nout == after["stem"] + after["branch"] == 16
    assert certificate.gap < 1e-6
    assert net["joined"].nout == 32
    image = np.zeros((1, 1, 8, 8), np.float32)
    assert twin(image).shape == net(image).shape == (1, 10)


def test_without_scikit_learn_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ExtraError, match=r"pip install 'solver_nas\[demo\]'"):
        digits.load(0)


@pytest.mark.slow
def test_the_worst_half_is_missed_least() -> None:
    trials = [digits.run(seed) for seed in (0, 1, 2)]
    mean = digits.means(trials)
    assert mean["original"] > 0.96
    assert mean["least"] > mean["random"]
    assert mean["least"] > mean["most"]
    assert mean["least_retrained"] > 0.95
    assert mean["least_retrained"] > mean["random_retrained"]
    assert mean["least"] == pytest.approx(np.mean([trial.pruned[Choice.LEAST].accuracy for trial in trials]))
