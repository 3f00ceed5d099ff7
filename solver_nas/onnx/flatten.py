"""An ONNX model as one list of steps: the nodes of the main graph and of the bodies of If, Loop and Scan.

Names of values are unique in the whole list, and every step stands after those that it reads. A control-flow node
stands after its bodies and reads what they return; what enters a body from round to round has steps of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: What a body reads in the place of a value that changes from round to round, and of one element of a sequence.
CARRIED, ELEMENT, ROUND = "carried", "element", "round"

Attributes = dict[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation.

    Args:
        operator: `"Conv"`; with its domain if that is not the standard one, `"com.microsoft::Gelu"`.
        inputs: unique names; empty for an input that is left out.
        outputs: unique names; empty for an output that is left out.
        name: unique among all steps.
        node: what it is in the model; `None` for what enters a body.
        attributes: numbers, strings and lists of them; tensors and bodies are left out.
        bodies: for If, Loop and Scan: how many inputs and outputs each body has.
        guarded: whether it stands in a branch of an If, so that it need not fit all sizes.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str
    node: NodeProto | None
    attributes: Mapping[str, object] = field(default_factory=dict)
    bodies: tuple[Body, ...] = ()
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """A body of a control-flow node.

    Args:
        inputs: unique names of what enters it.
        outputs: unique names of what leaves it.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Everything that a model computes.

    Args:
        steps: producers first.
        constants: initializers by unique name.
        inputs: names of what the caller gives.
        outputs: unique names of what the caller gets, by the names that the caller knows.
    """

    steps: tuple[Step, ...]
    constants: Mapping[str, TensorProto]
    inputs: tuple[str, ...]
    outputs: Mapping[str, str]


def flatten(model: ModelProto) -> Program:
    """List the steps of a model; the same for every copy of it, node by node."""
    return _Flattening().run(model.graph)


def operator_of(node: NodeProto) -> str:
    """The operator's name, with its domain if it is not the standard one."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs that a node holds, by the attribute's name, in one order for all copies."""
    for attribute in sorted(node.attribute, key=lambda attribute: str(attribute.name)):
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            for place, graph in enumerate(attribute.graphs):
                yield f"{attribute.name}[{place}]", graph


class _Flattening:
    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._constants: dict[str, TensorProto] = {}
        self._names: set[str] = set()
        self._taken: set[str] = {""}
        self._branches = 0  # of Ifs within each other

    def run(self, graph: GraphProto) -> Program:
        scope: dict[str, str] = {}
        given = [value.name for value in graph.input]
        self._initialise(graph, scope, "")
        inputs = [name for name in given if name not in scope]
        for name in inputs:
            scope[name] = self._value(name, "")
        self._nodes(graph, scope, "")
        outputs = {value.name: scope[value.name] for value in graph.output}
        return Program(tuple(self._steps), self._constants, tuple(scope[name] for name in inputs), outputs)

    def _initialise(self, graph: GraphProto, scope: dict[str, str], path: str) -> None:
        for tensor in graph.initializer:
            scope[tensor.name] = self._value(tensor.name, path)
            self._constants[scope[tensor.name]] = tensor
        for sparse in graph.sparse_initializer:
            # It is a constant that nobody may change.
            unique = self._value(sparse.values.name, path)
            scope[sparse.values.name] = unique
            attributes = {"sparse": True}
            self._steps.append(Step("sparse_initializer", (), (unique,), self._name(unique, ""), None, attributes))

    def _nodes(self, graph: GraphProto, scope: dict[str, str], path: str) -> None:
        for node in graph.node:
            inputs = tuple(scope[name] if name else "" for name in node.input)
            made = self._bodies(node, inputs, scope, path)
            returned = tuple(name for body in made for name in body.outputs)
            entered = tuple(name for body in made for name in body.inputs)
            outputs = tuple(self._value(name, path) if name else "" for name in node.output)
            scope.update(zip(node.output, outputs, strict=True))
            name = self._name(node.name or f"{node.op_type}_{next(filter(None, outputs), len(self._steps))}", path)
            self._steps.append(
                Step(
                    operator_of(node),
                    (*inputs, *entered, *returned),
                    outputs,
                    name,
                    node,
                    _attributes(node),
                    made,
                    self._branches > 0,
                )
            )

    def _bodies(self, node: NodeProto, inputs: Sequence[str], scope: dict[str, str], path: str) -> tuple[Body, ...]:
        found = []
        for role, graph in bodies(node):
            inner = f"{path}{node.name or node.op_type}/{role}/"
            local = dict(scope)
            self._initialise(graph, local, inner)
            entering = []
            for place, value in enumerate(graph.input):
                unique = self._value(value.name, inner)
                local[value.name] = unique
                entering.append(unique)
                kind, source, attributes = _entry(node, inputs, place)
                self._steps.append(
                    Step(kind, source, (unique,), self._name(unique, ""), None, {**attributes, "loop": node.op_type})
                )
            self._branches += node.op_type == "If"
            self._nodes(graph, local, inner)
            self._branches -= node.op_type == "If"
            found.append(Body(tuple(entering), tuple(local[value.name] for value in graph.output)))
        return tuple(found)

    def _value(self, name: str, path: str) -> str:
        return _free(name, path, self._taken)

    def _name(self, name: str, path: str) -> str:
        return _free(name, path, self._names)


def _free(name: str, path: str, taken: set[str]) -> str:
    """The name, or if it is taken, one with its path and a number."""
    found, number = name, 2
    if found in taken:
        found = f"{path}{name}"
    while found in taken:
        found, number = f"{path}{name}:{number}", number + 1
    taken.add(found)
    return found


def _entry(node: NodeProto, inputs: Sequence[str], place: int) -> tuple[str, tuple[str, ...], Attributes]:
    """What a body's input is, and where it comes from."""
    attributes: Attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Loop":
        if place < 2:
            return ROUND, (), {"place": place}
        return CARRIED, (inputs[place],), {}
    if node.op_type == "Scan":
        scanned = attributes["num_scan_inputs"]
        states = len(inputs) - int(str(scanned))
        if place < states:
            return CARRIED, (inputs[place],), {}
        axes = attributes.get("scan_input_axes")
        axis = list(axes)[place - states] if isinstance(axes, list) else 0
        return ELEMENT, (inputs[place],), {"axis": axis}
    return ROUND, (), {"place": place}


def _attributes(node: NodeProto) -> Attributes:
    """What can be read and compared as a plain value."""
    found: Attributes = {}
    for attribute in node.attribute:
        match attribute.type:
            case AttributeProto.INT | AttributeProto.FLOAT:
                found[attribute.name] = helper.get_attribute_value(attribute)
            case AttributeProto.STRING:
                found[attribute.name] = attribute.s.decode("utf-8", "replace")
            case AttributeProto.INTS | AttributeProto.FLOATS:
                found[attribute.name] = tuple(helper.get_attribute_value(attribute))
            case AttributeProto.STRINGS:
                found[attribute.name] = tuple(text.decode("utf-8", "replace") for text in attribute.strings)
            case _:
                pass
    return found
