"""From a module to a model: what `trace` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.rules import label
from solver_nas.state import State
from solver_nas.torch.binding import Memories, bound, unique
from solver_nas.torch.capture import capture
from solver_nas.torch.fills import fills_of
from solver_nas.torch.model import TorchModel, Traced
from solver_nas.torch.rehearsal import Inputs
from solver_nas.torch.structure import Options, understand
from solver_nas.torch.tensors import Arrays
from solver_nas.torch.unwrapping import outside, unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn


def trace(
    module: nn.Module,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    opaque: str | Sequence[str] = (),
    in_place: bool = True,
    whole_heads: bool = True,
    free_outputs: bool = False,
    history: int = 0,
) -> TorchModel:
    """See a module as a graph that can be changed.

    The module is captured with `torch.export`, on a copy, which is run once before; nothing of it changes. Costs
    such as `macs` are those of one call with these inputs.

    Args:
        module: the module; `model.module` is this object, whose parameters and sizes later changes replace.
        args: example inputs: a tensor, or a tuple of what `module` is called with. Changes are tried out with them.
        kwargs: example inputs by name.
        opaque: paths of submodules that are not looked into: what they touch stays as it is. For code that cannot be
            captured.
        in_place: whether the module's own code is to go on running. Sizes that are written down in its code stay as
            they are then. If not, the module is left alone, and changes lead to modules of their own (`standalone`,
            `export`).
        whole_heads: whether heads of attention go or stay as a whole; otherwise, sizes inside of heads may change.
        free_outputs: whether what the module returns may change its size; by default it stays as it is.
        history: how many changes `undo` can take back; each keeps a copy of all parameters.

    Raises:
        CaptureError: its operations cannot be written down; the message names the line, and ways out.
        RequestError: this is no module, or it does not take these inputs.

    >>> import torch
    >>> from solver_nas import delta_nout
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> model = trace(net, torch.ones(1, 4))
    >>> model["0"]
    <0: torch.linear 0 -> 8>
    >>> bool(delta_nout(model["0"], -3))
    True
    >>> net[0], net[2]
    (Linear(in_features=4, out_features=5, bias=True), Linear(in_features=5, out_features=2, bias=True))
    """
    module = unwrapped(module)
    given = args if isinstance(args, tuple) else tuple(args) if isinstance(args, list) else (args,)
    inputs = Inputs(given, dict(kwargs or {}))
    sealed = (opaque,) if isinstance(opaque, str) else opaque
    captured = capture(module, *inputs, sealed, everything=in_place)
    options = Options(free_outputs, in_place, whole_heads)
    structure = understand(captured, module, options)
    tensors = {key: tensor.detach() for key, tensor in unique(module, structure.keys).items()}
    traced = Traced(structure, {}, {}, Memories())
    labels = label(structure.graph)
    fills = fills_of(structure.graph, labels, tensors)
    state = State(structure.graph, Arrays(tensors), {}, fills, None, np.random.default_rng(0), traced)
    model = TorchModel(state, inputs, bound(module, structure) if in_place else None, history)
    model.learn_labels(labels)
    if in_place:
        model.beware(outside(module, unique(module, structure.keys)))
    return model
