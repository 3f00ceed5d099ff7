"""What the operations of a captured graph are called: by the modules that they belong to."""

from __future__ import annotations

import operator as python
from collections import defaultdict
from typing import TYPE_CHECKING

from solver_nas.torch.nodes import call_of, operator_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch
    from torch.fx import Node

    from solver_nas.torch.views import View


def names(nodes: Iterable[Node], module: torch.nn.Module, views: Mapping[str, View]) -> dict[str, str]:
    """Names by node; several nodes may get the same one.

    Args:
        nodes: those that become vertices.
        module: that they were captured from.
        views: the nodes that are parameters.
    """
    inside: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if node.target is not python.getitem:
            inside[call_of(node)].append(node)
    found = {}
    for call, operations in inside.items():
        path = call.partition("@")[0]
        main = _main(path, operations, module, views)
        for node in operations:
            own = operator_of(node).rpartition("::")[2]
            found[node.name] = path if node in main else f"{path}.{own}".lstrip(".")
    return found


def _main(path: str, nodes: Sequence[Node], module: torch.nn.Module, views: Mapping[str, View]) -> Sequence[Node]:
    """The operations that stand for a module without parts: those with its parameters, or the last one.

    There are several if the module is called several times.
    """
    try:
        part = module.get_submodule(path)
    except AttributeError:
        return ()
    # What computes weights is no part that computes neurons.
    if not path or any(name != "parametrizations" for name, _ in part.named_children()):
        return ()
    owners = [node for node in nodes if any(one.name in views for one in node.all_input_nodes)]
    found = owners or list(nodes)
    return found if len({operator_of(node) for node in found}) == 1 else found[-1:]
