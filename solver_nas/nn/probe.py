"""Whether two networks compute the same, tried out on a batch that is made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solver_nas.errors import LayerError

if TYPE_CHECKING:
    from solver_nas.frontend import Array
    from solver_nas.nn.network import Network

_SAMPLES = 3  # of every spread
_SPREADS = (1.0, 10.0, 100.0)  # some neurons stay silent for small numbers, others say the same to all large ones
_LENGTH = 8  # of an axis whose size is not known
_ROUNDING = 2**12  # units in the last place by which equal outputs may differ, relative to the largest


def batch(net: Network, spread: float, rng: np.random.Generator) -> dict[str, Array]:
    """Normal numbers of the inputs' shapes, and token numbers where tokens are read."""
    found: dict[str, Array] = {}
    for vertex in net.inputs:
        shape = (_SAMPLES, *(size or _LENGTH for size in vertex.shape[1:]))
        tables = [reader.op.weight for reader in vertex.outputs if reader.kind == "embedding"]
        if tables:
            found[vertex.name] = rng.integers(0, min(map(len, tables)), shape)
        else:
            found[vertex.name] = rng.normal(0.0, spread, shape).astype(net.dtype)
    return found


def difference(before: Network, after: Network, seed: int) -> float | None:
    """The largest difference between two networks' outputs, each relative to the largest value of that output.

    Returns:
        Infinity if the outputs have other shapes, or numbers that are not finite and differ; `None` if the
        first network cannot compute what is made up here, or the second has other inputs.

    Raises:
        LayerError: the first network computes it, the second cannot.
    """
    rng = np.random.default_rng(seed)
    names = [vertex.name for vertex in before.inputs]
    if len(before) == len(names) or sorted(names) != sorted(vertex.name for vertex in after.inputs):
        return None
    worst = 0.0
    for spread in _SPREADS:
        given = batch(before, spread, rng)
        with np.errstate(all="ignore"):
            try:
                old = _tuple(before(*given.values()))
            except (LayerError, TypeError, ValueError):
                return None
            new = _tuple(after(*(given[vertex.name] for vertex in after.inputs)))
        if [a.shape for a in old] != [b.shape for b in new]:
            return float("inf")
        worst = max([worst, *(_apart(a, b) for a, b in zip(old, new, strict=True))])
    return worst


def rounding(net: Network) -> float:
    """How far outputs may be apart, relative to the largest, that are equal but for rounding."""
    return float(np.finfo(net.dtype).eps) * _ROUNDING


def _apart(one: Array, other: Array) -> float:
    there = np.isfinite(one)
    # What is infinite or undefined has to be so alike.
    if not np.array_equal(np.where(there, 0, one), np.where(np.isfinite(other), 0, other), equal_nan=True):
        return float("inf")
    scale = float(np.abs(one[there]).max(initial=0))
    with np.errstate(all="ignore"):
        largest = float(np.abs(one[there] - other[there]).max(initial=0))
    if not largest:
        return 0.0
    # An output that was zero throughout has no scale to measure it by.
    return largest / scale if scale > np.finfo(np.float32).tiny else float("inf")


def _tuple(value: object) -> tuple[Array, ...]:
    return tuple(map(np.asarray, value)) if isinstance(value, tuple) else (np.asarray(value),)
