"""From a captured module to a graph of vertices with parameters."""

from __future__ import annotations

import operator as python
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from solver_nas.graph import Graph, Parameter, Port, Vertex
from solver_nas.labels import Extent, Origin
from solver_nas.torch import rules as _rules  # noqa: F401 - registers them
from solver_nas.torch.capture import code_of
from solver_nas.torch.flatten import flat
from solver_nas.torch.op import Slot, UnsupportedError, Value
from solver_nas.torch.operator import OPAQUE, PARAMETER, PREFIX, Operator, Reading, operators
from solver_nas.torch.sizes import Axis, product, sources
from solver_nas.torch.views import View, views
from solver_nas.torch.watching import CALL

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from torch.fx import Graph as FxGraph
    from torch.fx import Node

    from solver_nas.labels import Labels
    from solver_nas.torch.capture import Capture
    from solver_nas.torch.sizes import Tree
    from solver_nas.torch.watching import Number


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


@dataclass(frozen=True, slots=True)
class Owner:
    """A tensor whose size the code asks for.

    Args:
        vertex: the vertex that computes it, if one does.
        view: the parameter that it is, if it is one.
        shape: its shape at the beginning.
    """

    vertex: str | None
    view: View | None
    shape: tuple[int, ...]

    def size(self, axis: int, labels: Labels) -> int:
        """How large an axis is under these labels."""
        if self.vertex is not None:
            return labels.tensors[Port(self.vertex)].shape[axis] or self.shape[axis]
        if self.view is None:
            return self.shape[axis]
        place = axis if self.view.order is None else self.view.order[axis]
        record = labels.parameters.get(self.view.key)
        if place is None or record is None:
            return self.shape[axis]
        return prod(record.view[one] for one in record.storage[place])


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
        claims: numbers that the code has found to be equal.
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
    claims: tuple[tuple[Tree, Tree], ...]
    training: bool
    inputs: tuple[str, ...]
    fixed: Mapping[str, Any]
    returned: tuple[int, ...]
    outputs: Mapping[str, int]
    options: Options
    specs: tuple[Any, Any]

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
#: Those of them that read nothing of a tensor but its type.
_TYPED = frozenset({"new_zeros", "new_ones", "new_full", "new_empty"})
#: What the attributes of vertices that are no operations have in common.
_PLAIN: Mapping[str, object] = MappingProxyType({"output": 0, "primary": True, "buffers": frozenset()})
_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128})


def operator_of(node: Node) -> str:
    """The operator of a node: without `aten`, without overload, without the mark of one that works in place."""
    target = node.target
    if not isinstance(target, OpOverload):
        return str(getattr(target, "__name__", target))
    name = str(target.overloadpacket.__name__)
    if target.namespace != "aten":
        return f"{target.namespace}::{name}"
    short = name.rstrip("_") if not name.startswith("_") else name
    return short if short in operators() or name not in operators() else name


class _Builder:
    def __init__(self, capture: Capture, module: torch.nn.Module, options: Options) -> None:
        self._capture, self._module, self._options, self._in_place = capture, module, options, options.in_place
        self._nodes = flat(capture.program)
        self._table = operators()
        signature = capture.program.graph_signature
        self._tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._constant_inputs = dict(signature.inputs_to_lifted_tensor_constants)
        self._inputs = [spec.arg.name for spec in signature.input_specs if spec.kind.name == "USER_INPUT"]
        self._user_inputs = set(self._inputs)
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
        self._views: dict[str, View] = {}
        self._moving: dict[str, bool] = {}
        self._constants: dict[str, torch.Tensor] = {}
        self._vertices: dict[str, Vertex] = {}
        self._port: dict[str, str] = {}
        self._sources: dict[View, str] = {}
        self._names: dict[str, str] = {}
        self._taken: Counter[str] = Counter()

    def build(self) -> Structure:
        self._classify()
        self._call_numbers()
        self._name()
        for node in self._nodes.nodes:
            if node.op == "placeholder" and node.name in self._user_inputs and _tensor(node) is not None:
                self._add(node, f"{PREFIX}input", (), {"shape": _shape(node), "name": node.name})
            elif node.op == "call_function" and self._moving[node.name] and node.name not in self._views:
                self._operation(node)
        outputs = self._outputs()
        graph = Graph(self._vertices.values(), [Port(name) for name in outputs])
        made = {vertex: node for node, vertex in self._port.items()}
        watched = {
            number: Owner(self._port.get(node.name), self._views.get(node.name), _shape(node))
            for number, node in self._node_of.items()
        }
        program = self._capture.program
        return Structure(
            graph,
            self._nodes,
            self._tensors,
            self._keys,
            self._buffers,
            made,
            self._constants,
            watched,
            tuple(dict.fromkeys(self._capture.record.claims.equal)),
            self._capture.training,
            tuple(self._inputs),
            {node: program.constants[name] for node, name in self._constant_inputs.items()},
            self._returned,
            outputs,
            self._options,
            (program.call_spec.in_spec, program.call_spec.out_spec),
        )

    # -- what is known before there are vertices ----------------------------------------------------

    def _classify(self) -> None:
        """Which nodes depend on data or weights, which are mere views of weights, and what the others are."""
        self._views = views(self._nodes, self._weights, in_place=self._in_place)
        for node in self._nodes.nodes:
            given = node.all_input_nodes
            if node.op == "placeholder":
                self._moving[node.name] = node.name in self._user_inputs or node.name in self._weights
                path = self._tensors.get(node.name)
                if path is not None and not self._moving[node.name]:
                    self._constants[node.name] = self._held[path].detach()
                elif node.name in self._constant_inputs:
                    self._constants[node.name] = self._capture.program.constants[self._constant_inputs[node.name]]
            elif node.op == "call_function":
                self._moving[node.name] = operator_of(node) not in _TYPED and any(
                    self._moving[one.name] for one in given
                )
                if not self._moving[node.name]:
                    self._evaluate(node)
            else:
                self._moving[node.name] = False

    def _evaluate(self, node: Node) -> None:
        """Compute what depends on nothing."""

        def known(value: Any) -> Any:
            if operator_of(node) in _TYPED:
                return torch.empty((), dtype=value.meta["val"].dtype)
            return self._constants[value.name]

        try:
            with torch.no_grad():
                found = cast("Any", node.target)(
                    *torch.fx.node.map_arg(node.args, known), **torch.fx.node.map_arg(node.kwargs, known)
                )
        except (KeyError, RuntimeError, NotImplementedError, TypeError, ValueError):
            return
        self._constants[node.name] = found

    def _call_numbers(self) -> None:
        """Which nodes a call has made, and which node a watched tensor is."""
        calls: dict[int, list[Node]] = defaultdict(list)
        for node in self._nodes.nodes:
            number = (node.meta.get("custom") or {}).get(CALL)
            if node.op == "call_function" and number is not None:
                calls[number].append(node)
        record = self._capture.record
        self._node_of: dict[int, Node] = {}
        for tensor, (call, place, shape) in record.made.items():
            node = _result(calls.get(call, []), place)
            if node is not None and _shape(node) == shape:
                self._node_of[tensor] = node
        by_path = {path: node for node, path in self._tensors.items()}
        placeholders = {node.name: node for node in self._nodes.nodes if node.op == "placeholder"}
        for tensor, name in record.given.items():
            kind, _, number = name.partition(" ")
            if kind == "input":
                self._node_of[tensor] = placeholders[str(self._inputs[int(number)])]
            elif name in by_path:
                self._node_of[tensor] = placeholders[by_path[name]]

    # -- names -----------------------------------------------------------------------------------------

    def _name(self) -> None:
        """Name nodes by the modules that they belong to."""
        inside: dict[str, list[Node]] = defaultdict(list)
        for node in self._nodes.nodes:
            if node.op == "call_function" and self._moving[node.name] and node.name not in self._views:
                inside[_call(node)].append(node)
        for path, nodes in inside.items():
            plain = path.partition("@")[0]
            operations = [node for node in nodes if node.target is not python.getitem]
            main = self._main(plain, operations)
            for node in operations:
                own = operator_of(node).rpartition("::")[2]
                self._names[node.name] = plain if node in main else f"{plain}.{own}".lstrip(".")

    def _main(self, path: str, nodes: Sequence[Node]) -> Sequence[Node]:
        """The operations that stand for a module without parts: those with its parameters, or the last one.

        There are several if the module is called several times.
        """
        try:
            module = self._module.get_submodule(path)
        except AttributeError:
            return ()
        if not path or any(True for _ in module.children()):
            return ()
        found = [node for node in nodes if any(self._weight_of(one) is not None for one in node.all_input_nodes)]
        found = found or list(nodes)
        return found if len({operator_of(node) for node in found}) == 1 else found[-1:]

    def _weight_of(self, node: Node) -> View | None:
        return self._views.get(node.name)

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
        found = _results(node)
        if isinstance(found, torch.Tensor):
            self._vertex(node, node, 0, primary=True)
            return
        users = [user for user in node.users if user.target is python.getitem]
        for user in sorted(users, key=lambda user: int(cast("int", user.args[1]))):
            if user.name not in self._port and _tensor(user) is not None:
                self._vertex(node, user, int(cast("int", user.args[1])), primary=user is users[0])

    def _vertex(self, node: Node, result: Node, output: int, *, primary: bool) -> None:
        name = operator_of(node)
        known = self._table.get(name)
        edges: dict[str, int] = {}
        parameters: dict[str, Parameter] = {}
        owns = known is None or known.weights
        arguments = {
            key: self._argument(key, value, edges, parameters, owns=owns) for key, value in _arguments(node).items()
        }
        origins, extra = self._origins(node, arguments)
        attributes: dict[str, object] = {
            "operator": name,
            "node": node.name,
            "output": output,
            "primary": primary,
            "shape": _shape(result),
            "arguments": arguments,
            "origins": origins,
            "code": code_of(node),
            "module": _path(node),
            "rewritten": _in_buffers(arguments),
            "whole heads": self._options.whole_heads,
            "buffers": frozenset(role for role, one in parameters.items() if one.key in self._buffers),
        }
        attributes.update(extra)
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
        if _mutates(node) and _is_part(node.args[0]):
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
        filled = not self._moving[node.name] and operator_of(node) in _FILLED and not _written(node)
        if filled and node.name not in self._port:
            self._vertex(node, node, 0, primary=True)
        if node.name in self._port:
            return Slot(edge=edges.setdefault(self._port[node.name], len(edges)))
        if _tensor(node) is None:
            return None
        return Slot(value=self._value(node), shape=_shape(node))

    def _source(self, node: Node, view: View) -> str:
        """The vertex of a parameter that stands beside other tensors."""
        if view not in self._sources:
            arguments = {"value": Slot(role="value", order=view.order)}
            parameters = {"value": Parameter(view.key, tuple(self._held[view.key].shape))}
            attributes = {**_PLAIN, "operator": "parameter", "shape": _shape(node), "arguments": arguments}
            attributes["buffers"] = frozenset({"value"} if view.key in self._buffers else ())
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

    # -- numbers -------------------------------------------------------------------------------------------

    def _origins(self, node: Node, arguments: Mapping[str, object]) -> tuple[dict[Hashable, Origin], dict[str, object]]:
        """How the whole numbers among the arguments were computed; and the trees they were computed by."""
        if not self._in_place:
            return {place: Origin(Fraction(1), ((node.name, *place),), ()) for place, _ in _numbers(arguments)}, {}
        call = (node.meta.get("custom") or {}).get(CALL, 0)
        seen = list(self._capture.record.calls.get(call, ()))
        found: dict[Hashable, Origin] = {}
        trees: dict[Hashable, Tree] = {}
        for place, value in _numbers(arguments):
            known = _taken(seen, value)
            if known is not None and known.tree is not None:
                origin = self._origin(known.tree)
                if origin is not None:
                    found[place], trees[place] = origin, known.tree
        return found, {"trees": trees}

    def _origin(self, tree: Tree) -> Origin | None:
        """A tree as a product of sizes and attributes; `None` for a number that never changes."""
        found = product(tree)
        if found is None:
            extents = [self._extent(source) for source in sources(tree)]
            return Origin(Fraction(1), tuple(one for one in extents if not isinstance(one, int)), (), known=False)
        factor, over, under = found.factor, list[Any](), list[Any]()
        for side, into, power in ((found.over, over, 1), (found.under, under, -1)):
            for source in side:
                extent = self._extent(source)
                if isinstance(extent, int):
                    factor *= Fraction(extent) ** power
                else:
                    into.append(extent)
        return Origin(factor, tuple(over), tuple(under)) if over or under else None

    def _left(self) -> tuple[tuple[Origin, int], ...]:
        """Sizes that the code makes numbers of another kind of, which therefore stay as they are."""
        if not self._in_place:
            return ()
        pairs = [(self._origin(tree), number) for tree, number in self._capture.record.claims.left.items()]
        return tuple((origin, number) for origin, number in pairs if origin is not None)

    def _extent(self, source: object) -> Any:
        """The size of a tensor's axis; a number if it never changes."""
        if not isinstance(source, Axis):
            return source
        node = self._node_of.get(source.tensor)
        if node is None:
            return ("unknown tensor", source.tensor, source.axis)
        view = self._views.get(node.name)
        if view is not None:
            axis = source.axis if view.order is None else view.order[source.axis]
            return 1 if axis is None else Extent(view.key, axis)
        if node.name in self._port:
            return Extent(Port(self._port[node.name]), source.axis)
        return _shape(node)[source.axis]

    # -- what is returned -------------------------------------------------------------------------------------

    def _outputs(self) -> dict[str, int]:
        (end,) = (node for node in self._nodes.nodes if node.op == "output")
        results = list(_leaves(end.args[0]))
        found: dict[str, int] = {}
        for number, place in enumerate(self._returned):
            node = results[place]
            if not isinstance(node, torch.fx.Node) or _tensor(node) is None:
                continue
            edges: dict[str, int] = {}
            parameters: dict[str, Parameter] = {}
            slot = self._slot("value", node, edges, parameters, owns=False)
            attributes = {**_PLAIN, "operator": "output", "shape": _shape(node), "arguments": {"value": slot}}
            attributes["free"] = self._options.free
            attributes["left"] = () if found else self._left()
            found[self._add(None, f"{PREFIX}output", tuple(edges), attributes, parameters, "output")] = number
        return found


def positions(arguments: Mapping[str, object]) -> list[Value]:
    """The tensors of whole numbers among arguments."""
    slots = (one for one in _leaves(tuple(arguments.values())) if isinstance(one, Slot))
    return [slot.value for slot in slots if slot.value is not None]


def _in_buffers(arguments: Mapping[str, object]) -> bool:
    """Whether all positions among the arguments are held by buffers, each once, so that they can be rewritten."""
    found = positions(arguments)
    return bool(found) and all(
        value.buffer is not None and len(set(value.elements)) == len(value.elements) for value in found
    )


def _mutates(node: Node) -> bool:
    """Whether an operation writes into its first tensor."""
    target = node.target
    return isinstance(target, OpOverload) and bool(node.args) and target._schema.is_mutable  # noqa: SLF001 - its schema


def _shares(node: Node) -> bool:
    """Whether what an operation returns is memory of its first tensor."""
    target = node.target
    return isinstance(target, OpOverload) and any(
        one.alias_info is not None and not one.alias_info.is_write
        for one in target._schema.arguments  # noqa: SLF001 - its own schema
    )


def _is_part(node: object) -> bool:
    """Whether a tensor shares its memory with a larger one."""
    if not isinstance(node, torch.fx.Node) or node.op != "call_function":
        return False
    if node.target is python.getitem:
        return True
    return _shares(node) and operator_of(node) not in ("view", "reshape", "flatten", "contiguous", "to")


def _written(node: Node) -> bool:
    """Whether something is written into a tensor, or into a part of it."""
    for user in node.users:
        first = user.op == "call_function" and user.args and user.args[0] is node
        if first and (_mutates(user) or (_shares(user) and _written(user))):
            return True
    return False


def _taken(seen: list[Number], value: int) -> Number | None:
    """The next number of that value that a call was given, and take it from the list."""
    for place, number in enumerate(seen):
        if number.value == value:
            del seen[: place + 1]
            return number
    return None


def _numbers(arguments: Mapping[str, object]) -> Iterator[tuple[tuple[str, int], int]]:
    """All whole numbers among arguments, with their places."""
    for name, value in arguments.items():
        if type(value) is int:
            yield (name, 0), value
        elif isinstance(value, tuple):
            for place, one in enumerate(value):
                if type(one) is int:
                    yield (name, place), one


def _arguments(node: Node) -> dict[str, Any]:
    """Arguments by the names of the operator's schema, those that are left out with their defaults."""
    target = node.target
    if not isinstance(target, OpOverload):
        return {f"argument {place}": value for place, value in enumerate(node.args)} | dict(node.kwargs)
    found = {}
    for place, argument in enumerate(target._schema.arguments):  # noqa: SLF001 - its own schema
        if place < len(node.args):
            found[argument.name] = node.args[place]
        elif argument.name in node.kwargs:
            found[argument.name] = node.kwargs[argument.name]
        elif argument.has_default_value():
            found[argument.name] = argument.default_value
    return found


def _reading(node: Node, name: str, result: Node, output: int) -> Reading:
    arguments, shapes = {}, {}
    for key, value in _arguments(node).items():
        tensors = [one for one in _leaves(value) if isinstance(one, torch.fx.Node)]
        if tensors:
            shapes[key] = tuple(_shape(one) for one in tensors if _tensor(one) is not None)
        else:
            arguments[key] = value
    return Reading(name, arguments, shapes, _shape(result), output)


def _call(node: Node) -> str:
    """The innermost module that a node was called in, and which call of it."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((str(path) for path, _ in reversed(stack.values()) if path), "")


def _path(node: Node) -> str:
    return _call(node).partition("@")[0]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def _result(nodes: Sequence[Node], place: int) -> Node | None:
    """The node of one of the results of a call."""
    picked = [node for node in nodes if node.target is python.getitem and node.args[1] == place]
    if picked:
        return picked[-1]
    return nodes[-1] if nodes and place == 0 else None


def _results(node: Node) -> Any:
    return node.meta.get("val")


def _tensor(node: Node) -> torch.Tensor | None:
    found = node.meta.get("val")
    return found if isinstance(found, torch.Tensor) else None


def _shape(node: Node) -> tuple[int, ...]:
    found = _tensor(node)
    return () if found is None else tuple(int(size) for size in found.shape)
