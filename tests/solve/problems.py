"""Budget problems that are stored as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from solver_nas.bounds import Bound
from solver_nas.problem import Bucket, Budget, Count, Grid, Monomial
from solver_nas.solve.parts import Part

FOLDER = Path(__file__).parents[1] / "data" / "budgets"
NAMES = tuple(sorted(path.stem.removeprefix("problem_") for path in FOLDER.glob("problem_*.json")))


@dataclass(frozen=True)
class Stored:
    """One of them.

    Args:
        part: what to choose: a bucket for every group.
        total: what everything together is worth.
        document: the file.
    """

    part: Part
    total: float
    document: dict[str, Any]


def load_problem(name: str, cost: str, fraction: float = 0.5, multiple: int = 1) -> Stored:
    """Read one.

    Args:
        name: one of `NAMES`.
        cost: `params` or `macs`.
        fraction: how much of the whole network's cost may stay.
        multiple: every size is a multiple of that.
    """
    document = json.loads((FOLDER / f"problem_{name}.json").read_text())
    groups = document["groups"]
    buckets = []
    for group in groups:
        utility = np.array(group["utility"])
        order = np.argsort(-utility, kind="stable")
        buckets.append(Bucket(order, utility[order], len(group["members"]), -1))
    high = Fraction(int(fraction * document[f"{cost}0"]))
    budget = Budget(
        tuple(_terms(document, cost)), (), Fraction(0), None, high, Bound(f"{cost} <= {high}", (), None, high)
    )
    sizes = tuple(Count(0, {group: 1}, {}) for group in range(len(groups)))
    grids = tuple(Grid(size, multiple, frozenset()) for size in sizes) if multiple > 1 else ()
    numbers = tuple(range(len(groups)))
    part = Part(tuple(buckets), 0, (), sizes, (), (), (), (), None, (budget,), grids, (), numbers, ())
    return Stored(part, document["total_utility"], document)


def _terms(document: dict[str, Any], cost: str) -> list[Monomial]:
    found = []
    for term in document["cost_terms"]:
        outputs = _size(term["og"], term["oc"], 1)
        inputs = _size(term["ig"], term["ic"], term["imul"])
        positions = 1 if cost == "params" else term["pos"]
        found.append(Monomial(Fraction(term["area"] * positions), (outputs, inputs)))
        if cost == "params" and term["bias"]:
            found.append(Monomial(Fraction(1), (outputs,)))
    if cost == "params":
        found += [Monomial(Fraction(2), (_size(group, 0, 1),)) for group in document["batchnorm_groups"].values()]
    return found


def _size(group: int | None, constant: int, times: int) -> Count:
    return Count(constant, {}, {}) if group is None else Count(0, {group: times}, {})
