"""Random changes of an architecture, for search: values that can be composed, each with a probability."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np

from solver_nas import nn
from solver_nas.api import delta_nout
from solver_nas.change import Change
from solver_nas.errors import ImpossibleError, RequestError, SolverNasError
from solver_nas.nn.activations import ACTIVATIONS
from solver_nas.nn.network import Network
from solver_nas.nn.vertex import NetworkVertex
from solver_nas.requests import relaxed
from solver_nas.rules import Takes, rule_of
from solver_nas.structure import change_activation, change_kernel_size, create_edge, insert, remove, remove_edge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from solver_nas.strategies import Utility

#: Makes a layer behind a vertex, for `InsertLayer`.
LayerFactory = Callable[[NetworkVertex], NetworkVertex]

T = TypeVar("T")
Edge = tuple[NetworkVertex, NetworkVertex]
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
    """

    operator: str
    what: str
    done: bool
    reason: str = ""


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
    rng = np.random.default_rng(seed)
    with net.transaction():
        return Report(tuple(mutation.run(net, rng)))


class Every(Mutation):
    """Tries all of its mutations, one after the other, each with its probability."""

    def __init__(self, *mutations: Mutation, probability: float = 1.0) -> None:
        """Compose mutations."""
        super().__init__(probability)
        object.__setattr__(self, "mutations", _checked(mutations))

    mutations: tuple[Mutation, ...]

    def run(self, net: Network, rng: np.random.Generator) -> Iterator[Step]:
        """Each with its probability."""
        for mutation in self.mutations:
            if rng.random() < mutation.probability:
                yield from mutation.run(net, rng)


class OneOf(Mutation):
    """Tries one of its mutations, chosen at random with their probabilities as weights."""

    def __init__(self, *mutations: Mutation, probability: float = 1.0) -> None:
        """Compose mutations."""
        super().__init__(probability)
        object.__setattr__(self, "mutations", _checked(mutations))

    mutations: tuple[Mutation, ...]

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


@dataclass(frozen=True)
class Widen(Local[NetworkVertex]):
    """A random layer gets more neurons.

    Args:
        probability: as for every mutation.
        most: how many neurons at most.
        widest: layers do not get wider than this.
        utility: what neurons are worth, as for `delta_nout`.
    """

    most: int = 4
    widest: int | None = None
    utility: Utility | None = None

    def places(self, net: Network) -> list[NetworkVertex]:
        """Layers with weights that are no outputs."""
        return [v for v in _layers(net) if self.widest is None or v.nout < self.widest]

    def attempt(self, place: NetworkVertex, rng: np.random.Generator) -> Attempt | None:
        """Some neurons more."""
        room = self.most if self.widest is None else min(self.most, self.widest - place.nout)
        amount = int(rng.integers(1, room + 1))
        return f"{place.name}: {amount} neurons more", _resized(place, amount, self.utility, rng)


@dataclass(frozen=True)
class Narrow(Local[NetworkVertex]):
    """A random layer gets fewer neurons, but at least one.

    Args:
        probability: as for every mutation.
        most: how many neurons at most.
        utility: what neurons are worth, as for `delta_nout`.
    """

    most: int = 4
    utility: Utility | None = None

    def places(self, net: Network) -> list[NetworkVertex]:
        """Layers with weights that are no outputs."""
        return [v for v in _layers(net) if v.nout > 1]

    def attempt(self, place: NetworkVertex, rng: np.random.Generator) -> Attempt | None:
        """Some neurons fewer."""
        amount = int(rng.integers(1, min(self.most, place.nout - 1) + 1))
        return f"{place.name}: {amount} neurons fewer", _resized(place, -amount, self.utility, rng)


def _resized(
    vertex: NetworkVertex, amount: int, utility: Utility | None, rng: np.random.Generator
) -> Callable[[], Change]:
    wish, seed = relaxed(amount, must_change=True), int(rng.integers(2**31))
    return partial(delta_nout, vertex, wish, utility=utility, on_failure="raise", seed=seed)


def _layers(net: Network) -> list[NetworkVertex]:
    """Vertices that make their own neurons and are no outputs."""
    outputs = _outputs(net)
    return [v for v in net.vertices if any(p.shape[1:] for p in v.vertex.parameters.values()) and v.name not in outputs]


def _outputs(net: Network) -> set[str]:
    named = {v.name for v in net.outputs}
    return named or {v.name for v in net.vertices if not v.outputs}


def identity_layer(x: NetworkVertex, rng: np.random.Generator) -> tuple[str, LayerFactory]:
    """A layer that fits behind a vertex and changes nothing at first, chosen at random; its name and factory.

    Behind images: a convolution, a batch norm or a residual branch; elsewhere a dense layer or a residual branch.
    """

    def dense(v: NetworkVertex) -> NetworkVertex:
        return nn.dense(v, v.shape[-1] or 1, weights="identity")

    def dense_branch(v: NetworkVertex) -> NetworkVertex:
        inner = nn.dense(v, v.shape[-1] or 1, activation="relu")
        return v + nn.dense(inner, v.shape[-1] or 1, weights="zeros")

    def conv(v: NetworkVertex) -> NetworkVertex:
        return nn.conv(v, v.nout, 3, padding=1, weights="identity")

    def conv_branch(v: NetworkVertex) -> NetworkVertex:
        inner = nn.conv(v, max(v.nout // 2, 1), 3, padding=1, activation="relu")
        return v + nn.conv(inner, v.nout, 1, weights="zeros")

    def norm(v: NetworkVertex) -> NetworkVertex:
        return nn.batch_norm(v, identity=True)

    vectors = [("identity dense", dense), ("residual dense", dense_branch)]
    images = [("identity convolution", conv), ("residual convolution", conv_branch), ("batch norm", norm)]
    choices = images if len(x.shape) == 4 else vectors
    return choices[int(rng.integers(len(choices)))]


@dataclass(frozen=True)
class InsertLayer(Local[NetworkVertex]):
    """A layer is inserted behind a random vertex.

    Args:
        probability: as for every mutation.
        layer: called with the vertex and a generator; returns the layer's name and its factory. By default one
            that changes nothing at first.
        largest: networks with this many vertices or more are left alone.
    """

    layer: Callable[[NetworkVertex, np.random.Generator], tuple[str, LayerFactory]] = identity_layer
    largest: int | None = None

    def places(self, net: Network) -> list[NetworkVertex]:
        """Everything that is read and has neurons."""
        if self.largest is not None and len(net) >= self.largest:
            return []
        return [v for v in net.vertices if v.outputs and v.nout and len(v.shape) in (2, 3, 4)]

    def attempt(self, place: NetworkVertex, rng: np.random.Generator) -> Attempt | None:
        """A new layer for all that reads the vertex."""
        name, factory = self.layer(place, rng)
        return f"insert {name} behind {place.name}", partial(insert, place, factory)


@dataclass(frozen=True)
class RemoveLayer(Local[NetworkVertex]):
    """A random vertex is removed; what read it reads its input.

    Args:
        probability: as for every mutation.
        smallest: networks with this many vertices or fewer are left alone.
        utility: what neurons are worth, as for `delta_nout`.
    """

    smallest: int = 3
    utility: Utility | None = None

    def places(self, net: Network) -> list[NetworkVertex]:
        """Everything between inputs and outputs."""
        outputs = _outputs(net)
        inner = [v for v in net.vertices if v.kind != "input" and v.name not in outputs]
        return inner if len(net) > self.smallest else []

    def attempt(self, place: NetworkVertex, rng: np.random.Generator) -> Attempt | None:
        """Take the vertex out."""
        return f"remove {place.name}", partial(remove, place, utility=self.utility, seed=int(rng.integers(2**31)))


@dataclass(frozen=True)
class AddEdge(Local[Edge]):
    """A random vertex is read by an addition, a product or a concatenation that did not read it.

    Args:
        probability: as for every mutation.
        entry: as for `create_edge`; by default the new edge has no effect at first.
        most: how many inputs a vertex may have in the end.
        utility: what neurons are worth, as for `delta_nout`.
    """

    entry: Literal["plain", "zero"] = "zero"
    most: int = 4
    utility: Utility | None = None

    def places(self, net: Network) -> list[Edge]:
        """Pairs of a vertex and one that could read it."""
        return [
            (source, target)
            for target in _collectors(net)
            if len(target.inputs) < self.most
            for source in net.vertices
            if source.nout and len(source.shape) == len(target.shape) and source not in (target, *target.inputs)
        ]

    def attempt(self, place: Edge, rng: np.random.Generator) -> Attempt | None:
        """An edge at any slot."""
        source, target = place
        slot, seed = int(rng.integers(len(target.inputs) + 1)), int(rng.integers(2**31))
        make = partial(create_edge, source, target, slot=slot, entry=self.entry, utility=self.utility, seed=seed)
        return f"edge {source.name} -> {target.name} at slot {slot}", make


@dataclass(frozen=True)
class RemoveEdge(Local[Edge]):
    """A random edge goes, if its source is read by something else too.

    Args:
        probability: as for every mutation.
        utility: what neurons are worth, as for `delta_nout`.
    """

    utility: Utility | None = None

    def places(self, net: Network) -> list[Edge]:
        """Edges that both ends can do without."""
        outputs = _outputs(net)
        return [
            (source, target)
            for target in _collectors(net)
            if len(target.inputs) > 1
            for source in dict.fromkeys(target.inputs)
            if len(source.outputs) > 1 or target.inputs.count(source) > 1 or source.name in outputs
        ]

    def attempt(self, place: Edge, rng: np.random.Generator) -> Attempt | None:
        """Any of the edges between the two."""
        source, target = place
        which, seed = int(rng.integers(target.inputs.count(source))), int(rng.integers(2**31))
        make = partial(remove_edge, source, target, which=which, utility=self.utility, seed=seed)
        return f"no edge {source.name} -> {target.name}", make


@dataclass(frozen=True)
class KernelSize(Local[NetworkVertex]):
    """The window of a random convolution gets two elements larger or smaller along every axis.

    Args:
        probability: as for every mutation.
        largest: windows of this size or more do not grow.
    """

    largest: int = 7

    def places(self, net: Network) -> list[NetworkVertex]:
        """All convolutions."""
        return [v for v in net.vertices if v.kind in ("conv", "conv_transpose")]

    def attempt(self, place: NetworkVertex, rng: np.random.Generator) -> Attempt | None:
        """Two more or two fewer, whichever is possible."""
        kernel = place.op.weight.shape[2:]
        possible = [-2] * (min(kernel) > 2) + [2] * (max(kernel) < self.largest)
        if not possible:
            return None
        change = possible[int(rng.integers(len(possible)))]
        return f"window of {place.name}: {change:+d}", partial(change_kernel_size, place, change)


@dataclass(frozen=True)
class Activation(Local[NetworkVertex]):
    """A random layer gets another activation.

    Args:
        probability: as for every mutation.
        choices: names of activations.
    """

    choices: tuple[str, ...] = ("relu", "leaky_relu", "elu", "tanh", "gelu", "silu")

    def __post_init__(self) -> None:
        """Check the names."""
        super().__post_init__()
        unknown = [name for name in self.choices if name not in ACTIVATIONS]
        if unknown or not self.choices:
            raise RequestError(f"Activation: choices are some of {', '.join(ACTIVATIONS)}, got {self.choices!r}")

    def places(self, net: Network) -> list[NetworkVertex]:
        """Layers with an activation that are no outputs."""
        outputs = _outputs(net)
        return [v for v in net.vertices if "activation" in v.vertex.attributes and v.name not in outputs]

    def attempt(self, place: NetworkVertex, rng: np.random.Generator) -> Attempt | None:
        """Any other activation."""
        others = [name for name in self.choices if name != place.op.activation]
        if not others:
            return None
        name = others[int(rng.integers(len(others)))]
        return f"{place.name}: {name}", partial(change_activation, place, name)


def _collectors(net: Network) -> list[NetworkVertex]:
    """Vertices that take any number of inputs."""
    rules = [(v, rule_of(v.kind)) for v in net.vertices]
    return [v for v, rule in rules if rule is not None and rule.takes is not Takes.FIXED]


def _tried(net: Network, operator: str, what: str, make: Callable[[], Change]) -> Step:
    """Make a change that leaves the shapes of the outputs as they are, or nothing."""
    names = _outputs(net)
    before = {name: net[name].shape for name in names}
    try:
        with net.transaction():
            make()
            changed = [name for name in _outputs(net) if before.get(name) != net[name].shape]
            if changed:
                raise ImpossibleError(f"the output {changed[0]!r} would change its size")
    except SolverNasError as error:
        return Step(operator, what, done=False, reason=str(error))
    return Step(operator, what, done=True)
