"""How good and how fast the stored budget problems are solved: `python -m tests.benchmarks.problems`."""

from __future__ import annotations

import time

from solver_nas.solve import GAP
from solver_nas.solve.exact import solve_counts
from solver_nas.solve.solution import kept_utility
from tests.solve.problems import NAMES, load_problem

_TIME_LIMIT = 20.0


def main() -> None:
    """Print a row for every problem: fractions of the whole utility, and seconds."""
    print("problem             cost    mult  status       kept    bound    gap     time")
    for name in NAMES:
        for cost in ("params", "macs"):
            for multiple in (1, 8):
                stored = load_problem(name, cost, multiple=multiple)
                start = time.perf_counter()
                found = solve_counts(stored.part, start + _TIME_LIMIT, 0, GAP)
                seconds = time.perf_counter() - start
                kept = kept_utility(stored.part.buckets, found.kept)
                bound = kept + found.slack
                print(
                    f"{name:<19} {cost:<7} {multiple:>4}  {found.status.value:<9} {kept / stored.total:.5f}  "
                    f"{bound / stored.total:.5f}  {found.slack / bound:.1e} {seconds:6.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
