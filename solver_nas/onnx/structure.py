"""From the steps of a model to a graph of vertices with parameters."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.errors import StoreError
from solver_nas.graph import Graph, Parameter, Port, Vertex
from solver_nas.onnx import inference, runtime, tensors
from solver_nas.onnx import rules as _rules  # noqa: F401 - registers them
from solver_nas.onnx.facts import (
    Fact,
    Facts,
    Source,
    taken_branch,
)
from solver_nas.onnx.flatten import Program, Step, flatten
from solver_nas.onnx.inference import Context, opset_of, schema_of
from solver_nas.onnx.op import Slot, Value
from solver_nas.onnx.operator import COMPUTED, CONSTANT, OPAQUE, PREFIX, Operator, Reading, operators
from solver_nas.onnx.trials import find_facts, open_sizes
from solver_nas.onnx.views import REAL, View, Views
from solver_nas.rules.guarding import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.labels import Shape
    from solver_nas.onnx.source import Origin

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A model as the engine sees it.

    Args:
        graph: vertices by the names of nodes; a node with several outputs that are used has a vertex for each.
        arrays: what the vertices own, by key.
        program: the steps that the vertices stand for.
        facts: what is known about all values.
        inputs: vertex name of every input, by the input's name.
        outputs: vertex name of every output, by the output's name.
        values: vertex name -> the value that it computes.
        views: how constants are seen, by the name of the value.
        declared: the shapes that the model itself declares for its inputs, `None` for open sizes.
    """

    graph: Graph
    arrays: Mapping[str, Array]
    program: Program
    facts: Facts
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    values: Mapping[str, str]
    views: Mapping[str, View]
    declared: Mapping[str, Shape]


def understand(origin: Origin, given: Mapping[str, Sequence[int | None]], *, free: bool) -> Structure:
    """Read a model's structure.

    Args:
        origin: the model.
        given: input shapes that the caller wants.
        free: whether what the model returns may change.

    Raises:
        StoreError: the model is damaged, or no sizes were found that it can take.
    """
    program = flatten(origin.proto)
    sizes = open_sizes(origin.proto, program, given, fill=False)
    declared = {name: tuple(size if isinstance(size, int) else None for size in shape) for name, shape in sizes.items()}
    return _Builder(program, find_facts(origin.proto, program, given)).build(declared, free=free)


_LARGEST_COMPUTED = 2**28  # elements of a constant that is computed while a model is read


class _Builder:
    def __init__(self, program: Program, facts: Facts) -> None:
        self._program, self._facts = program, facts
        self._maker = {name: step for step in program.steps for name in step.outputs if name}
        self._table = operators()
        self._vertices: dict[str, Vertex] = {}
        self._port: dict[str, str] = {}
        self._arrays: dict[str, Array] = {}
        self._views = Views(self._maker, facts)
        self._place = {id(step): place for place, step in enumerate(program.steps)}

    def build(self, declared: Mapping[str, Shape], *, free: bool) -> Structure:
        program, facts = self._program, self._facts
        inputs = {}
        for name in program.inputs:
            inputs[name] = self._add(name, f"{PREFIX}input", name, (), {"shape": facts[name].sized or (), "name": name})
        used = {name for step in program.steps for name in step.inputs} | set(program.outputs.values())
        for step in program.steps:
            if any(facts[name].source is Source.DATA for name in step.outputs if name):
                self._step(step, used)
        outputs = {}
        for known, name in program.outputs.items():
            fact = facts[name]
            weight = fact.source is Source.CONSTANT and fact.dtype in REAL
            port = self._constant(name, fact) if weight else self._vertex_of(name)
            shape = fact.sized or ()
            attributes: dict[str, object] = {"shape": shape, "free": free, "name": known}
            outputs[known] = self._add(known, f"{PREFIX}output", None, (port,), attributes)
        graph = Graph(self._vertices.values(), [Port(name) for name in outputs.values()])
        values = {vertex: value for value, vertex in self._port.items()}
        return Structure(
            graph, self._arrays, program, facts, inputs, outputs, values, dict(self._views.known), declared
        )

    def _add(
        self,
        name: str,
        kind: str,
        value: str | None,
        inputs: Sequence[str],
        attributes: Mapping[str, object],
        parameters: Mapping[str, Parameter] | None = None,
    ) -> str:
        free, number = name, 2
        if free in self._vertices and kind in (f"{PREFIX}input", f"{PREFIX}output"):
            free = f"{name} ({kind.removeprefix(PREFIX)})"
        while free in self._vertices:
            free, number = f"{name}:{number}", number + 1
        self._vertices[free] = Vertex(free, kind, tuple(map(Port, inputs)), dict(attributes), dict(parameters or {}))
        if value is not None:
            self._port[value] = free
        return free

    def _vertex_of(self, name: str) -> str:
        """The vertex that computes a value; one without inputs for a value that only shapes decide."""
        if name not in self._port:
            step, fact = self._maker.get(name), self._facts[name]
            known = None if step is None or step.node is None or step.bodies else self._table.get(step.operator)
            if step is not None and known is not None and fact.dtype in REAL and step.operator != "ConstantOfShape":
                # A table of which shapes decide how much is read, for instance: its neurons are like any others.
                self._vertex(step, step.outputs.index(name), name, step.name, known, primary=True)
                return self._port[name]
            kind = COMPUTED
            slots: tuple[Slot | None, ...] = ()
            if step is not None and step.operator == "ConstantOfShape":
                kind, slots = f"{PREFIX}ConstantOfShape", (None,)
            attributes = {
                **self._common(step, 0 if step is None else step.outputs.index(name), name, primary=True),
                "shape": fact.sized or (),
                "slots": slots,
            }
            self._add(name if step is None else step.name, kind, name, (), attributes)
        return self._port[name]

    def _common(self, step: Step | None, output: int, value: str, *, primary: bool) -> dict[str, object]:
        operator = "Constant" if step is None else step.operator
        return {
            "operator": operator,
            "opset": opset_of(self._facts.context, operator),
            "node": None if step is None else self._place[id(step)],
            "output": output,
            "value": value,
            "primary": primary,
            "onnx": {} if step is None else dict(step.attributes),
        }

    def _step(self, step: Step, used: set[str]) -> None:
        wanted = [place for place, name in enumerate(step.outputs) if name and (name in used or place == 0)]
        known = self._table.get(step.operator)
        for place in wanted:
            value = step.outputs[place]
            if self._facts[value].source is not Source.DATA:
                continue
            name = step.name if place == wanted[0] else f"{step.name}:{place}"
            self._vertex(step, place, value, name, known, primary=place == wanted[0])

    def _vertex(self, step: Step, place: int, value: str, name: str, known: Operator | None, *, primary: bool) -> None:
        fact = self._facts[value]
        common = self._common(step, place, value, primary=primary)
        inputs, parameters, slots = self._slots(step, place, known)
        attributes: dict[str, object] = {**common, "shape": fact.sized or (), "slots": slots}
        why = self._trouble(step, fact, known, inputs)
        if not why and known is not None and known.prepare is not None:
            given = tuple(self._facts[one] if one else None for one in step.inputs)
            described = {**step.attributes, "outputs": len(step.outputs)}
            try:
                reading = Reading(step.operator, described, given, fact, opset_of(self._facts.context, step.operator))
                attributes.update(known.prepare(reading))
            except UnsupportedError as error:
                why = str(error)
        if step.operator == "Concat":
            attributes["constants"] = tuple(name for name in inputs if self._vertices[name].kind == CONSTANT)
        if step.operator == "If":
            condition = self._facts[step.inputs[0]]
            attributes["taken"] = self._taken(step, place)
            # Whether it is taken for all sizes that the model leaves open, and not only for those of the caller.
            attributes["certain"] = taken_branch(step, condition, 0) == taken_branch(step, condition, 1) is not None
        if step.operator in ("Loop", "Scan"):
            attributes["collected"] = _collected(step, place)
        kind = OPAQUE if why else PREFIX + step.operator
        if why:
            attributes["why"] = why
        self._add(name, kind, value, inputs, attributes, parameters)

    def _taken(self, step: Step, place: int) -> int | None:
        """Which branch is taken for these sizes, where the other one returns another shape."""
        shapes = {self._facts[body.outputs[place]].shape for body in step.bodies}
        condition = self._facts[step.inputs[0]]
        if condition.source is Source.CONSTANT or (None not in shapes and len(shapes) == 1):
            return None
        return taken_branch(step, condition, 2)

    def _trouble(self, step: Step, fact: Fact, known: Operator | None, inputs: Sequence[str]) -> str:
        """Why no rule can be applied; empty if one can."""
        if known is None:
            schema = schema_of(step.operator, opset_of(self._facts.context, step.operator))
            what = "there is no rule for operator" if schema is not None else "nobody knows the operator"
            return f"{what} {step.operator!r}"
        if fact.sized is None:
            return f"{step.operator}: the rank of its output is not known"
        for one in inputs:
            value = self._vertices[one].attributes.get("value")
            if isinstance(value, str) and self._facts[value].sized is None:
                return f"{step.operator}: the rank of its input {one!r} is not known"
        return ""

    def _slots(
        self, step: Step, place: int, known: Operator | None
    ) -> tuple[tuple[str, ...], dict[str, Parameter], tuple[Slot | None, ...]]:
        inputs: list[str] = []
        parameters: dict[str, Parameter] = {}
        slots: list[Slot | None] = []
        relevant = _relevant(step, place, self._facts)
        for position, name in enumerate(step.inputs):
            if not name or (relevant is not None and position not in relevant):
                slots.append(None)
                continue
            fact = self._facts[name]
            if known is not None and position in known.values:
                elements = fact.numbers
                first = fact.number
                if elements is not None and first is not None:
                    slots.append(Slot(value=Value(first.shape, elements)))  # type: ignore[arg-type] # of numbers
                    continue
            if fact.source is Source.DATA or (fact.source is Source.SHAPE and fact.constant is None):
                slots.append(Slot(edge=len(inputs)))
                inputs.append(self._vertex_of(name))
                continue
            if step.operator == "Concat":
                # Edges alone, so that more of them can come and go.
                slots.append(Slot(edge=len(inputs)))
                inputs.append(self._constant(name, fact))
                continue
            slots.append(self._weight(step, position, name, parameters))
        return tuple(inputs), parameters, tuple(slots)

    def _constant(self, name: str, fact: Fact) -> str:
        """A vertex for a constant that stands beside other tensors."""
        view = self._views.of(name)
        plain = view.order is None and not view.scales
        attributes = {
            **self._common(None, 0, name, primary=True),
            "shape": fact.sized or (),
            "slots": (Slot(role="value", order=view.order),),
        }
        parameter = self._parameter(view.key if plain or not view.scales else name)
        return self._add(name, CONSTANT, None, (), attributes, {"value": parameter})

    def _weight(self, step: Step, position: int, name: str, parameters: dict[str, Parameter]) -> Slot:
        """A constant as a parameter of a vertex."""
        view = self._views.of(name)
        role = role_of(step, position, self._facts.context)
        parameters[role] = self._parameter(view.key)
        scales = []
        for number, (key, axis) in enumerate(view.scales):
            other = f"{role} {'scale' if number == 0 else 'zero point'}"
            parameters[other] = self._parameter(key)
            scales.append((other, axis))
        return Slot(role=role, order=view.order, scales=tuple(scales))

    def _parameter(self, key: str) -> Parameter:
        if key not in self._arrays:
            self._arrays[key] = self._array(key)
        return Parameter(key, self._arrays[key].shape)

    def _array(self, key: str) -> Array:
        """The numbers of a constant."""
        if key in self._program.constants:
            return tensors.read(self._program.constants[key], key)
        fact = self._facts[key]
        known = fact.constant
        if known is not None:
            array = known.copy()
            array.flags.writeable = False
            return array
        step = self._maker[key]
        if step.operator == "Constant" and step.node is not None:
            tensor = tensors.of_constant(step.node)
            if tensor is not None:
                return tensors.read(tensor, key)
        return self._computed(step, key)

    def _computed(self, step: Step, key: str) -> Array:
        """A large constant that the model computes from others."""
        assert step.node is not None, "constants do not enter bodies"
        fact = self._facts[key]
        if fact.shape is None or None in fact.shape or prod(size or 0 for size in fact.shape) > _LARGEST_COMPUTED:
            raise StoreError(f"node {step.name!r} ({step.operator}) computes a constant of shape {fact.shape}")
        given = {local: self._array(name) for local, name in zip(step.node.input, step.inputs, strict=True) if name}
        found = inference.run(step.node, given, self._facts.context, limit=None)
        found = found or runtime.single(step.node, given, self._facts)
        if found is None:
            raise StoreError(f"node {step.name!r} ({step.operator}) computes a constant in a way that fails here")
        array = np.array(found[step.node.output[step.outputs.index(key)]])
        array.flags.writeable = False
        return array


def _relevant(step: Step, place: int, facts: Facts) -> frozenset[int] | None:
    """Which inputs of a control-flow node one of its outputs depends on; `None` for all."""
    if not step.bodies or step.node is None:
        return None
    own, entered = len(step.node.input), sum(len(body.inputs) for body in step.bodies)
    returned = own + entered
    if step.operator == "If":
        width, condition = len(step.outputs), facts[step.inputs[0]]
        chosen = taken_branch(step, condition, 0) if condition.source is Source.CONSTANT else None
        if chosen is not None:
            return frozenset({returned + place + chosen * width})
        return frozenset(returned + place + branch * width for branch in range(len(step.bodies)))
    if step.operator not in ("Loop", "Scan"):
        return None
    skipped = 1 if step.operator == "Loop" else 0
    states = _states(step)
    if place >= states:
        return frozenset({returned + skipped + place})
    return frozenset({2 * skipped + place, own + 2 * skipped + place, returned + skipped + place})


def _states(step: Step) -> int:
    (body,) = step.bodies
    if step.operator == "Loop":
        return len(body.inputs) - 2
    return len(body.inputs) - int(str(step.attributes["num_scan_inputs"]))


def _collected(step: Step, place: int) -> int:
    """The axis along which a loop collects an output."""
    axes = step.attributes.get("scan_output_axes")
    extra = place - _states(step)
    return int(axes[extra]) if isinstance(axes, tuple) and extra >= 0 else 0


def role_of(step: Step, position: int, context: Context) -> str:
    """The name of an input in the operator's definition."""
    schema = schema_of(step.operator, opset_of(context, step.operator))
    if schema is None or step.node is None or step.bodies:
        return f"input {position}"
    if position < len(schema.inputs) - 1 or (position < len(schema.inputs) and not _variadic(schema)):
        return str(schema.inputs[position].name)
    return f"{schema.inputs[-1].name} {position}"


def _variadic(schema: Any) -> bool:
    return "Variadic" in str(schema.inputs[-1].option)
