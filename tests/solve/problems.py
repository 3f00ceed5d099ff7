"""Budget problems that are stored as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solver_nas.solve.parts import Part, whole
from solver_nas.stored import Ask, Cost, pose, read

FOLDER = Path(__file__).parents[1] / "data" / "budgets"
NAMES = tuple(sorted(path.stem.removeprefix("problem_") for path in FOLDER.glob("problem_*.json")))


@dataclass(frozen=True)
class Stored:
    """One of them.

    Args:
        part: what to choose: a bucket for every group.
        total: what everything together is worth.
        document: the file as it is, for those who do not trust the package's reading.
    """

    part: Part
    total: float
    document: dict[str, Any]


def path_of(name: str) -> Path:
    return FOLDER / f"problem_{name}.json"


def load_problem(name: str, cost: str, fraction: float = 0.5, multiple: int = 1) -> Stored:
    """Read one.

    Args:
        name: one of `NAMES`.
        cost: `params` or `macs`.
        fraction: how much of the whole network's cost may stay.
        multiple: every size is a multiple of that.
    """
    document = json.loads(path_of(name).read_text())
    problem = pose(read(path_of(name)), Ask({Cost(cost): fraction}, multiple))
    return Stored(whole(problem), document["total_utility"], document)
