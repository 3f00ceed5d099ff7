"""What a solver answers: which counts, and how far that is proven."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.labels import IntArray
    from solver_nas.problem import Bucket, Problem


class Status(Enum):
    """How a search ended."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers that a solver found.

    Args:
        status: how far they are proven.
        kept: how many classes of every bucket live.
        new: how many neurons are inserted at every slot.
        deviation: summed distance of relaxed sizes from what was asked for.
        slack: by how much the utility could at most be better, in utility.
        method: how that is known, where it is not by complete search.
    """

    status: Status
    kept: tuple[int, ...] = ()
    new: tuple[int, ...] = ()
    deviation: int = 0
    slack: float = 0.0
    method: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """How good a selection is, and how that is known.

    Args:
        status: optimal, or feasible within the time limit.
        objective: utility kept, over everything that was up for change, recomputed from the selection; and what new
            neurons are worth, where the caller has said so.
        bound: no selection with this deviation keeps more (rounding included).
        deviation: summed distance of the relaxed sizes from what was asked for; 0 if all were met.
        neurons: (vertex, neuron) pairs that were up for change.
        classes: neurons that could live or die on their own.
        buckets: integers that the solver had to find.
        seconds: time per phase.
        promised: how much of the objective is due to new neurons.
        method: how the bound was found, where that is not by complete search.
    """

    status: Status
    objective: float
    bound: float
    deviation: int
    neurons: int
    classes: int
    buckets: int
    seconds: Mapping[str, float]
    promised: float = 0.0
    method: str = ""

    @property
    def gap(self) -> float:
        """Distance of objective and bound, relative to the larger of the two (0 if both are 0)."""
        scale = max(abs(self.objective), abs(self.bound))
        return float((self.bound - self.objective) / scale) if scale else 0.0

    def __str__(self) -> str:
        """One line."""
        counts = "count" if self.buckets == 1 else "counts"
        return (
            f"{self.status.value}: utility {self.objective:.6g} of at most {self.bound:.6g} (gap {self.gap:.1g}), "
            f"{self.neurons:,} neurons -> {self.classes:,} classes -> {self.buckets} {counts}, "
            f"{1000 * sum(self.seconds.values()):.1f} ms" + (f", bound by {self.method}" if self.method else "")
        )


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Which classes live, and after which of them new neurons stand.

    Args:
        lives: a boolean per class.
        inserted: how many new neurons stand after each class.
        leading: how many new neurons stand before each class; by default none.
    """

    lives: np.ndarray[tuple[int], np.dtype[np.bool_]]
    inserted: IntArray
    leading: IntArray | None = None


def select(problem: Problem, counts: Counts) -> Selection:
    """Turn counts into classes: of every bucket the best ones."""
    lives = np.ones(problem.classes, bool)
    for bucket, kept in zip(problem.buckets, counts.kept, strict=True):
        lives[bucket.classes[kept:]] = False
    inserted = np.zeros(problem.classes, np.int64)
    inserted[problem.slots] = counts.new
    return Selection(lives, inserted)


def promised_utility(gains: Sequence[NDArray[np.float64]], new: Sequence[int]) -> float:
    """What these numbers of new neurons are worth, slot by slot."""
    return float(sum(gain[:count].sum() for gain, count in zip(gains, new, strict=False)))


def kept_utility(buckets: Sequence[Bucket], kept: Sequence[int]) -> float:
    """The utility of the best `kept` classes of every bucket, in float64."""
    return float(sum(bucket.utilities[:k].sum() for bucket, k in zip(buckets, kept, strict=True)))
