"""Which neurons stand or fall together: the labels of every tensor and the relations between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Hashable, Iterator, Mapping
    from fractions import Fraction

    from solver_nas.graph import Port

IntArray = NDArray[np.int64]

#: One position along a resizable axis. `label` says with which others it stands or falls; `copy` tells
#: apart the positions of one tensor that carry the same label (as in `concat([x, x])` or a flattened image).
NEURON = np.dtype([("label", np.int64), ("copy", np.uint64)])
Neurons = NDArray[np.void]

#: The label of what is always kept.
FIXED = 0

Shape = tuple[int | None, ...]
SourceKey = tuple["Hashable", ...]


class Memory(NamedTuple):
    """What rules have decided by looking at sizes, to be decided alike when sizes have changed.

    Args:
        vertices: whose decisions these are.
        choices: the decisions that were not zero.
    """

    vertices: frozenset[str]
    choices: Mapping[SourceKey, int]

    def renamed(self, old: str, new: str) -> Memory:
        """The same decisions of a vertex with another name."""
        return Memory(
            frozenset(new if name == old else name for name in self.vertices),
            {(new, *key[1:]) if key[0] == old else key: choice for key, choice in self.choices.items()},
        )

    def without(self, vertices: Container[str]) -> Memory:
        """Forget what was decided for some vertices."""
        return Memory(
            frozenset(name for name in self.vertices if name not in vertices),
            {key: choice for key, choice in self.choices.items() if key[0] not in vertices},
        )


class Reason(NamedTuple):
    """Who says so: the vertex and, in words, its rule."""

    vertex: str
    rule: str


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The labels along one resizable axis of a tensor, or along several that form a rectangle.

    Args:
        axes: the tensor's axes, outermost first.
        levels: one array of neurons per axis. `levels[i]` has the sizes of `axes[:i + 1]`: a row at
            level `i` lives iff any of its cells at level `i + 1` does, and every row that lives has
            equally many. The last level holds the neurons themselves.
    """

    axes: tuple[int, ...]
    levels: tuple[Neurons, ...]

    @property
    def neurons(self) -> Neurons:
        """The innermost level, shape = the sizes of `axes`."""
        return self.levels[-1]

    def lines(self, axis: int) -> Neurons:
        """The neurons along one of the axes: a row for every index of the axes outside it, at least one."""
        level = self.levels[self.axes.index(axis)]
        return level.reshape(-1, level.shape[-1])


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """What flows along an edge: a shape (`None` where it is not known) and its blocks.

    Axes under no block never change.
    """

    shape: Shape
    blocks: tuple[Block, ...] = ()

    @property
    def neurons(self) -> Neurons:
        """The neurons that count as the size of this tensor: its last block, in row-major order."""
        return self.blocks[-1].neurons.reshape(-1) if self.blocks else np.zeros(0, NEURON)

    def block_of(self, axis: int) -> Block | None:
        """The block that covers an axis, if one does."""
        return next((block for block in self.blocks if axis in block.axes), None)


@dataclass(frozen=True, slots=True, eq=False)
class Tie:
    """Labels that stand or fall together, position by position (int arrays of one shape)."""

    left: IntArray
    right: IntArray
    reason: Reason


@dataclass(frozen=True, slots=True, eq=False)
class Encounter:
    """Neurons that an operation brings together, position by position (broadcast against each other).

    That they stand or fall together is not enough: in the changed network the same ones have to meet.

    Args:
        left: neurons of any shape.
        right: neurons of any shape that fits.
        reason: who brings them together.
        rows: whether the left ones are rows that hold the right ones as cells, so that a row may get new cells.
    """

    left: Neurons
    right: Neurons
    reason: Reason
    rows: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """A rectangle: every row that lives keeps the same number (at least one) of its cells.

    New columns come at the end of every row, and only where no row goes.

    Args:
        rows: labels, shape (rows,).
        cells: labels, shape (rows, columns); a row lives iff any of its cells does.
        reason: who needs the rectangle.
    """

    rows: IntArray
    cells: IntArray
    reason: Reason


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Columns shared by all rows: a cell lives iff its row and its column do.

    Args:
        rows: labels, shape (rows,).
        columns: labels, shape (columns,).
        cells: labels, shape (rows, columns).
        reason: who shares the columns.
    """

    rows: IntArray
    columns: IntArray
    cells: IntArray
    reason: Reason


@dataclass(frozen=True, slots=True, eq=False)
class Balance:
    """Two axes that will be equally long, whichever of their neurons are left.

    This is how a changed structure is brought together: a layer whose input comes from elsewhere now.

    Args:
        left: labels along one axis.
        right: labels along the other; their number may differ.
        reason: who needs it.
    """

    left: IntArray
    right: IntArray
    reason: Reason


@dataclass(frozen=True, slots=True, eq=False)
class Farewell:
    """Neurons that have to go, since what made them does.

    Args:
        labels: their labels.
        reason: why.
    """

    labels: IntArray
    reason: Reason


class Volume(NamedTuple):
    """A number of things as a product of sizes: entries of an array, multiplications of a contraction.

    It is `times * prod(len(one) for one in over) / prod(len(one) for one in under)`, with a denominator where
    the columns of a rectangle count: all its cells by all its rows.

    Args:
        vertex: whose they are.
        times: product of the sizes that never change; `None` if one of them is not known.
        over: labels along axes.
        under: labels of rows.
    """

    vertex: str
    times: int | None
    over: tuple[IntArray, ...]
    under: tuple[IntArray, ...] = ()


class Extent(NamedTuple):
    """The size of one axis of a tensor or of a parameter.

    Args:
        owner: the tensor, or the key of the parameter.
        axis: which one.
    """

    owner: Port | str
    axis: int


class Origin(NamedTuple):
    """How code computes a number: `factor * prod(over) / prod(under)`, and what is added to that.

    Args:
        factor: what is written down in the code.
        over: sizes, and names of numbers that can be set to whatever they should be.
        under: likewise.
        known: whether it is such a product; if not, `over` is what goes into it in some other way.
        plus: the other summands.
    """

    factor: Fraction
    over: tuple[Extent | Hashable, ...]
    under: tuple[Extent | Hashable, ...]
    known: bool = True
    plus: tuple[Origin, ...] = ()

    @property
    def summands(self) -> tuple[Origin, ...]:
        """All of them, each a product."""
        return (self._replace(plus=()), *self.plus)

    @property
    def sources(self) -> tuple[Extent | Hashable, ...]:
        """Everything that it is computed from."""
        return tuple(source for one in self.summands for source in (*one.over, *one.under))


class Measure(NamedTuple):
    """A number in a model's code that says how many neurons there are.

    It has to be `factor * prod(len(one) for one in over) / prod(len(one) for one in under)`, now and after a change.

    Args:
        reason: whose number it is, and what it says.
        argument: which of the vertex's numbers it is.
        factor: the sizes in it that never change.
        over: neurons.
        under: rows that they are shared among.
        origin: how the code computes it; `None` if it is written down there.
    """

    reason: Reason
    argument: Hashable
    factor: int
    over: tuple[Neurons, ...]
    under: tuple[Neurons, ...]
    origin: Origin | None

    @property
    def number(self) -> int:
        """What the number is."""
        return self.counting(lambda array: array.size)

    def counting(self, count: Callable[[Neurons], int]) -> int:
        """What the number is if there are so many of these neurons."""
        over, under = (prod(map(count, side)) for side in (self.over, self.under))
        return self.factor * over // max(under, 1)


class Use(NamedTuple):
    """How a parameter's axes meet the labels.

    Args:
        axes: axes of the parameter's view, outermost first.
        levels: as in a `Block`.
        role: `fresh` (the parameter makes these neurons), `contract` (it consumes them) or
            `follow` (it accompanies them, as a bias or a norm's scale does).
    """

    axes: tuple[int, ...]
    levels: tuple[Neurons, ...]
    role: str


@dataclass(frozen=True, slots=True, eq=False)
class ParameterLabels:
    """The labels of one parameter.

    Args:
        view: the shape under which the rule sees the array; a reshape of its storage shape.
        storage: for every storage axis, the view axes that it is made of.
        uses: blocks over the view's axes; two uses may share their outer axes.
    """

    view: tuple[int, ...]
    storage: tuple[tuple[int, ...], ...]
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Everything that the rules have said about one graph.

    Args:
        count: labels are `0 .. count - 1`; 0 is `FIXED`.
        sources: where labels come from, in the order in which they were made.
        choices: what a rule decided by looking at the labels, so that a second pass decides the same.
        tensors: the labels of every tensor.
        parameters: the labels of every parameter, by parameter key.
        ties: who must stand or fall together, with reasons.
        joints: the rectangles.
        products: the rectangles with shared columns.
        encounters: which neurons meet in ties and rectangles.
        pinned: what could not be resized, and why.
        silent: labels whose new neurons have to start at zero, since they meet other new neurons in a product.
        balances: axes that have to become equally long; only in a structure that is being changed.
        farewells: neurons that have to go; likewise.
        works: how often contractions multiply and add, for one sample.
        measures: numbers in a model's code that say how many neurons there are.
    """

    count: int
    sources: Mapping[SourceKey, Neurons]
    choices: Mapping[SourceKey, int]
    tensors: Mapping[Port, Tensor]
    parameters: Mapping[str, ParameterLabels]
    ties: tuple[Tie, ...]
    joints: tuple[Joint, ...]
    products: tuple[Product, ...]
    encounters: tuple[Encounter, ...] = ()
    pinned: tuple[Reason, ...] = ()
    silent: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    balances: tuple[Balance, ...] = ()
    farewells: tuple[Farewell, ...] = ()
    works: tuple[Volume, ...] = ()
    measures: tuple[Measure, ...] = ()

    @property
    def memory(self) -> Memory:
        """What was decided by looking at sizes."""
        return Memory(frozenset(port.vertex for port in self.tensors), self.choices)

    def arrays(self) -> Iterator[tuple[Port, Neurons]]:
        """Every array of neurons in every tensor, level by level."""
        for port, tensor in self.tensors.items():
            for block in tensor.blocks:
                for level in block.levels:
                    yield port, level


def neurons(labels: IntArray, copies: NDArray[np.uint64] | int = 0) -> Neurons:
    """Put labels and copies into one array of neurons of the shape of `labels`."""
    array = np.empty(labels.shape, NEURON)
    array["label"] = labels
    array["copy"] = copies
    return array


def mixed(array: Neurons, salt: NDArray[np.int64] | int) -> Neurons:
    """The same labels with copies that also depend on `salt` (broadcast against the array).

    The mix is a bijection of 64-bit words for every salt (Source: the finaliser of SplitMix64, Steele,
    Lea and Flood 2014), so that copies made along different paths differ and depend on nothing but
    the path: not on sizes, which is what lets the pruned network find its old positions again.
    """
    salt_bits = np.asarray(salt).astype(np.uint64) + np.uint64(1)
    with np.errstate(over="ignore"):
        word = array["copy"] + salt_bits * np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        word = word ^ (word >> np.uint64(31))
    return neurons(np.broadcast_to(array["label"], word.shape), word)
