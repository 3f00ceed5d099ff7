"""What is posed is what the file says: against trying all sizes, with costs by the file's own rules."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from solver_nas.errors import RequestError, TimeLimitError
from solver_nas.solve import Counts, Status, solve
from solver_nas.stored import Ask, Cost, amount, answer, answering, conflicts, parse, pose
from tests.stored.problems import built, drawn, encoded, small


def costs(document: dict[str, Any], sizes: tuple[int, ...]) -> tuple[int, int]:
    params = macs = 0
    for term in document["cost_terms"]:
        outputs = term["oc"] if term["og"] is None else sizes[term["og"]]
        inputs = term["ic"] if term["ig"] is None else term["imul"] * sizes[term["ig"]]
        params += outputs * inputs * term["area"] + outputs * term["bias"]
        macs += outputs * inputs * term["area"] * term["pos"]
    return params + sum(2 * sizes[group] for group in document["batchnorm_groups"].values()), macs


@pytest.mark.parametrize("seed", range(60))
def test_answers_are_the_best_of_all_sizes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = drawn(rng)
    document = parse(encoded(raw))
    limits = [float(rng.uniform(0.05, 1.0)), float(rng.uniform(1.5, 1.2 * raw["macs0"]))]
    multiple = int(rng.integers(1, 3))
    ask = Ask(dict(zip(Cost, limits, strict=True)), multiple)
    highs = [int(limits[0] * raw["params0"]), int(limits[1]) if limits[1] > 1 else 0]
    utilities = [sorted(group["utility"], reverse=True) for group in raw["groups"]]
    steps = [range(multiple, len(utility) + 1, multiple) for utility in utilities]
    fitting = [sizes for sizes in product(*steps) if all(map(int.__le__, costs(raw, sizes), highs))]
    found = answer(document, ask, gap=0.0)
    for sizes in fitting:
        assert tuple(amount(document, cost, sizes) for cost in Cost) == costs(raw, sizes)
    # The engine, which is not asked where conflicts are known, says the same.
    assert (solve(pose(document, ask), gap=0.0).status is Status.INFEASIBLE) is (not fitting)
    assert bool(conflicts(document, ask)) is (found.status is Status.INFEASIBLE) is (not fitting)
    if not fitting:
        assert found.fractions is None
        return
    best = max(sum(sum(utility[:size]) for utility, size in zip(utilities, sizes, strict=True)) for sizes in fitting)
    assert found.kept in fitting
    assert found.fractions is not None
    assert found.fractions[0] == pytest.approx(best / raw["total_utility"], rel=1e-9)
    assert tuple(cost.after for cost in found.costs.values()) == costs(raw, found.kept)
    assert tuple(cost.limit for cost in found.costs.values()) == tuple(highs)


def test_without_limits_everything_stays() -> None:
    found = answer(parse(encoded(small())), Ask())
    assert found.kept == (3, 4)
    assert found.fractions == (1.0, 1.0)


def test_fractions_are_taken_as_the_decimals_that_they_are_written_as() -> None:
    document = parse(encoded(built([[1.0] * 10], [(0, None, 1, 5, 1)])))
    assert amount(document, Cost.MACS, (10,)) == 100
    # 0.29 * 100 is 28.999999999999996 in floating point.
    assert Ask({Cost.MACS: 0.29}).highs(document) == {Cost.MACS: 29}
    assert Ask({Cost.MACS: 1.0}).highs(document) == {Cost.MACS: 100}
    assert Ask({Cost.MACS: 1.5}).highs(document) == {Cost.MACS: 1}
    assert answer(document, Ask({Cost.MACS: 1e300})).kept == (10,)


def test_what_is_impossible_says_what_would_be_possible() -> None:
    document = parse(encoded(small()))
    (reason,) = conflicts(document, Ask({Cost.PARAMS: 20}))
    least = amount(document, Cost.PARAMS, (1, 1))
    assert reason == (
        f"params are {least} even if every group keeps only 1 neuron; the limit is 20, give that many at least"
    )
    assert not conflicts(document, Ask({Cost.PARAMS: least}))
    assert len(conflicts(document, Ask({Cost.PARAMS: 20, Cost.MACS: 2}))) == 2
    (reason,) = conflicts(document, Ask(multiple=4))
    assert reason == "group 0 has 3 neurons, too few for a multiple of 4; ask for a multiple of 3 or less"
    assert not conflicts(document, Ask(multiple=3))
    assert "and 1 other groups have too few as well" in conflicts(document, Ask(multiple=5))[0]


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("cost", Cost)
def test_limits_are_positive_numbers(cost: Cost, limit: float) -> None:
    with pytest.raises(RequestError, match=f"the limit of {cost}"):
        Ask({cost: limit})


def test_arguments_make_sense() -> None:
    document = parse(encoded(small()))
    with pytest.raises(RequestError, match="positive whole number, got 0"):
        Ask(multiple=0)
    with pytest.raises(RequestError, match=r"gap is a fraction in \[0, 1\), got nan"):
        answer(document, Ask(), gap=float("nan"))
    with pytest.raises(RequestError, match="time limit is a positive number of seconds, got nan"):
        answer(document, Ask(), time_limit=float("nan"))


def test_without_time_there_is_no_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "solve", lambda *_, **__: Counts(Status.UNKNOWN))
    with pytest.raises(TimeLimitError, match="no solution was found within 1e-09 s; ask for more time"):
        answer(parse(encoded(small())), Ask(), time_limit=1e-9)
