"""Stored budget problems: known optima, and points that others have reached."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from solver_nas.solve.check import holds
from solver_nas.solve.exact import solve_counts
from solver_nas.solve.solution import Counts, Status, kept_utility
from tests.solve.problems import NAMES, Stored, load_problem

#: Kept utility as a fraction, to four digits: of the small ones the optimum, of the others the best that was known.
KNOWN = {
    ("vgg_small_default", "params"): 0.8691,
    ("vgg_small_default", "macs"): 0.8772,
    ("vgg_small_gains", "params"): 0.9011,
    ("vgg_small_gains", "macs"): 0.9114,
    ("resnet50_default", "params"): 0.8904,
    ("resnet50_default", "macs"): 0.9147,
    # Known with every width at least a tenth, to three digits.
    ("mobilenet_v2_gains", "params"): 0.9135,
    ("mobilenet_v2_gains", "macs"): 0.9125,
}
SMALL = [key for key in KNOWN if key[0].startswith("vgg")]
GAP = 1e-3


def solve(stored: Stored, gap: float) -> Counts:
    found = solve_counts(stored.part, time.perf_counter() + 60.0, 0, gap)
    assert holds(stored.part, found.kept, found.new)
    return found


def amount(document: dict[str, Any], cost: str, widths: list[Any]) -> Any:
    """A network's cost by the file's own rules; widths may be arrays."""
    total: Any = 0
    for term in document["cost_terms"]:
        outputs = term["oc"] if term["og"] is None else widths[term["og"]]
        inputs = term["ic"] if term["ig"] is None else term["imul"] * widths[term["ig"]]
        total = total + outputs * inputs * term["area"] * (1 if cost == "params" else term["pos"])
        if cost == "params" and term["bias"]:
            total = total + outputs
    if cost == "params":
        total = total + sum(2 * widths[group] for group in document["batchnorm_groups"].values())
    return total


def test_every_file_is_asked_about() -> None:
    assert {name for name, _ in KNOWN} == set(NAMES)


@pytest.mark.parametrize(("name", "cost"), KNOWN)
def test_files_add_up(name: str, cost: str) -> None:
    document = load_problem(name, cost).document
    assert amount(document, cost, [group["size"] for group in document["groups"]]) == document[f"{cost}0"]


@pytest.mark.parametrize(("name", "cost"), SMALL)
def test_known_optima_are_reached_and_proven(name: str, cost: str) -> None:
    stored = load_problem(name, cost)
    found = solve(stored, 0.0)
    assert found.status is Status.OPTIMAL
    kept = kept_utility(stored.part.buckets, found.kept)
    assert round(kept / stored.total, 4) == KNOWN[name, cost]
    best, widths = try_everything(stored, cost)
    assert kept == pytest.approx(best, rel=1e-12)
    assert found.kept == widths


def try_everything(stored: Stored, cost: str) -> tuple[float, tuple[int, ...]]:
    """The best of all widths, and these: plane by plane of the last two groups."""
    document = stored.document
    values = [np.cumsum(np.sort(group["utility"])[::-1]) for group in document["groups"]]
    limit = document[f"{cost}0"] // 2
    axes = np.meshgrid(*(np.arange(1, len(value) + 1) for value in values[1:]), indexing="ij")
    rest = sum(value[axis - 1] for value, axis in zip(values[1:], axes, strict=True))
    best, found = -np.inf, tuple[int, ...]()
    for first in range(1, len(values[0]) + 1):
        worth = np.where(amount(document, cost, [first, *axes]) <= limit, values[0][first - 1] + rest, -np.inf)
        if worth.max() > best:
            at = int(worth.argmax())
            best, found = float(worth.max()), (first, *(int(axis.reshape(-1)[at]) for axis in axes))
    return best, found


@pytest.mark.parametrize(("name", "cost"), [key for key in KNOWN if key not in SMALL])
def test_what_others_reached_is_reached(name: str, cost: str) -> None:
    stored = load_problem(name, cost)
    found = solve(stored, GAP)
    kept = kept_utility(stored.part.buckets, found.kept)
    assert kept / stored.total >= KNOWN[name, cost]
    assert found.slack <= GAP * (kept + found.slack)
    assert amount(stored.document, cost, list(found.kept)) <= stored.document[f"{cost}0"] // 2


@pytest.mark.parametrize(("name", "cost"), KNOWN)
def test_multiples_are_proven_as_well(name: str, cost: str) -> None:
    stored = load_problem(name, cost, multiple=8)
    found = solve(stored, GAP)
    assert all(count % 8 == 0 and count for count in found.kept)
    kept = kept_utility(stored.part.buckets, found.kept)
    assert found.slack <= GAP * (kept + found.slack)
