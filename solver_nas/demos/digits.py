"""Half of the channels of a network that reads handwritten digits, chosen by one request."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from solver_nas import nn
from solver_nas.api import delta_nout
from solver_nas.errors import ExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.frontend import Handle
    from solver_nas.solve import Certificate
    from solver_nas.strategies import Utility

TRAINING_IMAGES = 1200  # of 1797; the others are held back
DRAWS = 5  # random selections, of which the one with the median accuracy is told
#: What is asked for, in one request: half of the channels. How the sixteen that leave the concatenation
#: are shared between its two sides, one of which is the residual stream, is for the solver to say.
REQUEST = {"joined": -16, "inner": -8, "mixed": -16}


class Choice(Enum):
    """Who leaves."""

    LEAST = "least"
    RANDOM = "random"
    MOST = "most"


class Digits(NamedTuple):
    """Images (any number, 1, 8, 8) in [0, 1] and the digits on them, to train on and held back."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    x_held_back: NDArray[np.float32]
    y_held_back: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pruned:
    """A network with half of the channels.

    Args:
        accuracy: on images held back, as it is.
        retrained: the same after a short training.
        sizes: vertex -> channels, for the convolutions.
        parameters: how many numbers it has.
        certificate: how good the selection is for the utility that it was made by.
    """

    accuracy: float
    retrained: float
    sizes: Mapping[str, int]
    parameters: int
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Trial:
    """One network, pruned three ways.

    Args:
        seed: of everything.
        accuracy: of the whole network on images held back.
        sizes: vertex -> channels, for the convolutions.
        parameters: how many numbers it has.
        pruned: by who left.
    """

    seed: int
    accuracy: float
    sizes: Mapping[str, int]
    parameters: int
    pruned: Mapping[Choice, Pruned]


def load(seed: int) -> Digits:
    """The digits of scikit-learn, split at random.

    Raises:
        ExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ExtraError("the digits come with scikit-learn: pip install 'solver_nas[demo]'") from error
    data: Any = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    x = (data.images[order, None] / 16).astype(np.float32)
    y = data.target[order].astype(np.int64)
    return Digits(x[:TRAINING_IMAGES], y[:TRAINING_IMAGES], x[TRAINING_IMAGES:], y[TRAINING_IMAGES:])


def build(seed: int) -> nn.Network:
    """A convolutional network with a residual connection and a concatenation, untrained."""
    net = nn.Network(seed=seed, dtype=np.float32)
    image = net.input("image", (1, 8, 8))
    stem = nn.conv(image, 16, 3, padding=1, activation="relu", name="stem")
    pooled = nn.max_pool(stem, 2, name="pooled")
    inner = nn.conv(pooled, 16, 3, padding=1, activation="relu", name="inner")
    back = nn.conv(inner, 16, 3, padding=1, name="back")
    residual = nn.relu(nn.add([pooled, back], name="sum"), name="residual")
    branch = nn.conv(pooled, 16, 3, padding=1, activation="relu", name="branch")
    joined = nn.concat([residual, branch], name="joined")
    mixed = nn.conv(joined, 32, 3, padding=1, activation="relu", name="mixed")
    net.output(nn.dense(nn.flatten(nn.max_pool(mixed, 2, name="small"), name="flat"), 10, name="digit"))
    return net


def train(net: nn.Network, digits: Digits, *, epochs: int, rate: float, seed: int) -> None:
    """Train on the images that are not held back."""
    nn.fit(
        net,
        digits.x,
        digits.y,
        loss="cross_entropy",
        optimizer=nn.Adam(rate),
        epochs=epochs,
        batch_size=64,
        seed=seed,
    )


def accuracy(net: nn.Network, digits: Digits) -> float:
    """Which fraction of the images held back is read correctly."""
    return float((net(digits.x_held_back).argmax(axis=1) == digits.y_held_back).mean())


def prune(net: nn.Network, utility: Utility | None = None) -> tuple[nn.Network, Certificate]:
    """A copy without half of the channels."""
    twin = copy.deepcopy(net)
    request: dict[Handle, int] = {twin[name]: delta for name, delta in REQUEST.items()}
    change = delta_nout(request, utility=utility, on_failure="raise")
    assert change.certificate is not None
    return twin, change.certificate


def run(seed: int) -> Trial:
    """Train one network and prune it three ways.

    Raises:
        ExtraError: scikit-learn is not installed.
    """
    digits, net = load(seed), build(seed)
    train(net, digits, epochs=6, rate=0.005, seed=seed)
    train(net, digits, epochs=2, rate=0.001, seed=seed + 1)
    rng = np.random.default_rng(seed)

    def opposite(vertex: Handle) -> NDArray[np.float64]:
        worth = np.asarray(nn.default_utility(vertex))
        return np.asarray(2 * worth.sum() - worth)

    draws = [prune(net, lambda vertex: rng.uniform(size=vertex.nout)) for _ in range(DRAWS)]
    draws.sort(key=lambda drawn: accuracy(drawn[0], digits))
    chosen = {
        Choice.LEAST: prune(net),
        Choice.RANDOM: draws[DRAWS // 2],
        Choice.MOST: prune(net, opposite),
    }
    pruned = {}
    for choice, (twin, certificate) in chosen.items():
        before = accuracy(twin, digits)
        train(twin, digits, epochs=2, rate=0.002, seed=seed + 2)
        pruned[choice] = Pruned(before, accuracy(twin, digits), _channels(twin), _parameters(twin), certificate)
    return Trial(seed, accuracy(net, digits), _channels(net), _parameters(net), pruned)


def means(trials: Sequence[Trial]) -> Mapping[str, float]:
    """Accuracies, averaged over several networks."""
    found = {"original": [trial.accuracy for trial in trials]}
    for choice in Choice:
        found[choice.value] = [trial.pruned[choice].accuracy for trial in trials]
        found[f"{choice.value}_retrained"] = [trial.pruned[choice].retrained for trial in trials]
    return {name: float(np.mean(values)) for name, values in found.items()}


def _channels(net: nn.Network) -> Mapping[str, int]:
    return {vertex.name: vertex.nout for vertex in net.vertices if vertex.kind == "conv"}


def _parameters(net: nn.Network) -> int:
    return sum(array.size for array in net.arrays.values())
