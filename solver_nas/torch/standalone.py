"""A captured graph with other numbers in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.fx
from torch._ops import OpOverload

from solver_nas.torch.flatten import autocast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.export import ExportedProgram
    from torch.fx import Graph as FxGraph
    from torch.fx import Node

    from solver_nas.torch.numbers import Numbers
    from solver_nas.torch.structure import Structure


def rewritten(nodes: FxGraph, made: Mapping[str, str], numbers: Numbers) -> FxGraph:
    """A copy of a graph in which operations have the numbers that they should have.

    Args:
        nodes: the operations; stays as it is.
        made: vertex -> the node that computes it.
        numbers: vertex -> (argument, place) -> number.
    """
    copy, known = torch.fx.Graph(), dict[Any, Any]()
    found = copy.graph_copy(nodes, known)
    copy.output(found)
    for node, copied in known.items():
        copied.name = node.name
    by_name = {node.name: copied for node, copied in known.items()}
    for vertex, new in numbers.items():
        node = by_name.get(made.get(vertex, ""))
        if node is not None:
            operation = _operation(node)
            for (argument, place), number in new.items():
                _set(operation, argument, place, number)
    return copy


def built(structure: Structure, nodes: FxGraph, tensors: Mapping[str, torch.Tensor]) -> torch.fx.GraphModule:
    """A module that consists of operations and copies of tensors.

    Args:
        structure: of the module that they come from.
        nodes: the operations; stays as it is.
        tensors: parameters and buffers by key.
    """
    root = torch.nn.Module()
    copies: dict[str, torch.Tensor] = {}
    for path in structure.tensors.values():
        key = structure.keys[path]
        if key not in copies:
            plain = tensors[key].detach().clone()
            copies[key] = plain if key in structure.buffers else _parameter(plain)
        _hold(root, path, copies[key])
    for name, value in structure.fixed.items():
        root.register_buffer(f"_constant_{name}", value.detach().clone(), persistent=False)
    graph, known = torch.fx.Graph(), dict[Any, Any]()
    region = _Region(graph)
    for node in nodes.nodes:
        region.at(node)
        held = structure.tensors.get(node.name) if node.op == "placeholder" else None
        if held is not None:
            known[node] = graph.get_attr(held)
        elif node.op == "placeholder" and node.name in structure.fixed:
            known[node] = graph.get_attr(f"_constant_{node.name}")
        elif node.op == "output":
            results = torch.fx.node.map_arg(node.args[0], known.__getitem__)
            graph.output(tuple(results[place] for place in structure.returned))
        elif not (node.op == "call_function" and not node.users and _checks(node)):
            known[node] = graph.node_copy(node, known.__getitem__)
    codegen = torch.fx.graph._PyTreeCodeGen(  # noqa: SLF001 - as torch.export makes its own modules
        torch.fx.graph._PyTreeInfo(_arguments(structure), *structure.specs)  # noqa: SLF001 - likewise
    )
    graph.set_codegen(codegen)
    made = torch.fx.GraphModule(root, graph)
    made.graph.eliminate_dead_code()
    made.recompile()
    return made


def exported(module: torch.fx.GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ExportedProgram:
    """A module that consists of operations, as an exported program."""
    program = torch.export.export(module, tuple(args), dict(kwargs), strict=False)
    if any(node.target is _ENTER for node in module.graph.nodes):
        # The exporter takes note of types as they are without the autocast, and would insist on them.
        for node in list(program.graph.nodes):
            if node.target is torch.ops.aten._assert_tensor_metadata.default:  # noqa: SLF001 - an operator
                program.graph.erase_node(node)
        program.graph_module.recompile()
    return program


_ENTER = torch.amp.autocast_mode._enter_autocast  # noqa: SLF001 - what graphs enter regions by
_EXIT = torch.amp.autocast_mode._exit_autocast  # noqa: SLF001 - likewise


class _Region:
    """The autocast under which the nodes that are appended to a graph run."""

    def __init__(self, graph: FxGraph) -> None:
        self._graph = graph
        self._settings: tuple[Any, ...] = ()
        self._entered: Node | None = None

    def at(self, node: Node) -> None:
        """Leave and enter regions before a node."""
        settings = autocast(node) if node.op == "call_function" else ()
        if settings == self._settings:
            return
        if self._entered is not None:
            self._graph.call_function(_EXIT, (self._entered,))
        self._settings, self._entered = settings, None
        if settings:
            self._entered = self._graph.call_function(_ENTER, settings)


def _arguments(structure: Structure) -> list[str]:
    """What the arguments of the module are called, with one name for whatever is nested in one."""
    given, named = structure.specs[0].children()
    plain = all(one.is_leaf() for one in (*given.children(), *named.children()))
    if plain:
        return [str(name) for name in structure.inputs]
    return [*(f"arg_{place}" for place in range(given.num_children)), *named.context]


def _parameter(tensor: torch.Tensor) -> torch.Tensor:
    return torch.nn.Parameter(tensor, requires_grad=tensor.dtype.is_floating_point or tensor.is_complex())


def _hold(root: torch.nn.Module, path: str, tensor: torch.Tensor) -> None:
    """Register a tensor under a path, with modules in between."""
    *outer, name = path.split(".")
    for step in outer:
        if not hasattr(root, step):
            root.add_module(step, torch.nn.Module())
        root = getattr(root, step)
    if isinstance(tensor, torch.nn.Parameter):
        root.register_parameter(name, tensor)
    else:
        root.register_buffer(name, tensor)


def _checks(node: Node) -> bool:
    """Whether an operation only checks sizes as they were."""
    return "assert" in str(node.target) or "sym_constrain" in str(node.target)


def _operation(node: Node) -> Node:
    """The operation of which a node is one of the results."""
    if isinstance(node.target, OpOverload):
        return node
    (first, *_) = node.all_input_nodes
    return first


def _set(node: Node, argument: str, place: int, number: int) -> None:
    if not isinstance(node.target, OpOverload):
        return
    names = [one.name for one in node.target._schema.arguments]  # noqa: SLF001 - its own schema
    if argument not in names:
        return
    where = names.index(argument)
    before = node.args[where] if where < len(node.args) else node.kwargs.get(argument)
    if before is None:
        return
    if isinstance(before, tuple | list):
        items = list(before)
        items[place] = number
        after: Any = items
    else:
        after = number
    if where < len(node.args):
        node.update_arg(where, after)
    else:
        node.update_kwarg(argument, after)
