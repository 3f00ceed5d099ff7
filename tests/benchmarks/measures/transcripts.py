"""How much of a text was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.benchmarks.measures.real import Array


def decoded(scores: Array, alphabet: Sequence[str]) -> str:
    """What the steps of a sequence spell: the best symbol of each, repetitions and blanks left out.

    Args:
        scores: shape `(steps, symbols)`.
        alphabet: the symbols; the first is the blank.
    """
    best = scores.argmax(axis=1)
    new = np.concatenate([[True], best[1:] != best[:-1]])
    return "".join(alphabet[symbol] for symbol in best[new & (best != 0)])


def character_accuracy(pairs: Iterable[tuple[str, str]]) -> float:
    """One minus the edits per character that lead from what was read to what is written, at least 0.

    Args:
        pairs: what is written, what was read.

    >>> character_accuracy([("four", "fou"), ("legs", "legs")])
    0.875
    """
    edits = length = 0
    for written, read in pairs:
        edits += min(_distance(written, read), len(written))
        length += len(written)
    return 1 - edits / length


def _distance(one: str, other: str) -> int:
    """Insertions, removals and replacements between two texts (Levenshtein)."""
    row = list(range(len(other) + 1))
    for line, left in enumerate(one, start=1):
        above, row = row, [line]
        for column, right in enumerate(other, start=1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (left != right)))
    return row[-1]
