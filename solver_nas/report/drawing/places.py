"""Where the nodes of each row stand: as straight below each other as the room allows, in columns like a newspaper's.

Source: Gansner, Koutsofios, North and Vo 1993, "A technique for drawing directed graphs", section 4: the places
minimise the weighted sum of all sideways steps, which is a linear program; ours is solved column by column.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.report.drawing.layers import Layers

LANE = 8.0  # pixels that a lane takes
_BESIDE, _BELOW = 18.0, 26.0  # pixels between boxes, and between rows at least
_STEEP = 0.12  # pixels between rows for each pixel sideways: flat lines cannot be told apart
_DEEPEST = 90.0  # pixels between rows at most
_SPREAD = 14.0  # pixels between two arrows into one box
_GUTTER = 46.0  # pixels between columns besides the lanes there
_TALL = 1500.0  # pixels; what is not taller stays one column
_ASPECT = 1.7  # width by height of the whole picture, as screens have it
_STRAIGHT = (1.0, 2.0, 8.0)  # weight of a segment by how many of its ends are lanes, as in section 4 of the source
_NARROW = 0.01  # weight of the width of a row

Size = tuple[float, float]
Point = tuple[float, float]
Segment = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is, in pixels.

    Args:
        centres: the middle of each node.
        tops: the upper edge of each row.
        heights: of each row.
        columns: the first row of each column, and the number of rows at the end.
        sides: left and right end of each column.
        entries: how far from the middle of its target each segment ends.
        size: of everything.
    """

    centres: Mapping[int, Point]
    tops: tuple[float, ...]
    heights: tuple[float, ...]
    columns: tuple[int, ...]
    sides: tuple[tuple[float, float], ...]
    entries: tuple[float, ...]
    size: Size


def places(made: Layers, sizes: Sequence[Size]) -> Places:
    """Find a place for every node.

    Args:
        made: the rows.
        sizes: width and height of each box.
    """
    heights = [max((sizes[node][1] for node in row if node < made.boxes), default=0.0) for row in made.rows]
    widths = _widths(made, sizes)
    columns = _columns(made, heights, widths)
    entries = _entries(made, sizes)
    across = np.zeros(len(widths))
    for first, end in pairwise(columns):
        inside = [node for row in made.rows[first:end] for node in row]
        across[inside] = _straightened(made, range(first, end), widths, entries)
    through = [len(crossing(made, cut)) for cut in columns[1:-1]]
    gaps = _gaps(made, across, entries)
    tops = _tops(heights, gaps, columns, LANE * max(through, default=0))
    sides = _side_by_side(made, columns, across, widths, through)
    centres = {
        node: (float(across[node]), top + height / 2)
        for row, top, height in zip(made.rows, tops, heights, strict=True)
        for node in row
    }
    bottom = max(tops[end - 1] + heights[end - 1] for end in columns[1:])
    size = (sides[-1][1], bottom + LANE * max(through, default=0))
    return Places(centres, tuple(tops), tuple(heights), tuple(columns), tuple(sides), tuple(entries), size)


def crossing(made: Layers, cut: int) -> list[int]:
    """The nodes of the row above `cut` from which something leads below it, from left to right."""
    sources = {source for source, _ in made.segments}
    return [node for node in made.rows[cut - 1] if node in sources]


def _widths(made: Layers, sizes: Sequence[Size]) -> list[float]:
    nodes = sum(map(len, made.rows))
    return [*(width for width, _ in sizes), *[LANE] * (nodes - made.boxes)]


def _columns(made: Layers, heights: Sequence[float], widths: Sequence[float]) -> list[int]:
    """Cut the rows into columns of about the same height where few connections are cut."""
    lower = np.cumsum([height + 1.5 * _BELOW for height in heights])
    total = float(lower[-1])
    typical = float(np.quantile([sum(widths[node] + _BESIDE for node in row) for row in made.rows], 0.85))
    wanted = max(1, round(sqrt(_ASPECT * total / (typical + _GUTTER)))) if total > _TALL else 1
    cuts = [0]
    for number in range(1, wanted):
        ideal = total * number / wanted
        near = [
            (len(crossing(made, cut)), abs(float(lower[cut - 1]) - ideal), cut)
            for cut in range(cuts[-1] + 1, len(heights))
            if abs(float(lower[cut - 1]) - ideal) < 0.15 * total / wanted
        ]
        if near:
            cuts.append(min(near)[2])
    return [*cuts, len(heights)]


def _entries(made: Layers, sizes: Sequence[Size]) -> list[float]:
    """Arrows into one box stand beside each other, in the order of where they come from."""
    place = {node: position for row in made.rows for position, node in enumerate(row)}
    arriving: dict[int, list[int]] = {}
    for number, (_, target) in enumerate(made.segments):
        arriving.setdefault(target, []).append(number)
    entries = [0.0] * len(made.segments)
    for target, numbers in arriving.items():
        if target < made.boxes and len(numbers) > 1:
            numbers.sort(key=lambda number: place[made.segments[number][0]])
            step = min(_SPREAD, (sizes[target][0] - 30) / (len(numbers) - 1))
            for order, number in enumerate(numbers):
                entries[number] = (order - (len(numbers) - 1) / 2) * step
    return entries


def _straightened(made: Layers, rows: range, widths: Sequence[float], entries: Sequence[float]) -> NDArray[np.float64]:
    """Places across for the nodes of some rows, row by row."""
    nodes = [node for row in rows for node in made.rows[row]]
    number = {node: place for place, node in enumerate(nodes)}
    inside = [
        (number[source], number[target], entry, _STRAIGHT[(source >= made.boxes) + (target >= made.boxes)])
        for (source, target), entry in zip(made.segments, entries, strict=True)
        if source in number and target in number
    ]
    beside = [(number[a], number[b]) for row in rows for a, b in zip(made.rows[row], made.rows[row][1:], strict=False)]
    apart = [_apart(made, nodes[a], nodes[b], widths) for a, b in beside]
    return _least_steps(len(nodes), inside, beside, apart)


def _apart(made: Layers, left: int, right: int, widths: Sequence[float]) -> float:
    lanes = (left >= made.boxes) + (right >= made.boxes)
    return (widths[left] + widths[right]) / 2 + _BESIDE / (1 + lanes)


def _least_steps(
    nodes: int, links: Sequence[tuple[int, int, float, float]], beside: Sequence[Segment], apart: Sequence[float]
) -> NDArray[np.float64]:
    """Minimise sum(weight * |x[target] + entry - x[source]|) where neighbours keep their distance."""
    steps, pairs = len(links), len(beside)
    source, target = (np.array([link[end] for link in links], dtype=np.intp) for end in (0, 1))
    entry, weight = (np.array([link[part] for link in links], dtype=float) for part in (2, 3))
    left, right = (np.array([pair[end] for pair in beside], dtype=np.intp) for end in (0, 1))
    step = np.arange(steps)
    # Each row of the matrix has the same three columns twice, with opposite signs, and then the distances.
    row = np.concatenate([step, step, step, step + steps, step + steps, step + steps])
    column = np.concatenate([target, source, step + nodes] * 2)
    sign = np.repeat([1.0, -1.0, -1.0, -1.0, 1.0, -1.0], steps)
    gap = np.arange(pairs) + 2 * steps
    matrix = coo_array(
        (
            np.concatenate([sign, np.ones(pairs), -np.ones(pairs)]),
            (np.concatenate([row, gap, gap]), np.concatenate([column, left, right])),
        ),
        shape=(2 * steps + pairs, nodes + steps),
    )
    cost = np.concatenate([np.full(nodes, _NARROW**2), weight])
    np.add.at(cost, right, _NARROW)
    np.add.at(cost, left, -_NARROW)
    # No row may get narrower for being far to the left, hence the plain sum with a weight that only breaks ties.
    bound = np.concatenate([-entry, entry, -np.array(apart, dtype=float)])
    # Its documentation allows for sparse matrices, its stubs do not yet.
    found = linprog(cost, A_ub=matrix.tocsr(), b_ub=bound, bounds=(0, None), method="highs")  # type: ignore[call-overload]
    assert found.x is not None, found.message
    places: NDArray[np.float64] = np.round(found.x[:nodes], 2)
    return places


def _gaps(made: Layers, across: NDArray[np.float64], entries: Sequence[float]) -> list[float]:
    """How much room each row needs below it so that its connections are not too flat."""
    row_of = made.row_of
    aside = [0.0] * len(made.rows)
    for (source, target), entry in zip(made.segments, entries, strict=True):
        row = row_of[source]
        aside[row] = max(aside[row], abs(float(across[target] - across[source]) + entry))
    return [min(_BELOW + _STEEP * far, _DEEPEST) for far in aside]


def _tops(heights: Sequence[float], gaps: Sequence[float], columns: Sequence[int], start: float) -> list[float]:
    tops = []
    y = start
    for row, height in enumerate(heights):
        if row in columns:
            y = start + (_BELOW if start else 0.0)
        tops.append(y)
        y += height + gaps[row]
    return tops


def _side_by_side(
    made: Layers,
    columns: Sequence[int],
    across: NDArray[np.float64],
    widths: Sequence[float],
    through: Sequence[int],
) -> list[tuple[float, float]]:
    """Shift the columns to the right of each other; their left and right ends."""
    half = np.array(widths) / 2
    sides: list[tuple[float, float]] = []
    x = 0.0
    for number, (first, end) in enumerate(pairwise(columns)):
        inside = np.array([node for row in made.rows[first:end] for node in row], dtype=np.intp)
        left, right = float((across - half)[inside].min()), float((across + half)[inside].max())
        across[inside] += x - left
        sides.append((x, x + right - left))
        x = sides[-1][1] + _GUTTER + LANE * (through[number] if number < len(through) else 0)
    return sides
