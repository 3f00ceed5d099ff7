"""Parts with limits against trying all counts, with rules of the oracle's own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from solver_nas.bounds import Bound
from solver_nas.graph import Port
from solver_nas.labels import Reason
from solver_nas.problem import Bucket, Budget, Count, Gauge, Grid, Monomial, Rectangle, Wish
from solver_nas.requests import Target
from solver_nas.solve.budgets.dead import dead_bound
from solver_nas.solve.budgets.descent import Landscape, descend
from solver_nas.solve.budgets.field import Choice, Field
from solver_nas.solve.budgets.pricing import Priced, price
from solver_nas.solve.budgets.survey import TooComplexError, survey
from solver_nas.solve.check import holds
from solver_nas.solve.exact import solve_counts
from solver_nas.solve.limited import _counts
from solver_nas.solve.model import most_new
from solver_nas.solve.parts import Part
from solver_nas.solve.solution import Counts, Status

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rng = np.random.Generator

_CLOSE = 1e-9
_MOST_POINTS = 1500
_SECONDS = 60.0  # more than any part takes
_SEED = 20
_FIRST_SLOT = 7  # buckets know the numbers of slots in the whole problem, sizes those in the part
_NEVER = 10**6  # a deviation that no solution has


# -- the oracle --------------------------------------------------------------------------------


class Points:
    """All counts of a part, and what its rules say about them.

    Args:
        part: what to choose.
        most: how many new neurons are tried at every slot.
    """

    def __init__(self, part: Part, most: int) -> None:
        self.part = part
        ends = [*(len(bucket.classes) for bucket in part.buckets), *(most for _ in range(part.slots))]
        table = np.indices([end + 1 for end in ends]).reshape(len(ends), -1).T.astype(np.int64)
        self.kept, self.new = table[:, : len(part.buckets)], table[:, len(part.buckets) :]

    def old(self, count: Count) -> Ints:
        """Of a size, what was there before."""
        found = np.full(len(self.kept), count.constant, np.int64)
        for bucket, often in count.keep.items():
            found += often * self.kept[:, bucket]
        return found

    def size(self, count: Count) -> Ints:
        """Of a size, everything."""
        found = self.old(count)
        for slot, often in count.new.items():
            found += often * self.new[:, slot]
        return found

    def amount(self, budget: Budget) -> tuple[Ints, Ints]:
        """A budget's sum without measured costs, as numerators and denominators; 0 of 0 where one is divided by 0."""
        over = np.full(len(self.kept), budget.constant.numerator, np.int64)
        under = np.full(len(self.kept), budget.constant.denominator, np.int64)
        for term in budget.terms:
            above = term.factor.numerator * prod((self.size(one) for one in term.over), start=np.int64(1))
            below = term.factor.denominator * prod((self.size(one) for one in term.under), start=np.int64(1))
            over, under = over * below + under * above, under * below
            if int(np.abs(under).max()) > 10**6:
                shared = np.maximum(np.gcd(over, under), 1)
                over, under = over // shared, under // shared
        return over, under

    def measured(self, budget: Budget) -> Floats:
        """What a budget's measured costs come to."""
        total = np.zeros(len(self.kept))
        for gauge in budget.gauges:
            total += gauge.function(*map(self.size, gauge.sizes))
        return total

    def keeps(self, budget: Budget) -> Mask:
        """Where a budget is kept. With measured costs, ends are nowhere near what is possible."""
        over, under = self.amount(budget)
        good = under > 0
        if budget.gauges:
            total = over / np.maximum(under, 1) + self.measured(budget)
            good &= (total >= float(budget.low)) if budget.low is not None else good
            return good & ((total <= float(budget.high)) if budget.high is not None else good)
        if budget.low is not None:
            good &= over * budget.low.denominator >= budget.low.numerator * under
        if budget.high is not None:
            good &= over * budget.high.denominator <= budget.high.numerator * under
        return good

    def rectangle(self, rectangle: Rectangle) -> Mask:
        """Where living rows keep equally many cells (old ones among them), and dead ones none.

        No columns are added where a row goes.
        """
        cells = np.stack([self.size(count) for count in rectangle.cells], axis=1)
        old = np.stack([self.old(count) for count in rectangle.cells], axis=1)
        lives = np.stack(
            [self.kept[:, row] > 0 if row >= 0 else np.ones(len(self.kept), bool) for row in rectangle.rows], axis=1
        )
        grows = np.zeros(len(self.kept), bool)
        for count in rectangle.cells:
            for slot in count.new:
                grows |= self.new[:, slot] > 0
        columns = np.where(lives, cells, 0).max(axis=1, keepdims=True)
        equal = np.where(lives, (cells == columns) & (old >= 1), cells == 0).all(axis=1)
        return np.asarray(equal & (lives.all(axis=1) | ~grows))

    def valid(self) -> Mask:
        """Where every rule is kept."""
        part = self.part
        good = np.ones(len(self.kept), bool)
        for place, bucket in enumerate(part.buckets):
            if bucket.forced is not None:
                good &= self.kept[:, place] == (len(bucket.classes) if bucket.forced else 0)
        for count in part.sizes:
            good &= self.old(count) >= 1
        for wish in part.wishes:
            if wish.target.exact:
                good &= self.size(wish.count) == wish.target.size
        for balance in part.balances:
            good &= self.size(balance) == 0
        for rectangle in part.rectangles:
            good &= self.rectangle(rectangle)
        for grid in part.grids:
            size = self.size(grid.size)
            good &= ((size > 0) & (size % grid.step == 0)) | np.isin(size, sorted(grid.also))
        for budget in part.budgets:
            good &= self.keeps(budget)
        return good

    def worth(self) -> Floats:
        """What the counts are worth."""
        total = np.zeros(len(self.kept))
        for place, bucket in enumerate(self.part.buckets):
            total += curve(bucket.utilities, len(bucket.classes))[self.kept[:, place]]
        for slot, gains in enumerate(self.part.slot_gains):
            total += curve(gains, int(self.new.max(initial=0)))[self.new[:, slot]]
        return total

    def missed(self) -> tuple[Ints, Ints]:
        """How far relaxed wishes are missed, and how many of them by falling short of what was asked for.

        Where a wish is for any other size than now, the present one is infinitely far off.
        """
        far, short = np.zeros(len(self.kept), np.int64), np.zeros(len(self.kept), np.int64)
        for wish in self.part.wishes:
            if not wish.target.exact:
                size, wanted, before = self.size(wish.count), wish.target.size, wish.target.before
                far += np.abs(size - wanted)
                short += (size < wanted) if wanted > before else (size > wanted) if wanted < before else 0
                far += _NEVER * (wish.target.must_change & (size == before))
        return far, short


def curve(values: Floats, most: int) -> Floats:
    """What the first ones are worth together, for every number of them."""
    found = np.zeros(most + 1)
    found[1 : len(values) + 1] = np.cumsum(values[:most])
    if len(values) < most:
        found[len(values) + 1 :] = found[len(values)]
    return found


# -- random parts ------------------------------------------------------------------------------


def chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def pick(rng: Rng, *options: int) -> int:
    return int(options[int(rng.integers(len(options)))])


def utilities(rng: Rng, size: int) -> Floats:
    """Descending; sometimes with ties, sometimes zero or negative."""
    match pick(rng, 0, 0, 1, 1, 2, 3, 4):
        case 0:
            found = rng.lognormal(0, 0.7, size)
        case 1:
            found = rng.integers(0, 4, size).astype(np.float64)
        case 2:
            found = rng.normal(0.3, 1.0, size)
        case 3:
            found = np.full(size, float(pick(rng, 0, 1)))
        case _:
            found = -rng.integers(0, 3, size).astype(np.float64)
    return np.sort(found)[::-1].copy()


def staircase(*sizes: Ints) -> Floats:
    """A cost as a machine has it: by tiles of two, and something for every call."""
    return np.asarray(0.37 + 1.13 * prod((-(-np.asarray(size) // 2) for size in sizes), start=np.int64(1)))


def bumpy(*sizes: Ints) -> Floats:
    """A cost that falls in between."""
    return np.asarray(sum((np.sqrt(np.maximum(size, 0)) for size in sizes), start=0.3 * (np.asarray(sizes[0]) % 3)))


@dataclass
class Making:
    """A part that is being made up.

    Args:
        rng: chance.
        growing: whether there are slots.
    """

    rng: Rng
    growing: bool
    buckets: list[Bucket] = field(default_factory=list)
    slots: int = 0
    sizes: list[Count] = field(default_factory=list)
    rectangles: list[Rectangle] = field(default_factory=list)
    tensors: list[Count] = field(default_factory=list)
    quotients: list[tuple[Count, Count]] = field(default_factory=list)
    most: int = 0

    @property
    def points(self) -> int:
        return prod(len(bucket.classes) + 1 for bucket in self.buckets) * prod([self.most + 1] * self.slots)

    def bucket(self, size: int, slot: int = -1, forced: bool | None = None) -> int:
        values = utilities(self.rng, size)
        self.buckets.append(Bucket(np.arange(size), values, 1, slot, forced))
        return len(self.buckets) - 1

    def slot(self, probability: float) -> int:
        if not self.growing or not chance(self.rng, probability) or self.slots == 2:
            return -1
        self.slots += 1
        return _FIRST_SLOT + self.slots - 1

    def count(self, buckets: Sequence[int], constant: int = 0) -> Count:
        slots = {self.buckets[bucket].slot - _FIRST_SLOT for bucket in buckets if self.buckets[bucket].slot >= 0}
        return Count(constant, dict.fromkeys(buckets, 1), dict.fromkeys(sorted(slots), 1))

    def needed(self, buckets: Sequence[int]) -> None:
        self.sizes.append(Count(0, dict.fromkeys(buckets, 1), {}))

    def tensor(self) -> None:
        """One or two buckets; of two, one may have to stay or to go."""
        slot = self.slot(0.6)
        mine = [self.bucket(pick(self.rng, 1, 2, 3, 4, 5, 6), slot)]
        if chance(self.rng, 0.25):
            mine.append(self.bucket(pick(self.rng, 1, 2), slot, [None, True, False][pick(self.rng, 0, 1, 2)]))
        if chance(self.rng, 0.9):
            self.needed(mine)
        self.tensors.append(self.count(mine, pick(self.rng, 0, 0, 0, 2)))

    def regular(self) -> None:
        """Rows that may go, each with a bucket for its cells in one or two rectangles."""
        height, width = [(1, 4), (2, 3), (2, 2), (3, 2), (3, 1)][pick(self.rng, 0, 1, 2, 3, 4)]
        rows = [self.bucket(1) for _ in range(height)]
        self.needed(rows)
        for _ in range(2 if chance(self.rng, 0.3) and height * width < 6 else 1):
            slot = self.slot(0.3)
            forced: list[bool | None] = [None] * height
            if chance(self.rng, 0.15):
                forced[pick(self.rng, *range(height))] = [True, False][pick(self.rng, 0, 1)]
            cells = [self.bucket(width, slot, one) for one in forced]
            self.rectangle(rows, [[cell] for cell in cells])

    def irregular(self) -> None:
        """Two rectangles over the same cells, as a shuffle makes them; or a row that stands there twice."""
        width = pick(self.rng, 1, 2)
        rows = [self.bucket(1) for _ in range(2)]
        self.needed(rows)
        slot = self.slot(0.3)
        if chance(self.rng, 0.2):
            cells = [self.bucket(width + 1, slot) for _ in range(3)]
            self.rectangle([rows[0], rows[1], rows[1]], [[cell] for cell in cells])
            return
        forced: list[bool | None] = [None] * 4
        if chance(self.rng, 0.15):
            forced[pick(self.rng, 0, 1, 2, 3)] = [True, False][pick(self.rng, 0, 1)]
        cells = [self.bucket(width, slot, one) for one in forced]
        self.rectangle(rows, [cells[:2], cells[2:]])
        if chance(self.rng, 0.6):
            others = [self.bucket(1) for _ in range(2)]
            self.needed(others)
            self.rectangle(others, [cells[::2], cells[1::2]])

    def alive(self) -> None:
        """Rows that stay, beside some that may go."""
        width, slot = pick(self.rng, 1, 2, 3), self.slot(0.5)
        height = pick(self.rng, 2, 3)
        rows = [-1] * height
        if chance(self.rng, 0.3):
            rows[pick(self.rng, *range(height))] = self.bucket(1)
        cells = [self.bucket(width, slot) for _ in range(height)]
        self.rectangle(rows, [[cell] for cell in cells], constant=pick(self.rng, 0, 0, 1))

    def rectangle(self, rows: Sequence[int], cells: Sequence[Sequence[int]], constant: int = 0) -> None:
        counts = [self.count(one, constant) for one in cells]
        self.rectangles.append(Rectangle(tuple(rows), tuple(counts), Reason("v", "rows")))
        every = [bucket for one in cells for bucket in one]
        if not constant:
            self.needed(every)
        slots = {slot for count in counts for slot in count.new}
        total = Count(constant * len(rows), dict.fromkeys(every, 1), dict.fromkeys(slots, len(rows)))
        self.tensors.append(total)
        living = Count(sum(row < 0 for row in rows), {}, {})
        for row in rows:
            if row >= 0:
                living = Count(living.constant, {**living.keep, row: living.keep.get(row, 0) + 1}, {})
        if living.keep:
            self.quotients.append((total, living))
            self.tensors.append(living)


def random_part(rng: Rng) -> Part:
    """At most `_MOST_POINTS` combinations of counts."""
    while True:
        made = Making(rng, growing=chance(rng, 0.3))
        made.most = pick(rng, 1, 2, 3) if made.growing else 0
        kind = pick(rng, 0, 0, 1, 1, 2, 3)
        tensors = pick(rng, 2, 3, 4) if kind == 0 else pick(rng, 0, 1, 1)
        for _ in range(tensors):
            made.tensor()
        if kind:
            (made.regular, made.irregular, made.alive)[kind - 1]()
        if len(made.buckets) >= 2 and made.points <= _MOST_POINTS:
            return limited_part(made)


def limited_part(made: Making) -> Part:
    """With budgets and the like, which leave something possible mostly."""
    rng, most = made.rng, made.most
    gains: tuple[Floats, ...] = ()
    if made.slots and chance(rng, 0.7):
        gains = tuple(np.maximum(utilities(rng, pick(rng, 0, 1, 2, 4)), 0.0) for _ in range(made.slots))
    part = Part(
        tuple(made.buckets),
        made.slots,
        (1,) * made.slots,
        tuple(made.sizes),
        (),
        tuple(made.rectangles),
        (),
        (),
        most if made.slots else None,
        (),
        (),
        gains,
        tuple(range(len(made.buckets))),
        tuple(range(_FIRST_SLOT, _FIRST_SLOT + made.slots)),
    )
    if chance(rng, 0.25):
        size = added(rng, made.tensors) if chance(rng, 0.3) else some(rng, made.tensors)
        also = frozenset({pick(rng, 1, 5)}) if chance(rng, 0.3) else frozenset[int]()
        part = replace(part, grids=(Grid(size, pick(rng, 2, 3), also),))
    if chance(rng, 0.15) and len(made.tensors) > 1:
        one, other = (made.tensors[int(at)] for at in rng.choice(len(made.tensors), 2, replace=False))
        part = replace(part, balances=(less(one, other),))
    if chance(rng, 0.3):
        part = replace(part, wishes=(wish(rng, part, some(rng, made.tensors), most, exact=chance(rng, 0.5)),))
    if chance(rng, 0.1):
        part = replace(part, wishes=(*part.wishes, wish(rng, part, some(rng, made.tensors), most, exact=False)))
    for _ in range(pick(rng, 1, 1, 1, 2, 3)):
        part = replace(part, budgets=(*part.budgets, budget(made, part)))
    return part


def some(rng: Rng, counts: Sequence[Count]) -> Count:
    return counts[int(rng.integers(len(counts)))]


def added(rng: Rng, counts: Sequence[Count]) -> Count:
    """Several sizes side by side, some of them several times."""
    constant, keep, new = pick(rng, 0, 0, 3), dict[int, int](), dict[int, int]()
    for at in rng.choice(len(counts), min(len(counts), pick(rng, 2, 2, 3, 4)), replace=False):
        times = pick(rng, 1, 1, 2)
        constant += times * counts[int(at)].constant
        for bucket, often in counts[int(at)].keep.items():
            keep[bucket] = keep.get(bucket, 0) + times * often
        for slot, often in counts[int(at)].new.items():
            new[slot] = new.get(slot, 0) + times * often
    return Count(constant, keep, new)


def less(one: Count, other: Count) -> Count:
    """The difference of two sizes."""

    def of(left: Mapping[int, int], right: Mapping[int, int]) -> dict[int, int]:
        found = {key: left.get(key, 0) - right.get(key, 0) for key in {**left, **right}}
        return {key: factor for key, factor in found.items() if factor}

    return Count(one.constant - other.constant, of(one.keep, other.keep), of(one.new, other.new))


def wish(rng: Rng, part: Part, count: Count, most: int, *, exact: bool) -> Wish:
    """A size that is possible mostly."""
    points = Points(part, most)
    found = points.size(count)[points.valid()]
    wanted = int(rng.choice(found)) if len(found) else 1
    before = count.constant + sum(often * len(part.buckets[bucket].classes) for bucket, often in count.keep.items())
    size = max(wanted + (0 if exact and chance(rng, 0.9) else pick(rng, -1, 0, 1, 2)), 1)
    return Wish(count, Target(Port("v"), before, size, exact, not exact and chance(rng, 0.3), "wish"))


def term(made: Making) -> Monomial:
    """A product of one or two sizes, by rows in some."""
    rng = made.rng
    factor = Fraction(pick(rng, 1, 1, 2, 3, 5), pick(rng, 1, 1, 1, 2, 3))
    if chance(rng, 0.08):
        factor = -factor

    def size() -> Count:
        return added(rng, made.tensors) if len(made.tensors) > 1 and chance(rng, 0.25) else some(rng, made.tensors)

    if made.quotients and chance(rng, 0.4):
        total, living = made.quotients[int(rng.integers(len(made.quotients)))]
        rest = [] if chance(rng, 0.3) else [total] if chance(rng, 0.3) else [size()]
        return Monomial(factor, (total, *rest), (living,))
    return Monomial(factor, (size(),) if chance(rng, 0.3) else (size(), size()))


def budget(made: Making, part: Part) -> Budget:
    """Ends are such that something is left, mostly."""
    rng = made.rng
    gauges: tuple[Gauge, ...] = ()
    if chance(rng, 0.15):
        terms: tuple[Monomial, ...] = (term(made),) if chance(rng, 0.5) else ()
        function = [staircase, bumpy][pick(rng, 0, 1)]
        distinct = {count.key: count for count in (some(rng, made.tensors) for _ in range(pick(rng, 1, 2)))}
        gauges = (Gauge(function, tuple(distinct.values())),)
    elif chance(rng, 0.15):
        # A limit on how many are kept, or come.
        count = some(rng, made.tensors)
        terms = (Monomial(Fraction(1), (Count(count.constant, count.keep, {}),)),)
        if count.new and chance(rng, 0.5):
            terms = (Monomial(Fraction(1), (Count(0, {}, count.new),)),)
    else:
        terms = tuple(term(made) for _ in range(pick(rng, 1, 2, 3, 4)))
    constant = Fraction(pick(rng, 0, 0, 4, 7), pick(rng, 1, 1, 2))
    found = Budget(terms, gauges, constant, None, None, Bound("budget", (), None, None))
    points = Points(part, made.most)
    over, under = points.amount(found)
    good = points.valid() & (under > 0)
    if not good.any():
        return replace(found, high=Fraction(20))
    amounts = np.unique(over[good] / under[good] + points.measured(found)[good])

    def end(quantile: float) -> Fraction:
        at = round(quantile * (len(amounts) - 1))
        if gauges:
            return Fraction(float(amounts[at : at + 2].mean()) + 0.01 * (at + 1 == len(amounts)))
        exact = next(
            Fraction(int(a), int(b)) for a, b in zip(over[good], under[good], strict=True) if a / b == amounts[at]
        )
        return exact + (Fraction(1, 7) if chance(rng, 0.2) else 0)

    match pick(rng, 0, 0, 0, 0, 0, 1, 2, 3):
        case 1:
            return replace(found, low=end(rng.uniform(0.1, 1.0)))
        case 2:
            low = rng.uniform(0.0, 0.6)
            return replace(found, low=end(low), high=end(rng.uniform(low, 1.0)))
        case 3:
            return replace(found, high=end(0.0) - (1 if chance(rng, 0.3) else 0))
        case _:
            return replace(found, high=end(rng.uniform(0.05, 0.9)))


def parts(family: int, block: int, size: int) -> Iterator[tuple[str, Part, Points]]:
    for number in range(size):
        part = random_part(np.random.default_rng([_SEED, family, block, number]))
        most = part.most_new or 0
        if not modest(part):
            most = min(most, most_new(part))
        yield f"part {[_SEED, family, block, number]}", part, Points(part, most)


def modest(part: Part) -> bool:
    """Whether no budget asks for growth: then new neurons that are worth nothing are of no use beyond what is tried."""
    return all(budget_.low is None and all(one.factor > 0 for one in budget_.terms) for budget_ in part.budgets)


# -- checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(4))
def test_holds_where_every_rule_is_kept(block: int) -> None:
    for name, part, points in parts(0, block, 30):
        valid = points.valid()
        for kept, new, good in zip(points.kept.tolist(), points.new.tolist(), valid.tolist(), strict=True):
            assert holds(part, kept, new) == good, f"{name}: {kept} {new}"


@dataclass(frozen=True)
class Run:
    """What prices say about a part, in the steps of the solver."""

    field: Field
    priced: Priced
    bound: float
    point: Counts | None


def run_prices(part: Part, gap: float) -> Run | None:
    """None if the part is not one that can be priced."""
    deadline, most = time.perf_counter() + _SECONDS, most_new(part) if part.slots else 0
    try:
        surveyed = survey(part, most)
    except TooComplexError:
        return None
    if not surveyed.choices or any(len(choice.gain) == 0 for choice in surveyed.choices):
        return None
    landscape = Landscape(surveyed)
    start = descend(landscape, deadline)
    priced = price(landscape, start, gap, deadline)
    bound = priced.bound
    if surveyed.assumed:
        bound = max(bound, dead_bound(part, surveyed, most, bound, deadline))
    return Run(surveyed, priced, bound, None if priced.point is None else _counts(part, surveyed, priced.point.states))


@pytest.mark.parametrize("block", range(20))
def test_prices_bound_everything(block: int) -> None:
    priced = 0
    for name, part, points in parts(1, block, 30):
        found = run_prices(part, 1e-4)
        if found is None:
            continue
        priced += 1
        valid, worth = points.valid(), points.worth()
        if valid.any():
            best = float(worth[valid].max())
            assert found.bound >= best - _CLOSE, f"{name}: {found.bound} is no bound, {best} is possible"
            check_open(name, found, points, valid, worth)
        if found.priced.point is not None and found.point is not None:
            assert (found.priced.point.excess <= _CLOSE).all(), name
            check_point(name, found, part, points)
    assert priced >= 20


def row_of(points: Points, counts: Counts) -> int:
    same = (points.kept == counts.kept).all(axis=1) & (points.new == counts.new).all(axis=1)
    (found,) = np.flatnonzero(same)
    return int(found)


def check_point(name: str, found: Run, part: Part, points: Points) -> None:
    """What the point claims to be worth it is worth, and it keeps every budget that is priced."""
    assert found.point is not None
    assert found.priced.point is not None
    at = row_of(points, found.point)
    assert points.worth()[at] == pytest.approx(found.priced.point.gain, abs=_CLOSE), name
    for budget_ in found.field.part.budgets:
        assert points.keeps(budget_)[at] or budget_.gauges, f"{name}: {found.point} exceeds {budget_}"
    for balance in part.balances:
        assert points.size(balance)[at] == 0, name


def check_open(name: str, found: Run, points: Points, valid: Mask, worth: Floats) -> None:
    """The best counts in which all rows live that were taken to live are open, unless they are worth less."""
    good = valid.copy()
    for row in found.field.assumed:
        good &= points.kept[:, row] == 1
    if not good.any():
        return
    good &= (points.new <= most_new(points.part)).all(axis=1)
    best = worth[good].max()
    claimed = -np.inf if found.priced.point is None else found.priced.point.gain
    if claimed > best + _CLOSE:
        return
    inside = np.ones(int((good & (worth >= best - _CLOSE)).sum()), bool)
    rows = np.flatnonzero(good & (worth >= best - _CLOSE))
    for choice, states in zip(found.field.choices, found.priced.open, strict=True):
        inside &= [is_open(choice, states, points.kept[row], points.new[row]) for row in rows]
    if any(choice.blocks for choice in found.field.choices):
        # Of shapes that are alike, one will do.
        assert inside.any(), f"{name}: none of the best is open"
    else:
        assert inside.all(), f"{name}: {points.kept[rows[~inside]]}"


def is_open(choice: Choice, states: Ints, kept: Ints, new: Ints) -> bool:
    if choice.blocks:
        (block,) = choice.blocks
        shape = [kept[list(block.rows)].sum(), *(kept[list(cells)].max() for cells in block.cells)]
        return bool((block.shapes[states] == shape).all(axis=1).any())
    size = kept[list(choice.buckets)].sum() + (new[choice.slot] if choice.slot >= 0 else 0)
    return bool((choice.features[states, 0] == size).any())


@pytest.fixture
def _no_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts take the same way as large ones."""
    monkeypatch.setattr("solver_nas.solve.limited._SMALL", -1.0)
    # Near a solution, that is everywhere.
    monkeypatch.setattr("solver_nas.solve.limited._NEARBY", (0, 0))


@pytest.mark.usefixtures("_no_shortcut")
@pytest.mark.parametrize("gap", [0.0, 0.05])
@pytest.mark.parametrize("block", range(12))
def test_solutions_are_as_good_as_is_said(block: int, gap: float) -> None:
    possible = 0
    for name, part, points in parts(2, block, 25):
        found = solve_counts(part, time.perf_counter() + _SECONDS, 0, gap)
        possible += check_solution(name, found, points, gap)
    assert possible >= 12


def check_solution(name: str, found: Counts, points: Points, gap: float) -> bool:
    valid, worth = points.valid(), points.worth()
    far, short = points.missed()
    valid &= far < _NEVER
    if not valid.any():
        assert found.status is Status.INFEASIBLE, f"{name}: nothing is possible, and not {found}"
        return False
    assert found.status in (Status.OPTIMAL, Status.FEASIBLE), f"{name}: {found.status}"
    at = row_of(points, found)
    assert valid[at], f"{name}: {found} is no solution"
    key = (len(points.part.wishes) + 1) * far + short
    nearest = valid & (key == key[valid].min())
    assert nearest[at], f"{name}: wishes are missed by {far[at]} and not by {far[nearest][0]}"
    assert found.deviation == far[at], name
    best, reached = float(worth[nearest].max()), float(worth[at])
    assert found.slack >= best - reached - _CLOSE, (
        f"{name}: {reached} is proven to {found.slack}, but {best} is possible"
    )
    if found.status is Status.OPTIMAL:
        assert reached >= best - _CLOSE, f"{name}: {reached} is no optimum, {best} is"
    else:
        assert gap, f"{name}: {found} is not proven"
        assert found.slack <= gap * abs(reached + found.slack) + _CLOSE, f"{name}: {found} is not proven so far"
    return True
