"""Everything that a network is, in one value that a change replaces as a whole."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from solver_nas.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    import numpy as np
    from numpy.typing import NDArray

    from solver_nas.frontend import Array
    from solver_nas.rules import Memory


class Observer(ABC):
    """Statistics of one vertex; follows its neurons when sizes change."""

    @abstractmethod
    def select(self, moved: NDArray[np.intp]) -> Observer:
        """The same statistics for other neurons: old positions, -1 for a new neuron."""


class State(NamedTuple):
    """One state of a network.

    Args:
        graph: the structure.
        arrays: parameters by key; read-only arrays, so that states can share them.
        observers: what is gathered about activations, by vertex name.
        fills: what new entries of a parameter start with, by key; a weight has none.
        memory: what rules decided by looking at sizes that have changed since.
        rng: randomness for new weights and for training.
        extra: what else a front end remembers.
        past: earlier states that can be gone back to, oldest first; they have no past of their own.
    """

    graph: Graph
    arrays: MutableMapping[str, Array]
    observers: dict[str, Observer]
    fills: dict[str, float]
    memory: Memory | None
    rng: np.random.Generator
    extra: object = None
    past: tuple[State, ...] = ()

    def apart(self) -> State:
        """The same state with containers of its own: what happens in place does not reach it."""
        return self._replace(
            graph=Graph(self.graph.vertices, self.graph.outputs),
            arrays=copy.copy(self.arrays),
            observers=dict(self.observers),
            fills=dict(self.fills),
            rng=copy.deepcopy(self.rng),
        )

    def like(self, other: State) -> bool:
        """Whether another state has the very same arrays."""
        mine, others = self.arrays, other.arrays
        return mine.keys() == others.keys() and all(mine[key] is array for key, array in others.items())

    def after(self, before: State, depth: int) -> State:
        """This state with the one before it as the latest of its past, of which `depth` states are kept."""
        past = (*before.past, before._replace(past=(), rng=copy.deepcopy(before.rng)))
        return self._replace(past=past[len(past) - min(depth, len(past)) :])


def frozen(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The same arrays, read-only from now on."""
    for array in arrays.values():
        array.flags.writeable = False
    return dict(arrays)
