"""How parameters follow their gradients: Adam, and gradient descent with momentum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from solver_nas.change import Change
from solver_nas.errors import LayerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.change import Planned
    from solver_nas.frontend import Array


class Memory(NamedTuple):
    """What an optimiser remembers of one parameter.

    Args:
        steps: how many it has taken.
        moments: running averages, each of the parameter's shape.
    """

    steps: int
    moments: tuple[Array, ...]


@dataclass(eq=False)
class Optimiser(ABC):
    """A rule for steps, and what it remembers of earlier ones.

    Pass the same object to `fit` again and training goes on where it stopped.

    Args:
        rate: the learning rate, positive.
        state: what it remembers, by parameter key; replaced after every step.
    """

    rate: float
    state: dict[str, Memory] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        """Check the rate."""
        if not self.rate > 0:
            raise LayerError(f"{type(self).__name__}: the rate is positive, got {self.rate}")

    @abstractmethod
    def blank(self, array: Array) -> Memory:
        """What it remembers of a parameter before the first step."""

    @abstractmethod
    def step(self, gradient: Array, memory: Memory) -> tuple[Array, Memory]:
        """What to subtract from a parameter, and what to remember of it."""

    def follow(self, plan: Planned | Change | None) -> None:
        """Let the memory follow its neurons through a change that was applied; new neurons have none.

        Args:
            plan: what was applied, such as `delta_nout(...)` or its `plan`.

        To go back where the network does (`net.undo()`), put back what `dict(optimizer.state)` was before.
        """
        plan = plan.plan if isinstance(plan, Change) else plan
        if plan is None:
            return
        places = range(max((len(memory.moments) for memory in self.state.values()), default=0))
        moved = [plan.follow({key: memory.moments[place] for key, memory in self.state.items()}) for place in places]
        self.state = {
            key: Memory(memory.steps, tuple(moments[key] for moments in moved))
            for key, memory in self.state.items()
            if all(key in moments for moments in moved)
        }

    def advance(
        self, arrays: Mapping[str, Array], gradients: Mapping[str, Array]
    ) -> tuple[dict[str, Array], dict[str, Memory]]:
        """The parameters and the memory after one step; changes neither.

        Raises:
            LayerError: a parameter has changed its shape since the last step.
        """
        after: dict[str, Array] = {}
        state = dict(self.state)
        for key, gradient in gradients.items():
            array = arrays[key]
            memory = state.get(key) or self.blank(array)
            if any(moment.shape != array.shape for moment in memory.moments):
                raise LayerError(
                    f"the optimiser remembers {key!r} with shape {memory.moments[0].shape}, which now is "
                    f"{array.shape}; call optimizer.follow(change.plan) after a change, or start a new one"
                )
            step, state[key] = self.step(gradient, memory)
            after[key] = (array - step).astype(array.dtype, copy=False)
        return after, state


@dataclass(eq=False)
class Adam(Optimiser):
    """Steps of adapted size. Source: Kingma and Ba 2015, algorithm 1.

    Args:
        rate: the learning rate.
        decay: of the averages of the gradient and of its square.
        epsilon: added to the root of the latter.
        state: what it remembers, by parameter key.
    """

    rate: float = 0.001
    decay: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def blank(self, array: Array) -> Memory:
        """Averages of zero."""
        return Memory(0, (np.zeros_like(array), np.zeros_like(array)))

    def step(self, gradient: Array, memory: Memory) -> tuple[Array, Memory]:
        """Both averages, corrected for their start at zero."""
        steps = memory.steps + 1
        keep, keep_square = self.decay
        mean = keep * memory.moments[0] + (1 - keep) * gradient
        square = keep_square * memory.moments[1] + (1 - keep_square) * gradient**2
        scale = np.sqrt(square / (1 - keep_square**steps)) + self.epsilon
        return self.rate * mean / (1 - keep**steps) / scale, Memory(steps, (mean, square))


@dataclass(eq=False)
class SGD(Optimiser):
    """Gradient descent with momentum: velocity = momentum * velocity + gradient.

    Args:
        rate: the learning rate.
        momentum: in [0, 1).
        state: what it remembers, by parameter key.
    """

    rate: float = 0.01
    momentum: float = 0.0

    def blank(self, array: Array) -> Memory:
        """No velocity."""
        return Memory(0, (np.zeros_like(array),))

    def step(self, gradient: Array, memory: Memory) -> tuple[Array, Memory]:
        """Along the velocity."""
        velocity = self.momentum * memory.moments[0] + gradient
        return self.rate * velocity, Memory(memory.steps + 1, (velocity,))
