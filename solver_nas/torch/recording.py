"""Recording what neurons contribute while a module is trained by the user's own code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from solver_nas.errors import RequestError
from solver_nas.graph import Port
from solver_nas.magnitude import own_labels
from solver_nas.observe import SMOOTHING, Contribution, Every, observed
from solver_nas.requests import is_whole

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from solver_nas.frontend import Handle
    from solver_nas.torch.model import TorchModel


class Recording:
    """A context in which contributions are recorded; made by `TorchModel.record`."""

    def __init__(self, model: TorchModel, every: int, smoothing: float | None) -> None:
        """Check the arguments; nothing is recorded before the context is entered.

        Raises:
            RequestError: numbers that make no sense.
        """
        if not is_whole(every) or every < 1:
            raise RequestError(f"every is a number of backward passes from 1 on, got {every!r}")
        self._smoothing = SMOOTHING if smoothing is None else smoothing
        if not 0 < self._smoothing <= 1:
            raise RequestError(f"smoothing is a number above 0 up to 1, got {smoothing!r}")
        self._model, self._every = model, every
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        """Watch the modules."""
        modules = dict(self._model.module.named_modules())
        labels = self._model.labels
        for vertex in self._model.graph.vertices:
            module = modules.get(vertex.name)
            if module is not None and vertex.parameters and len(own_labels(labels, vertex)):
                self._hooks.append(module.register_forward_hook(self._hook(vertex.name)))
        if not self._hooks:
            raise RequestError("no vertex is the output of a module of its own, so that nothing can be recorded")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Stop watching."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _hook(self, name: str) -> Any:
        def forward(_: torch.nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.requires_grad:
                hook: Any = output.register_hook  # which has no types
                hook(lambda grad: self._seen(name, output.detach(), grad.detach()))

        return forward

    def _seen(self, name: str, output: torch.Tensor, grad: torch.Tensor) -> None:
        """One more backward pass has reached a vertex."""
        model = self._model
        handle = model[name]
        known = observed(handle)
        contribution = known.contribution or Contribution(self._smoothing, Every(self._every))
        if not contribution.due(contribution.steps):
            contribution = contribution.skipped()
        else:
            new = _by_neuron((output * grad).abs(), handle)
            if new is None:
                return
            contribution = contribution.averaged(new)
        model.adopt({}, {name: replace(known, contribution=contribution)})


def _by_neuron(values: torch.Tensor, handle: Handle) -> NDArray[np.float64] | None:
    """The mean over all other axes; `None` where the output has another shape than the vertex."""
    tensor = handle.model.labels.tensors[Port(handle.name)]
    axes, rank = tensor.blocks[-1].axes, len(tensor.shape)
    if values.dim() != rank:
        if axes != (rank - 1,) or values.shape[-1] != tensor.shape[-1]:
            return None
        # Code that flattens tokens around a matrix product.
        values, axes, rank = values.reshape(-1, values.shape[-1]), (1,), 2
    if tuple(values.shape[axis] for axis in axes) != tensor.blocks[-1].neurons.shape:
        return None
    rest = [axis for axis in range(rank) if axis not in axes]
    means = values.double().mean(rest) if rest else values.double()
    order = np.argsort(np.argsort(axes))
    found: NDArray[np.float64] = means.cpu().numpy().transpose(order).reshape(-1)
    return found


def recorded(handle: Handle) -> NDArray[np.float64] | float:
    """What was recorded of a vertex; nothing for others, so that unlike numbers are not added."""
    metric = observed(handle).metric
    return 0.0 if metric is None else metric.copy()
