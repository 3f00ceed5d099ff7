"""A slow and obvious judge of size changes: it tries every selection.

It shares no code with the engine. A network is a list of steps; a selection says for every neuron of every
source whether it is kept and how many new ones stand after it. All selections are tried at once, one row each.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One vertex: `kind` is one of `input`, `source`, `sum`, `join`, `part`, `rows`, `grouped`, `spread`.

    Args:
        kind: what it does.
        inputs: numbers of earlier steps.
        size: neurons of a source or input; first position of a part; number of groups; repetitions.
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
class _Tables:
    """For every step and selection: which positions are kept, and how many are inserted after each."""

    kept: list[Table] = field(default_factory=list)
    new: list[Table] = field(default_factory=list)


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
    total = sizes(steps)
    positions = sum(total[place] for place in sources(steps))
    one = [(kept, new) for kept in (0, 1) for new in range(most_new + 1)]
    states = np.array(list(itertools.product(range(len(one)), repeat=positions)), np.int64)
    codes = np.array(one)
    return verdict(steps, wishes, utility, codes[states][..., 0], codes[states][..., 1])


def verdict(
    steps: list[Step], wishes: list[Wanted], utility: list[NDArray[np.float64]], kept: Table, new: Table
) -> Verdict:
    """The best of the selections given as rows: kept and inserted per position of all sources, in order."""
    tables, valid = _propagate(steps, kept, new)
    before = sizes(steps)
    after = [k.sum(1) + n.sum(1) for k, n in zip(tables.kept, tables.new, strict=True)]
    deviation = np.zeros(len(kept), np.int64)
    short = np.zeros(len(kept), np.int64)
    for wish in wishes:
        goal = before[wish.step] + wish.delta
        size = after[wish.step]
        if wish.exact:
            valid &= size == goal
        else:
            deviation += np.abs(size - goal)
            short += (size < goal) if wish.delta > 0 else (size > goal) if wish.delta < 0 else False
    if not valid.any():
        return Verdict(None, len(kept))
    worth = sum((k * u).sum(1) for k, u in zip(tables.kept, utility, strict=True))
    keep = sum(k.sum(1) for k in tables.kept)
    insert = sum(n.sum(1) for n in tables.new)
    keys = np.stack([deviation, short, -np.asarray(worth), -np.asarray(keep), np.asarray(insert)], 1).astype(float)
    best = min(map(tuple, keys[valid].tolist()))
    return Verdict(best, len(kept))


def _propagate(steps: list[Step], kept: Table, new: Table) -> tuple[_Tables, NDArray[np.bool_]]:
    tables = _Tables()
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
