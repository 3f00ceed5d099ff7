"""Which box stands in which row and in which order: few crossings, long connections in lanes of their own.

Source: Sugiyama, Tagawa and Toda 1981, "Methods for visual understanding of hierarchical system structures"; ours
gives all connections that leave one box a common lane, since they carry the same tensor.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SWEEPS = 24  # over all rows, down and up in turn; graphviz needs as many
_SWAPS = 4  # rounds of exchanging neighbours afterwards


@dataclass(frozen=True, slots=True)
class Layers:
    """Boxes and lanes in rows.

    Nodes below `boxes` are boxes; the others are the places at which a lane passes a row.

    Args:
        boxes: how many there are.
        rows: the nodes from left to right, the rows from top to bottom.
        segments: pairs of nodes in neighbouring rows that are connected, a pair for each slot that reads it.
        lanes: the nodes between a box and those that read it further down, from the next row on.
    """

    boxes: int
    rows: tuple[tuple[int, ...], ...]
    segments: tuple[tuple[int, int], ...]
    lanes: Mapping[int, tuple[int, ...]]

    @property
    def row_of(self) -> dict[int, int]:
        """Node -> its row."""
        return {node: place for place, row in enumerate(self.rows) for node in row}


def layers(inputs: Sequence[Sequence[int]]) -> Layers:
    """Put boxes in rows, each below what it reads.

    Args:
        inputs: the boxes that each box reads, by slot; producers have lower numbers.
    """
    ranks = _ranks(inputs)
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for node, rank in enumerate(ranks):
        rows[rank].append(node)
    last = list(ranks)
    for node, sources in enumerate(inputs):
        for source in sources:
            last[source] = max(last[source], ranks[node] - 1)
    lanes: dict[int, tuple[int, ...]] = {}
    segments, free = list[tuple[int, int]](), len(inputs)
    for node, rank in enumerate(ranks):
        lane = tuple(range(free, free + last[node] - rank))
        free += len(lane)
        lanes[node] = lane
        for step, passed in enumerate(lane):
            rows[rank + 1 + step].append(passed)
        segments += zip((node, *lane), lane, strict=False)
    for node, sources in enumerate(inputs):
        segments += [((source, *lanes[source])[ranks[node] - 1 - ranks[source]], node) for source in sources]
    return Layers(len(inputs), _ordered(rows, segments), tuple(segments), lanes)


def _ranks(inputs: Sequence[Sequence[int]]) -> list[int]:
    """As high as possible, except for those that are nearer to their readers further down."""
    readers: list[set[int]] = [set() for _ in inputs]
    ranks = [0] * len(inputs)
    for node, sources in enumerate(inputs):
        ranks[node] = max((ranks[source] + 1 for source in sources), default=0)
        for source in sources:
            readers[source].add(node)
    for node in reversed(range(len(inputs))):
        # A lane is shared by all readers, so that moving down saves one row of it.
        if readers[node] and len(set(inputs[node])) < 1:
            ranks[node] = min(ranks[reader] for reader in readers[node]) - 1
    return ranks


def _ordered(rows: list[list[int]], segments: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    above, below = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    for source, target in segments:
        above[target].append(source)
        below[source].append(target)
    rows = [list(row) for row in _as_met(rows, below)]
    best, fewest = [list(row) for row in rows], _all_crossings(rows, below)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for place in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            near = rows[place - 1 if down else place + 1]
            rows[place] = _by_neighbours(rows[place], near, above if down else below)
        crossings = _all_crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    for _ in range(_SWAPS):
        if not _swap(best, above, below):
            break
    return tuple(tuple(row) for row in best)


def _as_met(rows: list[list[int]], below: Mapping[int, list[int]]) -> list[list[int]]:
    """Rows in the order in which a walk from the top meets their nodes: branches stay side by side."""
    met: dict[int, None] = {}
    for row in rows:
        for start in row:
            waiting = [start]
            while waiting:
                node = waiting.pop()
                if node not in met:
                    met[node] = None
                    waiting += reversed(below.get(node, []))
    order = {node: place for place, node in enumerate(met)}
    return [sorted(row, key=order.__getitem__) for row in rows]


def _by_neighbours(row: list[int], near: Sequence[int], links: Mapping[int, list[int]]) -> list[int]:
    """The row by the mean place of what each node is connected with; nodes without any stay where they are."""
    place = {node: float(position) for position, node in enumerate(near)}
    means = {}
    for node in row:
        found = [place[other] for other in links.get(node, ())]
        if found:
            means[node] = sum(found) / len(found)
    moving = iter(sorted(means, key=means.__getitem__))
    return [next(moving) if node in means else node for node in row]


def _all_crossings(rows: Sequence[Sequence[int]], below: Mapping[int, list[int]]) -> int:
    return sum(_crossings(upper, lower, below) for upper, lower in pairwise(rows))


def _crossings(upper: Sequence[int], lower: Sequence[int], below: Mapping[int, list[int]]) -> int:
    """How many pairs of segments between two rows cross."""
    place = {node: position for position, node in enumerate(lower)}
    passed: list[int] = []
    count = 0
    for node in upper:
        targets = [place[other] for other in below.get(node, ())]
        count += sum(len(passed) - bisect_right(passed, target) for target in targets)
        for target in targets:
            insort(passed, target)
    return count


def _swap(rows: list[list[int]], above: Mapping[int, list[int]], below: Mapping[int, list[int]]) -> bool:
    """Exchange neighbours wherever that saves crossings; whether it did anywhere."""
    saved = False
    for number, row in enumerate(rows):
        before = {node: place for place, node in enumerate(rows[number - 1])} if number else {}
        after = {node: place for place, node in enumerate(rows[number + 1])} if number + 1 < len(rows) else {}
        for place in range(len(row) - 1):
            left, right = row[place], row[place + 1]
            gain = 0
            for links, places in ((above, before), (below, after)):
                ours = [places[other] for other in links.get(left, ())]
                theirs = [places[other] for other in links.get(right, ())]
                gain += sum((one > other) - (one < other) for one in ours for other in theirs)
            if gain > 0:
                row[place], row[place + 1] = right, left
                saved = True
    return saved
