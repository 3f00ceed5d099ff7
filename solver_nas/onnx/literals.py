"""Numbers that are written down in a model: shapes, positions and counts that nodes read, replaced one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper

from solver_nas.errors import VerificationError
from solver_nas.onnx import tensors
from solver_nas.onnx.facts import Source
from solver_nas.onnx.flatten import bodies
from solver_nas.onnx.inference import context_of
from solver_nas.onnx.nodes import prepend_constants, replace_nodes
from solver_nas.onnx.rewiring import NO_INPUTS
from solver_nas.onnx.trials import constant_fact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from solver_nas.onnx.facts import Fact, Facts
    from solver_nas.onnx.flatten import Step

Array = NDArray[Any]
Numbers = tuple[int | float | bool | None, ...]

_WHERE = 9  # the version of the standard since which there is an operator Where


class Literals:
    """The numbers of a model that is being written, and the nodes and constants that come with new ones.

    Args:
        model: is changed by `finish`; the inputs of nodes before that.
    """

    def __init__(self, model: ModelProto) -> None:
        """Nothing is new yet."""
        self._model = model
        self._opset = context_of(model).opsets.get("", 1)
        self._taken = set(_names(model.graph))
        self._made: dict[str, Array] = {}
        self._before: dict[int, list[NodeProto]] = {}

    def read_by(self, step: Step, slot: int, wanted: Numbers, facts: Facts) -> Step:
        """Make a node read these numbers; `None` for one that stays what it is. Returns the step as it is then."""
        fact, node = facts[step.inputs[slot]], step.node
        current = fact.numbers
        if node is None or current is None or not wanted:
            return step
        open_places = len(wanted) == len(current)
        if open_places and all(want is None or want == now for want, now in zip(wanted, current, strict=True)):
            return step
        first = fact.number
        assert first is not None, "its elements are known"
        shape = first.shape if open_places else (len(wanted),)
        # What is computed goes on being computed where it comes out right: that a number was the same for all sizes
        # that were tried out does not make it a constant.
        computed = open_places and fact.source is not Source.CONSTANT
        kept = [
            want is None or (computed and want == now) for want, now in zip(wanted, [*current, *wanted], strict=False)
        ]
        literal = np.array([0 if want is None else want for want in wanted], first.dtype).reshape(shape)
        name = self.constant(f"{node.input[slot]}.resized", literal)
        known = constant_fact(tensors.write(literal, name), name)
        if any(kept):
            name, known = self._where(step, slot, name, literal, np.array(kept).reshape(shape), fact)
        facts.known[name] = known
        node.input[slot] = name
        inputs = tuple(name if place == slot else one for place, one in enumerate(step.inputs))
        return replace(step, inputs=inputs)

    def _where(self, step: Step, slot: int, literal: str, array: Array, kept: Array, fact: Fact) -> tuple[str, Fact]:
        """Some of the numbers are literal, the others are computed as they were."""
        node = step.node
        assert node is not None, "only nodes read numbers"
        if self._opset < _WHERE:
            raise VerificationError(
                f"node {step.name!r} ({step.operator}) computes its shape, which has to be changed in part; that needs "
                f"version {_WHERE} of the standard: convert the model with onnx.version_converter first"
            )
        mask = self.constant(f"{node.input[slot]}.kept", kept)
        name = self._fresh(f"{node.input[slot]}.resized")
        made = helper.make_node(
            "Where", [mask, node.input[slot], literal], [name], name=self._fresh(f"{node.name or name}.shape")
        )
        self.put_before(node, [made])
        seen = tuple(
            one._replace(number=None if one.number is None else np.where(kept, one.number, array)) for one in fact.seen
        )
        return name, replace(fact, seen=seen)

    def constant(self, name: str, array: Array) -> str:
        """A new constant; returns its name, which is the wanted one if that is free."""
        free = self._fresh(name)
        self._made[free] = array
        return free

    def _fresh(self, name: str) -> str:
        free, number = name, 2
        while free in self._taken:
            free, number = f"{name}.{number}", number + 1
        self._taken.add(free)
        return free

    def put_before(self, node: NodeProto, made: Sequence[NodeProto]) -> None:
        """Nodes that are to stand before another one."""
        self._before.setdefault(id(node), []).extend(made)

    def learn(self, names: Sequence[str], facts: Facts) -> None:
        """Tell the facts about new constants that a node reads."""
        for name in names:
            if name in self._made:
                facts.known[name] = constant_fact(tensors.write(self._made[name], name), name)

    def finish(self) -> None:
        """Put what is new into the model."""
        self._insert(self._model.graph)
        graph = self._model.graph
        if self._model.ir_version >= NO_INPUTS:
            graph.initializer.extend(tensors.write(array, name) for name, array in self._made.items())
        else:
            prepend_constants(graph, [*self._made.items()])

    def _insert(self, graph: GraphProto) -> None:
        for node in graph.node:
            for _, body in bodies(node):
                self._insert(body)
        if not any(id(node) in self._before for node in graph.node):
            return
        nodes = []
        for node in graph.node:
            nodes += [*self._before.get(id(node), ()), node]
        replace_nodes(graph, nodes)


def _names(graph: GraphProto) -> Iterator[str]:
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    for node in graph.node:
        yield node.name
        yield from node.output
        for _, body in bodies(node):
            yield from _names(body)
