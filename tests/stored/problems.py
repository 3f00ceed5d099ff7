"""Small size problems, as Python values that JSON can hold."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

#: Group of the outputs, group of the inputs, factor of the inputs, area, positions.
Layer = tuple[int | None, int | None, int, int, int]


def small() -> dict[str, Any]:
    """Two layers with a bias, one of them normalised, and one from and to what never changes."""
    return built([[4.0, 1.0, 3.0], [2.0, 0.5, 1.5, 1.0]], [(0, None, 1, 9, 4), (1, 0, 1, 9, 4), (None, 1, 2, 1, 1)])


def built(utilities: list[list[float]], layers: list[Layer]) -> dict[str, Any]:
    """A problem whose totals are right.

    Args:
        utilities: of every group.
        layers: what they cost.
    """
    sizes = [len(utility) for utility in utilities]
    terms, params, macs = [], 2 * sizes[0], 0
    for number, (og, ig, imul, area, pos) in enumerate(layers):
        oc = 5 if og is None else sizes[og]
        ic = 2 if ig is None else imul * sizes[ig]
        numbers = {"og": og, "oc": oc, "ig": ig, "imul": imul, "ic": ic, "area": area, "pos": pos}
        terms.append({"layer": f"l{number}", **numbers, "bias": True})
        params, macs = params + oc * ic * area + oc, macs + oc * ic * area * pos
    return {
        "model": "small",
        "weights": "made up",
        "groups": [
            {"size": len(utility), "members": [f"l{number}"], "utility": utility}
            for number, utility in enumerate(utilities)
        ],
        "cost_terms": terms,
        "batchnorm_groups": {"n0": 0},
        "params0": params,
        "macs0": macs,
        "total_utility": math.fsum(value for utility in utilities for value in utility),
    }


def drawn(rng: np.random.Generator) -> dict[str, Any]:
    """Any problem, so small that all sizes can be tried."""
    count = int(rng.integers(1, 4))
    utilities = [rng.random(int(rng.integers(1, 6))).tolist() for _ in range(count)]
    ends = [None, *range(count)]
    layers: list[Layer] = []
    for _ in range(int(rng.integers(1, 5))):
        outputs, inputs, imul, area, pos = rng.integers(0, [len(ends), len(ends), 3, 3, 3]).tolist()
        layers.append((ends[outputs], ends[inputs], 1 + imul, 1 + area, 1 + pos))
    return built(utilities, layers)


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()
