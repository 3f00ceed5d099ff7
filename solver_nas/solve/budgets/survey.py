"""From a part of a problem to its field: choices, their states, and the rows that they share."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.problem import Count
from solver_nas.solve.budgets.blocks import Block, blocks
from solver_nas.solve.budgets.field import Choice, Field, Meter, Pair, Row
from solver_nas.solve.budgets.sieve import sifted
from solver_nas.solve.solution import kept_utility

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from solver_nas.labels import IntArray
    from solver_nas.problem import Budget, Gauge, Monomial
    from solver_nas.solve.parts import Part
    from solver_nas.utility import FloatArray


class TooComplexError(Exception):
    """The part has something that cannot be priced."""


def survey(part: Part, most: int) -> Field:
    """Bring a part into this form.

    Args:
        part: what to choose.
        most: how many new neurons a slot may get.

    Raises:
        TooComplexError: a product of more than two sizes that do not belong to one rectangle.
    """
    return _Survey(part, most).field()


class _Survey:
    """Lives for one call of `survey`."""

    def __init__(self, part: Part, most: int) -> None:
        self.part, self.most = part, most
        self.blocks, self.assumed = blocks(part)
        in_blocks = {bucket for block in self.blocks for bucket in block.buckets}
        self.ends, plain = _ends(part, in_blocks)
        #: Buckets about which there is nothing to decide.
        self.settled = {
            place: low
            for place, (low, high) in enumerate(self.ends)
            if low == high and place not in in_blocks and place not in self.assumed
        }
        if any(low > high or high > len(b.classes) for (low, high), b in zip(self.ends, part.buckets, strict=True)):
            raise TooComplexError("a limit on how many are kept leaves nothing")
        self.part = part = replace(part, budgets=plain)
        self.choices: list[Choice] = []
        self.feature_of: dict[tuple[str, int], tuple[int, float]] = {}
        self.width = 0
        self.sizes: dict[tuple[object, ...], int] = {}
        self.size_rows: list[FloatArray] = []
        self.offsets: list[float] = []

    def field(self) -> Field:
        part = self.part
        taken: set[int] = set(self.assumed) | set(self.settled)
        for block in self.blocks:
            taken |= set(block.buckets)
        followers = _followers(part, self.blocks, taken)
        following = {id(block) for blocks in followers.values() for block, _ in blocks}
        for block in self.blocks:
            if id(block) not in following:
                self._block(block)
        alike = {bucket: slot for bucket, slot in _alike(part, self.ends).items() if bucket not in self.settled}
        for place in range(len(part.buckets)):
            if place in followers:
                self._leading(place, followers[place])
            elif place not in taken:
                self._bucket(place, alike.get(place, -1))
        merged = set(alike.values())
        for slot in range(part.slots):
            if slot not in merged:
                self._slot(slot)
        owner = np.repeat(np.arange(len(self.choices)), [choice.features.shape[1] for choice in self.choices])
        self.owner = owner.astype(np.int64)
        rows = [row for budget in part.budgets for row in self._rows(budget)]
        for count, low, high, text in self._lines():
            rows += self._line(count, low, high, text)
        held = {**self.settled, **dict.fromkeys(self.assumed, 1)}
        field = Field(
            part,
            tuple(self.choices),
            np.array(self.size_rows).reshape(len(self.size_rows), self.width),
            np.array(self.offsets),
            tuple(rows),
            self.owner,
            self.assumed,
            self.settled,
            kept_utility([part.buckets[place] for place in held], list(held.values())),
        )
        return sifted(field, part, self._vector)

    # -- choices -----------------------------------------------------------------------------

    def _add(self, choice: Choice, names: Sequence[tuple[str, int]]) -> None:
        for place, name in enumerate(names):
            self.feature_of[name] = (self.width + place, 1.0)
        self.width += choice.features.shape[1]
        self.choices.append(choice)

    def _bucket(self, place: int, slot: int) -> None:
        bucket = self.part.buckets[place]
        low, high = self.ends[place]
        kept = np.arange(low, high + 1)
        value = np.concatenate([[0.0], np.cumsum(bucket.utilities)])
        if slot < 0:
            new = np.zeros_like(kept)
            gain = value[np.minimum(kept, len(value) - 1)]
        else:
            # Old and new neurons in the order of what they are worth; among equals, old ones first.
            promised = self._promised(slot)
            gains = np.concatenate([bucket.utilities[low:high], promised])
            old = np.arange(len(gains)) < high - low
            order = np.lexsort((~old, -gains))
            kept = low + np.concatenate([[0], np.cumsum(old[order])])
            new = np.concatenate([[0], np.cumsum(~old[order])])
            total = np.concatenate([[0.0], np.cumsum(promised)])
            gain = value[kept] + total[new]
        features = (kept + new).astype(np.float64)[:, None]
        self._add(
            Choice(gain, features, self.width, kept[:, None], new[:, None], (place,), slot),
            [("keep", place), *([("new", slot)] if slot >= 0 else [])][:1],
        )
        if slot >= 0:
            self.feature_of["new", slot] = (self.feature_of["keep", place][0], 0.0)

    def _slot(self, slot: int) -> None:
        promised = self._promised(slot)
        gain = np.concatenate([[0.0], np.cumsum(promised)])
        new = np.arange(len(gain))
        features = new.astype(np.float64)[:, None]
        kept = np.zeros((len(gain), 0), np.int64)
        self._add(Choice(gain, features, self.width, kept, new[:, None], (), slot), [("new", slot)])

    def _promised(self, slot: int) -> FloatArray:
        gains = self.part.slot_gains[slot] if self.part.slot_gains else np.zeros(0)
        return np.concatenate([gains[: self.most], np.zeros(max(self.most - len(gains), 0))])

    def _block(self, block: Block) -> None:
        kept, new = np.zeros((len(block.gain), 0), np.int64), np.zeros((len(block.gain), 1), np.int64)
        self._add(Choice(block.gain, block.features, self.width, kept, new, (), -1, (block,)), _names(block))

    def _leading(self, place: int, followers: Sequence[tuple[Block, Fraction]]) -> None:
        """A bucket and blocks whose cells have to be as many as it keeps: for every count, their best shapes."""
        low, high = self.ends[place]
        value = np.concatenate([[0.0], np.cumsum(self.part.buckets[place].utilities)])
        kept = np.arange(low, high + 1)
        gain, shapes = value[kept], []
        for block, times in followers:
            best = _best_shapes(block, times, high + 1)[kept]
            gain = gain + np.where(best >= 0, block.gain[best], -np.inf)
            shapes.append(best)
        good = np.flatnonzero(np.isfinite(gain))
        blocks = tuple(block.only(best[good]) for (block, _), best in zip(followers, shapes, strict=True))
        kept = kept[good]
        features = np.concatenate([kept[:, None].astype(np.float64), *(block.features for block in blocks)], axis=1)
        new = np.zeros((len(kept), 1), np.int64)
        names = [("keep", place), *(name for block in blocks for name in _names(block))]
        self._add(Choice(gain[good], features, self.width, kept[:, None], new, (place,), -1, blocks), names)

    # -- sizes -------------------------------------------------------------------------------

    def _vector(self, count: Count) -> tuple[FloatArray, float]:
        """A size as factors of features, and its constant.

        Raises:
            TooComplexError: it speaks of a part of a rectangle.
        """
        vector = np.zeros(self.width)
        keep, new = dict(count.keep), dict(count.new)
        for block in self.blocks:
            inside = {bucket: keep.pop(bucket) for bucket in block.buckets if bucket in keep}
            if inside:
                factors = block.factors(inside)
                if factors is None:
                    raise TooComplexError("a size speaks of a part of a rectangle")
                first = self.feature_of[_names(block)[0]][0]
                vector[first : first + len(factors)] += factors
        constant = count.constant + sum(keep.pop(row) for row in self.assumed if row in keep)
        constant += sum(keep.pop(bucket) * at for bucket, at in self.settled.items() if bucket in keep)
        for bucket, often in keep.items():
            place, factor = self.feature_of["keep", bucket]
            vector[place] += often * factor
        for slot, often in new.items():
            place, factor = self.feature_of["new", slot]
            vector[place] += often * factor
        return vector, float(constant)

    def _size(self, count: Count) -> int:
        vector, constant = self._vector(count)
        key = (constant, vector.tobytes())
        if key not in self.sizes:
            self.sizes[key] = len(self.size_rows)
            self.size_rows.append(vector)
            self.offsets.append(constant)
        return self.sizes[key]

    def _of_one(self, *vectors: FloatArray) -> int | None:
        """The one choice that these sizes depend on, if it is one."""
        owners = {int(self.owner[place]) for vector in vectors for place in np.flatnonzero(vector)}
        return owners.pop() if len(owners) == 1 else None

    def _value(self, choice: int, vector: FloatArray, constant: float) -> FloatArray:
        """A size that depends on one choice, for each of its states."""
        mine = self.choices[choice]
        inside = vector[mine.inside]
        return np.asarray(mine.features @ inside + constant)

    # -- rows --------------------------------------------------------------------------------

    def _rows(self, budget: Budget) -> Iterator[Row]:
        linear = np.zeros(self.width)
        unary: dict[int, FloatArray] = {}
        pairs: list[Pair] = []
        constant = float(budget.constant)
        for term in budget.terms:
            constant += self._term(term, linear, unary, pairs)
        meters = [meter for gauge in budget.gauges for meter in self._gauge(gauge, unary)]
        ends = [end for end in (budget.low, budget.high) if end is not None]
        scale = max([abs(float(end)) for end in ends], default=1.0) or 1.0
        for end, sign in ((budget.high, 1.0), (budget.low, -1.0)):
            if end is not None:
                by = sign / scale
                yield Row(
                    linear * by,
                    tuple(Pair(pair.factor * by, pair.left, pair.right) for pair in pairs),
                    {choice: costs * by for choice, costs in unary.items()},
                    (float(end) - constant) * by,
                    budget.limit.text,
                    tuple(meter._replace(factor=meter.factor * by) for meter in meters),
                )

    def _gauge(self, gauge: Gauge, unary: dict[int, FloatArray]) -> Iterator[Meter]:
        """A measured cost: by state if it depends on one choice, else by two sizes."""
        vectors = [self._vector(count) for count in gauge.sizes]
        loose = [place for place, (vector, _) in enumerate(vectors) if vector.any()]
        known = [round(constant) for _, constant in vectors]

        def function(*sizes: Any) -> FloatArray:
            every: list[Any] = list(known)
            for place, size in zip(loose, sizes, strict=True):
                every[place] = size
            return np.asarray(gauge.function(*every), np.float64)

        one = self._of_one(*(vector for vector, _ in vectors))
        if one is not None:
            costs = function(*(np.rint(self._value(one, *vectors[place])).astype(np.int64) for place in loose))
            unary[one] = unary.get(one, 0.0) + costs
        elif 1 <= len(loose) <= 2:
            yield Meter(1.0, function, tuple(self._size(gauge.sizes[place]) for place in loose))
        else:
            raise TooComplexError("a measured cost of more than two sizes")

    def _term(self, term: Monomial, linear: FloatArray, unary: dict[int, FloatArray], pairs: list[Pair]) -> float:
        """Add a product to a row; what is constant in it."""
        factor = float(term.factor)
        over = [self._vector(count) for count in term.over]
        under = [self._vector(count) for count in term.under]
        for vector, constant in list(under):
            if not vector.any():
                factor /= constant
                under.remove((vector, constant))
        if len(over) == 1 and not under:
            linear += factor * over[0][0]
            return factor * over[0][1]
        one = self._of_one(*(vector for vector, _ in (*over, *under)))
        if one is not None:
            value = np.full(len(self.choices[one].gain), factor)
            for vector, constant in over:
                value *= self._value(one, vector, constant)
            for vector, constant in under:
                value /= np.maximum(self._value(one, vector, constant), 1.0)
            unary[one] = unary.get(one, 0.0) + value
            return 0.0
        if len(over) == 2 and not under:
            pairs.append(Pair(factor, self._size(term.over[0]), self._size(term.over[1])))
            return 0.0
        raise TooComplexError("a product of more than two sizes")

    def _lines(self) -> Iterator[tuple[Count, float | None, float | None, str]]:
        """What is linear anyway: wishes, balances, and rectangles whose rows all live."""
        for wish in self.part.wishes:
            if wish.target.exact:
                yield wish.count, float(wish.target.size), float(wish.target.size), wish.target.text
        for balance in self.part.balances:
            yield balance, 0.0, 0.0, "balance"
        covered = {bucket for block in self.blocks for bucket in block.buckets}
        for rectangle in self.part.rectangles:
            if covered.isdisjoint(rectangle.cells[0].keep):
                for one in rectangle.cells[1:]:
                    yield _less(one, rectangle.cells[0]), 0.0, 0.0, rectangle.reason.rule

    def _line(self, count: Count, low: float | None, high: float | None, text: str) -> Iterable[Row]:
        vector, constant = self._vector(count)
        scale = max(abs(constant), float(np.abs(vector).max(initial=0)), abs(low or 0.0), abs(high or 0.0), 1.0)
        for end, sign in ((high, 1.0), (low, -1.0)):
            if end is not None:
                yield Row(vector * (sign / scale), (), {}, (end - constant) * sign / scale, text)


def _names(block: Block) -> list[tuple[str, int]]:
    return [("block", block.buckets[0] * 64 + place) for place in range(1 + len(block.cells))]


def _followers(part: Part, blocks: Sequence[Block], taken: Collection[int]) -> dict[int, list[tuple[Block, Fraction]]]:
    """Bucket -> blocks of one rectangle whose cells are in proportion to it, and cells per neuron of the bucket.

    Nothing but the number of cells may matter of such a block, so that of all shapes with so many, the best will do.
    """
    found: dict[int, list[tuple[Block, Fraction]]] = {}
    if part.slots:
        return found
    counts = part.counts
    for block in blocks:
        if len(block.cells) > 1 or any(count.keep.get(row) for count in counts for row in block.rows):
            continue
        for balance in part.balances:
            often = {balance.keep.get(bucket, 0) for bucket in block.cells[0]}
            rest = {bucket: factor for bucket, factor in balance.keep.items() if bucket not in block.cells[0]}
            if len(often) == len(rest) == 1 and not balance.constant:
                ((bucket, factor),) = rest.items()
                times = Fraction(-factor, often.pop() or 1)
                if times > 0 and bucket not in taken:
                    found.setdefault(bucket, []).append((block, times))
                    break
    return found


def _best_shapes(block: Block, times: Fraction, counts: int) -> IntArray:
    """For 0, 1, 2, ... neurons, the shape of the highest gain with so many times as many cells; -1 where none has."""
    cells = block.shapes[:, 0] * block.shapes[:, 1]
    neurons, rest = np.divmod(cells * times.denominator, times.numerator)
    fits = np.flatnonzero((rest == 0) & (neurons < counts))
    order = fits[np.lexsort((fits[::-1], block.gain[fits]))]  # of equal ones, the first one comes last
    best = np.full(counts, -1, np.int64)
    best[neurons[order]] = order
    return best


def _ends(part: Part, apart: Collection[int]) -> tuple[list[tuple[int, int]], tuple[Budget, ...]]:
    """The least and largest count of every bucket, from limits on how many are kept; and all other budgets.

    What is said about the buckets of `apart` stays a budget.
    """
    ends, rest = [(bucket.least, bucket.most) for bucket in part.buckets], []
    for count in part.sizes:
        if len(count.keep) == 1 and count.constant <= 0:
            ((bucket, often),) = count.keep.items()
            low, high = ends[bucket]
            least = max(low, math.ceil((1 - count.constant) / often))
            ends[bucket] = (least, max(high, least - 1))
    for budget in part.budgets:
        term = budget.terms[0] if len(budget.terms) == 1 and not budget.gauges else None
        single = term is not None and len(term.over) == 1 and not term.under and len(term.over[0].keep) == 1
        if term is None or not single or term.over[0].new or term.factor <= 0:
            rest.append(budget)
            continue
        ((bucket, often),) = term.over[0].keep.items()
        if bucket in apart:
            rest.append(budget)
            continue
        offset = budget.constant + term.factor * term.over[0].constant
        low, high = ends[bucket]
        if budget.low is not None:
            low = max(low, math.ceil((budget.low - offset) / (term.factor * often)))
        if budget.high is not None:
            high = min(high, math.floor((budget.high - offset) / (term.factor * often)))
        ends[bucket] = (low, max(high, low - 1))
    return ends, tuple(rest)


def _alike(part: Part, ends: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Bucket -> slot, where old and new neurons count equally in everything that is said.

    That an old neuron has to stay in a size is said in `ends`, or it is about several buckets, and they differ.
    """
    apart = {
        bucket
        for count in part.sizes
        if count.constant <= 0 and not any(ends[bucket][0] > 0 for bucket in count.keep)
        for bucket in count.keep
    }
    users: dict[int, list[int]] = {}
    mine = {number: slot for slot, number in enumerate(part.slot_numbers)}
    for place, bucket in enumerate(part.buckets):
        if bucket.slot in mine:
            users.setdefault(mine[bucket.slot], []).append(place)
    counts = [
        *part.counts,
        *(cells for rectangle in part.rectangles for cells in rectangle.cells),
    ]
    return {
        places[0]: slot
        for slot, places in users.items()
        if len(places) == 1
        and places[0] not in apart
        and all(c.keep.get(places[0], 0) == c.new.get(slot, 0) for c in counts)
    }


def _less(one: Count, other: Count) -> Count:
    def difference(left: Mapping[int, int], right: Mapping[int, int]) -> dict[int, int]:
        found = {key: left.get(key, 0) - right.get(key, 0) for key in {**left, **right}}
        return {key: factor for key, factor in found.items() if factor}

    return Count(one.constant - other.constant, difference(one.keep, other.keep), difference(one.new, other.new))
