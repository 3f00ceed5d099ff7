"""How operations see parameters: turned, and with more or fewer axes of size 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch

from solver_nas.torch.nodes import shape_of, tensor_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import Graph, Node


class View(NamedTuple):
    """A parameter as an operation sees it.

    Args:
        key: which parameter.
        order: for every axis that is seen, which one of the array it is; `None` for one of size 1 that it lacks. As a
            whole `None` if it is the array as it is.
    """

    key: str
    order: tuple[int | None, ...] | None


_SAME = frozenset({"detach", "contiguous", "alias", "clone", "to", "lift_fresh_copy"})
_TURNED = frozenset({"t", "transpose", "permute", "numpy_T", "adjoint", "swapaxes", "swapdims", "movedim"})
_SQUEEZED = frozenset({"squeeze", "unsqueeze"})
_RESHAPED = frozenset({"view", "reshape", "flatten", "unflatten"})


def views(graph: Graph, weights: Mapping[str, str], *, in_place: bool) -> dict[str, View]:
    """The nodes that are parameters, or mere views of them.

    Args:
        graph: all nodes.
        weights: placeholder -> key.
        in_place: whether sizes that are written down matter, so that what is reshaped to such is no mere view.
    """
    found: dict[str, View] = {}
    for node in graph.nodes:
        if node.name in weights:
            found[node.name] = View(weights[node.name], None)
        elif node.op == "call_function" and node.args and isinstance(node.args[0], torch.fx.Node):
            before = found.get(node.args[0].name)
            if before is not None and len(node.all_input_nodes) == 1:
                moved = _moved(node, in_place=in_place)
                if moved is not None:
                    rank = len(shape_of(node.args[0]))
                    old = tuple(range(rank)) if before.order is None else before.order
                    order = tuple(None if axis is None else old[axis] for axis in moved)
                    found[node.name] = View(before.key, None if order == tuple(range(rank)) == old else order)
    return found


def _moved(node: Node, *, in_place: bool) -> tuple[int | None, ...] | None:
    """For every axis after a view, which axis it was, `None` for a new one of size 1; `None` for no mere view."""
    name = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
    before, after = shape_of(cast("Node", node.args[0])), shape_of(node)
    rank = len(before)
    if name in _SAME and before == after and _floating(node):
        return tuple(range(rank))
    if name in _TURNED:
        return _turned(name, node.args[1:], rank)
    if name not in _SQUEEZED | _RESHAPED:
        return None
    literals = [one for one in _flat(node.args[1:]) if one not in (-1, 0, 1)] if name in _RESHAPED else []
    if in_place and literals and name != "flatten":
        return None
    large = [axis for axis, size in enumerate(before) if size != 1]
    if [before[axis] for axis in large] != [size for size in after if size != 1]:
        return None
    places = iter(large)
    return tuple(None if size == 1 else next(places) for size in after)


def _turned(name: str, given: Sequence[object], rank: int) -> tuple[int, ...] | None:
    order = list(range(rank))
    if name in ("t", "numpy_T"):
        return tuple(reversed(order))
    if name == "adjoint":
        given = (-1, -2)
    if name == "permute":
        return tuple(int(axis) % rank for axis in cast("Sequence[int]", given[0]))
    if name == "movedim":
        return None
    one, other = (int(cast("int", axis)) % rank for axis in given[:2])
    order[one], order[other] = order[other], order[one]
    return tuple(order)


def _flat(value: object) -> list[object]:
    if isinstance(value, tuple | list):
        return [leaf for one in value for leaf in _flat(one)]
    return [value]


def _floating(node: Node) -> bool:
    found = tensor_of(node)
    return found is not None and found.dtype.is_floating_point
