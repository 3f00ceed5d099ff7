"""How good and how fast pruning under a budget is: `python -m tests.benchmarks.budgets`.

Well-known architectures are shrunk to a fraction of their multiplications or parameters, with and without sizes in
multiples of 8. Baselines, for the same utility and budget:

- uniform: every layer keeps the same fraction of its neurons, the largest one that fits;
- greedy: the neurons of the whole network are ranked, and those below a threshold go, the lowest one that fits; the
  better of two rankings, by a class's sum of utilities and by its mean over the layers that it stands in.

Both keep the best neurons of each layer, round down to multiples, and leave heads and groups whole where the engine
may take them. Fractions are of the utility of everything that may change.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.asking import Ask
from solver_nas.limits import freeze, macs, multiple_of, now, params
from solver_nas.posing import pose
from solver_nas.solve import certify, solve
from solver_nas.solve.check import holds
from solver_nas.solve.parts import whole
from solver_nas.solve.solution import kept_utility
from tests.benchmarks.architectures import ARCHITECTURES, utility

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solver_nas.problem import Problem
    from solver_nas.solve.parts import Part

BUDGETS = (("macs", 0.75), ("macs", 0.5), ("macs", 0.25), ("params", 0.5))
_STEPS = 40  # of the bisection for a baseline


@dataclass(frozen=True)
class Row:
    """One problem and its answers; utilities are fractions."""

    architecture: str
    width: float
    cost: str
    budget: float
    multiple: int
    status: str
    kept: float
    bound: float
    gap: float
    method: str
    seconds: float
    uniform: float | None
    greedy: float | None

    @property
    def worse(self) -> bool:
        """Whether a baseline keeps more."""
        return max(self.uniform or 0.0, self.greedy or 0.0) > self.kept


def run(architecture: str, width: float, cost: str, budget: float, multiple: int, time_limit: float) -> Row:
    """Solve one problem."""
    net = ARCHITECTURES[architecture].build(width, weights="zeros")
    worth = utility(net)
    amount = macs(net) if cost == "macs" else params(net)
    limits = [amount <= budget * now, freeze(list(net.outputs))]
    limits += [multiple_of(multiple)] if multiple > 1 else []
    start = time.perf_counter()
    ask = Ask(net, free=tuple(net), limits=limits, insert=False)
    problem = pose(ask.labels, [], ask.worth(worth), everywhere=ask.free, insert=False, limits=ask.limits)
    counts = solve(problem, time_limit=time_limit)
    seconds = time.perf_counter() - start
    if not counts.kept:
        return Row(
            architecture, width, cost, budget, multiple, counts.status.value, 0, 1, 1, "", seconds, *_baselines(problem)
        )
    certificate = certify(problem, counts, {})
    total = kept_utility(problem.buckets, [len(b.classes) for b in problem.buckets]) + problem.utility_elsewhere
    return Row(
        architecture,
        width,
        cost,
        budget,
        multiple,
        counts.status.value,
        certificate.objective / total,
        certificate.bound / total,
        certificate.gap,
        certificate.method,
        seconds,
        *_baselines(problem),
    )


def _baselines(problem: Problem) -> tuple[float | None, float | None]:
    part = whole(problem)
    total = kept_utility(part.buckets, [len(b.classes) for b in part.buckets]) + problem.utility_elsewhere

    def fraction(counts: Sequence[int] | None) -> float | None:
        return None if counts is None else (kept_utility(part.buckets, counts) + problem.utility_elsewhere) / total

    rankings = [fraction(_largest(part, partial(_above, part, ranking))) for ranking in ("sum", "mean")]
    known = [one for one in rankings if one is not None]
    return fraction(_largest(part, partial(_uniform, part))), max(known, default=None)


def _largest(part: Part, at: Callable[[float], list[int]]) -> list[int] | None:
    """The counts of the largest position in [0, 1] that keep everything, found by bisection."""
    low, high, best = 0.0, 1.0, None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        counts = at(middle)
        if holds(part, counts, []):
            low, best = middle, counts
        else:
            high = middle
    return best


def _steps(part: Part) -> dict[int, int]:
    """Bucket -> the number that its count has to be a multiple of."""
    found: dict[int, int] = {}
    for grid in part.grids:
        for bucket in grid.size.keep:
            often = grid.size.keep[bucket] * len(grid.size.keep)
            found[bucket] = max(grid.step // int(np.gcd(grid.step, often)), 1)
    return found


def _rounded(part: Part, counts: list[int]) -> list[int]:
    steps = _steps(part)
    return [
        max(count // steps.get(place, 1) * steps.get(place, 1), min(steps.get(place, 1), len(bucket.classes)))
        for place, (count, bucket) in enumerate(zip(counts, part.buckets, strict=True))
    ]


def _uniform(part: Part, fraction: float) -> list[int]:
    return _rounded(part, [max(int(fraction * len(bucket.classes)), 1) for bucket in part.buckets])


def _above(part: Part, ranking: str, position: float) -> list[int]:
    """What is above a threshold; rectangles keep their rows and, in each, as many columns as in the mean."""
    weights = [1.0 if ranking == "sum" else 1.0 / max(bucket.neurons, 1) for bucket in part.buckets]
    every = np.concatenate([bucket.utilities * w for bucket, w in zip(part.buckets, weights, strict=True)])
    threshold = np.quantile(every, 1.0 - position)
    counts = [
        max(int((bucket.utilities * w >= threshold).sum()), 1) for bucket, w in zip(part.buckets, weights, strict=True)
    ]
    for rectangle in part.rectangles:
        inside = [bucket for cells in rectangle.cells for bucket in cells.keep]
        if len(inside) == len(rectangle.cells):
            columns = max(int(np.mean([counts[bucket] for bucket in inside])), 1)
            for bucket in inside:
                counts[bucket] = min(columns, len(part.buckets[bucket].classes))
    return _rounded(part, counts)


def _show(row: Row) -> str:
    def number(value: float | None) -> str:
        return "      -" if value is None else f"{value:.5f}"

    flag = "  BASELINE BETTER" if row.worse else ""
    return (
        f"{row.architecture:<14} x{row.width:<5g} {row.cost:<6} {row.budget:<5g} {row.multiple:>2}  {row.status:<9} "
        f"{row.kept:.5f}  {row.bound:.5f}  {row.gap:.1e}  {row.seconds:6.2f} s  {number(row.uniform)}  "
        f"{number(row.greedy)}  {row.method}{flag}"
    )


def main() -> None:
    """Print a row for every problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", default=list(ARCHITECTURES))
    parser.add_argument("--width", type=float, action="append", help="multiplies all widths; may be repeated")
    parser.add_argument("--half", action="store_true", help="only half of the multiplications, not all budgets")
    parser.add_argument("--time-limit", type=float, default=20.0, help="seconds for each problem")
    parser.add_argument("--json", action="store_true", help="one object per line")
    options = parser.parse_args()
    if not options.json:
        print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}")
        print("architecture   width  cost budget mult status      kept    bound    gap      time   uniform   greedy")
    for architecture in options.architectures:
        for width in options.width or [1.0]:
            for cost, budget in BUDGETS[1:2] if options.half else BUDGETS:
                for multiple in (1, 8):
                    row = run(architecture, width, cost, budget, multiple, options.time_limit)
                    print(json.dumps(asdict(row)) if options.json else _show(row), flush=True)


if __name__ == "__main__":
    main()
