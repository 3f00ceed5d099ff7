"""From a captured module to a graph of vertices with parameters."""

from __future__ import annotations

import operator as python
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch.utils import _pytree as pytree

from solver_nas.graph import Graph, Parameter, Port, Vertex
from solver_nas.rules.guarding import UnsupportedError
from solver_nas.torch import rules as _rules  # noqa: F401 - registers them
from solver_nas.torch.constants import constants
from solver_nas.torch.flatten import flat
from solver_nas.torch.naming import names
from solver_nas.torch.nodes import (
    arguments_of,
    code_of,
    is_part,
    leaves,
    mutates,
    operator_of,
    path_of,
    shape_of,
    tensor_of,
    written,
)
from solver_nas.torch.op import Slot, Value
from solver_nas.torch.operator import OPAQUE, PARAMETER, PREFIX, Operator, Reading, operators
from solver_nas.torch.origins import Origins, Owner, free_origins
from solver_nas.torch.sealing import SEALED
from solver_nas.torch.tensors import even
from solver_nas.torch.trees import Attribute, sources
from solver_nas.torch.views import View, views

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch.fx import Graph as FxGraph
    from torch.fx import Node

    from solver_nas.torch.capture import Capture
    from solver_nas.torch.sizes import Claims
    from solver_nas.torch.trees import Tree


class Options(NamedTuple):
    """What is asked of a module.

    Args:
        free: whether what it returns may change.
        in_place: whether its code is to go on running, so that what is written down there cannot change.
        whole_heads: whether heads of attention go or stay as a whole.
    """

    free: bool
    in_place: bool
    whole_heads: bool


#: Operations that may write into a part of another tensor: what is zero there says nothing about neurons.
_ERASING = frozenset({"zero"})


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A module as the engine sees it.

    Args:
        graph: vertices by the paths of modules; an operation with several results that are used has a vertex for each.
        nodes: the operations, flat; their names are attributes of vertices.
        tensors: placeholder name -> the path of the parameter or buffer that stands there.
        keys: path of every parameter and buffer -> the first path of the same tensor.
        buffers: keys of what is not learned.
        made: vertex name -> the node that computes it.
        constants: node name -> what it is, for small tensors that depend on nothing that changes.
        watched: the tensors whose sizes the code asks for, by number.
        claims: what the code has done with numbers: those that it has found to be equal are equal.
        training: whether it was captured in training mode.
        inputs: placeholders of what the module is given, flat, in order.
        fixed: placeholder -> tensor that is written down in the code.
        returned: which of the results of the operations are the module's, flat, in order.
        outputs: output vertex -> which of these it is.
        options: what was asked of it.
        specs: how what is given and what is returned are nested.
    """

    graph: Graph
    nodes: FxGraph
    tensors: Mapping[str, str]
    keys: Mapping[str, str]
    buffers: frozenset[str]
    made: Mapping[str, str]
    constants: Mapping[str, torch.Tensor]
    watched: Mapping[int, Owner]
    claims: Claims
    training: bool
    inputs: tuple[str, ...]
    fixed: Mapping[str, Any]
    returned: tuple[int, ...]
    outputs: Mapping[str, int]
    options: Options
    specs: tuple[Any, Any]

    @property
    def written(self) -> frozenset[str]:
        """Keys of parameters and buffers that the code writes into."""
        places = (node for node in self.nodes.nodes if node.op == "placeholder" and node.name in self.tensors)
        return frozenset(self.keys[self.tensors[node.name]] for node in places if written(node))

    @property
    def read(self) -> frozenset[Attribute]:
        """The attributes that the code reads sizes from, or compares them with."""
        trees = [tree for vertex in self.graph.vertices for tree in _trees(vertex).values()]
        trees += [tree for pair in self.claims.equal for tree in pair]
        return frozenset(one for tree in trees for one in sources(tree) if isinstance(one, Attribute))

    def given(
        self, tensors: Mapping[str, torch.Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the operations start from, by placeholder.

        Args:
            tensors: parameters and buffers by key.
            args: what the module is given.
            kwargs: likewise, by name.
        """
        found: dict[str, Any] = {node: tensors[self.keys[path]] for node, path in self.tensors.items()}
        found.update(self.fixed)
        found.update(zip(self.inputs, pytree.tree_leaves((tuple(args), dict(kwargs))), strict=True))
        return found


def understand(capture: Capture, module: torch.nn.Module, options: Options) -> Structure:
    """Read a module's structure.

    Args:
        capture: what it computes.
        module: itself.
        options: what is asked of it.
    """
    return _Builder(capture, module, options).build()


_LARGEST_VALUE = 2**16  # elements of a tensor of positions that is looked at
#: Operations that fill a tensor with one number, so that all of its neurons are alike.
_FILLED = frozenset(
    {"zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "scalar_tensor"}
)
#: What the attributes of vertices that are no operations have in common.
_PLAIN: Mapping[str, object] = MappingProxyType({"output": 0, "primary": True, "buffers": frozenset()})
_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128})


class _Builder:
    def __init__(self, capture: Capture, module: torch.nn.Module, options: Options) -> None:
        self._capture, self._options = capture, options
        self._nodes = flat(capture.program)
        self._table = operators()
        signature = capture.program.graph_signature
        self._tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._constant_inputs = dict(signature.inputs_to_lifted_tensor_constants)
        self._inputs = [spec.arg.name for spec in signature.input_specs if spec.kind.name == "USER_INPUT"]
        self._returned = tuple(
            place for place, spec in enumerate(signature.output_specs) if spec.kind.name == "USER_OUTPUT"
        )
        named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        first: dict[int, str] = {}
        self._held = dict(named)
        self._keys = {name: first.setdefault(id(tensor), name) for name, tensor in named}
        learned = {self._keys[name] for name, _ in module.named_parameters(remove_duplicate=False)}
        self._buffers = frozenset(key for key in self._keys.values() if key not in learned)
        self._weights = {
            node: key for node, path in self._tensors.items() if self._held[key := self._keys[path]].dtype in _FLOATS
        }
        self._views = views(self._nodes, self._weights, in_place=options.in_place)
        fixed = {node: capture.program.constants[name] for node, name in self._constant_inputs.items()}
        rest = {node: self._held[path].detach() for node, path in self._tensors.items() if node not in self._weights}
        self._moving, self._constants = constants(self._nodes, {*self._inputs, *self._weights}, {**fixed, **rest})
        self._vertices: dict[str, Vertex] = {}
        self._port: dict[str, str] = {}
        self._sources: dict[View, str] = {}
        given = {f"input {place}": node for place, node in enumerate(self._inputs)}
        given.update({path: node for node, path in self._tensors.items()})
        self._origins = Origins(self._nodes, capture.record, given, self._views, self._port)
        operations = [node for node in self._nodes.nodes if self._is_operation(node)]
        self._names = names(operations, module, self._views)

    def build(self) -> Structure:
        for node in self._nodes.nodes:
            if node.op == "placeholder" and node.name in self._inputs and tensor_of(node) is not None:
                self._add(node, f"{PREFIX}input", (), {"shape": shape_of(node), "name": node.name})
            elif self._is_operation(node):
                self._operation(node)
        outputs = self._outputs()
        graph = Graph(self._vertices.values(), [Port(name) for name in outputs])
        made = {vertex: node for node, vertex in self._port.items()}
        program = self._capture.program
        return Structure(
            graph,
            self._nodes,
            self._tensors,
            self._keys,
            self._buffers,
            made,
            self._constants,
            self._origins.watched,
            self._capture.record.claims,
            self._capture.training,
            tuple(self._inputs),
            {node: program.constants[name] for node, name in self._constant_inputs.items()},
            self._returned,
            outputs,
            self._options,
            (program.call_spec.in_spec, program.call_spec.out_spec),
        )

    def _is_operation(self, node: Node) -> bool:
        """Whether a node becomes a vertex: it depends on inputs or weights, and is no mere view of these."""
        return node.op == "call_function" and node.name in self._moving and node.name not in self._views

    # -- vertices ----------------------------------------------------------------------------------------

    def _add(
        self,
        node: Node | None,
        kind: str,
        inputs: Sequence[str],
        attributes: Mapping[str, object],
        parameters: Mapping[str, Parameter] | None = None,
        name: str | None = None,
    ) -> str:
        assert name is not None or node is not None, "a vertex has a name or a node"
        wanted = name or (self._names.get(node.name, node.name) if node is not None else "")
        free, number = wanted, 2
        while free in self._vertices:
            free, number = f"{wanted}:{number}", number + 1
        self._vertices[free] = Vertex(free, kind, tuple(map(Port, inputs)), dict(attributes), dict(parameters or {}))
        if node is not None:
            self._port[node.name] = free
        return free

    def _operation(self, node: Node) -> None:
        if node.target is python.getitem:
            return
        found = node.meta.get("val")
        if isinstance(found, torch.Tensor):
            self._vertex(node, node, 0, primary=True)
            return
        users = [user for user in node.users if user.target is python.getitem]
        for user in sorted(users, key=lambda user: int(cast("int", user.args[1]))):
            if user.name not in self._port and tensor_of(user) is not None:
                self._vertex(node, user, int(cast("int", user.args[1])), primary=user is users[0])

    def _vertex(self, node: Node, result: Node, output: int, *, primary: bool) -> None:
        name = operator_of(node)
        known = self._table.get(name)
        edges: dict[str, int] = {}
        parameters: dict[str, Parameter] = {}
        between = known is not None and known.contracts and all(one.name in self._views for one in node.all_input_nodes)
        owns = known is None or (known.weights and not between)
        arguments = {
            key: self._argument(key, value, edges, parameters, owns=owns) for key, value in arguments_of(node).items()
        }
        if name == SEALED and primary:
            inside = f"{path_of(node)}."
            own = {path: self._keys[path] for path in self._held if path.startswith(inside)}
            parameters.update({path: Parameter(key, tuple(self._held[key].shape)) for path, key in own.items()})
        if self._options.in_place:
            origins, trees = self._origins.of(node, arguments)
        else:
            origins, trees = free_origins(node, arguments), {}
        attributes: dict[str, object] = {
            "operator": name,
            "node": node.name,
            "output": output,
            "primary": primary,
            "shape": shape_of(result),
            "arguments": arguments,
            "origins": origins,
            "trees": trees,
            "code": code_of(node),
            "module": path_of(node),
            "rewritten": _in_buffers(arguments),
            "whole heads": self._options.whole_heads,
            "buffers": frozenset(role for role, one in parameters.items() if one.key in self._buffers),
        }
        why = self._trouble(node, name, known)
        if not why and known is not None and known.prepare is not None:
            try:
                attributes.update(known.prepare(_reading(node, name, result, output)))
            except UnsupportedError as error:
                why = str(error)
        if why:
            attributes["why"] = why
        label = self._names.get(node.name, node.name)
        self._add(
            result,
            OPAQUE if why else PREFIX + name,
            tuple(edges),
            attributes,
            parameters,
            label if primary else f"{label}:{output}",
        )

    def _trouble(self, node: Node, name: str, known: Operator | None) -> str:
        """Why no rule can be applied; empty if one can."""
        if known is None:
            return f"there is no rule for operator {name!r}"
        if mutates(node) and is_part(node.args[0]) and name not in _ERASING:
            return f"{name}: it writes into a part of another tensor"
        return ""

    def _argument(
        self, name: str, value: Any, edges: dict[str, int], parameters: dict[str, Parameter], *, owns: bool
    ) -> object:
        """An argument as a rule sees it: tensors become slots."""
        if isinstance(value, torch.fx.Node):
            return self._slot(name, value, edges, parameters, owns=owns)
        if isinstance(value, tuple | list):
            return tuple(
                self._argument(f"{name} {place}", one, edges, parameters, owns=owns) for place, one in enumerate(value)
            )
        return value

    def _slot(
        self, role: str, node: Node, edges: dict[str, int], parameters: dict[str, Parameter], *, owns: bool
    ) -> object:
        view = self._views.get(node.name)
        if view is not None and not owns:
            return Slot(edge=edges.setdefault(self._source(node, view), len(edges)))
        if view is not None:
            parameters[role] = Parameter(view.key, tuple(self._held[view.key].shape))
            return Slot(role=role, order=view.order)
        filled = node.name not in self._moving and operator_of(node) in _FILLED and not written(node)
        if filled and node.name not in self._port:
            self._vertex(node, node, 0, primary=True)
        if node.name in self._port:
            return Slot(edge=edges.setdefault(self._port[node.name], len(edges)))
        if tensor_of(node) is None:
            return None
        return Slot(value=self._value(node), shape=shape_of(node))

    def _source(self, node: Node, view: View) -> str:
        """The vertex of a parameter that stands beside other tensors."""
        if view not in self._sources:
            arguments = {"value": Slot(role="value", order=view.order)}
            parameters = {"value": Parameter(view.key, tuple(self._held[view.key].shape))}
            attributes = {**_PLAIN, "operator": "parameter", "shape": shape_of(node), "arguments": arguments}
            attributes["buffers"] = frozenset({"value"} if view.key in self._buffers else ())
            attributes["even"] = view.key in self._buffers and even(self._held[view.key])
            self._sources[view] = self._add(None, PARAMETER, (), attributes, parameters, view.key)
        return self._sources[view]

    def _value(self, node: Node) -> Value | None:
        found = self._constants.get(node.name)
        plain = isinstance(found, torch.Tensor) and found.dtype not in _FLOATS and not found.is_meta
        if not plain or not isinstance(found, torch.Tensor) or found.numel() > _LARGEST_VALUE:
            return None
        path = self._tensors.get(node.name)
        elements = tuple(int(one) for one in found.reshape(-1).tolist())
        return Value(tuple(found.shape), elements, None if path is None else self._keys[path])

    # -- what is returned -------------------------------------------------------------------------------------

    def _outputs(self) -> dict[str, int]:
        (end,) = (node for node in self._nodes.nodes if node.op == "output")
        results = list(leaves(end.args[0]))
        found: dict[str, int] = {}
        for number, place in enumerate(self._returned):
            node = results[place]
            if not isinstance(node, torch.fx.Node) or tensor_of(node) is None:
                continue
            edges: dict[str, int] = {}
            parameters: dict[str, Parameter] = {}
            slot = self._slot("value", node, edges, parameters, owns=False)
            attributes = {**_PLAIN, "operator": "output", "shape": shape_of(node), "arguments": {"value": slot}}
            attributes["free"] = self._options.free
            attributes["left"] = () if found or not self._options.in_place else self._origins.left
            found[self._add(None, f"{PREFIX}output", tuple(edges), attributes, parameters, "output")] = number
        return found


def _trees(vertex: Vertex) -> Mapping[Hashable, Tree]:
    return cast("Mapping[Hashable, Tree]", vertex.attributes.get("trees", {}))


def positions(arguments: Mapping[str, object]) -> list[Value]:
    """The tensors of whole numbers among arguments."""
    slots = (one for one in leaves(tuple(arguments.values())) if isinstance(one, Slot))
    return [slot.value for slot in slots if slot.value is not None]


def _in_buffers(arguments: Mapping[str, object]) -> bool:
    """Whether all positions among the arguments are held by buffers, each once, so that they can be rewritten."""
    found = positions(arguments)
    return bool(found) and all(
        value.buffer is not None and len(set(value.elements)) == len(value.elements) for value in found
    )


def _reading(node: Node, name: str, result: Node, output: int) -> Reading:
    arguments, shapes = {}, {}
    for key, value in arguments_of(node).items():
        tensors = [one for one in leaves(value) if isinstance(one, torch.fx.Node)]
        if tensors:
            shapes[key] = tuple(shape_of(one) for one in tensors if tensor_of(one) is not None)
        else:
            arguments[key] = value
    return Reading(name, arguments, shapes, shape_of(result), output)
