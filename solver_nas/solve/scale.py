"""Utilities as integers, since CP-SAT knows no others."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solver_nas.labels import IntArray
    from solver_nas.utility import FloatArray

_TOP_BITS = 42  # largest sum of scaled utilities, in bits: exact in the solver's int64 and float64 parts


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Integer utilities.

    Args:
        values: one array per bucket, descending like its utilities.
        unit: what 1 stands for; a power of two.
        error: the most by which a sum of scaled utilities can differ from the true one, in utility.
    """

    values: tuple[IntArray, ...]
    unit: float
    error: float


def scaled(utilities: Sequence[FloatArray]) -> Scaled:
    """Scale by a power of two, without any rounding wherever the utilities allow it."""
    every = np.concatenate([np.zeros(1), *utilities])
    total = float(np.abs(every).sum())
    top = int(_TOP_BITS - np.ceil(np.log2(total))) if total > 0 else 0
    exact = _integral(every, top)
    low = min(0, top) if exact else top
    # The coarsest unit that represents everything exactly keeps the integers small.
    bits = low + bisect_left(range(low, top), True, key=lambda unit: _integral(every, unit))
    values = tuple(np.rint(np.ldexp(utility, bits)).astype(np.int64) for utility in utilities)
    unit = float(np.ldexp(1.0, -bits))
    return Scaled(values, unit, 0.0 if exact else unit * len(every))


def _integral(values: FloatArray, bits: int) -> bool:
    moved = np.ldexp(values, bits)
    return bool((moved == np.rint(moved)).all())
