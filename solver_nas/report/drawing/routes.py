"""Which way each connection takes: straight down its lane, and around the end of a column into the next one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from solver_nas.report.drawing.places import LANE
from solver_nas.report.drawing.places import crossing as crossing_at
from solver_nas.report.drawing.text import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.report.drawing.layers import Layers
    from solver_nas.report.drawing.places import Places, Point, Size

_ARROW = 7.0  # pixels, length of an arrow's head
_TURN = 7.0  # pixels, radius of a corner
_CLEAR = 14.0  # pixels between a column and the first lane around it


@dataclass(frozen=True, slots=True)
class Route:
    """A connection.

    Args:
        source: the box that it comes from.
        target: the box that it leads to.
        rows: how many rows it goes down.
        path: its line, in the words of SVG.
        tip: where it ends.
    """

    source: int
    target: int
    rows: int
    path: str
    tip: Point


def routes(made: Layers, where: Places, sizes: Sequence[Size]) -> list[Route]:
    """A route for each slot of each box."""
    arriving = [
        (source, target, entry)
        for (source, target), entry in zip(made.segments, where.entries, strict=True)
        if target < made.boxes
    ]
    row_of, turns = made.row_of, _turns(made, where)
    owner = {node: box for box, lane in made.lanes.items() for node in lane}
    found = []
    for last, target, entry in arriving:
        box = owner.get(last, last)
        lane = made.lanes[box][: row_of[target] - row_of[box] - 1]
        stops = [*((node, 0.0) for node in (box, *lane)), (target, entry)]
        path = _line(stops, made, where, sizes, row_of, turns)
        x, y = where.centres[target]
        tip = (x + entry, y - sizes[target][1] / 2)
        found.append(Route(box, target, row_of[target] - row_of[box], path, tip))
    return sorted(found, key=lambda route: (route.source, route.target, route.tip))


def _turns(made: Layers, where: Places) -> dict[int, tuple[float, float, float]]:
    """Node -> the three lines on which it goes around the end of its column: below, beside, above the next one.

    What stands furthest right turns first, so that nobody crosses anybody.
    """
    found = {}
    for column, cut in enumerate(where.columns[1:-1]):
        nodes = crossing_at(made, cut)
        bottom = where.tops[cut - 1] + where.heights[cut - 1] + _CLEAR
        for depth, node in enumerate(reversed(nodes)):
            aside = where.sides[column][1] + _CLEAR + LANE * depth
            above = where.tops[cut] - _CLEAR - LANE * (len(nodes) - 1 - depth)
            found[node] = (bottom + LANE * depth, aside, above)
    return found


def _line(
    stops: Sequence[tuple[int, float]],
    made: Layers,
    where: Places,
    sizes: Sequence[Size],
    row_of: Mapping[int, int],
    turns: Mapping[int, tuple[float, float, float]],
) -> str:
    x, y = where.centres[stops[0][0]]
    said = [f"M{_point(x, y + sizes[stops[0][0]][1] / 2)}"]
    for (node, _), (below, entry) in pairwise(stops):
        row, next_row = row_of[node], row_of[below]
        start = (where.centres[node][0], where.tops[row] + where.heights[row])
        end = (where.centres[below][0] + entry, where.tops[next_row])
        said.append(f"L{_point(*start)}")
        said.append(_around(start, end, turns[node]) if next_row in where.columns else _bent(start, end))
        if below < made.boxes:
            end = (end[0], where.centres[below][1] - sizes[below][1] / 2 - _ARROW + 1)
        else:
            end = (end[0], where.tops[next_row] + where.heights[next_row])
        said.append(f"L{_point(*end)}")
    return "".join(said)


def _bent(start: Point, end: Point) -> str:
    """A line that leaves and arrives vertically."""
    (x, y), (to_x, to_y) = start, end
    if abs(x - to_x) < 0.5:
        return f"L{_point(to_x, to_y)}"
    to_y -= _ARROW
    middle = (y + to_y) / 2
    return f"C{_point(x, middle)} {_point(to_x, middle)} {_point(to_x, to_y)}"


def _around(start: Point, end: Point, turn: tuple[float, float, float]) -> str:
    """A line around the end of a column, with round corners."""
    below, aside, above = turn
    corners = [start, (start[0], below), (aside, below), (aside, above), (end[0], above), end]
    said = []
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        said.append(f"L{_towards(corner, before)}Q{_point(*corner)} {_towards(corner, after)}")
    return "".join([*said, f"L{_point(*end)}"])


def _towards(corner: Point, other: Point) -> str:
    """The point on the way to another one at which the corner begins."""
    (x, y), (to_x, to_y) = corner, other
    far = abs(to_x - x) + abs(to_y - y)
    part = min(_TURN, far / 2) / far if far else 0.0
    return _point(x + (to_x - x) * part, y + (to_y - y) * part)


def _point(x: float, y: float) -> str:
    return f"{number(x)},{number(y)}"
