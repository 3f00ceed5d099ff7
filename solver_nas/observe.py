"""What is gathered about the activations of a vertex while data passes through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver_nas.errors import LayerError
from solver_nas.passage import kept_rows
from solver_nas.state import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from solver_nas.frontend import Handle
    from solver_nas.labels import Tensor

Floats = NDArray[np.float64]

#: Most neurons for which all pairs are kept: 2048 x 2048 numbers of 8 bytes are 32 MiB.
GRAM_LIMIT = 2048

#: What is added to variances when neurons are predicted from each other, as a fraction of the mean variance: by
#: default, and what is tried where samples are held back to judge by.
RIDGE = 1e-3
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)

#: Weight of the newest value in the average of `ActivationContribution`, which says where it comes from.
SMOOTHING = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class ActivationStatistics(Observer):
    """Moments of the activations of one vertex, over the batch and all axes but the neurons'.

    Args:
        count: how many values of each neuron were seen.
        mean: shape (neurons,).
        moments: uncentred second moments: all of them, E[a a'], shape (neurons, neurons), or only
            those on the diagonal, E[a^2], shape (neurons,).
        ridge: how far the moments are to be trusted when neurons are predicted from each other: what is added to the
            variance of each, as a fraction of the mean variance.

    >>> seen = ActivationStatistics.empty(2).seen(np.array([[1.0, 0.0], [3.0, 2.0]]))
    >>> seen.mean
    array([2., 1.])
    >>> seen.gram
    array([[5., 3.],
           [3., 2.]])
    """

    count: int
    mean: Floats
    moments: Floats
    ridge: float = RIDGE

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        self.mean.flags.writeable = False
        self.moments.flags.writeable = False

    @classmethod
    def empty(cls, neurons: int, *, pairs: bool = True) -> Self:
        """Nothing seen yet.

        Args:
            neurons: how many there are.
            pairs: whether to keep all pairs, up to `GRAM_LIMIT` neurons.
        """
        full = pairs and neurons <= GRAM_LIMIT
        shape = (neurons, neurons) if full else (neurons,)
        return cls(0, np.zeros(neurons), np.zeros(shape))

    @property
    def gram(self) -> Floats | None:
        """E[a a'], shape (neurons, neurons); `None` if only the diagonal was kept."""
        return self.moments if self.moments.ndim == 2 else None

    @property
    def power(self) -> Floats:
        """E[a^2], shape (neurons,)."""
        return np.diagonal(self.moments) if self.moments.ndim == 2 else self.moments

    @property
    def deviation(self) -> Floats:
        """Standard deviation, shape (neurons,)."""
        return np.sqrt(np.maximum(self.power - self.mean**2, 0.0))

    @property
    def covariance(self) -> Floats | None:
        """E[a a'] - E[a] E[a'], shape (neurons, neurons); `None` if only the diagonal was kept."""
        return None if self.gram is None else self.gram - np.outer(self.mean, self.mean)

    def judged(self, held: ActivationStatistics) -> ActivationStatistics:
        """The same with the ridge by which neurons are predicted best on samples that were held back.

        Each neuron is predicted from all others, each as important as it varies.

        Args:
            held: statistics of these samples.
        """
        covariance, other = self.covariance, held.covariance
        if covariance is None or other is None or not self.count or not held.count:
            return self
        # Means are those that were known before.
        apart = held.mean - self.mean
        other = other + np.outer(apart, apart)
        unit = float(np.trace(covariance)) / max(len(covariance), 1)
        if not unit > 0:
            return self
        values, vectors = np.linalg.eigh(covariance)
        turned = vectors.T @ other @ vectors
        best, least = self.ridge, np.inf
        for ridge in RIDGES:
            inverse = 1.0 / (np.maximum(values, 0.0) + ridge * unit)
            mixed = vectors * inverse
            alone = (vectors * mixed).sum(axis=1)
            error = float((((mixed @ turned) * mixed).sum(axis=1) / alone**2).sum())
            if error < least:
                best, least = ridge, error
        return replace(self, ridge=best)

    def seen(self, rows: NDArray[Any]) -> ActivationStatistics:
        """The statistics after more activations.

        Args:
            rows: shape (any number, neurons).
        """
        if not len(rows):
            return self
        rows = np.asarray(rows, np.float64)
        new = rows.T @ rows if self.moments.ndim == 2 else np.einsum("ri,ri->i", rows, rows)
        count = self.count + len(rows)
        share = len(rows) / count
        return ActivationStatistics(
            count,
            self.mean + share * (rows.mean(axis=0) - self.mean),
            self.moments + share * (new / len(rows) - self.moments),
            self.ridge,
        )

    def select(self, moved: NDArray[np.intp]) -> ActivationStatistics:
        """The same statistics for other neurons; a new neuron has not been active yet."""
        moments = _followed(self.moments, moved)
        if self.moments.ndim == 2:
            moments = _followed(moments.T, moved).T
        return ActivationStatistics(self.count, _followed(self.mean, moved), moments, self.ridge)


@dataclass(frozen=True, slots=True)
class Every:
    """A schedule: due at step 0 and at every `period`-th step after it.

    Args:
        period: at least 1.
    """

    period: int

    def __post_init__(self) -> None:
        """Check the period."""
        if isinstance(self.period, bool) or self.period < 1:
            raise LayerError(f"every: the period is a positive number of steps, got {self.period}")

    def __call__(self, step: int) -> bool:
        """Whether a step (counted from 0) is due."""
        return step % self.period == 0


def every(period: int) -> Every:
    """A schedule for `ActivationContribution`: only every `period`-th training step counts.

    >>> [step for step in range(7) if every(3)(step)]
    [0, 3, 6]
    """
    return Every(period)


@dataclass(frozen=True, slots=True, eq=False)
class Contribution(Observer):
    """A running average of what each neuron of a vertex contributes to the loss.

    Args:
        smoothing: weight of the newest value, in (0, 1].
        due: says for a step, counted from 0, whether it is gathered.
        steps: how many training steps were seen, gathered or not.
        metric: shape (neurons,); `None` before the first value.
    """

    smoothing: float = SMOOTHING
    due: Callable[[int], bool] = Every(1)
    steps: int = 0
    metric: Floats | None = None

    def skipped(self) -> Contribution:
        """The same average after a step that is not gathered."""
        return replace(self, steps=self.steps + 1)

    def seen(self, activations: NDArray[Any], gradients: NDArray[Any]) -> Contribution:
        """The average after one more step.

        Args:
            activations: shape (any number, neurons).
            gradients: of the loss with respect to them, same shape.
        """
        return self.averaged(np.abs(np.asarray(activations, np.float64) * gradients).mean(axis=0))

    def averaged(self, new: Floats) -> Contribution:
        """The average after one more step, of which the contributions are known."""
        if self.metric is not None:
            new = (1 - self.smoothing) * self.metric + self.smoothing * new
        return replace(self, steps=self.steps + 1, metric=new)

    def select(self, moved: NDArray[np.intp]) -> Contribution:
        """The same averages for other neurons; a new neuron has contributed nothing yet."""
        if self.metric is None:
            return self
        return replace(self, metric=_followed(self.metric, moved))


@dataclass(frozen=True, slots=True, eq=False)
class Slopes(Observer):
    """What the loss would change by if a neuron were silent, to first order, sample by sample.

    For one sample, that is the sum over all positions of activation times gradient.

    Args:
        count: how many samples were seen.
        first: mean of its absolute value, shape (neurons,).
        second: mean of its square, shape (neurons,).
    """

    count: int
    first: Floats
    second: Floats

    @classmethod
    def empty(cls, neurons: int) -> Self:
        """Nothing seen yet."""
        return cls(0, np.zeros(neurons), np.zeros(neurons))

    def seen(self, changes: NDArray[Any]) -> Slopes:
        """The same after more samples.

        Args:
            changes: activation times gradient, shape (samples, neurons).
        """
        changes = np.asarray(changes, np.float64)
        count = self.count + len(changes)
        share = len(changes) / count if count else 0.0
        return Slopes(
            count,
            self.first + share * (np.abs(changes).mean(axis=0) - self.first),
            self.second + share * ((changes**2).mean(axis=0) - self.second),
        )

    def select(self, moved: NDArray[np.intp]) -> Slopes:
        """The same for other neurons; a new neuron has not been active yet."""
        return Slopes(self.count, _followed(self.first, moved), _followed(self.second, moved))


@dataclass(frozen=True, slots=True, eq=False)
class Observations(Observer):
    """Everything that is known about the activations of one vertex: `net.observers[name]`.

    Args:
        statistics: moments, from `fit` or `calibrate`.
        contribution: the average of `ActivationContribution`, if the vertex is wrapped in it.
        slopes: from `calibrate` with a loss.
        unseen: why `calibrate` could not look at what the vertex computes; empty if it could.
    """

    statistics: ActivationStatistics | None = None
    contribution: Contribution | None = None
    slopes: Slopes | None = None
    unseen: str = ""

    @property
    def metric(self) -> Floats | None:
        """The present average of `ActivationContribution`, shape (neurons,), if there is one."""
        return None if self.contribution is None else self.contribution.metric

    def select(self, moved: NDArray[np.intp]) -> Observations:
        """The same knowledge about other neurons."""
        return Observations(
            None if self.statistics is None else self.statistics.select(moved),
            None if self.contribution is None else self.contribution.select(moved),
            None if self.slopes is None else self.slopes.select(moved),
            self.unseen,
        )


def observed(handle: Handle) -> Observations:
    """What is known about the activations of a vertex; empty where it does not fit its present size."""
    observers: Mapping[str, Observer] = getattr(handle.model, "observers", {})
    known = observers.get(handle.name)
    if not isinstance(known, Observations):
        return Observations()
    statistics, contribution, slopes = known.statistics, known.contribution, known.slopes
    if slopes is not None and len(slopes.first) != handle.nout:
        slopes = None
    if statistics is not None and len(statistics.mean) != handle.nout:
        statistics = None
    if known.metric is not None and len(known.metric) != handle.nout:
        assert contribution is not None
        contribution = replace(contribution, metric=None)
    return Observations(statistics, contribution, slopes, known.unseen)


def by_neuron(value: NDArray[Any], tensor: Tensor, counting: NDArray[np.bool_] | None = None) -> NDArray[Any]:
    """Activations as rows: every axis but the neurons' is flattened.

    Args:
        value: activations of the tensor, with the batch.
        tensor: its labels; has neurons.
        counting: which positions count, (samples, steps), where the tensor has such axes first.

    Returns:
        Shape (anything, neurons), neurons in the order of `tensor.neurons`.
    """
    axes = tensor.blocks[-1].axes
    moved = np.moveaxis(value, axes, range(value.ndim - len(axes), value.ndim))
    rows = moved.reshape(-1, len(tensor.neurons))
    kept = None if 0 in axes else kept_rows(moved.shape[: value.ndim - len(axes)], counting)
    return rows if kept is None else rows[kept]


def by_sample(value: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """Numbers for every neuron, added up over all axes but the first and the neurons'.

    Args:
        value: of the shape of the tensor, with the batch.
        tensor: its labels; has neurons.

    Returns:
        Shape (samples, neurons).
    """
    rows = by_neuron(value, tensor)
    inside = 0 in tensor.blocks[-1].axes
    return rows if inside else rows.reshape(len(value), -1, rows.shape[-1]).sum(axis=1)


def _followed(array: Floats, moved: NDArray[np.intp]) -> Floats:
    """Positions of the first axis as they have moved, zero where they are new."""
    result = np.asarray(array[moved])
    result[moved < 0] = 0.0
    return result
