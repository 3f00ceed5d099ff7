"""Which colour shows which group of neurons."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from solver_nas.groups import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.groups import Shares

_WITHIN = 1_000_000  # two groups in one box are nearer than any others


def coloured(shares: Sequence[Shares], pairs: Mapping[tuple[int, int], int], colours: int) -> dict[int, int]:
    """A colour for every group, another one than its neighbours have as far as there are enough.

    Args:
        shares: the groups of each box.
        pairs: boxes beside each other, in the network or in the picture -> how much that matters.
        colours: how many there are.

    Returns:
        Group -> colour in `[0, colours)`.
    """
    near: dict[int, Counter[int]] = defaultdict(Counter)
    within = {(place, place): _WITHIN for place in range(len(shares))}
    for (left, right), weight in [*pairs.items(), *within.items()]:
        for one, _ in shares[left]:
            for other, _ in shares[right]:
                near[one][other] += weight
                near[other][one] += weight
    chosen: dict[int, int] = {}
    used: Counter[int] = Counter()
    for group in sorted({group for found in shares for group, _ in found} - {ALWAYS}):
        clash = Counter[int]()
        for other, often in near[group].items():
            if other in chosen:
                clash[chosen[other]] += often
        colour = min(range(colours), key=lambda one: (clash[one], used[one], one))
        chosen[group] = colour
        used[colour] += 1
    return chosen
