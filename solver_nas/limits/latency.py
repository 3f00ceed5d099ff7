"""Limits on how long a network takes, from what its vertices were measured to take at some sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.bounds import Curve, Term
from solver_nas.errors import GraphError, RequestError
from solver_nas.frontend import Model
from solver_nas.graph import Port
from solver_nas.limits.expression import Atom, Expression
from solver_nas.limits.view import Of, View, titled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from solver_nas.bounds import Measured
    from solver_nas.labels import IntArray
    from solver_nas.utility import FloatArray

#: Seconds for a vertex: called with its name, its numbers of input neurons by slot, and of output neurons.
Latency = Callable[[str, tuple[int, ...], int], float]


_SHORTEST, _LONGEST = 1e-100, 1e100  # seconds; sums and products of times stay finite


class Grid:
    """What one vertex takes at a grid of sizes; in between it is interpolated linearly along each axis."""

    __slots__ = ("inputs", "outputs", "seconds")

    def __init__(self, inputs: ArrayLike, outputs: ArrayLike, seconds: ArrayLike, name: str = "latency") -> None:
        """Take the times, and check that they make sense.

        Args:
            inputs: shape (a,), numbers of input neurons (of all slots together), ascending; a single one where it
                does not matter or follows from the output.
            outputs: shape (b,), numbers of output neurons, ascending; likewise.
            seconds: shape (a, b); never falling along either axis.
            name: of the vertex, for messages.

        Raises:
            RequestError: sizes that do not ascend, gaps (NaN), or times that fall where a size grows.
        """
        self.inputs, self.outputs = _axis(inputs, f"{name}: inputs"), _axis(outputs, f"{name}: outputs")
        table = _table(seconds, name)
        if table.shape != (len(self.inputs), len(self.outputs)):
            raise RequestError(
                f"{name}: seconds have shape {table.shape}, the sizes ask for {(len(self.inputs), len(self.outputs))}"
            )
        if not np.isfinite(table).all() or (table < 0).any():
            at = tuple(np.argwhere(~(np.isfinite(table) & (table >= 0)))[0])
            where = f"inputs {self.inputs[at[0]]}, outputs {self.outputs[at[1]]}"
            raise RequestError(f"{name}: the time at {where} is {table[at]}; fill gaps with finite times from 0 on")
        for axis, sizes in ((0, self.inputs), (1, self.outputs)):
            falls = np.argwhere(np.diff(table, axis=axis) < 0)
            if len(falls):
                size = sizes[falls[0][axis]]
                raise RequestError(
                    f"{name}: more {('inputs', 'outputs')[axis]} than {size} take less time; "
                    f"use Grid.smoothed for times with noise"
                )
        self.seconds = table

    @classmethod
    def smoothed(cls, inputs: ArrayLike, outputs: ArrayLike, seconds: ArrayLike, name: str = "latency") -> Grid:
        """From measured times with noise: every time is at least that of smaller sizes."""
        table = _table(seconds, name)
        if table.ndim != len(("inputs", "outputs")):
            raise RequestError(f"{name}: seconds have a row for every number of inputs, got shape {table.shape}")
        return cls(inputs, outputs, np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1), name)

    def __repr__(self) -> str:
        """Its sizes."""
        return f"Grid(inputs={self.inputs.tolist()}, outputs={self.outputs.tolist()})"

    def __call__(self, *sizes: IntArray) -> FloatArray:
        """Seconds at numbers of inputs and of outputs (arrays that are broadcast).

        Beyond the grid they grow as between its last two sizes.
        """
        inputs, outputs = sizes
        one, share = _between(self.inputs, inputs)
        other, part = _between(self.outputs, outputs)
        up, right = np.minimum(one + 1, len(self.inputs) - 1), np.minimum(other + 1, len(self.outputs) - 1)
        low = self.seconds[one, other] * (1 - part) + self.seconds[one, right] * part
        high = self.seconds[up, other] * (1 - part) + self.seconds[up, right] * part
        return np.maximum(low * (1 - share) + high * share, 0.0)


def _table(seconds: ArrayLike, name: str) -> FloatArray:
    try:
        found = np.asarray(seconds)
        if np.iscomplexobj(found):
            raise TypeError("complex")
        table = found.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"{name}: seconds are a table of numbers, got {seconds!r}") from error
    known = table[np.isfinite(table) & (table > 0)]
    if ((known > _LONGEST) | (known < _SHORTEST)).any():
        raise RequestError(f"{name}: times are 0, or from {_SHORTEST:g} to {_LONGEST:g} seconds")
    return table


def _axis(values: ArrayLike, name: str) -> IntArray:
    try:
        sizes = np.atleast_1d(np.asarray(values))
    except ValueError as error:
        raise RequestError(f"{name} are whole numbers in a row, got {values!r}") from error
    if sizes.ndim != 1 or not len(sizes) or not np.issubdtype(sizes.dtype, np.integer):
        raise RequestError(f"{name} are whole numbers in a row, got {values!r}")
    found: list[int] = sizes.tolist()
    if any(one >= other for one, other in pairwise([-1, *found, 2**63])):
        raise RequestError(f"{name} ascend from 0 on, got {found}")
    return sizes.astype(np.int64)


def _between(grid: IntArray, sizes: IntArray) -> tuple[IntArray, FloatArray]:
    """The grid's place below every size, and how far it is to the next one."""
    if len(grid) == 1:
        return np.zeros(np.shape(sizes), np.int64), np.zeros(np.shape(sizes))
    place = np.clip(np.searchsorted(grid, sizes, side="right") - 1, 0, len(grid) - 2)
    share = (sizes - grid[place]) / (grid[place + 1] - grid[place])
    # Below the grid it is as fast as at its smallest size: there is always something to start.
    return place, np.maximum(share, 0.0)


class LatencyTable:
    """What the vertices of a network take, by name; `measure_latency` makes one.

    >>> table = LatencyTable({"hidden": Grid([8, 32], [8, 32], [[1e-6, 2e-6], [2e-6, 5e-6]])})
    >>> round(float(table.grids["hidden"](np.array(20), np.array(32))), 9)
    3.5e-06
    """

    def __init__(self, grids: Mapping[str, Grid]) -> None:
        """Take a grid for every vertex that takes time."""
        if not isinstance(grids, Mapping):
            raise RequestError(f"a latency table is made from vertex name -> Grid, got {grids!r}")
        for name, grid in grids.items():
            if not isinstance(grid, Grid):
                raise RequestError(f"a latency table has a Grid for every vertex, got {grid!r} for {name!r}")
        self.grids = dict(grids)

    def __repr__(self) -> str:
        """How many vertices it knows."""
        return f"LatencyTable of {len(self.grids)} vertices"


@dataclass(frozen=True, slots=True, eq=False)
class _Time(Atom):
    """Seconds for one run, vertex by vertex."""

    model: Model
    table: LatencyTable | Latency
    of: Of

    def measure(self, view: View) -> tuple[tuple[Term, ...], tuple[Curve, ...]]:
        """A curve for every vertex."""
        if self.model is not view.model:
            raise GraphError("latency is a cost of another network than the one that changes")
        names = view.chosen(self.of, "latency")
        origin = {inside: outside for outside, inside in view.names.items()}
        found = []
        for name in names:
            vertex = view.graph.vertex(name)
            if vertex.is_input:
                continue
            axes = [view.labels.tensors[port].neurons["label"] for port in vertex.inputs]
            if isinstance(self.table, LatencyTable):
                # A table knows only how many neurons come in altogether.
                axes = [np.concatenate([np.zeros(0, np.int64), *axes])]
            axes.append(view.labels.tensors[Port(name)].neurons["label"])
            found.append(Curve(name, self._function(origin.get(name, name)), tuple(axes)))
        return (), tuple(found)

    def _function(self, name: str) -> Measured:
        if isinstance(self.table, LatencyTable):
            grid = self.table.grids.get(name)
            if grid is None:
                raise RequestError(
                    f"the latency table says nothing about vertex {name!r}; measure it, give it a Grid of zeros, or "
                    f"say of which vertices the latency is meant: latency(net, table, of=...)"
                )
            return grid
        return _vectorised(self.table, name)

    def __str__(self) -> str:
        """As it is written."""
        return titled("latency", self.of)


def _vectorised(function: Latency, name: str) -> Measured:
    """A function of single sizes for arrays of them; asked once for every combination."""
    known: dict[tuple[int, ...], float] = {}

    def one(sizes: tuple[int, ...]) -> float:
        if sizes not in known:
            seconds = function(name, sizes[:-1], sizes[-1])
            number = isinstance(seconds, int | float | np.integer | np.floating)
            if not (number and (seconds == 0 or _SHORTEST <= seconds <= _LONGEST)):
                raise RequestError(f"latency of {name!r} at {sizes}: expected seconds from 0 on, got {seconds!r}")
            known[sizes] = float(seconds)
        return known[sizes]

    def measured(*sizes: IntArray) -> FloatArray:
        arrays = np.broadcast_arrays(*(np.rint(size).astype(np.int64) for size in sizes))
        flat = [one(tuple(map(int, at))) for at in zip(*(array.reshape(-1) for array in arrays), strict=True)]
        return np.array(flat, np.float64).reshape(arrays[0].shape)

    return measured


def latency(model: Model, table: LatencyTable | Latency, of: Of = None) -> Expression:
    """Seconds that a network takes for one run: the sum over its vertices.

    Args:
        model: the network.
        table: what its vertices take: a `LatencyTable`, such as `measure_latency` makes, or a function
            `(name, input neurons by slot, output neurons) -> seconds`, which never falls where a size grows.
        of: only those of these vertices; as for `minimum`.
    """
    if not isinstance(model, Model):
        raise RequestError(f"latency takes a network, got {model!r}")
    if not isinstance(table, LatencyTable) and not callable(table):
        raise RequestError(f"latency takes a LatencyTable or a function of name, inputs and outputs, got {table!r}")
    return Expression([(Fraction(1), _Time(model, table, of))])
