"""From labels and requests to a small optimisation problem over counts.

Neurons that no constraint can tell apart form a bucket, and of a bucket only the number kept matters:
the best k are the k of highest utility. So a network of a million neurons becomes a few integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solver_nas.classes import classify, loose_joints, reached
from solver_nas.partition import renumbered, split_by_counts, split_by_rows
from solver_nas.utility import class_utility

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from solver_nas.graph import Port
    from solver_nas.labels import IntArray, Joint, Labels, Product, Reason
    from solver_nas.requests import Target
    from solver_nas.utility import FloatArray, Worth

BoolArray = NDArray[np.bool_]

_ALIVE = -1  # stands for the bucket of a row that is always kept


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """A size as a linear expression: `constant + sum(keep[b] * kept(b)) + sum(new[s] * inserted(s))`."""

    constant: int
    keep: Mapping[int, int]
    new: Mapping[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """A size and what is wanted of it."""

    count: Count
    target: Target


class Rectangle(NamedTuple):
    """Rows that keep equally many cells.

    Args:
        rows: the bucket of every row's label, or -1 if the row is always there.
        cells: for every row, how many of its cells there are.
        reason: who needs it.
    """

    rows: tuple[int, ...]
    cells: tuple[Count, ...]
    reason: Reason


class SharedColumns(NamedTuple):
    """Cells that live iff row and column do (buckets of one class each; -1: always there)."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    cells: tuple[tuple[int, ...], ...]
    new_columns: Count
    new_cells: tuple[Count, ...]
    reason: Reason


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Classes that no constraint can tell apart.

    Args:
        classes: best first; among equals, the lowest index first.
        utilities: of these classes, descending.
        neurons: how many (vertex, neuron) pairs each of its classes stands for.
        slot: the insertion slot that new neurons of this kind use, or -1 where none can be inserted.
    """

    classes: IntArray
    utilities: FloatArray
    neurons: int
    slot: int


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Which counts to choose: buckets, sizes and wishes. Holds no solver objects.

    Args:
        class_of: label -> class; class 0 is always kept.
        classes: how many classes there are.
        buckets: the integers to be found; classes in no bucket stay as they are.
        slots: for every insertion slot, the class after which new neurons stand.
        slot_neurons: how many (vertex, neuron) pairs one insertion makes.
        sizes: every size that has to stay at least 1.
        wishes: sizes that are asked for.
        rectangles: rows that keep equally many cells.
        shared: rectangles with shared columns.
        balances: expressions that have to be zero: differences of sizes, and counts of what has to go.
        most_new: how many new neurons a slot may get; `None` for no limit.
        positions: how many (vertex, neuron) pairs are up for change.
        utility_elsewhere: utility of the classes that are not up for change (always kept).
    """

    class_of: IntArray
    classes: int
    buckets: tuple[Bucket, ...]
    slots: IntArray
    slot_neurons: IntArray
    sizes: tuple[Count, ...]
    wishes: tuple[Wish, ...]
    rectangles: tuple[Rectangle, ...]
    shared: tuple[SharedColumns, ...]
    balances: tuple[Count, ...]
    most_new: int | None
    positions: int
    utility_elsewhere: float


def pose(
    labels: Labels,
    targets: Sequence[Target],
    worth: Worth,
    *,
    everywhere: Iterable[Port] = (),
    insert: bool = True,
    most_new: int | None = None,
) -> Problem:
    """Reduce a request to counts.

    Args:
        labels: of the network.
        targets: the sizes that are wanted.
        worth: the utility of every neuron of a tensor; only asked for tensors that may change.
        everywhere: tensors that may change without a target, where that gains utility.
        insert: whether new neurons may be inserted.
        most_new: how many new neurons may be inserted at any one place.

    Raises:
        UtilityError: a utility is not finite or has the wrong length.
    """
    class_of, classes = classify(labels)
    return _Poser(labels, class_of, classes, insert=insert, most_new=most_new).pose(targets, worth, tuple(everywhere))


class _Poser:
    """The steps of `pose`; lives for one call."""

    def __init__(self, labels: Labels, class_of: IntArray, classes: int, *, insert: bool, most_new: int | None) -> None:
        self.labels, self.class_of, self.classes = labels, class_of, classes
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

    def pose(self, targets: Sequence[Target], worth: Worth, everywhere: tuple[Port, ...]) -> Problem:
        touched = self._touched(targets, everywhere)
        # Local numbers for the classes that are up for change; -1 for all others.
        local = np.full(self.classes, -1, np.int64)
        local[touched] = np.arange(int(touched.sum()))
        members = np.flatnonzero(touched)
        groups = self._groups(local)
        joints = [j for j in self.joints if self._any(touched, j.rows, j.cells)]
        products = [p for p in self.labels.products if self._any(touched, p.rows, p.columns, p.cells)]
        wide = self._refine(len(members), groups, joints, local)
        fine = self._split_products(wide, products, local)
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
        buckets = _buckets(fine, wide, members, utility, neurons, slot_of_part)
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
            tuple(self._shared(product, fine, local, count) for product in products),
            tuple(self._balances(local, count)),
            self.most_new,
            int((inside >= 0).sum()),
            float(total[~touched].sum()),
        )

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
        starts += [side for balance in labels.balances for side in (balance.left, balance.right)]
        starts += [farewell.labels for farewell in labels.farewells]
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

    def _split_products(self, part: IntArray, products: Sequence[Product], local: IntArray) -> IntArray:
        """Rows, columns and cells of shared columns stand each for themselves."""
        alone = np.zeros(len(part), bool)
        for product in products:
            for labels in (product.rows, product.columns, product.cells.reshape(-1)):
                inside = local[self.class_of[labels]]
                alone[inside[inside >= 0]] = True
        fine = part.copy()
        fine[alone] = len(part) + np.arange(int(alone.sum()))
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
            yield _difference(left, right)
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
        cells = tuple((c.constant, *sorted(c.keep.items()), *sorted(c.new.items())) for c in rectangle.cells)
        found.setdefault((rectangle.rows, cells), rectangle)
    return tuple(found.values())


def _buckets(
    fine: IntArray,
    wide: IntArray,
    members: IntArray,
    utility: FloatArray,
    neurons: IntArray,
    slot_of_part: IntArray,
) -> tuple[Bucket, ...]:
    # Sorted by bucket, then by falling utility, then by class: the order in which neurons are kept.
    order = np.lexsort((np.arange(len(fine)), -utility, fine))
    edges = np.searchsorted(fine[order], np.arange(int(fine.max()) + 2 if len(fine) else 1))
    found = []
    for begin, end in pairwise(edges):
        inside = order[begin:end]
        first = inside[0]
        found.append(Bucket(members[inside], utility[inside], int(neurons[first]), int(slot_of_part[wide[first]])))
    return tuple(found)


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
