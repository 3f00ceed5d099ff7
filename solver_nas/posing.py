"""From labels and requests to a problem over counts."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solver_nas.bounds import Bound, Counted, Forced, Frozen, Lattice, arrays
from solver_nas.classes import classify, loose_joints, reached
from solver_nas.labels import FIXED, Reason, Tie
from solver_nas.partition import renumbered, split_by_counts, split_by_rows
from solver_nas.problem import Bucket, Budget, Count, Gauge, Grid, Monomial, Problem, Rectangle, SharedColumns, Wish
from solver_nas.utility import class_utility, descending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from solver_nas.bounds import Curve, Restriction, Term
    from solver_nas.graph import Port
    from solver_nas.labels import IntArray, Joint, Labels, Product
    from solver_nas.requests import Target
    from solver_nas.utility import FloatArray, Worth

BoolArray = NDArray[np.bool_]

_ALIVE = -1  # stands for the bucket of a row that is always kept


def pose(
    labels: Labels,
    targets: Sequence[Target],
    worth: Worth,
    *,
    everywhere: Iterable[Port] = (),
    insert: bool = True,
    most_new: int | None = None,
    limits: Sequence[Restriction] = (),
    promise: Worth | None = None,
) -> Problem:
    """Reduce a request to counts.

    Args:
        labels: of the network.
        targets: the sizes that are wanted.
        worth: the utility of every neuron of a tensor; only asked for tensors that may change.
        everywhere: tensors that may change without a target, where that gains utility.
        insert: whether new neurons may be inserted.
        most_new: how many new neurons may be inserted at any one place.
        limits: what sizes have to keep.
        promise: what new neurons of a tensor are worth, the first, the second and so on, descending.

    Raises:
        UtilityError: a utility is not finite or has the wrong length.
    """
    frozen = tuple(
        Tie(limit.labels, np.full_like(limit.labels, FIXED), Reason("", limit.text))
        for limit in limits
        if isinstance(limit, Frozen)
    )
    labels = replace(labels, ties=(*labels.ties, *frozen)) if frozen else labels
    class_of, classes = classify(labels)
    poser = _Poser(labels, class_of, classes, limits, insert=insert, most_new=most_new)
    return poser.pose(targets, worth, tuple(everywhere), promise)


class _Poser:
    """The steps of `pose`; lives for one call."""

    def __init__(
        self,
        labels: Labels,
        class_of: IntArray,
        classes: int,
        limits: Sequence[Restriction],
        *,
        insert: bool,
        most_new: int | None,
    ) -> None:
        self.labels, self.class_of, self.classes = labels, class_of, classes
        self.limits = [limit for limit in limits if not isinstance(limit, Frozen)]
        self.insert, self.most_new = insert and most_new != 0, most_new
        self.joints = loose_joints(labels, class_of)
        self.arrays = self._distinct_arrays()

    def _distinct_arrays(self) -> dict[int, IntArray]:
        """Every array of labels whose size has to stay positive, once."""
        found: dict[int, IntArray] = {}
        for _, level in self.labels.arrays():
            found.setdefault(id(level), level["label"].reshape(-1))
        for parameter in self.labels.parameters.values():
            for use in parameter.uses:
                for level in use.levels:
                    found.setdefault(id(level), level["label"].reshape(-1))
        return found

    def pose(
        self, targets: Sequence[Target], worth: Worth, everywhere: tuple[Port, ...], promise: Worth | None
    ) -> Problem:
        touched = self._touched(targets, everywhere)
        # Local numbers for the classes that are up for change; -1 for all others.
        local = np.full(self.classes, -1, np.int64)
        local[touched] = np.arange(int(touched.sum()))
        members = np.flatnonzero(touched)
        groups = self._groups(local)
        joints = [j for j in self.joints if self._any(touched, j.rows, j.cells)]
        products = [p for p in self.labels.products if self._any(touched, p.rows, p.columns, p.cells)]
        counted = [local[self.class_of[array]] for limit in self.limits for array in arrays(limit)]
        wide = self._refine(len(members), [*groups, *counted], joints, local)
        forced = self._forced(local, len(members))
        fine = self._split_products(wide, products, forced, local)
        ports = [
            port
            for port, tensor in self.labels.tensors.items()
            if tensor.blocks and touched[self.class_of[tensor.neurons["label"]]].any()
        ]
        total = class_utility(self.labels, ports, self.class_of, self.classes, worth)
        utility = total[members]
        inside = local[self.class_of[_joined([self.labels.tensors[port].neurons["label"] for port in ports])]]
        neurons = np.bincount(inside[inside >= 0], minlength=len(members))
        slots, slot_of_part = self._slots(wide, joints, local)
        buckets = _buckets(fine, wide, members, utility, neurons, slot_of_part, forced)
        count = _Counter(fine, wide, slot_of_part)
        return Problem(
            self.class_of,
            self.classes,
            buckets,
            members[slots] if len(slots) else slots,
            neurons[slots] if len(slots) else slots,
            tuple(_minimal([count.of(array) for array in groups])),
            tuple(
                Wish(count.of(local[self.class_of[self.labels.tensors[t.port].neurons["label"]]]), t) for t in targets
            ),
            _different([self._rectangle(joint, fine, local, count) for joint in joints]),
            tuple(shared for product in products if not (shared := self._shared(product, fine, local, count)).empty),
            tuple(self._balances(local, count)),
            self.most_new,
            int((inside >= 0).sum()),
            float(total[~touched].sum()),
            (
                *(self._budget(limit, local, count) for limit in self.limits if isinstance(limit, Bound)),
                *self._contradictions(),
            ),
            tuple(self._grids(local, count)),
            () if promise is None else self._gains(members[slots], ports, promise),
        )

    def _grids(self, local: IntArray, count: _Counter) -> Iterator[Grid]:
        for limit in self.limits:
            if isinstance(limit, Lattice):
                size = count.of(local[self.class_of[limit.labels]])
                if not (limit.optional and size.rigid):
                    yield Grid(size, limit.step, limit.also)

    def _gains(self, members: IntArray, ports: Sequence[Port], promise: Worth) -> tuple[FloatArray, ...]:
        """What new neurons are worth, slot by slot: the sum over all places where they will stand."""
        slot_of = np.full(self.classes, -1, np.int64)
        slot_of[members] = np.arange(len(members))
        sums: list[FloatArray | None] = [None] * len(members)
        for port in ports:
            slots = slot_of[self.class_of[self.labels.tensors[port].neurons["label"]]]
            slots = slots[slots >= 0]
            if len(slots):
                gains = descending(promise(port), port.vertex)
                for slot in slots:
                    known = sums[slot]
                    sums[slot] = gains if known is None else _added(known, gains)
        return tuple(np.zeros(0) if gains is None else gains for gains in sums)

    def _forced(self, local: IntArray, size: int) -> NDArray[np.int8]:
        """Which classes have to stay (1) or to go (-1)."""
        forced = np.zeros(size, np.int8)
        for limit in self.limits:
            if isinstance(limit, Forced):
                inside = local[self.class_of[limit.labels]]
                forced[inside[inside >= 0]] = 1 if limit.lives else -1
        return forced

    def _contradictions(self) -> Iterator[Budget]:
        """Neurons that have to go, but are always kept, or have to stay as well."""
        stay = np.zeros(self.classes, bool)
        stay[FIXED] = True
        for limit in self.limits:
            if isinstance(limit, Forced) and limit.lives:
                stay[self.class_of[limit.labels]] = True
        for limit in self.limits:
            if isinstance(limit, Forced) and not limit.lives and stay[self.class_of[limit.labels]].any():
                origin = Bound(limit.text, (), None, Fraction(0))
                yield Budget((), (), Fraction(1), None, Fraction(0), origin)

    def _budget(self, limit: Bound, local: IntArray, count: _Counter) -> Budget:
        known: dict[int, Count] = {}

        def size(array: IntArray) -> Count:
            if id(array) not in known:
                known[id(array)] = count.of(local[self.class_of[array]])
            return known[id(array)]

        sums: dict[tuple[object, ...], Monomial] = {}
        for term in limit.terms:
            found = _monomial(term, size)
            key = (tuple(one.key for one in found.over), tuple(one.key for one in found.under))
            if key in sums:
                found = found._replace(factor=found.factor + sums[key].factor)
            sums[key] = found
        constant = sum((term.factor for term in sums.values() if not term.over), start=Fraction(0))
        terms = tuple(term for term in sums.values() if term.over and term.factor)
        gauges, measured = [], 0.0
        for curve in limit.curves:
            gauge = _gauge(curve, size)
            if gauge.sizes:
                gauges.append(gauge)
            else:
                measured += float(gauge.function())
        return Budget(terms, tuple(gauges), constant + Fraction(measured), limit.low, limit.high, limit)

    def _groups(self, local: IntArray) -> list[IntArray]:
        """The sizes that can change, as arrays of local classes; equal ones once."""
        found: dict[bytes, IntArray] = {}
        for array in self.arrays.values():
            group = local[self.class_of[array]]
            if (group >= 0).any():
                found.setdefault(group.tobytes(), group)
        return list(found.values())

    def _any(self, touched: BoolArray, *arrays: IntArray) -> bool:
        return any(bool(touched[self.class_of[labels]].any()) for labels in arrays)

    def _touched(self, targets: Sequence[Target], everywhere: tuple[Port, ...]) -> BoolArray:
        """Classes that a request can reach through targets, rectangles and shared columns."""
        labels = self.labels
        wanted = [*(target.port for target in targets), *everywhere]
        starts = [labels.tensors[port].neurons["label"] for port in wanted]
        # What is not equal yet has to become so.
        uneven = [balance for balance in labels.balances if len(balance.left) != len(balance.right)]
        starts += [side for balance in uneven for side in (balance.left, balance.right)]
        starts += [farewell.labels for farewell in labels.farewells]
        starts += [array for limit in self.limits for array in arrays(limit)]
        return reached(labels, self.class_of, self.classes, starts)

    def _refine(self, size: int, groups: Iterable[IntArray], joints: Sequence[Joint], local: IntArray) -> IntArray:
        """Split the classes by how often they occur in every size and in every row of every rectangle."""
        part = np.zeros(size, np.int64)
        for array in groups:
            part = split_by_counts(part, array)
        for joint in joints:
            rows = np.repeat(np.arange(len(joint.rows)), joint.cells.shape[1])
            part = split_by_rows(part, local[self.class_of[joint.cells.reshape(-1)]], rows)
            part = split_by_rows(part, local[self.class_of[joint.rows]], np.arange(len(joint.rows)))
        for farewell in self.labels.farewells:
            part = split_by_counts(part, local[self.class_of[farewell.labels]])
        return renumbered(part)

    def _split_products(
        self, part: IntArray, products: Sequence[Product], forced: NDArray[np.int8], local: IntArray
    ) -> IntArray:
        """Rows, columns and cells of shared columns stand each for themselves; what is forced stands apart."""
        part = 3 * part + forced + 1
        alone = np.zeros(len(part), bool)
        for product in products:
            for labels in (product.rows, product.columns, product.cells.reshape(-1)):
                inside = local[self.class_of[labels]]
                alone[inside[inside >= 0]] = True
        fine = part.copy()
        # Behind all numbers that are taken: one that is used twice would put a row and a cell into one bucket.
        fine[alone] = part.max(initial=0) + 1 + np.arange(int(alone.sum()))
        return renumbered(fine)

    def _slots(self, part: IntArray, joints: Sequence[Joint], local: IntArray) -> tuple[IntArray, IntArray]:
        """The last class of every part, and slot numbers of parts; rows and what has to go get no company."""
        parts = int(part.max()) + 1 if len(part) else 0
        barred = np.full(parts, not self.insert)
        for joint in joints:
            inside = local[self.class_of[joint.rows]]
            barred[part[inside[inside >= 0]]] = True
        for farewell in self.labels.farewells:
            inside = local[self.class_of[farewell.labels]]
            barred[part[inside[inside >= 0]]] = True
        last = np.zeros(parts, np.int64)
        np.maximum.at(last, part, np.arange(len(part)))
        slot_of_part = np.full(parts, -1, np.int64)
        slot_of_part[~barred] = np.arange(int((~barred).sum()))
        return last[~barred], slot_of_part

    def _rectangle(self, joint: Joint, fine: IntArray, local: IntArray, count: _Counter) -> Rectangle:
        rows = local[self.class_of[joint.rows]]
        return Rectangle(
            tuple(int(fine[row]) if row >= 0 else _ALIVE for row in rows),
            tuple(count.of(local[self.class_of[cells]]) for cells in joint.cells),
            joint.reason,
        )

    def _balances(self, local: IntArray, count: _Counter) -> Iterator[Count]:
        for balance in self.labels.balances:
            left, right = (count.of(local[self.class_of[side]]) for side in (balance.left, balance.right))
            difference = _difference(left, right)
            if not difference.rigid or difference.constant:
                yield difference
        for farewell in self.labels.farewells:
            yield count.of(local[self.class_of[farewell.labels]])

    def _shared(self, product: Product, fine: IntArray, local: IntArray, count: _Counter) -> SharedColumns:
        def bucket(labels: IntArray) -> tuple[int, ...]:
            inside = local[self.class_of[labels]]
            return tuple(int(fine[one]) if one >= 0 else _ALIVE for one in inside)

        def inserted(labels: IntArray) -> Count:
            return Count(0, {}, count.of(local[self.class_of[labels]]).new)

        return SharedColumns(
            bucket(product.rows),
            bucket(product.columns),
            tuple(bucket(cells) for cells in product.cells),
            inserted(product.columns),
            tuple(inserted(cells) for cells in product.cells),
            product.reason,
        )


class _Counter:
    """Turns arrays of local classes (-1: always there) into linear expressions.

    All classes of a bucket occur equally often in any size, so that positions per bucket say how often.
    """

    def __init__(self, fine: IntArray, wide: IntArray, slot_of_part: IntArray) -> None:
        self._fine, self._wide = fine, wide
        self._in_bucket = np.bincount(fine) if len(fine) else fine
        self._in_part = np.bincount(wide) if len(wide) else wide
        self._slot_of_part = slot_of_part

    def of(self, array: IntArray) -> Count:
        inside = array[array >= 0]
        keep = _often(self._fine[inside], self._in_bucket)
        parts = _often(self._wide[inside], self._in_part)
        new = {int(self._slot_of_part[part]): often for part, often in parts.items() if self._slot_of_part[part] >= 0}
        return Count(len(array) - len(inside), keep, new)


def _difference(left: Count, right: Count) -> Count:
    def less(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
        found = {key: one.get(key, 0) - other.get(key, 0) for key in {**one, **other}}
        return {key: factor for key, factor in found.items() if factor}

    return Count(left.constant - right.constant, less(left.keep, right.keep), less(left.new, right.new))


def _often(groups: IntArray, members: IntArray) -> dict[int, int]:
    positions = np.bincount(groups, minlength=len(members)) if len(groups) else np.zeros(0, np.int64)
    present = np.flatnonzero(positions)
    return dict(zip(present.tolist(), (positions[present] // members[present]).tolist(), strict=True))


def _joined(arrays: Sequence[IntArray]) -> IntArray:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def _different(rectangles: Sequence[Rectangle]) -> tuple[Rectangle, ...]:
    """Rectangles without those that say the same: queries and keys of one attention do."""
    found: dict[object, Rectangle] = {}
    for rectangle in rectangles:
        # A row that stands there several times (a key head for several query heads) says the same each time.
        once = {(row, cells.key): (row, cells) for row, cells in zip(rectangle.rows, rectangle.cells, strict=True)}
        rows, cells = zip(*once.values(), strict=True)
        found.setdefault(frozenset(once), Rectangle(rows, cells, rectangle.reason))
    return tuple(found.values())


def _buckets(
    fine: IntArray,
    wide: IntArray,
    members: IntArray,
    utility: FloatArray,
    neurons: IntArray,
    slot_of_part: IntArray,
    forced: NDArray[np.int8],
) -> tuple[Bucket, ...]:
    # Sorted by bucket, then by falling utility, then by class: the order in which neurons are kept.
    order = np.lexsort((np.arange(len(fine)), -utility, fine))
    edges = np.searchsorted(fine[order], np.arange(int(fine.max()) + 2 if len(fine) else 1))
    found = []
    for begin, end in pairwise(edges):
        inside = order[begin:end]
        first = inside[0]
        must = None if not forced[first] else bool(forced[first] > 0)
        slot = int(slot_of_part[wide[first]])
        found.append(Bucket(members[inside], utility[inside], int(neurons[first]), slot, must))
    return tuple(found)


def _added(one: FloatArray, other: FloatArray) -> FloatArray:
    """The sum of two sequences; what is missing in the shorter one is zero."""
    if len(one) < len(other):
        one, other = other, one
    result = one.copy()
    result[: len(other)] += other
    return result


def _monomial(term: Term, size: Callable[[IntArray], Count]) -> Monomial:
    """A product of sizes with everything taken out that is a number, or cancels."""
    factor, under = term.factor * (term.volume.times or 0), []
    over = [size(array) for array in term.volume.over]
    if term.counted is Counted.KEPT:
        over = [Count(one.constant, one.keep, {}) for one in over]
    elif term.counted is Counted.NEW:
        over = [Count(0, {}, one.new) for one in over]
    for one in (size(array) for array in term.volume.under):
        same = next((place for place, other in enumerate(over) if _ratio(other, one) is not None), None)
        if one.rigid:
            factor /= one.constant
        elif same is not None:
            factor *= _ratio(over.pop(same), one) or 0
        else:
            under.append(one)
    for one in over:
        factor *= one.constant if one.rigid else 1
    over = sorted((one for one in over if not one.rigid), key=lambda one: one.key)
    return Monomial(factor, tuple(over), tuple(under))


def _ratio(one: Count, other: Count) -> Fraction | None:
    """How many times the other expression the first one is; `None` if it is no multiple of it."""
    first, second = (
        {
            ("constant", 0): c.constant,
            **{("keep", k): v for k, v in c.keep.items()},
            **{("new", k): v for k, v in c.new.items()},
        }
        for c in (one, other)
    )
    ratios = {Fraction(first[key], value) for key, value in second.items() if value and key in first}
    if len(ratios) != 1 or {key for key in first if first[key]} != {key for key in second if second[key]}:
        return None
    return ratios.pop()


def _gauge(curve: Curve, size: Callable[[IntArray], Count]) -> Gauge:
    """A measured cost as a function of the sizes that can change, each once."""
    counts = [size(axis) for axis in curve.axes]
    loose = {count.key: count for count in counts if not count.rigid}
    places = {key: place for place, key in enumerate(loose)}

    def function(*sizes: IntArray) -> FloatArray:
        return curve.function(
            *(np.asarray(c.constant) if c.rigid else np.asarray(sizes[places[c.key]]) for c in counts)
        )

    return Gauge(function, tuple(loose.values()))


def _minimal(sizes: Sequence[Count]) -> list[Count]:
    """Sizes that can become empty, without those that contain another one."""
    open_sizes = {tuple(sorted(size.keep)): size for size in sizes if size.constant == 0 and size.keep}
    keys = sorted(open_sizes, key=len)
    kept: list[tuple[int, ...]] = []
    for key in keys:
        inside = set(key)
        if all(not inside.issuperset(small) for small in kept):
            kept.append(key)
    return [open_sizes[key] for key in kept]
