"""A model whose whole state is one value: changes, transactions, undo."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import GraphError, RequestError
from solver_nas.frontend import Model
from solver_nas.requests import is_whole
from solver_nas.rules import label
from solver_nas.state import State, frozen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, MutableMapping
    from typing import Self

    from numpy.typing import NDArray

    from solver_nas.frontend import Array
    from solver_nas.graph import Graph
    from solver_nas.labels import Labels
    from solver_nas.rules import Memory
    from solver_nas.state import Observer


class Editable(Model):
    """A model with a state that a change replaces as a whole, so that no failure leaves half of a change behind."""

    def __init__(self, state: State, dtype: type[np.floating[Any]], history: int) -> None:
        """Start in a state."""
        self.dtype = np.dtype(dtype)
        self.history = history
        self._state = state
        self._in_transaction = False
        # What follows from the state, until it is asked for again.
        self._labels: Labels | None = None

    @abstractmethod
    def _empty(self) -> Self:
        """A new model of this kind, which remembers no past."""

    def _forget(self) -> None:
        """Forget what follows from the state."""
        self._labels = None

    def _enter(self, state: State, labels: Labels | None = None) -> None:
        # What is derived from the state goes first: it can be derived again, whichever state there is then.
        self._forget()
        self._state = state
        self._labels = labels

    @property
    def graph(self) -> Graph:
        """The present structure, as values."""
        return self._state.graph

    @property
    def arrays(self) -> MutableMapping[str, Array]:
        """The present arrays by key (`"vertex.role"`). They are values: replace one instead of writing into it."""
        return self._state.arrays

    @property
    def observers(self) -> dict[str, Observer]:
        """What is gathered about activations, by vertex name."""
        return self._state.observers

    @property
    def rng(self) -> np.random.Generator:
        """Randomness for new weights and for training."""
        return self._state.rng

    @property
    def history(self) -> int:
        """How many edits `undo` can take back."""
        return self._history

    @history.setter
    def history(self, depth: int) -> None:
        if not is_whole(depth) or depth < 0:
            raise RequestError(f"the history is a number of edits from 0 on, got {depth!r}")
        self._history = int(depth)

    @property
    def labels(self) -> Labels:
        """The labels of the present structure."""
        if self._labels is None:
            self._labels = label(self.graph, memory=self._state.memory)
        return self._labels

    def fill_of(self, vertex: str, role: str) -> float | None:
        """What a new entry of a parameter starts with; `None` for a weight."""
        return self._state.fills.get(self.graph.vertex(vertex).parameters[role].key)

    def commit(
        self,
        graph: Graph,
        arrays: Mapping[str, Array],
        moved: Mapping[str, NDArray[np.intp]],
        *,
        forget: Collection[str] = (),
        labels: Labels | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Take over a new structure and new arrays in a single assignment."""
        self._commit(self._changed(graph, arrays, moved, forget, memory), labels)

    def _changed(
        self,
        graph: Graph,
        arrays: Mapping[str, Array],
        moved: Mapping[str, NDArray[np.intp]],
        forget: Collection[str],
        memory: Memory | None,
    ) -> State:
        """The state after a change, as in `commit`."""
        observers = {
            name: observer.select(moved[name]) if name in moved else observer
            for name, observer in self.observers.items()
            if name in graph
        }
        fills = {key: fill for key, fill in self._state.fills.items() if key in arrays}
        known = memory or self.labels.memory
        gone = {name for name in known.vertices if name not in graph}
        state = self._state._replace(graph=graph, arrays=self._owned(arrays), observers=observers, fills=fills)
        return state._replace(memory=known.without(gone.union(forget)))

    def _owned(self, arrays: Mapping[str, Array]) -> MutableMapping[str, Array]:
        """Arrays as a state keeps them."""
        return frozen(arrays)

    def _snapshot(self) -> State:
        """The present state, out of reach of what happens in place."""
        return self._state.apart()

    def _past(self, state: State) -> State:
        """The present state as one to go back to from another one."""
        # Layers are added to graphs in place, which must not reach into the past.
        return self._state.apart() if state.graph is self._state.graph else self._state

    def _commit(self, state: State, labels: Labels | None = None) -> None:
        """Enter a state that can be left again by `undo`."""
        if not self._in_transaction:
            before = self._past(state)
            state = state.after(before, self.history)
        self._enter(state, labels)

    def fork(self) -> Self:
        """A network in the same state, with the same arrays, to try a change on."""
        twin = self._empty()
        twin._enter(self._state.apart()._replace(past=()), self.labels)  # noqa: SLF001 - of its own class
        return twin

    def take_over(self, fork: Model) -> None:
        """Enter the state of a fork of this network, all or nothing."""
        assert isinstance(fork, Editable), "forks are of the same class"
        state = fork._state  # noqa: SLF001 - of its own class
        self._commit(state.apart()._replace(arrays=self._owned(fork.arrays), past=self._state.past), fork.labels)

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """Make several edits, or none: any exception, Ctrl-C included, takes all of them back.

        Edits of sizes and of structure, new layers, new weights and training all count. Transactions may be
        nested: an inner one that fails takes its own edits back, and the outer one can go on if it catches the
        exception. The outermost one is a single step for `undo`.

        >>> from solver_nas import Network, delta_nout, nn
        >>> net = Network()
        >>> hidden = nn.dense(net.input("in", 2), 8, name="hidden")
        >>> try:
        ...     with net.transaction():
        ...         _ = delta_nout(hidden, -4)
        ...         raise RuntimeError("not good enough")
        ... except RuntimeError:
        ...     print(hidden)
        <hidden: dense 2 -> 8>
        """
        started, before, within = self._state, self._snapshot(), self._in_transaction
        revision = started.graph.revision
        try:
            self._in_transaction = True
            yield self
            nothing = self._state is started and started.graph.revision == revision and before.like(started)
            if not within and not nothing:
                self._enter(self._state.after(before, self.history))
        except BaseException:
            # Plans for the graph as it was stay valid if it is the same object again.
            same = started.graph.revision == revision
            self._enter(before._replace(graph=started.graph) if same else before)
            raise
        finally:
            self._in_transaction = within

    def undo(self, steps: int = 1) -> None:
        """Take back the last edit or transaction: the network is what it was before, bit for bit.

        What has happened since, training and new layers, goes too.

        Args:
            steps: how many edits to take back, at most `history`.

        Raises:
            GraphError: there is nothing (more) to take back, or a transaction is open.
        """
        if self._in_transaction:
            raise GraphError("undo takes whole transactions back; leave this one with an exception instead")
        past = self._state.past
        if not is_whole(steps) or not 1 <= steps <= len(past):
            raise GraphError(
                f"{steps!r} edits cannot be taken back, {len(past)} can; "
                f"this network remembers up to {self.history} (net.history)"
            )
        self._enter(past[-steps]._replace(past=past[:-steps]))

    def adopt(self, arrays: Mapping[str, Array], observers: Mapping[str, Observer], *, only: bool = False) -> None:
        """Replace arrays of the same shapes and observers in a single assignment, as a training step does.

        Args:
            arrays: by key; those that are not in it stay.
            observers: by vertex name; those that are not in it stay.
            only: observers that are not in it go.
        """
        kept = {} if only else self.observers
        new = {**self.arrays, **frozen(arrays)} if arrays else self._state.arrays
        self._state = self._state._replace(arrays=new, observers={**kept, **observers})
