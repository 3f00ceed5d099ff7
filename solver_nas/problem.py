"""A small optimisation problem over counts: what may be chosen, what it is worth, and what has to hold.

Neurons that no constraint can tell apart form a bucket, and of a bucket only the number kept matters:
the best k are the k of highest utility. So a network of a million neurons becomes a few integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from solver_nas.bounds import Bound, Measured
    from solver_nas.labels import IntArray, Reason
    from solver_nas.requests import Target
    from solver_nas.utility import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """A size as a linear expression: `constant + sum(keep[b] * kept(b)) + sum(new[s] * inserted(s))`."""

    constant: int
    keep: Mapping[int, int]
    new: Mapping[int, int]

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal expressions."""
        return (self.constant, tuple(sorted(self.keep.items())), tuple(sorted(self.new.items())))

    @property
    def rigid(self) -> bool:
        """Whether this is a number that nothing can change."""
        return not self.keep and not self.new


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """A size and what is wanted of it."""

    count: Count
    target: Target


class Rectangle(NamedTuple):
    """Rows that keep equally many cells.

    Args:
        rows: the bucket of every row's label, or -1 if the row is always there.
        cells: for every row, how many of its cells there are.
        reason: who needs it.
    """

    rows: tuple[int, ...]
    cells: tuple[Count, ...]
    reason: Reason


class SharedColumns(NamedTuple):
    """Cells that live iff row and column do (buckets of one class each; -1: always there)."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    cells: tuple[tuple[int, ...], ...]
    new_columns: Count
    new_cells: tuple[Count, ...]
    reason: Reason

    @property
    def empty(self) -> bool:
        """Whether this holds whatever is chosen: every cell is its row where the column is always there, and so on."""
        columns = self.new_columns.key
        return all(count.key == columns for count in self.new_cells) and all(
            cell == (column if row < 0 else row) and (row < 0 or column in (-1, row))
            for row, cells in zip(self.rows, self.cells, strict=True)
            for column, cell in zip(self.columns, cells, strict=True)
        )


class Monomial(NamedTuple):
    """`factor * prod(over) / prod(under)`; the quotient is a whole number."""

    factor: Fraction
    over: tuple[Count, ...]
    under: tuple[Count, ...] = ()


class Gauge(NamedTuple):
    """A cost that is measured: `function` of these sizes."""

    function: Measured
    sizes: tuple[Count, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """A sum of products of sizes that stays between two numbers (`None`: no such end).

    Args:
        terms: its products.
        gauges: what is measured.
        constant: what is there whatever the sizes are.
        low: the least that the sum may be.
        high: the most.
        limit: where it comes from.
    """

    terms: tuple[Monomial, ...]
    gauges: tuple[Gauge, ...]
    constant: Fraction
    low: Fraction | None
    high: Fraction | None
    limit: Bound

    @property
    def counts(self) -> tuple[Count, ...]:
        """Every size that it depends on."""
        products = [count for term in self.terms for count in (*term.over, *term.under)]
        return (*products, *(size for gauge in self.gauges for size in gauge.sizes))


class Grid(NamedTuple):
    """A size that is a multiple of a step, or one of some other sizes."""

    size: Count
    step: int
    also: frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Classes that no constraint can tell apart.

    Args:
        classes: best first; among equals, the lowest index first.
        utilities: of these classes, descending.
        neurons: how many (vertex, neuron) pairs each of its classes stands for.
        slot: the insertion slot that new neurons of this kind use, or -1 where none can be inserted.
        forced: whether all of them have to stay (true) or to go (false); `None` if neither.
    """

    classes: IntArray
    utilities: FloatArray
    neurons: int
    slot: int
    forced: bool | None = None

    @property
    def least(self) -> int:
        """How many have to stay."""
        return len(self.classes) if self.forced else 0

    @property
    def most(self) -> int:
        """How many may stay."""
        return 0 if self.forced is False else len(self.classes)


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Which counts to choose: buckets, sizes and wishes. Holds no solver objects.

    Args:
        class_of: label -> class; class 0 is always kept.
        classes: how many classes there are.
        buckets: the integers to be found; classes in no bucket stay as they are.
        slots: for every insertion slot, the class after which new neurons stand.
        slot_neurons: how many (vertex, neuron) pairs one insertion makes.
        sizes: every size that has to stay at least 1.
        wishes: sizes that are asked for.
        rectangles: rows that keep equally many cells.
        shared: rectangles with shared columns.
        balances: expressions that have to be zero: differences of sizes, and counts of what has to go.
        most_new: how many new neurons a slot may get; `None` for no limit.
        positions: how many (vertex, neuron) pairs are up for change.
        utility_elsewhere: utility of the classes that are not up for change (always kept).
        budgets: sums of products of sizes that stay between two numbers.
        grids: sizes that are multiples.
        slot_gains: for every insertion slot, what its first new neuron is worth, its second, and so on, descending;
            empty where they are worth nothing.
    """

    class_of: IntArray
    classes: int
    buckets: tuple[Bucket, ...]
    slots: IntArray
    slot_neurons: IntArray
    sizes: tuple[Count, ...]
    wishes: tuple[Wish, ...]
    rectangles: tuple[Rectangle, ...]
    shared: tuple[SharedColumns, ...]
    balances: tuple[Count, ...]
    most_new: int | None
    positions: int
    utility_elsewhere: float
    budgets: tuple[Budget, ...] = ()
    grids: tuple[Grid, ...] = ()
    slot_gains: tuple[FloatArray, ...] = ()
