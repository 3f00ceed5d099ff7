"""How the weights of a new layer start: at random, as an identity, or as zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from solver_nas.errors import LayerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solver_nas.nn.network import Network

Start = Literal["random", "identity", "zeros"]


def glorot(net: Network, shape: tuple[int, ...], fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Uniform weights of variance 2 / (fan_in + fan_out). Source: Glorot and Bengio 2010, equation 16."""
    limit = np.sqrt(6 / (fan_in + fan_out))
    return net.rng.uniform(-limit, limit, shape)


def start(
    net: Network, layer: str, how: Start, shape: tuple[int, ...], fans: tuple[int, int], groups: int = 1
) -> NDArray[Any]:
    """The first weights of a layer.

    Args:
        net: whose randomness is used.
        layer: for messages.
        how: `"random"` (Glorot uniform), `"identity"`, or `"zeros"`.
        shape: (outside, inside, *window); of a grouped layer the outside of all groups.
        fans: numbers of weights that a neuron reads and that read a neuron.
        groups: number of groups, each an identity of its own.

    Returns:
        The weights. As an identity, neuron i of the output is neuron i of the input, at the centre of the
        window; if there are more outputs than inputs, the others are zero.
    """
    if how == "random":
        return glorot(net, shape, *fans)
    if how not in ("identity", "zeros"):
        raise LayerError(f"{layer}: weights are 'random', 'identity' or 'zeros' at first, got {how!r}")
    weights = np.zeros(shape)
    if how == "identity":
        place: tuple[Any, ...] = (..., *((size - 1) // 2 for size in shape[2:]))
        weights[place] = np.tile(np.eye(shape[0] // groups, shape[1]), (groups, 1))
    return weights
