"""Utilities of different vertices on one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from solver_nas.errors import RequestError
from solver_nas.utility import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from solver_nas.utility import FloatArray

Normalisation = Literal["none", "mean", "sum", "l2", "gaussian", "rank"]

_SPREAD = 3.0  # standard deviations below the mean at which a neuron is worth nothing


def normalise(values: FloatArray, how: Normalisation) -> FloatArray:
    """One vertex's utilities on a scale that does not depend on the vertex.

    Args:
        values: shape (neurons,).
        how: what every utility u becomes, with the mean, sum, norm and deviation over the vertex:
            `"none"`: u. Layers with large weights win.
            `"mean"`: u / mean(|u|). Every layer's average neuron is worth 1; wide layers are worth more in total.
            `"sum"`: u / sum(|u|). Every layer is worth 1 in total, so that a neuron of a narrow layer is worth more.
            `"l2"`: u / norm. In between: a layer of n alike neurons is worth sqrt(n).
            `"gaussian"`: (u - mean) / deviation + 3, at least 0. Only how far a neuron stands out in its layer counts.
            `"rank"`: 1/n for the least, 1 for the best of n; equal ones share the mean. Only the order counts.

    Returns:
        Shape (neurons,). What would be divided by zero is zero (a mean of 3 for `"gaussian"`).

    Source: LAMP and its predecessors compare such scores, Lee et al. 2021 (section 2); names as in Torch-Pruning,
    Fang et al. 2023.
    """
    values = np.asarray(values, np.float64)
    match how:
        case "none":
            return values
        case "mean":
            return _divided(values, float(np.mean(np.abs(values))) if len(values) else 0.0)
        case "sum":
            return _divided(values, float(np.sum(np.abs(values))))
        case "l2":
            return _divided(values, float(np.linalg.norm(values)))
        case "gaussian":
            middle = values - (np.mean(values) if len(values) else 0.0)
            return np.maximum(_divided(middle, float(np.std(values)) if len(values) else 0.0) + _SPREAD, 0.0)
        case "rank":
            _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
            last = np.cumsum(counts)
            middle = last - (counts - 1) / 2
            return np.asarray(middle[group.reshape(-1)] / max(len(values), 1))


def _divided(values: FloatArray, by: float) -> FloatArray:
    return values / by if by else np.zeros_like(values)


def check_normalisation(how: object) -> None:
    """One of the known words.

    Raises:
        RequestError: another one.
    """
    if not isinstance(how, str) or how not in get_args(Normalisation):
        raise RequestError(f"normalise is one of {', '.join(map(repr, get_args(Normalisation)))}, got {how!r}")


def normalised(worth: Callable[[Any], Any], how: Normalisation) -> Callable[[Any], Any]:
    """A utility on a scale that does not depend on the vertex; to be given as `utility=` to any verb.

    Args:
        worth: the utility: a function of a vertex.
        how: see `normalise`.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 2), 4, name="hidden")
    >>> normalised(lambda v: [1.0, 2.0, 3.0, 4.0], "sum")(hidden)
    array([0.1, 0.2, 0.3, 0.4])
    """
    check_normalisation(how)

    def function(vertex: Any) -> FloatArray:
        size = int(vertex.nout)
        vector = checked(worth(vertex), size, str(vertex.name))
        return normalise(np.zeros(size) if vector is None else vector, how)

    return function
