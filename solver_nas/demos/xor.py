"""Half of a network that computes XOR, chosen three ways."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from solver_nas import nn
from solver_nas.api import delta_nout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.frontend import Handle
    from solver_nas.solve import Certificate
    from solver_nas.strategies import Utility

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = np.array([[0.0], [1.0], [1.0], [0.0]])
HIDDEN = 32
REMOVED = 16
STEPS = 50
RATE = 0.1
DRAWS = 9  # random selections, of which the median loss is told: a single one says little
CLOSE = 1e-5  # two losses that are that close count as equal


class Metric(Enum):
    """What says which neurons are worth least."""

    DEFAULT = "default"
    ACTIVATION_CONTRIBUTION = "activation_contribution"


@dataclass(frozen=True, slots=True)
class Pruned:
    """A network without half of its hidden layer.

    Args:
        network: the network.
        loss: its mean squared error on the truth table.
        certificate: how good the selection is for the utility that it was made by.
    """

    network: nn.Network
    loss: float
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Trial:
    """One network, pruned three ways.

    Args:
        seed: of everything.
        network: as trained.
        original: its loss.
        least: without the neurons that are worth least.
        random: without random ones; of `DRAWS` selections the one with the median loss.
        most: without the neurons that are worth most.
    """

    seed: int
    network: nn.Network
    original: float
    least: Pruned
    random: Pruned
    most: Pruned

    @property
    def ordered(self) -> bool:
        """Whether removing the best neurons hurts more than random ones, and those more than the worst."""
        return self.most.loss > self.random.loss > self.least.loss

    @property
    def distance(self) -> float:
        """How far the loss without the worst neurons is from the original's."""
        return abs(self.least.loss - self.original)


def loss(network: nn.Network) -> float:
    """The mean squared error on the truth table."""
    return float(np.mean((network(X) - Y) ** 2))


def train(seed: int, metric: Metric = Metric.DEFAULT) -> nn.Network:
    """A network of 2, 32 and 1 neurons that computes XOR."""
    network = nn.Network(seed=seed)
    hidden = nn.dense(network.input("in", 2), HIDDEN, activation="relu", name="hidden")
    out = nn.dense(hidden, 1, activation="sigmoid", name="out")
    network.output(out)
    if metric is Metric.ACTIVATION_CONTRIBUTION:
        for vertex in (hidden, out):
            nn.ActivationContribution(vertex)
    nn.fit(network, X, Y, loss="mse", optimizer=nn.Adam(RATE), steps=STEPS)
    return network


def prune(network: nn.Network, utility: Utility | None = None) -> Pruned:
    """Remove half of the hidden layer of a copy."""
    twin = copy.deepcopy(network)
    change = delta_nout(twin["hidden"], -REMOVED, utility=utility, on_failure="raise")
    assert change.certificate is not None
    return Pruned(twin, loss(twin), change.certificate)


def run(seed: int, metric: Metric = Metric.DEFAULT) -> Trial:
    """Train one network and prune it three ways."""
    network = train(seed, metric)
    rng = np.random.default_rng(seed)

    def opposite(vertex: Handle) -> NDArray[np.float64]:
        worth = np.asarray(nn.default_utility(vertex))
        return np.asarray(2 * worth.sum() - worth)

    draws = [prune(network, lambda vertex: rng.uniform(size=vertex.nout)) for _ in range(DRAWS)]
    draws.sort(key=lambda pruned: pruned.loss)
    return Trial(seed, network, loss(network), prune(network), draws[DRAWS // 2], prune(network, opposite))


def fractions(trials: Sequence[Trial]) -> Mapping[str, float]:
    """How often what was expected came true."""
    pairs = {
        "order": [trial.ordered for trial in trials],
        "close_1e-5": [trial.distance < CLOSE for trial in trials],
        "close_1e-3": [trial.distance < 1e-3 for trial in trials],
        "least_not_below_original": [trial.least.loss >= trial.original for trial in trials],
        "original_below_1e-3": [trial.original < 1e-3 for trial in trials],
    }
    return {name: sum(values) / len(trials) for name, values in pairs.items()}


def medians(trials: Sequence[Trial]) -> Mapping[str, float]:
    """Median losses."""
    losses = {
        "original": [trial.original for trial in trials],
        "least": [trial.least.loss for trial in trials],
        "random": [trial.random.loss for trial in trials],
        "most": [trial.most.loss for trial in trials],
    }
    return {name: float(np.median(values)) for name, values in losses.items()}


def surface(network: nn.Network, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a network computes on a grid; [j, i] is the value of the point (places[i], places[j])."""
    columns, rows = np.meshgrid(places, places)
    points = np.stack([columns.ravel(), rows.ravel()], axis=1)
    return np.asarray(network(points)).reshape(columns.shape)
