"""How the whole numbers among the arguments of a captured graph were computed."""

from __future__ import annotations

import operator as python
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

from solver_nas.graph import Port
from solver_nas.labels import Extent, Origin
from solver_nas.torch.nodes import shape_of
from solver_nas.torch.trees import Axis, sources, summands
from solver_nas.torch.watching import CALL

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from torch.fx import Graph as FxGraph
    from torch.fx import Node

    from solver_nas.labels import Labels
    from solver_nas.torch.trees import Product, Tree
    from solver_nas.torch.views import View
    from solver_nas.torch.watching import Number, Record


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


class Origins:
    """Finds out where numbers are from.

    Args:
        nodes: the captured operations.
        record: what was seen while they were captured.
        given: what the tensors are called that were there before -> placeholder.
        views: the nodes that are parameters.
        ports: node name -> vertex; grows while vertices are made.
    """

    def __init__(
        self,
        nodes: FxGraph,
        record: Record,
        given: Mapping[str, str],
        views: Mapping[str, View],
        ports: Mapping[str, str],
    ) -> None:
        """Look up which node every watched tensor is."""
        self._record, self._views, self._ports = record, views, ports
        self._node_of = _watched(nodes, record, given)

    @property
    def watched(self) -> dict[int, Owner]:
        """The tensors whose sizes the code asks for, by number."""
        known = {
            number: Owner(self._ports.get(node.name), self._views.get(node.name), shape_of(node))
            for number, node in self._node_of.items()
        }
        # What is no part of the graph has the size that it was seen with.
        return {number: Owner(None, None, shape) for number, shape in self._record.shapes.items()} | known

    @property
    def left(self) -> tuple[tuple[Origin, int], ...]:
        """Sizes that the code makes numbers of another kind of, which therefore stay as they are."""
        pairs = [(self._origin(tree), number) for tree, number in self._record.claims.left.items()]
        return tuple((origin, number) for origin, number in pairs if origin is not None)

    def of(self, node: Node, arguments: Mapping[str, object]) -> tuple[dict[Hashable, Origin], dict[Hashable, Tree]]:
        """How the numbers among the arguments of a node were computed, for those that were; and by which trees."""
        call = (node.meta.get("custom") or {}).get(CALL, 0)
        seen = list(self._record.calls.get(call, ()))
        found: dict[Hashable, Origin] = {}
        trees: dict[Hashable, Tree] = {}
        for place, value in numbers_among(arguments):
            known = _taken(seen, value)
            origin = None if known is None or known.tree is None else self._origin(known.tree)
            if origin is not None and known is not None and known.tree is not None:
                found[place], trees[place] = origin, known.tree
        return found, trees

    def _origin(self, tree: Tree) -> Origin | None:
        """A tree as a sum of products of sizes and attributes; `None` for a number that never changes."""
        found = summands(tree)
        if found is None:
            extents = [self._extent(source) for source in sources(tree)]
            return Origin(Fraction(1), tuple(one for one in extents if not isinstance(one, int)), (), known=False)
        first, *rest = map(self._product, found)
        return first._replace(plus=tuple(rest)) if rest or first.over or first.under else None

    def _product(self, product: Product) -> Origin:
        factor, over, under = product.factor, list[Any](), list[Any]()
        for side, into, power in ((product.over, over, 1), (product.under, under, -1)):
            for source in side:
                extent = self._extent(source)
                if isinstance(extent, int):
                    factor *= Fraction(extent) ** power
                else:
                    into.append(extent)
        return Origin(factor, tuple(over), tuple(under))

    def _extent(self, source: object) -> Any:
        """The size of a tensor's axis; a number if it never changes."""
        if not isinstance(source, Axis):
            return source
        node = self._node_of.get(source.tensor)
        if node is None:
            return self._record.shapes[source.tensor][source.axis]
        view = self._views.get(node.name)
        if view is not None:
            axis = source.axis if view.order is None else view.order[source.axis]
            return 1 if axis is None else Extent(view.key, axis)
        if node.name in self._ports:
            return Extent(Port(self._ports[node.name]), source.axis)
        return shape_of(node)[source.axis]


def free_origins(node: Node, arguments: Mapping[str, object]) -> dict[Hashable, Origin]:
    """Origins for numbers of which each can be set to whatever it should be."""
    return {place: Origin(Fraction(1), ((node.name, *place),), ()) for place, _ in numbers_among(arguments)}


def _watched(nodes: FxGraph, record: Record, given: Mapping[str, str]) -> dict[int, Node]:
    """Which node a watched tensor is."""
    calls: dict[int, list[Node]] = defaultdict(list)
    for node in nodes.nodes:
        number = (node.meta.get("custom") or {}).get(CALL)
        if node.op == "call_function" and number is not None:
            calls[number].append(node)
    found = {}
    for tensor, (call, place) in record.made.items():
        made = _result(calls.get(call, []), place)
        if made is not None and shape_of(made) == record.shapes[tensor]:
            found[tensor] = made
    placeholders = {node.name: node for node in nodes.nodes if node.op == "placeholder"}
    found.update({tensor: placeholders[given[name]] for tensor, name in record.given.items() if name in given})
    return found


def _result(nodes: Sequence[Node], place: int) -> Node | None:
    """The node of one of the results of a call."""
    picked = [node for node in nodes if node.target is python.getitem and node.args[1] == place]
    if picked:
        return picked[-1]
    return nodes[-1] if nodes and place == 0 else None


def _taken(seen: list[Number], value: int) -> Number | None:
    """The next number of that value that a call was given, and take it from the list."""
    for place, number in enumerate(seen):
        if number.value == value:
            del seen[: place + 1]
            return number
    return None


def numbers_among(arguments: Mapping[str, object]) -> Iterator[tuple[tuple[str, int], int]]:
    """All whole numbers among arguments, with their places."""
    for name, value in arguments.items():
        if type(value) is int:
            yield (name, 0), value
        elif isinstance(value, tuple):
            for place, one in enumerate(value):
                if type(one) is int:
                    yield (name, place), one
