"""Linear programs with GLOP."""

from __future__ import annotations

from typing import Any

from ortools.linear_solver import pywraplp  # type: ignore[import-untyped]  # OR-tools ships no types for it

_MOST_ITERATIONS = 50_000  # far more than any program here needs: the simplex method can go round in circles


def linear_solver() -> Any:
    """A new solver that gives up, at the same iteration every time, where it goes round in circles."""
    solver = pywraplp.Solver.CreateSolver("GLOP")
    solver.SetSolverSpecificParametersAsString(f"max_number_of_iterations: {_MOST_ITERATIONS}")
    return solver


def is_solved(solver: Any) -> bool:
    """Find the optimum; whether that went well."""
    return bool(solver.Solve() == pywraplp.Solver.OPTIMAL)
