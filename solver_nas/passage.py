"""Batches of samples, and their way through a model: step by step, so that one can look, and change what follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver_nas.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Self

Array = NDArray[Any]

_POSITIONS = 2  # axes of what masks positions: samples, steps
_ROUNDING = 1e-9  # a third of three is one
_MEMORY = 2**31  # bytes of tensors that batches on their way may take together; beyond, they begin again at each stop


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples that pass through a model at once.

    Args:
        inputs: what the model is given, by the names that its front end has for it.
        rows: how many samples there are; 0 if inputs do not have equally many, so that they are one call's as they are.
        target: what should come out, if the caller has said so.
    """

    inputs: Mapping[str, Any]
    rows: int
    target: Any = None

    def __post_init__(self) -> None:
        """Targets belong to samples.

        Raises:
            CalibrationError: there are more or fewer of them.
        """
        if self.rows and self.target is not None and (len(self.target) if self.target.ndim else 0) != self.rows:
            raise CalibrationError(f"there are {self.rows} samples, and targets of shape {tuple(self.target.shape)}")

    def counting(self, mask: str | None) -> NDArray[np.bool_] | None:
        """Which positions count, (samples, steps), by an input that is not zero there; `None` if all do.

        Raises:
            CalibrationError: there is no such input, or it has another rank.
        """
        if mask is None:
            return None
        if mask not in self.inputs:
            raise CalibrationError(f"there is no input {mask!r} to mask positions with; inputs are {list(self.inputs)}")
        given = self.inputs[mask]
        array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
        if array.ndim != _POSITIONS:
            raise CalibrationError(f"a mask has a number for each sample and step, input {mask!r} has {array.shape}")
        found = np.asarray(array != 0)
        if array.dtype.kind != "b" and not (array[found] == 1).all():
            raise CalibrationError(f"a mask holds zeros and ones, input {mask!r} holds {array[found].flat[0]!s}, too")
        return found


class Passage(ABC):
    """A batch on its way through a model, vertex by vertex, in the order of the graph.

    What nothing reads any more is let go. Only goes forward: to look at an earlier vertex again, begin again, or go
    on with a `fork` that was made before.

    All methods raise a `CalibrationError` where a vertex cannot be looked at, or the model cannot be run.
    """

    @abstractmethod
    def reach(self, vertex: str) -> None:
        """Compute everything before a vertex, and not the vertex itself."""

    @abstractmethod
    def value(self, vertex: str) -> Array:
        """What a vertex has computed; it is computed, and everything before it, if it has not been.

        Only to be looked at, at once: later operations may write into it.
        """

    @abstractmethod
    def put(self, vertex: str, value: Array) -> None:
        """Let all that comes later read something else in the place of what a vertex has computed."""

    @abstractmethod
    def finish(self) -> dict[str, Array]:
        """Compute everything that is left; what the model returns, by name."""

    @abstractmethod
    def fork(self) -> Self:
        """Another one at the same place; what happens to one does not reach the other."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """How much memory the tensors take that are to be read."""


class Course(ABC):
    """What passages through one state of a model have in common."""

    def watch(self, batch: Batch, vertices: Sequence[str]) -> Iterator[tuple[str, Array]]:
        """What some vertices compute, in their order; each only to be looked at before the next one is asked for."""
        passage = self.start(batch)
        for vertex in vertices:
            yield vertex, passage.value(vertex)

    @abstractmethod
    def start(self, batch: Batch) -> Passage:
        """Let a batch begin."""

    @abstractmethod
    def slopes(
        self, batch: Batch, vertices: Sequence[str], loss: Callable[[Any, Any], Any]
    ) -> Iterator[tuple[str, Array, Array]]:
        """What some vertices compute, and the gradient of a loss with respect to it.

        Args:
            batch: the samples.
            vertices: their names.
            loss: a function of what the model returns and the target that returns one number, a mean over samples.

        Raises:
            CalibrationError: the front end knows no gradients, or this is no such function.
        """

    @abstractmethod
    def findable(self, vertex: str) -> None:
        """Raise a `CalibrationError` that says why, if what a vertex computes cannot be looked at."""

    @abstractmethod
    def exchange(self, key: str, array: Array) -> None:
        """Let all passages go on with another array of the same shape in the place of a parameter."""


def named(batch: object, names: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """The inputs of a model by name, and the target, if there is one.

    Args:
        batch: an array for a model with one input; a mapping from names to arrays; or a tuple or list of inputs by
            position, behind which a target may stand.
        names: of all inputs, in order.

    Raises:
        CalibrationError: anything else.
    """
    if isinstance(batch, Mapping):
        if set(batch) != set(names):
            raise CalibrationError(f"the model takes the inputs {list(names)}, a batch has {list(batch)}")
        return dict(batch), None
    if isinstance(batch, tuple | list):
        if len(batch) not in (len(names), len(names) + 1):
            raise CalibrationError(
                f"the model takes {len(names)} inputs, {list(names)}, and a target may come behind them; a batch has "
                f"{len(batch)} entries"
            )
        return dict(zip(names, batch, strict=False)), batch[len(names)] if len(batch) > len(names) else None
    if len(names) != 1:
        raise CalibrationError(
            f"the model takes {len(names)} inputs, {list(names)}: a batch is a tuple of arrays, or a mapping from "
            f"these names to arrays, got {type(batch).__name__}"
        )
    return {names[0]: batch}, None


def rebatched(
    given: Iterable[Batch], size: int, join: Callable[[Sequence[Any]], Any], *, exactly: bool
) -> Iterator[Batch]:
    """The same samples in batches of one size.

    Args:
        given: batches of any size.
        size: how many samples a batch gets.
        join: concatenates arrays along their first axis.
        exactly: whether what is left over at the end goes, since the model takes this many samples and no others.
    """
    waiting: list[Batch] = []
    for batch in given:
        if not batch.rows:
            yield batch
            continue
        if waiting and not _alike(waiting[0], batch):
            if not exactly:
                yield _joined(waiting, join)
            waiting = []
        waiting.append(batch)
        while (total := sum(one.rows for one in waiting)) >= size:
            whole = _joined(waiting, join)
            yield _part(whole, 0, size)
            waiting = [_part(whole, size, total)] if total > size else []
    if waiting and not exactly:
        yield _joined(waiting, join)


def _alike(one: Batch, other: Batch) -> bool:
    """Whether their samples have the same shapes."""
    shapes = [
        {name: tuple(value.shape[1:]) for name, value in batch.inputs.items() if hasattr(value, "shape")}
        for batch in (one, other)
    ]
    return shapes[0] == shapes[1] and (one.target is None) == (other.target is None)


def _joined(batches: Sequence[Batch], join: Callable[[Sequence[Any]], Any]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    inputs = {
        name: join([batch.inputs[name] for batch in batches]) if hasattr(value, "shape") else value
        for name, value in first.inputs.items()
    }
    target = None if first.target is None else join([batch.target for batch in batches])
    return Batch(inputs, sum(batch.rows for batch in batches), target)


def _part(batch: Batch, start: int, stop: int) -> Batch:
    inputs = {name: value[start:stop] if hasattr(value, "shape") else value for name, value in batch.inputs.items()}
    return Batch(inputs, stop - start, None if batch.target is None else batch.target[start:stop])


def rows_of(inputs: Mapping[str, Any]) -> int:
    """How many samples the arrays have, if all have equally many; otherwise 0."""
    counts = {len(value) if value.ndim else 0 for value in inputs.values() if hasattr(value, "shape")}
    return next(iter(counts)) if len(counts) == 1 else 0


def memory_of(values: Iterable[Any]) -> int:
    """Bytes of arrays, each counted once."""
    return sum({id(value): int(getattr(value, "nbytes", 0)) for value in values}.values())


class Fleet:
    """All batches on their way through one state of a model; those that take too much memory begin again each time."""

    def __init__(self, course: Course, batches: Sequence[Batch]) -> None:
        self.course, self._batches = course, batches
        self._passages: dict[int, Passage] = {}

    def at(self, vertex: str) -> Iterator[Passage]:
        """Batch by batch, where everything before a vertex is computed."""
        taken = 0
        for number, batch in enumerate(self._batches):
            passage = self._passages.pop(number, None) or self.course.start(batch)
            passage.reach(vertex)
            yield passage
            taken += passage.nbytes
            if taken <= _MEMORY:
                self._passages[number] = passage


def is_held(number: int, held_back: float) -> bool:
    """Whether a batch is held back.

    Args:
        number: of the batch, from 0 on.
        held_back: which share of the batches is.
    """
    before, after = (floor(count * held_back + _ROUNDING) for count in (number, number + 1))
    return after > before


def kept_rows(shape: Sequence[int], counting: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Which rows count, of a tensor that has these sizes but for its neurons; `None` if all do.

    Args:
        shape: of all axes but the neurons', outermost first.
        counting: which positions count, (samples, steps).
    """
    if counting is None or tuple(shape[:_POSITIONS]) != counting.shape:
        return None
    spread = counting.reshape(*counting.shape, *[1] * (len(shape) - _POSITIONS))
    return np.broadcast_to(spread, tuple(shape)).reshape(-1)
