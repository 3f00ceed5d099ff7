"""Random changes of a network as values: composed, each with a probability, made as a whole or not at all."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from solver_nas.change import Change, Planned
from solver_nas.errors import ImpossibleError, RelaxedWarning, RequestError, SolverNasError
from solver_nas.nn.network import Network
from solver_nas.planning import check_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")
#: A change in words, and the function that makes it.
Attempt = tuple[str, Callable[[], Change]]

_TRIES = 8  # places that are tried before a mutation gives up


@dataclass(frozen=True, slots=True)
class Step:
    """One mutation that was tried.

    Args:
        operator: its name.
        what: what was tried, in words.
        done: whether it was made; otherwise the network is what it was.
        reason: why not, in words; empty if it was made.
        change: what was made.
    """

    operator: str
    what: str
    done: bool
    reason: str = ""
    change: Change | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of mutations has done: true if anything was changed.

    Args:
        steps: everything that was tried, in order.
    """

    steps: tuple[Step, ...]

    def __bool__(self) -> bool:
        """Whether anything was changed."""
        return any(step.done for step in self.steps)

    @property
    def plans(self) -> tuple[Planned, ...]:
        """What was carried out, in order: an optimiser follows these one after the other."""
        return tuple(
            step.change.plan for step in self.steps if step.change is not None and step.change.plan is not None
        )

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Operator -> (how often it was made, how often it was refused)."""
        done = Counter(step.operator for step in self.steps if step.done)
        tried = Counter(step.operator for step in self.steps)
        return {name: (done[name], tried[name] - done[name]) for name in sorted(tried)}

    def __str__(self) -> str:
        """A line for every step."""
        lines = [f"{step.what}{'' if step.done else f': refused, {step.reason}'}" for step in self.steps]
        return "\n".join(lines) or "nothing was tried"


@dataclass(frozen=True)
class Mutation(ABC):
    """A random change of a network.

    Args:
        probability: how likely it is to be tried, in `Every`; its weight, in `OneOf`.
    """

    probability: float = 1.0

    def __post_init__(self) -> None:
        """Check the probability."""
        if not 0 <= self.probability <= 1:
            raise RequestError(f"{type(self).__name__}: a probability lies between 0 and 1, got {self.probability!r}")

    @abstractmethod
    def run(self, net: Network, rng: np.random.Generator) -> Iterator[Step]:
        """Change the network; what was tried, step by step."""


class Local(Mutation, Generic[T]):
    """A mutation that is made at one of many places, the first one at random where it is possible."""

    @abstractmethod
    def places(self, net: Network) -> list[T]:
        """Where it could be made."""

    @abstractmethod
    def attempt(self, place: T, rng: np.random.Generator) -> Attempt | None:
        """What to do there, in words and as a function; `None` for nothing."""

    def run(self, net: Network, rng: np.random.Generator) -> Iterator[Step]:
        """Try one place after the other."""
        places = self.places(net)
        for number in rng.permutation(len(places))[:_TRIES]:
            attempt = self.attempt(places[int(number)], rng)
            if attempt is None:
                continue
            step = _tried(net, type(self).__name__, *attempt)
            yield step
            if step.done:
                return


def mutate(net: Network, mutation: Mutation, *, seed: int) -> Report:
    """Let a mutation change a network at random.

    Every step is made as a whole or not at all, and leaves a valid network. All of them together are one
    transaction: an error or Ctrl-C takes everything back, and so does `net.undo()`.

    Args:
        net: the network.
        mutation: an operator such as `Widen()`, or a composition of operators.
        seed: equal seeds change equal networks equally, bit for bit.

    Returns:
        What was tried, and what came of it.

    >>> from solver_nas import Network, nn
    >>> from solver_nas.mutation import Every, InsertLayer, Widen
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 2), 4, activation="relu", name="hidden")
    >>> net.output(nn.dense(hidden, 1, name="out"))
    >>> print(mutate(net, Every(Widen(most=3), InsertLayer()), seed=1))
    hidden: 3 neurons more
    insert residual dense behind hidden
    >>> hidden, net["out"].inputs
    (<hidden: dense 2 -> 7>, (<add_1: add 7, 7 -> 7>,))
    """
    if not isinstance(mutation, Mutation):
        raise RequestError(f"expected a mutation such as Widen(), got {mutation!r}")
    if not isinstance(net, Network):
        raise RequestError(f"random edits work on networks of this library's layers, got {net!r}")
    check_seed(seed)
    rng = np.random.default_rng(seed)
    with net.transaction():
        return Report(tuple(mutation.run(net, rng)))


@dataclass(frozen=True, init=False)
class Composition(Mutation):
    """Mutations made of mutations.

    Args:
        mutations: what is composed.
        probability: as for every mutation.
    """

    mutations: tuple[Mutation, ...] = ()

    def __init__(self, *mutations: Mutation, probability: float = 1.0) -> None:
        """Compose mutations."""
        super().__init__(probability)
        object.__setattr__(self, "mutations", _checked(mutations))


class Every(Composition):
    """Tries all of its mutations, one after the other, each with its probability."""

    def run(self, net: Network, rng: np.random.Generator) -> Iterator[Step]:
        """Each with its probability."""
        for mutation in self.mutations:
            if rng.random() < mutation.probability:
                yield from mutation.run(net, rng)


class OneOf(Composition):
    """Tries one of its mutations, chosen at random with their probabilities as weights."""

    def run(self, net: Network, rng: np.random.Generator) -> Iterator[Step]:
        """One of them."""
        weights = np.array([mutation.probability for mutation in self.mutations])
        if weights.sum() > 0:
            chosen = rng.choice(len(weights), p=weights / weights.sum())
            yield from self.mutations[int(chosen)].run(net, rng)


def _checked(mutations: Sequence[Mutation]) -> tuple[Mutation, ...]:
    if not mutations or not all(isinstance(mutation, Mutation) for mutation in mutations):
        raise RequestError(f"a composition takes mutations such as Widen(), got {mutations!r}")
    return tuple(mutations)


def _tried(net: Network, operator: str, what: str, make: Callable[[], Change]) -> Step:
    """Make a change that leaves the shapes of the outputs as they are, or nothing."""
    names = outputs_of(net)
    before = {name: net[name].shape for name in names}
    try:
        with net.transaction(), warnings.catch_warnings():
            # What is lost is in the plan; a search is not the place for warnings.
            warnings.simplefilter("ignore", RelaxedWarning)
            change = make()
            changed = [name for name in outputs_of(net) if before.get(name) != net[name].shape]
            if changed:
                raise ImpossibleError(f"the output {changed[0]!r} would change its size")
    except SolverNasError as error:
        return Step(operator, what, done=False, reason=str(error))
    return Step(operator, what, done=True, change=change)


def outputs_of(net: Network) -> set[str]:
    """Names of the vertices whose values the network returns."""
    return {port.vertex for port in net.graph.returned}
