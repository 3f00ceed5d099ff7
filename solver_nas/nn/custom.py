"""Vertices around any callable of the user's: absorb, invariant, stack, immutable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import GraphError, LayerError
from solver_nas.frontend import Handle
from solver_nas.labels import Block, Tensor, Use, Volume
from solver_nas.nn.forward import Call, forward
from solver_nas.rules import Scope, Takes, Weight, rule
from solver_nas.rules.contract import elementwise
from solver_nas.rules.primitives import concat, fix, same

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from solver_nas.labels import Neurons
    from solver_nas.nn.network import Network
    from solver_nas.nn.vertex import NetworkVertex


def invariant(
    function: Callable[..., Any],
    inputs: NetworkVertex | Sequence[NetworkVertex],
    *,
    parameters: Mapping[str, ArrayLike] | None = None,
    axes: Mapping[str, Sequence[str | None]] | None = None,
    fills: Mapping[str, float] | None = None,
    name: str | None = None,
) -> NetworkVertex:
    """A vertex whose output has as many neurons as each of its inputs, position by position.

    Args:
        function: called with the inputs, then with the parameters by keyword.
        inputs: one vertex or several; all of them are tied to each other and to the output.
        parameters: arrays that belong to the vertex.
        axes: for every parameter, the meaning of each of its axes: `"out"` (the neurons) or `None` (fixed).
        fills: what new entries of a parameter start with; 0 by default.
        name: of the new vertex.

    >>> from solver_nas import Network, nn
    >>> x = nn.dense(Network().input("in", 3), 4, name="layer")
    >>> invariant(lambda a: 2 * a, x, name="doubled")
    <doubled: invariant 4 -> 4>
    """
    return _add("invariant", function, inputs, parameters, axes, fills, {}, name)


def stack(
    function: Callable[..., Any],
    inputs: NetworkVertex | Sequence[NetworkVertex],
    *,
    axis: int = -1,
    name: str | None = None,
) -> NetworkVertex:
    """A vertex whose output is made of all its inputs' neurons, one input after the other.

    Args:
        function: called with the inputs.
        inputs: one vertex or several.
        axis: the axis that holds the neurons, counted from the end.
        name: of the new vertex.
    """
    return _add("stack", function, inputs, None, None, None, {"axis": axis}, name)


def absorb(
    function: Callable[..., Any],
    inputs: NetworkVertex | Sequence[NetworkVertex],
    *,
    parameters: Mapping[str, ArrayLike],
    axes: Mapping[str, Sequence[str | None]],
    fills: Mapping[str, float] | None = None,
    axis: int = -1,
    name: str | None = None,
) -> NetworkVertex:
    """A vertex with own parameters that turn its inputs' neurons into new ones.

    The flow of neurons and the selection of indices follow from the axes that are declared.

    Args:
        function: called with the inputs, then with the parameters by keyword; returns (batch, ..., out),
            or the neurons at `axis`.
        inputs: one vertex or several.
        parameters: the arrays.
        axes: for every parameter, the meaning of each axis: `"out"`, `"in"` (of a single input), `"in0"`,
            `"in1"`, ... (by slot), or `None` (fixed). Other names stand for further resizable axes that
            belong to this vertex alone.
        fills: what new entries of a parameter start with, for those that are not weights.
        axis: the axis of the output that holds the neurons, counted from the end.
        name: of the new vertex.

    Raises:
        LayerError: no parameter has an `"out"` axis, or axes and arrays do not fit together.

    >>> from solver_nas import Network
    >>> x = Network().input("in", 3)
    >>> absorb(
    ...     lambda a, w: a @ w,
    ...     x,
    ...     parameters={"w": np.ones((3, 5))},
    ...     axes={"w": ("in", "out")},
    ...     name="mine",
    ... )
    <mine: absorb 3 -> 5>
    """
    if not any("out" in names for names in axes.values()):
        raise LayerError(f"absorb: none of the parameters {sorted(axes)} has an axis called 'out'")
    return _add("absorb", function, inputs, parameters, axes, fills, {"axis": axis}, name)


def immutable(
    function: Callable[..., Any],
    inputs: NetworkVertex | Sequence[NetworkVertex],
    *,
    size: int,
    axis: int = -1,
    name: str | None = None,
) -> NetworkVertex:
    """A vertex of which nothing is known: neither its inputs nor its output ever change their sizes.

    Args:
        function: called with the inputs.
        inputs: one vertex or several.
        size: number of output neurons.
        axis: the axis that holds them, counted from the end.
        name: of the new vertex.
    """
    return _add("immutable", function, inputs, None, None, None, {"axis": axis, "size": size}, name)


def _add(
    kind: str,
    function: Callable[..., Any],
    inputs: NetworkVertex | Sequence[NetworkVertex],
    parameters: Mapping[str, ArrayLike] | None,
    axes: Mapping[str, Sequence[str | None]] | None,
    fills: Mapping[str, float] | None,
    attributes: Mapping[str, object],
    name: str | None,
) -> NetworkVertex:
    vertices = (inputs,) if isinstance(inputs, Handle) else tuple(inputs)
    if not vertices or not all(isinstance(vertex, Handle) for vertex in vertices):
        raise GraphError(f"{kind} takes a vertex or a list of vertices, got {inputs!r}")
    if not callable(function):
        raise LayerError(f"{kind} takes a function first, got {function!r}")
    arrays = {role: np.asarray(array) for role, array in (parameters or {}).items()}
    declared = {role: tuple(names) for role, names in (axes or {}).items()}
    if set(declared) != set(arrays):
        raise LayerError(f"{kind}: parameters are {sorted(arrays)}, axes are declared for {sorted(declared)}")
    for role, array in arrays.items():
        if len(declared[role]) != array.ndim:
            raise LayerError(
                f"{kind}: {role!r} has {array.ndim} axes of sizes {array.shape}, declared are {declared[role]}"
            )
    net: Network = vertices[0].model
    known = {"function": function, "axes": declared, **attributes}
    zero = {role: 0.0 for role in arrays if not any(n and n.startswith("in") for n in declared[role])}
    return net.add(kind, name, vertices, known, arrays, fills={**zero, **(fills or {})})


@forward("invariant")
@forward("stack")
@forward("absorb")
@forward("immutable")
def _forward(call: Call) -> Any:
    return call["function"](*call.inputs, **call.parameters)


@rule("invariant", takes=Takes.ALIKE)
def _invariant(scope: Scope) -> Tensor:
    inputs = scope.inputs
    result = elementwise(scope, *inputs) if len(inputs) > 1 else same(scope, inputs[0])
    _bind(scope, {"out": _single_axis(scope, result)})
    return result


@rule("stack", takes=Takes.STACKED)
def _stack(scope: Scope) -> Tensor:
    return concat(scope, scope.inputs, scope.attribute("axis", int))


@rule("immutable")
def _immutable(scope: Scope) -> Tensor:
    for tensor in scope.inputs:
        scope.pin(tensor, "nothing is known about this operation")
    made = scope.tape.fresh(scope.key("out"), (scope.attribute("size", int),), scope.reason("immutable"))
    scope.tape.pin(made, scope.reason("nothing is known about this operation"))
    return _output(scope, made)


@rule("absorb")
def _absorb(scope: Scope) -> Tensor:
    declared = {name for names in scope.attribute("axes", dict).values() for name in names}
    known: dict[str, Neurons | None] = {}
    for slot, tensor in enumerate(scope.inputs):
        name = "in" if len(scope.inputs) == 1 and "in0" not in declared else f"in{slot}"
        if name not in declared:
            scope.pin(tensor, f"no parameter has an axis {name!r}")
        else:
            known[name] = _single_axis(scope, tensor)
    made = _bind(scope, known)["out"]
    assert made is not None, "the axis belongs to this vertex alone"
    result = _output(scope, made)
    _count_work(scope, result, known)
    return result


def _count_work(scope: Scope, result: Tensor, known: Mapping[str, Neurons | None]) -> None:
    """Every array of two axes and more that has an input's or the output's is taken to be applied at every position."""
    times: int | None = 1
    for axis, size in enumerate(result.shape[1:], start=1):
        if result.block_of(axis) is None:
            times = None if times is None or size is None else times * size
    for role, names in scope.attribute("axes", dict).items():
        if len(names) < 2 or not any(name == "out" or name in known for name in names):
            continue
        shape, over, count = scope.vertex.parameters[role].shape, [], times
        for name, size in zip(names, shape, strict=True):
            neurons = result.neurons if name == "out" else known.get(name)
            if neurons is not None:
                over.append(neurons["label"])
            else:
                count = None if count is None else count * size
        scope.tape.work(Volume(scope.vertex.name, count, tuple(over)))


def _output(scope: Scope, neurons: Neurons) -> Tensor:
    """The first input's shape with these neurons on the declared axis."""
    axis, shape = scope.attribute("axis", int), list(scope.inputs[0].shape)
    shape[axis] = len(neurons)
    return Tensor(tuple(shape), (Block((axis % len(shape),), (neurons,)),))


def _single_axis(scope: Scope, tensor: Tensor) -> Neurons | None:
    """The neurons of a tensor that has them on one axis; otherwise it is pinned."""
    scope.speak(tensor)
    if len(tensor.blocks) == 1 and len(tensor.blocks[0].axes) == 1:
        return tensor.blocks[0].neurons
    scope.pin(tensor, "declared axes: the input has no single axis of neurons")
    return None


def _bind(scope: Scope, known: dict[str, Neurons | None]) -> dict[str, Neurons | None]:
    """Bind the declared axes of all parameters: known names to these neurons, other names to new ones."""
    given, found = set(known), dict(known)
    for role, names in scope.attribute("axes", dict).items():
        weight = scope.weight(role)
        for place, name in enumerate(names):
            _bind_axis(scope, weight, place, name, given, found)
    return found


def _bind_axis(
    scope: Scope, weight: Weight, place: int, name: str | None, given: set[str], found: dict[str, Neurons | None]
) -> None:
    reason = scope.reason(f"axis {place} of parameter {weight.role!r} is declared as {name!r}")
    size = weight.shape[place]
    role = "contract" if name in given and name != "out" else "follow"
    if name is not None and name not in found:
        found[name] = scope.tape.fresh((weight.key, "axis", place), (size,), reason)
        role = "fresh"
    neurons = found[name] if name is not None else None
    if neurons is None:
        fix(scope, weight, [place])
        return
    if len(neurons) != size:
        raise scope.fail(
            f"axis {place} of parameter {weight.role!r} is declared as {name!r} and has size {size}, "
            f"which is {len(neurons)} elsewhere"
        )
    scope.tape.bind(weight.key, Use((place,), (neurons,), role), reason)
