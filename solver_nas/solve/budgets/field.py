"""A part of a problem as independent choices that only meet in sums of products: the form in which it is priced.

Every choice (a bucket's count, the shape of a rectangle) has states; a state has a gain and a few features, such as
its number of neurons. Every size is a linear function of features, every budget a quadratic one:
`1/2 f.H.f + l.f + unary(states) + constant <= high`. Whatever does not fit in here is left out, which can only make
more possible: bounds stay bounds, and solutions are checked against the part itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from solver_nas.solve.budgets.blocks import Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.bounds import Measured
    from solver_nas.labels import IntArray
    from solver_nas.solve.parts import Part
    from solver_nas.utility import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One decision.

    Args:
        gain: what each state is worth.
        features: shape (states, features).
        first: the number of its first feature in the field.
        kept: shape (states, buckets): how many of each bucket live.
        new: shape (states, 1): how many are inserted.
        buckets: the buckets that it decides about, beside those of rectangles.
        slot: the insertion slot that it decides about, or -1.
        blocks: the rectangles that it decides about, each with one shape for every state.
    """

    gain: FloatArray
    features: FloatArray
    first: int
    kept: IntArray
    new: IntArray
    buckets: tuple[int, ...]
    slot: int
    blocks: tuple[Block, ...] = ()

    @property
    def inside(self) -> slice:
        """Where its features stand among those of the field."""
        return slice(self.first, self.first + self.features.shape[1])


class Pair(NamedTuple):
    """`factor` times the product of two sizes, each a linear function of features."""

    factor: float
    left: int
    right: int


class Meter(NamedTuple):
    """`factor` times a measured cost of some sizes."""

    factor: float
    function: Measured
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One budget: `pairs + linear . features + unary + meters <= high`, all divided by its scale.

    Args:
        linear: one factor per feature.
        pairs: products of two sizes.
        unary: choice -> what each of its states costs.
        high: the most.
        text: where it comes from.
        meters: measured costs of two sizes.
    """

    linear: FloatArray
    pairs: tuple[Pair, ...]
    unary: Mapping[int, FloatArray]
    high: float
    text: str
    meters: tuple[Meter, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Choices and what they have to share.

    Args:
        part: where it comes from.
        choices: the decisions.
        sizes: shape (sizes, features): the sizes that stand in products.
        offsets: their constants.
        rows: the budgets.
        owner: choice of every feature.
        assumed: rows of rectangles that are taken to live.
        settled: bucket -> its count, where there is nothing to decide.
        base: what those are worth, and the rows that are taken to live.
    """

    part: Part
    choices: tuple[Choice, ...]
    sizes: FloatArray
    offsets: FloatArray
    rows: tuple[Row, ...]
    owner: IntArray
    assumed: tuple[int, ...]
    settled: Mapping[int, int]
    base: float

    @property
    def width(self) -> int:
        """How many features there are."""
        return len(self.owner)

    def only(self, states: Sequence[IntArray]) -> Field:
        """With some of the states of every choice."""
        choices = tuple(
            replace(
                choice,
                gain=choice.gain[keep],
                features=choice.features[keep],
                kept=choice.kept[keep],
                new=choice.new[keep],
                blocks=tuple(block.only(keep) for block in choice.blocks),
            )
            for choice, keep in zip(self.choices, states, strict=True)
        )
        rows = (replace(row, unary={c: costs[states[c]] for c, costs in row.unary.items()}) for row in self.rows)
        return replace(self, choices=choices, rows=tuple(rows))
