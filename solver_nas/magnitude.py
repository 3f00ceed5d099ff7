"""What a neuron is worth by the size of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solver_nas.graph import Port
from solver_nas.labels import FIXED

if TYPE_CHECKING:
    from solver_nas.frontend import Array, Handle
    from solver_nas.graph import Vertex
    from solver_nas.labels import IntArray, Labels, Use

Floats = NDArray[np.float64]


def magnitude(handle: Handle) -> Floats | float:
    """The L2 norm of each neuron's incoming weights, plus the absolute value of its bias.

    Args:
        handle: a vertex of any model.

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.
    """
    return magnitudes(handle, order=2)


def magnitudes(handle: Handle, *, order: int) -> Floats | float:
    """A norm of each neuron's incoming weights, plus the absolute value of its bias.

    Args:
        handle: a vertex of any model.
        order: of the norm, 1 or 2.

    Returns:
        Shape (nout,); 0.0 for a vertex that makes no neurons of its own.
    """
    model, vertex = handle.model, handle.vertex
    labels = model.labels
    own, names = own_labels(labels, vertex), names_of(labels, handle.name)
    made = np.isin(names, own)
    if not made.any():
        return 0.0
    powers, biases = np.zeros(len(own)), np.zeros(len(own))
    for parameter in vertex.parameters.values():
        record = labels.parameters[parameter.key]
        array = np.asarray(model.arrays[parameter.key], np.float64).reshape(record.view)
        for use in record.uses:
            followed = use.levels[-1]["label"].reshape(-1)
            mine = np.isin(followed, own)
            if use.role == "contract" or not mine.any():
                continue
            rows, place = rows_of(array, use), np.searchsorted(own, followed[mine])
            if use.role == "follow" and array.ndim == len(use.axes):
                np.add.at(biases, place, np.abs(rows[mine, 0]))
            else:
                np.add.at(powers, place, (np.abs(rows[mine]) ** order).sum(axis=1))
    place = np.minimum(np.searchsorted(own, names), len(own) - 1)
    return np.where(made, powers[place] ** (1 / order) + biases[place], 0.0)


def own_labels(labels: Labels, vertex: Vertex) -> IntArray:
    """The labels that the parameters of a vertex make, ascending."""
    made = [
        use.levels[-1]["label"].reshape(-1)
        for parameter in vertex.parameters.values()
        for use in labels.parameters[parameter.key].uses
        if use.role == "fresh"
    ]
    own = np.unique(np.concatenate([np.zeros(0, np.int64), *made]))
    return np.asarray(own[own != FIXED])


def names_of(labels: Labels, vertex: str) -> IntArray:
    """The label of each position of a vertex's output."""
    return np.asarray(labels.tensors[Port(vertex)].neurons["label"])


def rows_of(array: Array, use: Use) -> Floats:
    """A parameter with one row per neuron of a use."""
    front = np.moveaxis(array, use.axes, range(len(use.axes)))
    return np.asarray(front.reshape(use.levels[-1].size, -1))
