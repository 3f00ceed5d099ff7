"""How far what a changed model returns is from what it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver_nas.passage import kept_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.frontend import Model
    from solver_nas.passage import Passage

#: Behind these, outputs that are nearly sure of themselves hardly move, whatever happens before.
_SQUASHING = frozenset(
    {"softmax", "_softmax", "log_softmax", "_log_softmax", "logsoftmax", "sigmoid", "argmax", "argmin"}
)
_PASSING = frozenset({"output", "identity", "reshape", "view", "flatten", "transpose", "squeeze", "unsqueeze"})
_USELESS = 0.99  # an error that cannot get worse
_STILL = 1e-12  # relative: what varies less than this does not vary


def judged(model: Model) -> dict[str, bool]:
    """The vertices whose results are compared: outputs, or what goes into the softmax, sigmoid or argmax before them.

    Returns:
        Whether the second axis of what they compute may be one of positions, and not of neurons.
    """
    graph, found = model.graph, []
    for port in graph.returned:
        name = chosen = port.vertex
        while True:
            vertex = graph.vertex(name)
            kind = vertex.kind.rpartition(".")[2].lower()
            if len(vertex.inputs) != 1 or vertex.parameters or kind not in _SQUASHING | _PASSING:
                break
            name = vertex.inputs[0].vertex
            if kind in _SQUASHING or kind == "output":
                chosen = name
        found.append(chosen)
    names = sorted(dict.fromkeys(found), key=graph.order.index)
    return {name: not any(1 in block.axes for block in model.tensor(name).blocks) for name in names}


def spread_of(outputs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Variance of every output that holds numbers with fractions, over samples and summed over entries."""
    found = {}
    for name, first in outputs[0].items():
        if first.dtype.kind == "f":
            alike = all(one[name].shape[1:] == first.shape[1:] for one in outputs) and first.ndim > 0
            values = [np.asarray(one[name], np.float64) for one in outputs]
            rows = np.concatenate(values) if alike else np.concatenate([one.reshape(-1, 1) for one in values])
            spread = float(((rows - rows.mean(axis=0)) ** 2).mean())
            # A single sample varies in no way but along its own entries.
            found[name] = spread if spread > _STILL * float((rows**2).mean()) else float(rows.var()) or 1.0
    return found


def lost(error: float) -> float:
    """What is lost with an error, so that several losses one after the other add up.

    If a share 1 - error of the variance is left after one step, and another share of that after the next, shares
    multiply.
    """
    return -float(np.log1p(-min(error, _USELESS)))


def error_of(found: Mapping[str, Any], wanted: Mapping[str, Any], scale: Mapping[str, float]) -> float:
    """Mean square of the difference, as a fraction of the variance, over all outputs; NaN if there are none."""
    errors = [
        float(((np.asarray(found[name], np.float64) - wanted[name]) ** 2).mean()) / spread
        for name, spread in scale.items()
    ]
    return float(np.mean(errors)) if errors else float("nan")


def outcome(
    passage: Passage, vertices: Mapping[str, bool], counting: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """What some vertices compute, zero where positions do not count.

    Copies, since later operations may write into it.

    Args:
        passage: of one batch.
        vertices: whether the second axis may be one of positions, see `judged`.
        counting: which positions count.
    """
    found = {}
    for name, positions in vertices.items():
        value = np.array(passage.value(name))
        if (
            positions
            and kept_rows(value.shape, counting) is not None
            and counting is not None
            and value.dtype.kind == "f"
        ):
            value[~counting] = 0
        found[name] = value
    return found
