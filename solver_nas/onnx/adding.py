"""A new vertex for an ONNX model: what reading it from a file would have made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from onnx import helper

from solver_nas.errors import GraphError, StoreError
from solver_nas.frontend import Handle
from solver_nas.graph import Parameter, Port, Vertex
from solver_nas.onnx.facts import Fact, Facts, Seen, Source
from solver_nas.onnx.flatten import Step
from solver_nas.onnx.inference import opset_of, schema_of
from solver_nas.onnx.op import Slot, Value
from solver_nas.onnx.operator import OPAQUE, PREFIX, Reading, operators
from solver_nas.onnx.structure import role_of
from solver_nas.rules.guarding import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.frontend import Array
    from solver_nas.graph import Graph
    from solver_nas.labels import Shape
    from solver_nas.onnx.structure import Structure


def addition(
    graph: Graph,
    structure: Structure,
    arrays: Mapping[str, Array],
    operator: str,
    inputs: Sequence[Handle | Array | None],
    name: str | None,
    attributes: Mapping[str, object],
) -> tuple[Vertex, dict[str, Array]]:
    """A vertex for a node that is to be added, and the arrays that come with it.

    Raises:
        GraphError: the name is taken, or nobody knows the operator, or it cannot take these inputs.
    """
    context = structure.facts.context
    schema = schema_of(operator, opset_of(context, operator))
    if schema is None:
        raise GraphError(f"nobody knows the operator {operator!r} in version {opset_of(context, operator)}")
    for one in inputs:
        if isinstance(one, Handle) and graph.vertex(one.name).kind == f"{PREFIX}output":
            raise GraphError(f"{one.name!r} is what the model returns; add vertices before it")
    title = _free_name(graph, operator) if name is None else name
    if title in graph:
        raise GraphError(f"vertex {title!r} is there already; names must be unique")
    value = _free(title, {*structure.facts.known, *(str(v.attributes.get("value")) for v in graph.vertices)})
    domain, _, kind = operator.rpartition("::")
    # Left out inputs have no name.
    locals_ = ["" if one is None else f"{value}.{place}" for place, one in enumerate(inputs)]
    node = helper.make_node(kind, locals_, [value], name=title, domain=domain)
    node.attribute.extend(
        helper.make_attribute(key, list(one) if isinstance(one, tuple) else one) for key, one in attributes.items()
    )
    settings = {key: tuple(one) if isinstance(one, list | tuple) else one for key, one in attributes.items()}
    step = Step(operator, tuple(locals_), (value,), title, node, settings)
    given = [None if one is None else _fact(graph, structure, one) for one in inputs]
    facts = Facts(context, {}, {local: fact for local, fact in zip(locals_, given, strict=True) if fact is not None})
    try:
        facts.learn(step)
    except StoreError as error:
        raise GraphError(f"{operator!r} cannot stand there: {error}") from error
    slots, ports, parameters, made = _operands(step, inputs, set(arrays), structure)
    shape = facts[value].sized
    described: dict[str, object] = {
        "operator": operator,
        "opset": opset_of(context, operator),
        "node": None,
        "output": 0,
        "value": value,
        "primary": True,
        "onnx": settings,
        "slots": slots,
        "shape": shape or (),
        "fact": facts[value],
    }
    known, why = operators().get(operator), ""
    if known is None or shape is None:
        why = f"there is no rule for operator {operator!r}" if known is None else "the rank is not known"
    elif known.prepare is not None:
        try:
            more = {**settings, "outputs": 1}
            described.update(
                known.prepare(Reading(operator, more, tuple(given), facts[value], opset_of(context, operator)))
            )
        except UnsupportedError as error:
            why = str(error)
    if why:
        described["why"] = why
    return Vertex(title, OPAQUE if why else PREFIX + operator, tuple(ports), described, parameters), made


def _free_name(graph: Graph, operator: str) -> str:
    number = 1
    while f"{operator}_{number}" in graph:
        number += 1
    return f"{operator}_{number}"


def _free(name: str, taken: set[str]) -> str:
    free, number = name, 2
    while free in taken:
        free, number = f"{name}.{number}", number + 1
    return free


def _fact(graph: Graph, structure: Structure, one: Handle | Array) -> Fact:
    """What is known about an input, with the sizes that it has now."""
    if not isinstance(one, Handle):
        array = np.asarray(one)
        return Fact(helper.np_dtype_to_tensor_dtype(array.dtype), Source.CONSTANT, (Seen(array.shape, array),))
    vertex = graph.vertex(one.name)
    shape: Shape = one.shape
    # What was added a moment ago is not known to the structure that was read.
    added = cast("Fact | None", vertex.attributes.get("fact"))
    known = added or structure.facts.known.get(str(vertex.attributes.get("value", vertex.attributes.get("name"))))
    if known is None:
        return Fact(1, Source.DATA, (Seen(shape, None),))
    seen = []
    for trial in range(len(known.seen)):
        was = known.at(trial).shape or shape
        then = known.sized or shape
        sizes = zip(was, then, shape, strict=True)
        seen.append(Seen(tuple(old if now == before else now for old, before, now in sizes), None))
    return Fact(known.dtype, Source.DATA, tuple(seen))


def _operands(
    step: Step, inputs: Sequence[Handle | Array | None], taken: set[str], structure: Structure
) -> tuple[tuple[Slot | None, ...], list[Port], dict[str, Parameter], dict[str, Array]]:
    known = operators().get(step.operator)
    slots: list[Slot | None] = []
    ports: list[Port] = []
    parameters: dict[str, Parameter] = {}
    made: dict[str, Array] = {}
    for place, one in enumerate(inputs):
        if one is None:
            slots.append(None)
        elif isinstance(one, Handle):
            slots.append(Slot(edge=len(ports)))
            ports.append(Port(one.name))
        elif known is not None and place in known.values:
            array = np.asarray(one)
            slots.append(Slot(value=Value(array.shape, tuple(cast("Sequence[Any]", array.reshape(-1).tolist())))))
        else:
            array = np.array(one)
            role = role_of(step, place, structure.facts.context)
            key = _free(f"{step.name}.{role}", {*taken, *structure.facts.known, *made})
            made[key] = array
            parameters[role] = Parameter(key, array.shape)
            slots.append(Slot(role=role))
    return tuple(slots), ports, parameters, made
