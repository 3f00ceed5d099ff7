"""A residual stage as a program with variables for every single neuron, solved by HiGHS; prints JSON.

The stage is that of a ResNet: bottleneck blocks of two inner layers and one outer layer, whose outputs are all
summed up one after the other. Per neuron there are a binary (kept), an integer (new ones after it) and a binary
(new ones may stand here: only at as many places as neurons go, so that no gap arises). Sums tie kept and new
position by position. The objective is the utility kept, less something for every size that moves (sum and
maximum of all), less a little for new neurons that do not stand at the end. Source: the published formulation of
the reference's neuron selection (NaiveNASlib), written down independently for `scipy.optimize.milp`.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

if TYPE_CHECKING:
    from collections.abc import Sequence


class Program:
    """Collects variables and rows."""

    def __init__(self) -> None:
        """Start empty."""
        self.low: list[float] = []
        self.high: list[float] = []
        self.whole: list[int] = []
        self.cost: list[float] = []
        self.entries: list[tuple[int, int, float]] = []
        self.bounds: list[tuple[float, float]] = []

    def variables(self, count: int, high: float, cost: np.ndarray | float, *, whole: bool) -> np.ndarray:
        """Add variables between 0 and `high`; their numbers."""
        first = len(self.low)
        self.low += [0.0] * count
        self.high += [high] * count
        self.whole += [int(whole)] * count
        self.cost += list(np.broadcast_to(cost, count))
        return np.arange(first, first + count)

    def row(self, terms: Sequence[tuple[int, float]], low: float, high: float) -> None:
        """Add `low <= sum of terms <= high`."""
        self.entries += [(len(self.bounds), variable, factor) for variable, factor in terms]
        self.bounds.append((low, high))

    def solve(self, seconds: float) -> tuple[np.ndarray | None, str]:
        """Let HiGHS minimise the cost."""
        rows, columns, values = map(np.array, zip(*self.entries, strict=True))
        matrix = coo_array((values, (rows, columns)), shape=(len(self.bounds), len(self.low))).tocsr()
        low, high = map(np.array, zip(*self.bounds, strict=True))
        done = milp(
            np.array(self.cost),
            constraints=LinearConstraint(matrix, low, high),
            bounds=Bounds(np.array(self.low), np.array(self.high)),
            integrality=np.array(self.whole),
            options={"time_limit": seconds},
        )
        return done.x, str(done.message).split(".")[0]


def stage(blocks: int, inner: int, outer: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Widths of all vertices of a stage, and the pairs of them that are tied; the last one is the last sum."""
    widths, ties, last = [outer], [], 0
    for _ in range(blocks):
        widths += [inner, inner, outer, outer]
        added = len(widths) - 1
        ties += [(last, added), (added - 1, added)]
        last = added
    return widths, ties


def main() -> None:
    """Pose and solve; `blocks inner outer delta seconds` on the command line."""
    blocks, inner, outer, delta = map(int, sys.argv[1:5])
    limit = float(sys.argv[5])
    widths, ties = stage(blocks, inner, outer)
    rng = np.random.default_rng(0)
    utility = [rng.random(width) for width in widths]
    start = time.perf_counter()
    program, kept, new = Program(), [], []
    furthest = program.variables(1, np.inf, 0.8, whole=False)[0]
    for vertex, (width, worth) in enumerate(zip(widths, utility, strict=True)):
        order = np.arange(width, 0, -1)
        kept.append(program.variables(width, 1, -worth, whole=True))
        new.append(program.variables(width, 10 * width, 0.1 * worth.min() / order.sum() * order, whole=True))
        place = program.variables(width, 1, 0.0, whole=True)
        distance = program.variables(1, np.inf, 0.1, whole=False)[0]
        size = [(int(v), 1.0) for v in (*kept[-1], *new[-1])]
        scaled = [(v, float(worth.max()) * factor) for v, factor in size]
        goal = float(worth.max()) * width
        program.row([*scaled, (distance, -1.0)], -np.inf, goal)
        program.row([*scaled, (distance, 1.0)], goal, np.inf)
        program.row([(furthest, 1.0), (distance, -1.0)], 0, np.inf)
        program.row([(int(v), 1.0) for v in new[-1]], 0, 10 * width)
        program.row([(int(v), 1.0) for v in (*kept[-1], *place)], width, np.inf)
        for n, p in zip(new[-1], place, strict=True):
            program.row([(int(n), 1.0), (int(p), -20.0 * width)], -np.inf, 0)
        for before, after in pairwise(place):
            program.row([(int(after), 1.0), (int(before), -1.0)], -np.inf, 0)
        wanted = width + delta if vertex == len(widths) - 1 else None
        program.row(size, *(1, np.inf) if wanted is None else (wanted, wanted))
    for one, other in ties:
        for group in (kept, new):
            for left, right in zip(group[one], group[other], strict=True):
                program.row([(int(left), 1.0), (int(right), -1.0)], 0, 0)
    found, message = program.solve(limit)
    seconds = time.perf_counter() - start
    worth_kept = None
    if found is not None:
        worth_kept = float(sum(u @ np.round(found[k]) for u, k in zip(utility, kept, strict=True)))
    print(json.dumps({"neurons": sum(widths), "seconds": seconds, "objective": worth_kept, "status": message}))


if __name__ == "__main__":
    main()
