"""From an exported program to one flat graph: regions without gradients, or with automatic types, are opened."""

from __future__ import annotations

import operator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch.export import ExportedProgram

#: Operations that run a graph under another setting: how many arguments come before the graph.
_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
_AUTOCAST = "autocast"
_ENABLED = 2  # which argument of an autocast says whether it does anything


def flat(program: ExportedProgram) -> Graph:
    """The operations of a program in one graph, whose nodes are called as in the program where they are on top."""
    made = Graph()
    found = _copy(made, program.graph_module, None, ())
    made.output(found)
    return made


def setting(node: Node) -> AbstractContextManager[Any]:
    """In which a node is to be run."""
    found = autocast(node)
    if not found:
        return nullcontext()
    kind, dtype, _, cached = found
    return torch.autocast(kind, dtype=dtype, cache_enabled=cached)


def autocast(node: Node) -> tuple[Any, ...]:
    """The device, type, switch and cache of the autocast under which a node is run; nothing without one."""
    found = tuple(node.meta.get(_AUTOCAST, ()))
    return found if found and found[_ENABLED] else ()


@contextmanager
def no_autocast() -> Iterator[None]:
    """Whatever the caller has switched on, types are those that the module says."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _copy(made: Graph, module: GraphModule, given: Sequence[Any] | None, under: Sequence[Any]) -> Any:
    """Append a graph's nodes, which run under an autocast; returns what the graph returns."""
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
            inner = node.args[:skipped] if node.target.__name__ == "wrap_with_autocast" else under
            known[node] = _copy(made, body, [_known(known, one) for one in node.args[skipped + 1 :]], inner)
        elif node.target is operator.getitem and not isinstance(known.get(node.args[0]), Node):
            known[node] = known[node.args[0]][node.args[1]]
        elif node.op == "get_attr" and all(_region(user) for user in node.users):
            continue
        else:
            copied = made.node_copy(node, known.__getitem__)
            copied.meta = {**node.meta, _AUTOCAST: under}
            if given is None:
                # The signature calls them so, even where Python has something else of that name.
                copied.name = node.name
            known[node] = copied
    raise AssertionError("a graph has an output")


def _known(known: dict[Node, Any], one: Any) -> Any:
    return known[one] if isinstance(one, Node) else one


def _region(node: Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") in _REGIONS
