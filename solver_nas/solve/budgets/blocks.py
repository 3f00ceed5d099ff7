"""Rectangles whose rows may go, as one choice of a shape: how many rows live, how many columns each rectangle has."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.labels import IntArray
    from solver_nas.problem import Bucket, Rectangle
    from solver_nas.solve.parts import Part
    from solver_nas.utility import FloatArray

_MOST_SHAPES = 400_000  # of one block; more are not worth their memory


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rectangles over the same rows, with a bucket for every row of each.

    Args:
        rows: the buckets of the rows.
        cells: for every rectangle, the bucket of each row's cells.
        shapes: shape (states, 1 + rectangles): rows that live, columns of each rectangle.
        gain: what the best selection of that shape is worth, by state.
        curves: for every rectangle, shape (rows, columns + 1): what the best cells of a row are worth.
        own: what the rows themselves are worth.
    """

    rows: tuple[int, ...]
    cells: tuple[tuple[int, ...], ...]
    shapes: IntArray
    gain: FloatArray
    curves: tuple[FloatArray, ...]
    own: FloatArray

    @property
    def buckets(self) -> tuple[int, ...]:
        """All buckets that it decides about."""
        return (*self.rows, *(bucket for cells in self.cells for bucket in cells))

    @property
    def features(self) -> FloatArray:
        """Shape (states, 1 + rectangles): rows, and the cells of each rectangle."""
        rows = self.shapes[:, :1]
        return np.concatenate([rows, rows * self.shapes[:, 1:]], axis=1).astype(np.float64)

    def only(self, keep: IntArray) -> Block:
        """With some of the shapes."""
        return replace(self, shapes=self.shapes[keep], gain=self.gain[keep])

    def factors(self, often: Mapping[int, int]) -> FloatArray | None:
        """A size as factors of the features; `None` if it does not speak of whole rectangles."""
        found = np.zeros(1 + len(self.cells))
        for place, group in enumerate((self.rows, *self.cells)):
            factors = {often.get(bucket, 0) for bucket in group}
            if len(factors) != 1:
                return None
            found[place] = factors.pop()
        return found

    def counts(self, shape: IntArray) -> dict[int, int]:
        """The best buckets' counts of this shape."""
        worth = self.own + sum(
            curve[:, columns] for curve, columns in zip(self.curves, shape[1:].tolist(), strict=True)
        )
        lives = np.zeros(len(self.rows), bool)
        lives[np.argsort(-worth, kind="stable")[: int(shape[0])]] = True
        found = {row: int(alive) for row, alive in zip(self.rows, lives, strict=True)}
        for cells, columns in zip(self.cells, shape[1:].tolist(), strict=True):
            found |= {bucket: int(columns) * int(alive) for bucket, alive in zip(cells, lives, strict=True)}
        return found


def blocks(part: Part) -> tuple[list[Block], tuple[int, ...]]:
    """The blocks of a part, and the rows of all other rectangles, which are to be taken to live."""
    groups = _connected(part.rectangles)
    found, assumed = [], []
    for group in groups:
        made = _block(part, group)
        if made is not None:
            found.append(made)
        else:
            assumed += [row for rectangle in group for row in rectangle.rows if row >= 0]
    return found, tuple(dict.fromkeys(assumed))


def _connected(rectangles: Sequence[Rectangle]) -> list[list[Rectangle]]:
    """Rectangles that share rows or cells, together."""
    groups: list[tuple[set[int], list[Rectangle]]] = []
    for rectangle in rectangles:
        mine = {row for row in rectangle.rows if row >= 0}.union(*(cells.keep for cells in rectangle.cells))
        members = [rectangle]
        rest = []
        for keys, others in groups:
            if keys & mine:
                mine, members = mine | keys, others + members
            else:
                rest.append((keys, others))
        groups = [*rest, (mine, members)]
    return [members for _, members in groups]


def _block(part: Part, group: Sequence[Rectangle]) -> Block | None:
    rows = tuple(sorted(group[0].rows))
    if rows[0] < 0 or len(set(rows)) != len(rows):
        return None
    cells, widths = [], []
    for rectangle in group:
        by_row = dict(zip(rectangle.rows, rectangle.cells, strict=True))
        if tuple(sorted(by_row)) != rows or len(rectangle.rows) != len(rows):
            return None
        if any(c.constant or len(c.keep) != 1 or c.new or set(c.keep.values()) != {1} for c in by_row.values()):
            return None
        buckets = tuple(next(iter(by_row[row].keep)) for row in rows)
        width = {len(part.buckets[bucket].classes) for bucket in buckets}
        if len(width) != 1:
            return None
        if buckets not in cells:
            cells.append(buckets)
            widths.append(width.pop())
    every = [*rows, *(bucket for buckets in cells for bucket in buckets)]
    if len(set(every)) != len(every) or any(part.buckets[b].forced is not None for b in every):
        return None
    if len(rows) * math.prod(widths) > _MOST_SHAPES or not _whole(part, [rows, *cells]):
        return None
    curves = tuple(np.stack([_curve(part.buckets[bucket]) for bucket in buckets]) for buckets in cells)
    own = np.array([float(part.buckets[row].utilities.sum()) for row in rows])
    return _tabled(rows, tuple(cells), curves, own)


def _curve(bucket: Bucket) -> FloatArray:
    return np.concatenate([[0.0], np.cumsum(bucket.utilities)])


def _whole(part: Part, groups: Sequence[tuple[int, ...]]) -> bool:
    """Whether everything that is said speaks of whole rectangles."""
    return all(len({c.keep.get(bucket, 0) for bucket in group}) == 1 for c in part.counts for group in groups)


def _tabled(
    rows: tuple[int, ...], cells: tuple[tuple[int, ...], ...], curves: tuple[FloatArray, ...], own: FloatArray
) -> Block:
    """All shapes, with the best selection of each: the rows of the highest worth, given the columns."""
    columns = np.meshgrid(*(np.arange(1, curve.shape[1]) for curve in curves), indexing="ij")
    flat = [axis.reshape(-1) for axis in columns]
    worth = np.broadcast_to(own, (len(flat[0]), len(rows))).copy()
    for curve, number in zip(curves, flat, strict=True):
        worth += curve[:, number].T
    best = np.cumsum(-np.sort(-worth, axis=1), axis=1)
    alive = np.tile(np.arange(1, len(rows) + 1), len(flat[0]))
    shapes = np.stack([alive, *(np.repeat(number, len(rows)) for number in flat)], axis=1)
    return Block(rows, cells, shapes.astype(np.int64), best.reshape(-1), curves, own)
