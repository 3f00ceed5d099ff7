"""The nodes of a graph, put anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper

from solver_nas.onnx import tensors

if TYPE_CHECKING:
    from collections.abc import Iterable

Array = NDArray[Any]


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Give a graph other nodes, some of which may be its own: copies of all of them, in this order."""
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def prepend_constants(graph: GraphProto, constants: Iterable[tuple[str, Array]]) -> None:
    """Put nodes in front of all others that make arrays of these names."""
    made = [helper.make_node("Constant", [], [name], value=tensors.write(array, name)) for name, array in constants]
    replace_nodes(graph, [*made, *graph.node])
