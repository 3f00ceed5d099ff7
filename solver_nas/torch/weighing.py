"""What neurons are worth whose weights are computed from parameters: weight norms, masks, standardised weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from solver_nas.torch.nodes import operator_of
from solver_nas.torch.op import Slot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch.fx import Graph as FxGraph

    from solver_nas.frontend import Handle
    from solver_nas.graph import Vertex
    from solver_nas.torch.structure import Structure

#: Layers whose weight has a row for each neuron that it makes.
_ROWS = frozenset({"linear", "conv1d", "conv2d", "conv3d"})


def weight_node(structure: Structure, vertex: Vertex) -> str | None:
    """The node that computes the weight of a layer, if its weight is computed; `None` for other vertices."""
    if vertex.attributes.get("operator") not in _ROWS:
        return None
    arguments = cast("Mapping[str, object]", vertex.attributes["arguments"])
    slot = arguments.get("weight")
    if not isinstance(slot, Slot) or slot.edge is None:
        return None
    return structure.made.get(vertex.inputs[slot.edge].vertex)


def value_of(nodes: FxGraph, wanted: str, given: Mapping[str, Any]) -> torch.Tensor | None:
    """What a node computes; `None` if that depends on what the module is given.

    Args:
        nodes: all operations.
        wanted: the node's name.
        given: placeholder -> value.
    """
    by_name = {node.name: node for node in nodes.nodes}
    needed, waiting = set[torch.fx.Node](), [by_name[wanted]]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    known: dict[torch.fx.Node, Any] = {}
    with torch.no_grad():
        for node in nodes.nodes:
            if node not in needed:
                continue
            if node.op == "placeholder":
                known[node] = given.get(node.name)
            else:
                args, kwargs = (torch.fx.node.map_arg(one, known.__getitem__) for one in (node.args, node.kwargs))
                target = cast("Any", node.target)
                known[node] = args[0].reshape(args[1]) if operator_of(node) == "view" else target(*args, **kwargs)
    found = known[by_name[wanted]]
    return found if isinstance(found, torch.Tensor) else None


def norms(handle: Handle, weight: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> NDArray[np.float64]:
    """The L2 norm of each row of a weight, plus the absolute value of its bias: what `magnitude` says of parameters.

    Args:
        handle: a layer.
        weight: shape (neurons, ...).
        tensors: parameters by key.
    """
    found = weight.detach().double().flatten(1).norm(dim=1)
    bias = handle.vertex.parameters.get("bias")
    if bias is not None:
        found = found + tensors[bias.key].detach().double().abs()
    return np.asarray(found.cpu().numpy())
