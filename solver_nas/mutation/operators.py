"""The operators of architecture search: widen, narrow, insert, remove, connect, disconnect, windows, activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from solver_nas import nn
from solver_nas.api import delta_nout
from solver_nas.errors import RequestError
from solver_nas.mutation.core import Local, outputs_of
from solver_nas.nn.activations import ACTIVATIONS
from solver_nas.nn.vertex import NetworkVertex
from solver_nas.requests import relaxed
from solver_nas.rules import Takes, rule_of
from solver_nas.structure import change_activation, change_kernel_size, create_edge, insert, remove, remove_edge

if TYPE_CHECKING:
    from solver_nas.change import Change
    from solver_nas.mutation.core import Attempt
    from solver_nas.nn.network import Network
    from solver_nas.strategies import Utility

Edge = tuple[NetworkVertex, NetworkVertex]
#: Makes a layer behind a vertex, for `InsertLayer`.
LayerFactory = Callable[[NetworkVertex], NetworkVertex]


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

    def __post_init__(self) -> None:
        """Check the limit."""
        super().__post_init__()
        _check_most(self.most)

    def places(self, net: Network) -> list[NetworkVertex]:
        """Layers with weights that are no outputs."""
        return [v for v in _layers(net) if self.widest is None or v.nout < self.widest]

    def attempt(self, place: NetworkVertex, rng: np.random.Generator) -> Attempt | None:
        """Some neurons more."""
        room = self.most if self.widest is None else min(self.most, self.widest - place.nout)
        amount = int(rng.integers(1, room + 1))
        return f"{place.name}: {_neurons(amount)} more", _resized(place, amount, self.utility, rng)


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

    def __post_init__(self) -> None:
        """Check the limit."""
        super().__post_init__()
        _check_most(self.most)

    def places(self, net: Network) -> list[NetworkVertex]:
        """Layers with weights that are no outputs."""
        return [v for v in _layers(net) if v.nout > 1]

    def attempt(self, place: NetworkVertex, rng: np.random.Generator) -> Attempt | None:
        """Some neurons fewer."""
        amount = int(rng.integers(1, min(self.most, place.nout - 1) + 1))
        return f"{place.name}: {_neurons(amount)} fewer", _resized(place, -amount, self.utility, rng)


def _resized(
    vertex: NetworkVertex, amount: int, utility: Utility | None, rng: np.random.Generator
) -> Callable[[], Change]:
    wish, seed = relaxed(amount, must_change=True), int(rng.integers(2**31))
    return partial(delta_nout, vertex, wish, utility=utility, on_failure="raise", seed=seed)


def _check_most(most: int) -> None:
    if most < 1:
        raise RequestError(f"most is a number of neurons from 1 on, got {most!r}")


def _neurons(amount: int) -> str:
    return "1 neuron" if amount == 1 else f"{amount} neurons"


def _layers(net: Network) -> list[NetworkVertex]:
    """Vertices that make their own neurons and are no outputs."""
    outputs = outputs_of(net)
    return [v for v in net.vertices if any(p.shape[1:] for p in v.vertex.parameters.values()) and v.name not in outputs]


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
        outputs = outputs_of(net)
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
            # An input of another size would make everything else as narrow as it is.
            if source.kind != "input" or target.kind == "concat" or source.nout == target.nout
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
        outputs = outputs_of(net)
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
        outputs = outputs_of(net)
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
