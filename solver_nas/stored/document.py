"""What a stored size problem says: groups of neurons, and what layers of such widths cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from solver_nas.problem import Count, Monomial

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from solver_nas.utility import FloatArray


class Cost(StrEnum):
    """What is counted."""

    PARAMS = "params"
    MACS = "macs"


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Neurons that can only go together in all their layers.

    Args:
        members: the layers, at least one.
        utility: what each neuron is worth in all of them together; read-only.
    """

    members: tuple[str, ...]
    utility: FloatArray

    def __post_init__(self) -> None:
        """Protect the array."""
        self.utility.flags.writeable = False

    @property
    def size(self) -> int:
        """How many neurons each of its layers has."""
        return len(self.utility)


class Width(NamedTuple):
    """One side of a layer: `factor` times what is kept of a group, or just `factor` if that is `None`."""

    group: int | None
    factor: int = 1

    @property
    def expression(self) -> Count:
        """The width in a problem that has a bucket for every group."""
        return Count(self.factor, {}, {}) if self.group is None else Count(0, {self.group: self.factor}, {})

    def at(self, kept: Sequence[int]) -> int:
        """The width if so much is kept of every group."""
        return self.factor * (1 if self.group is None else kept[self.group])


class Layer(NamedTuple):
    """A layer with weights: `outputs * inputs * area` of them, each used at so many positions."""

    outputs: Width
    inputs: Width
    area: int
    positions: int
    bias: bool


class Term(NamedTuple):
    """A cost: `factor` times a product of widths."""

    factor: int
    widths: tuple[Width, ...]

    @property
    def monomial(self) -> Monomial:
        """The same in a problem that has a bucket for every group."""
        return Monomial(Fraction(self.factor), tuple(width.expression for width in self.widths))


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A size problem.

    Args:
        title: what it was taken from; may be empty.
        groups: the neurons.
        layers: what they cost.
        normalised: the groups of its batch normalisations, one for each: two parameters per neuron.
    """

    title: str
    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    normalised: tuple[int, ...]

    @property
    def total(self) -> float:
        """What all neurons together are worth."""
        return math.fsum(float(group.utility.sum()) for group in self.groups)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of every group."""
        return tuple(group.size for group in self.groups)

    def terms(self, cost: Cost) -> Iterator[Term]:
        """A cost as a sum of products of widths."""
        for layer in self.layers:
            positions = layer.positions if cost is Cost.MACS else 1
            yield Term(layer.area * positions, (layer.outputs, layer.inputs))
            if cost is Cost.PARAMS and layer.bias:
                yield Term(1, (layer.outputs,))
        if cost is Cost.PARAMS:
            yield from (Term(2, (Width(group),)) for group in self.normalised)


def amount(document: Document, cost: Cost, kept: Sequence[int]) -> int:
    """What everything costs if so much is kept of every group."""
    return sum(term.factor * math.prod(width.at(kept) for width in term.widths) for term in document.terms(cost))
