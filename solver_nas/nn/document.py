"""What a stored network consists of: its whole state as plain data beside named arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import StoreError
from solver_nas.graph import Graph, Parameter, Port, Vertex
from solver_nas.nn.encoding import decode, encode
from solver_nas.nn.forward import computes
from solver_nas.nn.network import Network
from solver_nas.nn.packing import dtype_of
from solver_nas.observe import Observations
from solver_nas.rules import Memory, rule_of
from solver_nas.state import Observer, State, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.frontend import Array

_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def describe(net: Network) -> tuple[dict[str, object], dict[str, Array]]:
    """A network as plain data and the arrays that it names.

    Raises:
        StoreError: something that has no place in a file; the message says which vertex holds it.
    """
    state = net._state  # noqa: SLF001 - all of it goes into the file, and State.past alone does not
    tensors: dict[str, Array] = {}
    arrays = {key: encode(array, f"arrays/{key}", tensors) for key, array in state.arrays.items()}
    # Nodes stand in the order in which vertices were added, which decides the order among equals.
    vertices = [data["vertex"] for _, data in state.graph.digraph.nodes(data=True)]
    _check_kinds(vertices)
    document: dict[str, object] = {
        "dtype": net.dtype.newbyteorder("<").str,
        "history": net.history,
        "vertices": [_describe_vertex(vertex, state.arrays, tensors) for vertex in vertices],
        "outputs": [[port.vertex, port.output] for port in state.graph.outputs],
        "arrays": arrays,
        "fills": {key: encode(fill, "", {}) for key, fill in state.fills.items()},
        "memory": None if state.memory is None else _describe_memory(state.memory),
        "rng": _describe_rng(state.rng, tensors),
        "observers": {name: _describe_observer(name, seen, tensors) for name, seen in state.observers.items()},
    }
    return document, tensors


def restore(document: object, tensors: Mapping[str, Array]) -> Network:
    """The network that was described.

    Args:
        document: what `describe` has returned, read from a file: anything may be in it.
        tensors: the arrays by name; they become the network's own.

    Raises:
        StoreError: a function or an operation is not registered, or the layers do not fit together.
        ValueError: the document is not one (or a KeyError, TypeError, AttributeError, OverflowError).
    """
    dtype = dtype_of(_field(document, "dtype", str))
    if dtype is None or dtype.kind != "f":
        raise ValueError("the type of the weights is none of floating numbers on this machine")
    arrays = {key: _array(node, tensors) for key, node in _field(document, "arrays", dict).items()}
    vertices = [_restore_vertex(node, arrays, tensors) for node in _field(document, "vertices", list)]
    _check_kinds(vertices)
    observers = {name: _restore_observer(node, tensors) for name, node in _field(document, "observers", dict).items()}
    graph = Graph(vertices, [_port(node) for node in _field(document, "outputs", list)])
    fills = {key: decode(node, {}) for key, node in _field(document, "fills", dict).items()}
    memory, rng = _restore_memory(document), _restore_rng(_field(document, "rng", dict), tensors)
    net = Network(dtype=dtype.type, history=_field(document, "history", int))
    net._enter(State(graph, frozen(arrays), observers, fills, memory, rng))  # noqa: SLF001 - a network is its state
    try:
        labels = net.labels
    except MemoryError:
        raise
    except Exception as error:  # a rule of the user's may raise anything at attributes that do not fit
        raise StoreError(
            f"its layers do not fit together: {error}; are the operations registered here those that it was made with?"
        ) from error
    if unknown := [port for port in graph.outputs if port not in labels.tensors]:
        raise ValueError(f"there is no {unknown[0]}")
    return net


def _check_kinds(vertices: Sequence[Vertex]) -> None:
    kinds = dict.fromkeys(vertex.kind for vertex in vertices)
    for what, missing in (
        ("rule", [kind for kind in kinds if rule_of(kind) is None]),
        ("forward function", [kind for kind in kinds if kind != "input" and not computes(kind)]),
    ):
        if missing:
            raise StoreError(
                f"there is no {what} for vertices of kind {', '.join(map(repr, missing))}; "
                f"first run or import what registers it"
            )


# -- vertices ----------------------------------------------------------------------------------


def _describe_vertex(vertex: Vertex, arrays: Mapping[str, Array], tensors: dict[str, Array]) -> dict[str, object]:
    where = f"vertex {vertex.name!r} ({vertex.kind})"
    for role, parameter in vertex.parameters.items():
        if parameter.key not in arrays or arrays[parameter.key].shape != parameter.shape:
            found = arrays[parameter.key].shape if parameter.key in arrays else "none"
            raise StoreError(f"{where}: parameter {role!r} has shape {parameter.shape}, its array is {found}")
    attributes = {}
    for name, value in vertex.attributes.items():
        try:
            attributes[name] = encode(value, f"attributes/{vertex.name}.{name}", tensors)
        except StoreError as error:
            raise StoreError(f"{where}: attribute {name!r}: {error}") from error
    return {
        "name": vertex.name,
        "kind": vertex.kind,
        "inputs": [[port.vertex, port.output] for port in vertex.inputs],
        "attributes": attributes,
        "parameters": {role: parameter.key for role, parameter in vertex.parameters.items()},
    }


def _restore_vertex(node: object, arrays: Mapping[str, Array], tensors: Mapping[str, Array]) -> Vertex:
    name, kind = _field(node, "name", str), _field(node, "kind", str)
    attributes = {}
    for attribute, value in _field(node, "attributes", dict).items():
        try:
            attributes[attribute] = decode(value, tensors)
        except StoreError as error:
            raise StoreError(f"vertex {name!r} ({kind}): attribute {attribute!r}: {error}") from error
    parameters = {role: Parameter(key, arrays[key].shape) for role, key in _field(node, "parameters", dict).items()}
    return Vertex(name, kind, tuple(map(_port, _field(node, "inputs", list))), attributes, parameters)


def _port(node: Any) -> Port:
    vertex, output = node
    if not isinstance(vertex, str) or not isinstance(output, int):
        raise ValueError(f"{node!r} does not name a vertex's output")
    return Port(vertex, output)


# -- what rules remember -----------------------------------------------------------------------


def _describe_memory(memory: Memory) -> dict[str, object]:
    choices = [[encode(key, "", {}), int(choice)] for key, choice in memory.choices.items()]
    return {"vertices": sorted(memory.vertices), "choices": choices}


def _restore_memory(document: object) -> Memory | None:
    node = _field(document, "memory", dict | None)
    if node is None:
        return None
    choices = {decode(key, {}): int(choice) for key, choice in _field(node, "choices", list)}
    if not all(isinstance(key, tuple) and key for key in choices):
        raise ValueError("what rules have decided is not told by vertex")
    return Memory(frozenset(_field(node, "vertices", list)), choices)


# -- randomness --------------------------------------------------------------------------------


def _describe_rng(rng: np.random.Generator, tensors: dict[str, Array]) -> dict[str, object]:
    bits = rng.bit_generator
    if type(bits).__name__ not in _GENERATORS:
        raise StoreError(f"random numbers of {type(bits).__name__} cannot be stored; use {', '.join(_GENERATORS)}")
    # The seed is of use to `rng.spawn` alone.
    seed = bits.seed_seq.state if isinstance(bits.seed_seq, np.random.SeedSequence) else None
    return {"state": encode(bits.state, "rng/state", tensors), "seed": encode(seed, "rng/seed", tensors)}


def _restore_rng(node: Mapping[str, object], tensors: Mapping[str, Array]) -> np.random.Generator:
    state, seed = decode(node["state"], tensors), decode(node["seed"], tensors)
    if state["bit_generator"] not in _GENERATORS:
        raise ValueError(f"random numbers of {state['bit_generator']!r} are not known")
    kind = getattr(np.random, state["bit_generator"])
    bits = kind(0 if seed is None else np.random.SeedSequence(**seed))
    bits.state = state
    return np.random.Generator(bits)


# -- statistics --------------------------------------------------------------------------------


def _describe_observer(name: str, seen: Observer, tensors: dict[str, Array]) -> object:
    try:
        return encode(seen, f"observers/{name}", tensors)
    except StoreError as error:
        raise StoreError(
            f"what is observed of vertex {name!r}: {error}; or take it out: del net.observers[{name!r}]"
        ) from error


def _restore_observer(node: object, tensors: Mapping[str, Array]) -> Observer:
    seen: object = decode(node, tensors)
    if not isinstance(seen, Observer):
        raise ValueError(f"{str(node)[:80]} is not what is observed of a vertex")
    if isinstance(seen, Observations) and (known := seen.statistics) is not None:
        sizes = known.mean.shape
        if len(sizes) != 1 or known.moments.shape not in (sizes, 2 * sizes):
            raise ValueError(f"statistics of shapes {sizes} and {known.moments.shape} do not fit together")
    return seen


# -- reading -----------------------------------------------------------------------------------


def _field(node: object, name: str, kind: Any) -> Any:
    if not isinstance(node, dict) or name not in node or not isinstance(node[name], kind):
        raise ValueError(f"there is no proper {name!r}")
    return node[name]


def _array(node: object, tensors: Mapping[str, Array]) -> Array:
    array = decode(node, tensors)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{str(node)[:80]} does not name an array")
    return array
