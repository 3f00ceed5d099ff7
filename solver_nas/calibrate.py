"""What the neurons of a model do while samples pass through: recorded, so that it is known what they are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.checkpoint import Checkpoint
from solver_nas.editable import Editable
from solver_nas.errors import CalibrationError
from solver_nas.frontend import untraced
from solver_nas.observe import (
    GRAM_LIMIT,
    ActivationStatistics,
    Observations,
    Slopes,
    by_neuron,
    by_sample,
    observed,
)
from solver_nas.passage import is_held
from solver_nas.progress import progress as show_progress
from solver_nas.readers import found_of
from solver_nas.requests import is_whole
from solver_nas.worth import worth_watching

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import NDArray

    from solver_nas.checkpoint import Arrays
    from solver_nas.passage import Batch, Course

HELD_BACK = 0.25  # of the batches
_LEAST_HELD_BACK, _MOST_HELD_BACK = 0.001, 0.5
_BATCHES = 8  # that samples are parted into at least, if they are so many


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What was learned about a model from samples: `plan.compensate(calibration)` refits weights with it.

    The statistics themselves are with the model (`model.observers`), where utilities find them, and follow its neurons.

    Args:
        model: whose it is.
        batches: the samples, as the model takes them. No activations are kept.
        held_back: which share of the batches was held back to judge by; at least one, if there are several.
        mask: the input that says which positions count; `None` if all do.
        samples: how many samples there are.
        watched: vertices of which statistics were gathered.
        coarse: those of them that have too many neurons for all pairs to be kept, so that only means and variances are
            known: which neurons could stand in for others is not.
        unseen: vertices that cannot be looked at, and why.
    """

    model: Editable
    batches: tuple[Batch, ...]
    held_back: float
    mask: str | None
    samples: int
    watched: tuple[str, ...]
    coarse: tuple[str, ...]
    unseen: Mapping[str, str]

    def __repr__(self) -> str:
        """In a line."""
        return f"<Calibration: {self.samples} samples, {len(self.watched)} vertices>"

    def __str__(self) -> str:
        """In short."""
        lines = [f"{self.samples} samples in {len(self.batches)} batches, statistics of {len(self.watched)} vertices"]
        if self.coarse:
            lines.append(f"only means and variances (more than {GRAM_LIMIT} neurons): {_some(self.coarse)}")
        lines += [f"{name}: {why}" for name, why in self.unseen.items()]
        return "\n".join(lines)


def calibrate(
    model: Editable,
    batches: object,
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    held_back: float = HELD_BACK,
    mask: str | None = None,
    batch_size: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Calibration:
    """Record what neurons do while samples pass through a model, replacing what was recorded before.

    For every vertex whose output parameters read: mean and second moments of all pairs of neurons over samples and
    positions (of more than 2,048 neurons only variances), in double precision. From then on, neurons are worth by
    default what they contribute to the vertices that read them, see `default_utility`.

    Use samples that are no part of what the model is judged by afterwards, and are like what it will see: a few
    hundred; for networks that look at images, a few dozen do, as every position counts.

    Args:
        model: a network, an opened ONNX model, a traced module; run as it is, not in training mode.
        batches: samples. An array; a mapping from names of inputs to arrays; a tuple of inputs by position, behind
            which a target may stand; or a list of these, or anything else that can be gone through (a `DataLoader`).
            Traced modules take shapes as they were traced with, but for the number of samples.
        loss: a function of what the model returns (a tuple, if it returns several) and the target, of which the
            gradient is taken, for `utilities.taylor` and `utilities.fisher`: returns one number, a mean over samples;
            written with `autograd.numpy` for networks of NumPy layers, with `torch` for modules. ONNX models have no
            gradients.
        held_back: which share of the batches is held back, .001 to .5, and at least one of several: statistics are
            those of the others; how far these are to be trusted, how sensitive the model is, and whether weights are
            refitted, is judged by these batches. 0 for data that are all there is: then they are judged by what they
            were made from.
        mask: the name of an input, (samples, steps), that is zero where a text was filled up, such as
            `"attention_mask"`: what is computed there counts for nothing.
        batch_size: how many samples pass at once where the model takes any number. It bounds the memory that is needed.
        checkpoint: a file in which sums are kept ten times on the way, so that the same call goes on where it was
            interrupted, with the same result, bit for bit. It is about as large as the statistics: 8 bytes for every
            pair of neurons of each vertex, twice. Gradients for `loss` are taken anew.
        progress: whether to show a bar; by default on a terminal if it takes long.

    Returns:
        What `plan.compensate` needs.

    Raises:
        CalibrationError: samples that the model does not take, or with NaN or infinity, or none; or the checkpoint is
            of something else; nothing was recorded.
    """
    if not isinstance(model, Editable):
        raise CalibrationError(f"expected a network, got {untraced(model)}")
    _check_share(held_back)
    given = gathered(model, batches, batch_size)
    if held_back and len(given) > 1:
        held_back = max(float(held_back), 1 / len(given))
    for batch in given:
        batch.counting(mask)
    if loss is not None and not callable(loss):
        raise CalibrationError(f"a loss is a function of what the model returns and the target, got {loss!r}")
    course = model.course()
    wanted = worth_watching(model)
    unseen = _unseen(course, wanted)
    wanted = {name: pairs for name, pairs in wanted.items() if name not in unseen}
    names = [name for name in model.graph.order if name in wanted]
    sums = _Sums(model, course, {name: wanted[name] for name in names}, mask)
    resuming = None
    if checkpoint is not None:
        # The same parameters may belong to models that compute something else: the first batch tells them apart.
        first = _Sums(model, course, dict.fromkeys(names, False), mask)
        first.add(given[0], held=False)
        computed = [array.tobytes() for array in first.packed().values()]
        settings = (computed, [(name, model[name].nout, wanted[name]) for name in names], held_back, mask)
        resuming = Checkpoint(checkpoint, model.arrays, given, settings)
    done = 0 if resuming is None else sums.resume(*resuming.found())
    with show_progress("gathering statistics", len(given), show=progress) as advance:
        for number, batch in enumerate(given):
            if number >= done:
                sums.add(batch, held=is_held(number, held_back))
                if resuming is not None and resuming.due(number + 1):
                    resuming.keep(number + 1, sums.packed())
            advance()
    found = sums.statistics()
    slopes = {} if loss is None else _slopes(model, course, given, names, loss, progress=progress)
    _record(model, found, slopes, unseen)
    coarse = tuple(name for name in names if wanted[name] and found[name].gram is None)
    samples = sum(batch.rows or 1 for batch in given)
    return Calibration(model, given, held_back, mask, samples, tuple(names), coarse, unseen)


def _record(
    model: Editable,
    found: Mapping[str, ActivationStatistics],
    slopes: Mapping[str, Slopes],
    unseen: Mapping[str, str],
) -> None:
    """Replace what was recorded before, in one step."""
    remembered = {
        name: replace(seen, statistics=None, slopes=None, unseen="")
        for name, seen in model.observers.items()
        if isinstance(seen, Observations)
    }
    remembered |= {
        name: replace(observed(model[name]), statistics=statistics, slopes=slopes.get(name))
        for name, statistics in found.items()
    }
    remembered |= {name: replace(observed(model[name]), unseen=why) for name, why in unseen.items()}
    model.observers.update(remembered)


class _Sums:
    """Statistics of all vertices on the way, of what is fitted to and of what is held back."""

    def __init__(self, model: Editable, course: Course, wanted: Mapping[str, bool], mask: str | None) -> None:
        self._course, self._mask = course, mask
        self._tensors = {name: model.tensor(name) for name in wanted}
        self._gathering, self._holding = (
            [_Gathering(name, model[name].nout, pairs=pairs) for name, pairs in wanted.items()] for _ in range(2)
        )

    def add(self, batch: Batch, *, held: bool) -> None:
        """What vertices compute for a batch."""
        into = self._holding if held else self._gathering
        for one, (name, value) in zip(into, self._course.watch(batch, list(self._tensors)), strict=True):
            one.add(by_neuron(value, self._tensors[name], batch.counting(self._mask)))

    def statistics(self) -> dict[str, ActivationStatistics]:
        """By vertex; how far they are to be trusted is judged."""
        pairs = zip(self._gathering, self._holding, strict=True)
        return {one.name: one.end().judged(other.end()) for one, other in pairs}

    def packed(self) -> Arrays:
        """As arrays."""
        found: Arrays = {}
        for number, one in enumerate((*self._gathering, *self._holding)):
            seen = one.end()
            found |= {f"{number}.count": np.array(seen.count), f"{number}.mean": seen.mean}
            found[f"{number}.moments"] = seen.moments
        return found

    def resume(self, done: int, arrays: Arrays) -> int:
        """Go on from arrays that were packed after so many batches."""
        for number, one in enumerate((*self._gathering, *self._holding) if done else ()):
            count, mean, moments = (arrays[f"{number}.{what}"] for what in ("count", "mean", "moments"))
            one.resume(ActivationStatistics(int(count), mean, moments))
        return done


class _Gathering:
    """Statistics of one vertex on the way: rows wait until there are as many as neurons, since that is quicker."""

    def __init__(self, name: str, neurons: int, *, pairs: bool) -> None:
        self.name = name
        self._statistics = ActivationStatistics.empty(neurons, pairs=pairs)
        self._waiting: list[NDArray[Any]] = []
        self._enough = neurons if self._statistics.gram is not None else 0

    def resume(self, statistics: ActivationStatistics) -> None:
        """Go on from what was known after some rows."""
        self._statistics = statistics

    def add(self, rows: NDArray[Any]) -> None:
        """More rows; copies, since later operations may write into them.

        Raises:
            CalibrationError: they are no numbers.
        """
        if not np.isfinite(rows).all():
            raise CalibrationError(
                f"vertex {self.name!r} computes NaN or infinity for these samples; nothing was recorded"
            )
        self._waiting.append(np.array(rows))
        if sum(map(len, self._waiting)) >= self._enough:
            self.end()

    def end(self) -> ActivationStatistics:
        """What is known of all rows so far.

        Raises:
            CalibrationError: they are no numbers.
        """
        if self._waiting:
            self._statistics = self._statistics.seen(np.concatenate(self._waiting))
            self._waiting = []
            if not np.isfinite(self._statistics.power).all():
                raise CalibrationError(
                    f"vertex {self.name!r} computes numbers whose squares are infinite for these samples; nothing was "
                    f"recorded"
                )
        return self._statistics


def _slopes(
    model: Editable,
    course: Course,
    batches: tuple[Batch, ...],
    names: list[str],
    loss: Callable[[Any, Any], Any],
    *,
    progress: bool | None,
) -> dict[str, Slopes]:
    """What the loss would change by if neurons were silent, of the vertices that make neurons."""
    makers = [name for name in names if found_of(model.labels, model.graph.vertex(name)) is not None]
    found = {name: Slopes.empty(model[name].nout) for name in makers}
    with show_progress("taking gradients", len(batches), show=progress) as advance:
        for batch in batches:
            for name, value, gradient in course.slopes(batch, makers, _told(loss)):
                # The loss is a mean over samples.
                changes = by_sample(value * gradient, model.tensor(name)) * max(batch.rows, 1)
                found[name] = found[name].seen(changes)
                if not np.isfinite(found[name].second).all():
                    raise CalibrationError(
                        f"the gradient of the loss with respect to vertex {name!r} is NaN or infinite; nothing was "
                        f"recorded"
                    )
            advance()
    return found


def _told(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The same, with errors that say so if it got no target."""

    def checked(found: Any, target: Any) -> Any:
        try:
            return loss(found, target)
        except Exception as error:
            if target is None:
                raise CalibrationError(
                    f"the loss cannot be computed, and batches have no targets: give tuples of inputs with the target "
                    f"behind them ({type(error).__name__}: {error})"
                ) from error
            raise

    return checked


def gathered(model: Editable, batches: object, size: int | None) -> tuple[Batch, ...]:
    """The samples that a caller has given, as batches that a model takes.

    Raises:
        CalibrationError: there are none, or they are not what the model takes.
    """
    if size is not None and not (is_whole(size) and size > 0):
        raise CalibrationError(f"a batch size is a positive number of samples, got {size!r}")
    single = hasattr(batches, "shape") or isinstance(batches, Mapping | tuple)
    if not single and not isinstance(batches, Iterable):
        raise CalibrationError(f"samples are arrays, or batches of them, got {type(batches).__name__}")
    parts: list[Any] = [batches] if single else list(batches)  # type: ignore[call-overload] # it can be gone through
    found = list(model.batches(_checked(parts), size))
    if size is None and 0 < len(found) < _BATCHES:
        # Some batches are to be held back, where the model takes any number of samples.
        samples = sum(batch.rows for batch in found)
        found = list(model.batches(parts, max(samples // _BATCHES, 1)))
    if not found:
        told = "there are none" if not parts else "there are fewer than the model takes at once"
        raise CalibrationError(f"samples are needed to calibrate with, and {told}")
    return tuple(found)


def _check_share(held_back: Any) -> None:
    if isinstance(held_back, bool) or not isinstance(held_back, Real):
        raise CalibrationError(f"held_back is a share of the batches, got {held_back!r}")
    share = float(held_back)
    if share != 0 and not _LEAST_HELD_BACK <= share <= _MOST_HELD_BACK:
        raise CalibrationError(
            f"a share of the batches from {_LEAST_HELD_BACK} to {_MOST_HELD_BACK} is held back, or 0 of them; got "
            f"{held_back!r}"
        )


def _checked(parts: Iterable[Any]) -> Iterable[Any]:
    """The same, each looked at before it is used."""
    for number, part in enumerate(parts):
        entries = part.values() if isinstance(part, Mapping) else part if isinstance(part, tuple | list) else (part,)
        for entry in entries:
            if hasattr(entry, "shape") and tuple(entry.shape[:1]) == (0,):
                raise CalibrationError(f"there are no samples in batch {number}")
            if hasattr(entry, "shape") and not _finite(entry):
                raise CalibrationError(f"there is NaN or infinity in batch {number}")
        yield part


def _finite(entry: Any) -> bool:
    # Not all types of PyTorch have a counterpart in NumPy.
    array = np.asarray(entry.detach().cpu().double() if hasattr(entry, "detach") else entry)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def _unseen(course: Course, wanted: Iterable[str]) -> dict[str, str]:
    """The vertices that cannot be looked at, and why."""
    found = {}
    for name in wanted:
        try:
            course.findable(name)
        except CalibrationError as error:
            found[name] = str(error)
    return found


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
