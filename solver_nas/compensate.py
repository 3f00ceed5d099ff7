"""Refit the weights that remain, so that they take over what the removed neurons did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas.errors import CalibrationError
from solver_nas.linear import Linear, Norm, Shift, along
from solver_nas.outcomes import error_of, judged, outcome, spread_of
from solver_nas.passage import Fleet, is_held
from solver_nas.progress import progress as show_progress
from solver_nas.regression import EachNeuron, Moments, Refit, best
from solver_nas.residual import Joint, joint_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from solver_nas.frontend import Array, Model
    from solver_nas.linear import Fittable, Floats
    from solver_nas.passage import Batch, Course, Passage
    from solver_nas.plan import Blueprint

_MOST_FEATURES = 8192  # all pairs of so many take half a gigabyte
_MANY_ROWS = 16  # times the number of features: more positions hardly tell anything new
_ENOUGH_ROWS = 4  # times the number of features, where those would be more than _MOST_ROWS
_FEWEST_ROWS, _MOST_ROWS = 2**12, 2**15
_SHARES = (1.0, 0.6, 0.3)  # of the way to new weights


@dataclass(frozen=True, slots=True, eq=False)
class Compensation:
    """New weights for a planned model.

    Args:
        arrays: parameters that differ from those of the plan, by key.
        refits: what became of each vertex that reads something else than before.
        plain: how far the outputs are from what they were without the new weights: mean square of the difference, as a
            fraction of their variance, on samples that were held back; of probabilities, before the softmax or sigmoid.
            NaN if no samples were held back, or no outputs vary on them.
        error: the same with the new weights.
    """

    arrays: Mapping[str, Array]
    refits: Mapping[str, Refit]
    plain: float
    error: float

    @property
    def layers(self) -> int:
        """How many layers were refitted, their weights or their biases."""
        return sum(refit.how in {"refitted", "bias"} for refit in self.refits.values())

    def __str__(self) -> str:
        """In a line."""
        if np.isnan(self.error):
            return (
                "nothing was refitted: no batch of samples could be held back, as there is but one, or the outputs do "
                "not vary on it"
            )
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
        self._before = Fleet(model.course(), batches)
        self._after = Fleet(model.course(blueprint, arrays), batches)
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
                    self._each(place)
                advance()
        return self._chosen()

    def _chosen(self) -> Compensation:
        """All of the way to the new weights, or a part of it, or none: what brings the outputs closest."""
        held = [number for number in range(len(self._batches)) if not self._held_back or self._is_held(number)]
        if not held:
            return Compensation({}, self._refits, np.nan, np.nan)
        names = judged(self._model)

        def outcomes(course: Course) -> list[dict[str, Array]]:
            return [outcome(course.start(self._batches[number]), names, self._counting[number]) for number in held]

        wanted = [
            {name: self._left(name, value) for name, value in one.items()} for one in outcomes(self._before.course)
        ]
        scale = spread_of(wanted)
        if not scale:
            return Compensation({}, self._refits, np.nan, np.nan)

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

    def _left(self, vertex: str, value: Array) -> Array:
        """What a vertex computes, as far as it still does."""
        index, blocks = self._blueprint.indices[vertex], self._model.tensor(vertex).blocks
        if not blocks or (
            np.array_equal(index, np.arange(len(index))) and len(index) == len(blocks[-1].neurons.reshape(-1))
        ):
            return value
        axes = blocks[-1].axes
        if len(axes) != 1 or (index < 0).any():
            raise CalibrationError(f"what {vertex!r} returns changes in a way that cannot be compared")
        return np.take(value, index, axis=axes[0])

    def _between(self, key: str, array: Array, share: float) -> Array:
        """A part of the way from the present to the new numbers of a parameter."""
        before = np.asarray(self._plain[key])
        return array if share == 1 else (before + share * (array - before)).astype(array.dtype)

    def _places(self) -> Iterator[Fittable]:
        """What is fitted, in order: what can be, reads something that has changed, and shares no parameters."""
        graph, blueprint = self._model.graph, self._blueprint
        moved = {
            name
            for name, index in blueprint.indices.items()
            if not np.array_equal(index, np.arange(len(index))) or blueprint.sizes[name][0] != blueprint.sizes[name][1]
        }
        reached: set[str] = set()
        users = Counter(parameter.key for vertex in graph.vertices for parameter in vertex.parameters.values())
        for vertex in graph.vertices:
            if not any(port.vertex in moved or port.vertex in reached for port in vertex.inputs):
                continue
            reached.add(vertex.name)
            found = self._model.fittable(vertex)
            if found is None:
                if any(len(parameter.shape) > 1 for parameter in vertex.parameters.values()):
                    self._leave(vertex.name, f"refitting {vertex.kind} is not known")
            elif any(users[key] > 1 for key in _keys(found)):
                self._leave(vertex.name, "its parameters are used elsewhere, too")
            elif (blueprint.indices[vertex.name] < 0).any():
                self._leave(vertex.name, "it gets new neurons")
            else:
                yield found

    def _leave(self, vertex: str, why: object) -> None:
        self._refits[vertex] = Refit(np.nan, np.nan, np.nan, f"left as it is: {why}")

    # -- one vertex ------------------------------------------------------------------------------------

    def _linear(self, place: Linear) -> None:
        before, after = self._model.arrays, self._arrays
        old, new = np.asarray(before[place.weight]), np.asarray(after[place.weight])
        index = self._blueprint.indices[place.vertex]
        axis = 1 if place.window else -1
        if len(index) != new.shape[place.order[0]] or not self._has_neurons_along(place.vertex, axis):
            self._leave(place.vertex, "its outputs are no neurons")
            return
        if place.features(new) > _MOST_FEATURES:
            self._leave(place.vertex, f"each output reads {place.features(new)} numbers, more than {_MOST_FEATURES}")
            return
        centred = place.bias is not None or self._shifted(place.vertex)
        most = _rows_for(place.features(new)) // max(len(self._batches), 1) + 1
        fitting, held = Moments(), Moments()
        offset = _offset(before, place.bias), _offset(after, place.bias)
        gain: Floats | float = 1.0
        try:
            joint: Joint | None = None
            for number, (one, other) in enumerate(self._passages(place.vertex)):
                counting = self._counting[number]
                read, reads = self._read(one, place), self._read(other, place)
                axis = 1 if place.window else read.ndim - 1
                if np.delete(read.shape, axis).tolist() != np.delete(reads.shape, axis).tolist():
                    self._leave(place.vertex, "some of the positions that it reads go")
                    return
                x = place.rows(read, old, most, number, counting)
                y = _flat(x @ place.matrix(old, len(x))) + offset[0]
                seen = place.rows(reads, new, most, number, counting)
                missing = y[:, index] - _flat(seen @ place.matrix(new, len(seen))) - offset[1]
                target = y[:, index]

                def rows(value: Array, number: int = number) -> Floats:
                    return place.results(value, most, number, self._counting[number])

                if number == 0:
                    joint = joint_of(self._model, self._blueprint.indices, place.vertex, one, y, rows)
                    gain = 1.0 if joint is None else joint.gain[index]
                if joint is not None:
                    apart = rows(one.value(joint.other))[:, index] - rows(other.value(joint.other))
                    missing, target = missing * gain + apart * joint.strong[index], target * gain
                groups = len(seen)
                into = held if self._is_held(number) else fitting
                into.add(seen, _grouped(missing, groups), _grouped(target, groups))
        except CalibrationError as error:
            self._leave(place.vertex, error)
            return
        found = best(fitting, held if self._held_back else fitting, centred=centred, bias=place.bias is not None)
        if found is None:
            self._leave(place.vertex, "there are too few samples")
            return
        change, shift, self._refits[place.vertex] = found
        per = np.broadcast_to(gain, new.shape[place.order[0]]).reshape(-1)
        if change is not None:
            groups = len(change)
            change = _over(change, per.reshape(groups, 1, -1))
            self._put(place.weight, place.weight_of(place.matrix(new, groups) + change, new))
        if shift is not None and place.bias is not None:
            shift = _over(shift.reshape(-1), per)
            self._add(place.bias, shift)

    def _each(self, place: Shift | Norm) -> None:
        """One or two numbers for each neuron."""
        index = self._blueprint.indices[place.vertex]
        if not self._has_neurons_along(place.vertex, place.axis):
            self._leave(place.vertex, "what it adds is not one number for each neuron")
            return
        fitting, held = EachNeuron(len(index)), EachNeuron(len(index))
        try:
            joint: Joint | None = None
            for number, (one, other) in enumerate(self._passages(place.vertex)):

                def rows(value: Array, number: int = number) -> Floats:
                    return along(value, place.axis, self._counting[number])

                x, seen = rows(self._read(one, place)), rows(self._read(other, place))
                if seen.shape[1] != len(index) or len(x) != len(seen):
                    self._leave(place.vertex, "some of the positions that it reads go")
                    return
                if number == 0:
                    joint = joint_of(self._model, self._blueprint.indices, place.vertex, one, x, rows)
                wanted = x[:, index]
                if joint is not None:
                    apart = rows(one.value(joint.other))[:, index] - rows(other.value(joint.other))
                    wanted = wanted + _over(apart * joint.strong[index], joint.gain[index])
                (held if self._is_held(number) else fitting).add(seen, wanted)
        except CalibrationError as error:
            self._leave(place.vertex, error)
            return
        held = held if self._held_back else fitting
        if not fitting.count or not held.count or not np.isfinite(fitting.yy + held.yy).all():
            self._leave(place.vertex, "there are too few samples")
            return
        if isinstance(place, Shift):
            _, shift, self._refits[place.vertex] = fitting.best(held, steepest=None)
            self._add(place.bias, shift)
        else:
            mean, variance = (np.asarray(self._arrays[key], np.float64) for key in (place.mean, place.variance))
            # (slope x + shift - mean) / deviation is (x - new mean) / new deviation, and no variance is negative.
            whole = variance.reshape(-1) + place.epsilon
            steepest = np.sqrt(whole / place.epsilon) if place.epsilon > 0 else np.full(len(index), np.inf)
            slope, shift, self._refits[place.vertex] = fitting.best(held, steepest=steepest)
            kept = self._arrays[place.mean].dtype
            self._put(place.mean, ((mean - shift.reshape(mean.shape)) / slope.reshape(mean.shape)).astype(kept))
            made = np.maximum(whole / slope**2 - place.epsilon, 0.0).reshape(variance.shape)
            self._put(place.variance, made.astype(self._arrays[place.variance].dtype))

    def _has_neurons_along(self, vertex: str, axis: int) -> bool:
        """Whether the neurons of a vertex are all along one axis of what it computes, and this one."""
        tensor = self._model.tensor(vertex)
        return bool(tensor.blocks) and tensor.blocks[-1].axes == (axis % len(tensor.shape),)

    def _passages(self, vertex: str) -> Iterator[tuple[Passage, Passage]]:
        """Batch by batch, where they have come to a vertex: in the model as it is, and in the new one."""
        return zip(self._before.at(vertex), self._after.at(vertex), strict=True)

    def _read(self, passage: Passage, place: Fittable) -> Array:
        return passage.value(self._model.graph.vertex(place.vertex).inputs[place.slot].vertex)

    def _shifted(self, vertex: str) -> bool:
        """Whether what a vertex computes gets a bias at once, or loses a mean."""
        graph = self._model.graph
        readers = list(graph.consumers(vertex))
        return len(readers) == 1 and isinstance(self._model.fittable(graph.vertex(readers[0])), Shift | Norm)

    def _is_held(self, number: int) -> bool:
        return is_held(number, self._held_back)

    def _add(self, key: str, numbers: Floats) -> None:
        array = np.asarray(self._arrays[key])
        self._put(key, (array + numbers.reshape(array.shape)).astype(array.dtype))

    def _put(self, key: str, array: Array) -> None:
        self._fitted[key] = self._arrays[key] = array
        self._after.course.exchange(key, array)


def _offset(arrays: Mapping[str, Array], key: str | None) -> Floats | float:
    return 0.0 if key is None else np.asarray(arrays[key], np.float64)


def _rows_for(features: int) -> int:
    """How many positions are looked at, at most."""
    return max(_FEWEST_ROWS, min(_MANY_ROWS * features, max(_ENOUGH_ROWS * features, _MOST_ROWS)))


def _keys(place: Fittable) -> list[str]:
    """The parameters that are refitted."""
    if isinstance(place, Linear):
        return [key for key in (place.weight, place.bias) if key is not None]
    return [place.bias] if isinstance(place, Shift) else [place.mean, place.variance]


def _over(numbers: Floats, gain: Floats) -> Floats:
    """Divided, and 0 where there is nothing to divide by."""
    gain = np.broadcast_to(gain, numbers.shape)
    return np.divide(numbers, gain, out=np.zeros(numbers.shape), where=gain != 0)


def _flat(y: Floats) -> Floats:
    """(groups, rows, outputs) as (rows, groups x outputs)."""
    return np.ascontiguousarray(y.swapaxes(0, 1)).reshape(y.shape[1], -1)


def _grouped(y: Floats, groups: int) -> Floats:
    return np.ascontiguousarray(y.reshape(len(y), groups, -1).swapaxes(0, 1))
