"""What numbers in a model's code mean for sizes: which have to be equal, and which cannot change at all.

Every number is a product of sizes on one side, and what the code computes it from on the other: an equation between
counts of neurons. What both sides have in common cancels out. If nothing is left, it holds whatever goes; if a count is
left on each side, these are kept equal, and likewise sums of counts; what is harder than that stays as it is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import gcd, lcm
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from solver_nas.labels import FIXED, Balance, Extent, Reason, Tie

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from solver_nas.labels import Block, IntArray, Labels, Measure, Origin


def settled(labels: Labels) -> Labels:
    """The same labels with what follows from the measures: ties to what never changes, and balances."""
    return _Equations(labels).settled()


class _Count(NamedTuple):
    """A number of neurons, but for a factor: how often each class counts, in lowest terms."""

    key: bytes


class _Amount:
    """A number as a factor and powers of counts and of unknown numbers."""

    def __init__(self, factor: Fraction | int = 1) -> None:
        self.factor = Fraction(factor)
        self.powers: Counter[Hashable] = Counter()

    def times(self, other: _Amount, power: int = 1) -> None:
        self.factor *= other.factor**power
        for key, exponent in other.powers.items():
            self.powers[key] += power * exponent
            if not self.powers[key]:
                del self.powers[key]


class _Equations:
    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._ties: list[Tie] = []
        self._balances: list[Balance] = []
        self._reported: list[Reason] = []
        self._class_of: IntArray = np.zeros(0, np.int64)
        self._arrays: dict[Hashable, IntArray] = {}
        self._known: dict[Hashable, _Amount] = {}
        self._same: dict[Hashable, tuple[Hashable, Fraction]] = {}

    def settled(self) -> Labels:
        self._classes()
        for measure in self._labels.measures:
            if measure.origin is None:
                self._pin(measure)
        # What is pinned becomes a number, which may settle what was too hard before.
        while self._round():
            pass
        labels = self._labels
        return replace(
            labels,
            ties=(*labels.ties, *self._ties),
            balances=(*labels.balances, *self._balances),
            pinned=tuple(dict.fromkeys((*labels.pinned, *self._reported))),
        )

    def _round(self) -> bool:
        """Go through all equations once; true if something had to be pinned, so that another round is due."""
        self._classes()
        self._balances, self._known, self._same = [], {}, {}
        before = len(self._ties)
        waiting = [measure for measure in self._labels.measures if measure.origin is not None]
        waiting.sort(key=_turn)
        progress = True
        while waiting and progress:
            later = [measure for measure in waiting if not self._equation(measure)]
            progress, waiting = len(later) < len(waiting), later
        for measure in waiting:
            self._pin(measure)
        return len(self._ties) > before

    def _classes(self) -> None:
        """The class of every label."""
        labels = self._labels
        ties = [*labels.ties, *self._ties]
        left = np.concatenate([np.zeros(0, np.int64), *(tie.left.reshape(-1) for tie in ties)])
        right = np.concatenate([np.zeros(0, np.int64), *(tie.right.reshape(-1) for tie in ties)])
        matrix = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(labels.count, labels.count))
        self._class_of = connected_components(matrix, directed=False)[1].astype(np.int64)

    def _amount(self, array: IntArray) -> _Amount:
        """How many neurons there are, as a factor and a count in lowest terms."""
        classes, times = np.unique(self._class_of[array.reshape(-1)], return_counts=True)
        if not len(classes) or (len(classes) == 1 and classes[0] == self._class_of[FIXED]):
            return _Amount(array.size)
        common = gcd(*times.tolist())
        key = _Count(np.stack([classes, times // common]).tobytes())
        self._arrays.setdefault(key, np.repeat(classes, times // common))
        found = _Amount(common)
        found.powers[key] = 1
        return self._merged(found)

    def _merged(self, amount: _Amount) -> _Amount:
        """The same amount, where one count stands for all that are kept in proportion to it."""
        found = _Amount(amount.factor)
        for key, power in amount.powers.items():
            root, times = key, Fraction(1)
            while root in self._same:
                root, factor = self._same[root]
                times *= factor
            one = _Amount(times)
            one.powers[root] = 1
            found.times(one, power)
        return found

    def _side(self, factor: Fraction | int, over: Iterable[IntArray], under: Iterable[IntArray]) -> _Amount:
        found = _Amount(factor)
        for array in over:
            found.times(self._amount(array))
        for array in under:
            found.times(self._amount(array), -1)
        return found

    def _product(self, origin: Origin) -> _Amount:
        found = _Amount(origin.factor)
        for sources, power in ((origin.over, 1), (origin.under, -1)):
            for source in sources:
                found.times(self._source(source), power)
        return found

    def _source(self, source: Extent | Hashable) -> _Amount:
        if isinstance(source, Extent):
            size, over, under = _extent(self._labels, source)
            return self._side(size, over, under)
        if source in self._known:
            return self._merged(self._known[source])
        unknown = _Amount()
        unknown.powers[source] = 1
        return unknown

    def _equation(self, measure: Measure) -> bool:
        """Settle one equation; false if it has to wait."""
        origin = measure.origin
        assert origin is not None, "what is written down is pinned"
        if not origin.known or not origin.factor or not measure.factor:
            return False
        side = self._side(measure.factor, _plain(measure.over), _plain(measure.under))
        if origin.plus:
            return self._sum(side, [self._product(one) for one in origin.summands], measure.reason)
        computed = self._product(origin)
        if measure.under and side.powers and not computed.powers:
            # Rows keep as many cells as they have: these go with their row.
            self._hold(_plain(measure.over), _plain(measure.under), measure.reason)
            return True
        side.times(computed, -1)
        unknown = [key for key in side.powers if not isinstance(key, _Count)]
        if unknown:
            return self._define(side, unknown)
        over = [key for key, power in side.powers.items() for _ in range(power) if power > 0]
        under = [key for key, power in side.powers.items() for _ in range(-power) if power < 0]
        if not over and not under:
            return side.factor == 1
        if len(over) == len(under) == 1:
            self._balance(over[0], under[0], side.factor, measure.reason)
            return True
        return False

    def _sum(self, side: _Amount, summands: Sequence[_Amount], reason: Reason) -> bool:
        """Settle `side = sum(summands)`, where each of them is a number or a multiple of one count."""
        # Everything on one side: factor -> count, `None` for plain numbers.
        factors: dict[Hashable, Fraction] = {None: Fraction(0)}
        for amount, sign in ((side, 1), *((one, -1) for one in summands)):
            if len(amount.powers) > 1 or any(power != 1 for power in amount.powers.values()):
                return False
            (key,) = amount.powers or (None,)
            factors[key] = factors.get(key, Fraction(0)) + sign * amount.factor
        unknown = [key for key, factor in factors.items() if factor and key is not None and not isinstance(key, _Count)]
        if len(unknown) > 1:
            return False
        if unknown:
            slope = -factors.pop(unknown[0])
            return self._define_sum(unknown[0], {key: factor / slope for key, factor in factors.items()})
        common = lcm(*(factor.denominator for factor in factors.values()))
        positive, negative = (
            {k: int(sign * f * common) for k, f in factors.items() if sign * f > 0} for sign in (1, -1)
        )
        if not any(factors[key] for key in factors if key is not None):
            return not factors[None]
        self._balances.append(Balance(self._labels_of(positive), self._labels_of(negative), reason))
        return True

    def _define_sum(self, name: Hashable, factors: dict[Hashable, Fraction]) -> bool:
        """Set a number to a sum of counts, if that is a count."""
        if any(factor < 0 or factor.denominator != 1 for factor in factors.values()):
            return False
        array = self._labels_of({key: int(factor) for key, factor in factors.items()})
        self._known[name] = self._amount(array)
        return True

    def _labels_of(self, factors: Mapping[Hashable, int]) -> IntArray:
        """As many labels as there are neurons in a sum of counts and of a number, which is that of `None`."""
        fixed = self._class_of[[FIXED]]
        arrays = [np.repeat(fixed if key is None else self._arrays[key], often) for key, often in factors.items()]
        classes = np.concatenate([np.zeros(0, np.int64), *arrays])
        # Any label of a class stands for it.
        first = np.zeros(int(self._class_of.max()) + 1, np.int64)
        first[self._class_of[::-1]] = np.arange(len(self._class_of))[::-1]
        return np.asarray(first[classes])

    def _define(self, side: _Amount, unknown: Sequence[Hashable]) -> bool:
        """A number that can be set to whatever it should be is set to what this equation asks for."""
        if len(unknown) > 1 or abs(side.powers[unknown[0]]) != 1:
            return False
        found = _Amount()
        found.times(side, -side.powers[unknown[0]])
        del found.powers[unknown[0]]
        if found.factor.denominator != 1:
            # Nobody knows whether it would be whole.
            return False
        self._known[unknown[0]] = found
        return True

    def _balance(self, left: Hashable, right: Hashable, factor: Fraction, reason: Reason) -> None:
        """Keep `factor * left = right`."""
        one, other = self._labels_of({left: factor.numerator}), self._labels_of({right: factor.denominator})
        self._balances.append(Balance(one, other, reason))
        self._same[left] = (right, 1 / factor)

    def _pin(self, measure: Measure) -> None:
        """Keep a number as it is; where it varies nevertheless, what it is computed from."""
        if self._hold(_plain(measure.over), _plain(measure.under), measure.reason):
            return
        for source in () if measure.origin is None else measure.origin.sources:
            if isinstance(source, Extent):
                _, over, under = _extent(self._labels, source)
                self._hold(over, under, measure.reason)
            elif source in self._known:
                counts = [key for key in self._merged(self._known[source]).powers if isinstance(key, _Count)]
                self._hold([self._labels_of({key: 1}) for key in counts], [], measure.reason)

    def _hold(self, over: Sequence[IntArray], under: Sequence[IntArray], reason: Reason) -> bool:
        """Keep a ratio of counts as it is; true if it was not held before."""
        before = len(self._ties)
        for place, array in enumerate(over):
            # Columns go with their row, so that every row keeps as many as it has.
            mate = under[place][..., None] if place < len(under) else np.zeros((), np.int64)
            mate = np.broadcast_to(mate, array.shape)
            if (self._class_of[array] != self._class_of[mate]).any():
                self._ties.append(Tie(array.reshape(-1), mate.reshape(-1), reason))
        if len(self._ties) > before:
            self._reported.append(reason)
        return len(self._ties) > before


def _turn(measure: Measure) -> int:
    """Numbers that can be set come first, then what has to stay: rows that keep all cells make the rest simple."""
    origin = measure.origin
    if (
        origin is not None
        and len(origin.sources) == 1
        and not origin.under
        and not isinstance(origin.sources[0], Extent)
    ):
        return 0
    return 2 if measure.over else 1


def _plain(arrays: Iterable[object]) -> list[IntArray]:
    return [array["label"] for array in arrays]  # type: ignore[index] # arrays of neurons


def _extent(labels: Labels, extent: Extent) -> tuple[int, list[IntArray], list[IntArray]]:
    """A size as a number, or as labels along axes over labels of rows."""
    if isinstance(extent.owner, str):
        record = labels.parameters.get(extent.owner)
        if record is None:
            return 1, [], []
        for use in record.uses:
            if extent.axis in use.axes:
                depth = use.axes.index(extent.axis)
                return _ratio(use.levels, depth)
        return record.view[extent.axis], [], []
    tensor = labels.tensors[extent.owner]
    block: Block | None = tensor.block_of(extent.axis)
    if block is None:
        return tensor.shape[extent.axis] or 1, [], []
    return _ratio(block.levels, block.axes.index(extent.axis))


def _ratio(levels: Sequence[object], depth: int) -> tuple[int, list[IntArray], list[IntArray]]:
    return 1, _plain(levels[depth : depth + 1]), _plain(levels[depth - 1 : depth] if depth else [])
