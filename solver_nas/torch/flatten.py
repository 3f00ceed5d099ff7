"""From an exported program to one flat graph: regions without gradients, or without automatic types, are opened."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.export import ExportedProgram

#: Operations that run a graph under another setting: how many arguments come before the graph.
_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
_ENABLED = 2  # which argument of an autocast says whether it does anything


def flat(program: ExportedProgram) -> Graph:
    """The operations of a program in one graph, whose nodes are called as in the program where they are on top."""
    made = Graph()
    found = _copy(made, program.graph_module, None)
    made.output(found)
    return made


def _copy(made: Graph, module: GraphModule, given: Sequence[Any] | None) -> Any:
    """Append a graph's nodes; returns what it returns."""
    known: dict[Node, Any] = {}
    inputs = iter(given or ())
    for node in module.graph.nodes:
        if node.op == "placeholder" and given is not None:
            known[node] = next(inputs)
        elif node.op == "output":
            return map_arg(node.args[0], known.__getitem__)
        elif _region(node):
            skipped = _REGIONS[node.target.__name__]
            body = getattr(module, str(node.args[skipped].target))
            known[node] = _copy(made, body, [_known(known, one) for one in node.args[skipped + 1 :]])
        elif node.target is operator.getitem and not isinstance(known.get(node.args[0]), Node):
            known[node] = known[node.args[0]][node.args[1]]
        elif node.op == "get_attr" and all(_region(user) for user in node.users):
            continue
        else:
            copied = made.node_copy(node, known.__getitem__)
            copied.meta = dict(node.meta)
            if given is None:
                # The signature calls them so, even where Python has something else of that name.
                copied.name = node.name
            known[node] = copied
    raise AssertionError("a graph has an output")


def _known(known: dict[Node, Any], one: Any) -> Any:
    return known[one] if isinstance(one, Node) else one


def _region(node: Node) -> bool:
    name = getattr(node.target, "__name__", "")
    if node.op != "call_function" or name not in _REGIONS:
        return False
    return name != "wrap_with_autocast" or not node.args[_ENABLED]
