"""Two ONNX models side by side: what they cost, how fast they are, and how far apart their outputs."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from solver_nas.errors import RequestError
from solver_nas.inspection import inspect
from solver_nas.onnx import runtime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.frontend import Array
    from solver_nas.onnx.model import OnnxModel

_WARM_UP = 2  # runs before time is measured
_SUITABLE = "give inputs that suit the models: inputs=..., or --data FILE.npz on the command line"


class Comparison(NamedTuple):
    """What two models have in common, and what not; the first model's number comes first.

    Args:
        parameters: entries of all arrays that are learned.
        macs: multiplications for one sample; `None` where sizes are open.
        seconds: the median time of a run, both in turn, on one thread.
        distance: the largest difference of an output, relative to its largest number; infinite for other shapes or
            other outputs.
        distances: the same for every output that both have.
        random: whether inputs were made up.
    """

    parameters: tuple[int, int]
    macs: tuple[int | None, int | None]
    seconds: tuple[float, float]
    distance: float
    distances: Mapping[str, float]
    random: bool


def compare(
    first: OnnxModel, second: OnnxModel, inputs: Mapping[str, Array] | None = None, *, repeats: int = 10
) -> Comparison:
    """Run two models in turn with the same inputs.

    Args:
        first: a model.
        second: another one with the same inputs.
        inputs: arrays by name; by default, random ones.
        repeats: how often each is run.

    Raises:
        RequestError: they do not take the same inputs.
        StoreError: onnxruntime cannot run one of them.
    """
    if set(first.structure.inputs) != set(second.structure.inputs):
        raise RequestError(
            f"the models take other inputs: {sorted(first.structure.inputs)} and {sorted(second.structure.inputs)}"
        )
    sessions = [runtime.session(model.proto) for model in (first, second)]
    given = inputs
    if given is None:
        given = runtime.suitable(sessions[0], runtime.trials(first.structure, np.random.default_rng(0)), _SUITABLE)
    outputs = [runtime.run(session, given) for session in sessions for _ in range(_WARM_UP)][::_WARM_UP]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for session, times in zip(sessions, seconds, strict=True):
            start = time.perf_counter()
            runtime.run(session, given)
            times.append(time.perf_counter() - start)
    distances = runtime.distances(*outputs)
    looks = inspect(first), inspect(second)
    return Comparison(
        (looks[0].parameters, looks[1].parameters),
        (looks[0].macs, looks[1].macs),
        (median(seconds[0]), median(seconds[1])),
        max(distances.values(), default=0.0) if outputs[0].keys() == outputs[1].keys() else float("inf"),
        distances,
        inputs is None,
    )
