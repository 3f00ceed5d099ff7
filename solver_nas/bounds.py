"""What sizes have to keep, as values over labels: limits after they have been looked up in a network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from solver_nas.labels import IntArray, Volume
    from solver_nas.utility import FloatArray


class Counted(Enum):
    """Which of the neurons along an axis count."""

    ALL = "all"
    KEPT = "kept"
    NEW = "new"


class Term(NamedTuple):
    """`factor` times a product of sizes; only a single size can be counted in another way than `ALL`."""

    factor: Fraction
    volume: Volume
    counted: Counted = Counted.ALL


class Measured(Protocol):
    """What something costs at given sizes."""

    def __call__(self, *sizes: Any) -> FloatArray:
        """The cost at every combination of sizes (arrays of integers that are broadcast against each other)."""


class Curve(NamedTuple):
    """A cost that is measured instead of counted: `function` of the sizes along these axes.

    Args:
        vertex: whose cost it is.
        function: for arrays of sizes, in the order of `axes`.
        axes: labels along axes.
    """

    vertex: str
    function: Measured
    axes: tuple[IntArray, ...]


MEASURED = 1e-9  # relative to a limit: measured costs are floating-point numbers


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """A sum that stays between two numbers.

    Args:
        text: the limit in words.
        terms: products of sizes.
        low: the sum may not be less; `None` for no such end.
        high: the sum may not be more.
        curves: costs that are measured.
        family: the limit that it belongs to with others, which give way with it; nothing if it stands alone.
        told: how the sum is told in the limit's own terms: an offset, and the factor.
    """

    text: str
    terms: tuple[Term, ...]
    low: Fraction | None
    high: Fraction | None
    curves: tuple[Curve, ...] = ()
    family: str = ""
    told: tuple[Fraction, Fraction] = (Fraction(0), Fraction(1))


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """A size that is a multiple of a number.

    Args:
        text: the limit in words.
        labels: along the axis.
        step: the number.
        also: other sizes that will do.
        optional: whether a size that cannot change at all need not be one.
    """

    text: str
    labels: IntArray
    step: int
    also: frozenset[int] = frozenset()
    optional: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Forced:
    """Neurons that have to stay, or to go."""

    text: str
    labels: IntArray
    lives: bool


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """Neurons that stay, and get no company."""

    text: str
    labels: IntArray


Restriction = Bound | Lattice | Forced | Frozen


def arrays(restriction: Restriction) -> tuple[IntArray, ...]:
    """All labels that a restriction speaks of, axis by axis."""
    match restriction:
        case Bound():
            volumes = [array for term in restriction.terms for array in (*term.volume.over, *term.volume.under)]
            return (*volumes, *(array for curve in restriction.curves for array in curve.axes))
        case Lattice() | Forced() | Frozen():
            return (restriction.labels,)


def amount(volume: Volume) -> int:
    """How many things there are at the present sizes.

    Raises:
        ValueError: one of the sizes is not known.
    """
    if volume.times is None:
        raise ValueError(f"vertex {volume.vertex!r}: a size is not known")
    product = volume.times
    for array in volume.over:
        product *= len(array)
    for array in volume.under:
        product //= len(array)
    return product


def present(restriction: Bound) -> tuple[Fraction, float]:
    """What a bound's terms and curves come to at the present sizes."""
    # Nothing is new yet.
    there = [term for term in restriction.terms if term.counted is not Counted.NEW]
    counted = sum((term.factor * amount(term.volume) for term in there), start=Fraction(0))
    measured = sum(
        float(curve.function(*(np.asarray(len(axis)) for axis in curve.axes))) for curve in restriction.curves
    )
    return counted, measured
