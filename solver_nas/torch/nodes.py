"""What a node of a captured graph says about itself."""

from __future__ import annotations

import operator as python
import traceback as tracebacks
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch._ops import OpOverload

from solver_nas.torch.operator import is_known

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.fx import Node


def operator_of(node: Node) -> str:
    """The operator of a node: without `aten`, without overload, without the mark of one that works in place."""
    target = node.target
    if not isinstance(target, OpOverload):
        return str(getattr(target, "__name__", target))
    name = str(target.overloadpacket.__name__)
    if target.namespace != "aten":
        return f"{target.namespace}::{name}"
    short = name.rstrip("_") if not name.startswith("_") else name
    return short if is_known(short) or not is_known(name) else name


def arguments_of(node: Node) -> dict[str, Any]:
    """Arguments by the names of the operator's schema, those that are left out with their defaults."""
    target = node.target
    if not isinstance(target, OpOverload):
        return {f"argument {place}": value for place, value in enumerate(node.args)} | dict(node.kwargs)
    found = {}
    for place, argument in enumerate(target._schema.arguments):  # noqa: SLF001 - its own schema
        if place < len(node.args):
            found[argument.name] = node.args[place]
        elif argument.name in node.kwargs:
            found[argument.name] = node.kwargs[argument.name]
        elif argument.has_default_value():
            found[argument.name] = argument.default_value
    return found


def tensor_of(node: Node) -> torch.Tensor | None:
    """The shape and type of what a node computes, as a tensor without numbers; `None` for anything else."""
    found = node.meta.get("val")
    return found if isinstance(found, torch.Tensor) else None


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of what a node computes."""
    found = tensor_of(node)
    return () if found is None else tuple(int(size) for size in found.shape)


def call_of(node: Node) -> str:
    """The innermost module that a node was called in, and which call of it."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((str(path) for path, _ in reversed(stack.values()) if path), "")


def path_of(node: Node) -> str:
    """The innermost module that a node was called in."""
    return call_of(node).partition("@")[0]


#: Where code lies that is not the user's.
OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def own_frame(error: BaseException) -> tracebacks.FrameSummary | None:
    """The innermost line of the user's code at which something went wrong."""
    frames = [frame for frame in tracebacks.extract_tb(error.__traceback__) if not frame.filename.startswith(OWN)]
    return frames[-1] if frames else None


def code_of(node: Node) -> str:
    """The line of the user's code that a node comes from; empty if nobody knows."""
    found = ""
    lines = iter(str(node.meta.get("stack_trace", "")).splitlines())
    for line in lines:
        file, _, rest = line.strip().removeprefix('File "').partition('", line ')
        if rest and not file.startswith(OWN):
            number = rest.partition(",")[0]
            found = f"{Path(file).name}:{number}: {next(lines, '').strip()}"
    return found


def leaves(value: Any) -> Iterator[Any]:
    """What lists and tuples hold, at any depth."""
    if isinstance(value, tuple | list):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def mutates(node: Node) -> bool:
    """Whether an operation writes into its first tensor."""
    target = node.target
    return isinstance(target, OpOverload) and bool(node.args) and target._schema.is_mutable  # noqa: SLF001 - its schema


def shares(node: Node) -> bool:
    """Whether what an operation returns is memory of its first tensor."""
    target = node.target
    return isinstance(target, OpOverload) and any(
        one.alias_info is not None and not one.alias_info.is_write
        for one in target._schema.arguments  # noqa: SLF001 - its own schema
    )


def is_part(node: object) -> bool:
    """Whether a tensor shares its memory with a larger one."""
    if not isinstance(node, torch.fx.Node) or node.op != "call_function":
        return False
    if node.target is python.getitem:
        return True
    return shares(node) and operator_of(node) not in ("view", "reshape", "flatten", "contiguous", "to")


def written(node: Node) -> bool:
    """Whether something is written into a tensor, or into a part of it."""
    for user in node.users:
        first = user.op == "call_function" and user.args and user.args[0] is node
        if first and (mutates(user) or (shares(user) and written(user))):
            return True
    return False
