"""A single count against trying all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from solver_nas.graph import Port
from solver_nas.problem import Bucket, Count, Wish
from solver_nas.requests import Target
from solver_nas.solve import Status
from solver_nas.solve.closed import solve_single


@given(
    st.lists(st.integers(-3, 9).map(float), min_size=1, max_size=6),
    st.integers(0, 6),
    st.integers(1, 3),
    st.integers(0, 40),
    st.booleans(),
)
def test_relaxed_sizes_are_the_nearest_ones(
    utilities: list[float], constant: int, factor: int, target: int, must_change: bool
) -> None:
    bucket = Bucket(np.zeros(len(utilities), np.int64), np.array(sorted(utilities, reverse=True)), 1, -1)
    count = Count(constant, {0: factor}, {})
    before = constant + factor * len(utilities)
    wish = Wish(count, Target(Port("v"), before, target, exact=False, must_change=must_change, text="v"))
    found = solve_single(bucket, [Count(0, {0: 1}, {})], [wish])
    sizes = [constant + factor * kept for kept in range(1, len(utilities) + 1)]
    possible = [size for size in sizes if size != before or not must_change]
    if not possible:
        assert found.status is Status.INFEASIBLE
        return
    (kept,) = found.kept
    assert constant + factor * kept in possible
    assert abs(constant + factor * kept - target) == min(abs(size - target) for size in possible) == found.deviation
