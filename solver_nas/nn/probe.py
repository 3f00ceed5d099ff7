"""Whether two networks compute the same, tried out on a batch that is made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.errors import LayerError

if TYPE_CHECKING:
    from solver_nas.frontend import Array
    from solver_nas.nn.network import Network

_SAMPLES = 2
_LENGTH = 8  # of an axis whose size is not known


def batch(net: Network, seed: int) -> dict[str, Array] | None:
    """Normal numbers of the inputs' shapes, and token numbers where tokens are read; `None` without outputs."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for vertex in net.inputs:
        shape = (_SAMPLES, *(size or _LENGTH for size in vertex.shape[1:]))
        tables = [reader.op.weight for reader in vertex.outputs if reader.kind == "embedding"]
        if tables:
            found[vertex.name] = rng.integers(0, min(map(len, tables)), shape)
        else:
            found[vertex.name] = rng.normal(size=shape).astype(net.dtype)
    return found if len(net) > len(found) else None


def difference(before: Network, after: Network, seed: int) -> float | None:
    """The largest difference between two networks' outputs, relative to the largest output.

    Returns:
        Infinity if the outputs have other shapes or numbers that are not finite; `None` if the first
        network cannot compute what is made up here.

    Raises:
        LayerError: the first network computes it, the second cannot.
    """
    given = batch(before, seed)
    if given is None:
        return None
    with np.errstate(all="ignore"):
        try:
            old = before(*given.values())
        except (LayerError, TypeError, ValueError):
            return None
        new = after(*(given[vertex.name] for vertex in after.inputs))
    pairs = list(zip(_tuple(old), _tuple(new), strict=False))
    if len(_tuple(old)) != len(_tuple(new)) or any(np.shape(a) != np.shape(b) for a, b in pairs):
        return float("inf")
    # What is infinite or undefined in both, and alike, is no difference.
    if any(not np.array_equal(np.isfinite(a), np.isfinite(b)) for a, b in pairs):
        return float("inf")
    apart = max((float(np.abs(np.where(np.isfinite(a), a - b, 0)).max(initial=0)) for a, b in pairs), default=0.0)
    scale = max((float(np.abs(a[np.isfinite(a)]).max(initial=0)) for a, _ in pairs), default=0.0)
    return apart / max(scale, 1e-300) if apart else 0.0


def _tuple(value: object) -> tuple[Array, ...]:
    return tuple(map(np.asarray, value)) if isinstance(value, tuple) else (np.asarray(value),)
