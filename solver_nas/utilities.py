"""What a neuron is worth: utilities to be given as `utility=` to any verb, each with its formula and where it is from.

Those that need samples say so: call `calibrate(model, batches)` first. All of them can be put on one scale with
`normalised`, and combined with `ensemble`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import RequestError, UtilityError
from solver_nas.magnitude import magnitude, magnitudes
from solver_nas.normalise import check_normalisation
from solver_nas.normalise import normalise as on_scale
from solver_nas.observe import observed
from solver_nas.readers import found_of, needed
from solver_nas.reconstruction import reconstruction
from solver_nas.sensitivity import Sensitivity, measured
from solver_nas.utility import checked
from solver_nas.worth import activation_times_outgoing, contribution, default_utility, times_outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solver_nas.frontend import Handle
    from solver_nas.normalise import Normalisation
    from solver_nas.observe import ActivationStatistics, Floats, Slopes

__all__ = [
    "Sensitivity",
    "activation_deviation",
    "activation_mean",
    "activation_times_outgoing",
    "contribution",
    "default_utility",
    "deviation_times_outgoing",
    "ensemble",
    "fisher",
    "l1",
    "magnitude",
    "measured",
    "random",
    "reconstruction",
    "taylor",
]


def l1(handle: Handle) -> Floats | float:
    """The sum of the absolute values of each neuron's incoming weights and bias.

    Source: Li et al. 2017 (arXiv 1608.08710), for filters of convolutions.

    Args:
        handle: a vertex of any model.

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.
    """
    return magnitudes(handle, order=1)


def activation_mean(handle: Handle) -> Floats | float:
    """The mean activation of each neuron, in absolute value, where it is read: E over samples and positions.

    Source: mean activations, Molchanov et al. 2017 (arXiv 1611.06440, section 2.2).

    Args:
        handle: a vertex whose readers were observed (`calibrate`).

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.

    Raises:
        UtilityError: activations were not recorded.
    """
    return _where_read(handle, lambda statistics: np.abs(statistics.mean))


def activation_deviation(handle: Handle) -> Floats | float:
    """The standard deviation of each neuron's activation where it is read, over samples and positions.

    What hardly varies can be taken over by biases.

    Source: standard deviation of activations, Molchanov et al. 2017 (arXiv 1611.06440, section 2.2).

    Args:
        handle: a vertex whose readers were observed (`calibrate`).

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.

    Raises:
        UtilityError: activations were not recorded.
    """
    return _where_read(handle, lambda statistics: statistics.deviation)


def deviation_times_outgoing(handle: Handle) -> Floats | float:
    """The standard deviation of what each neuron adds to the vertices that read it.

    For a neuron read by one layer: standard deviation of its activation times the L2 norm of its outgoing weights;
    several readers are added up as squares. Like `activation_times_outgoing` without what a bias can take over.

    Source: fluctuations times weights, as in FLAP (An et al. 2024, arXiv 2312.11983, equation 5).

    Args:
        handle: a vertex whose readers were observed (`calibrate`).

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.

    Raises:
        UtilityError: activations were not recorded.
    """
    return times_outgoing(handle, lambda seen: seen.deviation**2)


def taylor(handle: Handle) -> Floats | float:
    """What the loss changes by when each neuron goes, to first order: E over samples of |sum of activation x gradient|.

    The sum is over all positions of a sample. Once a model has converged, gradients vanish on what it was trained on,
    and this says little.

    Source: Molchanov et al. 2017 (arXiv 1611.06440, equation 8).

    Args:
        handle: a vertex of a model that was calibrated with a loss.

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.

    Raises:
        UtilityError: gradients were not recorded.
    """
    slopes = _slopes(handle)
    return 0.0 if slopes is None else slopes.first.copy()


def fisher(handle: Handle) -> Floats | float:
    """What the loss rises by when each neuron goes, to second order: half of E[(sum of activation x gradient)^2].

    The curvature of the loss is taken to be its Fisher information; at a minimum, where gradients of single samples
    do not vanish although their mean does, that is the leading term.

    Source: Theis et al. 2018 (arXiv 1801.05787, equation 6).

    Args:
        handle: a vertex of a model that was calibrated with a loss.

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.

    Raises:
        UtilityError: gradients were not recorded.
    """
    slopes = _slopes(handle)
    return 0.0 if slopes is None else slopes.second / 2


def random(seed: int = 0) -> Callable[[Handle], Floats | float]:
    """A utility that knows nothing: uniform in [0, 1), the same for the same seed and name of the vertex.

    What any other one has to be better than.

    Args:
        seed: from 0 on.
    """

    def utility(handle: Handle) -> Floats | float:
        if found_of(handle.model.labels, handle.vertex) is None:
            return 0.0
        return np.random.default_rng([seed, *handle.name.encode()]).uniform(size=handle.nout)

    return utility


def ensemble(
    *utilities: Callable[[Handle], Any], weights: Sequence[float] | None = None, normalise: Normalisation = "mean"
) -> Callable[[Handle], Floats | float]:
    """The weighted sum of several utilities, each on one scale first.

    Args:
        utilities: functions of a vertex, at least one.
        weights: one for each, all 1 by default.
        normalise: the scale, see `solver_nas.normalised`.

    Raises:
        RequestError: no utilities, or another number of weights.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 2), 4, name="hidden")
    >>> both = ensemble(lambda v: [0, 1, 2, 3], lambda v: [6, 4, 2, 0], weights=[1, 0.5], normalise="sum")
    >>> both(hidden).round(3)
    array([0.25 , 0.333, 0.417, 0.5  ])
    """
    check_normalisation(normalise)
    shares = [1.0] * len(utilities) if weights is None else [float(weight) for weight in weights]
    if not utilities or len(shares) != len(utilities) or not np.isfinite(shares).all():
        raise RequestError(f"an ensemble has at least one utility, and a weight for each; got {len(utilities)}")

    def utility(handle: Handle) -> Floats | float:
        total = np.zeros(handle.nout)
        for one, share in zip(utilities, shares, strict=True):
            vector = checked(one(handle), handle.nout, handle.name)
            if vector is not None:
                total += share * on_scale(vector, normalise)
        return total

    return utility


def _where_read(handle: Handle, measure: Callable[[ActivationStatistics], Floats]) -> Floats | float:
    """The mean of something over all that read a vertex's neurons, and over the positions in which a neuron stands."""
    found = found_of(handle.model.labels, handle.vertex)
    if found is None:
        return 0.0
    total, count = np.zeros(len(found.members)), np.zeros(len(found.members))
    for reader in needed(handle, found):
        sums = reader.sums(found.members)
        total += sums @ measure(reader.statistics)
        count += sums @ np.ones(len(reader.classes))
    return found.spread(total / np.maximum(count, 1))


def _slopes(handle: Handle) -> Slopes | None:
    if found_of(handle.model.labels, handle.vertex) is None:
        return None
    slopes = observed(handle).slopes
    if slopes is None or not slopes.count:
        raise UtilityError(
            f"vertex {handle.name!r}: gradients were not recorded; call calibrate(model, batches, loss=...) first"
        )
    return slopes
