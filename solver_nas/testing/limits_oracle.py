"""What selections cost and which limits they keep, by formulas of their own; see `solver_nas.testing.oracle`.

It shares no code with the engine. A rule says for all selections at once whether they keep it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable

    from solver_nas.testing.oracle import Selections, Step, Table

Mask = NDArray[np.bool_]

#: What can be summed: neurons of one step, or a cost.
What = Literal["sizes", "kept", "inserted", "params", "macs", "weight_memory"]


@dataclass(frozen=True, slots=True)
class Body:
    """What a step is made of, besides neurons.

    Args:
        spatial: sizes of the axes behind the neurons: height and width of an image, nothing for a vector.
        kernel: side of a convolution's window, in every spatial axis.
        stride: its steps.
        bias: whether there is one.
    """

    spatial: tuple[int, ...] = ()
    kernel: int = 1
    stride: int = 1
    bias: bool = False

    @property
    def area(self) -> int:
        """How often every neuron stands there."""
        return prod(self.spatial)

    @property
    def window(self) -> int:
        """Entries of a convolution's window."""
        return prod(self.kernel for _ in self.spatial)


class Ledger:
    """Costs of every selection.

    Args:
        selections: of a network.
        bodies: of its steps.
        width: bytes of a number.
    """

    def __init__(self, selections: Selections, bodies: list[Body], width: int = 8) -> None:
        """Nothing is counted yet."""
        self.selections, self.bodies, self.width = selections, bodies, width

    @property
    def steps(self) -> list[Step]:
        """The network."""
        return self.selections.steps

    def amount(self, what: What, of: Iterable[int] | None = None) -> Table:
        """Of neurons or of a cost, in some steps or in all of them."""
        total = np.zeros(len(self.selections), np.int64)
        for place in range(len(self.steps)) if of is None else of:
            total += self._amount(what, place)
        return total

    def _amount(self, what: What, place: int) -> Table | int:
        tables = self.selections.tables
        match what:
            case "sizes":
                return self.selections.after[place]
            case "kept":
                return np.asarray(tables.kept[place].sum(1))
            case "inserted":
                return np.asarray(tables.new[place].sum(1))
            case "params":
                return self._params(place)
            case "macs":
                return self._macs(place)
            case "weight_memory":
                return self.width * (self._params(place) + self._buffers(place))

    def _entries(self, place: int) -> Table:
        """Of a weight: every output of a group by every input of the group, by the window."""
        step, after = self.steps[place], self.selections.after
        rows = self._rows(place) if step.kind == "grouped" and step.size > 1 else 1
        inputs: Table = after[step.inputs[0]] // rows
        return after[place] * inputs * self.bodies[place].window

    def _rows(self, place: int) -> Table:
        """How many groups there are."""
        step = self.steps[place]
        (read,) = step.inputs
        kept, new = self.selections.tables.kept[read], self.selections.tables.new[read]
        rows = kept.reshape(len(kept), step.size, -1)
        alive = rows.any(2).sum(1)
        # A new neuron in a group of its own is a new group.
        found: Table = alive + new.sum(1) if rows.shape[2] == 1 else alive
        # Selections that are not valid may have no group at all.
        return np.maximum(found, 1)

    def _params(self, place: int) -> Table | int:
        match self.steps[place].kind:
            case "source" | "grouped":
                return self._entries(place) + (self.selections.after[place] if self.bodies[place].bias else 0)
            case "norm":
                return 2 * self.selections.after[place]
            case _:
                return 0

    def _buffers(self, place: int) -> Table | int:
        return 2 * self.selections.after[place] if self.steps[place].kind == "norm" else 0

    def _macs(self, place: int) -> Table | int:
        step = self.steps[place]
        match step.kind:
            case "source" | "grouped":
                return self._entries(place) * self.bodies[place].area
            case "again":
                return self._entries(step.size) * self.bodies[place].area
            case _:
                return 0

    @cached_property
    def peak(self) -> Table:
        """The most bytes that stand in memory at once; what nobody reads is returned and stays, as inputs do."""
        readers: dict[int, list[int]] = {place: [] for place in range(len(self.steps))}
        for place, step in enumerate(self.steps):
            for source in step.inputs:
                readers[source].append(place)
        most = np.zeros(len(self.selections), np.int64)
        for now in range(len(self.steps)):
            here = [
                place
                for place, step in enumerate(self.steps)
                if step.kind == "input" or (place <= now and (not readers[place] or max(readers[place]) >= now))
            ]
            held: Table = np.sum([self.selections.after[place] * self.bodies[place].area for place in here], axis=0)
            most = np.maximum(most, held)
        return most * self.width


class Rule(Protocol):
    """Something that selections keep or do not keep."""

    def holds(self, ledger: Ledger) -> Mask:
        """Whether they do, one by one."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A weighted sum between two numbers.

    Args:
        terms: factors, what is counted, and in which steps (`None`: in all).
        low: the least that the sum may be, if there is such an end.
        high: the most.
    """

    terms: tuple[tuple[Fraction, What, tuple[int, ...] | None], ...]
    low: Fraction | None = None
    high: Fraction | None = None

    def amount(self, ledger: Ledger) -> tuple[Table, int]:
        """The sum in whole numbers, and what it is multiplied with for that."""
        scale = int(np.lcm.reduce([factor.denominator for factor, _, _ in self.terms]))
        parts = [int(factor * scale) * ledger.amount(what, of) for factor, what, of in self.terms]
        return np.sum(parts, axis=0), scale

    def holds(self, ledger: Ledger) -> Mask:
        """Whether the sum is neither too small nor too large."""
        total, scale = self.amount(ledger)
        mask = np.ones(len(total), bool)
        if self.low is not None:
            # Compared in whole numbers, without any rounding.
            mask &= total * self.low.denominator >= self.low.numerator * scale
        if self.high is not None:
            mask &= total * self.high.denominator <= self.high.numerator * scale
        return mask


@dataclass(frozen=True, slots=True)
class Peak:
    """At most so many bytes of activations at once."""

    high: Fraction

    def holds(self, ledger: Ledger) -> Mask:
        """Whether the fullest moment is not too full."""
        return np.asarray(ledger.peak * self.high.denominator <= self.high.numerator)


@dataclass(frozen=True, slots=True)
class Multiple:
    """A size that is a multiple of a number.

    Args:
        step: whose size.
        number: of which it is a multiple.
        small: whether a size below this number may stay what it is.
    """

    step: int
    number: int
    small: bool

    def holds(self, ledger: Ledger) -> Mask:
        """Whether the size is one of those."""
        size, before = ledger.selections.after[self.step], ledger.selections.before[self.step]
        fits = np.asarray(size % self.number == 0)
        return fits | np.asarray(size == before) if self.small and before < self.number else fits


@dataclass(frozen=True, slots=True)
class Named:
    """Neurons of a step that all stay, or all go."""

    step: int
    places: tuple[int, ...]
    stay: bool

    def holds(self, ledger: Ledger) -> Mask:
        """Whether they do."""
        there = ledger.selections.tables.kept[self.step][:, list(self.places)]
        return np.asarray((there == int(self.stay)).all(1))


@dataclass(frozen=True, slots=True)
class Still:
    """A step where no neuron goes and none comes."""

    step: int

    def holds(self, ledger: Ledger) -> Mask:
        """Whether that is so."""
        tables = ledger.selections.tables
        return np.asarray(tables.kept[self.step].all(1) & (tables.new[self.step] == 0).all(1))
