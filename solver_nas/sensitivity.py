"""How much what a model returns changes when neurons go: measured, vertex by vertex, at a few widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solver_nas.bounds import amount
from solver_nas.errors import CalibrationError
from solver_nas.labels import FIXED
from solver_nas.observe import by_neuron, observed
from solver_nas.outcomes import error_of, judged, lost, outcome, spread_of
from solver_nas.passage import is_held
from solver_nas.progress import progress as show_progress
from solver_nas.readers import classes_of, found_of, makers_of, readings_of, rising
from solver_nas.reconstruction import reconstruction
from solver_nas.requests import is_whole
from solver_nas.utility import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from solver_nas.calibrate import Calibration
    from solver_nas.frontend import Handle, Model
    from solver_nas.labels import IntArray, Tensor
    from solver_nas.observe import ActivationStatistics, Floats
    from solver_nas.passage import Batch, Passage
    from solver_nas.readers import Found, Reading

_STILL = 1e-12  # relative: what varies less than this does not vary
_WIDTHS = (0.25, 0.5, 0.75)  # shares of the neurons that are taken away
_FEWEST, _MOST, _WORK = 8, 64, 2 * 10**10  # samples, and multiplications that all of them together may take


class Sensitivity:
    """Utilities of different vertices in one unit: how much the model's outputs change, measured.

    Made by `measured`; to be given as `utility=` to any verb.
    """

    def __init__(self, worth: Mapping[str, Floats], curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
        """What was found.

        Args:
            worth: vertex -> what each of its neurons is worth.
            curves: vertex -> pairs (share of its neurons that went, error of the outputs).
        """
        self._worth, self.curves = dict(worth), dict(curves)

    def __call__(self, handle: Handle) -> Floats | float:
        """What the neurons of a vertex are worth: the error of the outputs that each adds when it goes."""
        return self._worth.get(handle.name, 0.0)


def measured(
    calibration: Calibration,
    utility: Callable[[Handle], Any] = reconstruction,
    *,
    widths: Sequence[float] = _WIDTHS,
    samples: int | None = None,
    progress: bool | None = None,
) -> Sensitivity:
    """Put a utility into the unit that counts: how much what the model returns changes.

    Group by group of vertices that share their neurons, those that are worth least by the utility are taken away, a
    few shares of them, and what the model returns is compared with what it should: the mean square of the difference,
    as a fraction of the variance of the outputs, is the error. Behind the neurons that went, their readers see what the
    others say about them (the best linear prediction, as a refit would), so that only what no refit can save counts.
    Errors are made to rise ever faster (isotonic regression of the slopes), and each step is shared out among the
    neurons that went in it in proportion to their utility. So the order in a group is that of the utility, and how much
    a group matters is measured.

    Args:
        calibration: of the model, from `calibrate`.
        utility: decides the order within vertices, and is a function `v -> vector of length v.nout, or one number`.
        widths: shares of the neurons that are taken away, ascending, between 0 and 1.
        samples: how many of the samples that were held back to use; by default 64, or fewer if the model is large, but
            at least 8.
        progress: whether to show a bar; by default on a terminal if it takes long.

    Returns:
        A utility.

    Raises:
        UtilityError: of a utility that is no finite number.
        CalibrationError: widths that make no sense, or the model cannot be run.
    """
    if not hasattr(calibration, "batches"):
        raise CalibrationError(
            f"measured makes a utility of what calibrate returns: utility=measured(calibration); got "
            f"{type(calibration).__name__}"
        )
    if not widths or list(widths) != sorted(set(widths)) or not 0 < widths[0] <= widths[-1] < 1:
        raise CalibrationError(f"widths are shares between 0 and 1, ascending, got {widths!r}")
    if samples is not None and not (is_whole(samples) and samples > 0):
        raise CalibrationError(f"a positive number of samples is used, got {samples!r}")
    wanted = _enough(calibration.model) if samples is None else samples
    batches, seen = [], 0
    parts = list(enumerate(calibration.batches))
    held = [batch for number, batch in parts if is_held(number, calibration.held_back)]
    for batch in held or calibration.batches:
        if seen < wanted:
            batches.append(batch)
            seen += max(batch.rows, 1)
    return _Measuring(calibration, utility, tuple(widths), batches).run(progress=progress)


def _enough(model: Model) -> int:
    """How many samples are used where nobody says it."""
    works = [volume for volume in model.labels.works if volume.times is not None]
    total = sum(map(amount, works))
    return int(min(_MOST, max(_FEWEST, _WORK // max(total, 1))))


class _Group(NamedTuple):
    """Vertices that share neurons.

    Args:
        vertices: their names.
        members: classes, ascending.
        worth: of each class.
        ports: where they are read, in the order of the graph: vertex, and the class of each position.
        returned: those of these vertices that are read by no parameter, so that what is missing there is missing.
    """

    vertices: tuple[str, ...]
    members: IntArray
    worth: Floats
    ports: tuple[tuple[str, IntArray], ...]
    returned: frozenset[str]


class _Measuring:
    def __init__(
        self,
        calibration: Calibration,
        utility: Callable[[Handle], Any],
        widths: Sequence[float],
        batches: Sequence[Batch],
    ) -> None:
        model: Model = calibration.model
        self._model, self._utility, self._widths, self._batches = model, utility, widths, batches
        self._counting = [batch.counting(calibration.mask) for batch in batches]
        self._place = {name: place for place, name in enumerate(model.graph.order)}
        self._found: dict[str, Found] = {}
        self._judged: Mapping[str, bool] = {}

    def run(self, *, progress: bool | None) -> Sensitivity:
        groups = sorted(self._groups(), key=lambda group: self._place[group.ports[0][0]] if group.ports else -1)
        course = self._model.course()
        self._judged = judged(self._model)
        expected = [self._outcome(course.start(batch), number) for number, batch in enumerate(self._batches)]
        scale = spread_of(expected)
        if not any(self._varies(vertex) for vertex in self._model):
            raise CalibrationError(
                "what neurons compute is the same for all of these samples, so that nothing can be measured: give "
                "others, or another utility"
            )
        bases = [course.start(batch) for batch in self._batches]
        curves: list[list[tuple[int, float]]] = []
        with show_progress("measuring", len(groups), show=progress) as advance:
            for group in groups:
                curves.append(self._curve(group, bases, expected, scale))
                advance()
        return self._shared_out(groups, curves)

    def _varies(self, vertex: Handle) -> bool:
        seen = observed(vertex).statistics
        return seen is not None and bool((seen.deviation**2 > _STILL * seen.power).any())

    def _groups(self) -> Iterator[_Group]:
        """Vertices whose neurons can go, together with those that make the same ones."""
        model = self._model
        classes = classes_of(model.labels)
        whole = {vertex.name: found_of(model.labels, vertex) for vertex in model.graph.vertices}
        fixed = _fixed(model)
        self._found = {
            name: found for name, found in whole.items() if found is not None and not fixed[found.members].all()
        }
        total = np.zeros(int(classes.max()) + 1)
        for name, found in self._found.items():
            vector = checked(self._utility(model[name]), model[name].nout, name)
            if vector is not None:
                np.add.at(total, found.members[found.place[found.place >= 0]], vector[found.place >= 0])
        waiting = dict(self._found)
        while waiting:
            name, found = next(iter(waiting.items()))
            names, members = [name], found.members
            del waiting[name]
            while more := [one for one, other in waiting.items() if np.isin(other.members, members).any()]:
                for one in more:
                    names.append(one)
                    members = np.union1d(members, waiting.pop(one).members)
            members = members[~fixed[members]]
            readings = readings_of(model, members)
            if any(self._seen(one) is None for one in readings):
                readings = []  # what cannot be looked at cannot be exchanged: not all of the change would be seen
            ports = {reading.vertex: reading.classes for reading in readings}
            ordered = sorted(ports.items(), key=lambda port: self._place[port[0]])
            refitted = {reading.vertex for reading in readings if reading.key is not None}
            yield _Group(tuple(names), members, total[members], tuple(ordered), frozenset(set(ports) - refitted))

    def _seen(self, reading: Reading) -> ActivationStatistics | None:
        statistics = observed(self._model[reading.vertex]).statistics
        return statistics if statistics is not None and statistics.count else None

    def _curve(
        self, group: _Group, bases: Sequence[Passage], expected: Sequence[Mapping[str, Any]], scale: Mapping[str, float]
    ) -> list[tuple[int, float]]:
        """Pairs (neurons that went, error)."""
        if not group.ports or len(group.members) < 2 or not scale:
            return []
        order = np.argsort(group.worth, kind="stable")
        counts = sorted({max(1, min(round(width * len(order)), len(order) - 1)) for width in self._widths})
        curve = []
        try:
            for base in bases:
                base.value(group.ports[0][0])
            for count in counts:
                gone = np.sort(group.members[order[:count]])
                guesses = {
                    port: self._guess(port, classes, gone, refits=port not in group.returned)
                    for port, classes in group.ports
                }
                errors = [
                    error_of(self._without(base.fork(), number, guesses), wanted, scale)
                    for number, (base, wanted) in enumerate(zip(bases, expected, strict=True))
                ]
                curve.append((count, lost(float(np.mean(errors)))))
        except CalibrationError:
            return []
        return curve

    def _without(self, passage: Passage, number: int, guesses: Mapping[str, _Guess | None]) -> dict[str, Any]:
        for port, guess in guesses.items():
            if guess is not None:
                passage.put(port, guess.replaced(passage.value(port), self._model.tensor(port)))
        return self._outcome(passage, number)

    def _outcome(self, passage: Passage, number: int) -> dict[str, Any]:
        """What is compared."""
        return outcome(passage, self._judged, self._counting[number])

    def _guess(self, port: str, classes: IntArray, gone: IntArray, *, refits: bool) -> _Guess | None:
        statistics = observed(self._model[port]).statistics
        missing = np.isin(classes, gone)
        if statistics is None or not missing.any():
            return None
        mean, covariance = statistics.mean, statistics.covariance
        if not refits:
            return _Guess(missing, np.zeros_like(mean), None)
        there = np.flatnonzero(~missing)
        if covariance is None or not len(there):
            return _Guess(missing, mean, None)
        ridge = statistics.ridge * float(np.trace(covariance)) / len(mean) or 1.0
        square = covariance[np.ix_(there, there)] + ridge * np.eye(len(there))
        mixed = np.linalg.solve(square, covariance[np.ix_(there, np.flatnonzero(missing))])
        return _Guess(missing, mean, np.asarray(mixed, np.float64))

    def _shared_out(self, groups: Sequence[_Group], curves: Sequence[list[tuple[int, float]]]) -> Sensitivity:
        model = self._model
        makers = makers_of(model.labels, model.graph)
        total = np.zeros(len(makers))
        rates = []
        for group, curve in zip(groups, curves, strict=True):
            if curve:
                total[group.members] = _steps(group.worth, curve)
                usual = float(group.worth.sum())
                rates.append(float(total[group.members].sum()) / usual if usual > 0 else 0.0)
        rate = float(np.median(rates)) if rates else 1.0
        for group, curve in zip(groups, curves, strict=True):
            if not curve:
                # It could not be measured: what it is worth by itself, in the unit of the others.
                total[group.members] = group.worth * rate
        worth = {
            name: found.spread((total / np.maximum(makers, 1))[found.members]) for name, found in self._found.items()
        }
        told = {
            name: tuple((count / len(group.members), error) for count, error in curve)
            for group, curve in zip(groups, curves, strict=True)
            for name in group.vertices
        }
        return Sensitivity(worth, told)


class _Guess(NamedTuple):
    """What takes the place of neurons that went.

    Args:
        missing: which positions.
        mean: of each position.
        mixed: how the others predict them, both apart from their means, (there, missing); `None` for the mean alone.
    """

    missing: NDArray[np.bool_]
    mean: Floats
    mixed: Floats | None

    def replaced(self, value: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
        """A tensor with guesses in the place of what is missing."""
        rows = by_neuron(value, tensor).astype(np.float64)
        guess = np.broadcast_to(self.mean[self.missing], (len(rows), int(self.missing.sum())))
        if self.mixed is not None:
            there = ~self.missing
            guess = guess + (rows[:, there] - self.mean[there]) @ self.mixed
        rows[:, self.missing] = guess
        return from_rows(rows, value, tensor)


def from_rows(rows: NDArray[Any], like: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """The inverse of `by_neuron`."""
    axes = tensor.blocks[-1].axes
    places = range(like.ndim - len(axes), like.ndim)
    shape = np.moveaxis(like, axes, places).shape
    return np.moveaxis(rows.reshape(shape), places, axes).astype(like.dtype)


def _fixed(model: Model) -> NDArray[np.bool_]:
    """Which classes can never go."""
    from solver_nas.classes import classify

    labels = model.labels
    mine, strict = classes_of(labels), classify(labels)[0]
    found = np.zeros(int(mine.max()) + 1, bool)
    found[mine[strict == strict[FIXED]]] = True
    return found


def _steps(worth: Floats, curve: Sequence[tuple[int, float]]) -> Floats:
    """What each class is worth, so that what goes first adds up to the errors that were measured, made convex."""
    order = np.argsort(worth, kind="stable")
    counts = [0, *(count for count, _ in curve)]
    errors = np.maximum.accumulate([0.0, *(error for _, error in curve)])
    slopes = _isotonic(np.diff(errors) / np.diff(counts), np.diff(counts).astype(np.float64))
    found, rate = np.zeros(len(worth)), 0.0
    for place, slope in enumerate(slopes):
        mine = order[counts[place] : counts[place + 1]]
        share = worth[mine]
        usual = float(share.sum())
        found[mine] = slope * len(mine) * share / usual if usual > 0 else slope
        rate = slope * len(mine) / usual if usual > 0 else 0.0
    last = order[counts[-1] :]
    found[last] = np.maximum(rate * worth[last], slopes[-1])
    return rising(order, found)


def _isotonic(values: Floats, weights: Floats) -> Floats:
    """The nearest sequence that never falls, in the sense of least squares (pool adjacent violators)."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(values, weights=weights).x)
