"""Refit the weights that remain, so that they take over what the removed neurons did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from solver_nas.errors import CalibrationError
from solver_nas.linear import Linear
from solver_nas.outcomes import error_of, judged, outcome, spread_of
from solver_nas.passage import is_held
from solver_nas.progress import progress as show_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.frontend import Array, Model
    from solver_nas.graph import Graph
    from solver_nas.linear import Floats, Shift
    from solver_nas.passage import Batch, Course, Passage
    from solver_nas.plan import Blueprint

_MOST_FEATURES = 4608  # 512 channels under a window of 3 x 3; of more, only the bias is fitted
_MOST_ROWS = 16  # times the number of features: more positions hardly tell anything new
_FEWEST_ROWS = 4096
_RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # relative to the mean square of what is read
_SHARES = (1.0, 0.6, 0.3)  # of the way to new weights
_MEMORY = 2**31  # bytes of tensors that batches on their way may take together; beyond, they begin again at each stop


class Refit(NamedTuple):
    """What became of one vertex.

    Args:
        error: mean square of what is missing, as a fraction of that of what should come out, on samples that were
            held back; before the refit.
        left: the same after it.
        ridge: how strongly the present weights were held on to; infinite where only the bias was fitted.
        how: in words.
    """

    error: float
    left: float
    ridge: float
    how: str


@dataclass(frozen=True, slots=True, eq=False)
class Compensation:
    """New weights for a planned model.

    Args:
        arrays: parameters that differ from those of the plan, by key.
        refits: what became of each vertex that reads something else than before.
        plain: how far the outputs are from what they were without the new weights: mean square of the difference, as a
            fraction of their variance, on samples that were held back; of probabilities, before the softmax or sigmoid.
            NaN if there were too few samples to hold some back.
        error: the same with the new weights.
    """

    arrays: Mapping[str, Array]
    refits: Mapping[str, Refit]
    plain: float
    error: float

    @property
    def layers(self) -> int:
        """How many layers were refitted."""
        return sum(refit.how == "refitted" for refit in self.refits.values())

    def __str__(self) -> str:
        """In a line."""
        if np.isnan(self.error):
            return "nothing was refitted: too few samples to hold some back"
        told = f"error of the outputs on samples held back {self.error:.3g}, without refitting {self.plain:.3g}"
        return f"{self.layers} of {len(self.refits)} layers refitted; {told}"


def compensation(
    model: Model,
    blueprint: Blueprint,
    arrays: Mapping[str, Array],
    batches: Sequence[Batch],
    *,
    held_back: float,
    mask: str | None = None,
    progress: bool | None = None,
) -> Compensation:
    """Fit the weights of all vertices that read something else than before, from the first to the last.

    Args:
        model: as it is.
        blueprint: what is planned for it.
        arrays: all parameters of the planned model.
        batches: samples.
        held_back: which share of the batches is held back to judge by; 0 to judge by those that are fitted, too.
        mask: the input that says which positions count.
        progress: whether to show a bar; by default on a terminal if it takes long.
    """
    return _Fitting(model, blueprint, arrays, batches, held_back, mask).run(progress=progress)


class _Fitting:
    def __init__(
        self,
        model: Model,
        blueprint: Blueprint,
        arrays: Mapping[str, Array],
        batches: Sequence[Batch],
        held_back: float,
        mask: str | None,
    ) -> None:
        self._held_back = held_back
        self._counting = [batch.counting(mask) for batch in batches]
        self._model, self._blueprint, self._arrays, self._batches = model, blueprint, dict(arrays), batches
        self._before = _Fleet(model.course(), model.graph, batches)
        self._after = _Fleet(model.course(blueprint, arrays), blueprint.after, batches)
        self._plain = arrays
        self._fitted: dict[str, Array] = {}
        self._refits: dict[str, Refit] = {}

    def run(self, *, progress: bool | None) -> Compensation:
        places = list(self._places())
        with show_progress("refitting", len(places), show=progress) as advance:
            for place in places:
                if isinstance(place, Linear):
                    self._linear(place)
                else:
                    self._shift(place)
                advance()
        return self._chosen()

    def _chosen(self) -> Compensation:
        """All of the way to the new weights, or a part of it, or none: what brings the outputs closest."""
        held = [number for number in range(len(self._batches)) if not self._held_back or self._is_held(number)]
        if not held:
            return Compensation({}, self._refits, np.nan, np.nan)
        names = judged(self._model.graph)

        def outcomes(course: Course) -> list[dict[str, Array]]:
            return [outcome(course.start(self._batches[number]), names, self._counting[number]) for number in held]

        wanted = outcomes(self._before.course)
        scale = spread_of(wanted)

        def error(course: Course) -> float:
            pairs = zip(outcomes(course), wanted, strict=True)
            return float(np.mean([error_of(found, one, scale) for found, one in pairs]))

        plain = error(self._model.course(self._blueprint, self._plain))
        best: dict[str, Array] = {}
        least = plain
        for share in _SHARES if self._fitted else ():
            # Each layer came closer by itself; that the outputs do is another question.
            arrays = {key: self._between(key, array, share) for key, array in self._fitted.items()}
            for key, array in arrays.items():
                self._after.course.exchange(key, array)
            found = error(self._after.course)
            if found < least:
                best, least = arrays, found
            elif best:
                break
        return Compensation(best, self._refits, plain, least)

    def _between(self, key: str, array: Array, share: float) -> Array:
        """A part of the way from the present to the new numbers of a parameter."""
        before = np.asarray(self._plain[key])
        return array if share == 1 else (before + share * (array - before)).astype(array.dtype)

    def _places(self) -> Iterator[Linear | Shift]:
        """What is fitted, in order: linear vertices behind something that has changed, whose weights nobody shares."""
        graph, blueprint = self._model.graph, self._blueprint
        moved = {
            name
            for name, index in blueprint.indices.items()
            if not np.array_equal(index, np.arange(len(index))) or blueprint.sizes[name][0] != blueprint.sizes[name][1]
        }
        reached: set[str] = set()
        users: dict[str, int] = {}
        for vertex in graph.vertices:
            for parameter in vertex.parameters.values():
                users[parameter.key] = users.get(parameter.key, 0) + 1
        for vertex in graph.vertices:
            if any(port.vertex in moved or port.vertex in reached for port in vertex.inputs):
                reached.add(vertex.name)
            else:
                continue
            found = self._model.linear(vertex) or self._model.shift(vertex)
            if found is None:
                continue
            keys = [found.bias, found.weight if isinstance(found, Linear) else None]
            if all(key is None or users[key] == 1 for key in keys):
                yield found

    # -- one vertex ------------------------------------------------------------------------------------

    def _linear(self, place: Linear) -> None:
        before, after = self._model.arrays, self._arrays
        old, new = np.asarray(before[place.weight]), np.asarray(after[place.weight])
        index = self._blueprint.indices[place.vertex]
        if len(index) != new.shape[place.order[0]] or place.features(new) > _MOST_FEATURES or (index < 0).any():
            return
        centred = place.bias is not None or self._shifted(place.vertex)
        most = max(_MOST_ROWS * place.features(new), _FEWEST_ROWS) // max(len(self._batches), 1) + 1
        fitting, held = _Moments(), _Moments()
        offset = _offset(before, place.bias), _offset(after, place.bias)
        try:
            for number, (one, other) in enumerate(
                zip(self._before.reads(place), self._after.reads(place), strict=True)
            ):
                x = place.rows(one, old, most, number, self._counting[number])
                y = _flat(x @ place.matrix(old, len(x))) + offset[0]
                seen = place.rows(other, new, most, number, self._counting[number])
                weight = place.matrix(new, len(seen))
                missing = y[:, index] - _flat(seen @ weight) - offset[1]
                target = y[:, index]
                groups = len(seen)
                into = held if self._is_held(number) else fitting
                into.add(seen, _grouped(missing, groups), _grouped(target, groups))
        except CalibrationError as error:
            self._refits[place.vertex] = Refit(np.nan, np.nan, np.nan, f"left as it is: {error}")
            return
        found = _best(fitting, held if self._held_back else fitting, centred=centred, bias=place.bias is not None)
        if found is None:
            return
        change, shift, refit = found
        self._refits[place.vertex] = refit
        if change is not None:
            groups = len(change)
            self._put(place.weight, place.weight_of(place.matrix(new, groups) + change, new))
        if shift is not None and place.bias is not None:
            self._put(place.bias, (np.asarray(after[place.bias]) + shift.reshape(-1)).astype(after[place.bias].dtype))

    def _shift(self, place: Shift) -> None:
        index = self._blueprint.indices[place.vertex]
        before, after = self._model.arrays[place.bias], self._arrays[place.bias]
        if len(index) != after.size or (index < 0).any():
            return
        missing: list[list[Floats]] = [[], []]
        try:
            for number, (one, other) in enumerate(
                zip(self._before.reads(place), self._after.reads(place), strict=True)
            ):
                counting = self._counting[number]
                wanted = (place.mean(one, counting) + before.reshape(-1))[index]
                apart = wanted - (place.mean(other, counting) + after.reshape(-1))
                missing[self._is_held(number)].append(apart)
        except CalibrationError:
            return
        missing[1] = missing[1] if self._held_back else missing[0]
        if not missing[0] or not missing[1]:
            return
        shift = np.mean(missing[0], axis=0)
        held = np.asarray(missing[1])
        better = np.mean((held - shift) ** 2, axis=0) < np.mean(held**2, axis=0)
        shift = np.where(better, shift, 0.0)
        self._put(place.bias, (np.asarray(after) + shift.reshape(after.shape)).astype(after.dtype))

    def _shifted(self, vertex: str) -> bool:
        """Whether what a vertex computes gets a bias at once."""
        graph = self._model.graph
        readers = list(graph.consumers(vertex))
        return len(readers) == 1 and self._model.shift(graph.vertex(readers[0])) is not None

    def _is_held(self, number: int) -> bool:
        return is_held(number, self._held_back)

    def _put(self, key: str, array: Array) -> None:
        self._fitted[key] = self._arrays[key] = array
        self._after.course.exchange(key, array)


def _offset(arrays: Mapping[str, Array], key: str | None) -> Floats | float:
    return 0.0 if key is None else np.asarray(arrays[key], np.float64)


def _flat(y: Floats) -> Floats:
    """(groups, rows, outputs) as (rows, groups x outputs)."""
    return np.ascontiguousarray(y.swapaxes(0, 1)).reshape(y.shape[1], -1)


def _grouped(y: Floats, groups: int) -> Floats:
    return np.ascontiguousarray(y.reshape(len(y), groups, -1).swapaxes(0, 1))


class _Moments:
    """Sums over rows of what is read (x) and what is missing (y), by groups."""

    def __init__(self) -> None:
        self.count = 0
        self.x = self.y = self.xx = self.xy = np.zeros(0)
        self.yy = self.power = 0.0

    def add(self, x: Floats, y: Floats, target: Floats) -> None:
        """More rows: x (groups, rows, features), y and target (groups, rows, outputs)."""
        if not self.count:
            groups, _, features = x.shape
            outputs = y.shape[2]
            self.x, self.y = np.zeros((groups, features)), np.zeros((groups, outputs))
            self.xx, self.xy = np.zeros((groups, features, features)), np.zeros((groups, features, outputs))
        self.count += x.shape[1]
        self.x += x.sum(axis=1)
        self.y += y.sum(axis=1)
        self.xx += x.swapaxes(1, 2) @ x
        self.xy += x.swapaxes(1, 2) @ y
        self.yy += float((y**2).sum())
        self.power += float((target**2).sum())

    def error(self, change: Floats | None, shift: Floats | None) -> float:
        """The sum of squares of what is still missing."""
        total = self.yy
        if change is not None:
            total += float((change * (self.xx @ change)).sum()) - 2 * float((change * self.xy).sum())
        if shift is not None:
            total += self.count * float((shift**2).sum()) - 2 * float((shift * self.y).sum())
            if change is not None:
                total += 2 * float((shift * np.einsum("gf,gfo->go", self.x, change)).sum())
        return max(total, 0.0)


def _best(
    fitting: _Moments, held: _Moments, *, centred: bool, bias: bool
) -> tuple[Floats | None, Floats | None, Refit] | None:
    """The change of weight and bias that is best on what was held back; `None` if there is too little to judge by."""
    if not fitting.count or not held.count or not np.isfinite(fitting.yy + held.yy):
        return None
    base, scale = held.error(None, None), held.power or 1.0
    best: tuple[Floats | None, Floats | None, float, float] = (None, None, base, np.inf)
    mean_x, mean_y = fitting.x / fitting.count, fitting.y / fitting.count
    if bias:
        best = _better(best, (None, mean_y, held.error(None, mean_y), np.inf))
    xx, xy = fitting.xx / fitting.count, fitting.xy / fitting.count
    if centred:
        xx = xx - mean_x[:, :, None] * mean_x[:, None, :]
        xy = xy - mean_x[:, :, None] * mean_y[:, None, :]
    unit = np.trace(xx, axis1=1, axis2=2) / max(xx.shape[1], 1)
    for ridge in _RIDGES:
        change = _solved(xx, xy, ridge * unit)
        if change is None:
            continue
        shift = mean_y - np.einsum("gf,gfo->go", mean_x, change) if centred else None
        best = _better(best, (change, shift, held.error(change, shift), ridge))
    change, shift, left, ridge = best
    how = "left as it is" if change is None and shift is None else "bias" if change is None else "refitted"
    return change, shift, Refit(base / scale, left / scale, ridge, how)


_Candidate = tuple["Floats | None", "Floats | None", float, float]


def _better(one: _Candidate, other: _Candidate) -> _Candidate:
    return other if other[2] < one[2] else one


def _solved(xx: Floats, xy: Floats, ridge: NDArray[np.float64]) -> Floats | None:
    """Ridge regression, group by group."""
    found = np.zeros_like(xy)
    for group, (square, product) in enumerate(zip(xx, xy, strict=True)):
        if not ridge[group] > 0:
            continue  # nothing ever comes
        try:
            factor = cho_factor(square + ridge[group] * np.eye(len(square)), lower=True, check_finite=False)
        except LinAlgError:
            return None
        found[group] = cho_solve(factor, product, check_finite=False)
    return found if np.isfinite(found).all() else None


class _Fleet:
    """All batches on their way through one state of a model; those that take too much memory begin again each time."""

    def __init__(self, course: Course, graph: Graph, batches: Sequence[Batch]) -> None:
        self.course, self._batches = course, batches
        self._sources = {vertex.name: [port.vertex for port in vertex.inputs] for vertex in graph.vertices}
        self._passages: dict[int, Passage] = {}

    def reads(self, place: Linear | Shift) -> Iterator[Array]:
        """What a vertex reads, batch by batch."""
        taken = 0
        for number, batch in enumerate(self._batches):
            passage = self._passages.pop(number, None) or self.course.start(batch)
            passage.reach(place.vertex)
            yield passage.value(self._sources[place.vertex][place.slot])
            taken += passage.nbytes
            if taken <= _MEMORY:
                self._passages[number] = passage
