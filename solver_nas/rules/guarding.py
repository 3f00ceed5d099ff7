"""What front ends have in common: operations that a rule does not cover pin what they touch, and say why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from solver_nas.errors import RuleError
from solver_nas.labels import Tensor
from solver_nas.rules.registry import changed

if TYPE_CHECKING:
    from solver_nas.graph import Vertex
    from solver_nas.labels import Shape
    from solver_nas.rules.registry import Resized, Rewrite
    from solver_nas.rules.scope import Scope


class UnsupportedError(RuleError):
    """An operator is used in a way that its rule does not cover: what it touches is pinned, and this is why."""


def guarded(scope: Scope, operator: str, run: Callable[[], Tensor]) -> Tensor:
    """What a rule says; where it does not cover the operation, everything around is pinned.

    Args:
        scope: the vertex, with its shape as an attribute.
        operator: what the operation is called.
        run: the rule.
    """
    refused = (scope.vertex.name, "refused")
    try:
        return run()
    except UnsupportedError as error:
        return pinned(scope, str(error))
    except RuleError as error:
        # Where nothing has been changed yet, the rule does not know this vertex; later, the change does not fit.
        if scope.tape.choose(refused, 1):
            return pinned(scope, f"{operator}: {error}")
        raise


def pinned(scope: Scope, why: str) -> Tensor:
    """Keep everything that a vertex touches, for ever."""
    for tensor in scope.inputs:
        scope.pin(tensor, why)
    for role in scope.vertex.parameters:
        scope.freeze(role, why)
    if scope.vertex.parameters:
        scope.tape.report(scope.reason(why))
    return Tensor(cast("Shape", scope.vertex.attributes["shape"]))


def reshaping(rewrite: Rewrite | None) -> Rewrite:
    """A rewrite after which the attribute `shape` is that of the output, whatever else is rewritten."""

    def rewritten(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
        own = rewrite(vertex, resized) if rewrite is not None else {}
        return {**changed(vertex, shape=resized.outputs[0]), **changed(vertex, **own)}

    return rewritten


def shaped(scope: Scope, tensor: Tensor, shape: Shape) -> Tensor:
    """The result of a rule with the shape that is known for it.

    Raises:
        RuleError: the rule says something else.
    """
    if len(tensor.shape) != len(shape):
        raise scope.fail(f"its output has the shape {shape}, the rule says {tensor.shape}")
    # Sizes along which neurons stand are theirs; they come first where the structure is being changed.
    sizes = {axis: size for block in tensor.blocks for axis, size in zip(block.axes, block.neurons.shape, strict=True)}
    return Tensor(tuple(sizes.get(axis, size) for axis, size in enumerate(shape)), tensor.blocks)
