"""What a benchmark needs of a real model: the file, data that it takes, and the number that tells whether it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from tests.benchmarks.measures.wheels import Wheel

Array = NDArray[Any]
Feed = Mapping[str, Array]
Run = Callable[[Feed], Feed]
_PARTS = 8  # that samples are split into
_QUIET = 3  # onnxruntime: errors only


@dataclass(frozen=True)
class Real:
    """A model that somebody uses.

    Attributes:
        name: short, unique.
        wheel: the package that the file comes with.
        file: its path inside the package.
        input_shapes: for every input a usual shape, without unknown sizes, for which costs are counted.
        samples: makes real inputs to calibrate with, none of them used by `score`: arrays by the names of inputs.
            Where the model takes a fixed number of rows, they are stacked; see `batches`.
        score: measures the model that a function runs, arrays by name in and out; higher is better. The function
            is not called with more rows than the model takes.
        measure: what `score` measures.
        expected: the score of the original.
        rows: how many rows the model takes at a time; None for as many as there are.
        axes: input -> the axis along which samples lie, where that is not the first one of all inputs.
        prepared: what has to be done to the file before it is a model worth measuring.
    """

    name: str
    wheel: Wheel
    file: str
    input_shapes: Mapping[str, Sequence[int | None]]
    samples: Callable[[], Feed]
    score: Callable[[Run], float]
    measure: str
    expected: float
    rows: int | None = None
    prepared: Callable[[ModelProto], ModelProto] | None = None
    axes: Mapping[str, int] | None = None

    @property
    def path(self) -> Path:
        """The file as it is in the package; `proto` is what is measured.

        Raises:
            ModuleNotFoundError: the package is missing or has another version; says what to install.
        """
        return self.wheel.file(self.file)

    def proto(self) -> ModelProto:
        """The model that is measured, a new one with every call."""
        loaded = onnx.load(self.path)
        return self.prepared(loaded) if self.prepared else loaded

    def batches(self) -> list[Feed]:
        """The samples in parts that the model takes."""
        feed = self.samples()
        if self.axes is not None:
            whole = {name: feed[name].shape[axis] for name, axis in self.axes.items()}
            places = np.array_split(np.arange(min(whole.values())), _PARTS)
            return [
                {
                    name: np.take(array, part, self.axes[name]) if name in self.axes else array
                    for name, array in feed.items()
                }
                for part in places
            ]
        if self.rows is None:
            return [feed]
        count = len(next(iter(feed.values())))
        parts = range(0, count, self.rows)
        return [{name: array[at : at + self.rows] for name, array in feed.items()} for at in parts]


def runner(model: ModelProto | Path) -> Run:
    """A function that runs a model in onnxruntime with one thread and returns all outputs by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feed: Feed) -> Feed:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    return run
