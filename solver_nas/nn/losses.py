"""How far outputs are from what they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np
from autograd.scipy.special import logsumexp

from solver_nas.errors import LayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from solver_nas.frontend import Array


def mse(output: Any, target: Array) -> Any:
    """The mean of the squared differences; both of one shape.

    Raises:
        LayerError: two shapes.
    """
    if output.shape != target.shape:
        raise LayerError(f"mse: the output has shape {output.shape}, y has shape {target.shape}; they must be equal")
    # Targets may be integers or booleans, which would turn 32-bit outputs into 64-bit ones.
    return anp.mean((output - target.astype(output.dtype)) ** 2)


def cross_entropy(output: Any, target: Array) -> Any:
    """The mean of -log(probability of the right class).

    Args:
        output: log-odds, (..., classes), before any softmax.
        target: class numbers (...,), or probabilities (..., classes).

    Raises:
        LayerError: neither shape.
    """
    logs = output - logsumexp(output, axis=-1, keepdims=True)
    if target.shape == output.shape[:-1] and np.issubdtype(target.dtype, np.integer):
        # A product with one-hot rows: differentiating through fancy indexing is slower.
        target = np.eye(output.shape[-1], dtype=output.dtype)[target]
    if target.shape != output.shape:
        raise LayerError(
            f"cross_entropy: the output has shape {output.shape}; y is {target.dtype} of {target.shape}, "
            f"expected class numbers of shape {output.shape[:-1]} or probabilities of shape {output.shape}"
        )
    return -anp.mean(anp.sum(target * logs, axis=-1))


LOSSES: Mapping[str, Callable[[Any, Array], Any]] = {"mse": mse, "cross_entropy": cross_entropy}


def loss_of(loss: str | Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A loss by name, or the caller's own.

    Raises:
        LayerError: there is none of that name.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise LayerError(f"no loss {loss!r}; there are {', '.join(LOSSES)}, or pass a function")
    return LOSSES[loss]
