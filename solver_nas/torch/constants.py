"""What of a captured graph depends on the module's inputs and weights, and what the rest computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

from solver_nas.torch.nodes import mutates, operator_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch.fx import Graph as FxGraph
    from torch.fx import Node

#: Operations that read nothing of a tensor but its type.
_TYPED = frozenset({"new_zeros", "new_ones", "new_full", "new_empty"})


def constants(
    nodes: FxGraph, moving: Collection[str], held: Mapping[str, torch.Tensor]
) -> tuple[frozenset[str], dict[str, torch.Tensor]]:
    """The nodes that depend on inputs or weights, and what the others are.

    Args:
        nodes: all operations.
        moving: the placeholders of inputs and weights.
        held: what the other placeholders stand for.

    Returns:
        Names of nodes; and the values of those nodes that are not among them, as far as they can be computed.
    """
    depending, known = set(moving), dict(held)
    for node in nodes.nodes:
        if node.op == "call_function":
            if operator_of(node) not in _TYPED and any(one.name in depending for one in node.all_input_nodes):
                depending.add(node.name)
            else:
                _evaluate(node, known)
    return frozenset(depending), known


def _evaluate(node: Node, known: dict[str, torch.Tensor]) -> None:
    """Compute what depends on nothing; what is written into is not followed."""
    if mutates(node):
        return

    def given(value: Any) -> Any:
        if operator_of(node) in _TYPED:
            return torch.empty((), dtype=value.meta["val"].dtype)
        return known[value.name]

    try:
        with torch.no_grad():
            known[node.name] = cast("Any", node.target)(
                *torch.fx.node.map_arg(node.args, given), **torch.fx.node.map_arg(node.kwargs, given)
            )
    except (KeyError, RuntimeError, NotImplementedError, TypeError, ValueError):
        return
