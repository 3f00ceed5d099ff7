"""A slow and obvious judge of size changes: it tries every selection.

It shares no code with the engine. A network is a list of steps; a selection says for every neuron of every
source whether it is kept and how many new ones stand after it. All selections are tried at once, one row each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable

Table = NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One vertex.

    Its kind is one of `input`, `source`, `sum`, `join`, `part`, `rows`, `grouped`, `spread`, `norm` (neurons pass), and
    `again` (the arrays of an earlier source applied to another input).

    Args:
        kind: what it does.
        inputs: numbers of earlier steps.
        size: neurons of a source or input; first position of a part; number of groups; repetitions; the source whose
            arrays are applied again.
        stop: end of a part; neurons per group of a grouped source.
    """

    kind: str
    inputs: tuple[int, ...] = ()
    size: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Wanted:
    """A wish for the size of a step."""

    step: int
    delta: int
    exact: bool


@dataclass
class Verdict:
    """What is best, as the engine orders it: `None` if nothing works.

    Args:
        key: (deviation, wishes that fall short, -utility, -kept, inserted) of the best selection.
        tried: how many selections there were.
    """

    key: tuple[float, ...] | None
    tried: int


@dataclass
class Tables:
    """For every step and selection: which positions are kept, and how many are inserted after each."""

    kept: list[Table] = field(default_factory=list)
    new: list[Table] = field(default_factory=list)

    @property
    def after(self) -> list[Table]:
        """The size of every step."""
        return [k.sum(1) + n.sum(1) for k, n in zip(self.kept, self.new, strict=True)]


def sizes(steps: list[Step]) -> list[int]:
    """Number of neurons of every step."""
    found: list[int] = []
    for step in steps:
        inside = [found[i] for i in step.inputs]
        match step.kind:
            case "input" | "source":
                found.append(step.size)
            case "join":
                found.append(sum(inside))
            case "part":
                found.append(step.stop - step.size)
            case "grouped":
                found.append(step.size * step.stop)
            case "spread":
                found.append(inside[0] * step.size)
            case "again":
                found.append(found[step.size])
            case _:
                found.append(inside[0])
    return found


def sources(steps: list[Step]) -> list[int]:
    """Steps that make neurons of their own."""
    return [place for place, step in enumerate(steps) if step.kind in ("source", "grouped")]


def judge(steps: list[Step], wishes: list[Wanted], utility: list[NDArray[np.float64]], most_new: int) -> Verdict:
    """Try every selection.

    Args:
        steps: the network.
        wishes: what is asked for.
        utility: for every step, what each of its neurons is worth.
        most_new: how many new neurons may stand after one position, at most.
    """
    return Selections.all(steps, most_new).best(wishes, utility)


def verdict(
    steps: list[Step], wishes: list[Wanted], utility: list[NDArray[np.float64]], kept: Table, new: Table
) -> Verdict:
    """The best of the selections given as rows: kept and inserted per position of all sources, in order."""
    return Selections(steps, kept, new).best(wishes, utility)


class Selections:
    """Many selections for one network, one row each.

    Args:
        steps: the network.
        kept: which positions of all sources are kept, in order.
        new: how many new neurons stand after each.
    """

    def __init__(self, steps: list[Step], kept: Table, new: Table) -> None:
        """Follow the neurons through all steps."""
        self.steps, self.before = steps, sizes(steps)
        self.tables, self.valid = _propagate(steps, kept, new)
        self.after = self.tables.after

    @classmethod
    def all(cls, steps: list[Step], most_new: int) -> Selections:
        """All of them, with at most so many new neurons after one position."""
        total = sizes(steps)
        positions = sum(total[place] for place in sources(steps))
        # Column by column in memory: sums over a few positions of many selections are fast that way.
        states = np.indices((2 * (most_new + 1),) * positions).reshape(positions, -1).T
        return cls(steps, states // (most_new + 1), states % (most_new + 1))

    def __len__(self) -> int:
        return len(self.valid)

    def best(
        self,
        wishes: list[Wanted],
        utility: list[NDArray[np.float64]],
        allowed: Iterable[NDArray[np.bool_]] = (),
    ) -> Verdict:
        """The best selection.

        Args:
            wishes: what is asked for.
            utility: for every step, what each of its neurons is worth.
            allowed: masks over the selections; all of them have to be true.
        """
        valid = self.valid.copy()
        for mask in allowed:
            valid &= mask
        deviation = np.zeros(len(self), np.int64)
        short = np.zeros(len(self), np.int64)
        for wish in wishes:
            goal = self.before[wish.step] + wish.delta
            size = self.after[wish.step]
            if wish.exact:
                valid &= size == goal
            else:
                deviation += np.abs(size - goal)
                short += (size < goal) if wish.delta > 0 else (size > goal) if wish.delta < 0 else False
        if not valid.any():
            return Verdict(None, len(self))
        rows = np.flatnonzero(valid)
        worth = sum(k[rows] @ u for k, u in zip(self.tables.kept, utility, strict=True))
        keep = sum(k[rows].sum(1) for k in self.tables.kept)
        insert = sum(n[rows].sum(1) for n in self.tables.new)
        best = []
        left = np.ones(len(rows), bool)
        for key in (deviation[rows], short[rows], -np.asarray(worth), -np.asarray(keep), np.asarray(insert)):
            least = key[left].min()
            left &= key == least
            best.append(float(least))
        return Verdict(tuple(best), len(self))


def _propagate(steps: list[Step], kept: Table, new: Table) -> tuple[Tables, NDArray[np.bool_]]:
    tables = Tables()
    valid = np.ones(len(kept), bool)
    at = 0
    for place, step in enumerate(steps):
        k = [tables.kept[i] for i in step.inputs]
        n = [tables.new[i] for i in step.inputs]
        match step.kind:
            case "input":
                here = np.ones((len(kept), step.size), np.int64), np.zeros((len(kept), step.size), np.int64)
            case "source" | "grouped":
                width = sizes(steps)[place]
                here = kept[:, at : at + width], new[:, at : at + width]
                at += width
                if step.kind == "grouped":
                    valid &= _rectangles([(k[0], n[0]), here], step.size)
            case "sum":
                for other_k, other_n in zip(k[1:], n[1:], strict=True):
                    valid &= (k[0] == other_k).all(1) & (n[0] == other_n).all(1)
                here = k[0], n[0]
            case "join":
                here = np.concatenate(k, 1), np.concatenate(n, 1)
            case "part":
                here = k[0][:, step.size : step.stop], n[0][:, step.size : step.stop]
            case "rows":
                valid &= _rectangles([(k[0], n[0])], step.size)
                here = k[0], n[0]
            case "spread":
                here = np.repeat(k[0], step.size, 1), np.repeat(n[0], step.size, 1)
            case "norm":
                here = k[0], n[0]
            case "again":
                (read,) = steps[step.size].inputs
                valid &= (k[0] == tables.kept[read]).all(1) & (n[0] == tables.new[read]).all(1)
                here = tables.kept[step.size], tables.new[step.size]
            case _:
                raise ValueError(step.kind)
        valid &= here[0].any(1)
        tables.kept.append(here[0])
        tables.new.append(here[1])
    return tables, valid


def _rectangles(tables: list[tuple[Table, Table]], rows: int) -> NDArray[np.bool_]:
    """Whether every row that lives (in all tables alike) has equally many cells.

    A single row is no rectangle. Where each row is a single cell, it stays one: new cells are new rows, in all
    tables alike.
    """
    valid = np.ones(len(tables[0][0]), bool)
    if rows == 1:
        return valid
    alive: NDArray[np.bool_] | None = None
    new_rows: Table | None = None
    for kept, new in tables:
        columns = kept.shape[1] // rows
        old = kept.reshape(len(kept), rows, columns).sum(2)
        here = old > 0
        added = new if columns == 1 else np.zeros_like(old)
        if columns > 1:
            count = old + new.reshape(len(kept), rows, columns).sum(2)
            # A row without old cells has no new ones either.
            valid &= ((count > 0) == here).all(1)
            # New columns are for rectangles that keep all their rows.
            valid &= here.all(1) | (new == 0).all(1)
            valid &= ((count == count.max(1, keepdims=True)) | ~here).all(1)
        if alive is not None and new_rows is not None:
            valid &= (alive == here).all(1) & (new_rows == added).all(1)
        alive, new_rows = here, added
    return valid
